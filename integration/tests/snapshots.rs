//! What docs/cached-snapshots.md says of layers that containerd has unpacked already.

use std::fs;

use integration::containerd::{Containerd, Settings};
use integration::ocihsm;
use integration::program::Program;
use integration::root::Root;
use integration::token::Token;
use integration::vectors::Vector;

#[test]
fn an_unpacked_layer_serves_without_a_key_until_its_images_are_gone() {
    Root::on_each_containerd(|root| {
        let (token, vector) = (Token::vectors(), Vector::first("sha256-pubkey"));
        let (keys, log) = (token.keys(&["rsa3072"]), token.path().join("log"));
        let processors = Program::new(ocihsm())
            .args(["config", "containerd", "--policy", "internal", "--keys"])
            .arg(&keys)
            .arg("--path")
            .arg(ocihsm())
            .arg("--log")
            .arg(&log)
            .ok()
            .text();
        let containerd = Containerd::start(&Settings {
            root: root.clone(),
            // The file that this becomes part of has a version of its own.
            processors: processors.replace("\nversion = 2\n", "\n"),
            cri: None,
        });
        let archive = vector.layout.archive();
        let decoded = || fs::read_to_string(&log).unwrap().lines().count();

        let first = containerd.import(&archive, "first");
        assert!(first.status.success(), "{first:?}");
        let layers = decoded();
        assert!(layers > 0, "the decoder has not run");

        for key in fs::read_dir(&keys).unwrap() {
            fs::remove_file(key.unwrap().path()).unwrap();
        }
        let second = containerd.import(&archive, "second");
        assert!(second.status.success(), "{second:?}");
        assert_eq!(
            decoded(),
            layers,
            "the decoder ran for a layer that is there"
        );

        let names = containerd.ctr(&["images", "list", "--quiet"]).ok().text();
        for name in names.lines() {
            containerd.ctr(&["images", "remove", "--sync", name]).ok();
        }
        let third = containerd.import(&archive, "third");
        assert!(
            !third.status.success(),
            "it was unpacked without a key: {third:?}"
        );
    });
}
