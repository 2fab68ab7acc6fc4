//! Every variable that is read stands in its table, and an empty one counts as none.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;

use flate2::write::GzEncoder;
use integration::program::Program;
use integration::{ocihsm, repository, vector};
use tempfile::TempDir;

use crate::{files, text};

/// What libraries read that we use, and that somebody may want to know. How help looks is left out.
const OF_LIBRARIES: [&str; 9] = [
    "ALL_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LD_LIBRARY_PATH",
    "NO_PROXY",
    "PATH",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
];

/// The program's sources by their names, without tests.
fn sources() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    for file in files(&repository().join("src"), "rs") {
        let name = file.strip_prefix(repository()).unwrap();
        let name = name.display().to_string();
        let text = fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        if !name.ends_with("tests.rs") && !name.contains("/tests/") {
            sources.push((name, text.to_owned()));
        }
    }
    sources
}

fn is_capital(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    text.starts_with(|c: char| c.is_ascii_uppercase()) && text.chars().all(is_word)
}

/// Whether a string may be a variable's name, wherever it stands.
fn is_variable(text: &str) -> bool {
    let begins = |prefix: &&str| text.starts_with(prefix);
    is_capital(text)
        && text.contains('_')
        && !text.ends_with('_')
        // Mechanisms, ciphers, and what is known when it is built.
        && !["AES_", "CARGO_", "CKM_", "OCIHSM_BUILD_"].iter().any(begins)
}

/// The variables that the program reads.
fn read_variables() -> BTreeSet<String> {
    let mut read: BTreeSet<_> = OF_LIBRARIES.map(str::to_owned).into();
    for (name, source) in sources() {
        // These nobody may set.
        if name == "src/keys/client.rs" {
            continue;
        }
        let mut before = "";
        for text in source.split('"') {
            let asks = ["variable(", "text(", "var(", "directory(", "named("];
            let is_asked = asks.iter().any(|asks| before.ends_with(asks));
            if is_variable(text) || (is_asked && is_capital(text)) {
                read.insert(text.to_owned());
            }
            before = text;
            // In the words of --help.
            read.extend(
                text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .filter(|word| word.starts_with("OCIHSM_") || word.starts_with("OCICRYPT_"))
                    .filter(|word| is_variable(word))
                    .map(str::to_owned),
            );
        }
    }
    read
}

/// What stands in backticks in the first column of a page's tables.
fn first_column(page: &str, column: usize) -> BTreeSet<String> {
    text(page)
        .lines()
        .filter(|line| line.starts_with("| "))
        .filter_map(|line| line.split(" | ").nth(column).map(str::to_owned))
        .flat_map(|cell| {
            let names: Vec<_> = cell
                .split('`')
                .skip(1)
                .step_by(2)
                .map(str::to_owned)
                .collect();
            names
        })
        .collect()
}

#[test]
fn every_variable_that_is_read_is_in_the_table() {
    let read = read_variables();
    for name in ["OCIHSM_CONTENT_STORE", "XDG_RUNTIME_DIR", "HOME"] {
        assert!(read.contains(name), "{read:?}");
    }
    let table = first_column("docs/environment.md", 0);
    let of_modules = first_column("docs/key-file.md", 1);
    for name in &read {
        assert!(table.contains(name) || of_modules.contains(name), "{name}");
    }
    for name in &table {
        assert!(
            read.contains(name),
            "{name} is in the table, and nothing reads it"
        );
    }
}

