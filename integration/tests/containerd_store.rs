//! `containerd:`: images encrypted, decrypted, rekeyed and inspected in the store of a real containerd, and run from there.

use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use integration::containerd::{Containerd, Settings};
use integration::layer::{Compression, Layer, noise};
use integration::layout::Layout;
use integration::ocihsm;
use integration::program::{Output, Program};
use integration::registry::Registry;
use integration::root::Root;
use integration::token::Token;
use integration::vector;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// What `ctr images import` makes of the name `app`.
const PLAIN: &str = "test.example/app:latest";
const ENCRYPTED: &str = "test.example/app:encrypted";

/// A containerd, and the token whose keys it opens layers with.
struct Stage {
    token: Token,
    place: TempDir,
    containerd: Containerd,
}

impl Stage {
    fn new(root: &Root) -> Self {
        let token = Token::vectors();
        let keys = token.keys(&["rsa3072"]);
        Self {
            containerd: Containerd::start(&Settings::new(root.clone(), &keys)),
            place: TempDir::new().unwrap(),
            token,
        }
    }

    /// With an image there that runs.
    fn with_image(root: &Root) -> (Self, Layout) {
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

    fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn ocihsm(&self, args: &[&str]) -> Program {
        let program = self.token.ocihsm().args(args);
        program
            .env("CONTAINERD_ADDRESS", self.containerd.socket())
            .env("CONTAINERD_NAMESPACE", self.containerd.namespace())
    }

    fn encrypt(&self, source: &str, target: &str) -> Program {
        let recipient = format!("pkcs11:{}", vector("keys/rsa3072.pub.pem").display());
        self.ocihsm(&["encrypt", source, target, "--recipient", &recipient])
    }

    fn decrypt(&self, source: &str, target: &str, key: &str) -> Program {
        let key = self.token.key_file(key);
        self.ocihsm(&["decrypt", source, target, "--key"]).arg(key)
    }

    /// An image as `ctr` exports it.
    fn export(&self, name: &str) -> String {
        let file = self.at(&format!("{}.tar", name.replace(['/', ':'], "-")));
        self.containerd.export(&["--all-platforms"], &file, name);
        format!("oci-archive:{}", file.display())
    }

    fn lines(&self, args: &[&str]) -> Vec<String> {
        let text = self.containerd.ctr(args).ok().text();
        text.lines().map(str::to_owned).collect()
    }

    fn images(&self) -> Vec<String> {
        self.lines(&["images", "list", "--quiet"])
    }

    fn content(&self) -> Vec<String> {
        self.lines(&["content", "list", "--quiet"])
    }

    /// Nothing of ours is under way.
    fn assert_idle(&self) {
        assert_eq!(self.lines(&["leases", "list", "--quiet"]), [""; 0]);
        assert_eq!(self.lines(&["content", "active"]).len(), 1);
    }

    /// Has containerd collect what nothing names.
    fn collect(&self) {
        // `ctr content prune references` would take the layers of images that are there.
        self.containerd.ctr(&["leases", "create", "--id", "x"]).ok();
        self.containerd
            .ctr(&["leases", "delete", "--sync", "x"])
            .ok();
    }
}

/// An image with a layer that is larger than the memory that we may take.
fn large() -> (TempDir, Layout) {
    let place = TempDir::new().unwrap();
    let layers = [Layer::file("big", &noise(96 << 20), Compression::None)];
    let layout = Layout::create(place.path().join("large"), &layers, &["/big"]);
    (place, layout)
}

fn at(name: &str) -> String {
    format!("containerd:{name}")
}

fn assert_fails(output: &Output, parts: &[&str]) {
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

fn digest_of(layout: &Layout) -> String {
    let entry = layout.entry("latest");
    entry["digest"].as_str().unwrap().to_owned()
}

fn report(program: Program) -> Value {
    serde_json::from_slice(&program.ok().stdout).unwrap()
}

#[test]
fn an_image_is_encrypted_run_rekeyed_and_decrypted_in_containerd() {
    Root::on_each_containerd(|root| {
        let (stage, plain) = Stage::with_image(root);
        let digest = digest_of(&plain);
        let encrypted = stage.encrypt(&at(PLAIN), &at(ENCRYPTED)).ok().text();
        stage.assert_idle();
        assert_eq!(
            stage.containerd.run(ENCRYPTED).text(),
            "one of two\n",
            "{}",
            stage.containerd.log()
        );

        let report = report(stage.ocihsm(&["inspect", &at(ENCRYPTED), "--json"]));
        assert_eq!(report["digest"], encrypted.trim_end());
        for layer in report["images"][0]["layers"].as_array().unwrap() {
            assert!(layer["mediaType"].as_str().unwrap().ends_with("+encrypted"));
        }

        let keys = stage.token.keys(&["rsa3072"]);
        let doctor = ["doctor", "--json", "--image", &at(ENCRYPTED)];
        let doctor = stage.ocihsm(&doctor).arg("--decryption-keys-path");
        // Whatever it says of this machine's own containerd.
        let found = doctor.arg(keys).run().text();
        assert_eq!(found.matches("\"layer-opens\"").count(), 2, "{found}");

        // What ctr exports, we open, and it is what it was.
        let archive = stage.export(ENCRYPTED);
        let back = Layout::open(stage.at("back"));
        let decrypt = stage.decrypt(&archive, &back.reference(), "rsa3072");
        assert_eq!(decrypt.ok().text().trim_end(), digest);

        // Its layers are there already; they are not written twice.
        let name = "test.example/app:back";
        let decrypt = stage.decrypt(&at(ENCRYPTED), &at(name), "rsa3072");
        assert_eq!(decrypt.ok().text().trim_end(), digest);

        let recipient = format!("pkcs11:{}", vector("keys/other3072.pub.pem").display());
        stage
            .ocihsm(&["rekey", &at(ENCRYPTED), "--only", &recipient, "--key"])
            .arg(stage.token.key_file("rsa3072"))
            .ok();
        let decrypt = |key, target: &str| stage.decrypt(&at(ENCRYPTED), &at(target), key);
        assert_fails(&decrypt("rsa3072", "none").run(), &["are for other keys"]);
        assert_eq!(decrypt("other3072", "again").ok().text().trim_end(), digest);
        stage.assert_idle();
    });
}

/// What the garbage collector takes goes without a word, when nobody looks.
#[test]
fn containerd_collects_nothing_of_an_image_and_all_of_what_no_image_names() {
    Root::on_each_containerd(|root| {
        let stage = Stage::new(root);
        let layout = Layout::open(vector("images/plain-multi-arch"));
        let archive = layout.archive();
        let archive = archive.to_str().unwrap();
        let import = ["images", "import", "--no-unpack", "--all-platforms"];
        let base = ["--base-name", "test.example/app", archive];
        stage.containerd.ctr(&[&import[..], &base].concat()).ok();
        let digest = digest_of(&layout);
        stage.collect();
        let before = stage.content();
        stage.encrypt(&at(PLAIN), &at(ENCRYPTED)).ok();
        let both = stage.content();
        assert!(both.len() > before.len());

        stage
            .containerd
            .ctr(&["images", "remove", "--sync", PLAIN])
            .ok();
        stage.collect();
        let archive = stage.export(ENCRYPTED);
        let back = Layout::open(stage.at("back"));
        let decrypt = stage.decrypt(&archive, &back.reference(), "rsa3072");
        assert_eq!(decrypt.ok().text().trim_end(), digest);
        back.assert_sound();

        // The other way: the configs of the plain image are there, and its layers are not.
        stage.decrypt(&at(ENCRYPTED), &at(PLAIN), "rsa3072").ok();
        stage
            .containerd
            .ctr(&["images", "remove", "--sync", ENCRYPTED])
            .ok();
        stage.collect();
        let mut there = stage.content();
        let mut before = before;
        there.sort();
        before.sort();
        assert_eq!(there, before);
        stage
            .containerd
            .ctr(&["images", "remove", "--sync", PLAIN])
            .ok();
        stage.collect();
        assert_eq!(stage.content(), [""; 0]);
    });
}

#[test]
fn an_image_goes_from_a_registry_to_containerd_and_back() {
    Root::on_each_containerd(|root| {
        let stage = Stage::new(root);
        let registry = Registry::start();
        let layout = Layout::open(vector("images/plain-multi-arch"));
        let from = format!("docker://{}", registry.push(&layout, "app"));
        let http = "--tls-verify=false";
        stage.encrypt(&from, &at(ENCRYPTED)).arg(http).ok();
        let to = format!("docker://{}", registry.reference("back"));
        let decrypt = stage.decrypt(&at(ENCRYPTED), &to, "rsa3072").arg(http);
        assert_eq!(decrypt.ok().text().trim_end(), digest_of(&layout));
        let to = stage.at("layout").display().to_string();
        let decrypt = stage.decrypt(&at(ENCRYPTED), &to, "rsa3072");
        assert_eq!(decrypt.ok().text().trim_end(), digest_of(&layout));
        stage.assert_idle();
    });
}

#[test]
fn a_name_may_begin_with_its_namespace() {
    Root::on_each_containerd(|root| {
        let (stage, plain) = Stage::with_image(root);
        let namespace = stage.containerd.namespace();
        let inspect = |name: &str, elsewhere: &str| {
            let name = at(name);
            stage
                .ocihsm(&["inspect", &name, "--json"])
                .env("CONTAINERD_NAMESPACE", elsewhere)
        };
        let found = report(inspect(&format!("{namespace}/{PLAIN}"), "elsewhere"));
        assert_eq!(found["digest"], digest_of(&plain));
        // Into another one, of the same containerd.
        let target = stage.encrypt(&at(&format!("{namespace}/{PLAIN}")), &at("x"));
        let digest = target.env("CONTAINERD_NAMESPACE", "other").ok().text();
        let found = report(inspect("other/x", namespace));
        assert_eq!(found["digest"], digest.trim_end());

        let output = inspect(PLAIN, "elsewhere").run();
        assert_fails(&output, &["no image", PLAIN, "\"elsewhere\""]);
        // To look into one that is not there does not make it.
        assert!(
            !stage
                .lines(&["namespaces", "list", "--quiet"])
                .contains(&"elsewhere".to_owned())
        );
        let args = ["images", "tag", PLAIN, "docker.io/library/app:latest"];
        stage.containerd.ctr(&args).ok();
        let output = stage.ocihsm(&["inspect", &at("app")]).run();
        let meant = format!("containerd:{namespace}/docker.io/library/app:latest");
        assert_fails(&output, &["no image \"app\"", &meant]);
    });
}

#[test]
fn no_image_is_replaced_unasked() {
    Root::on_each_containerd(|root| {
        let (stage, plain) = Stage::with_image(root);
        let encrypted = stage.encrypt(&at(PLAIN), &at(ENCRYPTED)).ok().text();
        let digest = |name: &str| {
            let found = report(stage.ocihsm(&["inspect", &at(name), "--json"]));
            found["digest"].as_str().unwrap().to_owned()
        };
        for output in [
            stage.encrypt(&at(PLAIN), &at(ENCRYPTED)).run(),
            stage.encrypt(&at(PLAIN), &at(PLAIN)).run(),
            stage
                .decrypt(&at(ENCRYPTED), &at(ENCRYPTED), "rsa3072")
                .run(),
        ] {
            assert_fails(&output, &["has an image", "--force"]);
        }
        assert_eq!(digest(PLAIN), digest_of(&plain));
        assert_eq!(digest(ENCRYPTED), encrypted.trim_end());
        let decrypt = stage.decrypt(&at(ENCRYPTED), &at(ENCRYPTED), "rsa3072");
        decrypt.arg("--force").ok();
        assert_eq!(digest(ENCRYPTED), digest_of(&plain));
        stage.assert_idle();
    });
}

#[test]
fn a_layer_that_is_not_there_or_damaged_is_told_of() {
    Root::on_each_containerd(|root| {
        let (stage, plain) = Stage::with_image(root);
        stage.encrypt(&at(PLAIN), &at(ENCRYPTED)).ok();
        let digest = plain.layers()[1]["digest"].as_str().unwrap().to_owned();
        // Written by whoever can write there; containerd does not look.
        let blob = stage.containerd.blob(&digest);
        let before = std::fs::read(&blob).unwrap();
        let mut bytes = before.clone();
        bytes[600] ^= 1;
        std::fs::remove_file(&blob).unwrap();
        std::fs::write(&blob, &bytes).unwrap();
        let encrypt = || stage.encrypt(&at(PLAIN), &at("new")).run();
        let decrypt = || stage.decrypt(&at(ENCRYPTED), &at("new"), "rsa3072").run();
        let copy = format!("{}", stage.at("copy").display());
        for output in [
            encrypt(),
            // Its plain layer is there already, so it is not written.
            decrypt(),
            stage.encrypt(&at(PLAIN), &copy).run(),
        ] {
            assert_fails(&output, &["damaged", &digest[7..19]]);
        }
        assert!(!stage.at("copy").exists());
        std::fs::write(&blob, &before).unwrap();

        stage.containerd.ctr(&["content", "remove", &digest]).ok();
        let parts = ["is not in containerd's content store", &digest[7..19]];
        assert_fails(&encrypt(), &parts);
        assert_fails(&encrypt(), &["content fetch"]);
        assert_eq!(stage.images(), [ENCRYPTED, PLAIN]);
        stage.assert_idle();
        assert!(decrypt().status.success());
    });
}

#[test]
fn what_ends_midway_leaves_no_image_and_nothing_for_ever() {
    let (_place, plain) = large();
    Root::on_each_containerd(|root| {
        let stage = Stage::new(root);
        for signal in [Signal::SIGINT, Signal::SIGKILL] {
            let mut child = stage
                .encrypt(&plain.reference(), &at(ENCRYPTED))
                .into_command()
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let patience = Instant::now() + Duration::from_secs(60);
            while stage.lines(&["content", "active"]).len() < 2 {
                let ended = child.try_wait().unwrap();
                assert!(ended.is_none() && Instant::now() < patience, "{ended:?}");
                thread::sleep(Duration::from_millis(5));
            }
            kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
            assert!(!child.wait_with_output().unwrap().status.success());
            assert_eq!(stage.images(), [""; 0]);
            if signal == Signal::SIGINT {
                stage.assert_idle();
            }
        }
        // Nobody could clean up. The lease holds its ingest, and ends by itself.
        let leases = stage.lines(&["leases", "list"]);
        assert_eq!(leases.len(), 2, "{leases:?}");
        assert!(leases[1].contains("containerd.io/gc.expire="), "{leases:?}");
        let lease = leases[1].split_whitespace().next().unwrap();
        let delete = ["leases", "delete", "--sync", lease];
        stage.containerd.ctr(&delete).ok();
        stage.assert_idle();
        assert_eq!(stage.content(), [""; 0]);
    });
}

#[test]
fn memory_does_not_grow_with_the_image() {
    let (_place, plain) = large();
    Root::on_each_containerd(|root| {
        let stage = Stage::new(root);
        let output = stage.containerd.import(&plain.archive(), "app");
        assert!(output.status.success(), "{output:?}");
        let recipient = format!("pkcs11:{}", vector("keys/rsa3072.pub.pem").display());
        let limited = |args: &[&str]| {
            Program::new("prlimit")
                .arg("--data=67108864")
                .arg(ocihsm())
                .args(args)
                .env("OCICRYPT_CONFIG", "internal")
                .env("OCIHSM_RUNTIME_DIR", stage.token.runtime())
                .env("CONTAINERD_ADDRESS", stage.containerd.socket())
                .env("CONTAINERD_NAMESPACE", stage.containerd.namespace())
        };
        let (plain, encrypted) = (at(PLAIN), at(ENCRYPTED));
        limited(&["encrypt", &plain, &encrypted, "--recipient", &recipient]).ok();
        limited(&["decrypt", &encrypted, &at("back"), "--key"])
            .arg(stage.token.key_file("rsa3072"))
            .ok();
    });
}

#[test]
fn where_no_containerd_is() {
    let place = TempDir::new().unwrap();
    let inspect = |socket: &str| {
        let socket = place.path().join(socket);
        Program::new(ocihsm())
            .args(["inspect", "containerd:app"])
            .env("CONTAINERD_ADDRESS", socket)
            .run()
    };
    assert_fails(&inspect("none"), &["cannot reach", "CONTAINERD_ADDRESS"]);
    // Somebody who listens and says nothing that makes sense.
    let socket = std::os::unix::net::UnixListener::bind(place.path().join("other")).unwrap();
    let answer = thread::spawn(move || {
        use std::io::Write as _;
        for _ in 0..2 {
            let (mut stream, _) = socket.accept().unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    assert_fails(&inspect("other"), &["containerd at", "cannot"]);
    answer.join().unwrap();
}
