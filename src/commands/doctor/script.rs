//! A script in the place of a program: what starts it, what it starts, and whether its shell can read it.
//!
//! It is read, never run. The shell is asked with `-n`, which reads commands and runs none.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::node::section::{find, is_executable};

/// Shells that understand what is looked for here, and `-n`.
const SHELLS: [&str; 3] = ["sh", "bash", "dash"];

/// Commands that run the one behind them.
const BEFORE: [&str; 3] = ["exec", "env", "command"];

/// A script.
pub(super) struct Script<'a> {
    /// Its interpreter as the kernel takes it from the first line.
    interpreter: &'a str,
    /// What stands behind it: one argument.
    argument: &'a str,
    text: &'a str,
}

/// Why it does not start, or starts nothing that is there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// What starts it is not there.
    Interpreter(String),
    /// Its shell cannot read it.
    Syntax,
    /// It starts this, which is not there or not executable.
    Target(String),
}

impl<'a> Script<'a> {
    /// Takes it apart (execve(2), "Interpreter scripts"); text begins with `#!`.
    pub(super) fn new(text: &'a str) -> Self {
        let line = text.split('\n').next().unwrap_or_default();
        let is_space = [' ', '\t'];
        let line = line.trim_start_matches("#!").trim_matches(is_space);
        let (interpreter, argument) = line.split_once(is_space).unwrap_or((line, ""));
        Self {
            interpreter,
            argument: argument.trim_matches(is_space),
            text,
        }
    }

    /// Looks for what keeps it from working in this environment.
    pub(super) fn fault(&self, environment: &BTreeMap<String, String>) -> Option<Fault> {
        if !is_executable(Path::new(self.interpreter)) {
            return Some(Fault::Interpreter(self.interpreter.to_owned()));
        }
        let name = self.interpreter_name();
        if !is_there(name, environment) {
            return Some(Fault::Interpreter(name.to_owned()));
        }
        let name = Path::new(name).file_name()?.to_str()?;
        if !SHELLS.contains(&name) {
            return None;
        }
        let targets = self.targets();
        if let Some(first) = targets.first()
            && !targets.iter().any(|target| is_there(target, environment))
        {
            return Some(Fault::Target((*first).to_owned()));
        }
        (!is_readable(name, self.text)).then_some(Fault::Syntax)
    }

    /// Whether a line that is no comment names ocihsm.
    pub(super) fn names_ocihsm(&self) -> bool {
        self.lines().any(|line| line.contains("ocihsm"))
    }

    /// The program that it starts, if there is one alone and it is there.
    pub(super) fn target(&self, environment: &BTreeMap<String, String>) -> Option<PathBuf> {
        match self.targets()[..] {
            [one] => find(one, environment).filter(|path| is_executable(path)),
            _ => None,
        }
    }

    /// The interpreter, or what `env` finds for it.
    fn interpreter_name(&self) -> &str {
        if Path::new(self.interpreter).file_name() != Some("env".as_ref()) {
            return self.interpreter;
        }
        let name = match self.argument.strip_prefix("-S") {
            // More words than one, and perhaps variables before them.
            Some(words) => words.split_whitespace().find(|word| !word.contains('=')),
            None => Some(self.argument),
        };
        name.filter(|name| !name.is_empty() && !name.starts_with('-'))
            .unwrap_or(self.interpreter)
    }

    fn lines(&self) -> impl Iterator<Item = &'a str> {
        let lines = self.text.lines();
        lines.filter(|line| !line.trim_start().starts_with('#'))
    }

    /// What it starts in its own place, and each ocihsm that it starts, as far as that is written out and stays the same
    /// wherever the script goes.
    fn targets(&self) -> Vec<&'a str> {
        if self.text.contains("<<") {
            return Vec::new(); // Lines of it may be text.
        }
        let sets_path = self.text.contains("PATH=");
        let runs = |line: &'a str| {
            let mut is_exec = false;
            let mut is_before = |word: &&str| {
                is_exec |= *word == "exec";
                BEFORE.contains(word) || word.contains('=')
            };
            let word = line.split_whitespace().find(|word| !is_before(word))?;
            let name = word.trim_end_matches(';').trim_matches(['"', '\'']);
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
            let is_name = match name.contains('/') {
                true => name.starts_with('/'),
                false => !sets_path && name.starts_with(|c: char| c.is_ascii_alphanumeric()),
            };
            let is_wanted = is_exec || name == "ocihsm" || name.ends_with("/ocihsm");
            (is_wanted && is_name && name.chars().all(is_plain)).then_some(name)
        };
        self.lines().filter_map(runs).collect()
    }
}

