use std::os::unix::fs::symlink;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::*;

const KEY: &str = "pkcs11:\n  uri: pkcs11:token=t;object=o?pin-value=1234\n";

struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn link(&self, target: &str, name: &str) {
        symlink(target, self.path(name)).unwrap();
    }

    fn read(&self) -> KeyDir {
        KeyDir::read(self.0.path()).unwrap()
    }

    /// Paths below the directory.
    fn keys(&self, found: &KeyDir) -> Vec<String> {
        let root = format!("{}/", self.0.path().display());
        let names = found.keys.iter().map(|key| &key.name);
        names.map(|name| name.replace(&root, "")).collect()
    }
}

#[test]
fn keys_at_any_depth_in_the_order_of_their_paths() {
    let tree = Tree::new();
    for name in ["b.yaml", "a/z.yaml", "a/b/c/d.yaml", "c"] {
        tree.file(name, KEY);
    }
    let found = tree.read();
    assert!(found.skipped.is_empty());
    let expected = ["a/b/c/d.yaml", "a/z.yaml", "b.yaml", "c"];
    assert_eq!(tree.keys(&found), expected);
}

#[test]
fn copies_of_a_key_file_are_passed_over_and_told() {
    let tree = Tree::new();
    let copies = [
        "#k.yaml#",
        ".git/k.yaml",
        ".k.yaml.old",
        ".k.yaml.swp",
        "backup/k.yaml",
        "k.yaml.bak",
        "k.yaml.dpkg-old",
        "k.yaml.orig",
        "k.yaml~",
        "old/k.yaml",
    ];
    for name in copies {
        tree.file(name, KEY);
    }
    tree.file("k.yaml", KEY);
    // A file is what it is, whatever it is called, if it is the one that was named.
    let named = KeyDir::read(&tree.path(".k.yaml.old")).unwrap();
    assert_eq!(tree.keys(&named), [".k.yaml.old"]);
    let found = tree.read();
    assert_eq!(tree.keys(&found), ["k.yaml"]);
    assert_eq!(found.skipped.len(), copies.len());
    for skipped in found.skipped {
        assert!(skipped.to_string().contains("a copy of another file"));
    }
}

#[test]
fn a_mounted_secret_gives_each_key_once() {
    let tree = Tree::new();
    tree.file("..2026_01_02_03_04_05.123/prod.yaml", KEY);
    tree.file("..2026_01_02_03_04_05.123/test.yaml", KEY);
    tree.link("..2026_01_02_03_04_05.123", "..data");
    tree.link("..data/prod.yaml", "prod.yaml");
    tree.link("..data/test.yaml", "test.yaml");
    let found = tree.read();
    assert_eq!(tree.keys(&found), ["prod.yaml", "test.yaml"]);
    assert!(found.skipped.is_empty());

    // The same one level further down, and reached through a link.
    let above = Tree::new();
    above.link(tree.0.path().to_str().unwrap(), "keys");
    let found = KeyDir::read(&above.path("keys")).unwrap();
    assert_eq!(above.keys(&found), ["keys/prod.yaml", "keys/test.yaml"]);
}

#[test]
fn links_are_followed_within_the_directory_alone() {
    let outside = Tree::new();
    outside.file("key.yaml", KEY);
    let tree = Tree::new();
    tree.file("real/key.yaml", KEY);
    tree.link("real", "another");
    tree.link("real/key.yaml", "zlink.yaml");
    tree.link(outside.path("key.yaml").to_str().unwrap(), "out.yaml");
    tree.link(outside.0.path().to_str().unwrap(), "outdir");
    tree.link("nothing", "dangling");
    let found = tree.read();
    assert_eq!(tree.keys(&found), ["another/key.yaml"]);
    let skipped: Vec<_> = found.skipped.iter().map(ToString::to_string).collect();
    assert_eq!(skipped.len(), 3, "{skipped:?}");
    assert!(skipped[0].contains("dangling: no such file"), "{skipped:?}");
    assert!(skipped[1].contains("out.yaml is not a PKCS#11 key file: it is a link that leads out"));
    assert!(skipped[2].contains("outdir"));
}

#[test]
fn loops_of_links_end() {
    let tree = Tree::new();
    tree.file("a/key.yaml", KEY);
    tree.link("..", "a/up");
    tree.link(".", "self");
    tree.link("loop", "loop");
    let found = tree.read();
    assert_eq!(tree.keys(&found), ["a/key.yaml"]);
    assert_eq!(found.skipped.len(), 1);
}

#[test]
fn what_is_no_key_is_skipped_with_its_reason() {
    let tree = Tree::new();
    tree.file("a.pem", "-----BEGIN PUBLIC KEY-----\n");
    tree.file("b.yaml", &KEY.replace("object=o", "object"));
    tree.file("c.big", &KEY.repeat(2000));
    tree.file("good.yaml", KEY);
    mkfifo(&tree.path("pipe"), Mode::S_IRWXU).unwrap();
    let found = tree.read();
    assert_eq!(tree.keys(&found), ["good.yaml"]);
    let parts = [
        "it is PEM",
        "the path has a part",
        "over the limit",
        "no regular file",
    ];
    assert_eq!(found.skipped.len(), parts.len());
    for (skipped, part) in found.skipped.iter().zip(parts) {
        let shown = skipped.to_string();
        assert!(shown.contains(part), "{shown}");
        assert!(shown.contains(skipped.path.to_str().unwrap()), "{shown}");
        assert!(!format!("{shown} {skipped:?}").contains("1234"));
    }
}

#[test]
fn a_file_is_that_one_key() {
    let tree = Tree::new();
    tree.file("key.yaml", KEY);
    tree.file("other", "");
    assert_eq!(KeyDir::read(&tree.path("key.yaml")).unwrap().keys.len(), 1);
    assert!(matches!(
        KeyDir::read(&tree.path("other")),
        Err(Error::NotAKeyFile { .. })
    ));
    assert!(matches!(
        KeyDir::read(&tree.path("none")),
        Err(Error::KeysUnreadable { .. })
    ));
    // A password behind the directory would open none of its keys.
    let given = format!("{}:pass=word", tree.path(".").display());
    assert!(matches!(
        KeyDir::read(Path::new(&given)),
        Err(Error::InvalidPassword { .. })
    ));
}

#[test]
fn endless_directories_are_an_error() {
    let tree = Tree::new();
    for number in 0..=MAX_ENTRIES {
        fs::write(tree.path(&number.to_string()), "").unwrap();
    }
    let error = KeyDir::read(tree.0.path()).unwrap_err().to_string();
    assert!(error.contains("4096"), "{error}");
    let tree = Tree::new();
    tree.file(&format!("{}key.yaml", "d/".repeat(MAX_DEPTH)), KEY);
    let error = KeyDir::read(tree.0.path()).unwrap_err().to_string();
    assert!(error.contains("limit of 16"), "{error}");
    let tree = Tree::new();
    tree.file(&format!("{}key.yaml", "d/".repeat(MAX_DEPTH - 1)), KEY);
    assert_eq!(tree.read().keys.len(), 1);
}
