//! Other tools use a token through us: skopeo and buildah encrypt and decrypt by `provider:ocihsm`, and imgcrypt's
//! `ctd-decoder` opens by it in containerd, on SoftHSM and on Kryoptic, with RSA keys and keys on curves. CRI-O takes the same
//! library as skopeo.
//!
//! skopeo and buildah are of the peers' roots, so our program runs there too, with the modules of those roots.

use std::fs;
use std::path::PathBuf;
use std::thread;

use integration::containerd::{Containerd, Settings};
use integration::layer::{Compression, Layer};
use integration::layout::Layout;
use integration::module::{self, Module};
use integration::program::{Output, Program};
use integration::registry::Registry;
use integration::root::Root;
use integration::token::Token;
use integration::{ocihsm, skip};
use tempfile::TempDir;

const PROVIDERS: &str = "OCICRYPT_KEYPROVIDER_CONFIG";
const ANNOTATION: &str = "org.opencontainers.image.enc.keys.provider.ocihsm";

/// A root's tools, and a token that they reach through us.
struct Stage {
    root: Root,
    place: TempDir,
    plain: Layout,
    /// Key files, by the names of the keys in them.
    keys: PathBuf,
    /// What a recipient is named by behind the provider.
    recipients: Vec<String>,
    /// What kept alive holds the token.
    _token: Kept,
}

enum Kept {
    SoftHsm(Token),
    Kryoptic(Module),
}

impl Stage {
    fn softhsm(root: Root) -> Self {
        let token = Token::vectors();
        let keys = token.keys(&["rsa3072", "p256"]);
        let file = |name: &str| token.key_file(name).display().to_string();
        let recipients = vec![format!("pkcs11:{}", file("rsa3072")), file("p256")];
        Self::new(root, keys, recipients, Kept::SoftHsm(token))
    }

    /// Its library is copied to where the root sees it.
    fn kryoptic(root: Root) -> Option<Self> {
        let module = Module::up("kryoptic")?;
        let place = module.directory();
        let library = place.join("libkryoptic_pkcs11.so");
        fs::copy(module.library(), &library).unwrap();
        let keys = place.join("keys");
        fs::create_dir(&keys).unwrap();
        fs::write(place.join("pin"), module::PIN).unwrap();
        let policy = format!(
            "pkcs11:\n  module-directories: [{0}]\n  allowed-module-paths: [{0}/]\n",
            place.display()
        );
        fs::write(place.join("ocicrypt.conf"), policy).unwrap();
        for (kind, size) in [("rsa", &["--bits", "2048"][..]), ("p384", &[])] {
            let program = Program::new(ocihsm()).args(["keys", "generate", "--token", "kbs"]);
            let program = program.args(["--label", kind, "--type", kind]).args(size);
            // A busy machine takes long for an RSA key.
            let program = program
                .args(["--hsm-timeout", "600", "--module"])
                .arg(&library)
                .arg("--pin-file")
                .arg(place.join("pin"));
            let env = module.env().iter();
            env.fold(program, |program, (name, value)| program.env(name, value))
                .arg("--out")
                .arg(&keys)
                .env("OCICRYPT_CONFIG", place.join("ocicrypt.conf"))
                .env("OCIHSM_RUNTIME_DIR", place.join("run"))
                .ok();
        }
        let public = |name: &str| keys.join(format!("{name}.pub.pem")).display().to_string();
        let recipients = vec![
            format!("pkcs11:{}", public("rsa")),
            format!("jwe:{}", public("p384")),
        ];
        Some(Self::new(
            root,
            keys.clone(),
            recipients,
            Kept::Kryoptic(module),
        ))
    }

