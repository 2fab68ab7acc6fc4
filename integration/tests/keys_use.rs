//! `ocihsm keys test` and `keys delete`, and a PIN that is given beside the key file to whatever opens layers.

use std::fs::File;
use std::io::{Read as _, Write as _};

use integration::layer::{Compression, Layer};
use integration::layout::Layout;
use integration::ocihsm;
use integration::program::Program;
use integration::shell::{Shell, refused};
use integration::token::{PIN, SOFTHSM, WRONG_PIN};
use nix::pty::openpty;

/// A key whose file names no PIN, and an image that is encrypted for it.
fn without_pin(label: &str) -> (Shell, Layout) {
    let shell = Shell::new(label);
    shell.generate(label, "key", &[]).ok();
    let text = shell.read("key.yaml");
    let source = format!("pin-source={}&", shell.path("pin").display());
    assert!(text.contains(&source), "{text}");
    shell.write("key.yaml", &text.replace(&source, ""));
    let layer = Layer::file("etc/one", b"one", Compression::Gzip);
    let plain = Layout::create(shell.path("plain"), &[layer], &["/etc/one"]);
    let encrypted = Layout::open(shell.path("encrypted"));
    image(
        &shell,
        &["encrypt", &plain.reference(), &encrypted.reference()],
    )
    .args(["--recipient", "pkcs11:key.pub.pem"])
    .ok();
    (shell, encrypted)
}

fn image(shell: &Shell, arguments: &[&str]) -> Program {
    Program::new(ocihsm())
        .args(arguments)
        .env("OCICRYPT_CONFIG", "internal")
        .env("OCIHSM_RUNTIME_DIR", shell.token.runtime())
        .env("SOFTHSM2_CONF", shell.token.configuration())
        .current_dir(shell.token.path())
}

#[test]
fn a_given_pin_opens_layers_and_its_own_place_is_named_when_it_is_wrong() {
    let (shell, encrypted) = without_pin("given");
    let source = encrypted.reference();
    let copy = format!("oci:{}:latest", shell.path("copy").display());
    let open: [&[&str]; 4] = [
        &["inspect", &source, "--key", "key.yaml"],
        &["decrypt", &source, &copy, "--force", "--key", "key.yaml"],
        &[
            "rekey",
            &source,
            &copy,
            "--force",
            "--key",
            "key.yaml",
            "--add",
            "jwe:key.pub.pem",
        ],
        &[
            "encrypt",
            &source,
            &copy,
            "--force",
            "--key",
            "key.yaml",
            "--recipient",
            "jwe:key.pub.pem",
        ],
    ];
    for command in open {
        let output = image(&shell, command).run();
        assert!(!output.status.success(), "{output:?}");
        let all = output.text() + &output.stderr;
        assert!(all.contains("wants a PIN"), "{command:?}: {all}");
        image(&shell, command).args(["--pin-file", "pin"]).ok();
        image(&shell, command).env("OCIHSM_PIN", PIN).ok();
    }
    let wrong = image(&shell, open[1]).env("OCIHSM_PIN", WRONG_PIN).run();
    let hint = refused(&wrong, "the PIN is wrong");
    assert!(hint.starts_with("give the right PIN"), "{hint}");
    // It cost one try, and costs no other.
    let again = image(&shell, open[1]).env("OCIHSM_PIN", WRONG_PIN).run();
    let hint = refused(&again, "the PIN in OCIHSM_PIN was rejected before");
    assert!(!hint.contains("key file"), "{hint}");
    image(&shell, open[1]).env("OCIHSM_PIN", PIN).ok();
}

#[test]
fn a_wrong_pin_of_a_new_key_is_no_matter_of_a_key_file() {
    let shell = Shell::new("new");
    shell.write("pin", WRONG_PIN);
    let hint = refused(&shell.generate("new", "key", &[]).run(), "the PIN is wrong");
    assert!(hint.starts_with("give the right PIN"), "{hint}");
}

