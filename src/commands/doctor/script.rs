//! A script in the place of a program: what starts it, what it starts, and whether its shell can read it.
//!
//! It is read, never run, and what it does is mostly left open: here is said only what is sure. The shell is asked with
//! `-n`, which reads commands and runs none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::trial;
use crate::node::section::{Section, find, is_executable};

/// Shells that understand what is looked for here, and `-n`.
const SHELLS: [&str; 3] = ["sh", "bash", "dash"];

/// Commands that run the one behind them.
const BEFORE: [&str; 3] = ["exec", "env", "command"];

/// What stands in each shell script that may come to start a decoder.
const STARTS: [&str; 7] = ["ocihsm", "decoder", "exec", "$@", "$*", "${@", "${*"];

/// Bytes of the first line that the kernel looks at (`BINPRM_BUF_SIZE`).
const FIRST_LINE: usize = 256;

/// A script.
pub(super) struct Script<'a> {
    /// What starts it, as the kernel takes it from the first line (execve(2), "Interpreter scripts").
    interpreter: String,
    /// What stands behind that: one argument.
    argument: String,
    bytes: &'a [u8],
    text: String,
}

impl<'a> Script<'a> {
    /// Takes it apart; it begins with `#!`.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let line = &bytes[2..bytes.len().min(FIRST_LINE)];
        let line = line.split(|byte| b"\n\0".contains(byte)).next();
        let line = String::from_utf8_lossy(line.unwrap_or_default());
        let is_space = [' ', '\t'];
        let line = line.trim_matches(is_space);
        let (interpreter, argument) = line.split_once(is_space).unwrap_or((line, ""));
        Self {
            interpreter: interpreter.to_owned(),
            argument: argument.trim_matches(is_space).to_owned(),
            bytes,
            text: String::from_utf8_lossy(bytes).into_owned(),
        }
    }

    pub(super) fn interpreter(&self) -> PathBuf {
        Section::absolute(&self.interpreter)
    }

    /// The interpreter, or what `env` has to find for it, if it is not there.
    pub(super) fn missing_interpreter(
        &self,
        environment: &BTreeMap<String, String>,
    ) -> Option<&str> {
        if !is_executable(&self.interpreter()) {
            return Some(&self.interpreter);
        }
        self.found_by_env()
            .filter(|name| !find(name, environment).is_some_and(|path| is_executable(&path)))
    }

    /// Whether it may start anything at all.
    pub(super) fn starts_something(&self) -> bool {
        let starts = |line: &str| STARTS.iter().any(|word| line.contains(word));
        self.shell().is_none() || self.lines().any(|line| starts(line) || sources(line))
    }

    /// Whether its shell can read it, or at least what stands before a line that ends it. A shell that cannot be asked is
    /// believed.
    pub(super) fn is_readable(&self) -> bool {
        let Some(shell) = self.shell() else {
            return true;
        };
        if self.bytes.contains(&0) || (shell != "bash" && self.text.contains("bash")) {
            return true; // Another one may come to read it.
        }
        let reads = |bytes: &[u8]| {
            let mut command = Command::new(Path::new("/bin").join(shell));
            command.env_clear();
            if shell == "bash" {
                command.args(["-O", "extglob"]);
            }
            trial::run(command.arg("-n"), bytes).map_or(true, |status| status.success())
        };
        let ends = |line: &&[u8]| line.starts_with(b"exec ") || line.starts_with(b"exit");
        let lines = self.bytes.split_inclusive(|byte| *byte == b'\n');
        let before: usize = lines.take_while(|line| !ends(line)).map(<[u8]>::len).sum();
        reads(self.bytes) || (before < self.bytes.len() && reads(&self.bytes[..before]))
    }

    /// The program that its last line starts, where that is sure: written out, and found wherever the script goes.
    pub(super) fn target(&self) -> Option<&str> {
        self.shell()?;
        let mut lines = self.lines().filter(|line| !line.trim().is_empty());
        let last = lines.next_back()?;
        // It may never be reached, be looked for on another path, or go on from the line above.
        let is_free = |line: &str| {
            let stops = ["exec", "exit"].iter().any(|word| line.contains(word));
            stops || sources(line) || line.ends_with('\\')
        };
        let is_left_open = lines.any(is_free);
        let is_alone =
            !last.starts_with([' ', '\t']) && !last.contains(['|', '&', ';', '(', ')', '`']);
        if is_left_open || !is_alone || self.text.contains("<<") {
            return None;
        }
        let sets = |word: &str| word.contains('=') && !word.contains(['"', '\'']);
        let is_before = |word: &&str| BEFORE.contains(word) || sets(word);
        let word = last.split_whitespace().find(|word| !is_before(word))?;
        let quoted = ['"', '\'']
            .into_iter()
            .find_map(|quote| word.strip_prefix(quote)?.strip_suffix(quote));
        let name = quoted.unwrap_or(word);
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
        let renames = || {
            ["PATH=", "alias", "()", "function"]
                .iter()
                .any(|part| self.text.contains(part))
        };
        let is_meant = last.starts_with("exec ") || name.ends_with("ocihsm");
        let is_sure = match name.contains('/') {
            true => name.starts_with('/'),
            false => name.starts_with(|c: char| c.is_ascii_alphanumeric()) && !renames(),
        };
        (is_meant && is_sure && name.chars().all(is_plain)).then_some(name)
    }

    /// The name that `env` looks up, where it is given nothing else.
    fn found_by_env(&self) -> Option<&str> {
        let is_env = Path::new(&self.interpreter).file_name() == Some("env".as_ref());
        let is_name = !self.argument.is_empty()
            && !self.argument.contains('=')
            && !self.argument.starts_with('-');
        (is_env && is_name).then_some(&self.argument)
    }

    fn shell(&self) -> Option<&'static str> {
        let name = Path::new(self.found_by_env().unwrap_or(&self.interpreter)).file_name()?;
        SHELLS.into_iter().find(|shell| name == *shell)
    }

    fn lines(&self) -> impl DoubleEndedIterator<Item = &str> {
        let lines = self.text.lines();
        lines.filter(|line| !line.trim_start().starts_with('#'))
    }
}

