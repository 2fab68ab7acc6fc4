//! The rooms of the house: which part of `src/` knows which, that no two of them know each other, and that none knows
//! what it must not.
//!
//! A room is a module at the top of `src/lib.rs`. What counts is every path that begins at the root of the crate, in
//! code that is not for tests alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use integration::repository;
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// Rooms that must not know others, however far below those stand.
const MUST_NOT_KNOW: [(&[&str], &[&str]); 4] = [
    (
        &[
            "payload",
            "content_store",
            "image",
            "cipher",
            "keys",
            "schemes",
        ],
        &["hsm", "agent", "software", "commands", "cli"],
    ),
    (&["commands"], &["cli"]),
    (
        &[
            "escape",
            "secret",
            "digest",
            "descriptor",
            "words",
            "operation",
            "file",
        ],
        &[
            "envelope", "options", "keys", "schemes", "cipher", "image", "hsm", "commands", "error",
        ],
    ),
    (&["telemetry"], &["commands", "hsm", "settings", "error"]),
];

/// Rooms that stand on both ends of an arrow for now: their errors are being moved out. One that is in no circle any more
/// has to be taken off.
const BEING_DISSOLVED: &[&str] = &[];

/// What reads the environment, in the standard library and in that for temporary files, which asks for `TMPDIR`.
const READ_THE_ENVIRONMENT: [&str; 9] = [
    "env::var",
    "env::{",
    "use std::env::",
    "env::temp_dir",
    "env::home_dir",
    "tempfile()",
    "tempdir()",
    "TempDir::new",
    "NamedTempFile::new()",
];

/// Which room knows which, and the first file that says so.
type Arrows = BTreeMap<String, BTreeMap<String, PathBuf>>;

#[test]
fn no_circle_of_rooms() {
    let mut arrows = arrows();
    for room in BEING_DISSOLVED {
        assert!(
            reached(&arrows, room).contains(*room),
            "{room} is in no circle: take it off BEING_DISSOLVED"
        );
        arrows.remove(*room);
    }
    if let Some(circle) = circle(&arrows) {
        let steps: Vec<String> = (circle.windows(2))
            .map(|step| {
                let file = arrows[&step[0]][&step[1]].display();
                format!("{} -> {} in {file}", step[0], step[1])
            })
            .collect();
        panic!("rooms know each other in a circle:\n{}", steps.join("\n"));
    }
}

