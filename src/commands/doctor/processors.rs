//! containerd's stream processors: which layers it hands to a decoder, to which one, and with what.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;

use super::findings::Findings;
use super::kind;
use super::program::{self, Program};
use super::setup::Setup;
use super::{log, media_types, stores};
use crate::commands::decode;
use crate::node;
use crate::node::containerd::ContainerdConfig;
use crate::node::section::Section;
use crate::node::stanza::PROCESSORS;
use crate::settings;

const PRINT: &str = "compare with `ocihsm config containerd`";

/// Sections that run the same program with the same arguments and environment.
struct Group<'a> {
    section: &'a Section,
    media_types: BTreeSet<String>,
    files: BTreeSet<String>,
}

/// Checks the sections, and returns what their decoders work with. `root` is containerd's root directory,
/// `environment` what it hands down, `install` what to do for want of a section.
pub(super) fn check(
    findings: &mut Findings,
    config: &ContainerdConfig,
    root: &Path,
    environment: &BTreeMap<String, String>,
    install: &str,
) -> Vec<Setup> {
    media_types::check(findings, config, install);
    let mut setups = Vec::new();
    let mut found_arguments = false;
    for group in groups(config) {
        let name = group.name();
        let mut variables = environment.clone();
        variables.extend(group.section.variables());
        let program = program::check(findings, &name, group.section, environment, install);
        if program == Program::Missing && group.section.is_as_built_in() {
            // What is built in goes for everybody; nobody asked for it.
            continue;
        }
        let Some(arguments) = check_arguments(findings, &name, group.section, &variables, program)
        else {
            continue;
        };
        found_arguments = true;
        match program {
            Program::Ours => findings.ok(kind::PROCESSOR, name.clone()),
            Program::AnotherBuild => {
                findings.ok(
                    kind::PROCESSOR,
                    format!("{name}; another build of ocihsm than this one"),
                );
            }
            Program::Foreign | Program::Missing => {}
        }
        let setup = match Setup::new(variables.clone(), &arguments) {
            Ok(setup) => setup,
            Err(error) => {
                let mend = "name the directory of the key files there";
                findings.error(kind::KEYS_UNREADABLE, &error, mend);
                continue;
            }
        };
        if setup.keys.is_empty() {
            findings.warn(
                kind::PROCESSOR_KEYLESS,
                format!("{name}: it names no directory of keys, so only keys that a client sends are used"),
                format!("let `args` end in \"--decryption-keys-path\", \"{}\"", node::KEYS),
            );
        }
        log::check(findings, &arguments.log.log);
        stores::check(findings, &setup.stores, root);
        if !setups.contains(&setup) {
            setups.push(setup);
        }
    }
    if !found_arguments {
        stores::check(findings, &[], root);
    }
    setups
}

fn groups(config: &ContainerdConfig) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for section in config.processors.values() {
        let media_types: BTreeSet<_> = PROCESSORS
            .iter()
            .map(|processor| processor.accepts())
            .filter(|media_type| section.accepts.contains(media_type))
            .collect();
        if media_types.is_empty() {
            continue;
        }
        let at = groups
            .iter()
            .position(|group| says_the_same(group.section, section))
            .unwrap_or_else(|| {
                groups.push(Group {
                    section,
                    media_types: BTreeSet::new(),
                    files: BTreeSet::new(),
                });
                groups.len() - 1
            });
        groups[at].media_types.extend(media_types);
        groups[at].files.insert(file(section));
    }
    groups
}

impl Group<'_> {
    /// What to call it.
    fn name(&self) -> String {
        let count = self.media_types.len();
        let plural = if count == 1 { "" } else { "s" };
        let files: Vec<_> = self.files.iter().map(String::as_str).collect();
        format!(
            "{} for {count} media type{plural}, from {}",
            self.section.path,
            files.join(" and ")
        )
    }
}

/// Where a section stands.
pub(super) fn file(section: &Section) -> String {
    match &section.file {
        Some(file) => file.display().to_string(),
        None => "containerd itself".to_owned(),
    }
}

fn says_the_same(one: &Section, other: &Section) -> bool {
    one.path == other.path && one.args == other.args && one.env == other.env
}

/// The arguments as the decoder takes them, in the environment that the section gives it.
fn check_arguments(
    findings: &mut Findings,
    name: &str,
    section: &Section,
    variables: &BTreeMap<String, String>,
    program: Program,
) -> Option<decode::Args> {
    let mut argv = vec![OsString::from(&section.path)];
    argv.extend(section.args.iter().map(OsString::from));
    let variable = |name: &std::ffi::OsStr| Some(variables.get(name.to_str()?)?.into());
    let wrong = match decode::Args::parse_in(argv, variable) {
        Ok(arguments) => return Some(arguments),
        Err((error, Some(variable))) => {
            format!("{variable} in its `env` is wrong: {}", first_line(&error))
        }
        Err((error, None)) => format!("its arguments are wrong: {}", first_line(&error)),
    };
    let why = if program == Program::Foreign {
        "has arguments that are not those of ocihsm"
    } else {
        findings.fail(kind::PROCESSOR_ARGUMENTS, format!("{name}: {wrong}"), PRINT);
        "does not start like that"
    };
    findings.warn(
        kind::KEYS_UNCHECKED,
        format!("not checked, since {name}, {why}"),
        "name them with --key",
    );
    None
}

fn first_line(error: &clap::Error) -> String {
    if !error.use_stderr() {
        return "they ask for help, or for the version".to_owned();
    }
    let text = error.to_string();
    if settings::is_uri(&text) || text.contains("pkcs11:") {
        return "a PKCS#11 URI stands there".to_owned();
    }
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}
