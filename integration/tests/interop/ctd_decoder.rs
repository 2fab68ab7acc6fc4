//! imgcrypt's `ctd-decoder`, which opens what we encrypt as the stream processor of its root's containerd. It encrypts
//! nothing. This version takes PKCS#11 keys from a payload alone, so the image is pulled by `ctr-enc`, which sends one.

use integration::containerd::{Containerd, Settings};
use integration::layer::{Compression, Layer};
use integration::layout::Layout;
use integration::program::Output;
use integration::registry::Registry;

use crate::ctr_enc::{self, imgcrypt};
use crate::row::Row;
use crate::stage::{HASH, Stage, assert_ok, encrypted_layers};

pub(crate) fn row(stage: &Stage) -> Row {
    let decoder = Decoder::start(stage);
    Row::new(decoder.peer())
        .it_opens("tar and gzip, SHA-1", || {
            decoder.runs("two-types", 2, &[]);
        })
        .it_opens("one layer", || {
            decoder.runs("one-layer", 1, &["--encrypt-layer", "1"]);
        })
        .it_opens("one of two platforms", || decoder.unpacks_its_platform())
        .it_cannot("open zstd, for which no client sends a payload", || {
            let options = ["--encrypt-layer", "2"];
            let encrypted = stage.encrypt(&stage.plain, "zstd", "sha1", &options);
            let (_, output) = decoder.pull(&encrypted, "zstd");
            // Without a payload its file descriptor 3 is closed, or by then one of its own.
            let reasons = [
                "could not proto.Unmarshal() decrypt data",
                "read payload: read configFd: bad file descriptor",
                "type with url",
            ];
            assert_gives_up(&output, &reasons);
        })
        .it_cannot("decrypt with SoftHSM and SHA-256", || {
            // Not unpacked before, or the decoder would not be asked.
            let layer = Layer::file("etc/closed", b"closed\n", Compression::Gzip);
            let plain = Layout::create(stage.path().join("new"), &[layer], &["/bin/true"]);
            let encrypted = stage.encrypt(&plain, "closed", "sha256", &[]);
            let (_, output) = decoder.pull(&encrypted, "closed");
            assert_gives_up(&output, &["CKR_ARGUMENTS_BAD"]);
        })
}

struct Decoder<'a> {
    stage: &'a Stage,
    containerd: Containerd,
    registry: Registry,
    /// An image of the media types that it opens.
    plain: Layout,
}

impl<'a> Decoder<'a> {
    fn start(stage: &'a Stage) -> Self {
        let layers = [
            Layer::busybox(Compression::Gzip),
            Layer::file("etc/one", b"one\n", Compression::None),
        ];
        let command = ["/bin/cat", "/etc/one"];
        let processors = Compression::ALL.map(|compression| {
            let returns = compression.media_type();
            let id = returns.trim_start_matches("application/vnd.oci.image.layer.v1.");
            let id = id.replace('+', ".");
            format!(
                "[stream_processors.\"io.containerd.ocicrypt.decoder.v1.{id}\"]\n\
                 accepts = [\"{returns}+encrypted\"]\nreturns = \"{returns}\"\n\
                 path = \"/usr/local/bin/ctd-decoder\"\nenv = [\"OCICRYPT_CONFIG=internal\"]\n"
            )
        });
        Self {
            stage,
            containerd: Containerd::start(&Settings {
                root: stage.root.clone(),
                processors: format!("version = 2\n{}", processors.concat()),
                cri: None,
            }),
            registry: Registry::start(),
            plain: Layout::create(stage.path().join("two"), &layers, &command),
        }
    }

    fn peer(&self) -> String {
        let version = self.containerd.version();
        format!("ctd-decoder {}, containerd {version}", imgcrypt(self.stage))
    }

    /// Pulls an image with the key in a payload; returns its reference, and what came of it.
    fn pull(&self, layout: &Layout, name: &str) -> (String, Output) {
        let reference = self.registry.push(layout, name);
        // The client's own look at the key would fail before the decoder's, and in its place.
        let args = ["images", "pull", "--plain-http", "--skip-decrypt-auth"];
        let pull = self.containerd.client(ctr_enc::PROGRAM, &args);
        let output = pull
            .args(["--key", &self.stage.key_file(), &reference])
            .env("OCICRYPT_CONFIG", "internal")
            .env(HASH, "sha1")
            .indiscreet()
            .run();
        (reference, output)
    }

    fn runs(&self, name: &str, layers: usize, options: &[&str]) {
        let encrypted = self.stage.encrypt(&self.plain, name, "sha1", options);
        assert_eq!(encrypted_layers(&encrypted, "amd64"), layers);
        let (reference, output) = self.pull(&encrypted, name);
        assert_ok(&output);
        assert_eq!(self.containerd.run(&reference).text(), "one\n");
    }

    fn unpacks_its_platform(&self) {
        let options = ["--encrypt-layer", "0", "--encrypt-layer", "1"];
        let encrypted = self
            .stage
            .encrypt(&self.stage.index, "index", "sha1", &options);
        for architecture in ["amd64", "arm64"] {
            assert_eq!(encrypted_layers(&encrypted, architecture), 2);
        }
        let before = self.containerd.snapshots();
        assert_ok(&self.pull(&encrypted, "index").1);
        assert_eq!(self.containerd.snapshots(), before + 3);
    }
}

/// The peer fails, and says why; or containerd overlooks that it failed, and stumbles over what it has not written.
fn assert_gives_up(output: &Output, reasons: &[&str]) {
    assert!(!output.status.success(), "it has learned to: {output:?}");
    let told = |reason: &str| output.stderr.contains(reason);
    assert!(
        reasons.iter().any(|reason| told(reason)) || told("wrong diff id calculated"),
        "{output:?}"
    );
}
