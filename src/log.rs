//! The log: one record of each layer, to journald, to syslog, or to a file.
//!
//! containerd throws standard error away when a layer succeeds, and sometimes when it fails. The record is for the
//! operator who wants to know later. It never holds a secret, and what goes wrong in writing it is never a reason
//! to fail the layer. Journald and syslog are datagrams to a socket, so no library stands between.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use nix::fcntl::OFlag;
use serde_json::{Map, Value};

use crate::escape::escaped;

/// Socket of systemd's journal.
pub(crate) const JOURNALD: &str = "/run/systemd/journal/socket";
/// Socket of the syslog daemon.
pub(crate) const SYSLOG: &str = "/dev/log";

/// Most characters of one value: an error's text may quote what a module said.
const MAX_TEXT: usize = 2048;

/// Facility `daemon` and the two severities that we use (RFC 5424, section 6.2.1).
const DAEMON: u8 = 3 << 3;
const SEVERITY_ERROR: u8 = 3;
const SEVERITY_INFORMATIONAL: u8 = 6;

/// Where records go.
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

/// What happened to one layer; whatever is not known is absent.
#[derive(Clone, Debug, Default)]
pub struct LayerRecord {
    /// Digest of the encrypted layer.
    pub layer: Option<String>,
    /// Media type of the encrypted layer.
    pub media_type: Option<String>,
    /// Bytes of the encrypted layer that were read, once its key was known.
    pub bytes: Option<u64>,
    /// How the layer's descriptor was learned: `payload`, `content store`, …
    pub learned_from: Option<&'static str>,
    /// URI of the key that opened the layer, as it displays itself: without its query, where a PIN may stand.
    pub key: Option<String>,
    /// Scheme of the wrapped key.
    pub scheme: Option<String>,
    /// OAEP hash of the wrapped key.
    pub hash: Option<&'static str>,
    /// Time that the HSM took.
    pub unwrap: Option<Duration>,
    /// Time from the first byte read, be it to verify the layer before it is written, to the last one written.
    pub stream: Option<Duration>,
    /// Message of the error that the layer failed with.
    pub error: Option<String>,
    /// What did not go as it should, and was no reason to fail.
    pub notes: Vec<String>,
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

impl LayerRecord {
    /// Writes the record. To be called while standard output is still open, since containerd kills a processor
    /// soon after the end of its output.
    ///
    /// # Errors
    /// What the file or the socket said; a journal or syslog daemon that is too busy to take it counts as well,
    /// since no layer waits for a log.
    pub fn write(&self, target: &LogTarget) -> io::Result<()> {
        match target {
            LogTarget::Off => Ok(()),
            LogTarget::Journald => send(JOURNALD, &self.to_journal_entry()),
            LogTarget::Syslog => send(SYSLOG, self.to_syslog_message().as_bytes()),
            LogTarget::File(path) => append(path, &self.to_line(SystemTime::now())),
        }
    }

    fn fields(&self) -> Map<String, Value> {
        let result = if self.error.is_none() { "ok" } else { "failed" };
        let milliseconds = |time: Option<Duration>| time.map(|time| time.as_micros() as f64 / 1e3);
        let text = |text: Option<&str>| text.map(|text| Value::from(clean(text)));
        let notes = self.notes.join("; ");
        let fields = [
            ("result", text(Some(result))),
            ("layer", text(self.layer.as_deref())),
            ("media_type", text(self.media_type.as_deref())),
            ("bytes", self.bytes.map(Value::from)),
            ("learned_from", text(self.learned_from)),
            ("key", text(self.key.as_deref())),
            ("scheme", text(self.scheme.as_deref())),
            ("hash", text(self.hash)),
            ("unwrap_ms", milliseconds(self.unwrap).map(Value::from)),
            ("stream_ms", milliseconds(self.stream).map(Value::from)),
            ("error", text(self.error.as_deref())),
            (
                "notes",
                text(
                    Some(&notes)
                        .filter(|notes| !notes.is_empty())
                        .map(String::as_str),
                ),
            ),
        ];
        fields
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect()
    }

    fn severity(&self) -> u8 {
        match self.error {
            None => SEVERITY_INFORMATIONAL,
            Some(_) => SEVERITY_ERROR,
        }
    }

    /// One line of JSON with the time (RFC 3339).
    fn to_line(&self, now: SystemTime) -> String {
        let mut record = Map::new();
        let time = humantime::format_rfc3339_millis(now).to_string();
        record.insert("time".to_owned(), time.into());
        record.extend(self.fields());
        let mut line = Value::from(record).to_string();
        line.push('\n');
        line
    }

    /// `name=value` pairs, with the priority and tag of RFC 3164. Its time is left to the daemon, which knows the
    /// time zone that its other lines are in.
    fn to_syslog_message(&self) -> String {
        let priority = DAEMON | self.severity();
        format!(
            "<{priority}>ocihsm[{}]: {}",
            std::process::id(),
            self.summary()
        )
    }

