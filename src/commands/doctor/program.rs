//! The program that a stream processor runs: whether it is there, whether it is ours, and who may change it.
//!
//! It is looked at, never run: doctor runs as root, and what the file is, is just the question.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use memchr::memmem;

use super::access::check_owner;
use super::findings::Findings;
use super::kind;
use crate::commands::decode::ABOUT;
use crate::node::section::{Section, is_executable};

/// Most bytes of a program that are looked through.
const MAX_PROGRAM: u64 = 256 << 20;

/// Most bytes of a script that are looked through.
const MAX_SCRIPT: u64 = 64 << 10;

/// The file that we were started from.
const US: &str = "/proc/self/exe";
const ELF: &[u8] = b"\x7fELF";
/// Stands in imgcrypt's programs, as Go notes where a program is from.
const REFERENCE: &[u8] = b"github.com/containerd/imgcrypt";

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

/// Reports what is wrong with a section's program. `name` is what to call it, `environment` what
/// containerd hands down, `install` what to do for want of any.
pub(super) fn check(
    findings: &mut Findings,
    name: &str,
    section: &Section,
    environment: &BTreeMap<String, String>,
    install: &'static str,
) -> Program {
    let Some(path) = section.program(environment) else {
        let mend = match section.is_as_built_in() {
            true => install,
            false => "install ocihsm there, or correct `path`",
        };
        findings.fail(
            kind::PROGRAM_MISSING,
            format!("{name}: the program is not there"),
            mend,
        );
        return Program::Missing;
    };
    if !is_executable(&path) {
        let mend = format!("chmod 755 {}", path.display());
        findings.fail(
            kind::PROGRAM_NOT_EXECUTABLE,
            format!("{name}: it is not executable"),
            mend,
        );
        return Program::Missing;
    }
    check_owner(findings, kind::PROGRAM_OWNER, &path);
    let program = recognize(&path).unwrap_or(Program::Foreign);
    if program == Program::Foreign {
        check_foreign(findings, name, &path);
    }
    program
}

/// What is not ocihsm: another decoder, or something that starts one, or a mistake.
fn check_foreign(findings: &mut Findings, name: &str, path: &Path) {
    const LEAVE: &str = "leave it, if another decoder is meant; else put ocihsm there";
    let shown = path.display();
    let head = match beginning(path) {
        Ok(head) => head,
        Err(error) => {
            findings.fail(
                kind::PROGRAM_FOREIGN,
                format!("{name}: {shown} cannot be read: {error}"),
                "put ocihsm there",
            );
            return;
        }
    };
    if let Some(line) = head.strip_prefix(b"#!") {
        check_script(findings, name, path, line);
    } else if !head.starts_with(ELF) {
        findings.fail(
            kind::PROGRAM_FOREIGN,
            format!("{name}: {shown} is no program for Linux, and does not start"),
            "put ocihsm there",
        );
    } else if machine(&head) != beginning(Path::new(US)).ok().as_deref().and_then(machine) {
        findings.fail(
            kind::PROGRAM_MACHINE,
            format!("{name}: {shown} is a program for another kind of machine, and does not start"),
            format!("put an ocihsm for {} there", std::env::consts::ARCH),
        );
    } else if holds(path, REFERENCE).unwrap_or(false) {
        findings.warn(
            kind::PROGRAM_FOREIGN,
            format!("{name}: {shown} is imgcrypt's decoder, not ocihsm"),
            LEAVE,
        );
    } else {
        findings.fail(
            kind::PROGRAM_FOREIGN,
            format!("{name}: {shown} is another program than ocihsm"),
            "put ocihsm there, or correct `path`",
        );
    }
}

