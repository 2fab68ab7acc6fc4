//! Stores as containerd lays them out, made in a temporary directory.

use std::fs;
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use super::*;
use crate::descriptor::LayerDescriptor;

/// A process that holds nothing open.
const NOBODY: u32 = u32::MAX;
const PREFIX: &str = "org.opencontainers.image.enc.";

struct Containerd {
    root: tempfile::TempDir,
}

impl Containerd {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let blobs = "io.containerd.content.v1.content/blobs/sha256";
        fs::create_dir_all(root.path().join(blobs)).unwrap();
        Self { root }
    }

    fn roots(&self) -> Vec<PathBuf> {
        vec![self.root.path().to_owned()]
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        Store::at(self.root.path()).unwrap().unwrap().blob(digest)
    }

    fn put(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::from_sha256(&Sha256::digest(bytes).into());
        fs::write(self.path(&digest), bytes).unwrap();
        digest
    }

    fn put_manifest(&self, layer: &Digest, key: &str) -> Digest {
        let json = format!(
            r#"{{"layers":[{{"digest":"{layer}","size":7,"mediaType":"m","annotations":{{"{PREFIX}key":"{key}"}}}}]}}"#
        );
        self.put(json.as_bytes())
    }

    fn find(&self, stdin: &[u8]) -> Result<Found> {
        find(&self.roots(), NOBODY, stdin)
    }
}

fn blob(seed: u8) -> Vec<u8> {
    (0..4000)
        .map(|i| (i as u8).wrapping_mul(31) ^ seed)
        .collect()
}

fn keys(found: Found) -> Vec<String> {
    let key = |layer: LayerDescriptor| layer.annotations[&format!("{PREFIX}key")].clone();
    found.descriptions.flatten().map(key).collect()
}

