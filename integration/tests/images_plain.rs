//! `ocihsm encrypt` and `decrypt` never ship plaintext that nobody asked for: content without an encrypted form, damaged
//! blobs, tags, names of what has changed, and what a killed run leaves.

use std::fs::{self, File};
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use integration::layer::{digest, short};
use integration::layout::{Layout, TAG};
use integration::made::{EROFS, MANIFEST, Made, STATEMENT, TAR};
use integration::program::Output;
use integration::stage::names;
use integration::token::Token;
use integration::vector;
use serde_json::{Value, json};
use tempfile::TempDir;

const SECRET: &[u8] = b"the plain content of a layer";

/// A place with a layout that is filled blob by blob, and a token.
struct Stage {
    token: Token,
    place: TempDir,
    made: Made,
}

impl Deref for Stage {
    type Target = Made;

    fn deref(&self) -> &Made {
        &self.made
    }
}

impl Stage {
    fn new() -> Self {
        let place = TempDir::new().unwrap();
        Self {
            token: Token::vectors(),
            made: Made::new(place.path().join("source")),
            place,
        }
    }

    fn target(&self, name: &str) -> Layout {
        Layout::open(self.place.path().join(name))
    }

    fn encrypt(&self, options: &[&str]) -> Output {
        self.encrypt_to("target", options)
    }

    fn encrypt_to(&self, target: &str, options: &[&str]) -> Output {
        let key = vector("keys/rsa3072.pub.pem");
        let program = self
            .token
            .ocihsm()
            .args(["encrypt", &self.layout.reference()]);
        let program = program.arg(self.place.path().join(target)).args(options);
        let recipient = format!("pkcs11:{}", key.display());
        program.args(["--recipient", &recipient]).run()
    }

    fn decrypt(&self, source: &str, target: &str, options: &[&str]) -> Output {
        let at = |name: &str| self.place.path().join(name);
        let program = self.token.ocihsm().arg("decrypt");
        let program = program.arg(at(source)).arg(at(target)).args(options);
        program
            .arg("--key")
            .arg(self.token.key_file("rsa3072"))
            .run()
    }

    /// It failed with all of these words, and no image is there.
    fn assert_fails(&self, output: &Output, parts: &[&str]) {
        assert!(!output.status.success(), "it succeeded: {}", output.stderr);
        for part in parts {
            assert!(
                output.stderr.contains(part),
                "no {part:?}: {}",
                output.stderr
            );
        }
        assert_eq!(output.text(), "");
        assert_eq!(names(self.place.path()), ["source"]);
    }
}

