//! Content that `ocihsm encrypt` could take for something else and leave plain without a word: configs that are none,
//! data in descriptors, layers that are only called encrypted, and documents that read differently to other tools.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use integration::layer::{Compression, Layer, digest, short};
use integration::layout::{Layout, TAG};
use integration::made::{EROFS, INDEX, MANIFEST, Made, STATEMENT, TAR};
use integration::program::Output;
use integration::stage::{Stage, assert_fails, assert_says, names};
use serde_json::{Value, json};

const SECRET: &[u8] = b"the plain content of a layer";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const WASM: &str = "application/vnd.wasm.config.v0+json";
const HELM: &str = "application/vnd.cncf.helm.config.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

fn made() -> (Stage, Made) {
    let stage = Stage::new();
    let made = Made::new(stage.at("source"));
    (stage, made)
}

fn encrypt(stage: &Stage, made: &Made, options: &[&str]) -> Output {
    let target = stage.at("target");
    let _ = fs::remove_dir_all(&target);
    let program = stage.encrypt(&made.layout.reference(), target.to_str().unwrap());
    program.args(options).run()
}

fn refused(stage: &Stage, made: &Made, parts: &[&str]) {
    assert_fails(&encrypt(stage, made, &[]), parts);
    assert_eq!(names(stage.place.path()), ["source"]);
}

fn with(mut descriptor: Value, name: &str, value: impl Into<Value>) -> Value {
    descriptor[name] = value.into();
    descriptor
}

#[test]
fn a_config_that_is_none_is_not_shipped() {
    let (stage, made) = made();
    for (media_type, content, parts) in [
        (EMPTY, SECRET, &["config", EMPTY, "plain"][..]),
        (EMPTY, b"{ }", &["config", EMPTY, "plain"]),
        (WASM, SECRET, &["config is no JSON"]),
        (CONFIG, SECRET, &["config is no JSON"]),
        (CONFIG, b"[]", &["config is no object"]),
        (HELM, b"{}", &["config", HELM, "--leave-plain"]),
    ] {
        let config = made.layer(media_type, content);
        let mut image = made.manifest(&[made.layer(TAR, b"x")], json!({"config": config}));
        // With this, nobody looks into the config for it.
        image["platform"] = json!({"os": "linux", "architecture": "amd64"});
        made.index(&[image]);
        refused(&stage, &made, parts);
    }
}

#[test]
fn a_config_of_another_kind_is_told() {
    let (stage, made) = made();
    let layers = [made.layer(TAR, b"x")];
    let of = |media_type: &str, content: &[u8]| {
        let config = made.layer(media_type, content);
        made.name(made.manifest(&layers, json!({"config": config})));
        config
    };
    let config = of(WASM, b"{}");
    let output = encrypt(&stage, &made, &[]);
    assert_says(
        &output,
        &["config", short(&config), WASM, "as configs always do"],
    );
    let config = of(HELM, b"{}");
    let output = encrypt(&stage, &made, &["--leave-plain", HELM]);
    assert_says(&output, &["config", short(&config), "--leave-plain"]);
    of(EMPTY, b"{}");
    assert_eq!(encrypt(&stage, &made, &[]).stderr, "");
    of(CONFIG, b"{}");
    assert_eq!(encrypt(&stage, &made, &[]).stderr, "");
}

#[test]
fn a_config_beside_statements_or_for_another_platform_is_looked_at_as_well() {
    let (stage, made) = made();
    let statement = made.layer(STATEMENT, b"{}");
    let config = made.layer(HELM, SECRET);
    let others = json!({"config": config});
    let attestation = made.manifest(std::slice::from_ref(&statement), others.clone());
    made.index(&[made.ordinary(), attestation]);
    refused(&stage, &made, &["config", short(&config), HELM]);

    let of = |image: Value, architecture: &str| {
        let platform = json!({"os": "linux", "architecture": architecture});
        with(image, "platform", platform)
    };
    let other = made.manifest(&[], others);
    made.index(&[of(made.ordinary(), "amd64"), of(other, "arm64")]);
    let output = encrypt(&stage, &made, &["--platform", "linux/amd64"]);
    assert_says(
        &output,
        &["config", short(&config), HELM, "nothing chose it"],
    );
}

#[test]
fn a_layer_that_is_called_a_statement_or_a_config_elsewhere_is_told() {
    let (stage, made) = made();
    let json = br#"{"a":"layer"}"#;
    let (layer, statement) = (made.layer(TAR, json), made.layer(STATEMENT, json));
    let image = made.manifest(std::slice::from_ref(&layer), json!({}));
    made.index(&[image, made.manifest(&[statement], json!({}))]);
    let twice = "the same bytes are encrypted elsewhere";
    assert_says(
        &encrypt(&stage, &made, &[]),
        &["layer", short(&layer), twice],
    );
    let config = json!({"config": made.layer(CONFIG, json)});
    made.name(made.manifest(&[layer], config));
    assert_says(&encrypt(&stage, &made, &[]), &["config", twice]);
}

