//! What stands beside an image's layers, and what an image may be: blobs that artifacts name, members that nobody knows,
//! statements that are no statements, documents that nobody could read again.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use integration::layer::{digest, short};
use integration::layout::{Layout, TAG};
use integration::made::{CONFIG, EROFS, INDEX, MANIFEST, Made, STATEMENT, TAR};
use integration::program::Output;
use integration::stage::{Stage, assert_fails, assert_says, names, recipient};
use serde_json::{Value, json};

const SECRET: &[u8] = b"the plain content of a layer";
const ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
const LIMIT: usize = 4 << 20;

fn made() -> (Stage, Made) {
    let stage = Stage::new();
    let made = Made::new(stage.at("source"));
    (stage, made)
}

fn encrypt(stage: &Stage, made: &Made, plain: &[&str]) -> Output {
    let target = stage.at("target");
    let _ = fs::remove_dir_all(&target);
    let mut program = stage.encrypt(&made.layout.reference(), target.to_str().unwrap());
    for media_type in plain {
        program = program.args(["--leave-plain", media_type]);
    }
    program.run()
}

fn refused(stage: &Stage, made: &Made, plain: &[&str], parts: &[&str]) {
    assert_fails(&encrypt(stage, made, plain), parts);
    assert_eq!(names(stage.place.path()), ["source"]);
}

#[test]
fn what_an_artifact_names_is_seen_beside_what_cannot_be_read() {
    let (stage, made) = made();
    let secret = made.layer(TAR, SECRET);
    let away =
        json!({"mediaType": TAR, "digest": format!("sha512:{}", "ab".repeat(64)), "size": 5});
    let more = "names more than can be read";
    for lists in [
        json!({"blobs": [away, secret]}),
        json!({"blobs": [5, secret]}),
        json!({"layers": {}, "blobs": [secret], "config": "x"}),
    ] {
        let entry = made.layer(ARTIFACT, lists.to_string().as_bytes());
        made.index(&[made.ordinary(), entry]);
        refused(&stage, &made, &[ARTIFACT], &["blob", short(&secret), TAR]);
        let output = encrypt(&stage, &made, &[ARTIFACT, TAR]);
        assert_fails(&output, &["no layer that can be encrypted"]);
    }
    let text = json!({"mediaType": ARTIFACT, "blobs": [away]}).to_string();
    made.index(&[made.ordinary(), made.layer(ARTIFACT, text.as_bytes())]);
    assert_says(&encrypt(&stage, &made, &[ARTIFACT]), &[more]);

    // Where its descriptor does not say what it is.
    let text = json!({"mediaType": ARTIFACT, "blobs": [secret]}).to_string();
    let mut untyped = made.layer("", text.as_bytes());
    untyped.as_object_mut().unwrap().shift_remove("mediaType");
    made.index(&[made.ordinary(), untyped]);
    refused(&stage, &made, &[""], &["blob", short(&secret), TAR]);
}

#[test]
fn an_index_of_an_unknown_type_is_followed_to_its_layers() {
    let (stage, made) = made();
    let kind = "application/vnd.example.index+json";
    let layer = made.layer(EROFS, SECRET);
    let image = made.manifest(std::slice::from_ref(&layer), json!({}));
    let within = json!({"manifests": [image]}).to_string();
    made.index(&[made.ordinary(), made.layer(kind, within.as_bytes())]);
    refused(
        &stage,
        &made,
        &[kind, CONFIG, MANIFEST],
        &["blob", short(&layer), EROFS],
    );
    refused(
        &stage,
        &made,
        &[kind, CONFIG, EROFS],
        &["blob", short(&image), MANIFEST],
    );
    let output = encrypt(&stage, &made, &[kind, CONFIG, MANIFEST, EROFS]);
    assert_says(&output, &[short(&layer), short(&image)]);
    let target = Layout::open(stage.at("target"));
    assert_eq!(target.read(&layer), SECRET);
    assert!(!target.read(&image).is_empty());
}

