//! The files of one containerd's configuration: whether a containerd starts with them, and whether they are all of them.

use std::path::{Path, PathBuf};

use super::findings::Findings;
use super::kind;
use crate::node::Error;
use crate::node::containerd::{ConfigFile, ContainerdConfig, Import};
use crate::node::running::Release;
use crate::node::section::Section;
use crate::node::stanza::{PROCESSORS, Processor};

const PRINT_OLDER: &str =
    "print it with `ocihsm config containerd --config-version 2`, which every containerd reads";

const IMPORT: &str = "import the file that is named above, and restart containerd";

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
            findings.fail(
                kind::PLUGIN_NAME,
                format!(
                    "{path} names plugins as only version 1 does ({names}){other}: containerd 1.x does not start"
                ),
                format!("{version_line}name {}", full_names(file)),
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
) -> String {
    let directory = main.parent().unwrap_or(Path::new("/")).join("conf.d");
    let unimported = config.unimported(main);
    let install = match unimported.as_slice() {
        [] => match written(config) {
            Some(file) => complete(&source(main, file), "containerd"),
            None => install(main, config, &directory),
        },
        _ => IMPORT.to_owned(),
    };
    for path in unimported {
        let text = format!(
            "{} holds stream processors, and nothing imports it",
            path.display()
        );
        let mend = format!(
            "{}, and restart containerd",
            import(main, config, &directory)
        );
        if is_needed {
            findings.fail(kind::DROP_IN_UNIMPORTED, text, mend);
        } else {
            findings.warn(kind::DROP_IN_UNIMPORTED, text, mend);
        }
    }
    install
}

/// What a file has to name in the place of names that only version 1 has.
fn full_names(file: &ConfigFile) -> &'static str {
    match file.short_plugins.as_slice() {
        [name] if name == "cri" => "io.containerd.grpc.v1.cri in the place of cri",
        _ => "plugins in full, as `containerd config default` does",
    }
}

/// The file that an administrator's sections for encrypted layers stand in.
pub(super) fn written(config: &ContainerdConfig) -> Option<&Path> {
    let is_for = |section: &Section, one: &Processor| section.accepts.contains(&one.accepts());
    let mut sections = config.processors.values();
    let written = sections.find(|section| {
        !section.is_as_built_in() && PROCESSORS.iter().any(|one| is_for(section, one))
    })?;
    written.file.as_deref()
}

/// What to do for want of some of them; `restart` names the services.
pub(super) fn complete(file: &Path, restart: &str) -> String {
    format!(
        "add the sections that are missing, as `ocihsm config containerd` prints them, to {}, and restart {restart}",
        file.display()
    )
}

/// What to do for want of all of them: which file to write, and which line has to import it.
fn install(main: &Path, config: &ContainerdConfig, directory: &Path) -> String {
    let imported = drop_ins(config);
    let directory = imported.as_deref().unwrap_or(directory);
    let make = match directory.is_dir() {
        true => String::new(),
        false => format!("mkdir -p {} && ", directory.display()),
    };
    let import = match imported {
        Some(_) => String::new(),
        None => format!(", {}", import(main, config, directory)),
    };
    format!(
        "run `{make}ocihsm config containerd > {}`{import}, and restart containerd",
        directory.join("ocihsm.toml").display()
    )
}

/// The line that imports a directory.
fn import(main: &Path, config: &ContainerdConfig, directory: &Path) -> String {
    let pattern = directory.join("*.toml");
    let (file, pattern) = (source(main, main), pattern.display());
    let file = file.display();
    // What is imported has version 2, and with it the names of plugins in all files do.
    let full = match config
        .files
        .first()
        .filter(|file| !file.short_plugins.is_empty())
    {
        Some(file) if file.version >= 2 => format!(", and name {}", full_names(file)),
        Some(file) => format!(
            ", and `version = 2` above it, in the place of another version, and name {}",
            full_names(file)
        ),
        None => String::new(),
    };
    if config.files.is_empty() {
        format!("write `version = 2` and below it `imports = [\"{pattern}\"]` into {file}")
    } else if config.imports.iter().any(|one| one.importing == main) {
        format!("add \"{pattern}\" to the list `imports` in {file}{full}")
    } else {
        format!(
            "let {file} say `imports = [\"{pattern}\"]` above its first section, in the place of the line \
             `imports = []` if there is one{full}"
        )
    }
}

