use super::*;
use std::fs::File;

const MODULE: &str = "/usr/lib/x.so";

fn key(name: &Path, pin: &str, more: &str) -> TokenKey {
    let uri = format!("pkcs11:token=t;object=o?pin-value={pin}");
    let text = format!("pkcs11:\n  uri: {uri}\nmodule:\n  env: {{A: b{more}}}\n");
    TokenKey {
        file: KeyFile::parse(name.to_str().unwrap(), text.as_bytes()).unwrap(),
        module: MODULE.into(),
    }
}

fn pins(ring: &KeyRing) -> Vec<&str> {
    let keys = ring.keys().iter();
    keys.filter_map(Key::token)
        .map(|key| key.file.uri.pin_value.as_ref().unwrap().expose())
        .collect()
}

#[test]
fn of_two_files_for_one_key_the_newer_one_comes_first() {
    let directory = tempfile::tempdir().unwrap();
    let written = |name: &str, seconds: u64| {
        let path = directory.path().join(name);
        let file = File::create(&path).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        file.set_modified(time).unwrap();
        path
    };
    let (old, new) = (written("a", 1_000_000), written("b", 2_000_000));
    let payload = Path::new("key 1 of the payload");
    let mut ring = KeyRing::default();
    ring.insert(key(&old, "1", ", C: d"));
    ring.insert(key(&old, "2", ""));
    ring.insert(key(&new, "3", ""));
    ring.insert(key(payload, "4", ""));
    assert_eq!(pins(&ring), ["1", "3", "2", "4"]);
    // The very same is not tried twice.
    ring.insert(key(&new, "2", ""));
    assert_eq!(ring.keys().len(), 4);
}

#[test]
fn a_pin_that_is_given_is_for_one_token_and_for_keys_without_one() {
    let key = |uri: &str| {
        let text = format!("pkcs11:\n  uri: pkcs11:{uri}\n");
        TokenKey {
            file: KeyFile::parse("k", text.as_bytes()).unwrap(),
            module: MODULE.into(),
        }
    };
    let given = Pin::new("7".to_owned()).unwrap();
    let mut ring = KeyRing::default();
    ring.insert(key("token=t;object=a"));
    ring.insert(key("token=t;object=b"));
    ring.insert(key("token=u;object=c?pin-value=1"));
    ring.give_pin(&given, "OCIHSM_PIN").unwrap();
    assert_eq!(pins(&ring), ["7", "7", "1"]);
    let names: Vec<_> = (ring.keys().iter().filter_map(Key::token))
        .map(|key| key.file.pin_name().to_owned())
        .collect();
    assert_eq!(names, ["OCIHSM_PIN", "OCIHSM_PIN", "k"]);

    ring.insert(key("token=v;object=a"));
    ring.insert(key("token=w;object=a"));
    let tokens = ring.give_pin(&given, "OCIHSM_PIN").unwrap_err();
    assert_eq!(tokens, ["pkcs11:token=v", "pkcs11:token=w"]);
}

#[test]
fn passwords_that_take_long_have_a_bound_together() {
    let bytes = |text: &str| SecretBytes::new(text.as_bytes().to_vec());
    let open = bytes(include_str!(
        "../../../integration/vectors/keys/jwe-p256.pem"
    ));
    let keys = [open.clone(), open];
    let mut ring = KeyRing::default();
    let passwords = [bytes("secret")];
    ring.add_private_within(Duration::ZERO, "private key", &keys, &passwords);
    // One without a password takes no time.
    assert_eq!(ring.keys().len(), 1);
    let shown = ring.skipped().next().unwrap().to_string();
    assert!(shown.contains("at a higher cost than we take"), "{shown}");
}

#[test]
fn a_client_does_not_decide_what_is_loaded() {
    let text = b"pkcs11:\n  uri: pkcs11:token=t;object=o?module-name=m\nmodule:\n  env: {LD_PRELOAD: /x.so}\n";
    let mut ring = KeyRing::default();
    let keys = [SecretBytes::new(text.to_vec())];
    ring.add_payload(&keys, &[], &Policy::built_in()).unwrap();
    assert!(ring.keys().is_empty());
    let shown = ring.only_reason().unwrap().to_string();
    assert!(
        shown.contains("key 1 of the payload: a client may not set LD_PRELOAD"),
        "{shown}"
    );
}