#[test]
fn blobs_beside_layers_are_refused_or_told() {
    let (stage, made) = made();
    let blob = made.layer(EROFS, SECRET);
    let others = json!({"blobs": [blob]});
    let layers = [made.layer(TAR, b"x")];
    made.name(made.manifest(&layers, others.clone()));
    refused(&stage, &made, &[], &["blob", short(&blob), EROFS]);
    assert_says(&encrypt(&stage, &made, &[EROFS]), &["blob", short(&blob)]);
    assert_eq!(Layout::open(stage.at("target")).read(&blob), SECRET);

    let of = |mut image: Value, architecture: &str| {
        image["platform"] = json!({"os": "linux", "architecture": architecture});
        image
    };
    let other = made.manifest(&layers, others);
    made.index(&[of(made.ordinary(), "amd64"), of(other, "arm64")]);
    let target = stage.at("target");
    fs::remove_dir_all(&target).unwrap();
    let program = stage.encrypt(&made.layout.reference(), target.to_str().unwrap());
    let output = program.args(["--platform", "linux/amd64"]).run();
    assert_says(&output, &["blob", short(&blob), "nothing chose it"]);

    // Data in it is the blob, and told as that.
    fs::remove_dir_all(&target).unwrap();
    let mut embedded = blob;
    embedded["data"] = STANDARD.encode(SECRET).into();
    made.name(made.manifest(&layers, json!({"blobs": [embedded]})));
    refused(&stage, &made, &[], &["blob", short(&embedded), EROFS]);

    for (name, value) in [("blobs", json!([])), ("config", json!({}))] {
        let mut index =
            json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [made.ordinary()]});
        index[name] = value;
        made.name(made.layer(INDEX, index.to_string().as_bytes()));
        refused(&stage, &made, &[], &["a manifest and an index at once"]);
    }
}

#[test]
fn data_in_the_entry_of_an_image_is_refused() {
    let (stage, made) = made();
    let hidden = json!({"data": STANDARD.encode(SECRET)});
    for name in ["foo", "platform"] {
        let mut entry = made.ordinary();
        entry[name] = hidden.clone();
        made.name(entry);
        refused(&stage, &made, &[], &["where nobody reads it"]);
    }
}

#[test]
fn a_statement_that_is_nested_without_end_takes_no_memory() {
    let (stage, made) = made();
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        let text = format!(r#"{{"[[[\"[":{open}{close}}}"#);
        let statement = made.layer(STATEMENT, text.as_bytes());
        made.index(&[made.ordinary(), made.manifest(&[statement], json!({}))]);
    };
    nested(127);
    assert_says(&encrypt(&stage, &made, &[]), &["1 attestation stays plain"]);
    let _ = fs::remove_dir_all(stage.at("target"));
    nested(128);
    refused(&stage, &made, &[], &[STATEMENT, "JSON", "128"]);

    // With no more memory than it has to have, a byte for each bracket is too much.
    nested(96 << 20);
    let program = stage.encrypt(
        &made.layout.reference(),
        stage.at("target").to_str().unwrap(),
    );
    let command = program.into_command();
    let mut limited = integration::program::Program::new("prlimit").arg("--data=67108864");
    limited = limited.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        limited = limited.env(name, value.unwrap());
    }
    assert_fails(&limited.run(), &[STATEMENT, "JSON", "128"]);
}

#[test]
fn a_manifest_that_nobody_could_read_again_is_not_written() {
    let (stage, made) = made();
    let layers = [made.layer(TAR, SECRET)];
    let filled = |length: usize| {
        let filling = json!({"annotations": {"x": "a".repeat(length)}});
        made.name(made.manifest(&layers, filling));
    };
    let parts = ["manifest", "to be written", "limit of 4194304"];
    let filling = json!({"annotations": {"x": ""}});
    filled(LIMIT - made.manifest_text(&layers, &filling).len());
    refused(&stage, &made, &[], &parts);

    // Room for one recipient, and not for two.
    filled(0);
    assert_says(&encrypt(&stage, &made, &[]), &[]);
    let target = Layout::open(stage.at("target"));
    let length = target.read(&target.entry(TAG)).len();
    filled(LIMIT - length - 64);
    assert_says(&encrypt(&stage, &made, &[]), &[]);
    let before = target.entry(TAG);
    let key = stage.token.key_file("rsa3072");
    let add = recipient("other3072");
    let rekey = stage.ocihsm().args(["rekey", &target.reference()]);
    let output = rekey.args(["--add", &add, "--key"]).arg(key).run();
    assert_fails(&output, &parts);
    assert_eq!(target.entry(TAG), before);
    assert_eq!(digest(&target.read(&before)), before["digest"]);
}
