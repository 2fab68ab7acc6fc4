//! What doctor makes of keys, policy, log and stores, all of them as the decoder will find them.

use std::fs;
use std::path::Path;

use integration::node::{Node, is_sound, line, set_mode};
use integration::program::Program;
use integration::token::{PIN, SOFTHSM, WRONG_PIN};

/// Adds to what the stream processors have in `env`.
fn add_variable(node: &Node, variable: &str) {
    node.change(
        "conf.d/ocihsm.toml",
        "env = [",
        &format!("env = [{variable:?}, "),
    );
}

/// Gives the node one key file with this query, whose module finds its configuration elsewhere.
fn without_environment(node: &Node) {
    let path = node.key_file();
    let text = fs::read_to_string(&path).unwrap();
    let end = text.find("module:").unwrap();
    fs::write(path, &text[..end]).unwrap();
}

fn with_query(node: &Node, query: &str) {
    let path = node.key_file();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, text.replace(&format!("pin-value={PIN}"), query)).unwrap();
}

#[test]
fn the_shells_environment_does_not_count() {
    let node = Node::new();
    without_environment(&node);
    let configuration = node.token.configuration();
    let home = node.path("home");
    fs::create_dir_all(home.join(".config/softhsm2")).unwrap();
    fs::copy(&configuration, home.join(".config/softhsm2/softhsm2.conf")).unwrap();
    for (name, value) in [("SOFTHSM2_CONF", configuration.as_path()), ("HOME", &home)] {
        let output = node.doctor_program().env(name, value).run();
        let text = output.text();
        assert!(!output.status.success(), "{name}: {text}");
        let warning = line(&text, "which the decoder does not know");
        assert!(
            warning.starts_with("warn") && warning.contains("SOFTHSM2_CONF=/"),
            "{warning}"
        );
        assert!(
            line(&text, "write it in the key file").contains("`module:`"),
            "{text}"
        );
    }
}

#[test]
fn the_stanzas_environment_counts() {
    let node = Node::new();
    without_environment(&node);
    add_variable(
        &node,
        &format!("SOFTHSM2_CONF={}", node.token.configuration().display()),
    );
    let output = node.doctor(&[]);
    assert!(output.status.success(), "{}", output.text());
}

#[test]
fn libraries_that_this_shell_alone_finds_are_told() {
    let node = Node::new();
    let doctor = |libraries| {
        let program = node.doctor_program();
        program.env("LD_LIBRARY_PATH", libraries).run().text()
    };
    // containerd always sets this one.
    let usual = "/opt/containerd/lib:";
    assert!(!doctor(usual).contains("LD_LIBRARY_PATH"));
    let text = doctor("/opt/hsm");
    let differ = format!("LD_LIBRARY_PATH is \"/opt/hsm\" in this shell and {usual:?} for");
    assert!(line(&text, &differ).starts_with("warn  module"), "{text}");
    let mend = format!("-> run `LD_LIBRARY_PATH={usual} ocihsm doctor`");
    assert!(text.contains(&mend), "{text}");
    add_variable(&node, "LD_LIBRARY_PATH=/opt/hsm");
    let text = doctor("/opt/hsm");
    assert!(!text.contains("LD_LIBRARY_PATH"), "{text}");
    let text = doctor(usual);
    let mend = "-> run `LD_LIBRARY_PATH=/opt/hsm ocihsm doctor`";
    assert!(text.contains(mend), "{text}");
}

#[test]
fn the_policy_is_the_decoders() {
    let node = Node::new();
    let home = node.path("home");
    fs::create_dir_all(home.join(".config")).unwrap();
    fs::write(home.join(".config/ocicrypt.conf"), "pkcs11:\n").unwrap();
    node.change("conf.d/ocihsm.toml", "OCICRYPT_CONFIG=", "UNUSED=");
    let output = node
        .doctor_program()
        .env("HOME", &home)
        .env("OCICRYPT_CONFIG", "/gone")
        .run();
    assert!(output.status.success(), "{}", output.text());
    add_variable(&node, &format!("HOME={}", home.display()));
    assert!(
        line(&node.complaint(), "allows no PKCS#11 module").contains("home/.config/ocicrypt.conf")
    );
}

#[test]
fn keys_are_tried_whatever_is_wrong_with_the_program() {
    let node = Node::new();
    let ours = format!("{:?}", integration::ocihsm());
    node.change("conf.d/ocihsm.toml", &ours, "\"/gone/ocihsm\"");
    let text = node.complaint();
    assert!(line(&text, "/gone/ocihsm for 7").contains("is not there"));
    assert!(
        line(&text, "opens what is wrapped").starts_with("ok "),
        "{text}"
    );
    assert!(!text.contains("/etc/containerd/ocicrypt/keys"), "{text}");
}

