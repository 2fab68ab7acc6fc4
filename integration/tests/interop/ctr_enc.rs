//! imgcrypt's `ctr-enc`: encrypts and decrypts images in containerd's store. It runs against the containerd of its root.

use std::cell::Cell;
use std::fs;
use std::path::Path;

use integration::containerd::{Containerd, Settings};
use integration::layout::{Layout, TAG};
use integration::program::{Output, Program};
use integration::vector;
use serde_json::Value;

use crate::row::Row;
use crate::stage::{
    HASH, RECIPIENTS, Stage, assert_ok, assert_refused_by_softhsm, compressions, encrypted_layers,
};

/// Where `integration/peers` puts it.
pub(crate) const PROGRAM: &str = "/usr/local/bin/ctr-enc";

pub(crate) fn row(stage: &Stage) -> Row {
    let ctr_enc = CtrEnc::start(stage);
    Row::new(ctr_enc.peer())
        .we_open("three media types to a PEM file, SHA-256", || {
            let encrypted = ctr_enc.encrypts(&stage.plain, &stage.public_key(), "sha256", &[]);
            stage.assert_opens(&encrypted, 3, "amd64", &stage.plain);
        })
        .we_open("SHA-1", || {
            let encrypted = ctr_enc.encrypts(&stage.plain, &stage.public_key(), "sha1", &[]);
            stage.assert_opens(&encrypted, 3, "amd64", &stage.plain);
        })
        .we_open("to a key file, SHA-1", || {
            let encrypted = ctr_enc.encrypts(&stage.plain, &stage.token_key(), "sha1", &[]);
            stage.assert_opens(&encrypted, 3, "amd64", &stage.plain);
        })
        .we_open("a recipient added later", || {
            ctr_enc.we_open_when_a_recipient_was_added();
        })
        .we_open("one layer", || {
            let one = ["--layer", "-1"];
            let encrypted = ctr_enc.encrypts(&stage.plain, &stage.public_key(), "sha256", &one);
            stage.assert_opens(&encrypted, 1, "amd64", &stage.plain);
        })
        .we_open("two platforms", || {
            let encrypted = ctr_enc.encrypts(&stage.index, &stage.public_key(), "sha256", &[]);
            for architecture in ["amd64", "arm64"] {
                stage.assert_opens(&encrypted, 3, architecture, &stage.index);
            }
        })
        .it_opens("three media types, SHA-1", || {
            ctr_enc.it_opens(&stage.plain, 3, &["amd64"], &[]);
        })
        .it_opens("one layer", || {
            ctr_enc.it_opens(&stage.plain, 1, &["amd64"], &["--encrypt-layer", "1"]);
        })
        .it_opens("two platforms", || {
            ctr_enc.it_opens(&stage.index, 3, &["amd64", "arm64"], &[]);
        })
        .it_cannot("encrypt to SoftHSM with SHA-256", || {
            let image = ctr_enc.import(&stage.plain);
            let new = ctr_enc.name();
            let output = ctr_enc.encrypt(&image, &new, &stage.token_key(), "sha256", &[]);
            assert_refused_by_softhsm(&output);
        })
        .it_cannot("decrypt with SoftHSM and SHA-256", || {
            let encrypted = stage.encrypt(&stage.plain, "closed", "sha256", &[]);
            let image = ctr_enc.import(&encrypted);
            assert_refused_by_softhsm(&ctr_enc.decrypt(&image, &ctr_enc.name(), "sha256"));
        })
}

struct CtrEnc<'a> {
    stage: &'a Stage,
    containerd: Containerd,
    /// How many names were given.
    names: Cell<usize>,
}

impl<'a> CtrEnc<'a> {
    fn start(stage: &'a Stage) -> Self {
        let keys = stage.token.keys(&["rsa3072"]);
        Self {
            stage,
            containerd: Containerd::start(&Settings::new(stage.root.clone(), &keys)),
            names: Cell::new(0),
        }
    }

    fn peer(&self) -> String {
        let version = self.containerd.version();
        format!("ctr-enc {}, containerd {version}", imgcrypt(self.stage))
    }

    /// A name for an image that no other has.
    fn name(&self) -> String {
        self.names.set(self.names.get() + 1);
        format!("test.example/image{}:{TAG}", self.names.get())
    }

