//! Installed under the name `ctd-decoder`, as the only thing that changes on a node: images of every scheme are imported and
//! run with keys from a directory, and pulled and run with keys that the client sends, on every containerd there is.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use integration::containerd::{Containerd, Settings};
use integration::key_provider::KeyProvider;
use integration::layer::{Compression, Layer};
use integration::layout::Layout;
use integration::registry::Registry;
use integration::root::Root;
use integration::token::Token;
use integration::{ocihsm, skip, vector};

/// A scheme: who the image is for, and what opens it.
struct Scheme {
    name: &'static str,
    recipient: String,
    /// What a keys directory holds.
    files: Vec<PathBuf>,
    /// What the client is given.
    options: Vec<String>,
}

fn schemes(token: &Token) -> Vec<Scheme> {
    let key = |name: &str| vector("keys").join(name);
    let text = |path: PathBuf| path.display().to_string();
    let with_key = |path: PathBuf| vec!["--key".to_owned(), text(path)];
    let in_token = token.key_file("rsa3072");
    let mut pkcs7 = with_key(key("pkcs7-rsa.pem"));
    let certificate = text(key("pkcs7-rsa.cert.pem"));
    pkcs7.extend(["--dec-recipient".to_owned(), format!("pkcs7:{certificate}")]);
    vec![
        Scheme {
            name: "pkcs11",
            recipient: format!("pkcs11:{}", text(key("rsa3072.pub.pem"))),
            files: vec![in_token.clone()],
            options: with_key(in_token),
        },
        Scheme {
            name: "jwe-rsa",
            recipient: format!("jwe:{}", text(key("jwe-rsa.pub.pem"))),
            files: vec![key("jwe-rsa.pem")],
            options: with_key(key("jwe-rsa.pem")),
        },
        Scheme {
            name: "jwe-ec",
            recipient: format!("jwe:{}", text(key("jwe-p256.pub.pem"))),
            files: vec![key("jwe-p256.pem")],
            options: with_key(key("jwe-p256.pem")),
        },
        Scheme {
            name: "pkcs7",
            recipient: format!("pkcs7:{certificate}"),
            files: vec![key("pkcs7-rsa.pem"), key("pkcs7-rsa.cert.pem")],
            options: pkcs7,
        },
        Scheme {
            name: "pgp",
            recipient: format!("pgp:{}", text(key("pgp-rsa.pub.asc"))),
            files: vec![key("pgp-rsa.asc")],
            // The client knows such a key by its bytes, so that it must not be armored.
            options: with_key(key("pgp-rsa.gpg")),
        },
        Scheme {
            name: "provider",
            recipient: "provider:hidden:text".to_owned(),
            files: Vec::new(),
            options: vec!["--key".to_owned(), "provider:hidden".to_owned()],
        },
    ]
}

/// The stanza that imgcrypt documents, with its decoder's path.
fn processors(token: &Token, place: &Path, keys: &Path, provider: &KeyProvider) -> String {
    let decoder = place.join("ctd-decoder");
    let env = [
        format!("OCICRYPT_KEYPROVIDER_CONFIG={}", provider.file().display()),
        "OCICRYPT_CONFIG=internal".to_owned(),
        format!("OCIHSM_RUNTIME_DIR={}", token.runtime().display()),
    ];
    let processors = Compression::ALL.map(|compression| {
        let returns = compression.media_type();
        let id = returns.trim_start_matches("application/vnd.oci.image.layer.v1.");
        let id = id.replace('+', ".");
        format!(
            "[stream_processors.\"io.containerd.ocicrypt.decoder.v1.{id}\"]\n\
             accepts = [\"{returns}+encrypted\"]\nreturns = \"{returns}\"\npath = {decoder:?}\n\
             args = [\"--decryption-keys-path\", {keys:?}]\nenv = {env:?}\n"
        )
    });
    format!("version = 2\n{}", processors.concat())
}

