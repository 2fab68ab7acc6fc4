//! What the pages say of the sources and of one another: every variable that is read stands in its table, the example of
//! the cipher is one of its vectors, every link leads somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use integration::{repository, vector};
use serde_json::Value;

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

/// The words of a text that begin so and are written as variables are.
fn variables(text: &str, prefix: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    text.split(|c| !is_word(c))
        .filter(|word| word.starts_with(prefix) && word.len() > prefix.len())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_variable_of_ours_is_in_the_table() {
    let table = text("docs/environment.md");
    let rows: Vec<&str> = table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let mut read = BTreeSet::new();
    for file in files(&repository().join("src"), "rs") {
        if file.ends_with("tests.rs") {
            continue;
        }
        let source = fs::read_to_string(file).unwrap();
        for prefix in ["OCIHSM_", "OCICRYPT_"] {
            // As a string: what is looked up, or shown by --help.
            let strings = source.split('"').skip(1).step_by(2);
            read.extend(strings.flat_map(|string| variables(string, prefix)));
        }
    }
    // Known when it is built.
    read.retain(|variable| !variable.starts_with("OCIHSM_BUILD_"));
    assert!(read.contains("OCIHSM_CONTENT_STORE"), "{read:?}");
    for variable in read {
        let name = format!("`{variable}`");
        assert!(rows.iter().any(|row| row.contains(&name)), "{variable}");
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

#[test]
fn every_link_leads_somewhere() {
    let mut pages = files(&repository().join("docs"), "md");
    pages.extend(files(&repository().join("examples"), "md"));
    pages.extend(files(&repository().join("integration"), "md"));
    for entry in fs::read_dir(repository()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    for page in pages {
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
