//! Manual pages: one for the program, one for each subcommand that is shown.

use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use ocihsm::cli::Cli;

use crate::Error;

/// Where things are, which the command line does not know.
const FILES: &str = r#".SH FILES
.TP
.I /etc/containerd/ocicrypt/keys
Key files, one for each key; of root alone.
.TP
.I /etc/ocicrypt.conf
Which PKCS#11 modules may be loaded: \fBocihsm config policy\fR prints one.
.TP
.I /etc/containerd/conf.d/ocihsm.toml
The stream processors, for containerd's configuration to import: \fBocihsm config containerd\fR prints them.
.TP
.I /run/ocihsm
Locks of tokens, and PINs that were rejected, as slow hashes.
"#;

/// Writes them all.
pub(crate) fn write(directory: &Path) -> Result<(), Error> {
    // The long version is about one build, and a page is about all of them.
    let mut program = Cli::command()
        .disable_help_subcommand(true)
        .long_version(None::<&str>);
    let version = program.get_version().unwrap_or_default().to_owned();
    program.build();
    pages(&program, "ocihsm", &version, directory)
}

fn pages(command: &Command, name: &str, version: &str, directory: &Path) -> Result<(), Error> {
    let path = directory.join(format!("{name}.1"));
    // clap keeps names for as long as the program runs.
    let whole: &'static str = name.to_owned().leak();
    let page = Man::new(command.clone().name(whole))
        .title(name.to_uppercase())
        .section("1")
        .manual("ocihsm")
        .source(format!("ocihsm {version}"));
    let mut bytes = Vec::new();
    page.render(&mut bytes).map_err(|source| Error::Write {
        path: path.clone(),
        source,
    })?;
    bytes.extend_from_slice(FILES.as_bytes());
    crate::write(&path, &bytes)?;
    for subcommand in command.get_subcommands() {
        if !subcommand.is_hide_set() {
            let name = format!("{name}-{}", subcommand.get_name());
            pages(subcommand, &name, version, directory)?;
        }
    }
    Ok(())
}
