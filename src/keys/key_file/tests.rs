use std::fs;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::*;

const URI: &str = "pkcs11:token=t;id=%01;type=private?pin-value=1234&module-name=softhsm2";

fn vectors() -> &'static Path {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/integration/vectors/keys"
    ))
}

fn parse(text: &str) -> Result<KeyFile> {
    KeyFile::parse("k.yaml", text.as_bytes())
}

fn mistake_in(text: &str) -> String {
    let error = parse(text).unwrap_err();
    assert!(!matches!(error, Error::NotAKeyFile { .. }), "{error}");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("1234"), "{shown}");
    error.to_string()
}

#[test]
fn every_vector_is_a_key_or_is_told_to_be_none() {
    let mut keys = 0;
    for entry in fs::read_dir(vectors()).unwrap() {
        let path = entry.unwrap().path();
        match KeyFile::read(&path) {
            Ok(key) => {
                keys += 1;
                assert_eq!(key.name, path.display().to_string());
                assert_eq!(key.uri.token.as_deref(), Some("ocicrypt-vectors"));
                assert_eq!(
                    key.uri.object.as_deref(),
                    path.file_stem().unwrap().to_str()
                );
                assert_eq!(key.pin().unwrap(), Pin::new("1234".to_owned()));
            }
            Err(Error::NotAKeyFile { .. }) => {
                assert_ne!(path.extension().unwrap(), "yaml");
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(keys, 6);
}

#[test]
fn quotes_and_layout_do_not_matter() {
    for text in [
        format!("pkcs11:\n  uri: {URI}\n"),
        format!("---\npkcs11:\r\n  uri: '{URI}'\r\n"),
        format!("# mine\npkcs11: {{\"uri\": \"{URI}\"}}\nother: [1]\n"),
        format!("pkcs11:\n  uri: >-\n    {URI}\nmodule:\n"),
        format!("{{\"pkcs11\":{{\"uri\":\"{URI}\"}},\"module\":{{\"env\":null}}}}"),
    ] {
        let key = parse(&text).unwrap();
        assert_eq!(key.uri, URI.parse().unwrap(), "{text}");
        assert!(key.env.is_empty());
    }
}

#[test]
fn environment_values_are_text_whatever_they_look_like() {
    let key = parse(&format!(
        "pkcs11:\n  uri: {URI}\nmodule:\n  env:\n    A: 1\n    B: true\n    C:\n    D: '/x y'\n    E: 0x10\n"
    ))
    .unwrap();
    let env: Vec<_> = key.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(env, ["A=1", "B=true", "C=", "D=/x y", "E=0x10"]);
}

#[test]
fn an_initialization_string_is_kept_as_it_is() {
    let init = |line: &str| parse(&format!("pkcs11:\n  uri: {URI}\nmodule:\n  {line}\n"));
    let nss = "configdir='sql:/etc/nss' flags=readOnly";
    let key = init(&format!("init: \"{nss}\"")).unwrap();
    assert_eq!(key.init.as_deref(), Some(nss));
    assert_eq!(parse(&key.to_yaml()).unwrap().init, key.init);
    for nothing in ["init:", "init: ''", "env: {A: b}"] {
        assert_eq!(init(nothing).unwrap().init, None);
    }
    assert!(
        init("init: \"a\\0b\"")
            .unwrap_err()
            .to_string()
            .contains("module.init")
    );
}

#[test]
fn other_files_are_no_keys() {
    for text in [
        "",
        "hello",
        "-----BEGIN PUBLIC KEY-----\npkcs11:\n",
        "a: b",
        "pkcs11:\n  module-directories:\n    - /usr/lib/pkcs11/\n",
    ] {
        assert!(
            matches!(parse(text), Err(Error::NotAKeyFile { .. })),
            "{text}"
        );
    }
    for bytes in [&b"pkcs11:\xff"[..], &[b' '; MAX_KEY_FILE + 1]] {
        assert!(matches!(
            KeyFile::parse("k", bytes),
            Err(Error::NotAKeyFile { .. })
        ));
    }
}

#[test]
fn mistakes_are_named_and_the_pin_is_not_quoted() {
    for (text, part) in [
        (URI.to_owned(), "must stand under `pkcs11:`"),
        (format!("uri: {URI}"), "no section `pkcs11:`"),
        ("pkcs11:\n  url: x".to_owned(), "no `uri:` under"),
        (format!("pkcs11: {URI}"), "line 1"),
        (format!("pkcs11:\n  uri: {URI}\n uri: x"), "line 3"),
        (format!("pkcs11:\n  uri: {URI}\n  uri: {URI}"), "line 3"),
        (format!("pkcs11:\n  uri: '{URI}\n"), "line"),
        (format!("pkcs11:\n  uri: [{URI}]\n"), "line 2"),
        (
            format!("pkcs11:\n  uri: {URI}\nmodule:\n  env: [1234]\n"),
            "line 4",
        ),
        (
            format!("pkcs11:\n  uri: {URI}&1234\n"),
            "the query has a part",
        ),
        (
            "pkcs11:\n  uri: pkcs11:token=t".to_owned(),
            "unless it is quoted",
        ),
        (
            "pkcs11:\n  uri: pkcs11:object=o".to_owned(),
            "`token` or a `slot-id`",
        ),
        (
            "pkcs11:\n  uri: pkcs11:token=;id=%01".to_owned(),
            "`token` or a `slot-id`",
        ),
        (
            "pkcs11:\n  uri: pkcs11:token=t;id=".to_owned(),
            "`id` or an `object`",
        ),
        (
            format!("pkcs11:\n  uri: {URI}\nmodule:\n  env:\n    'A=B': c\n"),
            "module.env",
        ),
    ] {
        let shown = mistake_in(&text);
        assert!(shown.contains(part), "{text}: {shown}");
        assert!(shown.contains("k.yaml"), "{shown}");
    }
}

#[test]
fn deep_yaml_and_many_aliases_are_refused() {
    let deep = format!("pkcs11: {}", "[".repeat(10_000));
    assert!(matches!(parse(&deep), Err(Error::InvalidYaml { .. })));
    let bomb = format!("pkcs11:\n  uri: &a {URI}\n  b: [{}]\n", "*a,".repeat(100));
    assert!(matches!(parse(&bomb), Err(Error::InvalidYaml { .. })));
}

#[test]
fn a_pipe_is_neither_a_key_file_nor_its_pin() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    let shown = KeyFile::read(&path).unwrap_err().to_string();
    assert!(shown.contains("it is a pipe"), "{shown}");
    let uri = format!("pkcs11:token=t;object=o?pin-source={}", path.display());
    let key = parse(&format!("pkcs11:\n  uri: {uri}\n")).unwrap();
    let shown = key.pin().unwrap_err().to_string();
    assert!(shown.contains("it is a pipe"), "{shown}");
}

#[test]
fn key_without_a_pin_has_none() {
    let key = parse("pkcs11:\n  uri: pkcs11:slot-id=3;object=o\n").unwrap();
    assert_eq!(key.pin().unwrap(), None);
}

#[test]
fn written_key_file_reads_back_without_its_pin() {
    let mut key = parse(&format!(
        "pkcs11:\n  uri: {URI}\nmodule:\n  env:\n    X: 'a: \"b\" #c'\n    Y: '1'\n    Z: \"/long{}\\n\"\n",
        "g".repeat(300)
    ))
    .unwrap();
    key.uri.token = Some("a token's name ".repeat(12));
    let yaml = key.to_yaml();
    assert!(!yaml.contains("1234"));
    let read = parse(&yaml).unwrap();
    assert_eq!(read.env, key.env);
    key.uri.pin_value = None;
    assert_eq!(read.uri, key.uri);
}
