//! What the pages say of the sources and of one another: every variable that is read stands in its table, the example of
//! the cipher is one of its vectors, every link leads somewhere, and every file that is named is there.

mod variables;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use integration::{repository, vector};
use serde_json::Value;

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