    /// systemd's journal export form: a line for each field. No value has a line break, as all are cleaned.
    fn to_journal_entry(&self) -> Vec<u8> {
        let mut entry = format!(
            "MESSAGE={}\nPRIORITY={}\nSYSLOG_IDENTIFIER=ocihsm\n",
            self.summary(),
            self.severity()
        );
        for (name, value) in self.fields() {
            let _ = writeln!(entry, "OCIHSM_{}={}", name.to_uppercase(), bare(&value));
        }
        entry.into_bytes()
    }

    fn summary(&self) -> String {
        let pairs: Vec<String> = self
            .fields()
            .iter()
            .map(|(name, value)| {
                let bare = bare(value);
                if bare.contains([' ', '"', '=']) {
                    format!("{name}={}", Value::from(bare))
                } else {
                    format!("{name}={bare}")
                }
            })
            .collect();
        pairs.join(" ")
    }
}

fn bare(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn clean(text: &str) -> String {
    let short: String = text.chars().take(MAX_TEXT).collect();
    escaped(&short)
}

fn send(socket: &str, message: &[u8]) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::fs::symlink;

    use super::*;

    fn record() -> LayerRecord {
        LayerRecord {
            layer: Some(format!("sha256:{}", "ab".repeat(32))),
            bytes: Some(7),
            key: Some("pkcs11:token=t;object=o".to_owned()),
            unwrap: Some(Duration::from_micros(5250)),
            ..LayerRecord::default()
        }
    }

    #[test]
    fn file_gets_one_line_of_json_a_record_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let target: LogTarget = path.to_str().unwrap().parse().unwrap();
        record().write(&target).unwrap();
        let failed = LayerRecord {
            error: Some("a\nb\u{1b}[31m\u{202e}\"c\"".to_owned()),
            notes: vec!["one".to_owned(), "two".to_owned()],
            ..record()
        };
        failed.write(&target).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["result"], "ok");
        assert_eq!(lines[0]["unwrap_ms"], 5.25);
        assert!(lines[0].get("stream_ms").is_none());
        assert_eq!(lines[1]["result"], "failed");
        assert_eq!(lines[1]["error"], r#"a\u{a}b\u{1b}[31m\u{202e}"c""#);
        assert_eq!(lines[1]["notes"], "one; two");
    }

    #[test]
    fn time_is_rfc_3339() {
        let line = record().to_line(SystemTime::UNIX_EPOCH + Duration::from_millis(86_400_250));
        assert!(
            line.starts_with(r#"{"time":"1970-01-02T00:00:00.250Z","#),
            "{line}"
        );
    }

    #[test]
    fn links_and_pipes_without_a_reader_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (link, pipe) = (dir.path().join("link"), dir.path().join("pipe"));
        symlink(dir.path().join("target"), &link).unwrap();
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [link, pipe] {
            assert!(record().write(&LogTarget::File(path)).is_err());
        }
        assert!(!dir.path().join("target").exists());
    }

    #[test]
    fn journal_entry_has_one_line_a_field() {
        let failed = LayerRecord {
            error: Some("x\nPRIORITY=0".to_owned()),
            ..record()
        };
        let entry = String::from_utf8(failed.to_journal_entry()).unwrap();
        let priorities: Vec<_> = entry
            .lines()
            .filter(|line| line.starts_with("PRIORITY="))
            .collect();
        assert_eq!(priorities, ["PRIORITY=3"]);
        assert!(entry.contains("\nOCIHSM_KEY=pkcs11:token=t;object=o\n"));
        assert!(entry.lines().all(|line| line.contains('=')) && entry.ends_with('\n'));
    }

    #[test]
    fn syslog_message_is_tagged_pairs() {
        let message = record().to_syslog_message();
        let expected = format!(
            "<30>ocihsm[{}]: result=ok layer=sha256:ab",
            std::process::id()
        );
        assert!(message.starts_with(&expected), "{message}");
        assert!(
            message.ends_with(r#" bytes=7 key="pkcs11:token=t;object=o" unwrap_ms=5.25"#),
            "{message}"
        );
    }

    #[test]
    fn a_datagram_arrives_and_a_full_socket_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let socket = path.to_str().unwrap();
        send(socket, &record().to_journal_entry()).unwrap();
        let mut buffer = [0; 4096];
        let count = receiver.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..count], record().to_journal_entry());
        let error = (0..10_000).find_map(|_| send(socket, b"x").err()).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn nothing_and_off_are_no_target() {
        for (text, expected) in [
            ("", LogTarget::Off),
            ("off", LogTarget::Off),
            ("journald", LogTarget::Journald),
            ("syslog", LogTarget::Syslog),
            ("/var/log/x", LogTarget::File("/var/log/x".into())),
        ] {
            assert_eq!(text.parse(), Ok(expected));
        }
        for text in ["journal", "log", "./log", "Syslog"] {
            assert!(text.parse::<LogTarget>().is_err(), "{text}");
        }
    }
}
