//! Each containerd of this machine, and what its decoders work with.

use std::path::{Path, PathBuf};

use super::findings::Findings;
use super::running::{self, Containerd};
use super::setup::Setup;
use super::{files, kind, processors, rancher};
use crate::node::Result;
use crate::node::containerd::ContainerdConfig;

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

/// Checks each containerd, and returns what its decoders work with.
pub(super) fn check(findings: &mut Findings, containerds: &[Containerd]) -> Vec<Decoder> {
    let configurations: Vec<(&Containerd, Result<ContainerdConfig>)> = containerds
        .iter()
        .map(|containerd| (containerd, containerd.read()))
        .collect();
    // Where some run, a file that none of those reads helps nobody.
    let any_runs = containerds.iter().any(|one| one.running.is_some());
    let any_opens_layers = configurations.iter().any(|(containerd, config)| {
        (containerd.running.is_some() || !any_runs)
            && config
                .as_ref()
                .is_ok_and(|config| opens_layers(containerd, config))
    });
    let mut decoders: Vec<Decoder> = Vec::new();
    for (containerd, config) in &configurations {
        let path = containerd.config.as_path();
        let about: &[&Path] = if containerds.len() > 1 { &[path] } else { &[] };
        findings.about(about);
        let is_used = containerd.running.is_some() || !any_runs;
        match config {
            // Such as Docker's, or one that nobody uses, beside that of k3s.
            Ok(config) if any_opens_layers && (!is_used || !opens_layers(containerd, config)) => {
                check_rest(findings, containerd, config, false);
                no_decoder(findings, is_used);
            }
            Ok(config) => {
                let is_needed = !opens_layers(containerd, config);
                if containerd.is_built_in() {
                    let install = check_rest(findings, containerd, config, is_needed);
                    findings.warn(
                        kind::CONFIG_ABSENT,
                        "no configuration file was found, so what is built into containerd counts"
                            .to_owned(),
                        install,
                    );
                } else {
                    files::check(findings, path, config, containerd.release);
                }
                let install = check_rest(findings, containerd, config, is_needed);
                running::check(findings, containerd, config);
                let root = containerd.root(config);
                let environment = &containerd.environment;
                for setup in processors::check(findings, config, &root, environment, &install) {
                    let containerds = about.iter().map(|path| path.to_path_buf()).collect();
                    Decoder { setup, containerds }.add_to(&mut decoders);
                }
            }
            Err(error) => findings.error(kind::CONFIG_BROKEN, error, files::mend(error)),
        }
    }
    findings.about(&[]);
    decoders
}

/// What the files are missing, and what to do for want of a section.
fn check_rest(
    findings: &mut Findings,
    containerd: &Containerd,
    config: &ContainerdConfig,
    is_needed: bool,
) -> String {
    let path = containerd.config.as_path();
    match rancher::generated(path) {
        Some(generated) => generated.check(findings, path, config, containerd.release, is_needed),
        None => files::check_unimported(findings, path, config, is_needed),
    }
}

fn no_decoder(findings: &mut Findings, is_used: bool) {
    if is_used {
        findings.warn(
            kind::NO_DECODER,
            "it sets up no decoder, so this containerd opens no encrypted layers".to_owned(),
            "leave it, if that is as it should be, or if no containerd uses it",
        );
    } else {
        findings.warn(
            kind::CONFIG_ELSEWHERE,
            "no containerd that runs was started with it".to_owned(),
            "start that containerd, or change the files of the one that runs",
        );
    }
}

/// Whether a decoder is set up: by a file, or by the program that containerd has built in and somebody put there.
fn opens_layers(containerd: &Containerd, config: &ContainerdConfig) -> bool {
    config.has_sections()
        || (config.processors.values())
            .any(|section| section.program(&containerd.environment).is_some())
}