fn is_there(name: &str, environment: &BTreeMap<String, String>) -> bool {
    find(name, environment).is_some_and(|path| is_executable(&path))
}

/// Whether a shell of this name can read the text. One that cannot be asked is believed.
fn is_readable(shell: &str, text: &str) -> bool {
    if text.contains(['\0', char::REPLACEMENT_CHARACTER]) {
        return true; // It may end before what is no text.
    }
    let started = Command::new(Path::new("/bin").join(shell))
        .arg("-n")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = started else {
        return true;
    };
    if let Some(mut input) = child.stdin.take() {
        // A shell that has seen enough reads no more.
        let _ = input.write_all(text.as_bytes());
    }
    child.wait().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Option<Fault> {
        let environment = [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into();
        Script::new(text).fault(&environment)
    }

    #[test]
    fn what_starts_it_has_to_be_there() {
        let interpreter = |name: &str| Some(Fault::Interpreter(name.to_owned()));
        for (line, expected) in [
            ("#!/bin/sh", None),
            ("#! /bin/sh -e", None),
            ("#!/bin/sh\r", interpreter("/bin/sh\r")),
            ("#!/bin/nosuchshell", interpreter("/bin/nosuchshell")),
            ("#!", interpreter("")),
            ("#!/usr/bin/env bash", None),
            ("#!/usr/bin/env nosuchshell", interpreter("nosuchshell")),
            ("#!/usr/bin/env sh -e", interpreter("sh -e")),
            ("#!/usr/bin/env -S A=b sh -e", None),
            (
                "#!/usr/bin/env -S nosuchshell -e",
                interpreter("nosuchshell"),
            ),
            ("#!/usr/bin/env -i sh", None),
        ] {
            assert_eq!(fault(&format!("{line}\ntrue\n")), expected, "{line:?}");
        }
    }

    #[test]
    fn what_it_starts_has_to_be_there() {
        let target = |name: &str| Some(Fault::Target(name.to_owned()));
        let absent = || target("/absent/ocihsm");
        for (lines, expected) in [
            ("exec /absent/ocihsm \"$@\"", absent()),
            ("A=b exec '/absent/ocihsm' \"$@\"", absent()),
            ("exec env A=/srv/ocihsm /absent/ocihsm", absent()),
            ("/absent/ocihsm;", absent()),
            ("exec ocihsm-absent \"$@\"", target("ocihsm-absent")),
            ("[ -x /absent/ocihsm ] || exec cat", None),
            ("exec /absent/ocihsm\nexec /bin/cat", None),
            ("exec 2>/dev/null\nexec \"$program\"", None),
            ("exec -a ocihsm cat", None),
            ("cd /var/lib/ocihsm", None),
            ("cd /opt\nexec ./ocihsm", None),
            ("PATH=/opt:$PATH\nexec ocihsm-elsewhere", None),
            ("cat <<end\nexec absent\nend\nexec cat", None),
            ("# /absent/ocihsm", None),
        ] {
            assert_eq!(fault(&format!("#!/bin/sh\n{lines}\n")), expected, "{lines}");
        }
        // What another language means by it is not known.
        assert_eq!(fault("#!/usr/bin/env env\nexec absent\n"), None);
    }

    #[test]
    fn its_shell_can_read_it() {
        assert_eq!(fault("#!/bin/sh\nif true; then\n"), Some(Fault::Syntax));
        assert_eq!(fault("#!/bin/bash\nexec cat <(true)\n"), None);
        assert_eq!(fault("#!/bin/sh\ntouch /absent/directory/file\n"), None);
    }

    #[test]
    fn a_comment_starts_nothing() {
        let names = |text| Script::new(text).names_ocihsm();
        assert!(names("#!/bin/sh\nexec \"$HOME/ocihsm\"\n"));
        assert!(!names("#!/bin/sh\n  # ocihsm\nexit 1\n"));
    }
}
