//! A PKCS#11 key file: YAML with a URI and the module's environment.
//!
//! Says what stands in the file and reads the PIN that it points to. Whether the module may be loaded is `policy`,
//! whether the key is there only its token knows.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::uri::Pkcs11Uri;
use super::{pem, pin_file, yaml};
use crate::error::{Error, Result};
use crate::file;
use crate::secret::Pin;

/// Most bytes that a key file may have.
pub const MAX_KEY_FILE: usize = 64 << 10;

/// What one key file says.
#[derive(Clone, Debug)]
pub struct KeyFile {
    /// What to call it in a message: its path, or `key 1 of the payload`.
    pub name: String,
    /// `pkcs11.uri`.
    pub uri: Pkcs11Uri,
    /// `module.env`.
    pub env: BTreeMap<String, String>,
    /// `module.init`: the initialization string that the module wants in `C_Initialize` (its `pReserved`). NSS is told so
    /// where its database is. An extension: other readers of key files pass over it.
    pub init: Option<String>,
}

#[derive(Deserialize)]
struct KeyYaml {
    pkcs11: Option<Pkcs11Yaml>,
    module: Option<ModuleYaml>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Pkcs11Yaml {
    uri: Option<Zeroizing<String>>,
    module_directories: Option<IgnoredAny>,
    allowed_module_paths: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct ModuleYaml {
    env: Option<BTreeMap<String, Option<String>>>,
    init: Option<String>,
}

impl KeyFile {
    /// Reads a key file's text; `name` is what messages call it.
    ///
    /// # Errors
    /// [`Error::NotAKeyFile`] for a file of some other kind, which may lie beside keys; for a key file with a
    /// mistake in it [`Error::InvalidKeyFile`], [`Error::InKeyFile`] or [`Error::InvalidYaml`].
    pub fn parse(name: impl Into<String>, bytes: &[u8]) -> Result<Self> {
        let name = name.into();
        let text = match std::str::from_utf8(bytes) {
            Ok(text) if bytes.len() <= MAX_KEY_FILE => text,
            Ok(_) => return Err(another_kind(&name, "it is over the limit of 65536 bytes")),
            Err(_) => return Err(another_kind(&name, "it is not text")),
        };
        if pem::is_in(bytes) {
            return Err(another_kind(&name, "it is PEM"));
        }
        if !text.contains("pkcs11:") {
            return Err(another_kind(&name, "there is no `pkcs11:` in it"));
        }
        if is_bare_uri(text) {
            return Err(mistake(
                &name,
                "the URI must stand under `pkcs11:`, as `uri:`",
            ));
        }

        let yaml: KeyYaml = yaml::read(&name, text)?;
        let Some(pkcs11) = yaml.pkcs11 else {
            return Err(mistake(&name, "it has no section `pkcs11:`"));
        };
        let Some(uri) = pkcs11.uri else {
            if pkcs11.module_directories.is_some() || pkcs11.allowed_module_paths.is_some() {
                return Err(another_kind(&name, "it is a module policy"));
            }
            return Err(mistake(&name, "it has no `uri:` under `pkcs11:`"));
        };
        let uri: Pkcs11Uri = uri.parse().map_err(|source| Error::InKeyFile {
            name: name.clone(),
            source: Box::new(source),
        })?;
        names_one_key(&name, &uri)?;
        let (env, init) = yaml
            .module
            .map(|module| (module.env.unwrap_or_default(), module.init))
            .unwrap_or_default();
        if env
            .iter()
            .any(|(variable, value)| !can_be_set(variable, value))
        {
            return Err(mistake(
                &name,
                "`module.env` has an empty name, one with `=`, or a value with a NUL, which no environment can hold",
            ));
        }
        if init.as_ref().is_some_and(|init| init.contains('\0')) {
            return Err(mistake(&name, "`module.init` has a NUL"));
        }
        Ok(Self {
            name,
            uri,
            env: env
                .into_iter()
                .map(|(variable, value)| (variable, value.unwrap_or_default()))
                .collect(),
            init: init.filter(|init| !init.is_empty()),
        })
    }

    /// Reads a key file from disk.
    ///
    /// # Errors
    /// As [`KeyFile::parse`]; [`Error::InFile`] when it cannot be read, or is no regular file.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = file::read_secret(path, MAX_KEY_FILE)?;
        Self::parse(path.display().to_string(), bytes.expose())
    }

    /// Whether a client sent it, who is not to decide what this node loads.
    #[must_use]
    pub fn comes_from_payload(&self) -> bool {
        self.name.starts_with("key ") && self.name.ends_with(" of the payload")
    }

    /// The PIN, from the URI or from the file that it names, less one line end. `None` where it has neither: the
    /// token may need none, or have a keypad of its own.
    ///
    /// # Errors
    /// Within [`Error::InKeyFile`]: [`Error::InFile`] when the PIN file cannot be read, or is no regular file;
    /// [`Error::InvalidPinFile`] when it cannot be a PIN, or hardly can be meant. Such a one is never tried, since each
    /// try may lock the token.
    pub fn pin(&self) -> Result<Option<Pin>> {
        if let Some(pin) = &self.uri.pin_value {
            return Ok(Some(pin.clone()));
        }
        let Some(path) = &self.uri.pin_source else {
            return Ok(None);
        };
        let pin = pin_file::read(path).map_err(|source| Error::InKeyFile {
            name: self.name.clone(),
            source: Box::new(source),
        })?;
        Ok(Some(pin))
    }

    /// The text of a key file; never with a PIN, only with `pin-source`.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        #[derive(Serialize)]
        struct Written {
            pkcs11: WrittenUri,
            #[serde(skip_serializing_if = "Option::is_none")]
            module: Option<WrittenModule>,
        }
        #[derive(Serialize)]
        struct WrittenUri {
            uri: String,
        }
        #[derive(Serialize)]
        struct WrittenModule {
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            env: BTreeMap<String, String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            init: Option<String>,
        }
        let written = Written {
            pkcs11: WrittenUri {
                uri: self.uri.with_query(),
            },
            module: (!self.env.is_empty() || self.init.is_some()).then(|| WrittenModule {
                env: self.env.clone(),
                init: self.init.clone(),
            }),
        };
        // On one line, however long, since people edit it.
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        serde_saphyr::to_string_with_options(&written, options)
            .expect("strings and maps of strings are always YAML")
    }
}

