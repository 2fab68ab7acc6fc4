//! How long it takes to find a layer in containerd's store: 10,000 blobs, of them 4,000 manifests of five layers each.
//!
//! The bound is 100 ms. Run it with `cargo bench --bench content_store`.

use std::fs::{self, File};
use std::path::PathBuf;

use divan::Bencher;
use ocihsm::content_store;
use sha2::{Digest as _, Sha256};

const LAYERS: usize = 6_000;
const MANIFESTS: usize = 4_000;

struct Store {
    root: tempfile::TempDir,
    digests: Vec<String>,
}

impl Store {
    fn new() -> Self {
        let mut store = Self {
            root: tempfile::tempdir().expect("a temporary directory"),
            digests: Vec::new(),
        };
        fs::create_dir_all(store.blobs()).expect("a directory in it");
        for number in 0..LAYERS {
            let layer: Vec<u8> = Sha256::digest(number.to_le_bytes()).repeat(64 + number % 2_000);
            let digest = store.put(&layer);
            store.digests.push(digest);
        }
        for number in 0..MANIFESTS {
            let manifest = store.manifest(number);
            store.put(manifest.as_bytes());
        }
        store
    }

    fn blobs(&self) -> PathBuf {
        self.root
            .path()
            .join("io.containerd.content.v1.content/blobs/sha256")
    }

    fn put(&self, blob: &[u8]) -> String {
        let digest: String = Sha256::digest(blob)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        fs::write(self.blobs().join(&digest), blob).expect("room for a blob");
        digest
    }

    /// Annotations as long as those of one RSA-3072 recipient.
    fn manifest(&self, number: usize) -> String {
        let layers: Vec<String> = (0..5)
            .map(|layer| {
                let digest = &self.digests[(number * 5 + layer) % LAYERS];
                let key = "k".repeat(750);
                format!(r#"{{"digest":"sha256:{digest}","size":{number},"annotations":{{"key":"{key}"}}}}"#)
            })
            .collect();
        format!(r#"{{"layers":[{}]}}"#, layers.join(","))
    }

    fn find(&self, number: usize, parent: u32) -> usize {
        let blob = File::open(self.blobs().join(&self.digests[number])).expect("the blob");
        let roots = [self.root.path().to_owned()];
        let found = content_store::find(&roots, parent, &blob);
        let found = found.expect("a manifest that describes it");
        found.descriptions.flatten().count()
    }
}

/// As containerd runs us: our parent holds the blob open.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn held_open_by_the_parent(bencher: Bencher<'_, '_>) {
    let store = Store::new();
    bencher.bench_local(|| store.find(17, std::process::id()));
}

/// Where the parent's files cannot be seen: the first bytes of stdin alone.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn by_first_bytes_alone(bencher: Bencher<'_, '_>) {
    let store = Store::new();
    bencher.bench_local(|| store.find(17, u32::MAX));
}

fn main() {
    divan::main();
}
