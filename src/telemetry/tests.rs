use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};
use tracing::{debug, info, info_span, warn};

use super::fields::{Fields, clean};
use super::sink::{Entry, Severity, send};
use super::subscriber::Teller;
use super::{Audience, LayerRecord, LogTarget, Verbosity};

fn record() -> LayerRecord {
    LayerRecord {
        layer: Some(format!("sha256:{}", "ab".repeat(32))),
        bytes: Some(7),
        key: Some("pkcs11:token=t;object=o".to_owned()),
        unwrap: Some(Duration::from_micros(5250)),
        ..LayerRecord::default()
    }
}

/// What a log file holds after these things happened.
fn logged(verbosity: Verbosity, happen: impl FnOnce()) -> Vec<Map<String, Value>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    tell_to(&path, verbosity, happen);
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn tell_to(path: &Path, verbosity: Verbosity, happen: impl FnOnce()) {
    let log = LogTarget::File(path.to_owned());
    tracing::subscriber::with_default(Teller::new(verbosity, Audience::Log(log)), happen);
}

fn entry(fields: &[(&str, Value)]) -> Entry {
    let mut entry = Fields::default();
    for (name, value) in fields {
        match value {
            Value::String(text) => entry.insert(name, clean(text).into()),
            value => entry.insert(name, value.clone()),
        }
    }
    Entry::Record(Severity::Error, entry)
}

#[test]
fn file_gets_one_line_of_json_a_record_and_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let failed = LayerRecord {
        error: Some("a\nb\u{1b}[31m\u{202e}\"c\"".to_owned()),
        notes: vec!["one".to_owned(), "two".to_owned()],
        ..record()
    };
    tell_to(&path, Verbosity::Quiet, || {
        record().emit();
        failed.emit();
    });
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2);
    let layer = format!("sha256:{}", "ab".repeat(32));
    let expected = format!(
        r#","result":"ok","layer":"{layer}","bytes":7,"key":"pkcs11:token=t;object=o","unwrap_ms":5.25}}"#
    );
    assert!(lines[0].starts_with(r#"{"time":"#) && lines[0].ends_with(&expected));
    let failed: Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(failed["result"], "failed");
    assert_eq!(failed["error"], r#"a\u{a}b\u{1b}[31m\u{202e}"c""#);
    assert_eq!(failed["notes"], "one; two");
}

#[test]
fn warnings_are_notes_of_the_record_each_once_and_of_that_one_alone() {
    let lines = logged(Verbosity::Quiet, || {
        warn!("token {:?} is\nbarred", "prod");
        warn!(hint = "make it", "no guard");
        warn!("no guard");
        LayerRecord {
            notes: vec!["own".to_owned()],
            ..record()
        }
        .emit();
        record().emit();
    });
    assert_eq!(lines.len(), 2);
    assert_eq!(
        lines[0]["notes"],
        r#"own; token "prod" is\u{a}barred; no guard"#
    );
    assert!(!lines[1].contains_key("notes"));
}

#[test]
fn steps_and_calls_are_told_as_they_were_asked_for() {
    let happen = || {
        info_span!("decode").in_scope(|| {
            let step = info_span!("unwrap", key = tracing::field::Empty).entered();
            debug!(target: "ocihsm::pkcs11", function = "C_Login", code = "CKR_OK", ms = 1.5);
            step.record("key", "pkcs11:token=a b\n");
            drop(step);
            info!(bytes = 7, "it\nis whole");
            info!(target: "another_crate", "something");
        });
        record().emit();
    };
    let quiet = logged(Verbosity::Quiet, happen);
    assert_eq!(quiet.len(), 1, "{quiet:?}");
    let messages = |verbosity| -> Vec<String> {
        let lines = logged(verbosity, happen);
        let (record, steps) = lines.split_last().unwrap();
        assert_eq!(record["result"], "ok");
        assert!(!record.contains_key("message"));
        for step in steps {
            assert!(!step.contains_key("result"));
            assert_eq!(step["pid"], std::process::id());
        }
        let message = |step: &Map<String, Value>| {
            let message = step["message"].as_str().unwrap();
            // Times differ from run to run.
            let words = message
                .split(' ')
                .filter(|word| word.parse::<f64>().is_err());
            let words: Vec<&str> = words.collect();
            format!("{} {}", step["level"].as_str().unwrap(), words.join(" "))
        };
        steps.iter().map(message).collect()
    };
    let unwrap = r#"info decode > unwrap: ms, key="pkcs11:token=a b\\u{a}""#;
    let whole = r"info decode: it\u{a}is whole: bytes=7";
    let decode = "info decode: ms";
    assert_eq!(messages(Verbosity::Steps), [unwrap, whole, decode]);
    let call = "debug decode > unwrap: function=C_Login code=CKR_OK ms=1.5";
    assert_eq!(messages(Verbosity::Calls), [call, unwrap, whole, decode]);
}

#[test]
fn a_step_of_another_thread_stands_below_the_one_that_it_is_told_to_be_in() {
    let lines = logged(Verbosity::Steps, || {
        let outer = info_span!("encrypt");
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                tracing::dispatcher::with_default(&dispatch, || {
                    drop(info_span!(parent: &outer, "layer"));
                    drop(info_span!("alone"));
                });
            });
        });
    });
    let messages: Vec<_> = lines
        .iter()
        .map(|line| {
            line["message"]
                .as_str()
                .unwrap()
                .split(": ")
                .next()
                .unwrap()
        })
        .collect();
    assert_eq!(messages, ["encrypt > layer", "alone", "encrypt"]);
}

