//! The other programs that speak this format, in both roles: what they encrypt we open, what we encrypt they open.
//!
//! SoftHSM does OAEP with SHA-1 only, and the reference library has no way round that: where a peer needs the token
//! itself, it can do SHA-1, and fails with SHA-256. That it fails is tested too, as a fact about the peer.

use std::fs;
use std::path::{Path, PathBuf};

use integration::containerd::{Containerd, Settings};
use integration::layer::{Compression, Layer};
use integration::layout::{Layout, TAG};
use integration::processor::Processor;
use integration::program::{Output, Program};
use integration::registry::Registry;
use integration::root::Root;
use integration::skip;
use integration::token::Token;
use integration::vector;
use serde_json::Value;
use tempfile::TempDir;

const RECIPIENTS: &str = "org.opencontainers.image.enc.keys.pkcs11";
const SHA1: (&str, &str) = ("OCICRYPT_OAEP_HASHALG", "sha1");
const SHA256: (&str, &str) = ("OCICRYPT_OAEP_HASHALG", "sha256");

/// A peer's root, a token, and an image of three media types.
struct Stage {
    root: Root,
    token: Token,
    place: TempDir,
    plain: Layout,
}

impl Stage {
    fn all() -> Vec<Self> {
        if !skip::root() {
            return Vec::new();
        }
        Root::all()
            .into_iter()
            .filter(|root| *root != Root::host())
            .map(Self::new)
            .collect()
    }

    fn new(root: Root) -> Self {
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
        }
    }

    fn layout(&self, name: &str) -> Layout {
        Layout::open(self.place.path().join(name))
    }

    fn public_key(&self) -> String {
        format!("pkcs11:{}", vector("keys/rsa3072.pub.pem").display())
    }

    fn key_file(&self) -> String {
        self.token.key_file("rsa3072").display().to_string()
    }

    fn program(&self, name: &str) -> Program {
        self.root
            .program(&self.place, name)
            .env("OCICRYPT_CONFIG", "internal")
    }

    fn skopeo(
        &self,
        from: &Layout,
        to: &Layout,
        options: &[&str],
        (name, value): (&str, &str),
    ) -> Output {
        self.program("skopeo")
            .args(["--insecure-policy", "copy"])
            .args(options)
            .args([from.reference(), to.reference()])
            .env(name, value)
            .indiscreet()
            .run()
    }

    /// We open what a peer encrypted: as containerd's stream processor, and as a whole image.
    fn assert_opens(&self, encrypted: &Layout, architecture: &str, plain: &Layout) {
        let keys = self.token.keys(&["rsa3072"]);
        let manifest = encrypted.manifest(architecture);
        for (number, layer) in manifest["layers"].as_array().unwrap().iter().enumerate() {
            let media_type = layer["mediaType"].as_str().unwrap();
            let Some(media_type) = media_type.strip_suffix("+encrypted") else {
                continue;
            };
            let decode = Processor::decode(&self.token, encrypted, layer, &keys);
            let output = decode.payload(layer, &Value::Null).run().output;
            assert!(output.status.success(), "{output:?}");
            let archive = Compression::of(media_type).decompress(&output.stdout);
            assert_eq!(
                integration::layer::digest(&archive),
                plain.archives(architecture)[number]
            );
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
            ])
            .ok();
        assert_eq!(
            decrypted.archives(architecture),
            plain.archives(architecture)
        );
    }
}

