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
use super::elf;
use super::findings::Findings;
use super::kind::{self, Kind};
use super::script::{self, Script};
use crate::commands::decode::ABOUT;
use crate::node::section::{Section, is_executable, is_on_noexec};

/// Most bytes of a program that are looked through.
const MAX_PROGRAM: u64 = 256 << 20;

/// The file that we were started from.
const US: &str = "/proc/self/exe";
/// Stands in imgcrypt's programs, as Go notes where a program is from.
const REFERENCE: &str = "github.com/containerd/imgcrypt";

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
    install: &str,
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
        let (text, mend) = match is_on_noexec(&path) {
            true => (
                "it is on a file system that is mounted noexec",
                "put it elsewhere, for instance in /usr/local/bin".to_owned(),
            ),
            false => (
                "it is not executable",
                format!("chmod 755 {}", path.display()),
            ),
        };
        findings.fail(
            kind::PROGRAM_NOT_EXECUTABLE,
            format!("{name}: {text}"),
            mend,
        );
        return Program::Missing;
    }
    check_owner(findings, kind::PROGRAM_OWNER, &path);
    let mut variables = environment.clone();
    variables.extend(section.variables());
    match look(&path, &variables) {
        Ok(Looks::Like(program)) => return program,
        Ok(Looks::Reference) => findings.warn(
            kind::PROGRAM_FOREIGN,
            format!(
                "{name}: {} is imgcrypt's decoder, not ocihsm",
                path.display()
            ),
            "leave it, if another decoder is meant; else put ocihsm there",
        ),
        Ok(Looks::Script) => findings.warn(
            kind::PROGRAM_SCRIPT,
            format!(
                "{name}: {} is a script, and what it does is not checked",
                path.display()
            ),
            "let `path` be ocihsm itself: what it needs can stand in `args` and `env`",
        ),
        Err(Fault { kind, text, mend }) => findings.fail(kind, format!("{name}: {text}"), mend),
    }
    Program::Foreign
}

/// What a program that starts looks like.
enum Looks {
    Like(Program),
    /// imgcrypt's decoder.
    Reference,
    /// A script that may well start ocihsm; whether it does, only running it would tell.
    Script,
}

/// Why a program is of no use.
struct Fault {
    kind: Kind,
    text: String,
    mend: String,
}

impl Fault {
    fn new(kind: Kind, text: String, mend: impl Into<String>) -> Self {
        let mend = mend.into();
        Self { kind, text, mend }
    }
}

/// Looks at the content, since a name says nothing.
fn look(path: &Path, environment: &BTreeMap<String, String>) -> Result<Looks, Fault> {
    const PUT: &str = "put ocihsm there, or correct `path`";
    let shown = path.display();
    let unreadable = |error: io::Error| {
        let text = format!("{shown} cannot be read: {error}");
        Fault::new(kind::PROGRAM_FOREIGN, text, "put ocihsm there")
    };
    if is_ours(path).map_err(unreadable)? {
        return Ok(Looks::Like(Program::Ours));
    }
    let bytes = content(path).map_err(unreadable)?;
    if bytes.starts_with(b"#!") {
        return look_at_script(path, &String::from_utf8_lossy(&bytes), environment);
    }
    look_at_binary(path, &bytes)?;
    let holds = |text: &str| memmem::find(&bytes, text.as_bytes()).is_some();
    if holds(ABOUT) {
        return Ok(Looks::Like(Program::AnotherBuild));
    }
    if holds(REFERENCE) {
        return Ok(Looks::Reference);
    }
    let text = format!("{shown} is another program than ocihsm");
    Err(Fault::new(kind::PROGRAM_FOREIGN, text, PUT))
}

/// Whether the kernel starts it.
fn look_at_binary(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    let shown = path.display();
    if !bytes.starts_with(elf::MAGIC) {
        let text = format!("{shown} is no program for Linux, and does not start");
        return Err(Fault::new(kind::PROGRAM_FOREIGN, text, "put ocihsm there"));
    }
    match elf::fault(path, Path::new(US)) {
        None => Ok(()),
        Some(elf::Fault::Machine) => Err(Fault::new(
            kind::PROGRAM_MACHINE,
            format!("{shown} is a program for another kind of machine, and does not start"),
            format!("put an ocihsm for {} there", std::env::consts::ARCH),
        )),
        Some(elf::Fault::Broken) => Err(Fault::new(
            kind::PROGRAM_BROKEN,
            format!("{shown} is not whole, and does not start"),
            "install ocihsm there again",
        )),
        Some(elf::Fault::Loader(loader)) => Err(Fault::new(
            kind::PROGRAM_BROKEN,
            format!(
                "{shown} wants to be loaded by {}, which is not there, so it does not start",
                loader.display()
            ),
            "put an ocihsm there that was built for this distribution",
        )),
    }
}

