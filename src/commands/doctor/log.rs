//! Whether the records of layers arrive where a decoder sends them. None is sent.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::unistd::{AccessFlags, access};

use super::findings::Findings;
use super::kind;
use crate::file;
use crate::telemetry::{JOURNALD, LogTarget, SYSLOG};

const MEND: &str = "let OCIHSM_LOG (or --log) be journald, syslog, or a file that root may write";

pub(super) fn check(findings: &mut Findings, target: &LogTarget) {
    let (name, path, result) = match target {
        LogTarget::Off => return,
        LogTarget::Journald => ("journald".to_owned(), JOURNALD.into(), connect(JOURNALD)),
        LogTarget::Syslog => ("syslog".to_owned(), SYSLOG.into(), connect(SYSLOG)),
        LogTarget::File(path) => {
            let result = can_append(path);
            (path.display().to_string(), path.clone(), result)
        }
    };
    match result {
        Ok(()) => findings.ok(kind::LOG, format!("each layer is recorded in {name}")),
        Err(source) => {
            let action = "write to";
            let error = file::Error::Failed {
                action,
                path,
                source,
            };
            findings.warn(
                kind::LOG_UNWRITABLE,
                format!("layers are not recorded: {error}"),
                MEND,
            );
        }
    }
}

fn connect(socket: &str) -> io::Result<()> {
    UnixDatagram::unbound()?.connect(socket)
}

/// As the decoder opens it, but without making it.
fn can_append(path: &Path) -> io::Result<()> {
    let opened = OpenOptions::new()
        .append(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path);
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = path.parent().unwrap_or(Path::new("/"));
            Ok(access(directory, AccessFlags::W_OK | AccessFlags::X_OK)?)
        }
        result => result.map(|_| ()),
    }
}
