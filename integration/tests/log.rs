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
fn a_layer_that_fails_late_is_logged_with_the_bytes_that_came() {
    let (token, vector) = (Token::vectors(), Vector::first("sha256-pubkey"));
    let log = token.path().join("log");
    let digest = vector.layer["digest"].as_str().unwrap();
    let blob = fs::read(vector.layout.blob(digest)).unwrap();
    let mut changed = blob.clone();
    changed[20] ^= 1;
    let longer = [&blob[..], b"more"].concat();
    for bytes in [&blob[..100], &changed, &longer] {
        let keys = token.keys(&["rsa3072"]);
        let outcome = Processor::decode(&token, &vector.layout, &vector.layer, &keys)
            .payload(&vector.layer, &Value::Null)
            .bytes(bytes)
            .env("OCIHSM_LOG", &log)
            .run();
        assert!(!outcome.output.status.success());
        let text = fs::read_to_string(&log).unwrap();
        let record: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(record["result"], "failed");
        assert_eq!(record["bytes"], bytes.len());
    }
    // Before its key is known, none of a layer is read but what tells which it is.
    let keys = token.keys(&["other3072"]);
    let processor = Processor::decode(&token, &vector.layout, &vector.layer, &keys);
    let outcome = processor.payload(&vector.layer, &Value::Null);
    assert!(
        !outcome
            .env("OCIHSM_LOG", &log)
            .run()
            .output
            .status
            .success()
    );
    let text = fs::read_to_string(&log).unwrap();
    assert!(!text.lines().last().unwrap().contains("\"bytes\""));
}

#[test]
fn a_relative_log_is_refused_and_made_nowhere() {
    let (token, place) = (Token::vectors(), tempfile::tempdir().unwrap());
    for log in ["journal", "log/layers"] {
        for variable in [true, false] {
            let program = token
                .ocihsm()
                .args(["decode", "--descriptor", "/nowhere"])
                .current_dir(place.path());
            let output = match variable {
                true => program.env("OCIHSM_LOG", log).run(),
                false => program.args(["--log", log]).run(),
            };
            assert!(output.stderr.contains("absolute path"), "{output:?}");
            assert_eq!(output.stderr.contains("OCIHSM_LOG"), variable, "{output:?}");
        }
    }
    assert!(fs::read_dir(place.path()).unwrap().next().is_none());
}

#[test]
fn a_wrong_command_line_is_one_line_and_one_record() {
    let token = Token::vectors();
    let log = token.path().join("log");
    let decode = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut processor = Processor::new(ocihsm());
        for argument in arguments {
            processor = processor.arg(argument);
        }
        for (name, value) in variables {
            processor = processor.env(name, value);
        }
        let output = processor
            .env("STREAM_PROCESSOR_MEDIATYPE", "x")
            .env("OCIHSM_LOG", &log)
            .run()
            .output;
        assert!(!output.status.success() && output.stdout.is_empty());
        assert!(!output.stderr.contains('\n'), "{output:?}");
        output.stderr
    };
    for (arguments, variables, expected) in [
        (
            &["decode", "--keys", "x"][..],
            &[][..],
            "the command line cannot be used: unexpected argument '--keys' found",
        ),
        (
            &["decode", "--hsm-timeout", "0"],
            &[],
            "the command line cannot be used: invalid value '0' for '--hsm-timeout <SECONDS>': expected whole seconds",
        ),
        (
            &["decode"],
            &[("OCIHSM_HSM_TIMEOUT", "soon")],
            "the environment variable OCIHSM_HSM_TIMEOUT cannot be used: invalid value 'soon'",
        ),
        (&[], &[], "there is no subcommand"),
    ] {
        let _ = fs::remove_file(&log);
        let stderr = decode(arguments, variables);
        assert!(stderr.starts_with("ocihsm: error: "), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
        assert!(
            stderr.ends_with("what `ocihsm config containerd` prints"),
            "{stderr}"
        );
        let text = fs::read_to_string(&log).unwrap();
        let record: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(record["result"], "failed");
        assert!(record["error"].as_str().unwrap().contains(expected));
    }
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

#[test]
fn steps_of_a_decoder_go_to_its_log_and_never_to_standard_error() {
    let (token, vector) = (Token::vectors(), Vector::first("sha256-pubkey"));
    let log = token.path().join("log");
    for (flags, logged) in [(&["-v"][..], true), (&["-vv"], true), (&["-vv"], false)] {
        let _ = fs::remove_file(&log);
        let keys = token.keys(&["rsa3072"]);
        let mut processor = Processor::decode(&token, &vector.layout, &vector.layer, &keys)
            .payload(&vector.layer, &Value::Null);
        for flag in flags {
            processor = processor.arg(flag);
        }
        if logged {
            processor = processor.env("OCIHSM_LOG", &log);
        }
        let output = processor.run().output;
        assert!(output.status.success(), "{output:?}");
        assert_eq!(output.stderr, "");
        vector.assert_plain(&output.stdout);
        let text = fs::read_to_string(&log).unwrap_or_default();
        assert_eq!(!text.is_empty(), logged, "{text}");
        assert!(!holds_a_pin(text.as_bytes()), "a PIN was logged");
        let lines: Vec<Value> = (text.lines())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let records = lines.iter().filter(|line| line.get("result").is_some());
        assert_eq!(records.count(), usize::from(logged), "{text}");
        for step in [" > find: ", " > unwrap: ", " > stream: "] {
            let steps = lines.iter().filter_map(|line| line["message"].as_str());
            let times = steps.filter(|message| {
                let (path, took) = message.split_once(step).unwrap_or_default();
                path.starts_with("decode") && took.ends_with(" ms")
            });
            assert_eq!(times.count(), usize::from(logged), "{step} {text}");
        }
    }
}

#[test]
fn steps_of_other_commands_are_lines_on_standard_error() {
    let (token, vector) = (Token::vectors(), Vector::first("sha256-pubkey"));
    let inspect = |flags: &[&str]| {
        let program = token.ocihsm().args(flags).arg("inspect");
        program.arg(vector.layout.path()).ok()
    };
    let quiet = inspect(&[]);
    assert_eq!(quiet.stderr, "");
    for flags in [&["-v"][..], &["-vv"], &["--verbose"]] {
        let output = inspect(flags);
        assert_eq!(output.stdout, quiet.stdout);
        let line = output.stderr.lines().last().unwrap_or_default();
        assert!(line.starts_with("ocihsm: info: inspect: "), "{output:?}");
        assert!(line.ends_with(" ms"), "{output:?}");
    }
}

#[test]
fn the_version_says_what_the_build_can_open() {
    let long = Program::new(ocihsm()).arg("--version").ok().text();
    let short = Program::new(ocihsm()).arg("-V").ok().text();
    assert_eq!(short.lines().count(), 1, "{short}");
    let lines: Vec<&str> = long.lines().collect();
    assert_eq!(lines[0], short.trim_end());
    let value = |name: &str| {
        let start = format!("{name}: ");
        lines.iter().find_map(|line| line.strip_prefix(&start))
    };
    assert!(value("target").unwrap().contains("linux"), "{long}");
    assert!(
        value("ciphers")
            .unwrap()
            .contains("AES_256_CTR_HMAC_SHA256"),
        "{long}"
    );
    assert!(value("schemes").unwrap().contains("pkcs11"), "{long}");
    // Where nothing is known of it there is no such line.
    let is_hash = |commit: &str| commit.len() >= 7 && commit.bytes().all(|b| b.is_ascii_hexdigit());
    assert!(value("commit").is_none_or(is_hash), "{long}");
}
