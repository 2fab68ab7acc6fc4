//! containerd's configuration: which files count, and whether every containerd starts with them.

use std::path::{Path, PathBuf};

use super::findings::Findings;
use super::processors;
use super::setup::Setup;
use crate::error::{Error, Result};
use crate::node::containerd::{ConfigFile, ContainerdConfig, Import, LOCATIONS};

const IMPORT: &str = "import the file that is named above, and restart containerd";

/// What decodes, and for which containerds if there are several.
#[derive(Debug)]
pub(super) struct Decoder {
    pub(super) setup: Setup,
    pub(super) containerds: Vec<PathBuf>,
}

impl Decoder {
    /// Of the one containerd, or of none.
    pub(super) fn of_the_only(setup: Setup) -> Self {
        let containerds = Vec::new();
        Self { setup, containerds }
    }

    /// Adds this one, or its containerds to those of one that decodes with the same.
    pub(super) fn add_to(self, decoders: &mut Vec<Self>) {
        match decoders.iter_mut().find(|known| known.setup == self.setup) {
            Some(known) => {
                for path in self.containerds {
                    if !known.containerds.contains(&path) {
                        known.containerds.push(path);
                    }
                }
            }
            None => decoders.push(self),
        }
    }
}

const CONTAINERD: &str = "containerd";

pub(super) const INSTALL: &str = "save `ocihsm config containerd` as a file that containerd's configuration imports, and restart containerd";

/// Checks each configuration, and returns what its decoders work with.
pub(super) fn check(findings: &mut Findings, files: &[(PathBuf, PathBuf)]) -> Vec<Decoder> {
    if files.is_empty() {
        let [(main, root), ..] = LOCATIONS.map(|(file, root)| (Path::new(file), Path::new(root)));
        let config = ContainerdConfig::built_in();
        let install = check_unimported(findings, main, &config, !opens_layers(&config));
        findings.warn(
            CONTAINERD,
            "no configuration file was found, so what is built into containerd counts".to_owned(),
            install,
        );
        let setups = processors::check(findings, &config, root, install);
        return setups.into_iter().map(Decoder::of_the_only).collect();
    }
    let configurations: Vec<(&Path, &Path, Result<ContainerdConfig>)> = files
        .iter()
        .map(|(path, root)| (path.as_path(), root.as_path(), ContainerdConfig::read(path)))
        .collect();
    let any_opens_layers = configurations
        .iter()
        .any(|(_, _, config)| config.as_ref().is_ok_and(opens_layers));
    let mut decoders: Vec<Decoder> = Vec::new();
    for (path, usual_root, config) in &configurations {
        let about: &[&Path] = if files.len() > 1 { &[path] } else { &[] };
        findings.about(about);
        match config {
            // Such as Docker's, or one that nobody uses, beside that of k3s.
            Ok(config) if any_opens_layers && !opens_layers(config) => {
                check_unimported(findings, path, config, false);
                findings.warn(
                    CONTAINERD,
                    "it sets up no decoder, so this containerd opens no encrypted layers"
                        .to_owned(),
                    "leave it, if that is as it should be, or if no containerd uses it",
                );
            }
            Ok(config) => {
                check_files(findings, path, config);
                let install = check_unimported(findings, path, config, !opens_layers(config));
                let root = config.root.as_deref().unwrap_or(usual_root);
                for setup in processors::check(findings, config, root, install) {
                    let containerds = about.iter().map(|path| path.to_path_buf()).collect();
                    Decoder { setup, containerds }.add_to(&mut decoders);
                }
            }
            Err(error) => findings.error(CONTAINERD, error, mend(error)),
        }
    }
    findings.about(&[]);
    decoders
}

/// Whether a decoder is set up: by a file, or by the program that containerd has built in and somebody put there.
fn opens_layers(config: &ContainerdConfig) -> bool {
    config.has_sections() || (config.processors.values()).any(|section| section.program().is_some())
}

fn mend(error: &Error) -> &'static str {
    match error {
        Error::RepeatedTomlKey { key, .. } if key == "imports" => {
            "containerd does not start with that: keep one line `imports`, with all that is to be imported"
        }
        Error::RepeatedTomlKey { .. } => "containerd does not start with that: keep one of the two",
        _ => "containerd itself cannot start with that: correct the file, or what imports it",
    }
}

fn check_files(findings: &mut Findings, main: &Path, config: &ContainerdConfig) {
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
    findings.ok(CONTAINERD, format!("read {}, {imports}", main.display()));
    for import in &config.imports {
        check_import(findings, import);
    }
    check_versions(findings, &config.files);
}

fn check_import(findings: &mut Findings, import: &Import) {
    let (file, text) = (import.importing.display(), &import.text);
    if import.is_missing() {
        findings.fail(
            CONTAINERD,
            format!("{file} imports {text}, which is not there: containerd 1.x does not start"),
            "put the file there, or take it out of `imports`",
        );
    }
    for error in &import.unlisted {
        findings.error(CONTAINERD, error, "look at the file system that it is on");
    }
    if import.is_pattern() && Path::new(text).is_relative() {
        let directory = import.importing.parent().unwrap_or(Path::new("/"));
        findings.warn(
            CONTAINERD,
            format!(
                "{file} imports {text}, which containerd 1.6 looks for in the directory that it was started in, and not beside the file"
            ),
            format!("write it as {}", directory.join(text).display()),
        );
    }
}

/// A file of a newer version among older ones changes how containerd 1.x takes all of them.
fn check_versions(findings: &mut Findings, files: &[ConfigFile]) {
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
                CONTAINERD,
                format!(
                    "{path} names plugins as only version 1 does ({names}){other}: containerd 1.x does not start"
                ),
                format!("{version_line}name {full}"),
            );
        }
    }
    for file in files
        .iter()
        .filter(|file| file.version > main.version.max(2))
    {
        findings.warn(
            CONTAINERD,
            format!(
                "{} has version {}, and what imports it version {}: containerd 1.7 does not start with it",
                file.path.display(),
                file.version,
                main.version
            ),
            "print it with `ocihsm config containerd --config-version 2`, which every containerd reads",
        );
    }
}

/// Whether somebody put a file where drop-ins are, and nothing imports it, which is a failure if nothing else
/// sets a decoder up. Returns what to do for want of a section.
fn check_unimported(
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
            findings.fail(CONTAINERD, text, mend);
        } else {
            findings.warn(CONTAINERD, text, mend);
        }
    }
    install
}
