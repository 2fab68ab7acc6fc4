//! A layer of any length passes through a decoder that holds little of it.

use integration::layer::{Compression, Layer, digest, noise};
use integration::layout::Layout;
use integration::processor::Processor;
use integration::token::Token;
use serde_json::Value;
use tempfile::TempDir;

#[test]
fn memory_does_not_grow_with_the_layer() {
    let token = Token::vectors();
    let place = TempDir::new().unwrap();
    let layers = [Layer::file("big", &noise(96 << 20), Compression::None)];
    let plain = Layout::create(place.path().join("image"), &layers, &["/big"]);
    let expected = plain.layers()[0]["digest"].clone();
    for cipher in ["aes-256-ctr-hmac-sha256", "aes-256-gcm"] {
        let encrypted = token.encrypt(&plain, "rsa3072", &["--cipher", cipher]);
        let layer = &encrypted.layers()[0];
        let keys = token.keys(&["rsa3072"]);
        // All data of the process, the module's child and thread stacks included.
        let outcome = Processor::decode(&token, &encrypted, layer, &keys)
            .payload(layer, &Value::Null)
            .through(&["prlimit", "--data=16777216"])
            .run();
        assert!(outcome.output.status.success(), "{:?}", outcome.output);
        assert_eq!(digest(&outcome.output.stdout), expected, "{cipher}");
        std::fs::remove_dir_all(encrypted.path()).unwrap();
    }
}
