use super::*;

fn file(name: &str) -> KeyFile {
    KeyFile {
        name: name.to_owned(),
        uri: "pkcs11:token=t;object=o".parse().unwrap(),
        pin_place: None,
        env: BTreeMap::new(),
        init: None,
    }
}

fn pin(text: &str) -> Pin {
    Pin::new(text.to_owned()).unwrap()
}

fn with(text: &str) -> Rejected {
    let mut rejected = Rejected::new("t").unwrap();
    let marks = rejected.marks(&pin(text), &file("/k"));
    rejected.add(Before::Rejected, marks, &file("/k"));
    rejected
}

#[test]
fn a_broken_record_counts_for_nothing_and_is_no_panic() {
    let whole = with("0000").to_json();
    assert!(Rejected::parse(&whole).is_some());
    for length in 0..whole.len() {
        assert!(Rejected::parse(&whole[..length]).is_none(), "{length}");
    }
    let text = String::from_utf8(whole).unwrap();
    let salt = text.split("\"salt\":\"").nth(1).unwrap()[..32].to_owned();
    for (from, to) in [
        (salt.as_str(), ""),
        (salt.as_str(), "00"),
        (salt.as_str(), &"ü".repeat(16)),
        (salt.as_str(), &salt.repeat(2)),
        ("\"version\":1", "\"version\":2"),
        ("\"pins\":[", "\"pins\":[{},"),
    ] {
        let changed = text.replace(from, to);
        assert_ne!(changed, text);
        assert!(Rejected::parse(changed.as_bytes()).is_none(), "{changed}");
    }
    // One byte after another: whatever is still a record can be used.
    for at in 0..text.len() {
        for byte in [b'"', b'0', b'}', 0xff] {
            let mut changed = text.clone().into_bytes();
            changed[at] = byte;
            if let Some(rejected) = Rejected::parse(&changed) {
                assert_eq!(rejected.salt.len(), 32);
            }
        }
    }
}

#[test]
fn a_file_that_works_is_known_until_it_changes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("k.yaml");
    fs::write(&path, "a").unwrap();
    let file = file(path.to_str().unwrap());
    let mut rejected = with("0000");
    let later = SystemTime::now() + Duration::from_secs(10);
    assert!(
        !rejected.took(None, &file, SystemTime::now()),
        "it may be another by now"
    );
    assert!(rejected.took(None, &file, later) && rejected.is_working(&file));
    assert!(!rejected.took(None, &file, later));
    fs::write(&path, "b").unwrap();
    assert!(!rejected.is_working(&file));
    assert!(rejected.took(None, &file, later) && rejected.is_working(&file));
    let marks = rejected.marks(&pin("1111"), &file);
    rejected.add(Before::Rejected, marks, &file);
    assert!(!rejected.is_working(&file));
    fs::remove_file(&path).unwrap();
    assert!(!rejected.took(None, &file, later) && !rejected.is_working(&file));
}

#[test]
fn a_pin_file_that_changes_counts_as_the_key_file_does() {
    let directory = tempfile::tempdir().unwrap();
    let [path, pin] = ["k.yaml", "pin"].map(|name| directory.path().join(name));
    for path in [&path, &pin] {
        fs::write(path, "a").unwrap();
    }
    let mut file = file(path.to_str().unwrap());
    file.uri.pin_source = Some(pin.clone());
    let mut rejected = with("0000");
    let later = SystemTime::now() + Duration::from_secs(10);
    assert!(rejected.took(None, &file, later) && rejected.is_working(&file));
    fs::write(&pin, "b").unwrap();
    assert!(!rejected.is_working(&file));
    fs::remove_file(&pin).unwrap();
    assert!(!rejected.took(None, &file, later));
}

#[test]
fn a_pin_that_the_token_takes_is_no_longer_refused() {
    let mut rejected = with("0000");
    let marks = rejected.marks(&pin("0000"), &file("key 1 of the payload"));
    assert!(
        rejected
            .holds(&marks, &file("key 1 of the payload"))
            .is_some()
    );
    assert!(rejected.took(
        Some(&marks),
        &file("key 1 of the payload"),
        SystemTime::now()
    ));
    assert!(rejected.is_empty());
}

#[test]
fn a_record_stays_within_what_is_read() {
    let mut rejected = with("0000");
    for number in 0..20 {
        let marks = rejected.marks(&pin(&number.to_string()), &file("/k"));
        for other in 0..20 {
            let marks = Marks {
                salt: marks.salt.clone(),
                pin: marks.pin.clone(),
                file: marks.file.clone(),
            };
            rejected.add(
                Before::Unanswered,
                marks,
                &file(&format!("/{other}{}", "\"".repeat(MAX_NAME - 4))),
            );
        }
    }
    let before = rejected.to_json().len() as u64;
    assert!(before < MAX_FILE, "{before}");
    let marks = rejected.marks(&pin("x"), &file("/k"));
    rejected.add(
        Before::Unanswered,
        marks,
        &file(&format!("/{}", "\u{1}".repeat(MAX_NAME - 1))),
    );
    assert!(rejected.to_json().len() as u64 <= before + ENTRY);
}
