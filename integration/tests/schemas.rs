//! What each `--json` prints is what its schema in `docs/schemas` says, and nothing that the schema does not name.
//!
//! The schemas are read by Python's `jsonschema`, a reader that is not ours.

use std::collections::BTreeSet;
use std::fs;

use integration::layer::{Compression, Layer};
use integration::layout::Layout;
use integration::node::Node;
use integration::program::Program;
use integration::shell::Shell;
use integration::{ocihsm, repository, skip};
use serde_json::Value;

/// Reads a schema and a document, and says what is wrong. Open objects are closed, so that a field which no schema names is
/// noticed.
const CHECK: &str = r#"
import json, sys, jsonschema
def close(part):
    if isinstance(part, dict):
        if "properties" in part:
            part.setdefault("additionalProperties", False)
        for inner in part.values():
            close(inner)
    elif isinstance(part, list):
        for inner in part:
            close(inner)
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
close(schema)
errors = list(jsonschema.Draft202012Validator(schema).iter_errors(json.load(sys.stdin)))
for error in errors:
    print(error.json_path, error.message)
sys.exit(bool(errors))
"#;

fn can_check() -> bool {
    if !skip::programs(&["python3"]) {
        return false;
    }
    let there = Program::new("python3")
        .args(["-c", "import jsonschema"])
        .run();
    if !there.status.success() {
        skip::skipped("not installed: Python's jsonschema (python3-jsonschema)");
    }
    there.status.success()
}

fn errors(schema: &str, document: &[u8]) -> String {
    let schema = repository().join("docs/schemas").join(schema);
    Program::new("python3")
        .args(["-c", CHECK])
        .arg(schema)
        .stdin(document)
        .run()
        .text()
}

fn assert_fits(schema: &str, document: &[u8]) {
    let text = String::from_utf8_lossy(document);
    assert_eq!(errors(schema, document), "", "{schema}: {text}");
}

#[test]
fn what_is_printed_is_what_the_schemas_say() {
    if !can_check() {
        return;
    }
    let shell = Shell::new("schemas");
    let made = shell.generate("schemas", "key", &["--json"]).ok();
    assert_fits("keys-generate.json", &made.stdout);
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(
        (&made["bits"], &made["keyFile"]),
        (&2048.into(), &"key.yaml".into())
    );
    let curve = shell
        .generate("schemas", "curve", &["--type", "p256", "--json"])
        .ok();
    assert_fits("keys-generate.json", &curve.stdout);
    for key in ["key.yaml", "curve.yaml"] {
        assert_fits(
            "keys-test.json",
            &shell.keys(&["test", key, "--json"]).ok().stdout,
        );
    }
    let list: [&[&str]; 2] = [
        &["list", "--json", "--module", "softhsm2"],
        &["list", "--json", "--token", "schemas", "--pin-file", "pin"],
    ];
    for arguments in list {
        assert_fits("keys-list.json", &shell.keys(arguments).ok().stdout);
    }

    let layers = [Layer::file("etc/one", b"one", Compression::Gzip)];
    let plain = Layout::create(shell.path("plain"), &layers, &["/etc/one"]);
    let image = |arguments: &[&str]| {
        Program::new(ocihsm())
            .args(arguments)
            .env("OCICRYPT_CONFIG", "internal")
            .env("OCIHSM_RUNTIME_DIR", shell.token.runtime())
            .env("SOFTHSM2_CONF", shell.token.configuration())
            .current_dir(shell.token.path())
            .ok()
            .stdout
    };
    let [one, two, three] = ["one", "two", "three"].map(|name| format!("oci:{name}:latest"));
    let recipient = ["--json", "--recipient", "pkcs11:key.pub.pem"];
    let encrypted = image(&[&["encrypt", &plain.reference(), &one], &recipient[..]].concat());
    assert_fits("image.json", &encrypted);
    let report: Value = serde_json::from_slice(&encrypted).unwrap();
    let from = plain.layers()[0]["digest"].clone();
    assert_eq!(
        (&report["layers"][0]["change"], &report["layers"][0]["from"]),
        (&"encrypted".into(), &from)
    );
    let json = image(&[
        "rekey",
        &one,
        &two,
        "--key",
        "key.yaml",
        "--add",
        "jwe:key.pub.pem",
        "--json",
    ]);
    assert_fits("image.json", &json);
    let json = image(&["decrypt", &two, &three, "--key", "key.yaml", "--json"]);
    assert_fits("image.json", &json);
    let report: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(
        (
            &report["layers"][0]["change"],
            &report["layers"][0]["digest"]
        ),
        (&"decrypted".into(), &from)
    );
    assert_fits(
        "inspect.json",
        &image(&["inspect", &plain.reference(), "--json"]),
    );
    assert_fits(
        "inspect.json",
        &image(&["inspect", &two, "--key", "key.yaml", "--json"]),
    );

    let node = Node::new();
    assert_fits("doctor.json", &node.doctor(&["--json"]).stdout);
    node.write("conf.d/ocihsm.toml", "");
    assert_fits("doctor.json", &node.doctor(&["--json"]).stdout);

    // A schema that everything fits would say nothing.
    assert!(errors("inspect.json", &json).contains("mediaType"));
}

#[test]
fn every_command_that_prints_json_has_a_schema() {
    let page = fs::read_to_string(repository().join("docs/schemas/README.md")).unwrap();
    let help = |words: &[&str]| {
        let help = Program::new(ocihsm()).args(words).arg("--help").ok().text();
        help.contains("--json")
    };
    let mut described = 0;
    for line in [
        "encrypt",
        "decrypt",
        "rekey",
        "inspect",
        "doctor",
        "decode",
        "keyprovider",
        "config containerd",
        "config policy",
        "keys list",
        "keys generate",
        "keys test",
        "keys export",
        "keys delete",
        "keys forget-rejected-pins",
    ] {
        let words: Vec<_> = line.split(' ').collect();
        let is_described = page.contains(&format!("`ocihsm {line} --json`"));
        assert_eq!(help(&words), is_described, "{line}");
        described += usize::from(is_described);
    }
    assert_eq!(described, 8, "{page}");
    let files: BTreeSet<_> = fs::read_dir(repository().join("docs/schemas"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".json"))
        .collect();
    for name in &files {
        assert!(page.contains(&format!("({name})")), "{name}");
    }
    assert_eq!(files.len(), 6);
}