/// The file to change, so that `file` comes to say something: microk8s makes the main one of another at each start.
fn source(main: &Path, file: &Path) -> PathBuf {
    let template = main.with_file_name("containerd-template.toml");
    match file == main && main.ends_with("args/containerd.toml") && template.exists() {
        true => template,
        false => file.to_owned(),
    }
}

/// The directory that the configuration imports already.
pub(super) fn drop_ins(config: &ContainerdConfig) -> Option<PathBuf> {
    let mut imports = config.imports.iter().map(|import| Path::new(&import.text));
    let pattern = imports.find(|path| path.is_absolute() && path.ends_with("*.toml"))?;
    pattern.parent().map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What to do for want of a section with these files; the directory is called `/etc`.
    fn install(files: &[(&str, &str)]) -> String {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().to_string_lossy();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text.replace("/etc", &etc)).unwrap();
        }
        let main = root
            .path()
            .join(files.first().map_or("config.toml", |file| file.0));
        let config = match files {
            [] => ContainerdConfig::built_in(),
            _ => ContainerdConfig::read(&main).unwrap(),
        };
        check_unimported(&mut Findings::default(), &main, &config, true).replace(&*etc, "/etc")
    }

    #[test]
    fn the_file_to_write_and_the_line_that_imports_it_are_named() {
        const MAKE: &str =
            "run `mkdir -p /etc/conf.d && ocihsm config containerd > /etc/conf.d/ocihsm.toml`";
        const IMPORTS: &str = "imports = [\"/etc/conf.d/*.toml\"]";
        for (files, then) in [
            (
                &[][..],
                format!("write `version = 2` and below it `{IMPORTS}` into /etc/config.toml"),
            ),
            (
                &[("config.toml", "version = 2\n")],
                format!("let /etc/config.toml say `{IMPORTS}` above its first section"),
            ),
            (
                &[
                    ("config.toml", "imports = [\"/etc/other.toml\"]\n"),
                    ("other.toml", ""),
                ],
                "add \"/etc/conf.d/*.toml\" to the list `imports` in /etc/config.toml".to_owned(),
            ),
            (
                &[
                    ("args/containerd.toml", ""),
                    ("args/containerd-template.toml", ""),
                ],
                "let /etc/args/containerd-template.toml say `imports = [\"/etc/args/conf.d/*"
                    .to_owned(),
            ),
            (
                &[("config.toml", "disabled_plugins = [\"cri\"]\n")],
                format!(
                    "let /etc/config.toml say `{IMPORTS}` above its first section, in the place of the line \
                     `imports = []` if there is one, and `version = 2` above it, in the place of another version, and \
                     name io.containerd.grpc.v1.cri in the place of cri"
                ),
            ),
            (
                &[("config.toml", "version = 2\ndisabled_plugins = [\"cri\"]\n")],
                format!(
                    "let /etc/config.toml say `{IMPORTS}` above its first section, in the place of the line \
                     `imports = []` if there is one, and name io.containerd.grpc.v1.cri in the place of cri"
                ),
            ),
        ] {
            let told = install(files);
            let make = match told.contains("/args/") {
                true => MAKE.replace("/conf.d", "/args/conf.d"),
                false => MAKE.to_owned(),
            };
            assert!(told.starts_with(&format!("{make}, {then}")), "{told}");
            assert!(told.ends_with(", and restart containerd"), "{told}");
        }
        let imported = "imports = [\"/etc/more/*.toml\"]\n";
        assert_eq!(
            install(&[("config.toml", imported), ("more/x.toml", "")]),
            "run `ocihsm config containerd > /etc/more/ocihsm.toml`, and restart containerd"
        );
    }

    #[test]
    fn a_file_that_has_some_of_the_sections_is_to_have_the_others() {
        let section = "[stream_processors.a]\npath = \"/a\"\n\
                       [stream_processors.x]\npath = \"/x\"\n\
                       accepts = [\"application/vnd.oci.image.layer.v1.tar+encrypted\"]\n";
        let imports = "imports = [\"/etc/conf.d/*.toml\"]\n";
        let told = install(&[("config.toml", imports), ("conf.d/mine.toml", section)]);
        assert!(
            told.starts_with("add the sections that are missing, ")
                && told.ends_with(" to /etc/conf.d/mine.toml, and restart containerd"),
            "{told}"
        );
    }
}
