//! The files of one containerd's configuration: whether a containerd starts with them, and whether they are all of them.

use std::path::Path;

use super::findings::Findings;
use super::kind;
use crate::node::Error;
use crate::node::containerd::{ConfigFile, ContainerdConfig, Import};
use crate::node::running::Release;

const PRINT_OLDER: &str =
    "print it with `ocihsm config containerd --config-version 2`, which every containerd reads";

const IMPORT: &str = "import the file that is named above, and restart containerd";

pub(super) const INSTALL: &str = "save `ocihsm config containerd` as a file that containerd's configuration imports, and restart containerd";

/// What to do about a file that cannot be read.
pub(super) fn mend(error: &Error) -> &'static str {
    match error {
        Error::RepeatedTomlKey { key, .. } if key == "imports" => {
            "containerd does not start with that: keep one line `imports`, with all that is to be imported"
        }
        Error::RepeatedTomlKey { .. } => "containerd does not start with that: keep one of the two",
        _ => "containerd itself cannot start with that: correct the file, or what imports it",
    }
}

/// Reports which files are read, and what is wrong with them. `release` is that of the containerd, if it is known.
pub(super) fn check(
    findings: &mut Findings,
    main: &Path,
    config: &ContainerdConfig,
    release: Option<Release>,
) {
    let imported: Vec<_> = (config.files.iter())
        .skip(1)
        .map(|file| file.path.display().to_string())
        .collect();
    let unlisted = config
        .imports
        .iter()
        .any(|import| !import.unlisted.is_empty());
    let imports = match imported.as_slice() {
        [] if unlisted => "and not what it imports".to_owned(),
        [] => "it imports nothing".to_owned(),
        some => format!("it imports {}", some.join(", ")),
    };
    findings.ok(kind::CONFIG, format!("read {}, {imports}", main.display()));
    for import in &config.imports {
        check_import(findings, import);
    }
    check_versions(findings, &config.files, release);
}

fn check_import(findings: &mut Findings, import: &Import) {
    let (file, text) = (import.importing.display(), &import.text);
    if import.is_missing() {
        findings.fail(
            kind::IMPORT_MISSING,
            format!("{file} imports {text}, which is not there: containerd does not start"),
            "put the file there, or take it out of `imports`",
        );
    }
    for error in &import.unlisted {
        findings.error(
            kind::IMPORT_UNLISTED,
            error,
            "look at the file system that it is on",
        );
    }
    if import.is_pattern() && Path::new(text).is_relative() {
        let directory = import.importing.parent().unwrap_or(Path::new("/"));
        findings.warn(
            kind::IMPORT_RELATIVE,
            format!(
                "{file} imports {text}, which containerd 1.6 looks for in the directory that it was started in, and not beside the file"
            ),
            format!("write it as {}", directory.join(text).display()),
        );
    }
}

/// A file of a newer version among older ones changes how containerd 1.x takes all of them.
fn check_versions(findings: &mut Findings, files: &[ConfigFile], release: Option<Release>) {
    let Some(main) = files.first() else {
        return;
    };
    if let Some(newer) = files.iter().find(|file| file.version >= 2) {
        for file in files.iter().filter(|file| !file.short_plugins.is_empty()) {
            let (path, names) = (file.path.display(), file.short_plugins.join(", "));
            let (other, version_line) = match file.version {
                ..2 => (
                    format!(
                        ", while {} has version {}",
                        newer.path.display(),
                        newer.version
                    ),
                    format!("let {path} say `version = 2` above its first section, and "),
                ),
                version => (
                    format!(", though it has version {version}"),
                    format!("let {path} "),
                ),
            };
            let full = match file.short_plugins.as_slice() {
                [name] if name == "cri" => "io.containerd.grpc.v1.cri in the place of cri",
                _ => "plugins in full, as `containerd config default` does",
            };
            findings.fail(
                kind::PLUGIN_NAME,
                format!(
                    "{path} names plugins as only version 1 does ({names}){other}: containerd 1.x does not start"
                ),
                format!("{version_line}name {full}"),
            );
        }
    }
    for file in files {
        let (path, version) = (file.path.display(), file.version);
        let newest = release.map(Release::newest_config);
        match (release, newest) {
            (Some(release), Some(newest)) if version > newest => findings.fail(
                kind::CONFIG_VERSION,
                format!("{path} has version {version}, and containerd {release} does not start with it"),
                PRINT_OLDER,
            ),
            (None, _) if version > main.version.max(2) => findings.warn(
                kind::CONFIG_VERSION,
                format!(
                    "{path} has version {version}, and what imports it version {}: containerd 1.7 does not start with it",
                    main.version
                ),
                PRINT_OLDER,
            ),
            _ => {}
        }
    }
}

/// Whether somebody put a file where drop-ins are, and nothing imports it, which is a failure if nothing else
/// sets a decoder up. Returns what to do for want of a section.
pub(super) fn check_unimported(
    findings: &mut Findings,
    main: &Path,
    config: &ContainerdConfig,
    is_needed: bool,
) -> &'static str {
    let directory = main.parent().unwrap_or(Path::new("/")).join("conf.d");
    let unimported = config.unimported(main);
    let install = match unimported.as_slice() {
        [] => INSTALL,
        _ => IMPORT,
    };
    for path in unimported {
        let text = format!(
            "{} holds stream processors, and nothing imports it",
            path.display()
        );
        let mend = format!(
            "let {} say `imports = [\"{}\"]` above its first section, in the place of the line `imports = []` if \
             there is one, and restart containerd",
            main.display(),
            directory.join("*.toml").display()
        );
        if is_needed {
            findings.fail(kind::DROP_IN_UNIMPORTED, text, mend);
        } else {
            findings.warn(kind::DROP_IN_UNIMPORTED, text, mend);
        }
    }
    install
}
