//! PKCS#11 modules that are installed on this machine, and a policy that allows them.
//!
//! Finds files and looks at their names and symbols. No module is loaded.

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use memchr::memmem;

use crate::file;
use crate::keys::policy::{Allowed, Policy};
use crate::keys::uri::Pkcs11Uri;

/// Most bytes of a file that are searched; vendors' modules reach some ten megabytes.
const MAX_MODULE: u64 = 128 << 20;

/// Modules that vendors install outside the usual directories.
const ELSEWHERE: [&str; 7] = [
    "/opt/cloudhsm/lib/libcloudhsm_pkcs11.so",
    "/opt/nfast/toolkits/pkcs11/libcknfast.so",
    "/opt/utimaco/lib/libcs_pkcs11_R3.so",
    "/usr/lib/libckteec.so",
    "/usr/lib64/libckteec.so",
    "/usr/safenet/lunaclient/lib/libCryptoki2_64.so",
    "/usr/local/primus/lib/libprimusP11.so",
];

/// Modules among the hundreds of other libraries of a system's library directory.
const AMONG_LIBRARIES: [&str; 6] = [
    "libckteec.so",
    "libsoftokn3.so",
    "libtpm2_pkcs11.so",
    "libtpm2_pkcs11.so.1",
    "libykcs11.so",
    "opensc-pkcs11.so",
];

/// Beginnings of names of modules that a policy should not allow, and why.
const UNWANTED: [(&str, &str); 5] = [
    (
        "onepin-opensc-pkcs11",
        "shows a part of what opensc-pkcs11 shows",
    ),
    ("pkcs11-spy", "writes PINs and keys to a file"),
    ("p11-kit-proxy", "loads whatever p11-kit is told to"),
    ("p11-kit-trust", "holds certificates only"),
    ("libnssckbi", "holds certificates only"),
];

/// A module's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Where it is.
    pub path: PathBuf,
    /// Why a policy should leave it out.
    pub unwanted: Option<&'static str>,
}

/// What is installed in the usual places, in the order in which the built-in policy searches them.
#[must_use]
pub fn installed() -> Vec<Installed> {
    let mut found = Vec::new();
    for directory in Policy::built_in().module_directories {
        let among_libraries = is_library_directory(&directory);
        let mut paths = each_once(modules_in(&directory));
        // Distributions link from their module directories to their library directories.
        paths.retain(|path| !among_libraries || !leads_to(&found, path));
        found.extend(paths);
    }
    found.extend(
        ELSEWHERE
            .iter()
            .map(PathBuf::from)
            .filter(|path| is_module(path)),
    );
    found.into_iter().map(Installed::new).collect()
}

/// The modules that a policy leads to and allows, each once, without those that no policy should allow.
#[must_use]
pub fn allowed(policy: &Policy) -> Vec<PathBuf> {
    let named = policy.allowed.iter().filter_map(|entry| match entry {
        Allowed::File(path) => Some(path.clone()),
        Allowed::Directory(_) => None,
    });
    let paths = (policy.module_directories.iter())
        .flat_map(|directory| modules_in(directory))
        .chain(named.filter(|path| is_module(path)));
    each_once(paths.filter(|path| {
        let uri = Pkcs11Uri {
            module_path: Some(path.clone()),
            ..Pkcs11Uri::default()
        };
        Installed::new(path.clone()).unwanted.is_none() && policy.locate(&uri).is_ok()
    }))
}

/// Each file once, however many links lead to it, in the order of the first of these.
fn each_once(paths: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for path in paths {
        let same = |other: &&mut PathBuf| other.canonicalize().ok() == path.canonicalize().ok();
        match found.iter_mut().find(same) {
            None => found.push(path),
            // The link that is named as its file is: `libopencryptoki.so`, not `PKCS11_API.so`.
            Some(other) if is_named_as_its_file(&path) && !is_named_as_its_file(other) => {
                *other = path;
            }
            Some(_) => {}
        }
    }
    found
}

