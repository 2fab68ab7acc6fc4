//! A decoder that streams has its layer's key on the heap, where it is wiped, and nowhere on a stack.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use integration::layer::noise;
use integration::token::Token;
use ocihsm::cipher;
use ocihsm::envelope::{Envelope, Scheme};
use ocihsm::keys::public::PublicKey;
use ocihsm::operation::OaepHash;
use ocihsm::options::CipherName;
use ocihsm::schemes::pkcs11;
use serde_json::json;

const KEY: &str = "rsa3072";

/// Copies of some bytes in a process's memory: on its first stack, and elsewhere.
fn copies(process: u32, bytes: &[u8]) -> (usize, usize) {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let (mut on_stack, mut elsewhere) = (0, 0);
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (range, _) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mut content = vec![0; (end - start) as usize];
        if memory.read_exact_at(&mut content, start).is_err() {
            continue;
        }
        let count = content
            .windows(bytes.len())
            .filter(|it| *it == bytes)
            .count();
        match line.ends_with("[stack]") {
            true => on_stack += count,
            false => elsewhere += count,
        }
    }
    (on_stack, elsewhere)
}

/// Waits until it has begun to write, and sleeps, since nobody takes more.
fn wait_until_it_writes(child: &mut Child) {
    let mut first = [0];
    let stdout = child.stdout.as_mut().unwrap();
    stdout.read_exact(&mut first).unwrap();
    let mut asleep = 0;
    while asleep < 10 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        asleep = match stat.contains(") S ") {
            true => asleep + 1,
            false => 0,
        };
        sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_key_is_on_no_stack_while_the_layer_streams() {
    let token = Token::vectors();
    let plain = noise(16 << 20);
    for cipher in [CipherName::Aes256CtrHmacSha256, CipherName::Aes256GcmStream] {
        let mut blob = Vec::new();
        let sealed = cipher::encrypt(cipher, &plain[..], &mut blob).unwrap();
        let key = PublicKey::read(&integration::vector(format!("keys/{KEY}.pub.pem"))).unwrap();
        let wrapped = key.wrap(OaepHash::Sha256, &sealed.private_options).unwrap();
        let mut envelope = Envelope::new(sealed.public_options.clone());
        envelope.push(Scheme::pkcs11(), &pkcs11::to_json(&[wrapped]));
        let mut annotations = BTreeMap::new();
        envelope.write_to(&mut annotations);
        let descriptor = token.path().join("descriptor.json");
        let layer = json!({ "size": blob.len(), "annotations": annotations });
        fs::write(&descriptor, layer.to_string()).unwrap();

        let mut child = Command::new(integration::ocihsm())
            .arg("decode")
            .arg("--descriptor")
            .arg(&descriptor)
            .arg("--decryption-keys-path")
            .arg(token.keys(&[KEY]))
            .env("OCICRYPT_CONFIG", "internal")
            .env("OCIHSM_RUNTIME_DIR", token.runtime())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let feeder = std::thread::spawn(move || {
            let _ = stdin.write_all(&blob);
        });
        wait_until_it_writes(&mut child);
        let (on_stack, elsewhere) = copies(child.id(), sealed.private_options.key.expose());
        child.kill().unwrap();
        child.wait().unwrap();
        feeder.join().unwrap();
        // At least one, or this test looks for the wrong thing.
        assert_eq!(on_stack, 0, "{cipher}: {elsewhere} elsewhere");
        assert!((1..=6).contains(&elsewhere), "{cipher}: {elsewhere}");
    }
}