fn look_at_script(
    path: &Path,
    text: &str,
    environment: &BTreeMap<String, String>,
) -> Result<Looks, Fault> {
    let shown = path.display();
    let script = Script::new(text);
    let fault = |text: String, mend: &str| Err(Fault::new(kind::PROGRAM_SCRIPT, text, mend));
    match script.fault(environment) {
        None => {}
        Some(script::Fault::Interpreter(name)) => {
            let mend = match name.ends_with('\r') {
                true => "write it with the line ends of Unix",
                false => "correct its first line, or put ocihsm there",
            };
            let text = format!(
                "{shown} is a script for {name:?}, which is not there, so it does not start"
            );
            return fault(text, mend);
        }
        Some(script::Fault::Syntax) => {
            let text = format!("{shown} is a script that its shell cannot read");
            return fault(
                text,
                "correct what `sh -n` reports of it, or let `path` be ocihsm itself",
            );
        }
        Some(script::Fault::Target(name)) => {
            let text = format!(
                "{shown} is a script that starts {name}, which is not there or not executable"
            );
            return fault(text, "correct that in it, or let `path` be ocihsm itself");
        }
    }
    if !script.names_ocihsm() {
        let text = format!("{shown} is a script that does not name ocihsm");
        let mend = "put ocihsm there, or correct `path`";
        return Err(Fault::new(kind::PROGRAM_FOREIGN, text, mend));
    }
    if let Some(target) = script.target(environment)
        && let Ok(bytes) = content(&target)
        && !bytes.starts_with(b"#!")
    {
        look_at_binary(&target, &bytes)?;
    }
    Ok(Looks::Script)
}

/// The beginning of a program, long enough for all of ocihsm.
fn content(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_PROGRAM)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether it is the file that we were started from, or a copy.
fn is_ours(path: &Path) -> io::Result<bool> {
    let program = File::open(path)?;
    // Also where the file that we were started from was replaced.
    let us = File::open(US)?;
    let (theirs, ours) = (program.metadata()?, us.metadata()?);
    let is_same_file = (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino());
    Ok(is_same_file || (theirs.len() == ours.len() && are_alike(&program, &us)?))
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
        let us = std::env::current_exe().unwrap();
        let sound = fs::read(&us).unwrap();
        let path = dir.path().join("ocihsm");
        let program = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            match look(&path, &BTreeMap::new()) {
                Ok(Looks::Like(program)) => format!("{program:?}"),
                Ok(Looks::Reference) => "imgcrypt's".to_owned(),
                Ok(Looks::Script) => "a script".to_owned(),
                Err(fault) => fault.kind.id.to_owned(),
            }
        };
        assert_eq!(program(&sound), "Ours");
        assert_eq!(program(&[&sound, &b".."[..]].concat()), "AnotherBuild");
        assert_eq!(program(&sound[..sound.len() / 2]), "program-broken");
        assert_eq!(program(&fs::read("/bin/true").unwrap()), "program-foreign");
        assert_eq!(program(b""), "program-foreign");
        assert_eq!(program(b"#!/bin/sh\nexec \"$bin/ocihsm\"\n"), "a script");
        let script = format!("#!/bin/sh\n# {ABOUT}\n");
        assert_eq!(program(script.as_bytes()), "program-foreign");
    }

    #[test]
    fn what_a_script_starts_is_looked_at_too() {
        let dir = tempfile::tempdir().unwrap();
        let [target, script] = ["ocihsm", "wrapper"].map(|name| dir.path().join(name));
        let text = format!("#!/bin/sh\nexec {} \"$@\"\n", target.display());
        fs::write(&script, text).unwrap();
        let us = std::env::current_exe().unwrap();
        fs::copy(&us, &target).unwrap();
        assert!(matches!(look(&script, &BTreeMap::new()), Ok(Looks::Script)));
        let mut other = fs::read(&us).unwrap();
        other[18] ^= 1;
        fs::write(&target, other).unwrap();
        let Err(fault) = look(&script, &BTreeMap::new()) else {
            panic!("it starts");
        };
        assert_eq!(fault.kind, kind::PROGRAM_MACHINE);
    }
}
