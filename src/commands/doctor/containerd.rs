//! containerd's side: which layers it hands to a decoder, to which one, and whether the content store can be read.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::Setup;
use super::access::others_may_change;
use super::findings::Findings;
use crate::cli::{Cli, Command};
use crate::content_store;
use crate::node::KEYS;
use crate::node::containerd::ContainerdConfig;
use crate::node::section::Section;
use crate::node::stanza::PROCESSORS;

const CONTAINERD: &str = "containerd";
const PROCESSOR: &str = "stream processor";
const STORE: &str = "content store";

const PRINT: &str = "compare with `ocihsm config containerd`";
const INSTALL: &str = "save `ocihsm config containerd` as a file that containerd's configuration imports, and restart containerd";

/// Checks each configuration, and returns what its decoders work with.
pub(super) fn check(findings: &mut Findings, files: &[(PathBuf, PathBuf)]) -> Vec<Setup> {
    let mut setups = Vec::new();
    if files.is_empty() {
        findings.warn(
            CONTAINERD,
            "no configuration file was found, so what is built into containerd counts".to_owned(),
            INSTALL,
        );
        check_processors(findings, &ContainerdConfig::built_in(), &mut setups);
    }
    for (path, usual_root) in files {
        match ContainerdConfig::read(path) {
            Ok(config) => {
                describe(findings, path, &config);
                check_processors(findings, &config, &mut setups);
                check_store(findings, config.root.as_deref().unwrap_or(usual_root));
            }
            Err(error) => findings.error(
                CONTAINERD,
                &error,
                "containerd itself cannot start with that: correct the file, or what imports it",
            ),
        }
    }
    setups
}

fn describe(findings: &mut Findings, path: &Path, config: &ContainerdConfig) {
    let imported: Vec<_> = config
        .files
        .iter()
        .skip(1)
        .map(|file| file.path.display().to_string())
        .collect();
    let imports = match imported.as_slice() {
        [] => "it imports nothing".to_owned(),
        some => format!("it imports {}", some.join(", ")),
    };
    findings.ok(CONTAINERD, format!("read {}, {imports}", path.display()));
    let version = config.files.first().map_or(1, |file| file.version);
    for file in config.files.iter().skip(1) {
        if file.version > version {
            findings.warn(
                CONTAINERD,
                format!(
                    "{} has version {}, and what imports it version {version}: containerd 1.x does not start with it",
                    file.path.display(),
                    file.version
                ),
                "print it with `ocihsm config containerd --config-version 2`, which every containerd reads",
            );
        }
    }
}

fn check_processors(findings: &mut Findings, config: &ContainerdConfig, setups: &mut Vec<Setup>) {
    let mut missing = Vec::new();
    // Sections that say the same but for the media type are one finding.
    let mut alike: Vec<Vec<&Section>> = Vec::new();
    for processor in PROCESSORS {
        let media_type = processor.accepts();
        let sections: Vec<(&str, &Section)> = config
            .processors
            .iter()
            .filter(|(_, section)| section.accepts.contains(&media_type))
            .map(|(id, section)| (id.as_str(), section))
            .collect();
        match sections.as_slice() {
            [] => missing.push(processor.returns.trim_start_matches("application/vnd.")),
            [_] => {}
            several => {
                let ids: Vec<_> = several.iter().map(|(id, _)| *id).collect();
                findings.fail(
                    PROCESSOR,
                    format!(
                        "{} sections accept {media_type}, and containerd takes one of them at random: {}",
                        several.len(),
                        ids.join(", ")
                    ),
                    format!("keep the one with the id {}", processor.id),
                );
            }
        }
        for (id, section) in sections {
            if section.returns != processor.returns {
                findings.fail(
                    PROCESSOR,
                    format!(
                        "{id}: it accepts {media_type} and returns {:?}, which is not the type of the plain layer",
                        section.returns
                    ),
                    format!("let it say: returns = \"{}\"", processor.returns),
                );
            }
            match alike
                .iter_mut()
                .find(|group| says_the_same(group[0], section))
            {
                Some(group) => group.push(section),
                None => alike.push(vec![section]),
            }
        }
    }
    if !missing.is_empty() {
        findings.warn(
            PROCESSOR,
            format!(
                "there is none for encrypted layers of {}",
                missing.join(", ")
            ),
            INSTALL,
        );
    }
    for sections in &alike {
        if let Some(setup) = check_program(findings, sections)
            && !setups.contains(&setup)
        {
            setups.push(setup);
        }
    }
}

