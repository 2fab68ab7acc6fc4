//! `ocihsm keys generate`: what it makes, what it refuses, and what it leaves alone; and the way from a new key to an
//! image on every module that we support.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use integration::layer::{Compression, Layer};
use integration::layout::Layout;
use integration::module::{self, Module};
use integration::ocihsm;
use integration::processor::Processor;
use integration::program::{Program, holds_a_pin};
use integration::shell::{Shell, refused};
use integration::token::{PIN, SOFTHSM};
use integration::unruly::Unruly;
use nix::pty::openpty;
use serde_json::Value;
use tempfile::TempDir;

#[test]
fn a_made_key_encrypts_and_its_file_decodes_without_our_environment() {
    let shell = Shell::new("made");
    let output = shell.generate("made", "layers", &[]).ok();
    assert!(
        output
            .text()
            .starts_with("made an RSA-2048 pair in token \"made\"\n"),
        "{output:?}"
    );
    assert_eq!(output.stderr, "");

    let mode = |name| fs::metadata(shell.path(name)).unwrap().permissions().mode();
    assert_eq!(mode("layers.yaml") & 0o777, 0o600);
    let text = shell.read("layers.yaml");
    assert!(!holds_a_pin(text.as_bytes()));
    let source = format!(
        "?pin-source={}&module-name=softhsm2",
        shell.path("pin").display()
    );
    assert!(text.contains(&source), "{text}");
    let conf = shell.token.configuration();
    assert!(
        text.contains(&format!("SOFTHSM2_CONF: {}", conf.display())),
        "{text}"
    );

    let layer = Layer::file("greeting", b"hello", Compression::Gzip);
    let plain = Layout::create(shell.path("plain"), std::slice::from_ref(&layer), &["/x"]);
    Program::new(ocihsm())
        .args(["encrypt", &plain.reference()])
        .args([&format!("oci:{}:latest", shell.path("encrypted").display())])
        .args(["--recipient", "pkcs11:layers.pub.pem"])
        .current_dir(shell.token.path())
        .ok();
    let encrypted = Layout::open(shell.path("encrypted"));
    let descriptor = &encrypted.layers()[0];
    fs::create_dir(shell.path("keys")).unwrap();
    fs::rename(shell.path("layers.yaml"), shell.path("keys/layers.yaml")).unwrap();
    let outcome = Processor::decode(&shell.token, &encrypted, descriptor, &shell.path("keys"))
        .payload(descriptor, &Value::Null)
        .run();
    assert!(outcome.output.status.success(), "{outcome:?}");
    assert_eq!(outcome.output.stdout, layer.blob);
}

#[test]
fn a_made_key_decrypts_and_does_nothing_else_and_stays_in_the_token() {
    let shell = Shell::new("strict");
    shell.generate("strict", "layers", &["--id", "0aff"]).ok();
    let shown = Program::new("pkcs11-tool")
        .env("SOFTHSM2_CONF", shell.token.configuration())
        .args(["--module", SOFTHSM, "--login", "--pin", PIN, "-O"])
        .args(["--type", "privkey"])
        .ok()
        .text();
    let line = |name: &str| {
        let line = shown.lines().find(|line| line.trim().starts_with(name));
        line.unwrap_or_default().trim().to_owned()
    };
    assert_eq!(line("label:"), "label:      layers");
    assert_eq!(line("ID:"), "ID:         0aff");
    assert_eq!(line("Usage:"), "Usage:      decrypt");
    assert_eq!(
        line("Access:"),
        "Access:     sensitive, always sensitive, never extractable, local"
    );
}

#[test]
fn a_second_key_of_one_label_or_id_is_refused() {
    let shell = Shell::new("once");
    shell.generate("once", "layers", &["--id", "01"]).ok();
    let before = (shell.files(), shell.read("layers.yaml"));
    for (name, id) in [("layers", "02"), ("other", "01")] {
        let output = shell.generate("once", name, &["--id", id, "--force"]).run();
        let hint = refused(&output, "token \"once\" holds a key with the");
        assert!(hint.contains("ocihsm keys list"), "{hint}");
    }
    assert_eq!((shell.files(), shell.read("layers.yaml")), before);
    assert_eq!(
        shell
            .listed(&["--token", "once", "--pin-file", "pin"])
            .len(),
        1
    );
}

