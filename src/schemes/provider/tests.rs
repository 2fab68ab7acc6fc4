use std::path::{Path, PathBuf};
use std::time::Instant;

use super::*;

fn shell(script: &str) -> Providers {
    let json = serde_json::json!({ "key-providers": { "p": { "cmd": {
        "path": "/bin/sh", "args": ["-c", script],
    } } } });
    Providers::parse(Path::new("f"), json.to_string().as_bytes()).unwrap()
}

fn unwrapped(script: &str, patience: Duration) -> Result<SecretBytes, Error> {
    shell(script).unwrap("p", b"wrapped", &[], patience)
}

#[test]
fn a_request_reaches_the_program_and_its_answer_comes_back() {
    let parameter = SecretBytes::new(b"text".to_vec());
    // The program answers with the request itself.
    let script = r#"printf '{"keyunwrapresults":{"optsdata":"'; base64 -w0; printf '"}}'"#;
    let opened = shell(script)
        .unwrap("p", b"wrapped", &[parameter], PATIENCE)
        .unwrap();
    let request: serde_json::Value = serde_json::from_slice(opened.expose()).unwrap();
    assert_eq!(
        request,
        serde_json::json!({
            "op": "keyunwrap",
            "keywrapparams": {},
            "keyunwrapparams": { "dc": { "Parameters": { "p": ["dGV4dA=="] } }, "annotation": "d3JhcHBlZA==" },
        })
    );
    let script = r#"printf '{"keywrapresults":{"annotation":"'; base64 -w0; printf '"}}'"#;
    let secret = SecretBytes::new(b"options".to_vec());
    let texts = ["to", "too"].map(|text| SecretBytes::new(text.into()));
    let wrapped = shell(script).wrap("p", &texts, &secret, PATIENCE).unwrap();
    let request: serde_json::Value = serde_json::from_slice(&wrapped).unwrap();
    assert_eq!(
        request,
        serde_json::json!({
            "op": "keywrap",
            "keywrapparams": { "ec": { "Parameters": { "p": ["dG8=", "dG9v"] } }, "optsdata": "b3B0aW9ucw==" },
            "keyunwrapparams": {},
        })
    );
}

#[test]
fn a_failure_is_told_with_the_end_of_its_words_escaped() {
    let script = "cat >/dev/null; printf 'one\\n\\033[31mtwo\\n' >&2; exit 3";
    let error = unwrapped(script, PATIENCE).unwrap_err().to_string();
    assert_eq!(error, "key provider \"p\" failed: one; \\u{1b}[31mtwo");
    let long = "head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1";
    let error = unwrapped(long, PATIENCE).unwrap_err().to_string();
    assert!(error.len() < 400, "{error}");
    let error = unwrapped("exit 1", PATIENCE).unwrap_err().to_string();
    assert_eq!(error, "key provider \"p\" failed");
}

#[test]
fn a_program_that_hangs_is_ended_with_what_it_started() {
    let begin = Instant::now();
    for script in [
        "sleep 1000",
        "sleep 1000 & exec >&-; sleep 1000",
        "sleep 1000 & exit 0",
    ] {
        let error = unwrapped(script, Duration::from_millis(300)).unwrap_err();
        assert!(matches!(error, Error::Silent { .. }), "{script} {error}");
    }
    // A bound that no machine misses, far below what the programs would take.
    assert!(begin.elapsed() < Duration::from_secs(100));
}

#[test]
fn an_endless_answer_is_cut_off() {
    let error = unwrapped("cat /dev/zero", PATIENCE).unwrap_err();
    assert!(matches!(error, Error::TooLong { .. }), "{error}");
}

#[test]
fn what_is_no_answer_is_an_error() {
    for script in [
        "true",
        "echo hello",
        "echo '{}'",
        "echo '{\"keyunwrapresults\":{}}'",
        "echo '{\"keyunwrapresults\":{\"optsdata\":\"***\"}}'",
        "echo '{\"keywrapresults\":{\"annotation\":\"AAAA\"}}'",
    ] {
        let error = unwrapped(script, PATIENCE).unwrap_err();
        assert!(matches!(error, Error::NoAnswer { .. }), "{script} {error}");
    }
}

#[test]
fn the_file_names_providers_and_one_that_is_absent_names_none() {
    let none = Providers::read(Path::new("/nonexistent/file")).unwrap();
    let error = none
        .unwrap("x\u{1b}", b"", &[], PATIENCE)
        .unwrap_err()
        .to_string();
    assert_eq!(error, "no key provider \"x\\u{1b}\" is set up on this node");
    let parse = |json: &str| Providers::parse(Path::new("f"), json.as_bytes());
    let read = parse(
        r#"{"key-providers":{"a":{"cmd":{"path":"/x","args":null}},"b":{"grpc":"unix:///y"}},"more":1}"#,
    )
    .unwrap();
    assert_eq!(
        read.get("a").unwrap(),
        &Provider::Command {
            path: PathBuf::from("/x"),
            args: Vec::new()
        }
    );
    let socket = Address::Unix(PathBuf::from("/y"));
    let grpc = Provider::Grpc {
        address: socket,
        tls: None,
    };
    assert_eq!(read.get("b").unwrap(), &grpc);
    for bad in [
        "",
        "[]",
        r#"{"key-providers":{"a":{"grpc":"x","grpc-tls":1}}}"#,
    ] {
        assert!(matches!(parse(bad), Err(Error::Config { .. })), "{bad}");
    }
    // As the reference has it: a program goes first, and what is wrong with one is told by that one alone.
    let read = parse(
        r#"{"key-providers":{"a":{"cmd":{"path":"/x"},"grpc":"y:1"},"b":{},"c":{"grpc":"a b"},"d":{"grpc":"y:1","grpc-tls":{"server-name":"z"}}}}"#,
    )
    .unwrap();
    assert!(matches!(read.get("a").unwrap(), Provider::Command { .. }));
    assert!(matches!(
        read.get("d").unwrap(),
        Provider::Grpc { tls: Some(_), .. }
    ));
    for (name, what) in [("b", "neither cmd nor grpc"), ("c", "no address")] {
        let error = read.unwrap(name, b"", &[], PATIENCE).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
        assert!(error.hint().is_some());
    }
    let missing = parse(r#"{"key-providers":{"p":{"cmd":{"path":"/nonexistent/x"}}}}"#).unwrap();
    let error = missing.unwrap("p", b"", &[], PATIENCE).unwrap_err();
    assert!(matches!(error, Error::Start { .. }), "{error}");
}
