//! What an operator sets a node up with and looks after it with: `config` and `doctor`.

use std::fs;
use std::os::unix::fs::symlink;

use integration::node::{Node, is_sound, line, set_mode};
use integration::ocihsm;
use integration::program::Program;
use integration::skip;
use integration::token::WRONG_PIN;
use serde_json::Value;

#[test]
fn a_node_set_up_with_what_is_printed_is_sound() {
    let node = Node::new();
    let output = node.doctor(&[]);
    let text = output.text();
    assert!(output.status.success(), "{text}{}", output.stderr);
    assert!(is_sound(&text), "{text}");
    assert!(line(&text, "stream processor").contains("7 media types"));
    assert!(line(&text, "content store").contains(" blobs"));
    assert!(line(&text, "RSA-3072").contains("on token \"ocicrypt-vectors\""));
    let opened = line(&text, "opens what is wrapped to it");
    assert!(opened.contains("OAEP sha256 by raw RSA"), "{opened}");
    assert!(opened.contains("OAEP sha1 by the token"), "{opened}");
}

#[test]
fn findings_as_json_say_the_same() {
    let node = Node::new();
    fs::remove_file(node.path("policy")).unwrap();
    let output = node.doctor(&["--json"]);
    assert!(!output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let failed: Vec<_> = findings
        .iter()
        .filter(|finding| finding["level"] == "fail")
        .collect();
    assert_eq!(failed.len(), 1, "{report:#}");
    assert_eq!(failed[0]["subject"], "policy");
    assert!(
        failed[0]["mend"]
            .as_str()
            .unwrap()
            .contains("ocihsm config policy")
    );
}

#[test]
fn containerd_reads_what_is_printed_and_every_section_is_ours() {
    if !skip::programs(&["containerd"]) {
        return;
    }
    let node = Node::new();
    let dump = Program::new("containerd")
        .arg("--config")
        .arg(node.path("config.toml"))
        .args(["config", "dump"])
        .ok()
        .text();
    let decoder = format!("path = {:?}", ocihsm());
    assert_eq!(dump.matches(&decoder).count(), 7, "{dump}");
    assert!(!dump.contains("ctd-decoder"), "{dump}");
}

#[test]
fn a_policy_made_for_this_machine_lets_its_softhsm_be_loaded() {
    let node = Node::new();
    let policy = Program::new(ocihsm())
        .args(["config", "policy"])
        .ok()
        .text();
    assert!(policy.contains("libsofthsm2.so"), "{policy}");
    node.write("policy", &policy);
    let output = node.doctor(&[]);
    assert!(output.status.success(), "{}", output.text());
}

#[test]
fn a_wrong_pin_is_told_once_and_tried_once() {
    let mut node = Node::new();
    let uris: Vec<String> = ["rsa3072", "rsa2048"]
        .iter()
        .map(|key| {
            format!(
                "{}?pin-value={WRONG_PIN}&module-name=softhsm2",
                node.token.uri(key)
            )
        })
        .collect();
    node.keys = node.token.keys_with(&uris);
    set_mode(&node.keys, 0o700);
    let stanza = node.stanza(&[]);
    node.write("conf.d/ocihsm.toml", &stanza);
    let text = node.complaint();
    let failure = line(&text, "fail  key");
    assert!(
        failure.contains("the PIN is wrong (C_Login: CKR_PIN_INCORRECT)"),
        "{failure}"
    );
    assert!(
        line(&text, "not tried, since").starts_with("warn"),
        "{text}"
    );
    // What doctor met is remembered for the decoder and for doctor alike.
    let text = node.complaint();
    assert!(
        line(&text, "fail  key").contains("was rejected before"),
        "{text}"
    );
    let forget = format!(
        "`OCIHSM_RUNTIME_DIR={} ocihsm keys forget-rejected-pins`",
        node.token.runtime().display()
    );
    assert!(text.contains(&forget), "{text}");
}

#[test]
fn a_token_that_refused_one_decoder_is_not_tried_by_another() {
    let mut node = Node::new();
    let [one, other] = [WRONG_PIN, "another-wrong-pin"].map(|pin| {
        let uri = format!(
            "{}?pin-value={pin}&module-name=softhsm2",
            node.token.uri("rsa3072")
        );
        let keys = node.token.keys_with(&[uri]);
        set_mode(&keys, 0o700);
        keys
    });
    node.keys = one.clone();
    let stanza = node
        .stanza(&[])
        .replace("env = [", "env = [\"FOO=a\", ")
        .replacen("FOO=a", "FOO=b", 1)
        .replacen(one.to_str().unwrap(), other.to_str().unwrap(), 1);
    node.write("conf.d/ocihsm.toml", &stanza);
    let text = node.complaint();
    assert_eq!(text.matches("C_Login").count(), 1, "{text}");
    assert!(
        line(&text, "not tried, since").starts_with("warn"),
        "{text}"
    );
}

#[test]
fn a_pin_that_others_may_read_is_a_failure() {
    let node = Node::new();
    let key = fs::read_dir(&node.keys)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    for (path, mode) in [
        (node.token.path(), 0o755),
        (&node.keys, 0o755),
        (&key, 0o644),
    ] {
        set_mode(path, mode);
    }
    let text = node.complaint();
    assert!(
        line(&text, "others than root may read").starts_with("fail"),
        "{text}"
    );
    assert!(line(&text, "chmod 600").contains(key.to_str().unwrap()));
    set_mode(&key, 0o600);
    assert!(node.doctor(&[]).status.success());
}

#[test]
fn what_others_may_change_is_a_failure() {
    let node = Node::new();
    set_mode(&node.path("policy"), 0o666);
    let text = node.complaint();
    assert!(
        line(&text, "others than root may change").contains("policy"),
        "{text}"
    );
}

#[test]
fn two_sections_for_one_media_type_are_a_failure() {
    let node = Node::new();
    node.change(
        "conf.d/ocihsm.toml",
        "[stream_processors.\"io.containerd.ocicrypt.decoder.v1.tar.gzip\"]",
        "[stream_processors.\"mine\"]",
    );
    let text = node.complaint();
    let failure = line(&text, "at random");
    assert!(
        failure.contains("tar+gzip+encrypted") && failure.contains("mine"),
        "{failure}"
    );
}

#[test]
fn media_types_without_a_section_are_named() {
    let node = Node::new();
    let stanza = node.stanza(&[]);
    let end = stanza
        .find("\n[stream_processors.\"io.containerd.ocicrypt.decoder.v1.tar.zstd\"]")
        .unwrap();
    node.write("conf.d/ocihsm.toml", &stanza[..end]);
    let text = node.complaint();
    let failure = line(&text, "there is none for");
    assert!(
        failure.starts_with("fail") && failure.ends_with("layers of oci.image.layer.v1.tar+zstd"),
        "{failure}"
    );
    // Layers that are rare.
    let warning = line(&text, "nondistributable");
    assert!(warning.starts_with("warn"), "{warning}");
}

#[test]
fn a_program_that_is_not_there_or_cannot_run_is_a_failure() {
    let node = Node::new();
    let program = node.path("decoder");
    let ours = format!("{:?}", ocihsm());
    node.change("conf.d/ocihsm.toml", &ours, &format!("{program:?}"));
    assert!(line(&node.complaint(), "decoder for 7").contains("is not there"));
    node.write("decoder", "");
    assert!(line(&node.complaint(), "decoder for 7").contains("not executable"));
    set_mode(&program, 0o755);
    let text = node.doctor(&[]).text();
    assert!(line(&text, "decoder for 7").contains("is no program for Linux"));
    // What its arguments name is checked all the same.
    assert!(
        line(&text, "opens what is wrapped").starts_with("ok "),
        "{text}"
    );
}

#[test]
fn a_program_on_a_file_system_from_which_none_is_run_is_a_failure() {
    if !skip::root() || !skip::programs(&["unshare"]) {
        return;
    }
    let node = Node::new();
    let directory = node.path("sealed");
    fs::create_dir(&directory).unwrap();
    let (ours, there) = (ocihsm(), directory.join("ocihsm"));
    node.change(
        "conf.d/ocihsm.toml",
        &format!("{ours:?}"),
        &format!("{there:?}"),
    );
    // In a mount namespace of its own.
    let script = r#"
        mount -t tmpfs -o noexec none "$1"
        cp "$2" "$1/ocihsm"
        "$2" doctor --containerd-config "$3""#;
    let output = Program::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .args(["sh", "-ec", script, "sh"])
        .args([&directory, &ours, &node.path("config.toml")])
        .run();
    let text = output.text();
    assert!(
        line(&text, "ocihsm for 7").contains("mounted noexec"),
        "{output:?}"
    );
}

#[test]
fn arguments_that_the_program_does_not_take_are_a_failure() {
    let node = Node::new();
    node.change(
        "conf.d/ocihsm.toml",
        "--decryption-keys-path",
        "--decryption-key-path",
    );
    let text = node.complaint();
    assert!(
        line(&text, "its arguments are wrong").contains("--decryption-key-path"),
        "{text}"
    );
}

#[test]
fn the_references_name_and_arguments_are_understood() {
    let node = Node::new();
    let link = node.path("ctd-decoder");
    symlink(ocihsm(), &link).unwrap();
    let ours = format!("{:?}", ocihsm());
    node.change("conf.d/ocihsm.toml", &ours, &format!("{link:?}"));
    node.change("conf.d/ocihsm.toml", "[\"decode\", ", "[");
    let output = node.doctor(&[]);
    assert!(output.status.success(), "{}", output.text());
    assert!(line(&output.text(), "stream processor").contains("ctd-decoder for 7"));
}

#[test]
fn broken_configuration_is_placed() {
    let node = Node::new();
    node.write("conf.d/zz.toml", "version = 2\n[x\n");
    assert!(line(&node.complaint(), "zz.toml").contains("line 2"));
}

#[test]
fn misplaced_lists_of_a_policy_are_named() {
    let node = Node::new();
    node.write("policy", "allowed-module-paths:\n  - /usr/lib/softhsm/\n");
    assert!(line(&node.complaint(), "fail  policy").contains("belongs under `pkcs11:`"));
}

#[test]
fn files_that_are_no_keys_are_passed_over_and_broken_keys_are_not() {
    let node = Node::new();
    fs::write(node.keys.join("README"), "hello").unwrap();
    let output = node.doctor(&[]);
    assert!(output.status.success(), "{}", output.text());
    assert!(line(&output.text(), "README").starts_with("ok "));
    fs::write(
        node.keys.join("broken.yaml"),
        "pkcs11:\n  uri: pkcs11:token=t\n",
    )
    .unwrap();
    assert!(line(&node.complaint(), "broken.yaml").starts_with("fail"));
}