/// A script may well start ocihsm; whether it does, only running it would tell.
fn check_script(findings: &mut Findings, name: &str, path: &Path, line: &[u8]) {
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let interpreter = line.split_whitespace().next().unwrap_or_default();
    if !is_executable(Path::new(interpreter)) {
        findings.fail(
            kind::PROGRAM_SCRIPT,
            format!(
                "{name}: {} is a script for {interpreter:?}, which is not there, so it does not start",
                path.display()
            ),
            "correct its first line, or put ocihsm there",
        );
    } else if let Some(missing) = missing_target(path) {
        findings.fail(
            kind::PROGRAM_SCRIPT,
            format!(
                "{name}: {} is a script that names {missing}, which is not there or not executable",
                path.display()
            ),
            "correct that path in it, or let `path` be ocihsm itself",
        );
    } else if holds(path, b"ocihsm").unwrap_or(false) {
        findings.warn(
            kind::PROGRAM_SCRIPT,
            format!(
                "{name}: {} is a script, and what it does is not checked",
                path.display()
            ),
            "let `path` be ocihsm itself: what it needs can stand in `args` and `env`",
        );
    } else {
        findings.fail(
            kind::PROGRAM_FOREIGN,
            format!(
                "{name}: {} is a script that does not name ocihsm",
                path.display()
            ),
            "put ocihsm there, or correct `path`",
        );
    }
}

/// The ocihsm that a script names by its path, if none of those that it names can be run.
fn missing_target(script: &Path) -> Option<String> {
    let mut text = String::new();
    let file = File::open(script).ok()?;
    file.take(MAX_SCRIPT).read_to_string(&mut text).ok()?;
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    // What a line runs: its first word behind variables that it sets, `exec` and `env`.
    let is_before = |word: &&str| ["exec", "env", "command"].contains(word) || word.contains('=');
    let runs = |line: &'_ str| {
        let mut words = line.split_whitespace().skip_while(is_before);
        words
            .next()
            .map(|word| word.trim_matches(['"', '\'']).to_owned())
    };
    let mut named = lines
        .filter_map(runs)
        .filter(|word| word.starts_with('/') && word.ends_with("/ocihsm"))
        .peekable();
    let first = named.peek()?.clone();
    let can_run = named.any(|path| is_executable(Path::new(&path)));
    (!can_run).then_some(first)
}

/// The first bytes of a file, enough for an ELF header and for the first line of a script (`BINPRM_BUF_SIZE`).
fn beginning(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(256).read_to_end(&mut head)?;
    Ok(head)
}

/// What kind of machine an ELF file is for: class, byte order, and `e_machine`.
fn machine(head: &[u8]) -> Option<[u8; 4]> {
    let number = head.get(18..20)?;
    Some([head[4], head[5], number[0], number[1]])
}

fn holds(path: &Path, text: &[u8]) -> io::Result<bool> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_PROGRAM)
        .read_to_end(&mut bytes)?;
    Ok(memmem::find(&bytes, text).is_some())
}

/// Looks at the content, since a name says nothing.
fn recognize(path: &Path) -> io::Result<Program> {
    let program = File::open(path)?;
    // Also where the file that we were started from was replaced.
    let us = File::open(US)?;
    let (theirs, ours) = (program.metadata()?, us.metadata()?);
    let is_same_file = (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino());
    if is_same_file || (theirs.len() == ours.len() && are_alike(&program, &us)?) {
        return Ok(Program::Ours);
    }
    let is_build = beginning(path)?.starts_with(ELF) && holds(path, ABOUT.as_bytes())?;
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

    #[test]
    fn a_script_runs_what_its_lines_begin_with() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("wrapper");
        for (line, missing) in [
            ("exec /absent/ocihsm \"$@\"", true),
            ("A=b exec '/absent/ocihsm' \"$@\"", true),
            ("exec env A=/srv/ocihsm /absent/ocihsm", true),
            (
                "export OCIHSM_RUNTIME_DIR=/var/lib/ocihsm\nexec ocihsm \"$@\"",
                false,
            ),
            ("cd /var/lib/ocihsm", false),
            ("# /absent/ocihsm", false),
        ] {
            fs::write(&script, format!("#!/bin/sh\n{line}\n")).unwrap();
            let found = missing_target(&script);
            assert_eq!(
                found,
                missing.then(|| "/absent/ocihsm".to_owned()),
                "{line}"
            );
        }
    }
}