    fn images(&self, args: &[&str], hash: &str) -> Program {
        self.containerd
            .client(PROGRAM, &["images"])
            .args(args)
            .env("OCICRYPT_CONFIG", "internal")
            .env(HASH, hash)
            .indiscreet()
    }

    fn encrypt(&self, image: &str, new: &str, key: &str, hash: &str, options: &[&str]) -> Output {
        self.images(&["encrypt", "--recipient", key], hash)
            .args(options)
            .args([image, new])
            .run()
    }

    fn decrypt(&self, image: &str, new: &str, hash: &str) -> Output {
        let key = self.stage.key_file();
        self.images(&["decrypt", "--key", &key, image, new], hash)
            .run()
    }

    fn encrypts(&self, plain: &Layout, key: &str, hash: &str, options: &[&str]) -> Layout {
        let (image, new) = (self.import(plain), self.name());
        assert_ok(&self.encrypt(&image, &new, key, hash, options));
        let encrypted = self.export(&new);
        assert_eq!(compressions(&encrypted), compressions(plain));
        encrypted
    }

    fn we_open_when_a_recipient_was_added(&self) {
        let image = self.import(&self.stage.plain);
        let (first, second) = (self.name(), self.name());
        let other = format!("pkcs11:{}", vector("keys/other3072.pub.pem").display());
        assert_ok(&self.encrypt(&image, &first, &other, "sha1", &[]));
        let key = self.stage.token.key_file("other3072");
        let with_key = ["--key", key.to_str().unwrap()];
        let recipient = self.stage.public_key();
        assert_ok(&self.encrypt(&first, &second, &recipient, "sha1", &with_key));
        let encrypted = self.export(&second);
        for layer in encrypted.layers() {
            let recipients = layer["annotations"][RECIPIENTS].as_str().unwrap();
            assert_eq!(recipients.split(',').count(), 2, "{recipients}");
        }
        self.stage
            .assert_opens(&encrypted, 3, "amd64", &self.stage.plain);
    }

    fn it_opens(&self, plain: &Layout, layers: usize, architectures: &[&str], options: &[&str]) {
        let new = self.name();
        let directory = format!("ours{}", self.names.get());
        let encrypted = self.stage.encrypt(plain, &directory, "sha1", options);
        let image = self.import(&encrypted);
        assert_ok(&self.decrypt(&image, &new, "sha1"));
        let decrypted = self.export(&new);
        for architecture in architectures {
            assert_eq!(encrypted_layers(&encrypted, architecture), layers);
            assert_eq!(
                digests(&decrypted, architecture),
                digests(plain, architecture)
            );
        }
    }

    /// Puts a layout into the store, every platform of it; returns the image's name.
    fn import(&self, layout: &Layout) -> String {
        let name = self.name();
        let (base, _) = name.rsplit_once(':').unwrap();
        let archive = layout.archive();
        self.containerd
            .ctr(&["images", "import", "--no-unpack", "--all-platforms"])
            .args(["--base-name", base])
            .arg(&archive)
            .ok();
        name
    }

    fn export(&self, image: &str) -> Layout {
        let directory = image.replace(['/', ':'], "-");
        let layout = self.stage.layout(&directory);
        let archive = layout.path().with_extension("tar");
        self.containerd
            .ctr(&["images", "export", "--all-platforms"])
            .arg(&archive)
            .arg(image)
            .ok();
        fs::create_dir(layout.path()).unwrap();
        Program::new("tar")
            .arg("-xf")
            .arg(&archive)
            .arg("-C")
            .arg(layout.path())
            .ok();
        name_tag(layout.path());
        layout
    }
}

/// Digests of the layers as they are stored: their media types are Docker's when the program has decrypted them.
fn digests(layout: &Layout, architecture: &str) -> Vec<Value> {
    let manifest = layout.manifest(architecture);
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers.map(|layer| layer["digest"].clone()).collect()
}

/// The exported index names the image, not the tag.
fn name_tag(layout: &Path) {
    let file = layout.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = TAG.into();
    fs::write(file, index.to_string()).unwrap();
}

/// The version of imgcrypt that the root's programs were built from.
pub(crate) fn imgcrypt(stage: &Stage) -> String {
    let file = stage.root.path("usr/local/share/imgcrypt.version");
    let version = fs::read_to_string(file.expect("integration/peers writes it")).unwrap();
    version.trim().to_owned()
}