/// Whether a line reads another script.
fn sources(line: &str) -> bool {
    line.contains("source") || line.trim_start().starts_with(". ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_starts_it_has_to_be_there() {
        let environment = [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into();
        for (line, expected) in [
            ("#!/bin/sh", None),
            ("#! \t/bin/sh -e", None),
            ("#!bin/sh", None),
            ("#!/bin/sh\0", None),
            ("#!/bin/sh\r", Some("/bin/sh\r")),
            ("#!/bin/nosuchshell", Some("/bin/nosuchshell")),
            ("#!", Some("")),
            ("#!/usr/bin/env bash", None),
            ("#!/usr/bin/env nosuchshell", Some("nosuchshell")),
            ("#!/usr/bin/env sh -e", Some("sh -e")),
            ("#!/usr/bin/env -S A=b nosuchshell -e", None),
            ("#!/usr/bin/env", None),
        ] {
            let text = format!("{line}\ntrue\n");
            let script = Script::new(text.as_bytes());
            assert_eq!(
                script.missing_interpreter(&environment),
                expected,
                "{line:?}"
            );
        }
    }

    #[test]
    fn what_its_last_line_starts_is_known_where_it_is_written_out() {
        for (lines, expected) in [
            ("exec /opt/ocihsm \"$@\"", Some("/opt/ocihsm")),
            (
                "A=b exec '/opt/ocihsm' \"$@\"\n\n# end",
                Some("/opt/ocihsm"),
            ),
            ("exec env A=/srv/ocihsm /opt/ocihsm", Some("/opt/ocihsm")),
            ("ocihsm decode", Some("ocihsm")),
            ("PATH=/opt:$PATH\nexec ocihsm", None),
            ("ocihsm() { true; }\nocihsm", None),
            ("exec \"/opt/a dir/ocihsm\"", None),
            ("exec \"$program\" \"$@\"", None),
            ("if true; then\n  exec /opt/ocihsm\nfi", None),
            ("/opt/a || exec /opt/b", None),
            ("cd /opt\nexec ./ocihsm", None),
            ("exec env A=\"one two\" /opt/ocihsm", None),
            ("if a; then\n  exec /opt/a\nfi\nexec /opt/b", None),
            (". /etc/profile\nexec ocihsm", None),
            ("cd /opt\nexec bin/ocihsm", None),
            ("cat <<end\nexec /opt/ocihsm", None),
            ("echo a \\\n/opt/ocihsm", None),
            ("exec -a ocihsm /opt/ocihsm", None),
            ("", None),
        ] {
            let text = format!("#!/bin/sh\n{lines}\n");
            assert_eq!(Script::new(text.as_bytes()).target(), expected, "{lines}");
        }
        assert_eq!(Script::new(b"#!/usr/bin/python3\nexec\n").target(), None);
    }

    #[test]
    fn its_shell_can_read_it() {
        for (text, expected) in [
            ("#!/bin/sh\nif true; then\nexec cat\n", false),
            ("#!/bin/sh\nif true; then\nexec cat\nfi\n", true),
            ("#!/bin/bash\nexec cat <(true)\n", true),
            (
                "#!/bin/bash\nshopt -s extglob\ncase $1 in !(y|z)) exec cat;; esac\n",
                true,
            ),
            ("#!/bin/sh\ntouch /absent/directory/file\n", true),
            ("#!/bin/sh\nexec cat\n)(", true),
            (
                "#!/bin/sh\n[ -n \"$BASH\" ] || exec bash \"$0\"\ncat <(true)\n",
                true,
            ),
            ("#!/usr/bin/python3\ndef f():\n  pass\n", true),
        ] {
            assert_eq!(
                Script::new(text.as_bytes()).is_readable(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn a_comment_starts_nothing() {
        for (text, expected) in [
            ("#!/bin/sh\n\"$HOME/ocihsm\"\n", true),
            ("#!/bin/sh\n  . /opt/lib.sh\n", true),
            ("#!/bin/sh\nopen-layer \"${@}\"\n", true),
            ("#!/bin/sh\nexec \"$0.real\"\n", true),
            ("#!/bin/sh\n  # exec ocihsm\nexit 1\n", false),
        ] {
            assert_eq!(
                Script::new(text.as_bytes()).starts_something(),
                expected,
                "{text}"
            );
        }
    }
}
