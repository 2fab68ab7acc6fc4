//! Where doctor has a sentence and a hint, the decoder that fails at the import has the same ones.

use std::fs;

use integration::node::{Node, set_mode};
use integration::ocihsm;
use integration::program::Program;
use integration::vectors::Vector;
use serde_json::Value;

/// A mistake, made on a node that is sound.
struct Mistake {
    name: &'static str,
    /// A part of the sentence, so that the right failure is compared.
    says: &'static str,
    make: fn(&Node),
}

const MISTAKES: [Mistake; 10] = [
    Mistake {
        name: "the PIN file is not there",
        says: "no such file",
        make: |node| {
            only_key(node, "?pin-source=/nowhere/pin&module-name=softhsm2");
        },
    },
    Mistake {
        name: "a certificate where a key belongs",
        says: ": key.pem is a certificate (public), not a key",
        make: |node| {
            for entry in fs::read_dir(&node.keys).unwrap() {
                fs::remove_file(entry.unwrap().path()).unwrap();
            }
            Program::new("openssl")
                .args([
                    "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x",
                ])
                .args(["-keyout", "/dev/null", "-out"])
                .arg(node.keys.join("key.pem"))
                .ok();
        },
    },
    Mistake {
        name: "the policy has its lists at the top",
        says: "belongs under `pkcs11:`",
        make: |node| node.write("policy", "allowed-module-paths:\n  - /usr/lib/softhsm/\n"),
    },
    Mistake {
        name: "the policy is not there",
        says: "is not there",
        make: |node| fs::remove_file(node.path("policy")).unwrap(),
    },
    Mistake {
        name: "the policy is empty",
        says: "allows no PKCS#11 module",
        make: |node| node.write("policy", ""),
    },
    Mistake {
        name: "the module's variable names a file that is not there",
        says: "does not start: SOFTHSM2_CONF in module.env names /nowhere/softhsm2.conf, which is not there",
        make: |node| {
            only_key(node, "?pin-value=1&module-name=softhsm2");
            configuration(node, "/nowhere/softhsm2.conf");
        },
    },
    Mistake {
        name: "the module's variable names a file in somebody's home",
        says: "SOFTHSM2_CONF in module.env names ~/softhsm2.conf, which is not there: no shell expands `~` here",
        make: |node| {
            only_key(node, "?pin-value=1&module-name=softhsm2");
            configuration(node, "~/softhsm2.conf");
        },
    },
    Mistake {
        // `Cargo.toml` is there for whoever runs this, and not for containerd.
        name: "the module's variable names a file of the current directory",
        says: "SOFTHSM2_CONF in module.env names Cargo.toml, which is not there: write the path from / on",
        make: |node| {
            only_key(node, "?pin-value=1&module-name=softhsm2");
            configuration(node, "Cargo.toml");
        },
    },
    Mistake {
        name: "SoftHSM's directory of tokens is not there",
        says: "names /nowhere/tokens, which is not there",
        make: |node| {
            only_key(node, "?pin-value=1&module-name=softhsm2");
            node.write("softhsm2.conf", "directories.tokendir = /nowhere/tokens\n");
            configuration(node, node.path("softhsm2.conf").to_str().unwrap());
        },
    },
    Mistake {
        name: "the module cannot be loaded",
        says: "cannot load the PKCS#11 module",
        make: |node| {
            let module = node.path("libjunk.so");
            fs::write(&module, "no library").unwrap();
            let policy = format!(
                "pkcs11:\n  allowed-module-paths:\n    - {}\n",
                module.display()
            );
            node.write("policy", &policy);
            let pin = node.path("pin");
            fs::write(&pin, "1").unwrap();
            set_mode(&pin, 0o600);
            let query = format!(
                "?pin-source={}&module-path={}",
                pin.display(),
                module.display()
            );
            only_key(node, &query);
        },
    },
];

/// Has the key file name this configuration of SoftHSM.
fn configuration(node: &Node, path: &str) {
    let file = node.keys.join("key.yaml");
    let right = node.token.configuration().display().to_string();
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(&right), "{text}");
    fs::write(file, text.replace(&right, path)).unwrap();
}

/// Leaves one key file, with this query.
fn only_key(node: &Node, query: &str) {
    for entry in fs::read_dir(&node.keys).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let file = node.keys.join("key.yaml");
    let uri = format!("{}{query}", node.token.uri("rsa3072"));
    let conf = node.token.configuration();
    let text = format!(
        "pkcs11:\n  uri: {uri}\nmodule:\n  env:\n    SOFTHSM2_CONF: {}\n",
        conf.display()
    );
    fs::write(&file, text).unwrap();
    set_mode(&file, 0o600);
}

#[test]
fn the_import_says_what_doctor_says() {
    let vector = Vector::first("sha256-pubkey");
    let layer = &vector.layout.layers()[0];
    for mistake in MISTAKES {
        let node = Node::new();
        (mistake.make)(&node);
        node.write("layer.json", &layer.to_string());
        let report: Value = serde_json::from_slice(&node.doctor(&["--json"]).stdout).unwrap();
        let findings = report["findings"].as_array().unwrap();
        let failed: Vec<_> = findings
            .iter()
            .filter(|one| one["level"] == "fail")
            .collect();
        let text = |finding: &Value, field: &str| finding[field].as_str().unwrap().to_owned();
        let found = failed
            .iter()
            .find(|finding| text(finding, "text").contains(mistake.says))
            .unwrap_or_else(|| panic!("{}: {report:#}", mistake.name));

        let output = Program::new(ocihsm())
            .args(["decode", "--key"])
            .arg(&node.keys)
            .arg("--descriptor")
            .arg(node.path("layer.json"))
            .env("OCICRYPT_CONFIG", node.path("policy"))
            .env("OCIHSM_RUNTIME_DIR", node.token.runtime())
            .env(
                "STREAM_PROCESSOR_MEDIATYPE",
                "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            )
            .current_dir("/")
            .stdin(vector.layout.read(layer))
            .run();
        assert!(!output.status.success(), "{}", mistake.name);
        // One calls the key by its file's name, and the other adds what kind of file it is.
        let sentence = text(found, "text");
        let sentence = sentence.strip_prefix("key file ").unwrap_or(&sentence);
        for part in [sentence, &format!("; hint: {}", text(found, "mend"))] {
            assert!(
                output.stderr.contains(part),
                "{}: {part:?} is not in {:?}",
                mistake.name,
                output.stderr
            );
        }
    }
}