#[test]
fn a_size_beside_a_curve_is_refused() {
    let shell = Shell::new("sizes");
    let output = shell
        .generate("sizes", "curve", &["--type", "p256", "--bits", "2048"])
        .run();
    refused(&output, "--bits is for an RSA key");
    assert!(!shell.path("curve.yaml").exists());
}

#[test]
fn no_key_is_made_where_its_files_cannot_be() {
    let shell = Shell::new("nofile");
    for taken in ["layers.yaml", "layers.pub.pem"] {
        shell.write(taken, "mine");
        let files = shell.files();
        let hint = refused(
            &shell.generate("nofile", "layers", &[]).run(),
            &format!("{taken} is there already"),
        );
        assert!(hint.contains("--force"), "{hint}");
        assert_eq!(shell.read(taken), "mine");
        assert_eq!(shell.files(), files);
        fs::remove_file(shell.path(taken)).unwrap();
    }
    refused(
        &shell
            .generate("nofile", "layers", &["--out", "missing"])
            .run(),
        "cannot write missing/layers.pub.pem",
    );
    assert!(
        shell
            .listed(&["--token", "nofile", "--pin-file", "pin"])
            .is_empty()
    );

    shell.write("layers.yaml", "old");
    shell.generate("nofile", "layers", &["--force"]).ok();
    assert!(shell.read("layers.yaml").contains("object=layers"));
}

#[test]
fn a_pin_from_the_environment_is_written_nowhere() {
    let shell = Shell::new("env");
    let generate = [
        "generate", "--token", "env", "--label", "layers", "--module", SOFTHSM,
    ];
    let output = shell.keys(&generate).env("OCIHSM_PIN", PIN).ok();
    assert!(output.text().contains("append `&pin-source="), "{output:?}");
    let text = shell.read("layers.yaml");
    assert!(!holds_a_pin(text.as_bytes()));
    assert!(!text.contains("pin-source"), "{text}");
    assert!(text.contains("object=layers"), "{text}");
}

#[test]
fn without_pin_and_terminal_nothing_is_made() {
    let shell = Shell::new("nopin");
    let files = shell.files();
    let generate = [
        "generate", "--token", "nopin", "--label", "layers", "--module", SOFTHSM,
    ];
    let hint = refused(
        &shell.keys(&generate).run(),
        "token \"nopin\" wants a PIN, and none was given",
    );
    assert!(hint.contains("--pin-file"), "{hint}");
    for (pin, message) in [("", "is empty"), ("1\n2\n", "has more than one line")] {
        shell.write("pin", pin);
        refused(&shell.generate("nopin", "layers", &[]).run(), message);
    }
    assert_eq!(shell.files(), files);
}

#[test]
fn what_keeps_a_module_from_starting_is_said() {
    let shell = Shell::new("surroundings");
    let generate = ["generate", "--token", "surroundings", "--label", "layers"];
    let with = |name, value: &Path| {
        let program = shell.keys(&generate).env("OCIHSM_PIN", PIN);
        program.env(name, value).run()
    };
    let hint = refused(
        &with("SOFTHSM2_CONF", Path::new("/nowhere/softhsm2.conf")),
        "SOFTHSM2_CONF names /nowhere/softhsm2.conf, which is not there",
    );
    assert!(hint.contains("correct SOFTHSM2_CONF"), "{hint}");
    let configuration = shell.write("other.conf", "directories.tokendir = /nowhere/tokens\n");
    let hint = refused(
        &with("SOFTHSM2_CONF", &configuration),
        "other.conf names /nowhere/tokens, which is not there",
    );
    assert!(hint.contains("correct directories.tokendir"), "{hint}");
    let uri = "pkcs11:token=surroundings;object=k?module-name=softhsm2&pin-value=1";
    shell.write("k.yaml", &format!("pkcs11:\n  uri: {uri}\n"));
    let test = shell.keys(&["test", "k.yaml"]);
    let hint = refused(
        &test.env("SOFTHSM2_CONF", "/nowhere/softhsm2.conf").run(),
        "k.yaml: the PKCS#11 module /usr/lib/softhsm/libsofthsm2.so does not start: SOFTHSM2_CONF names /nowhere",
    );
    assert!(hint.contains("or under module.env"), "{hint}");
    let policy = shell.write("empty.conf", "pkcs11:\n");
    let hint = refused(
        &with("OCICRYPT_CONFIG", &policy),
        "empty.conf allows no PKCS#11 module",
    );
    assert!(
        hint.contains("what `ocihsm config policy` prints"),
        "{hint}"
    );
    let hint = refused(
        &with("OCICRYPT_CONFIG", Path::new("/nowhere/policy")),
        "is not there",
    );
    assert!(hint.contains("correct OCICRYPT_CONFIG"), "{hint}");
}