#[test]
fn a_test_of_a_key_says_what_works() {
    let shell = Shell::new("tested");
    shell.generate("tested", "key", &[]).ok();
    let text = shell.keys(&["test", "key.yaml"]).ok().text();
    assert!(
        text.starts_with("ok    login: RSA-2048 on token \"tested\""),
        "{text}"
    );
    for line in [
        "ok    RSA-OAEP sha256 (pkcs11): by raw RSA",
        "ok    RSA-OAEP sha1 (pkcs11, jwe): by the token",
        "ok    RSA PKCS#1 v1.5 (pkcs7): by the token",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }

    shell.generate("tested", "curve", &["--type", "p256"]).ok();
    let text = shell.keys(&["test", "curve.yaml"]).ok().text();
    assert!(
        text.contains("ok    ECDH P-256 (jwe): by the token"),
        "{text}"
    );

    let uri = "pkcs11:token=tested;object=key?module-name=softhsm2";
    shell.write("wrong", WRONG_PIN);
    let output = shell.keys(&["test", uri, "--pin-file", "wrong"]).run();
    refused(&output, "the PIN is wrong");
}

#[test]
fn a_key_is_deleted_with_both_halves_once_it_is_meant() {
    let shell = Shell::new("gone");
    for name in ["one", "two"] {
        shell.generate("gone", name, &[]).ok();
    }
    let there = || {
        shell
            .listed(&["--token", "gone", "--pin-file", "pin"])
            .len()
    };

    let hint = refused(
        &shell.keys(&["delete", "one.yaml"]).run(),
        "no terminal to ask",
    );
    assert!(hint.contains("--yes"), "{hint}");
    assert_eq!(there(), 2);

    let output = shell.keys(&["delete", "one.yaml", "--yes"]).ok();
    assert!(
        output
            .text()
            .starts_with("removed the private and the public key of pkcs11:token=gone;"),
        "{output:?}"
    );
    assert_eq!(there(), 1);
    let again = shell.keys(&["delete", "one.yaml", "--yes"]).run();
    refused(&again, "holds no key that matches");
    shell.keys(&["test", "two.yaml"]).ok();
}

#[test]
fn the_only_key_of_a_token_is_named_before_it_is_deleted() {
    let shell = Shell::new("only");
    let _ = shell.token.generate("imagekey", 7, 2048);
    let uri = "pkcs11:token=only?module-name=softhsm2";
    let unnamed = shell
        .keys(&["delete", uri, "--yes", "--pin-file", "pin"])
        .run();
    let hint = refused(&unnamed, "pkcs11:token=only names no key");
    assert!(hint.contains("`object` or `id`"), "{hint}");
    assert_eq!(unnamed.status.code(), Some(2));
    // As where a shell's variable is not set.
    for part in ["object=", "id="] {
        let uri = format!("pkcs11:token=only;{part}?module-name=softhsm2");
        let delete = ["delete", uri.as_str(), "--yes", "--pin-file", "pin"];
        assert_eq!(shell.keys(&delete).run().status.code(), Some(2), "{part}");
    }

    let whole = "pkcs11:token=only;id=%07;object=imagekey";
    let delete = ["keys", "delete", uri, "--pin-file", "pin"];
    let (question, is_gone) = asked(&shell, &delete, "no");
    assert!(
        question.contains(&format!("{whole} is an RSA-2048 key.")) && !is_gone,
        "{question}"
    );
    let by_id = "pkcs11:token=only;id=%07?module-name=softhsm2";
    let output = shell
        .keys(&["delete", by_id, "--yes", "--pin-file", "pin"])
        .ok();
    assert!(
        output.text().ends_with(&format!("public key of {whole}\n")),
        "{output:?}"
    );
}

