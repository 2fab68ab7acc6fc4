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

/// As a login begins.
fn attempt<'a>(
    lockout: &Lockout,
    serial: &str,
    pin: &'a Pin,
    file: &'a KeyFile,
) -> Result<Attempt<'a>, Before> {
    let token = token(serial);
    let marks = lockout.marks(&token, pin, file);
    lockout.attempt(&token, lockout.token_turn(&token), pin, file, marks)
}

fn is_refused(lockout: &Lockout, serial: &str, pin_text: &str, file: &KeyFile) -> bool {
    attempt(lockout, serial, &pin(pin_text), file).is_err()
}

/// The token rejects the PIN; whether that is on record.
fn reject(lockout: &Lockout, pin_text: &str, file: &KeyFile) -> bool {
    let pin = pin(pin_text);
    attempt(lockout, "1", &pin, file).unwrap().rejected()
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
fn a_rejected_pin_stays_so_whatever_else_its_key_file_comes_to_say() {
    let (_directory, lockout) = lockout();
    assert!(reject(&lockout, "0000", &file("/keys/a.yaml", "a")));
    let changed = file("/keys/a.yaml", "another");
    assert!(is_refused(&lockout, "1", "0000", &changed));
    assert!(!is_refused(&lockout, "1", "1111", &changed));
}

#[test]
fn keys_of_a_payload_do_not_count_as_changed_files() {
    let (_directory, lockout) = lockout();
    let name = OF_PAYLOAD;
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
    attempt(&lockout, "1", &good, &here).unwrap().accepted();
    drop(attempt(&lockout, "1", &good, &here).unwrap());
    assert_eq!(names(), ["lock"]);
    assert!(attempt(&lockout, "1", &bad, &here).unwrap().rejected());
    attempt(&lockout, "1", &good, &here).unwrap().accepted();
    assert_eq!(names(), ["lock", "rejected"]);
    // The token was given that PIN since, and somebody says so.
    lockout.forget(None).unwrap();
    attempt(&lockout, "1", &bad, &here).unwrap().accepted();
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
    let began = attempt(&lockout, "1", &wrong, &here).unwrap();
    assert!(!began.is_guarded() && !began.rejected());
    let nowhere = Lockout::open(Some(Path::new("/dev/null")));
    let began = attempt(&nowhere, "1", &wrong, &here).unwrap();
    assert!(!began.is_guarded() && !began.rejected());
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

/// A login during which the process ends: what it put down stays, and the lock goes.
fn die(lockout: &Lockout, pin: &Pin, file: &KeyFile, wait: Duration) {
    let attempt = attempt(lockout, "1", pin, file).unwrap();
    attempt.during(|| thread::sleep(wait));
    let path = lockout.rejected_path(&token("1")).unwrap();
    let left = path.with_extension(private::BESIDE);
    let content = fs::read(&left).unwrap();
    drop(attempt);
    fs::write(left, content).unwrap();
}

/// A key file that is there, and was not written just now.
fn settled(directory: &Path, name: &str) -> KeyFile {
    let path = directory.join(name);
    fs::write(&path, "x").unwrap();
    thread::sleep(Duration::from_millis(3100));
    file(path.to_str().unwrap(), "a")
}

#[test]
fn a_pin_without_an_answer_is_not_tried_again_until_its_file_changes() {
    let (directory, lockout) = lockout();
    let here = settled(directory.path(), "a.yaml");
    die(&lockout, &pin("0000"), &here, Duration::ZERO);
    for _ in 0..2 {
        let again = pin("0000");
        assert_eq!(
            attempt(&lockout, "1", &again, &here).map(drop),
            Err(Before::Unanswered)
        );
    }
    assert!(!is_refused(&lockout, "2", "0000", &here));
    // Written anew, it may hold another PIN; the same one stays what it is until the file says something else.
    fs::write(&here.name, "y").unwrap();
    assert!(is_refused(&lockout, "1", "0000", &here));
    assert!(!is_refused(&lockout, "1", "1111", &here));
    assert!(!is_refused(&lockout, "1", "0000", &file(&here.name, "b")));
}

#[test]
fn a_pin_that_takes_its_time_is_known_in_other_files_too() {
    let (_directory, lockout) = lockout();
    let payload = file(OF_PAYLOAD, "a");
    die(&lockout, &pin("0000"), &payload, Duration::ZERO);
    assert!(
        !is_refused(&lockout, "1", "0000", &payload),
        "nothing tells it"
    );
    die(&lockout, &pin("0000"), &payload, SOON * 2);
    for other in [&payload, &file("/keys/b.yaml", "b")] {
        assert!(is_refused(&lockout, "1", "0000", other));
        assert!(!is_refused(&lockout, "1", "1111", other));
    }
    assert_eq!(lockout.forget(None).unwrap(), ["prod"]);
    assert!(!is_refused(&lockout, "1", "0000", &payload));
}

#[test]
fn a_file_that_works_is_tried_again_after_no_answer() {
    let (directory, lockout) = lockout();
    let here = settled(directory.path(), "a.yaml");
    let right = pin("1111");
    attempt(&lockout, "1", &right, &here).unwrap().accepted();
    die(&lockout, &right, &here, SOON * 2);
    assert!(!is_refused(&lockout, "1", "1111", &here));
    assert!(lockout.forget(None).unwrap().is_empty());
}

#[test]
fn what_a_dead_process_left_half_written_goes() {
    let (_directory, lockout) = lockout();
    let here = file("/a", "a");
    let left = lockout
        .rejected_path(&token("1"))
        .unwrap()
        .with_extension(private::BESIDE);
    fs::write(&left, "{\"version\":1,").unwrap();
    assert!(!is_refused(&lockout, "1", "0000", &here));
    assert!(!left.exists());
}

#[test]
fn who_hangs_with_the_turn_of_a_module_is_not_waited_for() {
    let (directory, lockout) = lockout();
    let env = BTreeMap::new();
    let place = Place {
        module: Path::new("/m.so"),
        env: &env,
    };
    let hangs = lockout.turn(place);
    let begin = Instant::now();
    let passed = lockout.turn(place);
    assert!(passed.lock.is_none() && begin.elapsed() >= STUCK);
    drop(hangs);
    assert!(lockout.turn(place).lock.is_some());
    // Those who come and go are waited for, however long all of them take.
    let begin = Instant::now();
    thread::scope(|scope| {
        for _ in 0..5 {
            let lockout = &lockout;
            scope.spawn(move || {
                let turn = lockout.turn(place);
                assert!(turn.lock.is_some());
                thread::sleep(STUCK / 4);
            });
        }
    });
    assert!(begin.elapsed() > STUCK);
    drop(directory);
}
