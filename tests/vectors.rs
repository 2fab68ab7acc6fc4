//! Opens the test vectors that were encrypted for keys in a token, where SoftHSM is installed. Needs no root.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/vectors");

#[test]
fn each_vector_opens_with_each_of_its_keys_in_the_token() {
    if !Path::new(SOFTHSM).exists() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "no SoftHSM");
        println!("skipped: SoftHSM is not installed ({SOFTHSM})");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    // SoftHSM writes into its token.
    copy(
        &Path::new(VECTORS).join("token"),
        &place.path().join("tokens"),
    )
    .unwrap();
    let configuration = place.path().join("softhsm2.conf");
    let tokens = format!("directories.tokendir = {}/tokens\n", place.path().display());
    fs::write(&configuration, tokens).unwrap();

    let expected = fs::read(Path::new(VECTORS).join("expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let mut opened = 0;
    for (image, facts) in expected.as_object().unwrap() {
        for key in facts["opened_by"].as_array().unwrap() {
            let key = format!("{VECTORS}/keys/{}.yaml", key.as_str().unwrap());
            // The others are in files.
            if !Path::new(&key).exists() {
                continue;
            }
            let plain = place.path().join(format!("plain{opened}"));
            let output = Command::new(env!("CARGO_BIN_EXE_ocihsm"))
                .args(["decrypt", "--quiet", "--key", &key])
                .arg(format!("oci:{VECTORS}/images/{image}:latest"))
                .arg(format!("oci:{}:latest", plain.display()))
                .env("OCICRYPT_CONFIG", "internal")
                .env("OCIHSM_RUNTIME_DIR", place.path())
                .env("SOFTHSM2_CONF", &configuration)
                .output()
                .unwrap();
            assert!(output.status.success(), "{image} with {key}: {output:?}");
            for layer in facts["platforms"]["amd64"].as_array().unwrap() {
                let hash = layer["plaintext_sha256"].as_str().unwrap();
                let blob = fs::read(plain.join("blobs/sha256").join(hash));
                let blob =
                    blob.unwrap_or_else(|error| panic!("{image} with {key}: {hash}: {error}"));
                let is: String = Sha256::digest(&blob)
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                assert_eq!(is, hash, "{image} with {key}");
            }
            opened += 1;
        }
    }
    assert!(opened >= 16, "only {opened} were tried");
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type()?.is_dir() {
            true => copy(&from, &to)?,
            false => drop(fs::copy(from, to)?),
        }
    }
    Ok(())
}
