//! What the peers share: a root that they come from, a token, images in plain, and how both sides are judged.

use std::path::Path;

use integration::layer::{Compression, Layer, digest};
use integration::layout::Layout;
use integration::processor::Processor;
use integration::program::{Output, Program};
use integration::root::Root;
use integration::token::Token;
use integration::vector;
use serde_json::Value;
use tempfile::TempDir;

/// Annotation of a layer with PKCS#11 recipients.
pub(crate) const RECIPIENTS: &str = "org.opencontainers.image.enc.keys.pkcs11";

/// Tells the reference library which hash to use.
pub(crate) const HASH: &str = "OCICRYPT_OAEP_HASHALG";

/// A peer's root, a token, and images of three media types.
pub(crate) struct Stage {
    pub(crate) root: Root,
    pub(crate) token: Token,
    pub(crate) place: TempDir,
    /// For one platform.
    pub(crate) plain: Layout,
    /// For amd64 and arm64.
    pub(crate) index: Layout,
}

impl Stage {
    pub(crate) fn new(root: Root) -> Self {
        let place = TempDir::new().unwrap();
        let layers = [
            Layer::busybox(Compression::Gzip),
            Layer::file("etc/one", b"one\n", Compression::None),
            Layer::file("etc/two", b"two\n", Compression::Zstd),
        ];
        let plain = Layout::create(
            place.path().join("plain"),
            &layers,
            &["/bin/cat", "/etc/one", "/etc/two"],
        );
        Self {
            root,
            token: Token::vectors(),
            place,
            plain,
            index: Layout::open(vector("images/plain-multi-arch")),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.place.path()
    }

    pub(crate) fn layout(&self, name: &str) -> Layout {
        Layout::open(self.path().join(name))
    }

    /// What names the public key to encrypt with, from a file.
    pub(crate) fn public_key(&self) -> String {
        format!("pkcs11:{}", vector("keys/rsa3072.pub.pem").display())
    }

    /// The same, from the token.
    pub(crate) fn token_key(&self) -> String {
        format!("pkcs11:{}", self.key_file())
    }

    pub(crate) fn key_file(&self) -> String {
        self.token.key_file("rsa3072").display().to_string()
    }

    /// A program of the peer's root; what it prints may hold the PIN.
    pub(crate) fn program(&self, name: &str) -> Program {
        self.root
            .program(&self.place, name)
            .env("OCICRYPT_CONFIG", "internal")
            .indiscreet()
    }

    /// A peer's name with the version that it tells with `--version`, and where it is from.
    pub(crate) fn peer(&self, name: &str) -> String {
        let text = self.program(name).arg("--version").ok().text();
        let version = text.split_whitespace().nth(2).unwrap_or_default();
        format!("{name} {version} ({})", self.root.name())
    }

    /// We encrypt an image, into a layout of this name.
    pub(crate) fn encrypt(&self, plain: &Layout, name: &str, hash: &str, rest: &[&str]) -> Layout {
        let options = [&["--oaep-hash", hash], rest].concat();
        let plain = plain.copy(self.path().join(name));
        self.token.encrypt(&plain, "rsa3072", &options)
    }

    /// We open what a peer encrypted, in so many layers: as containerd's stream processor, and as a whole image.
    pub(crate) fn assert_opens(
        &self,
        encrypted: &Layout,
        layers: usize,
        architecture: &str,
        plain: &Layout,
    ) {
        assert_eq!(encrypted_layers(encrypted, architecture), layers);
        let keys = self.token.keys(&["rsa3072"]);
        let manifest = encrypted.manifest(architecture);
        for (number, layer) in manifest["layers"].as_array().unwrap().iter().enumerate() {
            let media_type = layer["mediaType"].as_str().unwrap();
            let Some(media_type) = media_type.strip_suffix("+encrypted") else {
                continue;
            };
            let decode = Processor::decode(&self.token, encrypted, layer, &keys);
            let output = decode.payload(layer, &Value::Null).run().output;
            assert_ok(&output);
            let archive = Compression::of(media_type).decompress(&output.stdout);
            assert_eq!(digest(&archive), plain.archives(architecture)[number]);
        }
        let decrypted = Layout::open(encrypted.path().with_extension("decrypted"));
        self.token
            .ocihsm()
            .args([
                "decrypt",
                &encrypted.reference(),
                &decrypted.reference(),
                "--key",
                &self.key_file(),
                // It may be there from a peer before.
                "--force",
            ])
            .ok();
        assert_same(&decrypted, plain, architecture);
    }
}

/// Both images hold the same archives.
pub(crate) fn assert_same(decrypted: &Layout, plain: &Layout, architecture: &str) {
    assert_eq!(
        decrypted.archives(architecture),
        plain.archives(architecture)
    );
}

pub(crate) fn assert_ok(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

/// SoftHSM refuses the parameters, and the peer gives up; its message would hold the URI with the PIN.
pub(crate) fn assert_refused_by_softhsm(output: &Output) {
    assert!(
        !output.status.success(),
        "the peer has learned to do SHA-256 on SoftHSM: {output:?}"
    );
    assert!(output.stderr.contains("CKR_ARGUMENTS_BAD"), "{output:?}");
}

/// How many layers are encrypted.
pub(crate) fn encrypted_layers(layout: &Layout, architecture: &str) -> usize {
    let manifest = layout.manifest(architecture);
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers
        .filter(|layer| layer["annotations"].get(RECIPIENTS).is_some())
        .count()
}

/// How an image's layers are stored, by their media types without what marks them as encrypted.
pub(crate) fn compressions(layout: &Layout) -> Vec<Compression> {
    let media_type = |layer: &Value| {
        let media_type = layer["mediaType"].as_str().unwrap().to_owned();
        Compression::of(media_type.trim_end_matches("+encrypted"))
    };
    layout.layers().iter().map(media_type).collect()
}
