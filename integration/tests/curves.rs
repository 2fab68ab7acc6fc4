//! Keys on curves, on each module that we support: made, listed, exported, encrypted to and decrypted with; and what a
//! module cannot is told in one sentence.

use std::fs;
use std::path::Path;

use integration::layer::{Compression, Layer};
use integration::layout::Layout;
use integration::module::{self, Module};
use integration::program::{Output, Program};
use serde_json::Value;
use tempfile::TempDir;

/// How far a module goes.
enum Reach {
    /// All the way.
    Decrypts,
    /// It makes keys that agree on nothing, and this is said of it.
    Makes(&'static str),
    /// It makes none, and this is said.
    None(&'static str),
}

#[test]
fn softhsm() {
    way_of_keys("softhsm", &Reach::Decrypts);
}

#[test]
fn kryoptic() {
    way_of_keys("kryoptic", &Reach::Decrypts);
}

#[test]
fn opencryptoki() {
    let before = Reach::None("the token does not have this mechanism");
    since("opencryptoki", ("opencryptoki", "3.23"), before);
}

#[test]
fn tpm2() {
    let before = Reach::Makes("C_DeriveKey: CKR_FUNCTION_NOT_SUPPORTED");
    since("tpm2", ("libtpm2-pkcs11-1", "1.9.1"), before);
}

#[test]
fn p11_kit() {
    let before = Reach::Makes("C_DeriveKey: CKR_MECHANISM_INVALID");
    since("p11-kit", ("p11-kit", "0.25"), before);
}

/// A module that goes all the way from this version of its package on, and only so far before.
fn since(name: &str, (package, version): (&str, &str), before: Reach) {
    match module::is_since(package, version) {
        true => way_of_keys(name, &Reach::Decrypts),
        false => way_of_keys(name, &before),
    }
}

struct Stage {
    module: Module,
    place: TempDir,
}

impl Stage {
    fn text(&self, name: &str) -> String {
        self.place.path().join(name).display().to_string()
    }

    fn ocihsm(&self, arguments: &[&str]) -> Program {
        let program = self.module.program(&integration::ocihsm()).args(arguments);
        let env = self.module.env().iter();
        env.fold(program, |program, (name, value)| program.env(name, value))
            .env("OCICRYPT_CONFIG", self.text("ocicrypt.conf"))
            .env("OCIHSM_RUNTIME_DIR", self.text("run"))
            .env("HOME", self.place.path())
    }

    fn generate(&self, kind: &str) -> Output {
        let program = self.ocihsm(&["keys", "generate", "--token", "kbs"]);
        let program = program.args(["--label", kind, "--type", kind]);
        let program = program.args(["--pin-file", &self.text("pin")]);
        program.args(["--out", &self.text("")]).run()
    }

    /// Objects of every kind that the token shows to its user.
    fn objects(&self) -> usize {
        let tool = self.module.env().iter();
        let tool = tool.fold(
            self.module.program(Path::new("pkcs11-tool")),
            |tool, (name, value)| tool.env(name, value),
        );
        let listed = tool
            .arg("--module")
            .arg(self.module.library())
            .args(["--token-label", "kbs", "--login", "--pin", module::PIN])
            .arg("--list-objects")
            .indiscreet()
            .ok();
        let listed = listed.text();
        listed
            .lines()
            .filter(|line| line.contains(" Object"))
            .count()
    }
}

fn way_of_keys(name: &str, reach: &Reach) {
    let Some(module) = Module::up(name) else {
        return;
    };
    let stage = Stage {
        module,
        place: TempDir::with_prefix("ocihsm-curves-").unwrap(),
    };
    let library = stage.module.library();
    let directory = library.parent().unwrap().display();
    let policy = format!(
        "pkcs11:\n  module-directories: [{directory}]\n  allowed-module-paths: [{}]\n",
        library.display()
    );
    fs::write(stage.text("ocicrypt.conf"), policy).unwrap();
    fs::write(stage.text("pin"), module::PIN).unwrap();
    let layer = Layer::file("greeting", b"hello", Compression::Gzip);
    let plain = Layout::create(stage.text("plain"), std::slice::from_ref(&layer), &["/x"]);

    for (kind, curve) in [("p256", "P-256"), ("p384", "P-384")] {
        let made = stage.generate(kind);
        if let Reach::None(sentence) = reach {
            assert!(!made.status.success(), "{made:?}");
            assert!(made.stderr.contains(sentence), "{made:?}");
            assert!(!Path::new(&stage.text(&format!("{kind}.yaml"))).exists());
            continue;
        }
        assert!(made.status.success(), "{made:?}");
        let list = stage.ocihsm(&["keys", "list", "--token", "kbs", "--json"]);
        let listing = list.args(["--pin-file", &stage.text("pin")]).ok();
        let listing: Value = serde_json::from_slice(&listing.stdout).unwrap();
        let keys = &listing["modules"][0]["tokens"][0]["keys"];
        let mut keys = keys.as_array().unwrap().iter();
        let key = keys.find(|key| key["label"] == kind).unwrap();
        assert_eq!((&key["type"], &key["curve"]), (&"EC".into(), &curve.into()));
        assert_eq!(
            (&key["public"], &key["private"]),
            (&true.into(), &true.into())
        );
        let may = key["may"].as_array().unwrap();
        assert!(may.contains(&"derive".into()), "{key}");
        assert!(!may.contains(&"leave".into()), "{key}");

        let (file, public) = (
            stage.text(&format!("{kind}.yaml")),
            stage.text(&format!("{kind}.pub.pem")),
        );
        let pem = stage.ocihsm(&["keys", "export", &file]).ok().text();
        assert_eq!(pem, fs::read_to_string(&public).unwrap());
        let encrypted = format!("oci:{}:latest", stage.text(&format!("encrypted-{kind}")));
        let again = stage.text(&format!("again-{kind}"));
        stage
            .ocihsm(&["encrypt", &plain.reference(), &encrypted])
            .args(["--recipient", &format!("jwe:{public}")])
            .ok();
        let before = stage.objects();
        let output = stage
            .ocihsm(&[
                "decrypt",
                &encrypted,
                &format!("oci:{again}:latest"),
                "--key",
                &file,
            ])
            .run();
        // What was derived is gone.
        assert_eq!(stage.objects(), before);
        match reach {
            Reach::Makes(sentence) => {
                assert!(!output.status.success(), "{output:?}");
                assert!(output.stderr.contains(sentence), "{output:?}");
                assert!(!Path::new(&again).exists());
            }
            _ => {
                assert!(output.status.success(), "{output:?}");
                let again = Layout::open(again);
                assert_eq!(again.read(&again.layers()[0]), layer.blob);
            }
        }
    }
}