/// An `ocicrypt.conf` that allows these modules and nothing else.
#[must_use]
pub fn policy(modules: &[Installed]) -> String {
    let mut text = String::from(
        "# Which PKCS#11 modules may be loaded on this node, and where they are looked for.\n\
         # Printed by `ocihsm config policy`; save it as /etc/ocicrypt.conf, owned by root and writable by root alone:\n\
         # what it allows runs with the rights of containerd.\n\
         pkcs11:\n\
         \x20 # Searched in this order for the module-name of a key file's URI.\n\
         \x20 module-directories:",
    );
    let wanted = || modules.iter().filter(|module| module.unwanted.is_none());
    let mut directories: Vec<&Path> = Vec::new();
    for directory in wanted().filter_map(|module| module.path.parent()) {
        if !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    entries(
        &mut text,
        directories.iter().map(|path| scalar(path, "/")).collect(),
    );
    text.push_str(
        "\n\
         \x20 # A path that ends in `/` allows every file directly in that directory, any other that file alone.\n\
         \x20 allowed-module-paths:",
    );
    entries(
        &mut text,
        wanted().map(|module| scalar(&module.path, "")).collect(),
    );
    text.push('\n');
    let unwanted: Vec<_> = modules
        .iter()
        .filter_map(|module| Some((&module.path, module.unwanted?)))
        .collect();
    if !unwanted.is_empty() {
        text.push_str("  # Installed, and left out:\n");
        for (path, why) in unwanted {
            let _ = writeln!(text, "  #   {} {why}", scalar(path, ""));
        }
    }
    text
}

impl Installed {
    fn new(path: PathBuf) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let unwanted = UNWANTED
            .iter()
            .find(|(beginning, _)| name.starts_with(beginning))
            .map(|(_, why)| *why);
        Self { path, unwanted }
    }
}

fn entries(text: &mut String, entries: Vec<String>) {
    if entries.is_empty() {
        text.push_str(" [] # no module was found on this machine");
    }
    for entry in entries {
        let _ = write!(text, "\n    - {entry}");
    }
}

/// A path as YAML: plain where that is safe, else in double quotes, whose escapes JSON shares.
fn scalar(path: &Path, end: &str) -> String {
    let path = format!("{}{end}", path.display());
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if path.chars().all(plain) {
        path
    } else {
        serde_json::Value::from(path).to_string()
    }
}

fn modules_in(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = if is_library_directory(directory) {
        AMONG_LIBRARIES.map(|name| directory.join(name)).into()
    } else {
        list(directory)
    };
    paths.retain(|path| is_module(path));
    paths
}

/// Whether a directory holds the system's libraries, too many to look into each.
fn is_library_directory(directory: &Path) -> bool {
    directory.join("libc.so.6").exists()
}

fn is_named_as_its_file(link: &Path) -> bool {
    let (Ok(file), Some(name)) = (link.canonicalize(), link.file_name()) else {
        return false;
    };
    let file = file.file_name().unwrap_or_default().to_string_lossy();
    file.starts_with(&*name.to_string_lossy())
}