    fn new(root: Root, keys: PathBuf, recipients: Vec<String>, token: Kept) -> Self {
        let place = TempDir::with_prefix("ocihsm-through-").unwrap();
        let layers = [
            Layer::busybox(Compression::Gzip),
            Layer::file("etc/one", b"one\n", Compression::Gzip),
        ];
        let plain = Layout::create(
            place.path().join("plain"),
            &layers,
            &["/bin/cat", "/etc/one"],
        );
        let config = Program::new(ocihsm())
            .args(["config", "keyprovider", "--keys"])
            .arg(&keys)
            .arg("--path")
            .arg(ocihsm())
            .ok();
        fs::write(place.path().join("providers.json"), config.stdout).unwrap();
        Self {
            root,
            place,
            plain,
            keys,
            recipients,
            _token: token,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// What has to be in the environment of whoever starts us.
    fn env(&self) -> Vec<(String, String)> {
        let (policy, runtime) = match &self._token {
            Kept::SoftHsm(token) => ("internal".to_owned(), token.runtime()),
            Kept::Kryoptic(module) => (
                module
                    .directory()
                    .join("ocicrypt.conf")
                    .display()
                    .to_string(),
                module.directory().join("run"),
            ),
        };
        vec![
            (
                PROVIDERS.to_owned(),
                self.at("providers.json").display().to_string(),
            ),
            ("OCICRYPT_CONFIG".to_owned(), policy),
            (
                "OCIHSM_RUNTIME_DIR".to_owned(),
                runtime.display().to_string(),
            ),
        ]
    }

    fn with_env(&self, program: Program) -> Program {
        let env = self.env().into_iter();
        env.fold(program, |program, (name, value)| program.env(name, value))
    }

    fn tool(&self, name: &str) -> Program {
        self.with_env(self.root.program(&self.place, name))
            .indiscreet()
    }

    fn skopeo(&self, from: &Layout, to: &Layout, options: &[&str]) -> Output {
        self.tool("skopeo")
            .args(["--insecure-policy", "copy"])
            .args(options)
            .args([from.reference(), to.reference()])
            .run()
    }

    fn buildah(&self, command: &str) -> Program {
        let policy = self.at("policy.json");
        fs::write(
            &policy,
            r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
        )
        .unwrap();
        self.tool("buildah")
            .args(["--storage-driver", "vfs", "--root"])
            .arg(self.at("storage"))
            .arg("--runroot")
            .arg(self.at("storage-run"))
            .args([command, "--quiet", "--signature-policy"])
            .arg(policy)
    }

    /// Our own commands, through the same provider.
    fn ocihsm(&self) -> Program {
        self.with_env(Program::new(ocihsm()))
    }

    fn assert_same(&self, layout: &Layout) {
        assert_eq!(layout.archives("amd64"), self.plain.archives("amd64"));
    }

    fn assert_wrapped(&self, layout: &Layout) {
        for layer in layout.layers() {
            assert!(layer["annotations"].get(ANNOTATION).is_some(), "{layer}");
        }
    }

    /// What each of three encrypts, the two others open.
    fn both_directions(&self) {
        let name = self.root.name();
        for (number, recipient) in self.recipients.iter().enumerate() {
            let layout = |tool: &str| Layout::open(self.at(&format!("{tool}-{number}")));
            let key = format!("provider:ocihsm:{recipient}");
            let by_skopeo = layout("skopeo");
            let output = self.skopeo(&self.plain, &by_skopeo, &["--encryption-key", &key]);
            assert!(output.status.success(), "{name} {key} {output:?}");

            let pulled = self.buildah("pull").arg(self.plain.reference()).ok().text();
            let image = pulled.lines().last().unwrap().to_owned();
            let by_buildah = layout("buildah");
            let push = self
                .buildah("push")
                .args(["--encryption-key", &key, &image]);
            push.arg(by_buildah.reference()).ok();

            let ours = layout("ours");
            self.ocihsm()
                .args(["encrypt", &self.plain.reference(), &ours.reference()])
                .args(["--recipient", &key])
                .ok();

            for (tool, encrypted) in [("s", &by_skopeo), ("b", &by_buildah), ("o", &ours)] {
                self.assert_wrapped(encrypted);
                if tool != "s" {
                    let opened = layout(&format!("opened-{tool}-skopeo"));
                    let options = ["--decryption-key", "provider:ocihsm"];
                    let output = self.skopeo(encrypted, &opened, &options);
                    assert!(output.status.success(), "{name} {tool} {key} {output:?}");
                    self.assert_same(&opened);
                }
                if tool != "b" {
                    let pull = self.buildah("pull");
                    let pull = pull.args(["--decryption-key", "provider:ocihsm"]);
                    let pulled = pull.arg(encrypted.reference()).ok().text();
                    let opened = layout(&format!("opened-{tool}-buildah"));
                    let image = pulled.lines().last().unwrap();
                    let push = self.buildah("push").arg(image);
                    push.arg(opened.reference()).ok();
                    self.assert_same(&opened);
                }
                if tool != "o" {
                    let opened = layout(&format!("opened-{tool}-ours"));
                    self.ocihsm()
                        .args(["decrypt", &encrypted.reference(), &opened.reference()])
                        .args(["--key", "provider:ocihsm"])
                        .ok();
                    self.assert_same(&opened);
                }
            }
        }
        // Beside a recipient of another scheme, whose key the tool hands to every provider.
        let public = integration::vector("keys/jwe-rsa.pub.pem");
        let other = format!("jwe:{}", public.display());
        let key = format!("provider:ocihsm:{}", self.recipients[1]);
        let both = Layout::open(self.at("both"));
        let options = ["--encryption-key", &other, "--encryption-key", &key];
        let output = self.skopeo(&self.plain, &both, &options);
        assert!(output.status.success(), "{name} {output:?}");
        self.assert_wrapped(&both);
        // Without the keys it stays shut.
        for entry in fs::read_dir(&self.keys).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        let never = Layout::open(self.at("never"));
        let shut = Layout::open(self.at("skopeo-0"));
        let output = self.skopeo(&shut, &never, &["--decryption-key", "provider:ocihsm"]);
        assert!(!output.status.success(), "{name} {output:?}");
    }
}

fn roots() -> Vec<Root> {
    if !skip::root() {
        return Vec::new();
    }
    let roots = Root::all().into_iter();
    roots
        .filter(|root| root.path("usr/bin/skopeo").is_some())
        .collect()
}

#[test]
fn skopeo_and_buildah_use_softhsm_through_us() {
    thread::scope(|scope| {
        for root in roots() {
            scope.spawn(|| Stage::softhsm(root).both_directions());
        }
    });
}

#[test]
fn skopeo_and_buildah_use_kryoptic_through_us() {
    thread::scope(|scope| {
        for root in roots() {
            scope.spawn(|| {
                if let Some(stage) = Stage::kryoptic(root) {
                    stage.both_directions();
                }
            });
        }
    });
}

#[test]
fn ctd_decoder_in_containerd_uses_a_token_through_us() {
    let has_decoder = |root: &Root| root.path("usr/local/bin/ctd-decoder").is_some();
    let Some(root) = roots().into_iter().find(has_decoder) else {
        return;
    };
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let stages = [Some(Stage::softhsm(root.clone())), Stage::kryoptic(root)];
    for stage in stages.into_iter().flatten() {
        let env: Vec<_> = stage
            .env()
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let returns = Compression::Gzip.media_type();
        let containerd = Containerd::start(&Settings {
            root: stage.root.clone(),
            processors: format!(
                "version = 2\n[stream_processors.\"io.containerd.ocicrypt.decoder.v1.tar.gzip\"]\n\
                 accepts = [\"{returns}+encrypted\"]\nreturns = \"{returns}\"\n\
                 path = \"/usr/local/bin/ctd-decoder\"\nenv = {env:?}\n"
            ),
            cri: None,
        });
        let registry = Registry::start();
        for (number, recipient) in stage.recipients.iter().enumerate() {
            // Never unpacked before, or the decoder would not be asked.
            let text = format!("one of {number}\n");
            let layers = [
                Layer::file("etc/one", text.as_bytes(), Compression::Gzip),
                Layer::busybox(Compression::Gzip),
            ];
            let plain = Layout::create(
                stage.at(&format!("plain-{number}")),
                &layers,
                &["/bin/cat", "/etc/one"],
            );
            let encrypted = Layout::open(stage.at(&format!("encrypted-{number}")));
            stage
                .ocihsm()
                .args(["encrypt", &plain.reference(), &encrypted.reference()])
                .args(["--recipient", &format!("provider:ocihsm:{recipient}")])
                .ok();
            let reference = registry.push(&encrypted, &format!("image-{number}"));
            let args = ["images", "pull", "--plain-http", "--skip-decrypt-auth"];
            let pull = containerd.client("/usr/local/bin/ctr-enc", &args);
            let pull = pull.args(["--key", "provider:ocihsm", &reference]);
            let output = stage.with_env(pull).indiscreet().run();
            assert!(output.status.success(), "{output:?}");
            assert_eq!(containerd.run(&reference).text(), text);
        }
    }
}
