//! `ocihsm keys`: which tokens and keys are found and shown, on SoftHSM, and behind modules that fail.

use std::fs;
use std::path::Path;

use integration::program::Program;
use integration::shell::{Shell, refused};
use integration::token::{PIN, SOFTHSM, WRONG_PIN};
use integration::unruly::Unruly;
use serde_json::Value;

#[test]
fn a_list_shows_public_keys_to_everybody_and_pairs_after_a_login() {
    let shell = Shell::new("two keys");
    shell.generate("two keys", "one", &["--id", "01"]).ok();
    let _ = shell.token.generate("other tool", 2, 3072);
    let public = shell.listed(&[]);
    assert_eq!(public.len(), 2);
    for key in &public {
        assert_eq!(
            (&key["public"], &key["private"]),
            (&true.into(), &false.into()),
            "{key}"
        );
    }
    let pairs = shell.listed(&["--token", "two keys", "--pin-file", "pin"]);
    assert_eq!(pairs.len(), 2);
    let one = pairs.iter().find(|key| key["label"] == "one").unwrap();
    assert_eq!(one["id"], "01");
    assert_eq!(one["bits"], 2048);
    assert_eq!(one["private"], true);
    assert_eq!(one["may"], serde_json::json!(["encrypt", "decrypt"]));
    assert_eq!(
        one["uri"],
        "pkcs11:token=two%20keys;id=%01;object=one;type=private?module-name=softhsm2"
    );
    for key in &pairs {
        let uri = key["uri"].as_str().unwrap();
        let pem = shell.keys(&["export", uri]).ok().text();
        assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----\n"), "{pem}");
        let name = key["label"].as_str().unwrap();
        assert_eq!(pem, shell.read(&format!("{name}.pub.pem")));
    }

    let table = shell.keys(&["list", "--module", SOFTHSM]).ok().text();
    let (table, tokens) = table.split_once("\n\n").unwrap();
    assert!(
        tokens.starts_with("token \"two keys\" does CKM_RSA_PKCS_OAEP, CKM_RSA_X_509, "),
        "{tokens}"
    );
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(
        lines[0].starts_with("TOKEN     LOGIN  KEY       SEEN    MAY"),
        "{table}"
    );
    let column = lines[0].find("URI").unwrap();
    for line in &lines[1..] {
        assert!(line.starts_with("two keys  PIN    RSA-"), "{table}");
        assert!(line[column..].starts_with("pkcs11:"), "{table}");
    }
}

#[test]
fn a_list_without_a_pin_says_that_one_shows_more() {
    let shell = Shell::new("hidden");
    shell.generate("hidden", "one", &["--id", "01"]).ok();
    let said = |more: &[&str]| {
        let list = shell.keys(&["list", "--module", SOFTHSM]).args(more);
        list.ok().stderr
    };
    assert_eq!(
        said(&["--token", "hidden"]),
        "ocihsm: note: private keys are shown once the PIN is given, with --pin-file or in OCIHSM_PIN\n"
    );
    assert_eq!(
        said(&[]),
        "ocihsm: note: private keys are shown with --token and the PIN of that token\n"
    );
    for silent in ["-q", "--json"] {
        assert_eq!(said(&["--token", "hidden", silent]), "", "{silent}");
    }
    assert_eq!(said(&["--token", "hidden", "--pin-file", "pin"]), "");
}

#[test]
fn keys_on_curves_are_listed_and_exported_as_others_are() {
    let shell = Shell::new("curves");
    shell.generate("curves", "rsa", &["--id", "01"]).ok();
    for (kind, id) in [("p256", "02"), ("p384", "03"), ("p521", "04")] {
        let made = [
            "generate", "--token", "curves", "--label", kind, "--type", kind,
        ];
        let more = ["--id", id, "--pin-file", "pin", "--module", SOFTHSM];
        shell.keys(&[&made[..], &more].concat()).ok();
    }
    // A curve that nobody here knows, and a key that agrees on nothing.
    let options = ["--usage-sign", "--id", "05"];
    let _ = shell.token.generate_with("other", "EC:secp256k1", &options);
    let public = shell.listed(&[]);
    assert_eq!(public.len(), 5, "{public:?}");
    assert!(public.iter().all(|key| key["private"] == false));
    let pairs = shell.listed(&["--token", "curves", "--pin-file", "pin"]);
    assert_eq!(pairs.len(), 5, "{pairs:?}");
    for (name, curve, bits) in [
        ("p256", "P-256", 256),
        ("p384", "P-384", 384),
        ("p521", "P-521", 521),
    ] {
        let key = pairs.iter().find(|key| key["label"] == name).unwrap();
        assert_eq!(key["type"], "EC");
        assert_eq!((&key["curve"], &key["bits"]), (&curve.into(), &bits.into()));
        assert_eq!(
            (&key["public"], &key["private"]),
            (&true.into(), &true.into())
        );
        assert_eq!(key["may"], serde_json::json!(["derive"]));
        let uri = key["uri"].as_str().unwrap();
        let pem = shell.keys(&["export", uri]).ok().text();
        assert_eq!(pem, shell.read(&format!("{name}.pub.pem")));
    }
    let key = pairs.iter().find(|key| key["label"] == "other").unwrap();
    assert_eq!((&key["type"], &key["bits"]), (&"EC".into(), &0.into()));
    assert_eq!(key.get("curve"), None);
    let may = key["may"].as_array().unwrap();
    assert!(
        may.contains(&"sign".into()) && !may.contains(&"derive".into()),
        "{key}"
    );
    let rsa = pairs.iter().find(|key| key["label"] == "rsa").unwrap();
    assert_eq!(rsa["type"], "RSA");
    let table = shell.keys(&["list", "--module", SOFTHSM]).ok().text();
    for part in [
        "  RSA-2048  ",
        "  P-256     ",
        "  P-384     ",
        "  P-521     ",
        "  EC        ",
    ] {
        assert!(table.contains(part), "{part} {table}");
    }
}

