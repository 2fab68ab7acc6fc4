//! skopeo: copies an image from layout to layout, and encrypts or decrypts it on the way.

use integration::layout::Layout;
use integration::program::Output;

use crate::row::Row;
use crate::stage::{
    HASH, Stage, assert_ok, assert_refused_by_softhsm, assert_same, compressions, encrypted_layers,
};

pub(crate) fn row(stage: &Stage) -> Row {
    Row::new(stage.peer("skopeo"))
        .we_open("three media types to a PEM file, SHA-256", || {
            we_open(stage, "pem-256", &stage.public_key(), "sha256");
        })
        .we_open("SHA-1", || {
            we_open(stage, "pem-1", &stage.public_key(), "sha1");
        })
        .we_open("to a key file, SHA-1", || {
            we_open(stage, "token-1", &stage.token_key(), "sha1");
        })
        .we_open("one layer", || we_open_one_layer(stage))
        .we_open("two platforms", || we_open_an_index(stage))
        .it_opens("three media types, SHA-1", || {
            it_opens(stage, "all", 3, &[])
        })
        .it_opens("one layer", || {
            it_opens(stage, "one", 1, &["--encrypt-layer", "1"]);
        })
        .it_opens("two platforms", || it_opens_an_index(stage))
        .it_cannot("encrypt to SoftHSM with SHA-256", || {
            let options = ["--encryption-key", &stage.token_key()];
            let to = stage.layout("token-256");
            assert_refused_by_softhsm(&copy(stage, &stage.plain, &to, &options, "sha256"));
        })
        .it_cannot("decrypt with SoftHSM and SHA-256", || {
            let encrypted = stage.encrypt(&stage.plain, "closed", "sha256", &[]);
            let options = ["--decryption-key", &stage.key_file()];
            let to = stage.layout("never");
            assert_refused_by_softhsm(&copy(stage, &encrypted, &to, &options, "sha256"));
        })
}

fn copy(stage: &Stage, from: &Layout, to: &Layout, options: &[&str], hash: &str) -> Output {
    stage
        .program("skopeo")
        .args(["--insecure-policy", "copy"])
        .args(options)
        .args([from.reference(), to.reference()])
        .env(HASH, hash)
        .run()
}

fn we_open(stage: &Stage, name: &str, recipient: &str, hash: &str) {
    let encrypted = stage.layout(name);
    // By default it compresses plain tar.
    let tar = "--dest-oci-accept-uncompressed-layers";
    let options = [tar, "--encryption-key", recipient];
    assert_ok(&copy(stage, &stage.plain, &encrypted, &options, hash));
    assert_eq!(compressions(&encrypted), compressions(&stage.plain));
    stage.assert_opens(&encrypted, 3, "amd64", &stage.plain);
}

fn we_open_one_layer(stage: &Stage) {
    let encrypted = stage.layout("last");
    let key = stage.public_key();
    let options = ["--encryption-key", &key, "--encrypt-layer", "-1"];
    assert_ok(&copy(stage, &stage.plain, &encrypted, &options, "sha256"));
    stage.assert_opens(&encrypted, 1, "amd64", &stage.plain);
}

fn we_open_an_index(stage: &Stage) {
    let encrypted = stage.layout("index");
    let options = ["--all", "--encryption-key", &stage.public_key()];
    assert_ok(&copy(stage, &stage.index, &encrypted, &options, "sha256"));
    for architecture in ["amd64", "arm64"] {
        stage.assert_opens(&encrypted, 3, architecture, &stage.index);
    }
}

fn it_opens(stage: &Stage, name: &str, layers: usize, options: &[&str]) {
    let encrypted = stage.encrypt(&stage.plain, &format!("ours-{name}"), "sha1", options);
    assert_eq!(encrypted_layers(&encrypted, "amd64"), layers);
    let decrypted = stage.layout(&format!("opened-{name}"));
    let options = ["--decryption-key", &stage.key_file()];
    assert_ok(&copy(stage, &encrypted, &decrypted, &options, "sha1"));
    assert_same(&decrypted, &stage.plain, "amd64");
}

fn it_opens_an_index(stage: &Stage) {
    let encrypted = stage.encrypt(&stage.index, "ours-index", "sha1", &[]);
    let decrypted = stage.layout("opened-index");
    let options = ["--all", "--decryption-key", &stage.key_file()];
    assert_ok(&copy(stage, &encrypted, &decrypted, &options, "sha1"));
    for architecture in ["amd64", "arm64"] {
        assert_eq!(encrypted_layers(&encrypted, architecture), 3);
        assert_same(&decrypted, &stage.index, architecture);
    }
}
