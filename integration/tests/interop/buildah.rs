//! buildah: encrypts what it pushes from its storage, decrypts what it pulls into it.

use std::fs;

use integration::layer::Compression;
use integration::layout::Layout;
use integration::program::{Output, Program};

use crate::row::Row;
use crate::stage::{
    HASH, Stage, assert_ok, assert_refused_by_softhsm, assert_same, compressions, encrypted_layers,
};

pub(crate) fn row(stage: &Stage) -> Row {
    let buildah = Buildah { stage };
    Row::new(stage.peer("buildah"))
        .we_open("gzip to a PEM file, SHA-256", || {
            let encrypted = buildah.encrypts("pem-256", &stage.public_key(), "sha256", &[]);
            stage.assert_opens(&encrypted, 3, "amd64", &stage.plain);
        })
        .we_open("SHA-1", || {
            let encrypted = buildah.encrypts("pem-1", &stage.public_key(), "sha1", &[]);
            stage.assert_opens(&encrypted, 3, "amd64", &stage.plain);
        })
        .we_open("to a key file, SHA-1", || {
            let encrypted = buildah.encrypts("token-1", &stage.token_key(), "sha1", &[]);
            stage.assert_opens(&encrypted, 3, "amd64", &stage.plain);
        })
        .we_open("zstd", || {
            let options = ["--compression-format", "zstd"];
            let encrypted = buildah.encrypts("zstd", &stage.public_key(), "sha256", &options);
            assert_eq!(compressions(&encrypted), [Compression::Zstd; 3]);
            stage.assert_opens(&encrypted, 3, "amd64", &stage.plain);
        })
        .we_open("one layer", || {
            let options = ["--encrypt-layer", "-1"];
            let encrypted = buildah.encrypts("one", &stage.public_key(), "sha256", &options);
            stage.assert_opens(&encrypted, 1, "amd64", &stage.plain);
        })
        .we_open("another platform", || buildah.we_open_another_platform())
        .it_opens("three media types, SHA-1", || {
            buildah.it_opens("all", 3, &[]);
        })
        .it_opens("one layer", || {
            buildah.it_opens("one", 1, &["--encrypt-layer", "1"]);
        })
        .it_opens("each of two platforms", || buildah.it_opens_an_index())
        .it_cannot("encrypt plain tar, which it compresses", || {
            let options = ["--disable-compression"];
            let encrypted = buildah.encrypts("tar", &stage.public_key(), "sha256", &options);
            assert_eq!(compressions(&encrypted), [Compression::Gzip; 3]);
        })
        .it_cannot("encrypt two platforms at once", || {
            buildah.pushes_one_platform();
        })
        .it_cannot("encrypt to SoftHSM with SHA-256", || {
            let image = buildah.pull(&stage.plain, &[]);
            let to = stage.layout("token-256");
            let output = buildah.push(&image, &to, &stage.token_key(), "sha256", &[]);
            assert_refused_by_softhsm(&output);
        })
        .it_cannot("decrypt with SoftHSM and SHA-256", || {
            let encrypted = stage.encrypt(&stage.plain, "closed", "sha256", &[]);
            let pull = buildah.command("pull").env(HASH, "sha256");
            let pull = pull.args(["--decryption-key", &stage.key_file()]);
            assert_refused_by_softhsm(&pull.arg(encrypted.reference()).run());
        })
}

struct Buildah<'a> {
    stage: &'a Stage,
}

impl Buildah<'_> {
    /// One of its commands, on a storage of this stage's own.
    fn command(&self, command: &str) -> Program {
        let at = |name: &str| self.stage.path().join(name);
        let policy = at("policy.json");
        let text = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
        fs::write(&policy, text).unwrap();
        self.stage
            .program("buildah")
            .args(["--storage-driver", "vfs", "--root"])
            .arg(at("storage"))
            .arg("--runroot")
            .arg(at("storage-run"))
            .args([command, "--quiet", "--signature-policy"])
            .arg(policy)
    }

    /// Pulls an image and returns its id.
    fn pull(&self, layout: &Layout, options: &[&str]) -> String {
        let pull = self.command("pull").args(options).arg(layout.reference());
        let output = pull.env(HASH, "sha1").ok();
        output.text().lines().last().unwrap().to_owned()
    }

    fn push(&self, image: &str, to: &Layout, key: &str, hash: &str, options: &[&str]) -> Output {
        self.command("push")
            .args(["--encryption-key", key])
            .args(options)
            .args([image, &to.reference()])
            .env(HASH, hash)
            .run()
    }

    fn encrypts(&self, name: &str, key: &str, hash: &str, options: &[&str]) -> Layout {
        let image = self.pull(&self.stage.plain, &[]);
        let encrypted = self.stage.layout(name);
        assert_ok(&self.push(&image, &encrypted, key, hash, options));
        encrypted
    }

    fn we_open_another_platform(&self) {
        let stage = self.stage;
        let image = self.pull(&stage.index, &["--arch", "arm64"]);
        let encrypted = stage.layout("arm64");
        assert_ok(&self.push(&image, &encrypted, &stage.public_key(), "sha256", &[]));
        stage.assert_opens(&encrypted, 3, "arm64", &stage.index);
    }

    /// With a key it pushes the one image of a list that fits the machine, whatever it is told.
    fn pushes_one_platform(&self) {
        let stage = self.stage;
        let manifest = |args: &[&str]| {
            // The options before the command are those of the other commands.
            let at = |name: &str| stage.path().join(name);
            let program = stage.program("buildah");
            program
                .args(["--storage-driver", "vfs", "--root"])
                .arg(at("storage"))
                .arg("--runroot")
                .arg(at("storage-run"))
                .arg("manifest")
                .args(args)
                .ok();
        };
        manifest(&["create", "both"]);
        for architecture in ["amd64", "arm64"] {
            let image = self.pull(&stage.index, &["--arch", architecture]);
            manifest(&["add", "both", &image]);
        }
        let encrypted = stage.layout("both");
        let key = stage.public_key();
        assert_ok(&self.push("both", &encrypted, &key, "sha256", &["--all"]));
        let entry = encrypted.entry(integration::layout::TAG);
        let media_type = entry["mediaType"].as_str().unwrap();
        assert!(media_type.ends_with(".manifest.v1+json"), "{media_type}");
    }

    fn it_opens(&self, name: &str, layers: usize, options: &[&str]) {
        let stage = self.stage;
        let encrypted = stage.encrypt(&stage.plain, &format!("ours-{name}"), "sha1", options);
        assert_eq!(encrypted_layers(&encrypted, "amd64"), layers);
        self.assert_decrypts(&encrypted, name, "amd64", &stage.plain);
    }

    fn it_opens_an_index(&self) {
        let encrypted = self
            .stage
            .encrypt(&self.stage.index, "ours-index", "sha1", &[]);
        for architecture in ["amd64", "arm64"] {
            self.assert_decrypts(&encrypted, architecture, architecture, &self.stage.index);
        }
    }

    /// Pulls it with the key, and pushes it in plain to see what it has become.
    fn assert_decrypts(&self, encrypted: &Layout, name: &str, architecture: &str, plain: &Layout) {
        let key = self.stage.key_file();
        let options = ["--decryption-key", &key, "--arch", architecture];
        let image = self.pull(encrypted, &options);
        let decrypted = self.stage.layout(&format!("opened-{name}"));
        let push = self.command("push").arg(&image).arg(decrypted.reference());
        push.ok();
        assert_same(&decrypted, plain, architecture);
    }
}
