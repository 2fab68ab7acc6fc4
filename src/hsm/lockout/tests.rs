use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::*;

fn token(serial: &str) -> TokenInfo {
    TokenInfo {
        slot: 1,
        label: "prod".to_owned(),
        manufacturer: "m".to_owned(),
        model: "x".to_owned(),
        serial: serial.to_owned(),
        flags: 0,
    }
}

fn file(name: &str, object: &str) -> KeyFile {
    KeyFile {
        name: name.to_owned(),
        uri: format!("pkcs11:token=prod;object={object}")
            .parse()
            .unwrap(),
        pin_place: None,
        env: BTreeMap::new(),
        init: None,
    }
}

fn pin(text: &str) -> Pin {
    Pin::new(text.to_owned()).unwrap()
}

fn lockout() -> (tempfile::TempDir, Lockout) {
    let directory = tempfile::tempdir().unwrap();
    let lockout = Lockout::open(Some(&directory.path().join("run")));
    assert_eq!(lockout.trouble(), None);
    (directory, lockout)
}

fn is_refused(lockout: &Lockout, serial: &str, pin_text: &str, file: &KeyFile) -> bool {
    lockout
        .attempt(&token(serial), &pin(pin_text), file)
        .is_err()
}

/// The token rejects the PIN; whether that is on record.
fn reject(lockout: &Lockout, pin_text: &str, file: &KeyFile) -> bool {
    let pin = pin(pin_text);
    lockout.attempt(&token("1"), &pin, file).unwrap().rejected()
}

#[test]
fn a_rejected_pin_is_refused_from_every_file_until_it_changes() {
    let (_directory, lockout) = lockout();
    let here = file("/keys/a.yaml", "a");
    assert!(!is_refused(&lockout, "1", "0000", &here));
    assert!(reject(&lockout, "0000", &here));
    assert!(is_refused(&lockout, "1", "0000", &here));
    assert!(is_refused(
        &lockout,
        "1",
        "0000",
        &file("/keys/b.yaml", "b")
    ));
    assert!(!is_refused(&lockout, "1", "1111", &here));
    assert!(!is_refused(&lockout, "2", "0000", &here));
}

#[test]
fn a_changed_key_file_is_tried_once_more() {
    let (_directory, lockout) = lockout();
    assert!(reject(&lockout, "0000", &file("/keys/a.yaml", "a")));
    let changed = file("/keys/a.yaml", "another");
    assert!(!is_refused(&lockout, "1", "0000", &changed));
    assert!(reject(&lockout, "0000", &changed));
    assert!(is_refused(&lockout, "1", "0000", &changed));
}

#[test]
fn keys_of_a_payload_do_not_count_as_changed_files() {
    let (_directory, lockout) = lockout();
    let name = "key 1 of the payload";
    assert!(reject(&lockout, "0000", &file(name, "a")));
    assert!(is_refused(&lockout, "1", "0000", &file(name, "b")));
}

#[test]
fn forgetting_is_by_label() {
    let (_directory, lockout) = lockout();
    assert!(reject(&lockout, "0000", &file("/a", "a")));
    assert!(lockout.forget(Some("test")).unwrap().is_empty());
    assert_eq!(lockout.forget(Some("prod")).unwrap(), ["prod"]);
    assert!(!is_refused(&lockout, "1", "0000", &file("/a", "a")));
}

#[test]
fn the_directory_holds_no_pin_and_is_ours_alone() {
    let (directory, lockout) = lockout();
    assert!(reject(&lockout, "24681357", &file("/a", "a")));
    for entry in fs::read_dir(directory.path().join("run")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600);
        let text = fs::read_to_string(entry.path()).unwrap();
        assert!(!text.contains("24681357"), "{text}");
    }
}

#[test]
fn what_came_of_an_attempt_leaves_no_other_file() {
    let (directory, lockout) = lockout();
    let names = || -> Vec<String> {
        let entries = fs::read_dir(directory.path().join("run")).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| {
                entry
                    .unwrap()
                    .path()
                    .extension()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        names.sort();
        names
    };
    let (here, good, bad) = (file("/a", "a"), pin("1111"), pin("0000"));
    lockout
        .attempt(&token("1"), &good, &here)
        .unwrap()
        .accepted();
    drop(lockout.attempt(&token("1"), &good, &here).unwrap());
    assert_eq!(names(), ["lock"]);
    assert!(
        lockout
            .attempt(&token("1"), &bad, &here)
            .unwrap()
            .rejected()
    );
    lockout
        .attempt(&token("1"), &good, &here)
        .unwrap()
        .accepted();
    assert_eq!(names(), ["lock", "rejected"]);
    // The token was given that PIN since, and a changed file says so.
    let changed = file("/a", "b");
    lockout
        .attempt(&token("1"), &bad, &changed)
        .unwrap()
        .accepted();
    assert_eq!(names(), ["lock"]);
}

#[test]
fn a_broken_record_is_replaced() {
    let (directory, lockout) = lockout();
    let here = file("/a", "a");
    assert!(reject(&lockout, "0000", &here));
    let path = lockout.rejected_path(&token("1")).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"salt\":\"", "\"salt\":\"0")).unwrap();
    assert!(!is_refused(&lockout, "1", "0000", &here));
    assert!(reject(&lockout, "0000", &here));
    assert!(is_refused(&lockout, "1", "0000", &here));
    drop(directory);
}

#[test]
fn what_cannot_be_reserved_is_said_before_the_login() {
    let (directory, lockout) = lockout();
    let here = file("/a", "a");
    let wrong = pin("0000");
    // A directory in the place of the file stands for a disk without room.
    let path = lockout.rejected_path(&token("1")).unwrap();
    fs::create_dir(path.with_extension("new")).unwrap();
    let attempt = lockout.attempt(&token("1"), &wrong, &here).unwrap();
    assert!(!attempt.is_guarded() && !attempt.rejected());
    let nowhere = Lockout::open(Some(Path::new("/dev/null")));
    let attempt = nowhere.attempt(&token("1"), &wrong, &here).unwrap();
    assert!(!attempt.is_guarded() && !attempt.rejected());
    assert!(nowhere.trouble().unwrap().contains("not a directory"));
    drop(directory);
}

#[test]
fn a_directory_that_others_see_is_closed_to_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let lockout = Lockout::open(Some(&path));
    assert_eq!(lockout.trouble(), None);
    assert!(reject(&lockout, "0000", &file("/a", "a")));
    assert!(is_refused(&lockout, "1", "0000", &file("/a", "a")));
}
