//! What the pages say of the sources and of one another: every variable that is read stands in its table, the example of
//! the cipher is one of its vectors, every link leads somewhere, and every file that is named is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use integration::program::Program;
use integration::{ocihsm, repository, vector};
use serde_json::Value;
use tempfile::TempDir;

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

/// Made by whoever follows the page, or by a build.
const MADE: [&str; 2] = ["new/", "target/"];

fn text(name: &str) -> String {
    fs::read_to_string(repository().join(name)).unwrap()
}

/// All files below a directory with this extension.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|one| one == extension) {
            found.push(path);
        }
    }
    found
}

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

/// But for the one of which the page says so, and the search path.
#[test]
fn an_empty_variable_counts_as_none() {
    let place = TempDir::new().unwrap();
    let archive = place.path().join("plain.tgz");
    let gzip = GzEncoder::new(
        fs::File::create(&archive).unwrap(),
        flate2::Compression::fast(),
    );
    let mut builder = tar::Builder::new(gzip);
    builder.append_dir_all(".", vector("images/plain")).unwrap();
    builder.into_inner().unwrap().finish().unwrap();
    for name in first_column("docs/environment.md", 0) {
        if ["PATH", "STREAM_PROCESSOR_MEDIATYPE"].contains(&name.as_str()) {
            continue;
        }
        let inspect = Program::new(ocihsm()).arg("inspect");
        let inspect = inspect.arg(format!("oci-archive:{}", archive.display()));
        let output = inspect.env(&name, "").run();
        assert!(output.status.success(), "{name}: {output:?}");
    }
}

#[test]
fn the_example_of_the_cipher_is_a_vector() {
    let page = text("docs/gcm-stream.md");
    let vectors: Value =
        serde_json::from_slice(&fs::read(vector("gcm-stream.json")).unwrap()).unwrap();
    let vectors = vectors["vectors"].as_array().unwrap();
    let one = &vectors[1];
    assert_eq!(one["plaintext_len"], 1);
    let bytes = |field: &str| {
        let text = one[field].as_str().unwrap();
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text);
        let hex: Vec<_> = bytes
            .unwrap()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        hex.concat()
    };
    let ciphertext = bytes("ciphertext");
    let (byte, tag) = ciphertext.split_at(2);
    for part in [
        format!("key    {}\n", one["key"].as_str().unwrap()),
        format!("nonce  {}\n", one["nonce"].as_str().unwrap()),
        format!("{} 00000000 01\n", one["nonce"].as_str().unwrap()),
        format!("the byte `{}`", bytes("plaintext")),
        format!("\n{byte} {tag}\n"),
    ] {
        assert!(page.contains(&part), "{part}");
    }
    let lengths: Vec<_> = vectors
        .iter()
        .map(|one| one["plaintext_len"].to_string())
        .collect();
    let (last, lengths) = lengths.split_last().unwrap();
    assert!(page.contains(&format!("{} and {last}", lengths.join(", "))));
}

/// Every page of the repository.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    for directory in ["docs", "examples", "integration", "packaging", "src"] {
        pages.extend(files(&repository().join(directory), "md"));
    }
    for entry in fs::read_dir(repository()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    pages
}

/// The files of this repository that a page names, as far as they look like it.
fn named_files(page: &str) -> BTreeSet<&str> {
    let entries = fs::read_dir(repository()).unwrap();
    let directories: Vec<_> = entries
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| format!("{}/", entry.file_name().display()))
        .collect();
    let is_ours = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let mut named = BTreeSet::new();
    let mut before = ' ';
    for word in page.split_inclusive(|c| !is_ours(c)) {
        let after = word.chars().last().unwrap_or(' ');
        let path = word.trim_end_matches(|c| !is_ours(c));
        // A path of the repository, wherever it stands; or any that is relative, and a source, alone in backticks.
        let path_here = path.strip_prefix("./").unwrap_or(path);
        let from_the_top = directories
            .iter()
            .any(|top| path_here.starts_with(top.as_str()));
        let relative = !path.starts_with('/') && path.trim_end_matches('/').contains('/');
        let is_source = [".rs", ".c", ".sh", ".py", ".md", ".yml"]
            .iter()
            .any(|extension| path.len() > extension.len() && path.ends_with(extension));
        let alone = before == '`' && after == '`' && (relative || is_source);
        // What follows a variable, or is the beginning of a pattern.
        let elsewhere = ['$', '~', '}'].contains(&before) || ['\\', '*'].contains(&after);
        if (from_the_top && !elsewhere) || alone {
            named.insert(path_here.trim_end_matches('.'));
        }
        before = after;
    }
    named.retain(|path| !MADE.iter().any(|made| path.starts_with(made)));
    named
}

#[test]
fn every_file_that_a_page_names_is_there() {
    let example = "see `tools/a.c`, `b.rs`, docs/c.md. `$A/docs/d` `e/f:g` `/h/i` `target/j`\n./integration/k\n";
    let named: Vec<_> = named_files(example).into_iter().collect();
    assert_eq!(named, ["b.rs", "docs/c.md", "integration/k", "tools/a.c"]);
    let mut absent = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for path in named_files(&text) {
            let places = [repository(), page.parent().unwrap()];
            if !places.iter().any(|place| place.join(path).exists()) {
                absent.push(format!("{}: {path}", page.display()));
            }
        }
    }
    assert!(absent.is_empty(), "{absent:#?}");
}

#[test]
fn every_link_leads_somewhere() {
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let targets = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let to = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            assert!(to.exists(), "{}: {target}", page.display());
            if !anchor.is_empty() {
                let there = fs::read_to_string(to).unwrap();
                let anchors: Vec<_> = there
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .map(anchor_of)
                    .collect();
                assert!(
                    anchors.iter().any(|one| one == anchor),
                    "{}: {target}",
                    page.display()
                );
            }
        }
    }
}

/// The docs directory's index names each of its pages.
#[test]
fn the_index_names_every_page() {
    let index = text("docs/README.md");
    for page in files(&repository().join("docs"), "md") {
        let name = page
            .strip_prefix(repository().join("docs"))
            .unwrap()
            .display()
            .to_string();
        assert!(
            name == "README.md" || index.contains(&format!("]({name})")),
            "{name}"
        );
    }
}

/// As forges make it of a heading: lower case, dashes for spaces, no punctuation.
fn anchor_of(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}
