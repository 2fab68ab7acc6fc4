//! Tests of writing layouts: whole or not at all, and beside others.

use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::*;
use crate::image::layout::digest_of;
use crate::image::selection::Selection;
use crate::image::source::Source as _;

fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor::new(media_type::MANIFEST, digest_of(bytes), bytes.len() as u64)
}

fn write(directory: &Path, tag: Option<&str>, bytes: &[u8]) -> Result<()> {
    let destination = Destination::prepare(directory, tag, true)?;
    destination.put(&descriptor(bytes), bytes)?;
    destination.commit(descriptor(bytes))
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn find(layout: &Layout, tag: &str) -> Result<Descriptor> {
    layout.entry(&Selection::Tag(tag.to_owned()), None)
}

#[test]
fn a_new_layout_appears_whole() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("new");
    write(&path, Some("a"), b"{}").unwrap();
    assert_eq!(names(dir.path()), ["new"]);
    assert_eq!(names(&path), ["blobs", "index.json", "oci-layout"]);
    let layout = Layout::open(&path).unwrap();
    let entry = find(&layout, "a").unwrap();
    assert_eq!(layout.document(&entry).unwrap(), b"{}");
    // As the umask of whoever runs the tests has it, which lets the owner in, and is no private file's.
    let reference = dir.path().join("reference");
    fs::write(&reference, "").unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&layout.path(&entry.digest)), mode(&reference));
    fs::remove_file(&reference).unwrap();
    fs::create_dir(&reference).unwrap();
    assert_eq!(mode(&path), mode(&reference));
}

#[test]
fn an_empty_directory_is_filled() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("empty");
    fs::create_dir(&path).unwrap();
    write(&path, None, b"{}").unwrap();
    assert!(
        Layout::open(&path)
            .unwrap()
            .entry(&Selection::Only, None)
            .is_ok()
    );
    assert_eq!(names(&path), ["blobs", "index.json", "oci-layout"]);
}

#[test]
fn what_a_killed_run_began_is_completed() {
    let dir = TempDir::new().unwrap();
    for left in [&[INDEX][..], &[INDEX, MARKER]] {
        let path = dir.path().join(left.len().to_string());
        write(&path, Some("a"), b"1").unwrap();
        for name in left {
            fs::remove_file(path.join(name)).unwrap();
        }
        for (tag, bytes) in [("b", b"2"), ("a", b"1")] {
            write(&path, Some(tag), bytes).unwrap();
            let layout = Layout::open(&path).unwrap();
            let entry = find(&layout, tag).unwrap();
            assert_eq!(layout.document(&entry).unwrap(), bytes);
        }
        assert_eq!(names(&path), ["blobs", "index.json", "oci-layout"]);
    }
}

#[test]
fn blobs_of_something_else_are_left_alone() {
    let dir = TempDir::new().unwrap();
    fs::create_dir_all(dir.path().join(BLOBS)).unwrap();
    fs::write(dir.path().join(BLOBS).join("notes"), "mine").unwrap();
    let error = write(dir.path(), Some("a"), b"{}").unwrap_err();
    assert!(matches!(error, Error::NotALayout { .. }), "{error}");
    assert_eq!(names(dir.path()), ["blobs"]);
}

#[test]
fn nothing_is_left_without_a_commit() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("new");
    let destination = Destination::prepare(&path, None, false).unwrap();
    destination.put(&descriptor(b"{}"), b"{}").unwrap();
    assert_eq!(names(dir.path()).len(), 1);
    drop(destination);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn an_image_is_added_or_takes_the_place_of_its_tag() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("layout");
    write(&path, Some("a"), b"1").unwrap();
    write(&path, Some("b"), b"2").unwrap();
    write(&path, Some("a"), b"3").unwrap();
    let layout = Layout::open(&path).unwrap();
    let read = |tag| layout.document(&find(&layout, tag).unwrap()).unwrap();
    assert_eq!(read("a"), b"3");
    assert_eq!(read("b"), b"2");
    assert_eq!(names(&path), ["blobs", "index.json", "oci-layout"]);
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("notes"), "mine").unwrap();
    let error = write(dir.path(), Some("a"), b"{}").unwrap_err();
    assert!(matches!(error, Error::NotALayout { .. }), "{error}");
    assert_eq!(names(dir.path()), ["notes"]);
}

#[test]
fn another_image_needs_a_tag() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("layout");
    write(&path, Some("a"), b"1").unwrap();
    let error = write(&path, None, b"2").unwrap_err();
    assert!(matches!(error, Error::TagNeeded { .. }), "{error}");
}

#[test]
fn a_failed_commit_takes_its_blobs_back() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("layout");
    write(&path, Some("a"), b"1").unwrap();
    let destination = Destination::prepare(&path, Some("b"), false).unwrap();
    destination.put(&descriptor(b"2"), b"2").unwrap();
    let index = path.join(INDEX);
    let text = fs::read(&index).unwrap();
    // The blob is moved before the index; a directory in the index's place stops the latter.
    fs::remove_file(&index).unwrap();
    fs::create_dir(&index).unwrap();
    fs::write(index.join("x"), "").unwrap();
    let layout = Layout::open(&path).unwrap();
    let entry = descriptor(b"2");
    let Err(Error::Read(_)) = destination.commit(entry.clone()) else {
        panic!("a directory was replaced by a file");
    };
    assert!(!layout.has(&entry).unwrap());
    fs::remove_dir_all(&index).unwrap();
    fs::write(&index, text).unwrap();
    assert_eq!(names(&path), ["blobs", "index.json", "oci-layout"]);
}

