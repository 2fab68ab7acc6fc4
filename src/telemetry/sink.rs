//! Where the log goes: journald, syslog, or a file.
//!
//! Journald and syslog are datagrams to a socket, so no library stands between. What goes wrong in writing is never a
//! reason to fail, and a daemon that is too busy to take an entry does not get it: no layer waits for a log.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::SystemTime;

use nix::fcntl::OFlag;
use serde_json::{Map, Value};

use super::fields::{Fields, bare};

/// Socket of systemd's journal.
pub(crate) const JOURNALD: &str = "/run/systemd/journal/socket";
/// Socket of the syslog daemon.
pub(crate) const SYSLOG: &str = "/dev/log";

/// Facility `daemon` (RFC 5424, section 6.2.1).
const DAEMON: u8 = 3 << 3;

/// Where the log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogTarget {
    /// Nowhere.
    #[default]
    Off,
    /// systemd's journal, with a field for each value (`journalctl -t ocihsm -o verbose`).
    Journald,
    /// The system's syslog daemon.
    Syslog,
    /// A file to which lines of JSON are appended.
    File(PathBuf),
}

/// How much an entry matters (RFC 5424, section 6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Error = 3,
    Informational = 6,
    Debug = 7,
}

/// One entry of the log. No text in it has a line break.
#[derive(Debug)]
pub(super) enum Entry {
    /// What happened to one layer, field by field.
    Record(Severity, Fields),
    /// One step on the way, as a sentence.
    Step(Severity, String),
}

impl FromStr for LogTarget {
    type Err = &'static str;

    /// `off` or nothing, `journald`, `syslog`, or the absolute path of a file: containerd's current directory is no
    /// place for one, and a name that we do not know is more likely a mistake.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "" | "off" => Self::Off,
            "journald" => Self::Journald,
            "syslog" => Self::Syslog,
            path if path.starts_with('/') => Self::File(path.into()),
            _ => return Err("expected journald, syslog, off or an absolute path"),
        })
    }
}

impl LogTarget {
    /// Writes one entry. To be called while standard output is still open, since containerd kills a processor soon
    /// after the end of its output.
    ///
    /// # Errors
    /// What the file or the socket said; that a daemon is too busy counts as well.
    pub(super) fn write(&self, entry: &Entry) -> io::Result<()> {
        match self {
            Self::Off => Ok(()),
            Self::Journald => send(JOURNALD, &entry.to_journal_entry()),
            Self::Syslog => send(SYSLOG, entry.to_syslog_message().as_bytes()),
            Self::File(path) => append(path, &entry.to_line(SystemTime::now())),
        }
    }
}

impl Entry {
    fn severity(&self) -> Severity {
        match self {
            Self::Record(severity, _) | Self::Step(severity, _) => *severity,
        }
    }

    fn summary(&self) -> String {
        match self {
            Self::Record(_, fields) => fields.pairs(),
            Self::Step(_, text) => text.clone(),
        }
    }

    /// One line of JSON with the time (RFC 3339). A record has a `result`, a step has a `message`.
    pub(super) fn to_line(&self, now: SystemTime) -> String {
        let mut line = Map::new();
        let time = humantime::format_rfc3339_millis(now).to_string();
        line.insert("time".to_owned(), time.into());
        match self {
            Self::Record(_, fields) => line.extend(fields.0.clone()),
            Self::Step(severity, text) => {
                let level = match severity {
                    Severity::Debug => "debug",
                    _ => "info",
                };
                // Several decoders may run at once; the daemons tell them apart by themselves.
                line.insert("pid".to_owned(), std::process::id().into());
                line.insert("level".to_owned(), level.into());
                line.insert("message".to_owned(), text.as_str().into());
            }
        }
        let mut line = Value::from(line).to_string();
        line.push('\n');
        line
    }

    /// The summary, with the priority and tag of RFC 3164. Its time is left to the daemon, which knows the time zone
    /// that its other lines are in.
    pub(super) fn to_syslog_message(&self) -> String {
        let priority = DAEMON | self.severity() as u8;
        format!(
            "<{priority}>ocihsm[{}]: {}",
            std::process::id(),
            self.summary()
        )
    }

    /// systemd's journal export form: a line for each field.
    pub(super) fn to_journal_entry(&self) -> Vec<u8> {
        let mut entry = format!(
            "MESSAGE={}\nPRIORITY={}\nSYSLOG_IDENTIFIER=ocihsm\n",
            self.summary(),
            self.severity() as u8
        );
        if let Self::Record(_, fields) = self {
            for (name, value) in &fields.0 {
                let _ = writeln!(entry, "OCIHSM_{}={}", name.to_uppercase(), bare(value));
            }
        }
        entry.into_bytes()
    }
}

pub(super) fn send(socket: &str, message: &[u8]) -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    sender.send_to(message, socket)?;
    Ok(())
}

/// In one write, so that lines of processes that run at once do not mix. A link is not followed, and a pipe
/// without a reader is an error instead of a wait.
fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)?;
    if file.write(line.as_bytes())? < line.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(())
}
