//! k3s and RKE2: they write containerd's configuration anew at each start, so another file is to be changed, and which one
//! depends on the release.

use std::path::{Path, PathBuf};

use super::files::drop_ins;
use super::findings::Findings;
use super::{files, kind};
use crate::node::containerd::ContainerdConfig;
use crate::node::running::Release;
use crate::node::stanza::{ConfigVersion, Stanza};
use crate::node::{self, KEYS, POLICY};

/// What the whole configuration but our sections comes from, in a template.
const BASE: &str = "{{ template \"base\" . }}";

const WRITTEN: &str = "write the lines that are named above into that file, and restart it";

/// A configuration that is written anew.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Generated {
    name: &'static str,
    services: &'static str,
    directory: PathBuf,
}

/// Whose configuration this is, if it is one of theirs.
pub(super) fn generated(main: &Path) -> Option<Generated> {
    let directory = main
        .parent()
        .filter(|it| it.ends_with("agent/etc/containerd"))?;
    let within = |name: &str| directory.components().any(|one| one.as_os_str() == name);
    let (name, services) = match (within("k3s"), within("rke2")) {
        (true, _) => ("k3s", "k3s or k3s-agent"),
        (_, true) => ("RKE2", "rke2-server or rke2-agent"),
        _ => return None,
    };
    Some(Generated {
        name,
        services,
        directory: directory.to_owned(),
    })
}

impl Generated {
    /// Says which file to write, and what, if nothing sets a decoder up. Returns what to do for want of a section.
    pub(super) fn check(
        &self,
        findings: &mut Findings,
        main: &Path,
        config: &ContainerdConfig,
        release: Option<Release>,
        is_needed: bool,
    ) -> String {
        if !is_needed {
            return self.complete(main, config);
        }
        let version = version(config, release);
        let (file, mut lines) = match drop_ins(config) {
            Some(directory) => (directory.join("ocihsm.toml"), Vec::new()),
            None => {
                let template = match version {
                    ConfigVersion::Two => "config.toml.tmpl",
                    ConfigVersion::Three => "config-v3.toml.tmpl",
                };
                (self.directory.join(template), vec![BASE.to_owned()])
            }
        };
        let is_template = !lines.is_empty();
        let how = if is_template && file.exists() {
            lines.clear();
            "append these lines to"
        } else {
            "write these lines into"
        };
        let stanza = Stanza {
            version,
            program: node::program().to_owned(),
            keys: KEYS.to_owned(),
            policy: POLICY.to_owned(),
            log: None,
        };
        let is_left_out = |line: &str| {
            line.is_empty()
                || line.starts_with('#')
                || (is_template && line.starts_with("version = "))
        };
        let text = stanza.to_toml();
        let stanza = text.lines().filter(|line| !is_left_out(line));
        lines.extend(stanza.map(str::to_owned));
        findings.fail_with_lines(
            kind::CONFIG_GENERATED,
            format!(
                "{} writes {} anew at each start, and nothing in it asks ocihsm",
                self.name,
                main.display()
            ),
            format!("{how} {}, and restart {}", file.display(), self.services),
            lines,
        );
        WRITTEN.to_owned()
    }

    /// What to do for want of some sections, where there are others.
    fn complete(&self, main: &Path, config: &ContainerdConfig) -> String {
        match files::written(config).filter(|file| *file != main) {
            Some(file) => files::complete(file, self.services),
            None => format!(
                "add the sections that are missing, as `ocihsm config containerd` prints them, to the template in {}, \
                 and restart {}",
                self.directory.display(),
                self.services
            ),
        }
    }
}

/// Version 3 where containerd reads it, as the file that was generated tells, or the release.
fn version(config: &ContainerdConfig, release: Option<Release>) -> ConfigVersion {
    let is_three = match (config.files.first(), release) {
        (Some(main), _) => main.version >= 3,
        (None, Some(release)) => (3..=i64::from(u8::MAX)).contains(&release.newest_config()),
        (None, None) => false,
    };
    match is_three {
        true => ConfigVersion::Three,
        false => ConfigVersion::Two,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::findings::Colour;
    use super::*;

    /// What doctor says of such a file below such a directory.
    fn told(root: &Path, of: &str, text: &str) -> String {
        let directory = root.join(of).join("agent/etc/containerd");
        fs::create_dir_all(&directory).unwrap();
        let main = directory.join("config.toml");
        fs::write(&main, text).unwrap();
        let config = ContainerdConfig::read(&main).unwrap();
        let mut findings = Findings::default();
        let generated = generated(&main).unwrap();
        generated.check(&mut findings, &main, &config, None, true);
        let told = findings.to_text(Colour::Off);
        told.replace(&*root.to_string_lossy(), "")
    }

    #[test]
    fn the_file_and_the_lines_are_those_of_the_release() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let text = told(root, "k3s", "version = 3\n");
        assert!(
            text.starts_with(
                "fail  containerd: k3s writes /k3s/agent/etc/containerd/config.toml anew"
            ),
            "{text}"
        );
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[1],
            "      -> write these lines into /k3s/agent/etc/containerd/config-v3.toml.tmpl, and restart k3s or k3s-agent"
        );
        assert_eq!(lines[2].trim(), BASE);
        assert_eq!(text.matches("accepts = ").count(), 7);
        assert!(!text.contains("version = 3"), "{text}");

        let text = told(root, "rke2", "version = 2\n");
        assert!(
            text.contains("/rke2/agent/etc/containerd/config.toml.tmpl, and restart rke2-server")
        );

        let template = root.join("rke2/agent/etc/containerd/config.toml.tmpl");
        fs::write(template, BASE).unwrap();
        let text = told(root, "rke2", "version = 2\n");
        assert!(
            text.contains("append these lines to /rke2") && !text.contains(BASE),
            "{text}"
        );

        let drop_ins = root.join("k3s/agent/etc/containerd/config-v3.toml.d");
        let imports = format!(
            "version = 3\nimports = [\"{}/*.toml\"]\n",
            drop_ins.display()
        );
        let text = told(root, "k3s", &imports);
        assert!(text.contains("into /k3s/agent/etc/containerd/config-v3.toml.d/ocihsm.toml"));
        assert!(
            text.contains("version = 3") && !text.contains(BASE),
            "{text}"
        );
    }

    #[test]
    fn another_containerds_file_is_left_to_its_owner() {
        for path in [
            "/etc/containerd/config.toml",
            "/srv/agent/etc/containerd/config.toml",
        ] {
            assert_eq!(generated(Path::new(path)), None);
        }
    }
}
