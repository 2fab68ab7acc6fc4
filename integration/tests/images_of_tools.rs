//! Images as other tools write them, each encrypted and decrypted again: what comes back is what it was.

use std::path::PathBuf;

use integration::containerd::{Containerd, Settings};
use integration::layer::{Compression, Layer};
use integration::layout::Layout;
use integration::program::Program;
use integration::root::Root;
use integration::skip;
use integration::token::Token;
use integration::vector;
use serde_json::Value;
use tempfile::TempDir;

struct Stage {
    token: Token,
    place: TempDir,
    round: usize,
}

impl Stage {
    fn new() -> Self {
        Self {
            token: Token::vectors(),
            place: TempDir::new().unwrap(),
            round: 0,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    fn digest(&self, image: &str) -> String {
        let report = self.token.ocihsm().args(["inspect", "--json", image]).ok();
        let report: Value = serde_json::from_slice(&report.stdout).unwrap();
        report["digest"].as_str().unwrap().to_owned()
    }

    /// Encrypts an image and decrypts it again; returns what comes back.
    fn there_and_back(&mut self, image: &str, options: &[&str]) -> (Layout, String) {
        self.round += 1;
        let encrypted = format!("oci:{}:x", self.text(&format!("encrypted-{}", self.round)));
        let back = Layout::open(self.at(&format!("back-{}", self.round)));
        let recipient = format!("pkcs11:{}", vector("keys/rsa3072.pub.pem").display());
        let encrypt = self.token.ocihsm().args(["encrypt", image, &encrypted]);
        encrypt.args(["--recipient", &recipient]).args(options).ok();
        let decrypt = self.token.ocihsm().args(["decrypt", &encrypted]);
        let decrypt = decrypt.arg(back.reference()).arg("--key");
        let decrypt = decrypt.arg(self.token.key_file("rsa3072")).args(options);
        let digest = decrypt.ok().text().trim_end().to_owned();
        if options.is_empty() {
            back.assert_sound();
        }
        (back, digest)
    }

    fn assert_same(&mut self, image: &str, options: &[&str]) {
        let digest = self.digest(image);
        let (_, back) = self.there_and_back(image, options);
        assert_eq!(back, digest, "{image} {options:?}");
    }

    /// Where a manifest is Docker's, it becomes OCI's, and its layers stay what they were.
    fn assert_same_layers(&mut self, image: &str, expected: &[String]) {
        let (back, _) = self.there_and_back(image, &[]);
        assert_eq!(back.archives("amd64"), expected, "{image}");
    }
}

fn small(path: PathBuf) -> Layout {
    let layers = [
        Layer::file("etc/one", b"one\n", Compression::Gzip),
        Layer::file("etc/two", b"two\n", Compression::None),
        Layer::file("etc/three", b"three\n", Compression::Zstd),
    ];
    Layout::create(path, &layers, &["/etc/one"])
}

#[test]
fn what_ctr_exports() {
    Root::on_each_containerd(|root| {
        let mut stage = Stage::new();
        let keys = stage.token.keys(&["rsa3072"]);
        let containerd = Containerd::start(&Settings::new(root.clone(), &keys));
        let many = Layout::open(vector("images/plain-multi-arch"));
        let one = small(stage.at("one"));
        for (name, layout) in [("many", &many), ("one", &one)] {
            let archive = layout.archive();
            let archive = archive.to_str().unwrap();
            let base = format!("test.example/{name}");
            let import = ["images", "import", "--no-unpack", "--all-platforms"];
            let rest = ["--base-name", &base, archive];
            containerd.ctr(&[&import[..], &rest].concat()).ok();
            let name = format!("{base}:latest");
            let whole = stage.at(&format!("{}.tar", layout.layers().len()));
            containerd.export(&["--all-platforms"], &whole, &name);
            let whole = whole.display();
            stage.assert_same(&format!("oci-archive:{whole}"), &[]);
            // By the name that containerd has for it.
            stage.assert_same(&format!("oci-archive:{whole}:{name}"), &[]);
            // The blobs of one platform, under an index that may name both.
            let sparse = stage.at("sparse.tar");
            containerd.export(&["--platform", "linux/amd64"], &sparse, &name);
            let sparse = sparse.display();
            let image = format!("oci-archive:{sparse}");
            stage.assert_same(&image, &["--platform", "linux/amd64"]);
            // The same file is read by docker as well.
            let expected = layout.archives("amd64");
            if layout.path() == one.path() {
                stage.assert_same_layers(&format!("docker-archive:{sparse}"), &expected);
            }
        }
    });
}

#[test]
fn what_skopeo_copies() {
    if !skip::programs(&["skopeo"]) {
        return;
    }
    for root in Root::all() {
        let mut stage = Stage::new();
        let plain = small(stage.at("one"));
        let many = Layout::open(vector("images/plain-multi-arch"));
        let copy = |stage: &Stage, options: &[&str], from: &Layout, to: &str| {
            let skopeo = root.program(&stage.place, "skopeo");
            let skopeo = skopeo.args(["--insecure-policy", "copy", "--quiet"]);
            skopeo
                .args(options)
                .args([&from.reference(), to])
                .indiscreet()
                .ok();
        };
        for (name, from) in [("one", &plain), ("many", &many)] {
            let archive = format!("oci-archive:{}:v1", stage.text(&format!("{name}.tar")));
            copy(&stage, &["--all"], from, &archive);
            stage.assert_same(&archive, &[]);
            let layout = format!("oci:{}:v1", stage.text(&format!("{name}-copy")));
            copy(&stage, &["--all"], from, &layout);
            stage.assert_same(&layout, &[]);
        }
        // Docker's own has no zstd.
        let gzip = [Layer::file("etc/one", b"one\n", Compression::Gzip)];
        let gzip = Layout::create(stage.at("gzip"), &gzip, &["/etc/one"]);
        let expected = gzip.archives("amd64");
        let docker = stage.text("docker.tar");
        copy(
            &stage,
            &[],
            &gzip,
            &format!("docker-archive:{docker}:app:1"),
        );
        stage.assert_same_layers(&format!("docker-archive:{docker}"), &expected);
        stage.assert_same_layers(&format!("docker-archive:{docker}:app:1"), &expected);
        let layout = format!("oci:{}:v1", stage.text("v2s2"));
        copy(&stage, &["--format", "v2s2"], &gzip, &layout);
        stage.assert_same_layers(&layout, &expected);
    }
}

/// A storage of its own, in which a tool of containers' makes an image of two layers.
struct Builder<'a> {
    stage: &'a Stage,
    root: &'a Root,
}

impl Builder<'_> {
    fn buildah(&self, args: &[&str]) -> Program {
        let policy = self.stage.at("policy.json");
        let text = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
        std::fs::write(&policy, text).unwrap();
        let buildah = self.root.program(&self.stage.place, "buildah");
        buildah
            .args(["--storage-driver", "vfs", "--root"])
            .arg(self.stage.at("storage"))
            .arg("--runroot")
            .arg(self.stage.at("storage-run"))
            .args(args)
            .indiscreet()
    }