#[test]
fn without_a_token_that_is_named_no_pin_is_used() {
    let shell = Shell::new("quiet");
    let unruly = Unruly::new();
    let policy = shell.policy(&[unruly.module()]);
    let list = |more: &[&str]| {
        let list = unruly
            .env(Path::new(SOFTHSM))
            .into_iter()
            .fold(shell.keys(&["list"]).args(more), |list, (name, value)| {
                list.env(name, value)
            });
        list.env("OCIHSM_PIN", PIN).env("OCICRYPT_CONFIG", &policy)
    };
    list(&[]).ok();
    assert_eq!(unruly.count("C_Login"), 0);
    list(&["--token", "quiet"]).ok();
    assert_eq!(unruly.count("C_Login"), 1);
}

#[test]
fn a_bad_module_does_not_spoil_the_list() {
    let shell = Shell::new("good");
    shell.generate("good", "layers", &[]).ok();
    let unruly = Unruly::new();
    let policy = shell.policy(&[unruly.module(), SOFTHSM.into()]);
    for (fault, message) in [
        ("C_Initialize=0x30", "C_Initialize: CKR_DEVICE_ERROR"),
        ("C_GetSlotList=segv", "crashed in C_GetSlotList"),
        (
            "C_GetTokenInfo=hang",
            "did not answer within 1 s, in C_GetTokenInfo",
        ),
    ] {
        let list = |more: &[&str]| {
            let list = unruly.env(Path::new(SOFTHSM)).into_iter().fold(
                shell.keys(&["list", "--hsm-timeout", "1"]).args(more),
                |list, (name, value)| list.env(name, value),
            );
            list.env("OCICRYPT_CONFIG", &policy)
                .env("UNRULY_FAULTS", fault)
        };
        let output = list(&[]).ok();
        assert!(output.text().contains("object=layers"), "{output:?}");
        let lines: Vec<_> = output.stderr.lines().collect();
        assert_eq!(lines.len(), 2, "{output:?}");
        assert!(lines[1].starts_with("ocihsm: note: "), "{output:?}");
        assert!(output.stderr.starts_with("ocihsm: warning: "), "{output:?}");
        assert!(output.stderr.contains(message), "{output:?}");
        refused(&list(&["--module", "unruly"]).run(), message);
    }
}

#[test]
fn labels_of_tokens_and_keys_cannot_write_to_the_terminal() {
    let label = "a\u{1b}[2J\u{202e}b";
    let shell = Shell::new(label);
    let _ = shell.token.generate(label, 1, 2048);
    for more in [&[][..], &["--token", label, "--pin-file", "pin"]] {
        let output = shell
            .keys(&["list", "--module", "softhsm2"])
            .args(more)
            .ok();
        assert!(
            !output.text().contains(['\u{1b}', '\u{202e}']),
            "{output:?}"
        );
        assert!(
            output.text().contains("a\\u{1b}[2J\\u{202e}b"),
            "{output:?}"
        );
    }
    let missing = shell.generate(&format!("{label}c"), "layers", &[]).run();
    assert!(
        !missing.stderr.contains(['\u{1b}', '\u{202e}']),
        "{missing:?}"
    );
}