fn says_the_same(one: &Section, other: &Section) -> bool {
    one.path == other.path && one.args == other.args && one.env == other.env
}

/// Checks the program of sections that differ in their media types alone.
fn check_program(findings: &mut Findings, sections: &[&Section]) -> Option<Setup> {
    let section = sections.first()?;
    let origin = match &section.file {
        Some(file) => file.display().to_string(),
        None => "containerd itself".to_owned(),
    };
    let count = sections.len();
    let plural = if count == 1 { "" } else { "s" };
    let name = format!(
        "{} for {count} media type{plural}, from {origin}",
        section.path
    );
    let Some(program) = section.program() else {
        findings.fail(
            PROCESSOR,
            format!("{name}: the program is not there"),
            match section.file {
                Some(_) => "install ocihsm there, or correct `path`",
                None => INSTALL,
            },
        );
        return None;
    };
    let executable = program
        .metadata()
        .is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0);
    if !executable {
        let mend = format!("chmod 755 {}", program.display());
        findings.fail(PROCESSOR, format!("{name}: it is not executable"), mend);
        return None;
    }
    if others_may_change(&program).unwrap_or(false) {
        findings.fail(
            PROCESSOR,
            format!(
                "{name}: others than root may change {}, which containerd runs",
                program.display()
            ),
            format!(
                "chown root {0}; chmod 755 {0}, and the directories above it",
                program.display()
            ),
        );
    }
    if !is_ours(&program) {
        findings.warn(
            PROCESSOR,
            format!(
                "{name}: {} is another program than ocihsm",
                program.display()
            ),
            INSTALL,
        );
        return None;
    }
    let mut argv = vec![OsString::from(&section.path)];
    argv.extend(section.args.iter().map(OsString::from));
    let arguments = match Cli::parse_from(argv) {
        Ok(Cli {
            command: Command::Decode(arguments),
        }) => arguments,
        Ok(_) => {
            let text = format!("{name}: its arguments do not begin with `decode`");
            findings.fail(PROCESSOR, text, PRINT);
            return None;
        }
        Err(error) => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            let line = line.strip_prefix("error: ").unwrap_or(line);
            findings.fail(
                PROCESSOR,
                format!("{name}: its arguments are wrong: {line}"),
                PRINT,
            );
            return None;
        }
    };
    let mut keys = arguments.keys.decryption_keys_path;
    if keys.is_empty() {
        let variable = section
            .variables()
            .remove("OCIHSM_KEYS_PATH")
            .unwrap_or_default();
        keys = std::env::split_paths(&variable)
            .filter(|path| !path.as_os_str().is_empty())
            .collect();
    }
    findings.ok(PROCESSOR, name.clone());
    if keys.is_empty() {
        findings.warn(
            PROCESSOR,
            format!(
                "{name}: it names no directory of keys, so only keys that a client sends are used"
            ),
            format!("let `args` end in \"--decryption-keys-path\", \"{KEYS}\""),
        );
    }
    Some(Setup {
        keys,
        policy: section.variables().remove("OCICRYPT_CONFIG"),
    })
}

/// Whether a program is ocihsm: this very file, or one of its name at the end of all links.
fn is_ours(program: &Path) -> bool {
    let real = program.canonicalize().ok();
    let us = std::env::current_exe()
        .and_then(|path| path.canonicalize())
        .ok();
    real.is_some_and(|real| {
        real.file_name().is_some_and(|name| name == "ocihsm") || us.is_some_and(|us| us == real)
    })
}

fn check_store(findings: &mut Findings, root: &Path) {
    match content_store::count_blobs(root) {
        Ok(Some(blobs)) => findings.ok(STORE, format!("{} has {blobs} blobs", root.display())),
        Ok(None) => findings.warn(
            STORE,
            format!("there is none in {}", root.display()),
            "none is there before containerd's first pull; else name its directory with --content-store in `args`",
        ),
        Err(error) => findings.error(STORE, &error, "run doctor as the user that containerd runs as"),
    }
}