#[test]
fn no_room_knows_what_it_must_not() {
    let arrows = arrows();
    let mut wrong = Vec::new();
    for (rooms, others) in MUST_NOT_KNOW {
        for room in rooms {
            for (other, file) in arrows.get(*room).into_iter().flatten() {
                if others.contains(&other.as_str()) && !BEING_DISSOLVED.contains(&other.as_str()) {
                    wrong.push(format!("{room} -> {other} in {}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `doctor` can only tell what a decoder works with as long as everything that the decoder reads is in one place.
#[test]
fn nothing_below_the_settings_reads_the_environment() {
    let root = repository().join("src");
    let (mut directories, mut reading) = (vec![root.clone()], BTreeSet::new());
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                let is_test = path.ends_with("tests.rs");
                if !is_test && READ_THE_ENVIRONMENT.iter().any(|it| text.contains(it)) {
                    reading.insert(path.strip_prefix(&root).unwrap().to_owned());
                }
            }
        }
    }
    assert_eq!(reading, BTreeSet::from(["settings.rs".into()]));
}

#[test]
fn paths_are_found_wherever_they_stand() {
    let known = |source: &str, depth| {
        let mut module = Module::default();
        module.read(source.parse().unwrap(), depth);
        module.known.into_iter().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(known("use crate::keys::ring::KeyRing;", 1), "keys");
    assert_eq!(
        known("use crate::{cipher, keys::{a, b}};", 1),
        "cipher keys"
    );
    assert_eq!(
        known("fn f() { println!(\"{}\", crate::hsm::X); }", 1),
        "hsm"
    );
    assert_eq!(known("pub(crate) fn f() {}", 1), "");
    assert_eq!(known("use super::envelope;", 1), "envelope");
    assert_eq!(known("use super::{super::spoil, other};", 2), "spoil");
    assert_eq!(known("use super::sibling;", 2), "");
    assert_eq!(known("mod inner { use super::super::image; }", 1), "image");
    assert_eq!(
        known(
            "#[cfg(test)] mod tests { use crate::hsm; } use crate::keys;",
            1
        ),
        "keys"
    );
    assert_eq!(known("#[cfg(test)] use crate::hsm; fn f() {}", 1), "");
}

#[test]
fn a_circle_is_found_and_told_from_its_beginning_to_its_end() {
    let arrows = |pairs: &[(&str, &str)]| {
        let mut arrows = Arrows::new();
        for (from, to) in pairs {
            let known = arrows.entry((*from).to_owned()).or_default();
            known.insert((*to).to_owned(), PathBuf::new());
        }
        arrows
    };
    assert_eq!(circle(&arrows(&[("a", "b"), ("b", "c"), ("a", "c")])), None);
    let found = circle(&arrows(&[("a", "b"), ("b", "c"), ("c", "b"), ("d", "a")]));
    assert_eq!(found.unwrap(), ["b", "c", "b"]);
}

/// One module's files, as far as they matter here.
#[derive(Default)]
struct Module {
    /// Rooms that it knows.
    known: BTreeSet<String>,
    /// Modules in files of their own.
    files: Vec<String>,
}

/// The arrows between the rooms of this repository.
fn arrows() -> Arrows {
    let root = repository().join("src");
    let mut top = Module::default();
    top.read(source(&root.join("lib.rs")), 0);
    assert!(top.files.len() > 10, "{:?}", top.files);
    let mut arrows = Arrows::new();
    for room in &top.files {
        let mut files = vec![(root.clone(), room.clone(), 1)];
        while let Some((directory, name, depth)) = files.pop() {
            let below = directory.join(&name);
            let alone = directory.join(format!("{name}.rs"));
            let file = if alone.exists() {
                alone
            } else {
                below.join("mod.rs")
            };
            let mut module = Module::default();
            module.read(source(&file), depth);
            for known in module.known {
                // What the root exports under its own name is of the room `commands`.
                let known = match known.as_str() {
                    "Error" | "Result" => "commands".to_owned(),
                    _ => known,
                };
                if known != *room && top.files.contains(&known) {
                    let file = file.strip_prefix(&root).unwrap().to_owned();
                    let known_by = arrows.entry(room.clone()).or_default();
                    known_by.entry(known).or_insert(file);
                }
            }
            files.extend(
                module
                    .files
                    .into_iter()
                    .map(|name| (below.clone(), name, depth + 1)),
            );
        }
    }
    arrows
}

fn source(path: &Path) -> TokenStream {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

impl Module {
    /// Looks through the code of a module that stands so many modules below the root.
    fn read(&mut self, tokens: TokenStream, depth: usize) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut rest = &tokens[..];
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            match first {
                TokenTree::Punct(punct) if punct.as_char() == '#' && is_for_tests(rest) => {
                    rest = after_item(rest);
                }
                TokenTree::Ident(word) if word == "mod" => match rest {
                    [TokenTree::Ident(name), TokenTree::Punct(end), ..] if end.as_char() == ';' => {
                        self.files.push(name.to_string());
                    }
                    [TokenTree::Ident(_), TokenTree::Group(body), after @ ..] => {
                        self.read(body.stream(), depth + 1);
                        rest = after;
                    }
                    _ => {}
                },
                TokenTree::Ident(word) if word == "crate" => rest = self.path(rest, 0),
                TokenTree::Ident(word) if word == "super" => {
                    rest = self.path(rest, depth.saturating_sub(1));
                }
                TokenTree::Group(group) => self.read(group.stream(), depth),
                _ => {}
            }
        }
    }

    /// Takes a path that goes on from `above` modules below the root; returns what comes after it.
    fn path<'a>(&mut self, mut rest: &'a [TokenTree], mut above: usize) -> &'a [TokenTree] {
        while let Some(after) = after_colons(rest) {
            match after.split_first() {
                Some((TokenTree::Ident(word), after)) if word == "super" => {
                    above = above.saturating_sub(1);
                    rest = after;
                }
                Some((TokenTree::Ident(word), after)) => {
                    if above == 0 {
                        self.known.insert(word.to_string());
                    }
                    return after;
                }
                Some((TokenTree::Group(group), after)) => {
                    self.list(group, above);
                    return after;
                }
                _ => return after,
            }
        }
        rest
    }

    /// Takes the paths in braces, which all go on from the same place.
    fn list(&mut self, group: &Group, above: usize) {
        let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
        let is_comma =
            |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
        for path in tokens.split(is_comma) {
            match path.split_first() {
                Some((TokenTree::Ident(word), after)) if word == "super" => {
                    self.path(after, above.saturating_sub(1));
                }
                Some((TokenTree::Ident(word), _)) if above == 0 => {
                    self.known.insert(word.to_string());
                }
                _ => {}
            }
        }
    }
}

fn after_colons(tokens: &[TokenTree]) -> Option<&[TokenTree]> {
    match tokens {
        [TokenTree::Punct(one), TokenTree::Punct(two), rest @ ..]
            if one.as_char() == ':' && two.as_char() == ':' =>
        {
            Some(rest)
        }
        _ => None,
    }
}

/// Whether an attribute begins here that is `cfg(test)`.
fn is_for_tests(tokens: &[TokenTree]) -> bool {
    match tokens {
        [TokenTree::Group(group), ..] if group.delimiter() == Delimiter::Bracket => {
            let text = group.stream().to_string();
            text.replace(' ', "") == "cfg(test)"
        }
        _ => false,
    }
}

/// What comes after the item that begins here: it ends in a semicolon or in braces.
fn after_item(tokens: &[TokenTree]) -> &[TokenTree] {
    let end = tokens.iter().position(|token| match token {
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        _ => false,
    });
    end.map_or(&[], |end| &tokens[end + 1..])
}

/// All that a room knows, be it through others.
fn reached(arrows: &Arrows, room: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut open = vec![room.to_owned()];
    while let Some(room) = open.pop() {
        for known in arrows.get(&room).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(known.clone()) {
                open.push(known.clone());
            }
        }
    }
    reached
}

/// Some circle, with its first room again at its end.
fn circle(arrows: &Arrows) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    arrows
        .keys()
        .find_map(|room| walk(arrows, room, &mut Vec::new(), &mut done))
}

fn walk(
    arrows: &Arrows,
    room: &str,
    way: &mut Vec<String>,
    done: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    if let Some(start) = way.iter().position(|passed| passed == room) {
        let mut circle = way[start..].to_vec();
        circle.push(room.to_owned());
        return Some(circle);
    }
    if done.contains(room) {
        return None;
    }
    way.push(room.to_owned());
    let known = arrows.get(room).into_iter().flat_map(BTreeMap::keys);
    let found = known
        .into_iter()
        .find_map(|known| walk(arrows, known, way, done));
    way.pop();
    done.insert(room.to_owned());
    found
}