#[test]
fn an_exported_key_goes_to_a_file_of_its_own() {
    let shell = Shell::new("out");
    shell.generate("out", "layers", &[]).ok();
    let export = |more: &[&str]| shell.keys(&["export", "layers.yaml"]).args(more);
    assert_eq!(export(&[]).ok().text(), shell.read("layers.pub.pem"));
    assert_eq!(export(&["--out", "k.pem"]).ok().text(), "");
    assert_eq!(shell.read("k.pem"), shell.read("layers.pub.pem"));
    refused(&export(&["--out", "k.pem"]).run(), "k.pem is there already");
    export(&["--out", "k.pem", "--force"]).ok();

    let unknown = "pkcs11:token=out;object=unknown?module-name=softhsm2";
    let export = shell.keys(&["export", unknown, "--pin-file", "pin"]);
    let export = export.args(["--out", "unknown.pem"]).run();
    refused(&export, "token \"out\" holds no key that matches");
    assert!(
        !shell
            .files()
            .iter()
            .any(|name| name.starts_with(".ocihsm") || name == "unknown.pem")
    );
    let typo = format!("pkcs11:token=out;object=layers&pin-value={PIN}");
    refused(&shell.keys(&["export", &typo]).run(), "broken PKCS#11 URI");
}

#[test]
fn a_wrong_pin_costs_one_try_until_it_is_forgotten() {
    let shell = Shell::new("wrong");
    shell.write("pin", WRONG_PIN);
    let try_it = || shell.generate("wrong", "layers", &[]).run();
    refused(&try_it(), "login failed: the PIN is wrong");
    let hint = refused(&try_it(), "was rejected before and is not tried again");
    assert!(hint.contains("ocihsm keys forget-rejected-pins"), "{hint}");
    let list = shell.keys(&["list", "--token", "wrong", "--pin-file", "pin"]);
    refused(&list.run(), "was rejected before");
    let forget = |label| shell.keys(&["forget-rejected-pins", "--token", label]).ok();
    assert_eq!(forget("another").text(), "no rejected PIN is remembered\n");
    assert_eq!(
        forget("wrong").text(),
        "forgot the rejected PINs of token \"wrong\"\n"
    );
    refused(&try_it(), "login failed: the PIN is wrong");
    assert!(!shell.files().contains(&"layers.yaml".to_owned()));
    shell.write("pin", PIN);
    shell.generate("wrong", "layers", &[]).ok();
}

#[test]
fn tokens_with_one_label_are_told_apart_by_a_uri() {
    let shell = Shell::new("twin");
    Program::new("softhsm2-util")
        .env("SOFTHSM2_CONF", shell.token.configuration())
        .args(["--init-token", "--free", "--label", "twin"])
        .args(["--so-pin", "security-officer", "--pin", PIN])
        .ok();
    let output = shell.keys(&["list", "--json", "--module", "softhsm2"]).ok();
    let listing: Value = serde_json::from_slice(&output.stdout).unwrap();
    let serials: Vec<_> = (listing["modules"][0]["tokens"].as_array().unwrap().iter())
        .map(|token| token["serial"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(serials.len(), 2);
    let output = shell.generate("twin", "layers", &[]).run();
    let hint = refused(&output, "matches several tokens");
    assert!(output.stderr.contains(&serials[1]), "{output:?}");
    assert!(hint.contains("serial"), "{hint}");
    let uri = format!("pkcs11:token=twin;serial={}", serials[1]);
    shell.generate(&uri, "layers", &[]).ok();
    let text = shell.read("layers.yaml");
    assert!(
        text.contains(&format!("serial={};token=twin;", serials[1])),
        "{text}"
    );
    shell.keys(&["export", "layers.yaml"]).ok();
}

#[test]
fn a_token_that_several_modules_show_needs_one_named() {
    let shell = Shell::new("shared");
    fs::create_dir(shell.path("modules")).unwrap();
    let modules = ["libone.so", "libtwo.so"].map(|name| shell.path("modules").join(name));
    for module in &modules {
        fs::copy(SOFTHSM, module).unwrap();
    }
    let policy = shell.policy(&modules);
    let generate = |more: &[&str]| {
        shell
            .keys(&["generate", "--token", "shared", "--label", "layers"])
            .args(["--pin-file", "pin", "--bits", "2048"])
            .args(more)
            .env("OCICRYPT_CONFIG", &policy)
    };
    let hint = refused(&generate(&[]).run(), "is in several PKCS#11 modules");
    assert!(hint.contains("--module"), "{hint}");
    let other = [
        &["generate", "--token", "nobody"][..],
        &["--label", "x", "--pin-file", "pin"],
    ];
    let nobody = shell.keys(&other.concat()).env("OCICRYPT_CONFIG", &policy);
    refused(
        &nobody.run(),
        "no token matches pkcs11:token=nobody (PKCS#11 modules that were asked: 2)",
    );
    generate(&["--module", "two"]).ok();
    assert!(shell.read("layers.yaml").contains("?pin-source="));
    assert!(shell.read("layers.yaml").contains("&module-name=two"));
    // What the policy does not allow is not loaded for being named.
    let closed = generate(&["--module", SOFTHSM]).run();
    refused(&closed, "is not allowed by the policy");
}
