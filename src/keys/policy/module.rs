//! Looking up a key's module under the policy: which file is loaded, or why none is.
//!
//! Only finds the file. Loading it is left to `hsm`.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Allowed, Policy};
use crate::file;
use crate::keys::TokenKey;
use crate::keys::error::{Error, Result};
use crate::keys::key_file::KeyFile;
use crate::keys::uri::Pkcs11Uri;

impl Policy {
    /// The module that a URI asks for.
    ///
    /// `module-path` is a file, or a directory to search instead of the policy's. The first file whose name holds
    /// `module-name`, ignoring case, followed by a `.` or the end is the module: `softhsm2` finds
    /// `libsofthsm2.so`, and `softhsm` does not. If the policy does not allow that one, the search is over.
    /// (Of several in one directory the closest is taken, where the reference takes the first by name.)
    ///
    /// # Errors
    /// [`Error::PolicyEmpty`], [`Error::ModuleNotNamed`], [`Error::ModuleNotFound`], [`Error::ModuleNotAllowed`];
    /// [`Error::InFile`] for a `module-path` that is not there.
    pub fn locate(&self, uri: &Pkcs11Uri) -> Result<PathBuf> {
        // Else somebody would be told to install a module, or to name it in another way.
        self.require_any()?;
        let directories = match &uri.module_path {
            Some(path) if is_directory(path)? => std::slice::from_ref(path),
            Some(path) => return self.permit(path),
            None => &self.module_directories,
        };
        let name = uri.module_name.as_ref().ok_or(Error::ModuleNotNamed)?;
        match directories.iter().find_map(|dir| find_in(dir, name)) {
            Some(path) => self.permit(&path),
            None => Err(Error::ModuleNotFound {
                name: name.clone(),
                searched: directories.to_vec(),
            }),
        }
    }

    /// That it allows anything.
    ///
    /// # Errors
    /// [`Error::PolicyEmpty`].
    pub fn require_any(&self) -> Result<()> {
        match self.allowed.is_empty() {
            false => Ok(()),
            true => Err(Error::PolicyEmpty {
                policy: self.origin.to_string(),
            }),
        }
    }

    /// A key with its module.
    ///
    /// # Errors
    /// [`Error::InKeyFile`] with what [`Policy::locate`] found wrong.
    pub fn resolve(&self, file: KeyFile) -> Result<TokenKey> {
        match self.locate(&file.uri) {
            Ok(module) => Ok(TokenKey { file, module }),
            Err(source) => Err(Error::InKeyFile {
                name: file.name,
                source: Box::new(source),
            }),
        }
    }

    /// The path to load for a module's file, if the policy allows it.
    ///
    /// A path is compared once `..` and all links but the last are resolved, so it cannot lead out of an allowed
    /// directory. The last component may be a link to anywhere: Debian's module directories consist of such links,
    /// and whoever may place a link there may place a module as well. If instead the file at the end of the links
    /// is what is allowed, that file's own path is returned, and with it no link that somebody could still turn.
    fn permit(&self, path: &Path) -> Result<PathBuf> {
        let named = real_place(path);
        let target = path.canonicalize().ok();
        [named, target]
            .into_iter()
            .flatten()
            .find(|real| self.allowed.iter().any(|entry| allows(entry, real)))
            .ok_or_else(|| Error::ModuleNotAllowed {
                module: path.to_owned(),
                policy: self.origin.to_string(),
            })
    }
}

/// Whether an entry allows a path whose directory holds no link.
fn allows(entry: &Allowed, real: &Path) -> bool {
    match entry {
        Allowed::Directory(directory) => directory
            .canonicalize()
            .is_ok_and(|directory| real.parent() == Some(&directory)),
        Allowed::File(file) => real_place(file).is_some_and(|file| file == real),
    }
}

/// The path with its directory resolved, its last component as it is.
fn real_place(path: &Path) -> Option<PathBuf> {
    Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?))
}

fn is_directory(path: &Path) -> Result<bool> {
    fs::metadata(path)
        .map(|metadata| metadata.is_dir())
        .map_err(file::Error::failed("find the PKCS#11 module", path))
        .map_err(Error::from)
}

/// The file that fits best. A directory that is not there, or cannot be listed, has none.
fn find_in(directory: &Path, module_name: &str) -> Option<PathBuf> {
    fs::read_dir(directory)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .filter_map(|name| Some((fit(&name.to_string_lossy(), module_name)?, name)))
        .map(|(fit, name)| (fit, directory.join(name)))
        .filter(|(_, path)| path.is_file())
        .min()
        .map(|(_, path)| path)
}

