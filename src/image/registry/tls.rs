//! How a registry shows who it is, and how we do: certificates of the machine and of the user, in directories as Docker's.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use super::error::Error;
use super::name::Name;
use super::{Result, Settings};
use crate::file;

/// How long a registry may take to connect, and to send or take the next bytes.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to answer: it checks a whole layer before it does.
const ANSWER: Duration = Duration::from_secs(600);
/// Most bytes of a certificate's file.
const MAX_CERTIFICATES: usize = 4 << 20;

/// What speaks to a registry, and trusts whom it should.
///
/// # Errors
/// [`Error::BadFile`] and [`Error::Read`] for certificates that cannot be used.
pub(super) fn agent(name: &Name, settings: &Settings) -> Result<Agent> {
    let mut directories: Vec<PathBuf> = settings.cert_dir.iter().cloned().collect();
    if directories.is_empty() {
        let machine = settings.machine_cert_dirs.iter();
        directories.extend(machine.map(|directory| directory.join(&name.host)));
    }
    let mut roots = Vec::new();
    let mut own = None;
    for directory in directories {
        read_directory(
            &directory,
            settings.cert_dir.is_some(),
            &mut roots,
            &mut own,
        )?;
    }
    if settings.tls_verify {
        let system = rustls_native_certs::load_native_certs();
        let system = system.certs.iter();
        roots.extend(system.map(|certificate| Certificate::from_der(certificate).to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .client_cert(own)
        .disable_verification(!settings.tls_verify)
        .unversioned_rustls_crypto_provider(provider)
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .user_agent(concat!("ocihsm/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE))
        .timeout_per_write(Some(PATIENCE))
        .timeout_recv_response(Some(ANSWER))
        .build();
    Ok(config.new_agent())
}

/// Reads `*.crt`, and `*.cert` with `*.key`, as Docker and podman have them. A directory that was named has to be there.
fn read_directory(
    directory: &Path,
    is_named: bool,
    roots: &mut Vec<Certificate<'static>>,
    own: &mut Option<ClientCert>,
) -> Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(_) if !is_named => return Ok(()),
        Err(error) => return Err(file::Error::failed("list", directory)(error).into()),
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let is_authority = path.extension().is_some_and(|it| it == "crt");
        let is_own = path.extension().is_some_and(|it| it == "cert");
        if !is_authority && !is_own {
            continue;
        }
        let certificates = certificates(&path)?;
        if is_authority {
            roots.extend(certificates);
            continue;
        }
        let key_path = path.with_extension("key");
        let pem = file::read_secret(&key_path, MAX_CERTIFICATES)?;
        let key = PrivateKey::from_pem(pem.expose()).map_err(|_| Error::BadFile {
            path: key_path,
            what: "is no private key in PEM",
        })?;
        *own = Some(ClientCert::new_with_certs(&certificates, key));
    }
    Ok(())
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let bad = || Error::BadFile {
        path: path.to_owned(),
        what: "is no certificate in PEM",
    };
    let pem = file::read(path, MAX_CERTIFICATES)?;
    let mut found = Vec::new();
    for item in ureq::tls::parse_pem(&pem) {
        if let ureq::tls::PemItem::Certificate(certificate) = item.map_err(|_| bad())? {
            found.push(certificate);
        }
    }
    match found.is_empty() {
        true => Err(bad()),
        false => Ok(found),
    }
}