#[test]
fn what_may_be_several_keys_is_not_deleted() {
    let shell = Shell::new("several");
    let _ = shell.token.generate("same", 1, 2048);
    let _ = shell.token.generate("same", 2, 2048);
    let uri = "pkcs11:token=several;object=same?module-name=softhsm2";
    let output = shell
        .keys(&["delete", uri, "--yes", "--pin-file", "pin"])
        .run();
    refused(
        &output,
        "error: pkcs11:token=several;object=same matches several keys",
    );
    let there = || {
        shell
            .listed(&["--token", "several", "--pin-file", "pin"])
            .len()
    };
    assert_eq!(there(), 2);
    let one = "pkcs11:token=several;object=same;id=%01?module-name=softhsm2";
    shell
        .keys(&["delete", one, "--yes", "--pin-file", "pin"])
        .ok();
    assert_eq!(there(), 1);
}

#[test]
fn two_keys_on_a_curve_with_one_id_are_not_taken_for_one() {
    let shell = Shell::new("curves");
    for label in ["one", "two"] {
        Program::new("pkcs11-tool")
            .args(["--module", SOFTHSM, "--token-label", "curves", "--login"])
            .args(["--pin", PIN, "--keypairgen", "--key-type", "EC:secp384r1"])
            .args(["--id", "07", "--label", label])
            .env("SOFTHSM2_CONF", shell.token.configuration())
            .ok();
    }
    let uri = "pkcs11:token=curves;id=%07?module-name=softhsm2";
    let delete = |uri: &str| shell.keys(&["delete", uri, "--yes", "--pin-file", "pin"]);
    refused(
        &delete(uri).run(),
        "error: pkcs11:token=curves;id=%07 matches several keys",
    );
    let there = || {
        let listed = shell.listed(&["--token", "curves", "--pin-file", "pin"]);
        listed.len()
    };
    assert_eq!(there(), 2);
    delete("pkcs11:token=curves;id=%07;object=one?module-name=softhsm2").ok();
    assert_eq!(there(), 1);
}

#[test]
fn a_terminal_is_asked_before_a_key_is_deleted() {
    let shell = Shell::new("asked");
    shell.generate("asked", "key", &[]).ok();
    for (answer, is_gone) in [("no", false), ("", false), ("yes", true)] {
        let (question, succeeded) = asked(&shell, &["keys", "delete", "key.yaml"], answer);
        assert!(
            question.contains("object=key;type=private is an RSA-2048 key."),
            "{question}"
        );
        assert_eq!(succeeded, is_gone, "{answer:?}");
        let left = shell
            .listed(&["--token", "asked", "--pin-file", "pin"])
            .len();
        assert_eq!(left, usize::from(!is_gone), "{answer:?}");
    }
}

/// Runs `ocihsm` at a terminal and answers its question: the question, and whether it succeeded.
fn asked(shell: &Shell, arguments: &[&str], answer: &str) -> (String, bool) {
    let terminal = openpty(None, None).unwrap();
    let mut command = Program::new("setsid")
        .args(["--ctty", "--wait"])
        .arg(ocihsm())
        .args(arguments)
        .env("OCICRYPT_CONFIG", "internal")
        .env("OCIHSM_RUNTIME_DIR", shell.token.runtime())
        .env("SOFTHSM2_CONF", shell.token.configuration())
        .current_dir(shell.token.path())
        .into_command();
    command.stdin(terminal.slave.try_clone().unwrap());
    command.stdout(terminal.slave.try_clone().unwrap());
    command.stderr(terminal.slave.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    drop((command, terminal.slave));
    let mut terminal = File::from(terminal.master);
    let (mut shown, mut byte) = (Vec::new(), [0]);
    while !shown.ends_with(b"[yes/no] ") && terminal.read_exact(&mut byte).is_ok() {
        shown.push(byte[0]);
    }
    terminal
        .write_all(format!("{answer}\n").as_bytes())
        .unwrap();
    while terminal.read_exact(&mut byte).is_ok() {}
    let succeeded = child.wait().unwrap().success();
    (String::from_utf8(shown).unwrap(), succeeded)
}
