//! TLS to a service: whom we trust, whom it has to be, and who we are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use serde::Deserialize;
use tokio_rustls::TlsConnector;

use super::{Address, Stream};
use crate::escape::escaped;
use crate::file;
use crate::schemes::provider::Error;

/// Most bytes of a file of certificates.
const MAX_FILE: usize = 4 << 20;

/// Most characters of the reason that are shown.
const SHOWN: usize = 200;

/// `grpc-tls` of the file that names the providers.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case", default)]
pub struct Tls {
    root_ca_file: PathBuf,
    cert_file: PathBuf,
    key_file: PathBuf,
    server_name: String,
    insecure_skip_verify: bool,
}

impl Tls {
    /// The name that takes the place of the address.
    pub(super) fn server_name(&self) -> Option<&str> {
        (!self.server_name.is_empty()).then_some(&*self.server_name)
    }

    /// A stream over that one.
    pub(super) async fn over(
        &self,
        name: &str,
        address: &Address,
        stream: Box<dyn Stream>,
    ) -> Result<Box<dyn Stream>, Error> {
        let failed = |what: String| Error::Tls {
            name: escaped(name),
            address: address.to_string(),
            what: escaped(&what).chars().take(SHOWN).collect(),
        };
        let host = self.server_name().unwrap_or(address.host());
        let host = ServerName::try_from(host.to_owned())
            .map_err(|_| failed("its certificate cannot have that name".to_owned()))?;
        let config = self.config()?;
        let config = config.map_err(|error| failed(error.to_string()))?;
        let stream = TlsConnector::from(Arc::new(config)).connect(host, stream);
        let stream = stream.await.map_err(|error| failed(error.to_string()))?;
        Ok(Box::new(stream))
    }

    fn config(&self) -> Result<Result<ClientConfig, rustls::Error>, Error> {
        let provider = Arc::new(ring::default_provider());
        let builder = match ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
        {
            Ok(builder) => builder,
            Err(error) => return Ok(Err(error)),
        };
        let builder = match self.insecure_skip_verify {
            true => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(provider))),
            false => builder.with_root_certificates(self.roots()?),
        };
        let has = |path: &Path| !path.as_os_str().is_empty();
        let config = match has(&self.cert_file) && has(&self.key_file) {
            true => {
                let certificates = certificates(&self.cert_file)?;
                let pem = file::read_secret(&self.key_file, MAX_FILE)?;
                let key = PrivateKeyDer::from_pem_slice(pem.expose());
                let key = key.map_err(|_| Error::Pem {
                    path: self.key_file.clone(),
                    what: "a private key",
                })?;
                builder.with_client_auth_cert(certificates, key)
            }
            false => Ok(builder.with_no_client_auth()),
        };
        Ok(config.map(|mut config| {
            config.alpn_protocols = vec![b"h2".to_vec()];
            config
        }))
    }

    /// The certificates in the file that is named, else those that this machine trusts.
    fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        let found = match self.root_ca_file.as_os_str().is_empty() {
            true => rustls_native_certs::load_native_certs().certs,
            false => certificates(&self.root_ca_file)?,
        };
        roots.add_parsable_certificates(found);
        Ok(roots)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = file::read(path, MAX_FILE)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.ok().filter(|found| !found.is_empty());
    certificates.ok_or_else(|| Error::Pem {
        path: path.to_owned(),
        what: "a certificate",
    })
}

/// Takes any certificate, where `insecure-skip-verify` says so. Whoever shows one still has to have its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