/// An image that was never unpacked before, since its lowest layer is its own.
fn encrypted(
    token: &Token,
    place: &Path,
    name: &str,
    scheme: &Scheme,
    provider: &KeyProvider,
) -> Layout {
    let layers = [
        Layer::file("etc/name", name.as_bytes(), Compression::Gzip),
        Layer::busybox(Compression::Gzip),
        Layer::file("etc/plain", b"a plain archive\n", Compression::None),
    ];
    let plain = Layout::create(
        place.join(format!("plain-{name}")),
        &layers,
        &["/bin/cat", "/etc/name"],
    );
    let target = Layout::open(place.join(name));
    token
        .ocihsm()
        .env("OCICRYPT_KEYPROVIDER_CONFIG", provider.file())
        .args(["encrypt", &plain.reference(), &target.reference()])
        .args(["--recipient", &scheme.recipient])
        .ok();
    target
}

#[test]
fn images_of_every_scheme_are_imported_and_run_with_keys_from_a_directory() {
    Root::on_each_containerd(|root| {
        let token = Token::vectors();
        let provider = KeyProvider::new();
        let place = tempfile::TempDir::with_prefix("ocihsm-name-").unwrap();
        symlink(ocihsm(), place.path().join("ctd-decoder")).unwrap();
        let keys = place.path().join("keys");
        fs::create_dir(&keys).unwrap();
        let containerd = Containerd::start(&Settings {
            root: root.clone(),
            processors: processors(&token, place.path(), &keys, &provider),
            cri: None,
        });
        let version = containerd.version();
        for scheme in schemes(&token) {
            for entry in fs::read_dir(&keys).unwrap() {
                fs::remove_file(entry.unwrap().path()).unwrap();
            }
            let name = format!("dir-{}", scheme.name);
            let image = encrypted(&token, place.path(), &name, &scheme, &provider);
            if !scheme.files.is_empty() {
                // Without its key it stays shut, or what is shown below is nothing.
                let output = containerd.import(&image.archive(), &name);
                assert!(!output.status.success(), "{version} {name}: {output:?}");
            }
            for file in &scheme.files {
                fs::copy(file, keys.join(file.file_name().unwrap())).unwrap();
            }
            let output = containerd.import(&image.archive(), &name);
            assert!(output.status.success(), "{version} {name}: {output:?}");
            let reference = format!("test.example/{name}:latest");
            assert_eq!(containerd.run(&reference).text(), name, "{version}");
        }
    });
}

#[test]
fn images_of_every_scheme_are_pulled_and_run_with_keys_that_the_client_sends() {
    // imgcrypt's client is built for one root, and speaks to each containerd.
    let client = Root::trixie().and_then(|root| root.path("usr/local/bin/ctr-enc"));
    let Some(client) = client else {
        skip::skipped("imgcrypt's client was not made (integration/peers)");
        return;
    };
    Root::on_each_containerd(|root| {
        let token = Token::vectors();
        let provider = KeyProvider::new();
        let place = tempfile::TempDir::with_prefix("ocihsm-name-").unwrap();
        symlink(ocihsm(), place.path().join("ctd-decoder")).unwrap();
        let program = place.path().join("ctr-enc");
        fs::copy(&client, &program).unwrap();
        let (keys, registry) = (place.path().join("none"), Registry::start());
        fs::create_dir(&keys).unwrap();
        let containerd = Containerd::start(&Settings {
            root: root.clone(),
            processors: processors(&token, place.path(), &keys, &provider),
            cri: None,
        });
        let version = containerd.version();
        for scheme in schemes(&token) {
            let name = format!("key-{}", scheme.name);
            let image = encrypted(&token, place.path(), &name, &scheme, &provider);
            let reference = registry.push(&image, &name);
            // Its own look at the key would fail for what SoftHSM cannot do, and what it cannot is not asked here.
            let args = ["images", "pull", "--plain-http", "--skip-decrypt-auth"];
            let output = containerd
                .client(program.to_str().unwrap(), &args)
                .args(&scheme.options)
                .arg(&reference)
                .env("OCICRYPT_KEYPROVIDER_CONFIG", provider.file())
                .env("OCICRYPT_CONFIG", "internal")
                .indiscreet()
                .run();
            assert!(output.status.success(), "{version} {name}: {output:?}");
            assert_eq!(containerd.run(&reference).text(), name, "{version}");
        }
    });
}
