//! Plain containerds, of this machine and of the peers, with plain `ctr`: images that must run, and images that must
//! not unpack for want of a key. Images that were changed are in `tampered.rs`, clients with a payload in `matrix.rs`.

use integration::containerd::{Containerd, Settings};
use integration::layer::{Compression, Layer, digest, noise};
use integration::layout::Layout;
use integration::registry::Registry;
use integration::root::Root;
use integration::token::Token;
use tempfile::TempDir;

#[test]
fn an_image_of_three_media_types_is_imported_pulled_and_run() {
    Root::on_each_containerd(|root| {
        let token = Token::vectors();
        let place = TempDir::new().unwrap();
        let layers = [
            Layer::busybox(Compression::Gzip),
            Layer::file("etc/one", b"one of three\n", Compression::None),
            Layer::file("etc/two", b"two of three\n", Compression::Zstd),
        ];
        let plain = Layout::create(
            place.path().join("image"),
            &layers,
            &["/bin/cat", "/etc/one", "/etc/two"],
        );
        let encrypted = token.encrypt(&plain, "rsa3072", &[]);
        let registry = Registry::start();
        let reference = registry.push(&encrypted, "three");
        let containerd = Containerd::start(&Settings::new(root.clone(), &token.keys(&["rsa3072"])));

        let output = containerd.import(&encrypted.archive(), "three");
        assert!(output.status.success(), "{output:?}");
        assert_eq!(
            containerd.run("test.example/three:latest").text(),
            "one of three\ntwo of three\n"
        );

        let containerd = Containerd::start(&Settings::new(root.clone(), &token.keys(&["rsa3072"])));
        let output = containerd.pull(&reference);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(
            containerd.run(&reference).text(),
            "one of three\ntwo of three\n"
        );
    });
}

#[test]
fn a_layer_of_300_mib_is_whole() {
    let token = Token::vectors();
    let place = TempDir::new().unwrap();
    let content = noise(300 << 20);
    let hash = digest(&content).replace("sha256:", "");
    let layers = [
        Layer::busybox(Compression::Gzip),
        Layer::file("big", &content, Compression::None),
    ];
    drop(content);
    let command = ["/bin/busybox", "sha256sum", "/big"];
    let plain = Layout::create(place.path().join("image"), &layers, &command);
    drop(layers);
    let archive = token
        .encrypt(&plain, "rsa3072", &["--encrypt-layer", "1"])
        .archive();
    Root::on_each_containerd(|root| {
        // A copy, for SoftHSM's tokens are not to be shared.
        let token = Token::vectors();
        let containerd = Containerd::start(&Settings::new(root.clone(), &token.keys(&["rsa3072"])));
        let output = containerd.import(&archive, "big");
        assert!(output.status.success(), "{output:?}");
        assert_eq!(
            containerd.run("test.example/big:latest").text(),
            format!("{hash}  /big\n")
        );
    });
}

#[test]
fn without_its_key_an_image_is_not_unpacked_and_ctr_says_why() {
    Root::on_each_containerd(|root| {
        let token = Token::vectors();
        let place = TempDir::new().unwrap();
        let plain = Layout::create(
            place.path().join("image"),
            &[Layer::busybox(Compression::Gzip)],
            &["/bin/echo"],
        );
        let archive = token.encrypt(&plain, "rsa3072", &[]).archive();
        for keys in [token.keys(&["other3072"]), token.keys(&[])] {
            let containerd = Containerd::start(&Settings::new(root.clone(), &keys));
            let output = containerd.import(&archive, "closed");
            assert!(!output.status.success(), "{output:?}");
            assert!(output.stderr.contains("ocihsm: error: "), "{output:?}");
            assert_eq!(containerd.snapshots(), 0);
        }
    });
}