/// How well a file's name fits, the least being the best; `None` when it does not.
///
/// Shared libraries come first, since `libsoftokn3.chk` stands before `libsoftokn3.so`; then names with the least
/// before the one that was asked for, since `onepin-opensc-pkcs11.so` stands before `opensc-pkcs11.so`.
fn fit(file_name: &str, module_name: &str) -> Option<(bool, usize)> {
    let file_name = file_name.to_lowercase();
    file_name
        .match_indices(&module_name.to_lowercase())
        .map(|(start, found)| (&file_name[..start], &file_name[start + found.len()..]))
        .filter(|(_, rest)| rest.is_empty() || rest.starts_with('.'))
        .map(|(before, rest)| {
            let is_library = rest.is_empty() || rest == ".so" || rest.starts_with(".so.");
            let before = before.strip_prefix("lib").unwrap_or(before);
            (!is_library, before.len())
        })
        .min()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::keys::policy::Origin;

    /// `modules/` and `elsewhere/`, with the first searched and allowed.
    struct Node {
        root: PathBuf,
        policy: Policy,
        _dir: tempfile::TempDir,
    }

    impl Node {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().canonicalize().unwrap();
            fs::create_dir(root.join("modules")).unwrap();
            fs::create_dir(root.join("elsewhere")).unwrap();
            let policy = Policy {
                origin: Origin::File("/etc/ocicrypt.conf".into()),
                module_directories: vec![root.join("modules")],
                allowed: vec![Allowed::Directory(root.join("modules"))],
            };
            Self {
                root,
                policy,
                _dir: dir,
            }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.join(name)
        }

        fn file(&self, name: &str) -> PathBuf {
            fs::write(self.path(name), "").unwrap();
            self.path(name)
        }

        fn by_name(&self, name: &str) -> Result<PathBuf> {
            self.policy.locate(&Pkcs11Uri {
                module_name: Some(name.to_owned()),
                ..Pkcs11Uri::default()
            })
        }

        fn by_path(&self, path: &str) -> Result<PathBuf> {
            self.policy.locate(&Pkcs11Uri {
                module_path: Some(self.path(path)),
                ..Pkcs11Uri::default()
            })
        }
    }

    fn is_forbidden(result: Result<PathBuf>) -> bool {
        matches!(result, Err(Error::ModuleNotAllowed { .. }))
    }

    #[test]
    fn names_are_contained_and_end_at_the_end_or_a_dot() {
        for (file_name, module_name, expected) in [
            ("libsofthsm2.so", "softhsm2", true),
            ("libsofthsm2.so", "SoftHSM2", true),
            ("LIBSOFTHSM2.SO", "softhsm2", true),
            ("libsofthsm2.so", "softhsm", false),
            ("libsofthsm2.so", "libsofthsm2.so", true),
            ("softhsm2", "softhsm2", true),
            ("opensc-pkcs11.so.1", "pkcs11", true),
            ("a-b-a.so", "a", true),
            ("libsofthsm2.so", "libsofthsm2.s", false),
        ] {
            assert_eq!(
                fit(file_name, module_name).is_some(),
                expected,
                "{file_name} {module_name}"
            );
        }
    }

    #[test]
    fn the_first_directory_and_the_first_name_win() {
        let mut node = Node::new();
        node.file("elsewhere/liba.so");
        node.policy
            .module_directories
            .insert(0, node.path("missing"));
        let first = node.file("modules/liba.so");
        node.file("modules/liba.so.2");
        node.policy.module_directories.push(node.path("elsewhere"));
        assert_eq!(node.by_name("a").unwrap(), first);
    }

    #[test]
    fn the_closest_name_in_a_directory_wins() {
        let node = Node::new();
        for (name, closer, farther) in [
            ("softokn3", "libsoftokn3.so", "libsoftokn3.chk"),
            (
                "opensc-pkcs11",
                "opensc-pkcs11.so",
                "onepin-opensc-pkcs11.so",
            ),
            ("z", "libz.so", "a-z.so"),
            ("both", "x-both.so.1", "both.la"),
        ] {
            node.file(&format!("modules/{farther}"));
            let closer = node.file(&format!("modules/{closer}"));
            assert_eq!(node.by_name(name).unwrap(), closer);
        }
    }

    #[test]
    fn directories_and_dangling_links_are_no_modules() {
        let node = Node::new();
        fs::create_dir(node.path("modules/a.d")).unwrap();
        symlink("nothing", node.path("modules/a.link")).unwrap();
        let expected = node.file("modules/a.so");
        assert_eq!(node.by_name("a").unwrap(), expected);
    }

    #[test]
    fn a_forbidden_module_ends_the_search() {
        let mut node = Node::new();
        node.file("elsewhere/liba.so");
        node.file("modules/liba.so");
        node.policy
            .module_directories
            .insert(0, node.path("elsewhere"));
        let error = node.by_name("a").unwrap_err().to_string();
        assert!(
            error.contains("elsewhere/liba.so is not allowed by the policy /etc"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_module_says_where_it_was_looked_for() {
        let mut node = Node::new();
        node.policy.module_directories.push(node.path("missing"));
        let error = node.by_name("a").unwrap_err().to_string();
        assert!(error.contains("no PKCS#11 module \"a\" in "), "{error}");
        assert!(
            error.contains("/modules, ") && error.ends_with("/missing"),
            "{error}"
        );
        node.policy.module_directories.clear();
        let error = node.by_name("a").unwrap_err().to_string();
        assert!(error.ends_with("in no directory at all"), "{error}");
    }

    #[test]
    fn module_path_is_a_file_or_a_directory_to_search() {
        let node = Node::new();
        let module = node.file("modules/liba.so");
        assert_eq!(node.by_path("modules/liba.so").unwrap(), module);
        let mut uri = Pkcs11Uri {
            module_path: Some(node.path("modules")),
            ..Pkcs11Uri::default()
        };
        assert!(matches!(
            node.policy.locate(&uri),
            Err(Error::ModuleNotNamed)
        ));
        uri.module_name = Some("a".to_owned());
        assert_eq!(node.policy.locate(&uri).unwrap(), module);
        assert!(matches!(
            node.by_path("modules/none"),
            Err(Error::InFile(_))
        ));
        assert!(matches!(
            node.policy.locate(&Pkcs11Uri::default()),
            Err(Error::ModuleNotNamed)
        ));
    }

    #[test]
    fn files_outside_and_below_an_allowed_directory_are_forbidden() {
        let node = Node::new();
        fs::create_dir(node.path("modules/sub")).unwrap();
        node.file("modules/sub/a.so");
        node.file("elsewhere/a.so");
        for path in [
            "modules/sub/a.so",
            "elsewhere/a.so",
            "modules/../elsewhere/a.so",
        ] {
            assert!(is_forbidden(node.by_path(path)), "{path}");
        }
        let module = node.file("modules/a.so");
        assert_eq!(node.by_path("elsewhere/../modules/a.so").unwrap(), module);
    }

    #[test]
    fn a_linked_directory_counts_as_where_it_leads() {
        let mut node = Node::new();
        node.file("elsewhere/a.so");
        symlink("../elsewhere", node.path("modules/link")).unwrap();
        assert!(is_forbidden(node.by_path("modules/link/a.so")));
        let module = node.file("modules/a.so");
        symlink("modules", node.path("alias")).unwrap();
        assert_eq!(node.by_path("alias/a.so").unwrap(), module);
        node.policy.allowed = vec![Allowed::Directory(node.path("alias"))];
        assert_eq!(node.by_path("modules/a.so").unwrap(), module);
    }

    #[test]
    fn a_link_in_an_allowed_directory_may_lead_anywhere() {
        let node = Node::new();
        node.file("elsewhere/liba.so.1");
        let link = node.path("modules/liba.so");
        symlink("../elsewhere/liba.so.1", &link).unwrap();
        assert_eq!(node.by_name("a").unwrap(), link);
        // As `/lib/softhsm` is `/usr/lib/softhsm` on a merged system.
        symlink("modules", node.path("alias")).unwrap();
        assert_eq!(node.by_path("alias/liba.so").unwrap(), link);
    }

    #[test]
    fn a_link_from_outside_gives_the_allowed_file_itself() {
        let node = Node::new();
        let module = node.file("modules/a.so");
        symlink("../modules/a.so", node.path("elsewhere/link.so")).unwrap();
        assert_eq!(node.by_path("elsewhere/link.so").unwrap(), module);
    }

    #[test]
    fn an_exact_entry_allows_that_file_alone() {
        let mut node = Node::new();
        let module = node.file("elsewhere/a.so");
        node.file("elsewhere/b.so");
        node.policy.allowed = vec![Allowed::File(module.clone())];
        assert_eq!(node.by_path("elsewhere/a.so").unwrap(), module);
        assert_eq!(node.by_path("modules/../elsewhere/a.so").unwrap(), module);
        assert!(is_forbidden(node.by_path("elsewhere/b.so")));
    }

    #[test]
    fn an_unresolved_key_is_named() {
        let node = Node::new();
        let file = KeyFile::parse("k.yaml", b"pkcs11:\n  uri: pkcs11:token=t;object=o\n").unwrap();
        let error = node.policy.resolve(file).unwrap_err().to_string();
        assert!(
            error.starts_with("key file k.yaml: the URI names no"),
            "{error}"
        );
    }
}