/// A file that holds nothing but the URI. In a key file, white space follows the first `pkcs11:`.
fn is_bare_uri(text: &str) -> bool {
    text.trim_start()
        .strip_prefix("pkcs11:")
        .is_some_and(|rest| !rest.starts_with(char::is_whitespace))
}

fn names_one_key(name: &str, uri: &Pkcs11Uri) -> Result<()> {
    let has = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    if uri.slot_id.is_none() && !has(&uri.token) {
        return Err(mistake(name, "its URI needs a `token` or a `slot-id`"));
    }
    if !has(&uri.object) && uri.id.as_ref().is_none_or(Vec::is_empty) {
        return Err(mistake(
            name,
            "its URI needs an `id` or an `object` (a shell cuts a URI at `;` unless it is quoted)",
        ));
    }
    Ok(())
}

/// What `setenv` takes (POSIX): a name that is not empty and has no `=`, and no NUL anywhere.
fn can_be_set(variable: &str, value: &Option<String>) -> bool {
    let value = value.as_deref().unwrap_or_default();
    !variable.is_empty() && !variable.contains(['=', '\0']) && !value.contains('\0')
}

fn another_kind(name: &str, what: &'static str) -> Error {
    Error::NotAKeyFile {
        name: name.to_owned(),
        what,
    }
}

fn mistake(name: &str, what: &'static str) -> Error {
    Error::InvalidKeyFile {
        name: name.to_owned(),
        what,
    }
}

#[cfg(test)]
mod tests {
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
                    assert_eq!(path.extension().unwrap(), "pem");
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
}