#[test]
fn data_in_a_descriptor_is_the_blob_or_refused() {
    let (stage, made) = made();
    let hidden = STANDARD.encode(SECRET);
    let wrong = "holds data of another digest";
    let ordinary = made.layer(TAR, b"an ordinary layer");
    let empty = made.layer(EMPTY, b"{}");
    for layers in [
        [
            with(ordinary.clone(), "data", hidden.clone()),
            ordinary.clone(),
        ],
        [
            ordinary.clone(),
            with(empty.clone(), "data", hidden.clone()),
        ],
    ] {
        made.name(made.manifest(&layers, json!({})));
        refused(&stage, &made, &[wrong]);
    }
    let layers = [ordinary];
    let config = with(empty.clone(), "data", hidden.clone());
    made.name(made.manifest(&layers, json!({"config": config})));
    refused(&stage, &made, &[wrong]);
    let subject = with(made.ordinary(), "data", hidden.clone());
    made.name(made.manifest(&layers, json!({"subject": subject})));
    refused(&stage, &made, &[wrong]);
    let entry = with(made.ordinary(), "data", hidden.clone());
    made.index(&[entry]);
    refused(&stage, &made, &[wrong]);
    // A digest of another kind, which says nothing to us.
    let away = json!({"mediaType": MANIFEST, "digest": format!("sha512:{}", "ab".repeat(64)), "size": 1, "data": hidden});
    let mut here = made.ordinary();
    here["platform"] = json!({"os": "linux", "architecture": "amd64"});
    made.index(&[here, away]);
    let output = encrypt(&stage, &made, &["--platform", "linux/amd64"]);
    assert_fails(&output, &["no sha256 digest"]);

    // What is right stays, but for a layer that is encrypted.
    let empty = with(empty, "data", "e30=");
    made.name(made.manifest(&layers, json!({"config": empty})));
    assert_says(&encrypt(&stage, &made, &[]), &[]);
    let manifest = Layout::open(stage.at("target")).manifest("amd64");
    assert_eq!(manifest["config"]["data"], "e30=");
}

#[test]
fn data_where_nobody_reads_it_is_refused() {
    let (stage, made) = made();
    let parts = ["where nobody reads it"];
    let layer = made.layer(TAR, SECRET);
    let hidden = with(layer.clone(), "data", STANDARD.encode(SECRET));
    let layers = [layer];
    for others in [
        json!({"subject": hidden}),
        json!({"blobs": {"x": hidden}}),
        json!({"x-more": {"list": [hidden]}}),
    ] {
        made.name(made.manifest(&layers, others));
        refused(&stage, &made, &parts);
    }
    // A manifest that is not here, and not chosen.
    let other = b"the plain content of another layer";
    let gone = json!({"mediaType": MANIFEST, "digest": digest(other), "size": other.len(), "data": STANDARD.encode(other)});
    let mut here = made.manifest(&layers, json!({}));
    here["platform"] = json!({"os": "linux", "architecture": "amd64"});
    made.index(&[here, gone]);
    let output = encrypt(&stage, &made, &["--platform", "linux/amd64"]);
    assert_fails(&output, &parts);
}

#[test]
fn a_config_for_another_platform_that_is_none_is_told() {
    let (stage, made) = made();
    let config = made.layer(CONFIG, SECRET);
    let of = |image: Value, architecture: &str| {
        let platform = json!({"os": "linux", "architecture": architecture});
        with(image, "platform", platform)
    };
    let other = made.manifest(&[], json!({"config": config}));
    made.index(&[of(made.ordinary(), "amd64"), of(other, "arm64")]);
    let output = encrypt(&stage, &made, &["--platform", "linux/amd64"]);
    assert_says(&output, &["config", short(&config), "nothing chose it"]);
}

#[test]
fn a_layer_that_is_elsewhere_and_in_its_descriptor_too_is_not_shipped() {
    let (stage, made) = made();
    let mut layer = json!({"mediaType": TAR, "digest": digest(SECRET), "size": SECRET.len()});
    layer["urls"] = json!(["https://example.test/layer"]);
    layer["data"] = STANDARD.encode(SECRET).into();
    made.name(made.manifest(&[layer.clone(), made.layer(TAR, b"x")], json!({})));
    refused(&stage, &made, &["layer", short(&layer), "embedded"]);
}