fn list(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

fn leads_to(links: &[PathBuf], file: &Path) -> bool {
    let real = file.canonicalize().ok();
    links.iter().any(|link| link.canonicalize().ok() == real)
}

/// Whether a file is a shared object that names the one function by which every module is entered.
fn is_module(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if !(name.ends_with(".so") || name.contains(".so.")) || !path.is_file() {
        return false;
    }
    let mut bytes = Vec::new();
    let read =
        file::open(path).is_ok_and(|file| file.take(MAX_MODULE).read_to_end(&mut bytes).is_ok());
    read
        && bytes.starts_with(b"\x7fELF")
        // Without what precedes it: a linker stores the end of a longer name once, such as NSS's.
        && memmem::find(&bytes, b"C_GetFunctionList\0").is_some()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::keys::policy::Origin;

    fn module(path: &str) -> Installed {
        Installed::new(path.into())
    }

    fn read_back(text: &str) -> Policy {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ocicrypt.conf");
        fs::write(&path, text).unwrap();
        Policy::read(&path).unwrap()
    }

    #[test]
    fn policy_reads_back_and_leaves_out_what_is_unwanted() {
        let text = policy(&[
            module("/nowhere/a dir: #/x.so"),
            module("/nowhere/p/y.so"),
            module("/nowhere/p/pkcs11-spy.so"),
            module("/nowhere/p/z.so"),
        ]);
        let policy = read_back(&text);
        assert_eq!(
            policy.module_directories,
            ["/nowhere/a dir: #", "/nowhere/p"].map(PathBuf::from)
        );
        assert_eq!(
            policy.allowed,
            [
                "/nowhere/a dir: #/x.so",
                "/nowhere/p/y.so",
                "/nowhere/p/z.so"
            ]
            .map(|path| Allowed::File(path.into()))
        );
        assert!(text.contains("#   /nowhere/p/pkcs11-spy.so writes PINs"));
    }

    #[test]
    fn policy_of_a_machine_without_modules_allows_nothing() {
        let policy = read_back(&policy(&[]));
        assert!(policy.module_directories.is_empty() && policy.allowed.is_empty());
    }

    #[test]
    fn only_shared_objects_with_the_function_are_modules() {
        let dir = tempfile::tempdir().unwrap();
        for (name, content, expected) in [
            ("a.so", &b"\x7fELF..\0C_GetFunctionList\0"[..], true),
            ("a.so.1", b"\x7fELF..\0C_GetFunctionList\0", true),
            ("b.so", b"\x7fELF..\0C_GetFunctionList2\0", false),
            ("c.so", b"text \0C_GetFunctionList\0", false),
            ("d.txt", b"\x7fELF..\0C_GetFunctionList\0", false),
        ] {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            assert_eq!(is_module(&path), expected, "{name}");
        }
    }

    #[test]
    fn of_several_links_to_a_module_the_one_named_as_its_file_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("libopencryptoki.so.0.0.0"), b"").unwrap();
        for name in ["PKCS11_API.so", "libopencryptoki.so", "methods.so"] {
            symlink("libopencryptoki.so.0.0.0", path(name)).unwrap();
        }
        fs::write(path("other.so"), b"").unwrap();
        let names = [
            "PKCS11_API.so",
            "libopencryptoki.so",
            "methods.so",
            "other.so",
        ]
        .map(path);
        let kept = ["libopencryptoki.so", "other.so"].map(path);
        assert_eq!(each_once(names), kept);
    }

    #[test]
    fn only_what_the_policy_allows_is_found_and_each_file_once() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for name in ["modules", "closed", "real"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        let file = |name: &str| {
            let path = root.join(name);
            fs::write(&path, b"\x7fELF\0C_GetFunctionList\0").unwrap();
            path
        };
        file("real/libtoken.so.0");
        symlink("../real/libtoken.so.0", root.join("modules/API.so")).unwrap();
        symlink("../real/libtoken.so.0", root.join("modules/libtoken.so")).unwrap();
        file("modules/pkcs11-spy.so");
        file("closed/other.so");
        let exact = file("real/exact.so");
        let policy = Policy {
            origin: Origin::File(root.join("ocicrypt.conf")),
            module_directories: vec![root.join("modules"), root.join("closed"), root.join("gone")],
            allowed: vec![
                Allowed::Directory(root.join("modules")),
                Allowed::File(exact.clone()),
            ],
        };
        assert_eq!(allowed(&policy), [root.join("modules/libtoken.so"), exact]);
    }

    #[test]
    fn the_sample_policy_is_what_is_printed() {
        let modules = [
            module("/usr/lib/softhsm/libsofthsm2.so"),
            module("/usr/lib/x86_64-linux-gnu/pkcs11/opensc-pkcs11.so"),
            module("/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so"),
            module("/usr/lib/x86_64-linux-gnu/pkcs11/pkcs11-spy.so"),
        ];
        assert_eq!(policy(&modules), include_str!("../../config/ocicrypt.conf"));
    }
}