#[test]
fn two_writers_at_once_lose_no_image() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("layout");
    write(&path, Some("a"), b"{}").unwrap();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let path = &path;
            scope.spawn(move || {
                let bytes = number.to_string();
                write(path, Some(&format!("t{number}")), bytes.as_bytes()).unwrap();
            });
        }
    });
    let layout = Layout::open(&path).unwrap();
    for number in 0..8 {
        assert!(find(&layout, &format!("t{number}")).is_ok());
    }
}

#[test]
fn many_writers_to_one_new_place_lose_no_image() {
    let dir = TempDir::new().unwrap();
    for round in 0..5 {
        let path = dir.path().join(format!("new{round}"));
        // All find nothing there.
        let prepared = std::sync::Barrier::new(6);
        std::thread::scope(|scope| {
            for number in 0..6 {
                let (path, prepared) = (&path, &prepared);
                scope.spawn(move || {
                    let bytes = number.to_string();
                    let bytes = bytes.as_bytes();
                    let tag = format!("t{number}");
                    let destination = Destination::prepare(path, Some(&tag), false).unwrap();
                    destination.put(&descriptor(bytes), bytes).unwrap();
                    prepared.wait();
                    destination.commit(descriptor(bytes)).unwrap();
                });
            }
        });
        let layout = Layout::open(&path).unwrap();
        for number in 0..6 {
            let entry = find(&layout, &format!("t{number}")).unwrap();
            let bytes = number.to_string();
            assert_eq!(layout.document(&entry).unwrap(), bytes.as_bytes());
        }
    }
}

#[test]
fn containerds_name_stays_with_its_tag_alone() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("layout");
    for (tag, kept) in [("latest", true), ("enc", false)] {
        let mut entry = descriptor(b"{}");
        let mut annotate = |name: &str, value: &str| {
            entry.annotations.insert(name.to_owned(), value.to_owned());
        };
        annotate(REF_NAME, "latest");
        annotate(CONTAINERD_NAME, "example.test/a:latest");
        Destination::prepare(&path, Some(tag), false)
            .unwrap()
            .commit(entry)
            .unwrap();
        let entry = find(&Layout::open(&path).unwrap(), tag).unwrap();
        assert_eq!(entry.annotations.contains_key(CONTAINERD_NAME), kept);
    }
}

#[test]
fn a_tag_is_replaced_only_with_force() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("layout");
    write(&path, Some("a"), b"1").unwrap();
    let taken = Destination::prepare(&path, Some("a"), false).unwrap_err();
    assert!(matches!(taken, Error::TagTaken { .. }), "{taken}");
    // One that came meanwhile is not replaced either.
    let slow = Destination::prepare(&path, Some("b"), false).unwrap();
    write(&path, Some("b"), b"2").unwrap();
    slow.put(&descriptor(b"3"), b"3").unwrap();
    let taken = slow.commit(descriptor(b"3")).unwrap_err();
    assert!(matches!(taken, Error::TagTaken { .. }), "{taken}");
    let layout = Layout::open(&path).unwrap();
    let entry = find(&layout, "b").unwrap();
    assert_eq!(layout.document(&entry).unwrap(), b"2");
    assert_eq!(names(&path), ["blobs", "index.json", "oci-layout"]);
}

#[test]
fn all_of_one_tag_are_replaced() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("layout");
    for (tag, bytes) in [("a", b"1"), ("b", b"2"), ("c", b"3"), ("d", b"4")] {
        write(&path, Some(tag), bytes).unwrap();
    }
    let text = fs::read_to_string(path.join(INDEX)).unwrap();
    fs::write(path.join(INDEX), text.replace("\"d\"", "\"b\"")).unwrap();
    write(&path, Some("b"), b"5").unwrap();
    let layout = Layout::open(&path).unwrap();
    let index: Value = serde_json::from_slice(&layout.index().unwrap()).unwrap();
    let digests = index["manifests"].as_array().unwrap().iter();
    let digests: Vec<_> = digests.map(|entry| entry["digest"].clone()).collect();
    let expected = [b"1", b"5", b"3"].map(|bytes| Value::from(digest_of(bytes).to_string()));
    assert_eq!(digests, expected);
}

#[test]
fn the_second_of_two_writers_to_a_new_place_adds_to_it() {
    let dir = TempDir::new().unwrap();
    for (name, is_there) in [("new", false), ("empty", true)] {
        let path = dir.path().join(name);
        if is_there {
            fs::create_dir(&path).unwrap();
        }
        let prepare = |tag| Destination::prepare(&path, Some(tag), false).unwrap();
        let (first, second) = (prepare("a"), prepare("b"));
        first.put(&descriptor(b"1"), b"1").unwrap();
        second.put(&descriptor(b"2"), b"2").unwrap();
        first.commit(descriptor(b"1")).unwrap();
        second.commit(descriptor(b"2")).unwrap();
        let layout = Layout::open(&path).unwrap();
        for (tag, bytes) in [("a", b"1"), ("b", b"2")] {
            let entry = find(&layout, tag).unwrap();
            assert_eq!(layout.document(&entry).unwrap(), bytes);
        }
        assert_eq!(names(&path), ["blobs", "index.json", "oci-layout"]);
    }
}