fn assert_ok(output: &Output) {
    assert!(output.status.success(), "{}", output.stderr);
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// Whether any file of a layout holds these bytes.
fn holds(layout: &Layout, content: &[u8]) -> bool {
    let blobs = fs::read_dir(layout.path().join("blobs/sha256")).unwrap();
    let mut blobs = blobs.map(|blob| fs::read(blob.unwrap().path()).unwrap());
    blobs.any(|blob| blob.windows(content.len()).any(|window| window == content))
}

#[test]
fn a_layer_without_an_encrypted_form_is_not_shipped_unasked() {
    for media_type in [
        EROFS,
        "application/vnd.squashfs.layer.v1",
        "application/vnd.oci.image.layer.v1.tar+xz",
        "application/vnd.oci.image.layer.v1.tar+bz2",
        "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
        "application/wasm",
        STATEMENT,
    ] {
        let stage = Stage::new();
        let plain = stage.layer(media_type, SECRET);
        let both = [plain.clone(), stage.layer(TAR, b"x")];
        // In a manifest of its own, and beside one that can be encrypted.
        for layers in [&both[..1], &both] {
            if media_type == STATEMENT && layers.len() == 1 {
                continue;
            }
            stage.index(&[stage.ordinary(), stage.manifest(layers, json!({}))]);
            let output = stage.encrypt(&[]);
            stage.assert_fails(&output, &["layer", short(&plain), media_type, "plain"]);
            let hint = format!("--leave-plain '{media_type}'");
            assert!(output.stderr.contains(&hint), "{}", output.stderr);
        }
    }
}

#[test]
fn what_was_asked_to_stay_plain_is_told() {
    let stage = Stage::new();
    let plain = stage.layer(EROFS, SECRET);
    stage.index(&[
        stage.ordinary(),
        stage.manifest(std::slice::from_ref(&plain), json!({})),
    ]);
    let output = stage.encrypt(&["--leave-plain", "a/b", "--leave-plain", EROFS]);
    assert_ok(&output);
    for part in ["note", "layer", short(&plain), EROFS, "--leave-plain"] {
        assert!(output.stderr.contains(part), "{}", output.stderr);
    }
    let target = stage.target("target");
    target.assert_sound();
    assert!(holds(&target, SECRET));
    assert!(!holds(&target, b"an ordinary layer"));
}

#[test]
fn a_config_or_an_entry_of_an_unknown_type_is_not_shipped_unasked() {
    let stage = Stage::new();
    let config = stage.layer("application/wasm", SECRET);
    let layers = [stage.layer(TAR, b"x")];
    stage.name(stage.manifest(&layers, json!({"config": config})));
    let output = stage.encrypt(&[]);
    stage.assert_fails(&output, &["config", short(&config), "application/wasm"]);
    assert_ok(&stage.encrypt_to("asked", &["--leave-plain", "application/wasm"]));

    let stage = Stage::new();
    for media_type in [TAR, "application/vnd.example.manifest.v9+json"] {
        let entry = stage.layer(media_type, SECRET);
        stage.index(&[stage.ordinary(), entry.clone()]);
        let output = stage.encrypt(&[]);
        stage.assert_fails(&output, &["entry", short(&entry), media_type]);
    }
}

#[test]
fn a_choice_of_layers_does_not_skip_a_manifest_in_silence() {
    let stage = Stage::new();
    let plain = stage.layer(EROFS, SECRET);
    stage.index(&[
        stage.ordinary(),
        stage.manifest(std::slice::from_ref(&plain), json!({})),
    ]);
    let output = stage.encrypt(&["--encrypt-layer", "0"]);
    stage.assert_fails(&output, &["cannot be encrypted", EROFS]);

    // Beside a chosen one it stays, and that is told.
    let layers = [stage.layer(TAR, b"x"), plain.clone()];
    stage.name(stage.manifest(&layers, json!({})));
    let output = stage.encrypt(&["--encrypt-layer", "0"]);
    assert_ok(&output);
    assert!(output.stderr.contains(short(&plain)), "{}", output.stderr);
}

#[test]
fn another_platform_stays_plain_and_that_is_told() {
    let stage = Stage::new();
    let shared = stage.layer(TAR, SECRET);
    let of = |architecture: &str, own: &[u8]| {
        let layers = [shared.clone(), stage.layer(TAR, own)];
        let mut entry = stage.manifest(&layers, json!({}));
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entry
    };
    stage.index(&[of("amd64", b"one"), of("arm64", b"two")]);
    let output = stage.encrypt(&["--platform", "linux/amd64"]);
    assert_ok(&output);
    let lines: Vec<_> = output.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{}", output.stderr);
    assert!(
        output
            .stderr
            .contains("the same bytes are encrypted elsewhere")
    );
}

#[test]
fn attestations_stay_plain_and_are_counted() {
    let stage = Stage::new();
    let statement = stage.layer(STATEMENT, b"{}");
    stage.index(&[stage.ordinary(), stage.manifest(&[statement], json!({}))]);
    let output = stage.encrypt(&[]);
    assert_ok(&output);
    assert!(
        output.stderr.contains("1 attestation stays plain"),
        "{}",
        output.stderr
    );
}

#[test]
fn a_layer_with_urls_that_is_here_is_encrypted() {
    for media_type in [
        TAR,
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
    ] {
        let stage = Stage::new();
        let mut layer = stage.layer(media_type, SECRET);
        layer["urls"] = json!(["https://example.test/layer"]);
        stage.name(stage.manifest(&[layer, stage.layer(TAR, b"x")], json!({})));
        let output = stage.encrypt(&[]);
        assert_ok(&output);
        let target = stage.target("target");
        assert!(
            !holds(&target, SECRET),
            "{media_type} is in the image as it was"
        );
        let layer = &target.layers()[0];
        assert_eq!(layer["mediaType"], format!("{media_type}+encrypted"));
        // It would lead to other bytes than the digest is of.
        assert!(layer.get("urls").is_none());
        assert_ok(&stage.decrypt("target", "back", &[]));
        assert!(holds(&stage.target("back"), SECRET));
    }
}

#[test]
fn a_layer_that_is_elsewhere_is_told() {
    let stage = Stage::new();
    let mut foreign = json!({"mediaType": TAR, "digest": digest(b"away"), "size": 4});
    foreign["urls"] = json!(["https://example.test/layer"]);
    stage.name(stage.manifest(&[foreign.clone(), stage.layer(TAR, b"x")], json!({})));
    let output = stage.encrypt(&[]);
    assert_ok(&output);
    assert!(output.stderr.contains("elsewhere"), "{}", output.stderr);
    assert_eq!(stage.target("target").layers()[0], foreign);
}

#[test]
fn an_embedded_layer_does_not_stay_in_its_descriptor() {
    let stage = Stage::new();
    let mut layer = stage.layer(TAR, SECRET);
    let embedded = "dGhlIHBsYWluIGNvbnRlbnQgb2YgYSBsYXllcg==";
    layer["data"] = embedded.into();
    stage.name(stage.manifest(&[layer], json!({})));
    assert_ok(&stage.encrypt(&[]));
    let target = stage.target("target");
    assert!(!holds(&target, SECRET) && !holds(&target, embedded.as_bytes()));
}

#[test]
fn a_table_of_contents_of_plain_bytes_is_dropped_and_told() {
    let stage = Stage::new();
    let mut layer = stage.layer(TAR, SECRET);
    layer["annotations"] = json!({
        "io.github.containers.zstd-chunked.manifest-checksum": digest(b"toc"),
        "containerd.io/snapshot/stargz/toc.digest": digest(b"toc"),
        "io.containers.estargz.uncompressed-size": "1",
        "mine": "stays",
    });
    stage.name(stage.manifest(&[layer], json!({})));
    let output = stage.encrypt(&[]);
    assert_ok(&output);
    assert_eq!(
        output.stderr.matches("is dropped").count(),
        3,
        "{}",
        output.stderr
    );
    let annotations = stage.target("target").layers()[0]["annotations"].clone();
    assert_eq!(annotations["mine"], "stays");
    assert!(
        !annotations.to_string().contains("chunked"),
        "{annotations}"
    );
    assert!(!annotations.to_string().contains(&digest(b"toc")));
}

#[test]
fn a_damaged_blob_in_the_target_is_written_anew() {
    let stage = Stage::new();
    stage.name(stage.ordinary());
    assert_ok(&stage.encrypt(&[]));
    let target = stage.target("target");
    let manifest = target.manifest("amd64");
    let config = target.blob(text(&manifest["config"]["digest"]));
    let good = fs::read(&config).unwrap();
    // Of the right name and size, as a crash or a bad disk leaves it.
    fs::write(&config, vec![0; good.len()]).unwrap();
    assert_ok(&stage.encrypt_to("target:second", &[]));
    assert_eq!(fs::read(&config).unwrap(), good);
}

/// Starts to decrypt a layer of 64 MiB, kills that without any warning once some of it is written, and returns the mode of
/// the directory that holds it.
fn killed_while_decrypting(stage: &Stage) -> u32 {
    let place = stage.place.path();
    let content = stage.layout.blob(&digest(b"nothing yet"));
    File::create(&content)
        .and_then(|file| file.set_len(64 << 20))
        .unwrap();
    let hash = integration::program::Program::new("sha256sum")
        .arg(&content)
        .ok()
        .text();
    let digest = format!("sha256:{}", &hash[..64]);
    fs::rename(&content, stage.layout.blob(&digest)).unwrap();
    let layer = json!({"mediaType": TAR, "digest": digest, "size": 64 << 20});
    stage.name(stage.manifest(&[layer], json!({})));
    assert_ok(&stage.encrypt_to("encrypted", &[]));
    let mut child = stage
        .token
        .ocihsm()
        .arg("decrypt")
        .arg(place.join("encrypted"))
        .arg(place.join("back"))
        .arg("--key")
        .arg(stage.token.key_file("rsa3072"))
        .into_command()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(Instant::now() < deadline, "nothing is being written");
        let left = left_behind(place);
        if let [name] = &left[..]
            && names(&place.join(name))
                .iter()
                .any(|file| fs::metadata(place.join(name).join(file)).is_ok_and(|it| it.len() > 0))
        {
            break;
        }
        assert!(child.try_wait().unwrap().is_none(), "it ended too soon");
        thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let left = left_behind(place);
    assert_eq!(left.len(), 1, "nothing was left, so nothing is shown");
    fs::metadata(place.join(&left[0]))
        .unwrap()
        .permissions()
        .mode()
        & 0o777
}

fn left_behind(place: &Path) -> Vec<String> {
    let names = names(place).into_iter();
    names.filter(|name| name.starts_with('.')).collect()
}

#[test]
fn a_killed_run_leaves_nothing_readable_and_the_next_one_removes_it() {
    let stage = Stage::new();
    assert_eq!(killed_while_decrypting(&stage), 0o700);
    stage.name(stage.ordinary());
    assert_ok(&stage.encrypt_to("next", &[]));
    assert_eq!(left_behind(stage.place.path()), [""; 0]);
}

#[test]
fn a_tag_of_another_image_is_not_replaced_unasked() {
    let stage = Stage::new();
    stage.name(stage.ordinary());
    assert_ok(&stage.encrypt_to("app:v1", &[]));
    let app = stage.target("app");
    let index = || fs::read(app.path().join("index.json")).unwrap();
    let before = index();
    // Its plain form would take the place of the encrypted one.
    let output = stage.decrypt("app", "app", &[]);
    assert!(!output.status.success());
    assert!(
        output.stderr.contains(r#"an image tagged "v1" already"#),
        "{}",
        output.stderr
    );
    assert!(output.stderr.contains("--force"), "{}", output.stderr);
    assert!(!stage.encrypt_to("app:v1", &[]).status.success());
    assert_eq!(index(), before);
    assert_ok(&stage.decrypt("app", "app", &["--force"]));
    assert_ne!(index(), before);
}

#[test]
fn what_names_the_image_by_its_digest_follows_it_and_comes_back() {
    let stage = Stage::new();
    let image = stage.ordinary();
    let image_digest = text(&image["digest"]);
    let said = json!({"subject": [{"digest": {"sha256": &image_digest[7..]}}]}).to_string();
    let statement = stage.layer(STATEMENT, said.as_bytes());
    let mut attestation =
        stage.manifest(std::slice::from_ref(&statement), json!({"subject": image}));
    attestation["annotations"] = json!({
        "vnd.docker.reference.digest": image_digest, "vnd.docker.reference.type": "attestation-manifest",
    });
    stage.index(&[image.clone(), attestation]);
    let before = stage.layout.entry(TAG)["digest"].clone();
    let output = stage.encrypt(&[]);
    assert_ok(&output);
    let target = stage.target("target");
    let index: Value = serde_json::from_slice(&target.read(&target.entry(TAG))).unwrap();
    let entries = &index["manifests"];
    let now = &entries[0]["digest"];
    assert_ne!(*now, image_digest);
    assert_eq!(
        entries[1]["annotations"]["vnd.docker.reference.digest"],
        *now
    );
    let attestation: Value = serde_json::from_slice(&target.read(&entries[1])).unwrap();
    assert_eq!(attestation["subject"]["digest"], *now);
    assert_eq!(attestation["subject"]["size"], entries[0]["size"]);
    // The statement itself may be signed.
    assert_eq!(attestation["layers"][0], statement);
    let said = format!("still speaks of manifest {}", short(&image));
    assert!(output.stderr.contains(&said), "{}", output.stderr);
    let back = stage.decrypt("target", "back", &[]);
    assert_ok(&back);
    assert_eq!(back.text().trim_end(), before);
}

#[test]
fn an_encrypted_layer_of_dockers_type_becomes_one_of_ocis() {
    let stage = Stage::new();
    stage.name(stage.ordinary());
    assert_ok(&stage.encrypt_to("encrypted", &[]));
    // As a tool wrote it that added the suffix to what it found.
    let encrypted = stage.target("encrypted");
    let docker = "application/vnd.docker.image.rootfs.diff.tar+encrypted";
    let mut manifest = encrypted.manifest("amd64");
    manifest["layers"][0]["mediaType"] = docker.into();
    let mut entry = encrypted.put(MANIFEST, manifest.to_string().as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": TAG});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(encrypted.path().join("index.json"), index.to_string()).unwrap();

    let inspect = stage
        .token
        .ocihsm()
        .args(["inspect", &encrypted.reference()])
        .ok();
    assert!(
        inspect.text().contains("no containerd opens"),
        "{}",
        inspect.text()
    );
    let json = stage
        .token
        .ocihsm()
        .args(["inspect", &encrypted.reference(), "--json"])
        .ok();
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(
        json["images"][0]["layers"][0]["warning"].is_string(),
        "{json}"
    );

    let key = stage.token.key_file("rsa3072");
    let recipient = format!("pkcs11:{}", vector("keys/other3072.pub.pem").display());
    let more = stage.place.path().join("more");
    stage
        .token
        .ocihsm()
        .args(["encrypt", &encrypted.reference(), more.to_str().unwrap()])
        .args(["--recipient", &recipient, "--key", key.to_str().unwrap()])
        .ok();
    let layer = &stage.target("more").layers()[0];
    assert_eq!(layer["mediaType"], format!("{TAR}+encrypted"));
    let back = stage.decrypt("encrypted", "back", &[]);
    assert_ok(&back);
    assert_eq!(stage.target("back").layers()[0]["mediaType"], TAR);
}

#[test]
fn what_is_not_chosen_need_not_be_here() {
    let stage = Stage::new();
    let mut here = stage.ordinary();
    here["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let gone = stage.layer(TAR, b"gone");
    let mut sparse = stage.manifest(std::slice::from_ref(&gone), json!({}));
    sparse["platform"] = json!({"os": "linux", "architecture": "arm64"});
    fs::remove_file(stage.layout.blob(text(&gone["digest"]))).unwrap();
    let mut absent = json!({"mediaType": MANIFEST, "digest": digest(b"away"), "size": 4});
    absent["platform"] = json!({"os": "linux", "architecture": "s390x"});
    stage.index(&[sparse.clone(), absent.clone(), here]);
    let output = stage.encrypt(&[]);
    stage.assert_fails(&output, &["is not here", "linux/s390x", "--platform"]);
    let output = stage.encrypt(&["--platform", "linux/arm64"]);
    stage.assert_fails(&output, &["no such file"]);
    assert_ok(&stage.encrypt(&["--platform", "linux/amd64"]));
    let target = stage.target("target");
    let index: Value = serde_json::from_slice(&target.read(&target.entry(TAG))).unwrap();
    assert_eq!(index["manifests"][0], sparse);
    assert_eq!(index["manifests"][1], absent);
    let report = stage
        .token
        .ocihsm()
        .args(["inspect", &target.reference()])
        .run();
    assert_ok(&report);
    let line = format!("not here: linux/s390x {}", text(&absent["digest"]));
    assert!(report.text().contains(&line), "{}", report.text());
}
