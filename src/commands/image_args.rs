//! Arguments that the image commands share, and what they mean before an image is looked at.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser as _};

use super::jobs;
use crate::commands::Result;
use crate::image::reference::HELP;
use crate::image::{self, Image, Platform, Reference, Source, place, registry};
use crate::settings;
pub(crate) use crate::settings::{is_uri, no_uris};

/// Where an image comes from and where it goes.
#[derive(clap::Args, Clone, Debug)]
pub struct ImageArgs {
    /// Where the image comes from.
    #[arg(
        help = format!("Image to read: {HELP}; without TAG, the only image there. PATH@N and PATH@sha256:… name it by number or digest"),
        value_name = "SRC",
        value_parser = reference()
    )]
    pub source: Reference,
    /// Image to write, likewise (but no docker-archive); without TAG, SRC's. May be another tag in the same layout
    #[arg(value_name = "DST", value_parser = reference())]
    pub destination: Reference,
    /// Replace an image that DST's tag names already
    #[arg(long)]
    pub force: bool,
    /// How many layers at once.
    #[command(flatten)]
    pub jobs: JobsArgs,
    /// How to speak to registries.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// How many layers are worked on at once.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct JobsArgs {
    /// Work on so many layers at once [default: as many as there are cores, at most 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub jobs: Option<u8>,
}

impl JobsArgs {
    /// The number.
    #[must_use]
    pub fn count(self) -> usize {
        self.jobs.map_or_else(jobs::usual, usize::from)
    }
}

/// How registries are spoken to.
#[derive(clap::Args, Clone, Debug)]
pub struct RegistryArgs {
    /// Whether a registry has to show a certificate that is trusted; if not, it may also speak plain HTTP
    #[arg(long, value_name = "BOOL", help_heading = "Registry", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = clap::ArgAction::Set)]
    pub tls_verify: bool,
    /// Directory with certificates: *.crt of authorities to trust as well, *.cert and *.key of our own
    #[arg(long, value_name = "DIR", help_heading = "Registry")]
    pub cert_dir: Option<PathBuf>,
    /// File with the passwords of registries [default: podman's, skopeo's and Docker's]
    #[arg(
        long,
        value_name = "FILE",
        env = "REGISTRY_AUTH_FILE",
        help_heading = "Registry"
    )]
    pub authfile: Option<PathBuf>,
}

impl RegistryArgs {
    /// As the `image` room wants it. Looks at the environment for where other tools keep passwords, for
    /// containerd, and for temporary files.
    #[must_use]
    pub fn settings(&self) -> image::Settings {
        let environment = settings::Environment::current();
        image::Settings {
            registry: self.of_registries(),
            containerd: settings::containerd(&environment),
            temporary: settings::temporary(&environment),
        }
    }

    fn of_registries(&self) -> registry::Settings {
        let directory = |name: &str| {
            settings::variable(name)
                .filter(|it| !it.is_empty())
                .map(PathBuf::from)
        };
        let home = directory("HOME");
        let in_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let auth_files = match &self.authfile {
            Some(file) => vec![file.clone()],
            None => [
                Some(match directory("XDG_RUNTIME_DIR") {
                    Some(directory) => directory.join("containers/auth.json"),
                    // Without a directory of the session, podman has one for each user.
                    None => format!("/run/containers/{}/auth.json", nix::unistd::getuid()).into(),
                }),
                directory("XDG_CONFIG_HOME")
                    .or(in_home(".config"))
                    .map(|it| it.join("containers/auth.json")),
                directory("DOCKER_CONFIG")
                    .or(in_home(".docker"))
                    .map(|it| it.join("config.json")),
            ]
            .into_iter()
            .flatten()
            .collect(),
        };
        registry::Settings {
            tls_verify: self.tls_verify,
            cert_dir: self.cert_dir.clone(),
            machine_cert_dirs: ["/etc/containers/certs.d", "/etc/docker/certs.d"]
                .map(PathBuf::from)
                .into(),
            auth_files,
        }
    }
}

/// Parses [`Reference`]s.
pub(super) fn reference() -> impl clap::builder::TypedValueParser<Value = Reference> {
    OsStringValueParser::new().try_map(|text: OsString| Reference::parse(&text))
}

/// The files that `--key` named.
///
/// # Errors
/// As [`no_uris`].
pub(super) fn key_files(given: &[PathBuf]) -> Result<&[PathBuf]> {
    Ok(no_uris("--key", given)?)
}

/// Reads an image.
///
/// # Errors
/// Whatever keeps it from being found and read.
pub(super) fn load(
    reference: &Reference,
    platform: Option<&Platform>,
    registry: &RegistryArgs,
) -> Result<(Box<dyn Source>, Image)> {
    let (source, entry) = place::open(reference, platform, &registry.settings())?;
    let image = Image::load(&*source, entry)?;
    Ok((source, image))
}
