//! Which containerds there are to look at: those that run, and those whose configuration lies where it usually does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::unistd::geteuid;

use super::findings::Findings;
use super::kind;
use super::setup::usual_environment;
use crate::node::Result;
use crate::node::containerd::{ContainerdConfig, LOCATIONS};
use crate::node::running::{Release, Running};
use crate::node::section::{Section, is_executable};

/// A containerd.
#[derive(Debug)]
pub(super) struct Containerd {
    /// Its configuration file, which need not be there.
    pub(super) config: PathBuf,
    /// Its process, if it runs.
    pub(super) running: Option<Running>,
    /// Its release, if that is known.
    pub(super) release: Option<Release>,
    /// What it hands down to its decoder, without what a section adds.
    pub(super) environment: BTreeMap<String, String>,
    /// Its root directory where its files name none.
    usual_root: PathBuf,
}

/// The containerd with this file; all of them if none is named.
pub(super) fn containerds(named: Option<&Path>) -> Vec<Containerd> {
    let mut running = Running::all();
    let mut files: Vec<PathBuf> = Vec::new();
    match named {
        Some(file) => files.push(file.to_owned()),
        None => {
            let usual = LOCATIONS.iter().map(|(file, _)| PathBuf::from(file));
            files.extend(usual.filter(|file| file.exists()));
            for one in &running {
                if !files.iter().any(|file| same(file, &one.config)) {
                    files.push(one.config.clone());
                }
            }
            if files.is_empty() {
                files.push(LOCATIONS[0].0.into());
            }
        }
    }
    let mut containerds = Vec::new();
    for config in files {
        let process = running.iter().position(|one| same(&one.config, &config));
        let running = process.map(|process| running.swap_remove(process));
        containerds.push(Containerd::new(config, running));
    }
    containerds
}

impl Containerd {
    fn new(config: PathBuf, running: Option<Running>) -> Self {
        let usual = LOCATIONS
            .iter()
            .position(|(file, _)| config.as_os_str() == *file);
        let release = match (&running, usual) {
            (Some(running), _) => running.release(),
            // k3s and others bring a containerd of their own.
            (None, Some(1..)) => None,
            (None, _) => installed().as_deref().and_then(Release::of),
        };
        let environment = running
            .as_ref()
            .and_then(|running| running.environment.clone())
            .unwrap_or_else(usual_environment);
        Self {
            config,
            running,
            release,
            environment,
            usual_root: LOCATIONS[usual.unwrap_or(0)].1.into(),
        }
    }

    /// Whether it goes by what is built in, since its file is not there. One that was named has to be.
    pub(super) fn is_built_in(&self) -> bool {
        self.config.as_os_str() == LOCATIONS[0].0 && !self.config.exists()
    }

    /// What it is told.
    pub(super) fn read(&self) -> Result<ContainerdConfig> {
        match self.is_built_in() {
            true => Ok(ContainerdConfig::built_in()),
            false => ContainerdConfig::read(&self.config),
        }
    }

    /// Its root directory.
    pub(super) fn root(&self, config: &ContainerdConfig) -> PathBuf {
        let started_with = self.running.as_ref().and_then(|one| one.root.clone());
        started_with
            .or_else(|| config.root.clone())
            .unwrap_or_else(|| self.usual_root.clone())
    }
}

/// Whether any of them runs. Where none does, nothing is pulled, and what is found is how it would be.
pub(super) fn check_any(findings: &mut Findings, containerds: &[Containerd], named: Option<&Path>) {
    const REST: &str = "what follows goes by the files alone: not by whether it starts with them, nor by what its unit \
                        puts into its environment";
    if containerds.iter().any(|one| one.running.is_some()) {
        return;
    }
    if let Some(file) = named {
        let others: Vec<_> = (Running::all().iter())
            .map(|one| format!("process {} with {}", one.process, one.config.display()))
            .collect();
        let others = match others.as_slice() {
            [] => String::new(),
            others => format!(" (but {})", others.join(", ")),
        };
        findings.warn(
            kind::NOT_RUNNING,
            format!("no containerd that runs was started with {}{others}; {REST}", file.display()),
            "start it with that file; or leave --containerd-config away, and those that run are looked at",
        );
    } else if let Some(process) = Running::any_elsewhere() {
        findings.warn(
            kind::NOT_RUNNING,
            format!(
                "containerd (process {process}) runs in mounts of its own, and may see other files than this shell; {REST}"
            ),
            format!("if that one is meant: run doctor where it runs, `nsenter --mount --target {process} ocihsm doctor`"),
        );
    } else if geteuid().is_root() {
        findings.fail(
            kind::NOT_RUNNING,
            format!("no containerd runs, so nothing is pulled; {REST}"),
            "systemctl start containerd (k3s, rke2-server, … where it is theirs); if it ends again, `journalctl -u \
             containerd` says why",
        );
    } else {
        findings.warn(
            kind::NOT_RUNNING,
            format!("no containerd of this user runs; {REST}"),
            "run doctor as root, unless containerd is this user's own: then start it",
        );
    }
}

/// Whether the containerd that runs knows what stands in its files: it reads them once.
pub(super) fn check(findings: &mut Findings, containerd: &Containerd, config: &ContainerdConfig) {
    let Some(running) = &containerd.running else {
        return;
    };
    let newer: Vec<_> = (config.files.iter())
        .filter(|file| running.is_older_than(&file.path))
        .map(|file| file.path.display().to_string())
        .collect();
    if newer.is_empty() {
        return;
    }
    findings.fail(
        kind::CONFIG_UNLOADED,
        format!(
            "containerd (process {}) was started {} ago, and {} changed since: it goes by what stood there before",
            running.process,
            age(running.since),
            newer.join(" and ")
        ),
        "restart containerd: systemctl restart containerd (k3s, rke2-server, … where it is theirs)",
    );
}

fn age(since: SystemTime) -> String {
    let age = since.elapsed().unwrap_or_default();
    let whole = std::time::Duration::from_secs(age.as_secs());
    humantime::format_duration(whole).to_string()
}

/// The containerd that a service would start.
fn installed() -> Option<PathBuf> {
    let section = Section {
        path: "containerd".to_owned(),
        ..Section::default()
    };
    section
        .program(&usual_environment())
        .filter(|path| is_executable(path))
}

fn same(one: &Path, other: &Path) -> bool {
    one == other
        || matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
