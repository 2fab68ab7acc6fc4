use std::io::Write;

use super::*;

fn any(url: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, field) in [(0x0a, url.as_bytes()), (0x12, value)] {
        bytes.push(key);
        let mut length = field.len();
        while length > 0x7f {
            bytes.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend_from_slice(field);
    }
    bytes
}

fn pipe_with(bytes: &[u8]) -> File {
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(bytes).unwrap();
    File::from(std::os::fd::OwnedFd::from(reader))
}

#[test]
fn reads_what_cri_sends() {
    let json = br#"{"DecryptConfig":{"Parameters":null},"Descriptor":{"mediaType":"m","size":3,
        "digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000",
        "annotations":{"a":"b","org.opencontainers.image.enc.pubopts":"e30="},"platform":null}}"#;
    let payload = Payload::parse(&any(TYPE_URL, json)).unwrap().unwrap();
    assert_eq!(payload.descriptor.size, Some(3));
    assert_eq!(payload.descriptor.annotations.len(), 1);
    assert!(payload.keys.key_files.is_empty());
}

#[test]
fn reads_names_in_any_case_and_null_values() {
    let json = br#"{"decryptconfig":{"PARAMETERS":{"pkcs11-yamls":["aGk=",null]}},"descriptor":{"MediaType":"m"}}"#;
    let payload = Payload::parse(&any(TYPE_URL, json)).unwrap().unwrap();
    assert_eq!(payload.keys.key_files, [SecretBytes::new(b"hi".to_vec())]);
    assert_eq!(payload.descriptor.media_type.as_deref(), Some("m"));
}

#[test]
fn other_bytes_are_no_payload() {
    for bytes in [
        b"".as_slice(),
        b"{}",
        &any("io.containerd.other", b"{}"),
        &any(TYPE_URL, b"{}")[..10],
        &[0xff; 64],
        &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    ] {
        assert!(Payload::parse(bytes).unwrap().is_none(), "{bytes:?}");
    }
}

#[test]
fn broken_json_is_an_error_that_quotes_nothing() {
    let error = Payload::parse(&any(TYPE_URL, b"{\"pin\": 1234")).unwrap_err();
    assert!(!format!("{error:?} {error}").contains("1234"));
}

#[test]
fn digest_that_is_a_path_is_refused() {
    let json = br#"{"Descriptor":{"digest":"sha256:../../../etc/passwd"}}"#;
    assert!(Payload::parse(&any(TYPE_URL, json)).is_err());
}

#[test]
fn a_pipe_that_never_ends_is_no_payload() {
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(b"x").unwrap();
    let mut file = File::from(std::os::fd::OwnedFd::from(reader));
    let read = Payload::read(&mut file, Duration::from_millis(30)).unwrap();
    assert!(read.is_none());
    drop(writer);
}

#[test]
fn a_payload_through_a_pipe() {
    let mut file = pipe_with(&any(TYPE_URL, br#"{"Descriptor":{}}"#));
    assert!(may_carry(&file));
    let read = Payload::read(&mut file, Duration::from_secs(5)).unwrap();
    assert!(read.is_some());
}

#[test]
fn what_is_no_payload_may_have_any_length() {
    let mut file = tempfile::tempfile().unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(
        Payload::read(&mut file, Duration::from_secs(5))
            .unwrap()
            .is_none()
    );
}

#[test]
fn members_that_two_readers_could_read_differently_are_refused() {
    for json in [
        r#"{"Descriptor":{"size":1,"Size":2}}"#,
        r#"{"Descriptor":{},"descriptor":{}}"#,
        r#"{"Descriptor":{},"DecryptConfig":{"Parameters":{"pkcs11-yamls":[],"PKCS11-yamls":[]}}}"#,
        r#"{"Descriptor":{}} x"#,
    ] {
        assert!(
            Payload::parse(&any(TYPE_URL, json.as_bytes())).is_err(),
            "{json}"
        );
    }
}

#[test]
fn a_payload_of_many_small_values_is_refused_soon() {
    let values = vec![r#""""#; MAX_PARAMETERS + 1].join(",");
    let json = format!(
        r#"{{"Descriptor":{{}},"DecryptConfig":{{"Parameters":{{"pkcs11-yamls":[{values}]}}}}}}"#
    );
    assert!(Payload::parse(&any(TYPE_URL, json.as_bytes())).is_err());
}

#[test]
fn a_huge_payload_is_an_error_that_names_the_bound() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&any(TYPE_URL, b"")).unwrap();
    file.set_len(MAX_PAYLOAD as u64 + 1).unwrap();
    io::Seek::rewind(&mut file).unwrap();
    let error = Payload::read(&mut file, Duration::from_secs(5)).unwrap_err();
    assert!(error.to_string().contains(&MAX_PAYLOAD.to_string()));
}