/// Gives the node the key file of another key of its token.
fn with_key(node: &Node, name: &str) {
    fs::copy(node.token.key_file(name), node.key_file()).unwrap();
}

#[test]
fn a_key_on_a_curve_is_tried_by_a_real_agreement() {
    let node = Node::new();
    for (name, curve) in [("p256", "P-256"), ("p384", "P-384"), ("p521", "P-521")] {
        with_key(&node, name);
        let text = node.doctor(&[]).text();
        let told = line(&text, "agrees on secrets");
        assert!(told.starts_with("ok "), "{text}");
        assert!(told.contains(&format!("ECDH on {curve}")), "{text}");
        assert!(line(&text, "does ECDH").contains(curve), "{text}");
        assert!(is_sound(&text), "{text}");
    }

    let options = ["--usage-sign", "--id", "77"];
    let _ = (node.token).generate_with("signs", "EC:prime256v1", &options);
    with_key(&node, "signs");
    let text = node.complaint();
    assert!(text.contains("(CKA_DERIVE is false)"), "{text}");
    assert!(text.contains("ocihsm keys generate --type"), "{text}");
    assert!(!text.contains("agrees on"), "{text}");
}

#[test]
fn halves_on_a_curve_that_do_not_belong_together_are_found_out() {
    let node = Node::new();
    let place = node.token.path();
    for (half, object) in [("one", "privkey"), ("other", "pubkey")] {
        let (private, public) = (place.join(half), place.join(format!("{half}.pub")));
        Program::new("openssl")
            .args(["genpkey", "-algorithm", "EC", "-pkeyopt"])
            .args(["ec_paramgen_curve:P-256", "-out"])
            .arg(&private)
            .ok();
        Program::new("openssl")
            .args(["pkey", "-pubout", "-in"])
            .arg(&private)
            .arg("-out")
            .arg(&public)
            .ok();
        let file = if object == "privkey" { private } else { public };
        Program::new("pkcs11-tool")
            .env("SOFTHSM2_CONF", node.token.configuration())
            .args([
                "--module",
                SOFTHSM,
                "--login",
                "--pin",
                PIN,
                "--write-object",
            ])
            .arg(&file)
            .args([
                "--type",
                object,
                "--label",
                "halves",
                "--id",
                "78",
                "--usage-derive",
            ])
            .ok();
    }
    with_key(&node, "halves");
    let text = node.complaint();
    assert!(
        text.contains("agrees on another secret than its public half promises"),
        "{text}"
    );
}

#[test]
fn keys_that_nothing_names_are_said_not_to_be_checked() {
    let node = Node::new();
    node.change(
        "conf.d/ocihsm.toml",
        "--decryption-keys-path",
        "--decryption-key-path",
    );
    let text = node.complaint();
    assert!(
        line(&text, "keys: not checked").contains("does not start like that"),
        "{text}"
    );
    node.write("conf.d/ocihsm.toml", "version = 2\n");
    let text = node.complaint();
    assert!(
        line(&text, "keys: not checked").contains("no stream processor"),
        "{text}"
    );
    assert!(!text.contains("mkdir"), "{text}");
    // No key in it, since nothing says here where a rejected PIN would be kept, and the machine's own place is not ours.
    let keys = node.token.keys(&[]);
    let keys = keys.to_str().unwrap();
    let text = node.doctor(&["--decryption-keys-path", keys]).text();
    assert!(line(&text, "keys: ").contains(keys), "{text}");
}

#[test]
fn variables_that_stop_the_decoder_are_a_failure() {
    let node = Node::new();
    add_variable(&node, "OCIHSM_HSM_TIMEOUT=abc");
    let failure = node.complaint();
    let failure = line(&failure, "OCIHSM_HSM_TIMEOUT in its `env` is wrong");
    assert!(
        failure.starts_with("fail") && failure.contains("'abc' for '--hsm-timeout"),
        "{failure}"
    );
    // That of doctor's own shell does not count.
    let node = Node::new();
    let output = node.doctor_program().env("OCIHSM_LOG", "/gone/log").run();
    assert!(
        output.status.success() && !output.text().contains("log: "),
        "{}",
        output.text()
    );
}

#[test]
fn a_log_that_cannot_be_written_is_told() {
    let node = Node::new();
    let text = |log: &Path| {
        node.write(
            "conf.d/ocihsm.toml",
            &node.stanza(&["--log", log.to_str().unwrap()]),
        );
        node.doctor(&[]).text()
    };
    let log = node.path("log");
    assert!(line(&text(&log), "recorded in").starts_with("ok "));
    assert!(!log.exists());
    let found = text(&node.path("gone/log"));
    assert!(
        line(&found, "layers are not recorded").starts_with("warn"),
        "{found}"
    );
    // As somebody may write it by hand; `config` prints no such thing.
    text(&log);
    node.change("conf.d/ocihsm.toml", log.to_str().unwrap(), "journal");
    let found = node.complaint();
    assert!(
        line(&found, "'journal'").contains("expected journald, syslog"),
        "{found}"
    );
}