#[test]
fn a_layer_that_is_only_called_encrypted_is_refused_or_told() {
    let (stage, made) = made();
    let called = made.layer(&format!("{TAR}+encrypted"), SECRET);
    let layers = [made.layer(TAR, b"x"), called.clone()];
    made.name(made.manifest(&layers, json!({})));
    let no_envelope = "no encryption annotations";
    refused(&stage, &made, &["layer", short(&called), no_envelope]);
    let output = encrypt(&stage, &made, &["--encrypt-layer", "0"]);
    assert_says(
        &output,
        &["layer", short(&called), "may be plain", no_envelope],
    );

    let of = |image: Value, architecture: &str| {
        let platform = json!({"os": "linux", "architecture": architecture});
        with(image, "platform", platform)
    };
    let other = made.manifest(std::slice::from_ref(&called), json!({}));
    made.index(&[of(made.ordinary(), "amd64"), of(other, "arm64")]);
    let output = encrypt(&stage, &made, &["--platform", "linux/amd64"]);
    assert_says(
        &output,
        &["layer", short(&called), "may be plain", no_envelope],
    );
}

#[test]
fn an_envelope_of_another_layer_does_not_make_a_plain_one_encrypted() {
    let (stage, made) = made();
    made.name(made.ordinary());
    assert_says(&encrypt(&stage, &made, &[]), &[]);
    let annotations = Layout::open(stage.at("target")).layers()[0]["annotations"].clone();
    let plain = made.layer(&format!("{TAR}+encrypted"), SECRET);
    let plain = with(plain, "annotations", annotations);
    made.name(made.manifest(&[plain], json!({})));
    let key = stage.token.key_file("rsa3072");
    let output = encrypt(&stage, &made, &["--key", key.to_str().unwrap()]);
    assert_fails(&output, &["verification failed"]);
    assert_eq!(names(stage.place.path()), ["source"]);
}

/// With an envelope that is valid, and another layer's.
#[test]
fn a_layer_that_is_called_encrypted_and_that_nobody_opens_is_told() {
    let (stage, made) = made();
    made.name(made.ordinary());
    assert_says(&encrypt(&stage, &made, &[]), &[]);
    let annotations = Layout::open(stage.at("target")).layers()[0]["annotations"].clone();
    let archive = Layer::file("a", SECRET, Compression::None).blob;
    let gzip = Layer::file("a", SECRET, Compression::Gzip).blob;
    for (content, part) in [
        (SECRET, "was not opened, so it may be plain"),
        (&archive, "is plain: it begins as tar does"),
        (&gzip, "is plain: it begins as gzip does"),
    ] {
        let stolen = made.layer(&format!("{TAR}+encrypted"), content);
        let stolen = with(stolen, "annotations", annotations.clone());
        made.name(made.manifest(&[made.layer(TAR, b"x"), stolen.clone()], json!({})));
        let output = encrypt(&stage, &made, &["--encrypt-layer", "0"]);
        assert_says(&output, &["layer", short(&stolen), part]);

        let of = |image: Value, architecture: &str| {
            let platform = json!({"os": "linux", "architecture": architecture});
            with(image, "platform", platform)
        };
        let other = made.manifest(std::slice::from_ref(&stolen), json!({}));
        made.index(&[of(made.ordinary(), "amd64"), of(other, "arm64")]);
        let output = encrypt(&stage, &made, &["--platform", "linux/amd64"]);
        assert_says(&output, &["layer", short(&stolen), part]);
    }
}

/// What a plain layer is said to be wrapped for would otherwise count as a recipient.
#[test]
fn an_envelope_on_a_plain_layer_is_not_kept() {
    let (stage, made) = made();
    let layer = made.layer(TAR, SECRET);
    let annotations = json!({"org.opencontainers.image.enc.keys.jwe": "e30=", "other": "stays"});
    let layer = with(layer, "annotations", annotations);
    made.name(made.manifest(&[layer], json!({})));
    assert_says(&encrypt(&stage, &made, &[]), &[]);
    let annotations = &Layout::open(stage.at("target")).layers()[0]["annotations"];
    let annotations = annotations.as_object().unwrap();
    assert!(annotations.contains_key("org.opencontainers.image.enc.keys.pkcs11"));
    assert!(!annotations.contains_key("org.opencontainers.image.enc.keys.jwe"));
    assert_eq!(annotations["other"], "stays");
}