fn assert_ok(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

/// SoftHSM refuses the parameters, and the peer gives up; its message would hold the URI with the PIN.
fn assert_peer_cannot(output: &Output) {
    assert!(
        !output.status.success(),
        "the peer has learned to do SHA-256 on SoftHSM: {output:?}"
    );
    assert!(output.stderr.contains("CKR_ARGUMENTS_BAD"), "{output:?}");
}

/// How many layers are encrypted.
fn encrypted_layers(layout: &Layout, architecture: &str) -> usize {
    let manifest = layout.manifest(architecture);
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers
        .filter(|layer| layer["annotations"].get(RECIPIENTS).is_some())
        .count()
}

#[test]
fn we_open_what_skopeo_encrypts() {
    for stage in Stage::all() {
        let key_file = format!("pkcs11:{}", stage.key_file());
        let recipients = [
            ("pem-256", stage.public_key(), SHA256),
            ("pem-1", stage.public_key(), SHA1),
            ("token", key_file.clone(), SHA1),
        ];
        for (name, recipient, hash) in recipients {
            let encrypted = stage.layout(name);
            assert_ok(&stage.skopeo(
                &stage.plain,
                &encrypted,
                &["--encryption-key", &recipient],
                hash,
            ));
            assert_eq!(encrypted_layers(&encrypted, "amd64"), 3);
            stage.assert_opens(&encrypted, "amd64", &stage.plain);
        }
        let options = ["--encryption-key", &key_file];
        assert_peer_cannot(&stage.skopeo(
            &stage.plain,
            &stage.layout("token-256"),
            &options,
            SHA256,
        ));
    }
}

#[test]
fn we_open_the_layers_that_skopeo_encrypts() {
    for stage in Stage::all() {
        let some = stage.layout("some");
        let options = [
            "--encryption-key",
            &stage.public_key(),
            "--encrypt-layer",
            "-1",
        ];
        assert_ok(&stage.skopeo(&stage.plain, &some, &options, SHA256));
        assert_eq!(encrypted_layers(&some, "amd64"), 1);
        stage.assert_opens(&some, "amd64", &stage.plain);
    }
}

#[test]
fn we_open_an_index_that_skopeo_encrypts() {
    for stage in Stage::all() {
        let (plain, all) = (
            Layout::open(vector("images/plain-multi-arch")),
            stage.layout("all"),
        );
        let options = ["--all", "--encryption-key", &stage.public_key()];
        assert_ok(&stage.skopeo(&plain, &all, &options, SHA256));
        for architecture in ["amd64", "arm64"] {
            assert_eq!(encrypted_layers(&all, architecture), 3);
            stage.assert_opens(&all, architecture, &plain);
        }
    }
}

#[test]
fn skopeo_opens_what_we_encrypt() {
    for stage in Stage::all() {
        let options = ["--decryption-key", &stage.key_file()];
        let encrypted = stage
            .token
            .encrypt(&stage.plain, "rsa3072", &["--oaep-hash", "sha1"]);
        let decrypted = stage.layout("decrypted");
        assert_ok(&stage.skopeo(&encrypted, &decrypted, &options, SHA1));
        assert_eq!(decrypted.archives("amd64"), stage.plain.archives("amd64"));

        let plain = stage.plain.copy(stage.place.path().join("other"));
        let encrypted = stage.token.encrypt(
            &plain,
            "rsa3072",
            &["--oaep-hash", "sha1", "--encrypt-layer", "1"],
        );
        assert_eq!(encrypted_layers(&encrypted, "amd64"), 1);
        let decrypted = stage.layout("decrypted-some");
        assert_ok(&stage.skopeo(&encrypted, &decrypted, &options, SHA1));
        assert_eq!(decrypted.archives("amd64"), plain.archives("amd64"));

        let plain = stage.plain.copy(stage.place.path().join("sha256"));
        let encrypted = stage
            .token
            .encrypt(&plain, "rsa3072", &["--oaep-hash", "sha256"]);
        assert_peer_cannot(&stage.skopeo(&encrypted, &stage.layout("closed"), &options, SHA256));
    }
}

#[test]
fn skopeo_opens_an_index_that_we_encrypt() {
    for stage in Stage::all() {
        let plain =
            Layout::open(vector("images/plain-multi-arch")).copy(stage.place.path().join("multi"));
        let encrypted = stage
            .token
            .encrypt(&plain, "rsa3072", &["--oaep-hash", "sha1"]);
        let decrypted = stage.layout("decrypted");
        let options = ["--all", "--decryption-key", &stage.key_file()];
        assert_ok(&stage.skopeo(&encrypted, &decrypted, &options, SHA1));
        for architecture in ["amd64", "arm64"] {
            assert_eq!(encrypted_layers(&encrypted, architecture), 3);
            assert_eq!(
                decrypted.archives(architecture),
                plain.archives(architecture)
            );
        }
    }
}

#[test]
fn buildah_and_we_open_what_the_other_encrypts() {
    for stage in Stage::all() {
        let policy = stage.place.path().join("policy.json");
        fs::write(
            &policy,
            r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
        )
        .unwrap();
        let policy = policy.to_str().unwrap();
        let storage = stage.place.path().join("storage");
        let buildah = |command: &str| {
            stage
                .program("buildah")
                .args(["--storage-driver", "vfs", "--root"])
                .arg(storage.join("root"))
                .arg("--runroot")
                .arg(storage.join("run"))
                .args([command, "--quiet", "--signature-policy", policy])
        };
        let pull = |layout: &Layout, options: &[&str]| {
            let output = buildah("pull")
                .args(options)
                .arg(layout.reference())
                .env(SHA1.0, SHA1.1)
                .ok();
            output.text().lines().last().unwrap().to_owned()
        };

        let image = pull(&stage.plain, &[]);
        for hash in [SHA1, SHA256] {
            let encrypted = stage.layout(hash.1);
            let push = buildah("push")
                .args(["--encryption-key", &stage.public_key()])
                .arg(&image);
            push.arg(encrypted.reference()).env(hash.0, hash.1).ok();
            stage.assert_opens(&encrypted, "amd64", &stage.plain);
        }

        let encrypted = stage
            .token
            .encrypt(&stage.plain, "rsa3072", &["--oaep-hash", "sha1"]);
        let image = pull(&encrypted, &["--decryption-key", &stage.key_file()]);
        let decrypted = stage.layout("decrypted");
        buildah("push").arg(&image).arg(decrypted.reference()).ok();
        assert_eq!(decrypted.archives("amd64"), stage.plain.archives("amd64"));
    }
}

/// imgcrypt's programs, in a containerd of their distribution.
struct Imgcrypt {
    stage: Stage,
    containerd: Containerd,
}

impl Imgcrypt {
    fn start() -> Option<Self> {
        if !skip::root() {
            return None;
        }
        let Some(root) = Root::trixie() else {
            skip::skipped("the trixie peers were not made (integration/peers)");
            return None;
        };
        let stage = Stage::new(root.clone());
        let containerd = Containerd::start(&Settings::new(root, &stage.token.keys(&["rsa3072"])));
        Some(Self { stage, containerd })
    }

    fn ctr_enc(&self, args: &[&str]) -> Program {
        self.containerd
            .client("/usr/local/bin/ctr-enc", args)
            .env("OCICRYPT_CONFIG", "internal")
            .env(SHA1.0, SHA1.1)
    }

    fn import(&self, layout: &Layout, name: &str) -> String {
        let archive = layout.archive();
        let base = format!("test.example/{name}");
        self.containerd
            .ctr(&[
                "images",
                "import",
                "--no-unpack",
                "--base-name",
                &base,
                archive.to_str().unwrap(),
            ])
            .ok();
        format!("{base}:{TAG}")
    }

    fn export(&self, image: &str, name: &str) -> Layout {
        let layout = self.stage.layout(name);
        let archive: PathBuf = layout.path().with_extension("exported.tar");
        self.containerd
            .ctr(&["images", "export", archive.to_str().unwrap(), image])
            .ok();
        fs::create_dir(layout.path()).unwrap();
        Program::new("tar")
            .arg("-xf")
            .arg(&archive)
            .arg("-C")
            .arg(layout.path())
            .ok();
        // The exported index names the image, not the tag.
        name_tag(layout.path());
        layout
    }
}

fn name_tag(layout: &Path) {
    let file = layout.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = TAG.into();
    fs::write(file, index.to_string()).unwrap();
}

#[test]
fn we_open_what_ctr_enc_encrypts_also_when_recipients_were_added() {
    let Some(imgcrypt) = Imgcrypt::start() else {
        return;
    };
    let image = imgcrypt.import(&imgcrypt.stage.plain, "plain");
    let (first, second) = ("test.example/first:latest", "test.example/second:latest");
    let other = format!("pkcs11:{}", vector("keys/other3072.pub.pem").display());
    imgcrypt
        .ctr_enc(&["images", "encrypt", "--recipient", &other, &image, first])
        .ok();
    let add = [
        "images",
        "encrypt",
        "--recipient",
        &imgcrypt.stage.public_key(),
        "--key",
    ];
    let key = imgcrypt.stage.token.key_file("other3072");
    imgcrypt.ctr_enc(&add).arg(key).args([first, second]).ok();
    let encrypted = imgcrypt.export(second, "encrypted");
    for layer in encrypted.layers() {
        let recipients = layer["annotations"][RECIPIENTS].as_str().unwrap();
        assert_eq!(recipients.split(',').count(), 2, "{recipients}");
    }
    imgcrypt
        .stage
        .assert_opens(&encrypted, "amd64", &imgcrypt.stage.plain);
}

#[test]
fn ctr_enc_opens_what_we_encrypt() {
    let Some(imgcrypt) = Imgcrypt::start() else {
        return;
    };
    let stage = &imgcrypt.stage;
    let encrypted = stage
        .token
        .encrypt(&stage.plain, "rsa3072", &["--oaep-hash", "sha1"]);
    let image = imgcrypt.import(&encrypted, "encrypted");
    let decrypted = "test.example/decrypted:latest";
    imgcrypt
        .ctr_enc(&[
            "images",
            "decrypt",
            "--key",
            &stage.key_file(),
            &image,
            decrypted,
        ])
        .ok();
    let decrypted = imgcrypt.export(decrypted, "decrypted");
    let digests = |layout: &Layout| -> Vec<Value> {
        layout
            .layers()
            .iter()
            .map(|layer| layer["digest"].clone())
            .collect()
    };
    assert_eq!(digests(&decrypted), digests(&stage.plain));
}

#[test]
fn containerd_with_ctd_decoder_runs_what_we_encrypt() {
    let Some(mut imgcrypt) = Imgcrypt::start() else {
        return;
    };
    // This version takes PKCS#11 keys from a payload alone, and gets none for zstd layers.
    let layers = [
        Layer::busybox(Compression::Gzip),
        Layer::file("etc/one", b"one\n", Compression::None),
    ];
    let stage = &imgcrypt.stage;
    let plain = Layout::create(
        stage.place.path().join("two"),
        &layers,
        &["/bin/cat", "/etc/one"],
    );
    let encrypted = stage
        .token
        .encrypt(&plain, "rsa3072", &["--oaep-hash", "sha1"]);
    let registry = Registry::start();
    let image = registry.push(&encrypted, "two");
    let processors =
        [("", Compression::None), (".gzip", Compression::Gzip)].map(|(id, compression)| {
            let returns = compression.media_type();
            format!(
                "[stream_processors.\"io.containerd.ocicrypt.decoder.v1.tar{id}\"]\n\
             accepts = [\"{returns}+encrypted\"]\nreturns = \"{returns}\"\n\
             path = \"/usr/local/bin/ctd-decoder\"\n"
            )
        });
    imgcrypt.containerd = Containerd::start(&Settings {
        root: stage.root.clone(),
        processors: format!("version = 2\n{}", processors.concat()),
        cri: None,
    });
    let pull = [
        "images",
        "pull",
        "--plain-http",
        "--key",
        &imgcrypt.stage.key_file(),
        &image,
    ];
    imgcrypt.ctr_enc(&pull).ok();
    assert_eq!(imgcrypt.containerd.run(&image).text(), "one\n");
}