#[test]
fn stores_are_those_of_the_decoder() {
    let node = Node::new();
    node.change(
        "conf.d/ocihsm.toml",
        "[\"decode\", ",
        "[\"decode\", \"--content-store\", \"/gone\", ",
    );
    let failure = node.complaint();
    let failure = line(&failure, "told to look in /gone");
    assert!(
        failure.contains(node.path("root").to_str().unwrap()),
        "{failure}"
    );
    node.change(
        "conf.d/ocihsm.toml",
        "\"/gone\"",
        &format!("{:?}", node.path("root")),
    );
    let text = node.doctor(&[]).text();
    assert!(is_sound(&text), "{text}");
    let node = Node::new();
    add_variable(&node, "OCIHSM_CONTENT_STORE=/gone");
    assert!(line(&node.complaint(), "content store").contains("/gone"));
}

#[test]
fn a_pin_file_is_mended_where_it_is() {
    let node = Node::new();
    let pin = node.path("pin");
    with_query(&node, &format!("pin-source={}", pin.display()));
    let mend = |content: Option<&str>| {
        if let Some(content) = content {
            node.write("pin", content);
            set_mode(&pin, 0o600);
        }
        let text = node.complaint();
        let failure = line(&text, "fail  key").to_owned();
        text.lines()
            .skip_while(|line| **line != failure)
            .nth(1)
            .unwrap()
            .to_owned()
    };
    assert!(mend(None).contains("write the PIN alone, on one line, into"));
    for content in ["", "\n", "a\nb\n"] {
        let mend = mend(Some(content));
        assert!(mend.contains("hold the PIN alone, on one line"), "{mend}");
    }
    node.write("pin", PIN);
    assert!(node.doctor(&[]).status.success());
}

#[test]
fn paths_of_keys_are_mended_as_what_they_are() {
    let node = Node::new();
    for (name, part) in [
        ("gone.yaml", "put the key file there"),
        ("gone", "mkdir -m 700 -p "),
        ("key.pem", "name a PKCS#11 key file, or a directory"),
    ] {
        node.write("key.pem", "-----BEGIN PRIVATE KEY-----\n");
        let path = node.path(name);
        let output = node.doctor(&["--decryption-keys-path", path.to_str().unwrap()]);
        let text = output.text();
        assert!(
            !output.status.success() && text.contains(part),
            "{name}: {text}"
        );
    }
}

#[test]
fn what_is_misspelt_in_a_key_file_is_named() {
    let node = Node::new();
    let path = node.key_file();
    let text = fs::read_to_string(&path).unwrap();
    let text = text
        .replace("pin-value", "pin-valeu")
        .replace("module:", "modul:");
    fs::write(&path, text).unwrap();
    let text = node.complaint();
    for part in [
        "`pin-valeu` in the URI's query",
        "`modul` means nothing there",
    ] {
        assert!(line(&text, part).starts_with("warn"), "{text}");
    }
}

#[test]
fn a_broken_policy_is_not_to_be_overwritten_and_leaves_keys_untried() {
    let node = Node::new();
    node.change("policy", "module-directories", "module-directory");
    let text = node.complaint();
    let mend = line(&text, "`ocihsm config policy`");
    assert!(!mend.contains('>') || mend.contains("-> compare"), "{mend}");
    assert!(!text.contains("config policy >"), "{text}");
    assert!(
        line(&text, "not tried, since").starts_with("warn"),
        "{text}"
    );
    fs::remove_file(node.path("policy")).unwrap();
    let text = node.complaint();
    let policy = node.path("policy");
    assert!(
        line(&text, "config policy >").contains(policy.to_str().unwrap()),
        "{text}"
    );
}

#[test]
fn what_has_to_be_mended_first_is_named() {
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
    node.write("conf.d/ocihsm.toml", &node.stanza(&[]));
    let text = node.complaint();
    let mend = line(&text, "-> mend ");
    assert!(mend.contains("key0.yaml first"), "{mend}");
}

#[test]
fn help_says_what_counts() {
    let help = integration::program::Program::new(integration::ocihsm())
        .args(["doctor", "--help"])
        .ok()
        .text();
    assert!(!help.contains("OCIHSM_KEYS_PATH"), "{help}");
    assert!(help.contains("another to open a wrapped key"), "{help}");
}
