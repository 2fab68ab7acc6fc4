//! `containerd:`: images encrypted, decrypted, rekeyed and inspected in the store of a real containerd, and run from there.

mod stage;
mod trouble;

use integration::layout::Layout;
use integration::node::Node;
use integration::registry::Registry;
use integration::root::Root;
use integration::vector;

use crate::stage::{ENCRYPTED, PLAIN, Stage, assert_fails, at, digest_of, report};

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

        // By a node of the test's own: of this machine's it would take the place of locks as well.
        let node = Node::new();
        let doctor = stage.asks(
            node.doctor_program()
                .args(["--json", "--image", &at(ENCRYPTED)]),
        );
        let found = doctor.ok().text();
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