    fn build(&self, file: &str, options: &[&str], tag: &str) {
        let context = self.stage.at("context");
        std::fs::create_dir_all(&context).unwrap();
        std::fs::write(context.join("Containerfile"), file).unwrap();
        std::fs::write(context.join("one"), "one\n").unwrap();
        let policy = self.stage.text("policy.json");
        let build = ["build", "--quiet", "--layers", "--signature-policy"];
        self.buildah(&build)
            .arg(policy)
            .args(["--isolation", "chroot", "--tag", tag])
            .args(options)
            .arg(&context)
            .ok();
    }

    fn push(&self, tag: &str, to: &str) {
        let policy = self.stage.text("policy.json");
        let push = ["push", "--quiet", "--signature-policy", &policy, tag, to];
        self.buildah(&push).ok();
    }
}

#[test]
fn what_buildah_builds() {
    if !skip::root() {
        return;
    }
    for root in [Root::trixie(), Root::sid()].into_iter().flatten() {
        let mut stage = Stage::new();
        let file = "FROM scratch\nCOPY one /etc/one\nADD one /etc/two\nCMD [\"/etc/one\"]\n";
        for format in ["oci", "docker"] {
            let tag = format!("localhost/{format}:1");
            let (archive, layout, saved) = (
                format!("oci-archive:{}:v1", stage.text(&format!("{format}.tar"))),
                format!("oci:{}:v1", stage.text(&format!("{format}-layout"))),
                format!(
                    "docker-archive:{}:app:1",
                    stage.text(&format!("{format}-saved.tar"))
                ),
            );
            let builder = Builder {
                stage: &stage,
                root: &root,
            };
            builder.build(file, &["--format", format], &tag);
            for to in [&archive, &layout, &saved] {
                builder.push(&tag, to);
            }
            // Into a layout, Docker's manifests go as OCI's.
            stage.assert_same(&archive, &[]);
            stage.assert_same(&layout, &[]);
            let (plain, _) = stage.there_and_back(&layout, &[]);
            stage.assert_same_layers(&saved, &plain.archives("amd64"));
        }
    }
}
