//! The log of the decoder: what stands in its records, and that they arrive.

use std::fs;
use std::path::Path;

use integration::processor::Processor;
use integration::program::{Program, holds_a_pin};
use integration::token::Token;
use integration::vectors::Vector;
use integration::{ocihsm, skip};
use serde_json::{Value, json};

#[test]
fn the_log_tells_what_happened_to_a_layer() {
    let (token, vector) = (Token::vectors(), Vector::first("sha256-pubkey"));
    let log = token.path().join("log");
    let decode = |keys: &Path| {
        Processor::decode(&token, &vector.layout, &vector.layer, keys)
            .payload(&vector.layer, &Value::Null)
            .env("OCIHSM_LOG", &log)
            .run()
            .output
    };
    assert!(decode(&token.keys(&["rsa3072"])).status.success());
    let failed = decode(&token.keys(&["other3072"]));
    assert!(!failed.status.success());
    let text = fs::read_to_string(&log).unwrap();
    assert!(!holds_a_pin(text.as_bytes()), "a PIN was logged");
    let records: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(records.len(), 2, "{text}");
    let good = &records[0];
    assert_eq!(good["result"], "ok");
    assert_eq!(good["layer"], vector.layer["digest"]);
    assert_eq!(good["media_type"], vector.layer["mediaType"]);
    assert_eq!(good["bytes"], vector.layer["size"]);
    assert_eq!(good["key"], token.uri("rsa3072"));
    assert_eq!(
        (&good["scheme"], &good["hash"]),
        (&json!("pkcs11"), &json!("sha256"))
    );
    assert_eq!(good["learned_from"], "payload");
    assert!(good["unwrap_ms"].as_f64().unwrap() > 0.0 && good["stream_ms"].as_f64().unwrap() > 0.0);
    let bad = &records[1];
    assert_eq!(bad["result"], "failed");
    let error = bad["error"].as_str().unwrap();
    assert!(
        failed.stderr.contains(error),
        "{error} is not in {}",
        failed.stderr
    );
}

#[test]
fn a_syslog_daemon_takes_the_records() {
    if !skip::root() || !skip::programs(&["busybox", "unshare"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // A /dev of its own, so that the daemon's socket is nobody else's.
    let script = "
        mkdir dev && mount -t tmpfs none dev && cp -a /dev/null /dev/urandom dev/ && mount --move dev /dev
        busybox syslogd -n -O messages & daemon=$!
        for turn in $(seq 100); do [ -S /dev/log ] && break; sleep 0.05; done
        \"$1\" decode --log syslog --descriptor /nowhere </dev/null >/dev/null 2>&1
        for turn in $(seq 100); do grep -q ocihsm messages && break; sleep 0.05; done
        kill $daemon
        grep ocihsm messages";
    let text = Program::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .arg(ocihsm())
        .current_dir(directory.path())
        .ok()
        .text();
    let record = text.lines().next().unwrap_or_default();
    assert!(record.contains(" daemon.err ocihsm["), "{record}");
    assert!(
        record.contains("result=failed") && record.contains("/nowhere"),
        "{record}"
    );
}

#[test]
fn a_log_that_cannot_be_written_fails_no_layer() {
    let (token, vector) = (Token::vectors(), Vector::first("sha256-pubkey"));
    for log in ["/nowhere/log", "journald", "syslog", "/dev/full"] {
        let output = Processor::decode(
            &token,
            &vector.layout,
            &vector.layer,
            &token.keys(&["rsa3072"]),
        )
        .payload(&vector.layer, &Value::Null)
        .env("OCIHSM_LOG", log)
        .run()
        .output;
        assert!(output.status.success(), "{log}: {output:?}");
        vector.assert_plain(&output.stdout);
    }
}