#[test]
fn a_layer_under_the_name_of_an_attestation_is_not_shipped() {
    let (stage, made) = made();
    let of = |compression| Layer::file("etc/shadow", SECRET, compression).blob;
    let named = Layer::file("{\"a\":1}", b"{}", Compression::None).blob;
    for content in [
        of(Compression::None),
        of(Compression::Gzip),
        of(Compression::Zstd),
        named,
        b"{\"a\":1} and more".to_vec(),
        b"\"text\"".to_vec(),
    ] {
        let layer = made.layer(STATEMENT, &content);
        let attestation = made.manifest(std::slice::from_ref(&layer), json!({}));
        made.index(&[made.ordinary(), attestation.clone()]);
        refused(&stage, &made, &["layer", short(&layer), STATEMENT, "JSON"]);
        let output = encrypt(&stage, &made, &["--leave-plain", STATEMENT]);
        assert_says(&output, &["layer", short(&layer), "--leave-plain"]);
        let _ = fs::remove_dir_all(stage.at("target"));
        let of = |image: Value, os: &str, architecture: &str| {
            let platform = json!({"os": os, "architecture": architecture});
            with(image, "platform", platform)
        };
        made.index(&[
            of(made.ordinary(), "linux", "amd64"),
            of(attestation, "unknown", "unknown"),
        ]);
        let output = encrypt(&stage, &made, &["--platform", "linux/amd64"]);
        assert_says(&output, &["layer", short(&layer), "nothing chose it"]);
        let _ = fs::remove_dir_all(stage.at("target"));
    }
    // A long one that is JSON.
    let long = json!({"predicate": "a".repeat(5 << 20)}).to_string();
    let attestation = made.manifest(&[made.layer(STATEMENT, long.as_bytes())], json!({}));
    made.index(&[made.ordinary(), attestation]);
    assert_says(&encrypt(&stage, &made, &[]), &["1 attestation stays plain"]);
}

#[test]
fn blobs_of_an_entry_of_another_kind_are_told() {
    let (stage, made) = made();
    let artifact = "application/vnd.oci.artifact.manifest.v1+json";
    let blob = made.layer(EROFS, SECRET);
    let text = json!({"mediaType": artifact, "blobs": [blob]}).to_string();
    let entry = made.layer(artifact, text.as_bytes());
    made.index(&[made.ordinary(), entry]);
    refused(&stage, &made, &["entry", artifact]);
    let output = encrypt(&stage, &made, &["--leave-plain", artifact]);
    assert_fails(&output, &["blob", short(&blob), EROFS]);
    let both = ["--leave-plain", artifact, "--leave-plain", EROFS];
    assert_says(&encrypt(&stage, &made, &both), &["blob", short(&blob)]);
}

/// As Go reads it, the last of each of these is what counts, in whatever case it is written.
#[test]
fn a_document_that_reads_differently_to_other_tools_is_refused() {
    let (stage, made) = made();
    let hidden = made.layer(EROFS, SECRET);
    let ordinary = made.ordinary();
    let other = made.manifest(std::slice::from_ref(&hidden), json!({}));
    for (name, part) in [
        ("Manifests", "another case"),
        ("manifests", "a field twice"),
        ("manife\u{17f}ts", "another case"),
    ] {
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{INDEX}","{name}":[{other}],"manifests":[{ordinary}]}}"#
        );
        made.name(made.layer(INDEX, text.as_bytes()));
        refused(&stage, &made, &[part]);
    }
    let text = made.manifest_text(&[made.layer(TAR, b"x")], &json!({}));
    for (name, value, part) in [
        ("Layers", json!([hidden]), "another case"),
        ("layers", json!([hidden]), "a field twice"),
        ("Config", hidden.clone(), "another case"),
        ("config", hidden.clone(), "a field twice"),
        ("MediaType", INDEX.into(), "another case"),
        ("x", json!({}), ""),
    ] {
        let text = format!(r#"{{"{name}":{value},{}"#, &text[1..]);
        made.name(made.layer(MANIFEST, text.as_bytes()));
        match part {
            "" => assert_says(&encrypt(&stage, &made, &[]), &[]),
            part => refused(&stage, &made, &[part]),
        }
        let _ = fs::remove_dir_all(stage.at("target"));
    }
    // Within a descriptor, and in the layout's own index.
    for (name, part) in [("digest", "a field twice"), ("Digest", "another case")] {
        let twice = format!(r#"{{"{name}":"{}","#, hidden["digest"].as_str().unwrap());
        let layer = made.layer(TAR, b"x").to_string().replacen('{', &twice, 1);
        let text = made.manifest_text(&[], &json!({}));
        let text = text.replace(r#""layers":[]"#, &format!(r#""layers":[{layer}]"#));
        made.name(made.layer(MANIFEST, text.as_bytes()));
        refused(&stage, &made, &[part]);
    }
    let annotations = json!({"org.opencontainers.image.ref.name": TAG});
    let entry = |it: &Value| with(it.clone(), "annotations", annotations.clone());
    for (name, part) in [
        ("manifests", "a field twice"),
        ("MANIFESTS", "another case"),
    ] {
        let text = format!(
            r#"{{"schemaVersion":2,"{name}":[{}],"manifests":[{}]}}"#,
            entry(&other),
            entry(&ordinary)
        );
        fs::write(made.layout.path().join("index.json"), text).unwrap();
        refused(&stage, &made, &[part]);
    }
}