#[test]
fn a_typed_pin_is_not_shown() {
    let shell = Shell::new("typed");
    let generate = |label, more: &[&str]| {
        let terminal = openpty(None, None).unwrap();
        let mut command = Program::new("setsid")
            .args(["--ctty", "--wait"])
            .arg(ocihsm())
            .args(["keys", "generate", "--token", "typed", "--label", label])
            .args(["--bits", "2048", "--module", SOFTHSM])
            .args(more)
            .env("TERM", "xterm") // on a dumb terminal nothing is drawn
            .env("OCICRYPT_CONFIG", "internal")
            .env("OCIHSM_RUNTIME_DIR", shell.token.runtime())
            .env("SOFTHSM2_CONF", shell.token.configuration())
            .current_dir(shell.token.path())
            .into_command();
        for stream in [0, 1, 2] {
            let slave = terminal.slave.try_clone().unwrap();
            match stream {
                0 => command.stdin(slave),
                1 => command.stdout(slave),
                _ => command.stderr(slave),
            };
        }
        let child = command.spawn().unwrap();
        drop((command, terminal.slave));
        (child, File::from(terminal.master))
    };
    let shown = |terminal: &mut File, until: &str| {
        let (mut text, mut byte) = (Vec::new(), [0]);
        while !text.ends_with(until.as_bytes()) && terminal.read_exact(&mut byte).is_ok() {
            text.push(byte[0]);
        }
        assert!(!holds_a_pin(&text));
        String::from_utf8(text).unwrap()
    };

    let (mut child, mut terminal) = generate("layers", &[]);
    assert_eq!(shown(&mut terminal, ": "), "PIN of token \"typed\": ");
    terminal.write_all(format!("{PIN}\n").as_bytes()).unwrap();
    let rest = shown(&mut terminal, "\0");
    assert!(
        rest.contains("token \"typed\" makes an RSA-2048 pair: that may take"),
        "{rest}"
    );
    assert!(rest.contains("made an RSA-2048 pair"), "{rest}");
    assert!(child.wait().unwrap().success());

    // With -q nobody is told that it takes time; what was made is the result.
    let (mut child, mut terminal) = generate("silent", &["-q"]);
    shown(&mut terminal, ": ");
    terminal.write_all(format!("{PIN}\n").as_bytes()).unwrap();
    let rest = shown(&mut terminal, "\0");
    assert!(
        !rest.contains("that may take") && rest.contains("made an RSA-2048 pair"),
        "{rest}"
    );
    assert!(child.wait().unwrap().success());

    // Ctrl-C ends it, and leaves nothing behind.
    let files = shell.files();
    let (mut child, mut terminal) = generate("more", &[]);
    shown(&mut terminal, ": ");
    terminal.write_all(b"1234\x03").unwrap();
    let rest = shown(&mut terminal, "\0");
    assert!(rest.contains("interrupted"), "{rest}");
    assert!(!child.wait().unwrap().success());
    assert_eq!(shell.files(), files);
}

#[test]
fn a_refused_way_of_making_a_key_is_followed_by_another_and_a_failure_by_none() {
    let shell = Shell::new("ways");
    let unruly = Unruly::new();
    let policy = shell.policy(&[unruly.module()]);
    let generate = |name: &str, fault: &str| {
        let generate = unruly.env(Path::new(SOFTHSM)).into_iter().fold(
            shell.keys(&["generate", "--token", "ways", "--label", name]),
            |generate, (name, value)| generate.env(name, value),
        );
        generate
            .args(["--pin-file", "pin", "--bits", "2048"])
            .env("OCICRYPT_CONFIG", &policy)
            .env("UNRULY_FAULTS", format!("C_GenerateKeyPair={fault}"))
            .run()
    };
    let output = generate("failed", "0x30");
    refused(&output, "cannot generate a key pair: the device failed");
    assert_eq!(unruly.count("C_GenerateKeyPair"), 1);
    // A mechanism that SoftHSM has not either.
    let output = generate("x931", "0x70*1");
    refused(&output, "the token does not have this mechanism");
    assert_eq!(unruly.count("C_GenerateKeyPair"), 2);
    assert!(
        shell
            .listed(&["--token", "ways", "--pin-file", "pin"])
            .is_empty()
    );

    // A key that must not sign.
    let output = generate("lenient", "0xd1*1");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(unruly.count("C_GenerateKeyPair"), 2);
    let keys = shell.listed(&["--token", "ways", "--pin-file", "pin"]);
    let may = ["encrypt", "verify", "decrypt", "sign"];
    assert_eq!(keys[0]["may"], serde_json::json!(may));
}

