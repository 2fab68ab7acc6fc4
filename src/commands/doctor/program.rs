//! The program that a stream processor runs: whether it is there, whether it is ours and starts, and who may change it.
//!
//! Its content tells what it is. It is run only where it is ocihsm and nobody else may change it, and asked for its version.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use memchr::memmem;

use super::access::{check_owner, open_to_others};
use super::findings::Findings;
use super::kind::{self, Kind};
use super::script::Script;
use super::trial;
use crate::commands::decode::ABOUT;
use crate::node::section::{Section, find, is_executable, is_on_noexec, usual_environment};

/// Most bytes of a program that are looked through.
const MAX_PROGRAM: u64 = 256 << 20;

/// Length of a script from which on it is not judged, in bytes.
const MAX_SCRIPT: u64 = 64 << 10;

const ELF: &[u8] = b"\x7fELF";

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
    let looks = look(&path, &variables);
    if let Ok(Looks::Script(Some(target))) = &looks {
        check_owner(findings, kind::PROGRAM_OWNER, target);
    }
    match looks {
        Ok(Looks::Like(program)) => return program,
        Ok(Looks::Reference) => findings.warn(
            kind::PROGRAM_FOREIGN,
            format!(
                "{name}: {} is imgcrypt's decoder, not ocihsm",
                path.display()
            ),
            "leave it, if another decoder is meant; else put ocihsm there",
        ),
        Ok(Looks::Script(_)) => findings.warn(
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

/// What a program looks like in which no fault was found.
enum Looks {
    Like(Program),
    /// imgcrypt's decoder.
    Reference,
    /// A script, and what it surely starts. Whether it does all else that it has to, only running it would tell.
    Script(Option<PathBuf>),
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

    fn foreign(text: String) -> Self {
        Self::new(
            kind::PROGRAM_FOREIGN,
            text,
            "put ocihsm there, or correct `path`",
        )
    }
}

/// Looks at the content, since a name says nothing.
fn look(path: &Path, environment: &BTreeMap<String, String>) -> Result<Looks, Fault> {
    let shown = path.display();
    let unreadable = |error: io::Error| Fault::foreign(format!("{shown} cannot be read: {error}"));
    if is_ours(path).map_err(unreadable)? {
        return Ok(Looks::Like(Program::Ours));
    }
    let head = beginning(path, MAX_SCRIPT).map_err(unreadable)?;
    if head.starts_with(b"#!") {
        return look_at_script(path, &head, environment);
    }
    if !head.starts_with(ELF) {
        let text = format!("{shown} is no program for Linux, and does not start");
        return Err(Fault::foreign(text));
    }
    check_machine(path, &head)?;
    let bytes = beginning(path, MAX_PROGRAM).map_err(unreadable)?;
    let holds = |text: &str| memmem::find(&bytes, text.as_bytes()).is_some();
    if holds(ABOUT) {
        check_start(path, environment)?;
        return Ok(Looks::Like(Program::AnotherBuild));
    }
    match holds(REFERENCE) {
        true => Ok(Looks::Reference),
        false => Err(Fault::foreign(format!(
            "{shown} is another program than ocihsm"
        ))),
    }
}

fn check_machine(path: &Path, head: &[u8]) -> Result<(), Fault> {
    let us = beginning(Path::new(US), MAX_SCRIPT).ok();
    match machine(head) {
        None => Err(Fault::new(
            kind::PROGRAM_BROKEN,
            format!("{} is cut off, and does not start", path.display()),
            "install it again",
        )),
        machine if machine == us.as_deref().and_then(self::machine) => Ok(()),
        _ => Err(Fault::new(
            kind::PROGRAM_MACHINE,
            format!(
                "{} is a program for another kind of machine, and does not start",
                path.display()
            ),
            format!("put an ocihsm for {} there", std::env::consts::ARCH),
        )),
    }
}

/// Whether ocihsm starts: it may be cut off, or lack a library. It is not run where somebody else may change it, which is
/// said, or where the environment has other libraries loaded with it.
fn check_start(path: &Path, environment: &BTreeMap<String, String>) -> Result<(), Fault> {
    let usual = usual_environment();
    let loads_others = |(name, value): (&String, &String)| {
        name.starts_with("LD_") && usual.get(name) != Some(value)
    };
    if environment.iter().any(loads_others) || !matches!(open_to_others(path), Ok(None)) {
        return Ok(());
    }
    let why = match trial::run(Command::new(path).arg("--version").env_clear(), &[]) {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => format!("it ended with {status}"),
        Err(why) => why,
    };
    Err(Fault::new(
        kind::PROGRAM_BROKEN,
        format!("{} does not start: {why}", path.display()),
        format!(
            "`{} --version` says more; install ocihsm there again, one that is built for this distribution",
            path.display()
        ),
    ))
}

fn look_at_script(
    path: &Path,
    head: &[u8],
    environment: &BTreeMap<String, String>,
) -> Result<Looks, Fault> {
    let shown = path.display();
    let fault = |text: String, mend: &str| Err(Fault::new(kind::PROGRAM_SCRIPT, text, mend));
    let script = Script::new(head);
    if let Some(name) = script.missing_interpreter(environment) {
        let text =
            format!("{shown} is a script for {name:?}, which is not there, so it does not start");
        return match name.ends_with('\r') {
            true => fault(text, "write it with the line ends of Unix"),
            false => fault(text, "correct its first line, or put ocihsm there"),
        };
    }
    let interpreter = script.interpreter();
    // One that may not be read can still be run.
    let its_head = beginning(&interpreter, MAX_SCRIPT).ok();
    if let Some(head) = its_head.as_deref().filter(|head| head.starts_with(ELF)) {
        check_machine(&interpreter, head)?;
    } else if its_head.is_some_and(|head| !head.starts_with(b"#!")) {
        let text = format!(
            "{shown} is a script for {}, which is no program, so it does not start",
            interpreter.display()
        );
        return fault(text, "correct its first line, or put ocihsm there");
    }
    if head.len() as u64 == MAX_SCRIPT {
        return Ok(Looks::Script(None));
    }
    if !script.starts_something() {
        let text = format!("{shown} is a script that starts no ocihsm");
        return Err(Fault::foreign(text));
    }
    if !script.is_readable() {
        let text = format!("{shown} is a script that its shell cannot read");
        return fault(
            text,
            "correct what its shell says of it with -n, or let `path` be ocihsm itself",
        );
    }
    let Some(target) = script.target() else {
        return Ok(Looks::Script(None));
    };
    let Some(found) = find(target, environment).filter(|path| is_executable(path)) else {
        let text = format!(
            "{shown} is a script that starts {target}, which is not there or not executable"
        );
        return fault(text, "correct that in it, or let `path` be ocihsm itself");
    };
    if let Ok(head) = beginning(&found, MAX_SCRIPT)
        && head.starts_with(ELF)
    {
        check_machine(&found, &head)?;
    }
    Ok(Looks::Script(Some(found)))
}

/// So many bytes of a file, or all of it.
fn beginning(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What kind of machine an ELF file is for: class, byte order, and `e_machine`.
fn machine(head: &[u8]) -> Option<[u8; 4]> {
    let number = head.get(18..20)?;
    Some([head[4], head[5], number[0], number[1]])
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
                Ok(Looks::Script(_)) => "a script".to_owned(),
                Err(fault) => fault.kind.id.to_owned(),
            }
        };
        assert_eq!(program(&sound), "Ours");
        assert_eq!(program(&fs::read("/bin/true").unwrap()), "program-foreign");
        assert_eq!(program(b""), "program-foreign");
        assert_eq!(program(ELF), "program-broken");
        assert_eq!(program(b"#!/bin/sh\nexec \"$bin/ocihsm\"\n"), "a script");
        let script = format!("#!/bin/sh\n# {ABOUT}\n");
        assert_eq!(program(script.as_bytes()), "program-foreign");
        let long = [b"#!/bin/sh\n", &[b'#'; MAX_SCRIPT as usize][..]].concat();
        assert_eq!(program(&long), "a script");
    }

    #[test]
    fn what_a_script_starts_is_looked_at_too() {
        let dir = tempfile::tempdir().unwrap();
        let [target, script] = ["ocihsm", "wrapper"].map(|name| dir.path().join(name));
        let starts = |program: &Path| {
            let text = format!("#!/bin/sh\nexec {} \"$@\"\n", program.display());
            fs::write(&script, text).unwrap();
            look(&script, &BTreeMap::new())
        };
        let looks = starts(Path::new("/bin/cat"));
        assert!(matches!(looks, Ok(Looks::Script(Some(_)))));
        let us = std::env::current_exe().unwrap();
        fs::copy(&us, &target).unwrap();
        let mut other = fs::read(&us).unwrap();
        other[18] ^= 1;
        fs::write(&target, other).unwrap();
        let fault = starts(&target).err().unwrap();
        assert_eq!(fault.kind, kind::PROGRAM_MACHINE);
    }
}
