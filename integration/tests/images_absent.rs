//! Manifests that an index names and that are not where the image is: what a new image with their names may find where it is
//! written to, and so serve, is plain.

use std::fs;

use integration::containerd::{Containerd, Settings};
use integration::layer::digest;
use integration::layout::{Layout, TAG};
use integration::made::{INDEX, MANIFEST, Made, TAR};
use integration::registry::Registry;
use integration::root::Root;
use integration::skip;
use integration::stage::{Stage, assert_fails};
use serde_json::{Value, json};

const AMD64: [&str; 2] = ["--platform", "linux/amd64"];
const NOTE: &str = "is not here and stays as it is: nothing chose it";

/// A whole image for two platforms, and the same index where the manifest of one is not.
struct Sparse {
    stage: Stage,
    whole: Made,
    sparse: Layout,
    arm64: Value,
}

impl Sparse {
    fn new() -> Self {
        let stage = Stage::new();
        let whole = Made::new(stage.at("whole"));
        let of = |architecture: &str| {
            let layer = whole.layer(TAR, format!("a plain layer for {architecture}").as_bytes());
            let mut image = whole.manifest(&[layer], json!({}));
            image["platform"] = json!({"os": "linux", "architecture": architecture});
            image
        };
        let (amd64, arm64) = (of("amd64"), of("arm64"));
        whole.index(&[amd64, arm64.clone()]);
        let sparse = whole.layout.copy(stage.at("sparse"));
        fs::remove_file(sparse.blob(arm64["digest"].as_str().unwrap())).unwrap();
        Self {
            stage,
            whole,
            sparse,
            arm64,
        }
    }

    fn name(&self) -> &str {
        self.arm64["digest"].as_str().unwrap()
    }

    fn parts(&self) -> [&str; 4] {
        [
            self.name(),
            "linux/arm64",
            "but where DST is",
            "--leave-plain",
        ]
    }
}

