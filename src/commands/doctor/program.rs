//! The program that a stream processor runs: whether it is there, whether it is ours, and who may change it.
//!
//! It is looked at, never run: doctor runs as root, and what the file is, is just the question.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use memchr::memmem;

use super::access::check_owner;
use super::findings::Findings;
use super::processors::PROCESSOR;
use crate::commands::decode::ABOUT;
use crate::node::section::{Section, is_executable};

/// Most bytes of a program that are looked through.
const MAX_PROGRAM: u64 = 256 << 20;

/// What a program turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// The file that this process was started from, or a copy of it.
    Ours,
    /// ocihsm, but not this one.
    AnotherBuild,
    /// Something else.
    Foreign,
    /// None that can be run.
    Missing,
}

/// Reports what is wrong with a section's program. `name` is what to call it, `install` what to do for want of any.
pub(super) fn check(
    findings: &mut Findings,
    name: &str,
    section: &Section,
    install: &'static str,
) -> Program {
    let Some(path) = section.program() else {
        let mend = match section.is_as_built_in() {
            true => install,
            false => "install ocihsm there, or correct `path`",
        };
        findings.fail(PROCESSOR, format!("{name}: the program is not there"), mend);
        return Program::Missing;
    };
    if !is_executable(&path) {
        let mend = format!("chmod 755 {}", path.display());
        findings.fail(PROCESSOR, format!("{name}: it is not executable"), mend);
        return Program::Missing;
    }
    check_owner(findings, PROCESSOR, &path);
    let program = recognize(&path).unwrap_or(Program::Foreign);
    if program == Program::Foreign {
        findings.warn(
            PROCESSOR,
            format!("{name}: {} is another program than ocihsm", path.display()),
            "leave it, if another decoder is meant; else put ocihsm there",
        );
    }
    program
}

/// Looks at the content, since a name says nothing.
fn recognize(path: &Path) -> io::Result<Program> {
    let program = File::open(path)?;
    // Also where the file that we were started from was replaced.
    let us = File::open("/proc/self/exe")?;
    let (theirs, ours) = (program.metadata()?, us.metadata()?);
    let is_same_file = (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino());
    if is_same_file || (theirs.len() == ours.len() && are_alike(&program, &us)?) {
        return Ok(Program::Ours);
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_PROGRAM)
        .read_to_end(&mut bytes)?;
    let is_build =
        bytes.starts_with(b"\x7fELF") && memmem::find(&bytes, ABOUT.as_bytes()).is_some();
    Ok(match is_build {
        true => Program::AnotherBuild,
        false => Program::Foreign,
    })
}

fn are_alike(one: &File, other: &File) -> io::Result<bool> {
    let mut one = BufReader::with_capacity(1 << 16, one);
    let mut other = BufReader::with_capacity(1 << 16, other);
    loop {
        let (a, b) = (one.fill_buf()?, other.fill_buf()?);
        let length = a.len().min(b.len());
        if length == 0 {
            return Ok(a.is_empty() && b.is_empty());
        }
        if a[..length] != b[..length] {
            return Ok(false);
        }
        one.consume(length);
        other.consume(length);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn content_counts_and_not_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("ctd-decoder");
        let us = std::env::current_exe().unwrap();
        fs::copy(&us, &copy).unwrap();
        assert_eq!(recognize(&us).unwrap(), Program::Ours);
        assert_eq!(recognize(&copy).unwrap(), Program::Ours);
        let named = dir.path().join("ocihsm");
        for (content, expected) in [
            (format!("\x7fELF..{ABOUT}.."), Program::AnotherBuild),
            (format!("#!/bin/sh\n# {ABOUT}\n"), Program::Foreign),
            ("\x7fELF".to_owned(), Program::Foreign),
        ] {
            fs::write(&named, content).unwrap();
            assert_eq!(recognize(&named).unwrap(), expected);
        }
    }
}