/// For each variable a command that reads it, and a value that makes a difference there, so that it is known to read it.
#[test]
fn an_empty_variable_counts_as_none() {
    let place = TempDir::new().unwrap();
    let at = |name: &str| place.path().join(name).display().to_string();
    let put = |name: &str, text: &str| {
        let path = place.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        at(name)
    };
    let gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut builder = tar::Builder::new(gzip);
    builder.append_dir_all(".", vector("images/plain")).unwrap();
    let archive = builder.into_inner().unwrap().finish().unwrap();
    fs::write(place.path().join("plain.tgz"), archive).unwrap();
    let key = put(
        "key.yaml",
        "pkcs11:\n  uri: pkcs11:token=t;object=o?module-name=absent\n",
    );
    put("other/ocicrypt.conf", "[");
    put("other/.docker/config.json", "{");
    put("other/containers/auth.json", "{");
    let auth = put("other/config.json", "{");
    let (other, absent) = (at("other"), at("absent"));
    let proxy = refusing_proxy();
    // An empty name joined with one of these must not lead to what lies here.
    let here = at("other");

    let of_vector = |name: &str| format!("oci:{}", vector(name).display());
    let (wrapped, plain) = (of_vector("images/jwe-rsa"), of_vector("images/plain"));
    let (public, private) = (vector("keys/jwe-rsa.pub.pem"), vector("keys/jwe-rsa.pem"));
    let store = wrapped.trim_start_matches("oci:");
    let recipient = format!("jwe:{}", public.display());
    let private = private.display().to_string();
    let archive = format!("oci-archive:{}", at("plain.tgz"));
    let new = format!("oci:{}", at("new"));
    let inspect = ["inspect", &wrapped, "--key", &key];
    let archive = ["inspect", &archive];
    let encrypt = [
        "encrypt",
        &plain,
        &new,
        "--recipient",
        &recipient,
        "--force",
    ];
    let provided = ["encrypt", &plain, &new, "--recipient", "provider:p"];
    let registry = ["inspect", "docker://127.0.0.1:1/a:b", "--tls-verify=false"];
    let containerd = ["inspect", "containerd:registry.example/a:b"];
    let decode = ["decode", "--key", &private];
    let cases: [(&str, &str, &[&str]); 23] = [
        ("OCICRYPT_CONFIG", &absent, &inspect),
        ("XDG_CONFIG_HOME", &other, &inspect),
        ("XDG_CONFIG_HOME", &other, &registry),
        ("HOME", &other, &registry),
        ("XDG_RUNTIME_DIR", &other, &registry),
        ("DOCKER_CONFIG", &other, &registry),
        ("REGISTRY_AUTH_FILE", &auth, &registry),
        ("ALL_PROXY", &proxy, &registry),
        ("HTTPS_PROXY", &proxy, &registry),
        ("HTTP_PROXY", &proxy, &registry),
        ("NO_PROXY", "127.0.0.1", &registry),
        ("CONTAINERD_ADDRESS", &absent, &containerd),
        ("OCIHSM_HSM_TIMEOUT", "soon", &inspect),
        ("OCIHSM_PIN", "\"7\"", &inspect),
        ("OCICRYPT_KEYPROVIDER_CONFIG", &auth, &provided),
        ("OCICRYPT_OAEP_HASHALG", "md5", &encrypt),
        ("TMPDIR", &absent, &archive),
        ("NO_COLOR", "1", &["--help"]),
        (
            "OCIHSM_KEYS_PATH",
            &private,
            &["decode", "--content-store", store],
        ),
        ("OCIHSM_CONTENT_STORE", store, &decode),
        ("OCIHSM_LAYER_ANNOTATIONS", "{", &decode),
        ("OCIHSM_LOG", "nowhere", &decode),
        (
            "STREAM_PROCESSOR_MEDIATYPE",
            "any",
            &["decode", "--nonsense"],
        ),
    ];
    let table = first_column("docs/environment.md", 0);
    let layer = fs::read(largest_blob("images/jwe-rsa")).unwrap();
    let is_empty_as_none = |(name, value, arguments): (&str, &str, &[&str])| {
        let run = |value: Option<&str>| {
            let mut command = Program::new(ocihsm())
                .args(arguments)
                .current_dir(&here)
                .env("CLICOLOR_FORCE", "1")
                .stdin(layer.clone());
            for name in &table {
                command = command.without_env(name);
            }
            if name == "NO_PROXY" {
                command = command.env("ALL_PROXY", &proxy);
            }
            if let Some(value) = value {
                command = command.env(name, value);
            }
            let output = command.run();
            // A layer is encrypted in another way each time.
            (output.status, output.stdout.len(), output.stderr)
        };
        let none = run(None);
        assert_eq!(run(Some("")), none, "{name} {arguments:?}");
        assert_ne!(run(Some(value)), none, "{name} {arguments:?}");
    };
    // A registry that cannot be reached is tried for a while.
    thread::scope(|scope| {
        for case in cases {
            let is_empty_as_none = &is_empty_as_none;
            scope.spawn(move || is_empty_as_none(case));
        }
    });
    for name in &table {
        let is_tried = cases.iter().any(|case| case.0 == name);
        assert_ne!(is_tried, NOT_TRIED.contains(&name.as_str()), "{name}");
    }
}

/// Variables that are not tried empty: the system reads them, or the library that knows the authorities; or trying them
/// needs a containerd, a token or the machine's own directory, and the tests of the settings do it.
const NOT_TRIED: [&str; 7] = [
    "CONTAINERD_NAMESPACE",
    "LD_LIBRARY_PATH",
    "OCIHSM_RUNTIME_DIR",
    "PATH",
    "SOFTHSM2_CONF",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
];

/// The address of a proxy that lets nobody through.
fn refusing_proxy() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines
                .next()
                .is_some_and(|line| line.is_ok_and(|it| !it.is_empty()))
            {}
            let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
        }
    });
    format!("http://{address}")
}

/// The layer with the most in it.
fn largest_blob(image: &str) -> PathBuf {
    let blobs = files_of(&vector(image).join("blobs/sha256"));
    let by_length = |path: &PathBuf| fs::metadata(path).unwrap().len();
    blobs.into_iter().max_by_key(by_length).unwrap()
}

fn files_of(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}
