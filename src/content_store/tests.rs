//! Stores as containerd lays them out, made in a temporary directory.

use sha2::{Digest as _, Sha256};

use super::*;

struct Containerd {
    root: tempfile::TempDir,
}

impl Containerd {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(
            root.path()
                .join("io.containerd.content.v1.content/blobs/sha256"),
        )
        .unwrap();
        Self { root }
    }

    fn roots(&self) -> Vec<PathBuf> {
        vec![self.root.path().to_owned()]
    }

    fn put(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::from_sha256(&Sha256::digest(bytes).into());
        let path = Store::at(self.root.path()).unwrap().unwrap().blob(&digest);
        fs::write(path, bytes).unwrap();
        digest
    }

    fn put_manifest(&self, layer: &Digest, key: &str) -> Digest {
        let json = format!(
            r#"{{"layers":[{{"digest":"{layer}","size":7,"mediaType":"m","annotations":{{"key":"{key}"}}}}]}}"#
        );
        self.put(json.as_bytes())
    }

    fn find(&self, stdin: &[u8]) -> Result<Found> {
        find(
            &self.roots(),
            std::process::id(),
            &FirstBytes::read(stdin).unwrap(),
        )
    }
}

fn blob(seed: u8) -> Vec<u8> {
    (0..4000)
        .map(|i| (i as u8).wrapping_mul(31) ^ seed)
        .collect()
}

#[test]
fn first_bytes_find_the_blob_and_every_manifest_that_wraps_it() {
    let containerd = Containerd::new();
    let (one, other) = (containerd.put(&blob(1)), containerd.put(&blob(2)));
    containerd.put_manifest(&one, "a");
    containerd.put_manifest(&one, "b");
    containerd.put_manifest(&other, "c");
    let found = containerd.find(&blob(1)).unwrap();
    let mut keys: Vec<_> = found
        .layers
        .iter()
        .map(|layer| &layer.annotations["key"])
        .collect();
    keys.sort();
    assert_eq!(keys, ["a", "b"]);
    assert!(found.blob.ends_with(one.hex()));
    assert_eq!(found.layers[0].size, Some(7));
}

#[test]
fn a_blob_that_the_parent_holds_open_names_its_store() {
    let containerd = Containerd::new();
    let digest = containerd.put(&blob(1));
    containerd.put_manifest(&digest, "a");
    let _open = fs::File::open(
        Store::at(containerd.root.path())
            .unwrap()
            .unwrap()
            .blob(&digest),
    )
    .unwrap();
    let first = FirstBytes::read(blob(1).as_slice()).unwrap();
    assert!(find(&[], std::process::id(), &first).is_ok());
}

#[test]
fn a_short_layer_must_match_to_its_end() {
    let containerd = Containerd::new();
    let short = containerd.put(&blob(1)[..100]);
    containerd.put_manifest(&short, "short");
    let long = containerd.put(&blob(1));
    containerd.put_manifest(&long, "long");
    for (stdin, key) in [(&blob(1)[..100], "short"), (&blob(1)[..], "long")] {
        let found = containerd.find(stdin).unwrap();
        assert_eq!(found.layers[0].annotations["key"], key);
    }
}

#[test]
fn nothing_found_says_where_was_looked() {
    let containerd = Containerd::new();
    let digest = containerd.put(&blob(1));
    containerd.put_manifest(&containerd.put(&blob(3)), "x");
    let error = containerd.find(&blob(1)).unwrap_err();
    assert!(
        matches!(&error, Error::NoDescriptor { digest: d, manifests: 1, .. } if *d == digest),
        "{error}"
    );
    let error = containerd.find(&blob(9)).unwrap_err();
    assert!(
        matches!(&error, Error::UnknownLayer { blobs: 3, .. }),
        "{error}"
    );
    let error = containerd.find(b"").unwrap_err();
    assert!(matches!(&error, Error::UnknownLayer { .. }), "{error}");
    let nowhere = [PathBuf::from("/nonexistent")];
    let error = find(
        &nowhere,
        std::process::id(),
        &FirstBytes::read(&blob(1)[..]).unwrap(),
    )
    .unwrap_err();
    assert!(matches!(&error, Error::NoContentStore { .. }), "{error}");
}

#[test]
fn text_in_a_manifest_is_never_a_path() {
    let containerd = Containerd::new();
    let digest = containerd.put(&blob(1));
    containerd.put(
        format!(
            r#"{{"layers":[{{"digest":"sha256:../{}"}}]}}"#,
            digest.hex()
        )
        .as_bytes(),
    );
    assert!(matches!(
        containerd.find(&blob(1)),
        Err(Error::NoDescriptor { .. })
    ));
}

#[test]
fn a_manifest_over_the_bound_is_not_read() {
    let containerd = Containerd::new();
    let digest = containerd.put(&blob(1));
    let padding = " ".repeat(manifests::MAX_MANIFEST as usize);
    containerd.put(format!(r#"{{"layers":[{{"digest":"{digest}"}}]{padding}}}"#).as_bytes());
    assert!(matches!(
        containerd.find(&blob(1)),
        Err(Error::NoDescriptor { .. })
    ));
}

#[test]
fn the_file_that_is_held_open() {
    let containerd = Containerd::new();
    let digest = containerd.put(&blob(1));
    let held = || held_blob(std::process::id(), &digest);
    assert_eq!(held(), None);
    let store = Store::at(containerd.roots()[0].as_path()).unwrap().unwrap();
    let _open = fs::File::open(store.blob(&digest)).unwrap();
    assert_eq!(fs::read(held().unwrap()).unwrap(), blob(1));
}