#[test]
fn time_is_rfc_3339() {
    let line = entry(&[]).to_line(SystemTime::UNIX_EPOCH + Duration::from_millis(86_400_250));
    assert_eq!(line, "{\"time\":\"1970-01-02T00:00:00.250Z\"}\n");
}

#[test]
fn links_and_pipes_without_a_reader_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (link, pipe) = (dir.path().join("link"), dir.path().join("pipe"));
    symlink(dir.path().join("target"), &link).unwrap();
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [link, pipe] {
        assert!(LogTarget::File(path).write(&entry(&[])).is_err());
    }
    assert!(!dir.path().join("target").exists());
}

#[test]
fn journal_entry_has_one_line_a_field() {
    let failed = entry(&[
        ("key", "pkcs11:token=t;object=o".into()),
        ("error", "x\nPRIORITY=0".into()),
    ]);
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
fn a_step_is_a_message_alone_in_the_journal_and_in_syslog() {
    let step = Entry::Step(Severity::Debug, "decode: function=C_Login".to_owned());
    assert_eq!(
        String::from_utf8(step.to_journal_entry()).unwrap(),
        "MESSAGE=decode: function=C_Login\nPRIORITY=7\nSYSLOG_IDENTIFIER=ocihsm\n"
    );
    let expected = format!(
        "<31>ocihsm[{}]: decode: function=C_Login",
        std::process::id()
    );
    assert_eq!(step.to_syslog_message(), expected);
}

#[test]
fn syslog_message_is_tagged_pairs() {
    let message = entry(&[
        ("result", "failed".into()),
        ("bytes", 7.into()),
        ("key", "pkcs11:token=t;object=o".into()),
        ("unwrap_ms", 5.25.into()),
    ])
    .to_syslog_message();
    let pairs = r#"result=failed bytes=7 key="pkcs11:token=t;object=o" unwrap_ms=5.25"#;
    assert_eq!(
        message,
        format!("<27>ocihsm[{}]: {pairs}", std::process::id())
    );
}

#[test]
fn a_datagram_arrives_and_a_full_socket_does_not_block() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let receiver = UnixDatagram::bind(&path).unwrap();
    let socket = path.to_str().unwrap();
    let message = entry(&[("result", "ok".into())]).to_journal_entry();
    send(socket, &message).unwrap();
    let mut buffer = [0; 4096];
    let count = receiver.recv(&mut buffer).unwrap();
    assert_eq!(buffer[..count], message);
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
        ("/var/log/x", LogTarget::File(PathBuf::from("/var/log/x"))),
    ] {
        assert_eq!(text.parse(), Ok(expected));
    }
    for text in ["journal", "log", "./log", "Syslog"] {
        assert!(text.parse::<LogTarget>().is_err(), "{text}");
    }
}
