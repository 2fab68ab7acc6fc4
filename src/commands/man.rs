//! `ocihsm man`: manual pages, one for the program and one for each subcommand that is shown.

use std::fs;
use std::path::PathBuf;

use clap::Command;
use clap_mangen::Man;

use super::{Result, print};
use crate::file;

/// Arguments of `man`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Write every page into this directory, which is made if it is not there
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
Packages bring the pages along. Without --dir the program's own page is printed.

Examples:
  ocihsm man | man -l -
  ocihsm man --dir /usr/local/share/man/man1";

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

/// A page: its file's name, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// `ocihsm-keys-list.1`.
    pub name: String,
    /// In the language of `man`.
    pub text: Vec<u8>,
}

/// Prints the program's page, or writes all of them. `program` is the whole command line.
///
/// # Errors
/// [`InFile`](super::Error::InFile) for a page that cannot be written; [`Stream`](super::Error::Stream).
pub fn run(args: &Args, program: Command) -> Result<()> {
    let pages = pages(program);
    let Some(directory) = &args.dir else {
        let first = pages.first().map_or(&[][..], |page| &page.text);
        return print(&String::from_utf8_lossy(first).trim_end());
    };
    fs::create_dir_all(directory).map_err(file::Error::failed("make", directory))?;
    for page in pages {
        let path = directory.join(&page.name);
        fs::write(&path, &page.text).map_err(file::Error::failed("write", &path))?;
    }
    Ok(())
}

/// All pages, the program's own first.
#[must_use]
pub fn pages(program: Command) -> Vec<Page> {
    // The long version is about one build, and a page is about all of them.
    let mut program = program
        .disable_help_subcommand(true)
        .long_version(None::<&str>);
    let version = program.get_version().unwrap_or_default().to_owned();
    program.build();
    let mut pages = Vec::new();
    add(&mut pages, &program, "ocihsm", &version);
    pages
}

fn add(pages: &mut Vec<Page>, command: &Command, name: &str, version: &str) {
    // clap keeps names for as long as the program runs.
    let whole: &'static str = name.to_owned().leak();
    let page = Man::new(command.clone().name(whole))
        .title(name.to_uppercase())
        .section("1")
        .manual("ocihsm")
        .source(format!("ocihsm {version}"));
    let mut text = Vec::new();
    page.render(&mut text)
        .expect("memory takes whatever is written to it");
    text.extend_from_slice(FILES.as_bytes());
    let file = format!("{name}.1");
    pages.push(Page { name: file, text });
    for subcommand in command.get_subcommands() {
        if !subcommand.is_hide_set() {
            let name = format!("{name}-{}", subcommand.get_name());
            add(pages, subcommand, &name, version);
        }
    }
}