#[test]
fn softhsm() {
    way_of_a_key("softhsm", None);
}

#[test]
fn opencryptoki() {
    way_of_a_key("opencryptoki", Some("512 to 4096"));
}

#[test]
fn tpm2() {
    way_of_a_key("tpm2", Some("1024 to 3072"));
}

#[test]
fn p11_kit() {
    way_of_a_key("p11-kit", None);
}

#[test]
fn kryoptic() {
    way_of_a_key("kryoptic", None);
}

/// A key is made, listed and exported; an image is encrypted to it, and decrypted with the files that were written.
/// `sizes` are those that the token makes, where 16384 bits is not among them.
fn way_of_a_key(name: &str, sizes: Option<&str>) {
    let Some(module) = Module::up(name) else {
        return;
    };
    let place = TempDir::with_prefix("ocihsm-keys-").unwrap();
    let path = |name: &str| place.path().join(name);
    fs::write(path("pin"), module::PIN).unwrap();
    let library = module.library();
    let directory = library.parent().unwrap().display();
    let text = format!(
        "pkcs11:\n  module-directories: [{directory}]\n  allowed-module-paths: [{}]\n",
        library.display()
    );
    fs::write(path("ocicrypt.conf"), text).unwrap();
    let ocihsm = |arguments: &[&str]| {
        module
            .program(&integration::ocihsm())
            .args(arguments)
            .env("OCICRYPT_CONFIG", path("ocicrypt.conf"))
            .env("OCIHSM_RUNTIME_DIR", path("run"))
            .env("HOME", place.path())
    };
    let with_env = |arguments: &[&str]| {
        let env = module.env().iter();
        env.fold(ocihsm(arguments), |program, (name, value)| {
            program.env(name, value)
        })
    };
    let text = |name: &str| path(name).to_str().unwrap().to_owned();
    let (key, public) = (text("made.yaml"), text("made.pub.pem"));

    let generate = |name: &str, bits: &str| {
        let generate = with_env(&["keys", "generate", "--token", "kbs", "--label", name]);
        let generate = generate.args(["--bits", bits, "--pin-file", &text("pin")]);
        generate.args(["--out", &text("")]).run()
    };
    let made = generate("made", "2048");
    assert!(made.status.success(), "{made:?}");
    if let Some(sizes) = sizes {
        let message = format!("makes RSA keys of {sizes} bits, not 16384");
        refused(&generate("large", "16384"), &message);
    }
    let list = with_env(&["keys", "list", "--token", "kbs", "--json"]);
    let listing = list.args(["--pin-file", &text("pin")]).ok();
    let listing: Value = serde_json::from_slice(&listing.stdout).unwrap();
    let keys = listing["modules"][0]["tokens"][0]["keys"]
        .as_array()
        .unwrap();
    assert_eq!(keys.len(), 3, "{keys:?}");
    let made = keys.iter().find(|key| key["label"] == "made").unwrap();
    assert_eq!(
        (&made["public"], &made["private"]),
        (&true.into(), &true.into())
    );
    let may = made["may"].as_array().unwrap();
    assert!(may.contains(&"decrypt".into()), "{made}");
    assert!(!may.contains(&"leave".into()), "{made}");

    // From here on the key file alone says what the module needs.
    let pem = ocihsm(&["keys", "export", &key]).ok().text();
    assert_eq!(pem, fs::read_to_string(&public).unwrap());
    let layer = Layer::file("greeting", b"hello", Compression::Gzip);
    let plain = Layout::create(path("plain"), std::slice::from_ref(&layer), &["/x"]);
    let encrypted = format!("oci:{}:latest", text("encrypted"));
    let again = format!("oci:{}:latest", text("again"));
    ocihsm(&["encrypt", &plain.reference(), &encrypted])
        .args(["--recipient", &format!("pkcs11:{public}")])
        .ok();
    ocihsm(&["decrypt", &encrypted, &again, "--key", &key]).ok();
    let again = Layout::open(path("again"));
    assert_eq!(again.read(&again.layers()[0]), layer.blob);
}