fn read(found: &mut Found) -> Vec<u8> {
    let mut bytes = Vec::new();
    let prefix = std::mem::replace(&mut found.prefix, Prefix::of(Vec::new()));
    let mut reader = prefix.reader(&found.file).unwrap();
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn first_bytes_find_the_blob_and_every_manifest_that_wraps_it() {
    let containerd = Containerd::new();
    let (one, other) = (containerd.put(&blob(1)), containerd.put(&blob(2)));
    let hour = Duration::from_secs(3600);
    for (key, age) in [("b", 2 * hour), ("a", hour), ("c", 3 * hour)] {
        let manifest = containerd.put_manifest(&one, key);
        let file = File::options().write(true).open(containerd.path(&manifest));
        file.unwrap().set_modified(SystemTime::now() - age).unwrap();
    }
    containerd.put_manifest(&other, "x");
    let mut found = containerd.find(&blob(1)).unwrap();
    assert_eq!(found.digest, one);
    assert_eq!(read(&mut found), blob(1)[..FIRST_BYTES]);
    let mut whole = Vec::new();
    BlobReader::new(&found.file)
        .unwrap()
        .read_to_end(&mut whole)
        .unwrap();
    assert_eq!(whole, blob(1));
    assert!(!found.descriptions.is_one());
    assert_eq!(found.descriptions.media_type().as_deref(), Some("m"));
    // The newest first.
    assert_eq!(keys(found), ["a", "b", "c"]);
}

#[test]
fn a_blob_that_the_parent_holds_open_names_its_store() {
    let containerd = Containerd::new();
    let digest = containerd.put(&blob(11));
    containerd.put_manifest(&digest, "a");
    let _open = File::open(containerd.path(&digest)).unwrap();
    assert!(find(&[], std::process::id(), &blob(11)[..]).is_ok());
}

#[test]
fn a_short_layer_must_match_to_its_end() {
    let containerd = Containerd::new();
    let short = containerd.put(&blob(1)[..100]);
    containerd.put_manifest(&short, "short");
    let long = containerd.put(&blob(1));
    containerd.put_manifest(&long, "long");
    for (stdin, key) in [(&blob(1)[..100], "short"), (&blob(1)[..], "long")] {
        assert_eq!(keys(containerd.find(stdin).unwrap()), [key]);
    }
}

#[test]
fn a_copy_of_the_first_bytes_does_not_win() {
    // Longer than one comparison, and different only near the end, or in length.
    let layer: Vec<u8> = (0..200_000_u32).map(|i| (i * 7 / 5) as u8).collect();
    let mut changed = layer.clone();
    changed[199_990] ^= 1;
    let mut early = layer[..600].to_vec();
    early.extend([0; 1000]);
    let longer = [&layer[..], b"x"].concat();
    let containerd = Containerd::new();
    for (key, copy) in [
        ("early", &early),
        ("short", &layer[..150_000].to_vec()),
        ("changed", &changed),
        ("longer", &longer),
        ("layer", &layer),
    ] {
        containerd.put_manifest(&containerd.put(copy), key);
    }
    for (key, stdin) in [
        ("layer", &layer),
        ("changed", &changed),
        ("longer", &longer),
    ] {
        let mut rest = &stdin[..];
        let mut found = find(&containerd.roots(), NOBODY, &mut rest).unwrap();
        let again = read(&mut found);
        assert!(again.len() > FIRST_BYTES);
        assert_eq!([&again[..], rest].concat(), *stdin, "{key}");
        assert_eq!(keys(found), [key]);
    }
    // Nobody's: all of them say something else there.
    let mut foreign = layer.clone();
    foreign[100_000] ^= 1;
    assert!(matches!(
        containerd.find(&foreign),
        Err(Error::UnknownLayer { .. })
    ));
}

#[test]
fn an_empty_layer_is_one_that_the_parent_holds_open() {
    let containerd = Containerd::new();
    assert!(matches!(containerd.find(b""), Err(Error::Empty)));
    let empty = containerd.put(b"");
    containerd.put_manifest(&empty, "empty");
    assert_eq!(keys(containerd.find(b"").unwrap()), ["empty"]);
    let parent = std::process::id();
    let layer = containerd.put(&blob(12));
    let _open = File::open(containerd.path(&layer)).unwrap();
    // It feeds us from another one, so nothing came of that.
    assert!(matches!(
        find(&containerd.roots(), parent, &b""[..]),
        Err(Error::Empty)
    ));
    let _empty = File::open(containerd.path(&empty)).unwrap();
    assert_eq!(
        keys(find(&containerd.roots(), parent, &b""[..]).unwrap()),
        ["empty"]
    );
}

#[test]
fn nothing_found_says_where_was_looked() {
    let containerd = Containerd::new();
    let digest = containerd.put(&blob(1));
    containerd.put_manifest(&containerd.put(&blob(3)), "x");
    let error = containerd.find(&blob(1)).unwrap_err();
    assert!(
        matches!(&error, Error::NoDescription { digest: d, manifests: 1, .. } if *d == digest),
        "{error}"
    );
    let error = containerd.find(&blob(9)).unwrap_err();
    assert!(
        matches!(&error, Error::UnknownLayer { blobs: 3, .. }),
        "{error}"
    );
    let nowhere = [PathBuf::from("/nonexistent")];
    let error = find(&nowhere, NOBODY, &blob(1)[..]).unwrap_err();
    assert!(matches!(&error, Error::NoStore { .. }), "{error}");
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
        Err(Error::NoDescription { .. })
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
        Err(Error::NoDescription { .. })
    ));
}

#[test]
fn a_manifest_of_many_descriptions_is_no_error() {
    let containerd = Containerd::new();
    let digest = containerd.put(&blob(1));
    let layers: Vec<_> = (0..300)
        .map(|size| format!(r#"{{"digest":"{digest}","size":{size}}}"#))
        .collect();
    containerd.put(format!(r#"{{"layers":[{}]}}"#, layers.join(",")).as_bytes());
    let mut found = containerd.find(&blob(1)).unwrap();
    assert_eq!(
        found.descriptions.next().unwrap().len(),
        manifests::MAX_DESCRIPTIONS
    );
    assert!(found.descriptions.next().is_none());
}

#[test]
fn the_file_that_is_held_open() {
    let containerd = Containerd::new();
    let digest = containerd.put(&blob(13));
    let held = || held_blob(std::process::id(), &digest);
    assert!(held().is_none());
    let _open = File::open(containerd.path(&digest)).unwrap();
    let mut bytes = Vec::new();
    let mut reader = BlobReader::new(&held().unwrap()).unwrap();
    reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, blob(13));
}
