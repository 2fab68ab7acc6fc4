//! A containerd of the test's own with an image in it, and a token; and what is asked of them.

use std::path::PathBuf;

use integration::containerd::{Containerd, Settings};
use integration::layer::{Compression, Layer, noise};
use integration::layout::Layout;
use integration::program::{Output, Program};
use integration::root::Root;
use integration::token::Token;
use integration::vector;
use serde_json::Value;
use tempfile::TempDir;

/// What `ctr images import` makes of the name `app`.
pub(crate) const PLAIN: &str = "test.example/app:latest";
pub(crate) const ENCRYPTED: &str = "test.example/app:encrypted";

/// A containerd, and the token whose keys it opens layers with.
pub(crate) struct Stage {
    pub(crate) token: Token,
    pub(crate) place: TempDir,
    pub(crate) containerd: Containerd,
}

impl Stage {
    pub(crate) fn new(root: &Root) -> Self {
        let token = Token::vectors();
        let keys = token.keys(&["rsa3072"]);
        Self {
            containerd: Containerd::start(&Settings::new(root.clone(), &keys)),
            place: TempDir::new().unwrap(),
            token,
        }
    }

    /// With an image there that runs.
    pub(crate) fn with_image(root: &Root) -> (Self, Layout) {
        let stage = Self::new(root);
        let layers = [
            Layer::busybox(Compression::Gzip),
            Layer::file("etc/one", b"one of two\n", Compression::None),
        ];
        let plain = Layout::create(stage.at("image"), &layers, &["/bin/cat", "/etc/one"]);
        let output = stage.containerd.import(&plain.archive(), "app");
        assert!(output.status.success(), "{output:?}");
        (stage, plain)
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    pub(crate) fn ocihsm(&self, args: &[&str]) -> Program {
        self.asks(self.token.ocihsm().args(args))
    }

    /// A program that is told which containerd is meant.
    pub(crate) fn asks(&self, program: Program) -> Program {
        program
            .env("CONTAINERD_ADDRESS", self.containerd.socket())
            .env("CONTAINERD_NAMESPACE", self.containerd.namespace())
    }

    pub(crate) fn encrypt(&self, source: &str, target: &str) -> Program {
        let recipient = format!("pkcs11:{}", vector("keys/rsa3072.pub.pem").display());
        self.ocihsm(&["encrypt", source, target, "--recipient", &recipient])
    }

    pub(crate) fn decrypt(&self, source: &str, target: &str, key: &str) -> Program {
        let key = self.token.key_file(key);
        self.ocihsm(&["decrypt", source, target, "--key"]).arg(key)
    }

    /// An image as `ctr` exports it.
    pub(crate) fn export(&self, name: &str) -> String {
        let file = self.at(&format!("{}.tar", name.replace(['/', ':'], "-")));
        self.containerd.export(&["--all-platforms"], &file, name);
        format!("oci-archive:{}", file.display())
    }

    pub(crate) fn lines(&self, args: &[&str]) -> Vec<String> {
        let text = self.containerd.ctr(args).ok().text();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn images(&self) -> Vec<String> {
        self.lines(&["images", "list", "--quiet"])
    }

    pub(crate) fn content(&self) -> Vec<String> {
        self.lines(&["content", "list", "--quiet"])
    }

    /// Nothing of ours is under way.
    pub(crate) fn assert_idle(&self) {
        assert_eq!(self.lines(&["leases", "list", "--quiet"]), [""; 0]);
        assert_eq!(self.lines(&["content", "active"]).len(), 1);
    }

    /// Has containerd collect what nothing names.
    pub(crate) fn collect(&self) {
        // `ctr content prune references` would take the layers of images that are there.
        self.containerd.ctr(&["leases", "create", "--id", "x"]).ok();
        self.containerd
            .ctr(&["leases", "delete", "--sync", "x"])
            .ok();
    }
}

/// An image with a layer that is larger than the memory that we may take.
pub(crate) fn large() -> (TempDir, Layout) {
    let place = TempDir::new().unwrap();
    let layers = [Layer::file("big", &noise(96 << 20), Compression::None)];
    let layout = Layout::create(place.path().join("large"), &layers, &["/big"]);
    (place, layout)
}

pub(crate) fn at(name: &str) -> String {
    format!("containerd:{name}")
}

pub(crate) fn assert_fails(output: &Output, parts: &[&str]) {
    assert!(!output.status.success(), "it succeeded");
    for part in parts {
        assert!(
            output.stderr.contains(part),
            "no {part:?}: {}",
            output.stderr
        );
    }
    assert_eq!(output.text(), "");
}

pub(crate) fn digest_of(layout: &Layout) -> String {
    let entry = layout.entry("latest");
    entry["digest"].as_str().unwrap().to_owned()
}

pub(crate) fn report(program: Program) -> Value {
    serde_json::from_slice(&program.ok().stdout).unwrap()
}