#[test]
fn a_plain_manifest_that_a_layout_has_is_not_brought_back() {
    let it = Sparse::new();
    let target = format!("oci:{}:new", it.whole.layout.path().display());
    let encrypt = || {
        it.stage
            .encrypt(&it.sparse.reference(), &target)
            .args(AMD64)
    };
    assert_fails(&encrypt().run(), &it.parts());
    let index = fs::read_to_string(it.whole.layout.path().join("index.json")).unwrap();
    assert!(!index.contains(r#""new""#), "{index}");

    // Asked for, or where it is not, it stays, and that is told.
    let asked = encrypt().args(["--leave-plain", MANIFEST]).ok();
    assert!(asked.stderr.contains(NOTE), "{}", asked.stderr);
    let elsewhere = it.stage.at("elsewhere");
    let elsewhere = elsewhere.to_str().unwrap();
    let other = it.stage.encrypt(&it.sparse.reference(), elsewhere);
    let other = other.args(AMD64).arg("--json").ok();
    let report: Value = serde_json::from_slice(&other.stdout).unwrap();
    let notes = report["notes"].to_string();
    assert!(notes.contains(NOTE) && notes.contains(it.name()), "{notes}");

    // What has other recipients, or is plain again, goes on to name it.
    let key = it.stage.token.key_file("rsa3072");
    let rekey = it.stage.ocihsm().args(["rekey", elsewhere]).args(AMD64);
    let add = integration::stage::recipient("other3072");
    let rekeyed = rekey.args(["--add", &add, "--key"]).arg(key).ok();
    assert!(rekeyed.stderr.contains(NOTE), "{}", rekeyed.stderr);
    let back = it.stage.at("back");
    let back = it
        .stage
        .decrypt(elsewhere, back.to_str().unwrap())
        .args(AMD64)
        .ok();
    assert!(back.stderr.contains(NOTE), "{}", back.stderr);
    assert_eq!(back.text().trim_end(), it.sparse.entry(TAG)["digest"]);
}

#[test]
fn a_manifest_whose_digest_is_of_another_kind_is_looked_for_as_well() {
    let stage = Stage::new();
    let made = Made::new(stage.at("made"));
    let mut here = made.ordinary();
    here["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let hex = "ab".repeat(64);
    let named = |digest: &str| {
        let platform = json!({"os": "linux", "architecture": "arm64"});
        let away =
            json!({"mediaType": MANIFEST, "digest": digest, "size": 5, "platform": platform});
        made.index(&[here.clone(), away]);
        let target = format!("oci:{}:new", made.layout.path().display());
        stage.encrypt(&made.layout.reference(), &target).args(AMD64)
    };
    let digest = format!("sha512:{hex}");
    let told = named(&digest).ok();
    assert!(told.stderr.contains(NOTE), "{}", told.stderr);
    let place = made.layout.path().join("blobs/sha512");
    fs::create_dir(&place).unwrap();
    fs::write(place.join(&hex), "plain").unwrap();
    let there = named(&digest).arg("--force").run();
    assert_fails(&there, &["sha512:abab", "linux/arm64", "but where DST is"]);
    let unknown = named("sha512:../sha512/ab").arg("--force").run();
    assert_fails(&unknown, &["and may be where DST is"]);
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let target = format!("docker://{}", registry.reference("app"));
    let _ = named(&digest);
    let program = stage.encrypt(&made.layout.reference(), &target).args(AMD64);
    let output = program.arg("--tls-verify=false").run();
    assert_fails(&output, &["sha512:abab", "and may be where DST is"]);
    assert!(!registry.has_tag("app", TAG));
}

#[test]
fn a_plain_manifest_that_a_repository_has_is_not_brought_back() {
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let it = Sparse::new();
    let registry = Registry::start();
    registry.push(&it.whole.layout, "app");
    let target = format!("docker://{}/app:new", registry.host());
    let program = it
        .stage
        .encrypt(&it.sparse.reference(), &target)
        .args(AMD64);
    let output = program.arg("--tls-verify=false").run();
    assert_fails(&output, &it.parts());
    assert!(!registry.has_tag("app", "new"));
}

#[test]
fn a_plain_manifest_that_containerd_has_is_not_brought_back() {
    if !skip::root() || !skip::programs(&["containerd", "runc"]) {
        return;
    }
    let it = Sparse::new();
    let settings = Settings::new(Root::host(), &it.stage.token.keys(&["rsa3072"]));
    let containerd = Containerd::start(&settings);
    let import = ["images", "import", "--no-unpack", "--all-platforms"];
    let import = containerd
        .ctr(&import)
        .args(["--base-name", "test.example/app"]);
    import.arg(&*it.whole.layout.archive()).ok();
    let target = "containerd:test.example/app:new";
    let program = it.stage.encrypt(&it.sparse.reference(), target).args(AMD64);
    let output = program
        .env("CONTAINERD_ADDRESS", containerd.socket())
        .env("CONTAINERD_NAMESPACE", containerd.namespace())
        .run();
    assert_fails(&output, &it.parts());
    let list = containerd.ctr(&["images", "list", "--quiet"]).ok();
    assert!(!list.text().contains("app:new"), "{}", list.text());
}

/// In an index within the index, and with the manifest among what is copied, under another type.
#[test]
fn an_absent_manifest_is_seen_wherever_it_is_named() {
    let it = Sparse::new();
    let mut index = it.sparse.entry(TAG);
    index.as_object_mut().unwrap().shift_remove("annotations");
    let sparse = Made {
        layout: it.sparse.clone(),
    };
    sparse.index(&[index]);
    let target = format!("oci:{}:new", it.whole.layout.path().display());
    let program = || {
        it.stage
            .encrypt(&it.sparse.reference(), &target)
            .args(AMD64)
    };
    assert_fails(&program().run(), &it.parts());

    let gone = b"not here";
    let mut here = sparse.ordinary();
    here["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let absent = |media_type: &str| json!({"mediaType": media_type, "digest": digest(gone), "size": gone.len()});
    sparse.index(&[here, absent(INDEX), absent("text/plain")]);
    assert_fails(&program().run(), &["named as another blob as well"]);
}
