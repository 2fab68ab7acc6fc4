//! What was found, and how it reads: lines for people, JSON for programs.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _};
use std::iter::zip;
use std::path::Path;

use nix::unistd::geteuid;
use serde::Serialize;

use super::kind::Kind;
use crate::commands::{Error, Result};
use crate::content_store;
use crate::escape::escaped;
use crate::hsm;
use crate::{file, keys, node, settings};

/// Everything that was found, in order.
#[derive(Debug, Default)]
pub(super) struct Findings {
    findings: Vec<Finding>,
    /// Which containerds are looked at, if there are several.
    containerds: Vec<String>,
}

/// How findings are told to programs; `docs/findings.md` describes it.
#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    #[serde(flatten)]
    counts: Counts,
    findings: &'a [Finding],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Counts {
    ok: usize,
    warnings: usize,
    failed: usize,
}

/// Whether the words for good and bad are in colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    On,
    Off,
}

impl Colour {
    /// On a terminal, unless NO_COLOR asks for none (no-color.org).
    pub(super) fn wanted() -> Self {
        let refused = settings::variable("NO_COLOR").is_some_and(|value| !value.is_empty());
        match io::stdout().is_terminal() && !refused {
            true => Self::On,
            false => Self::Off,
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    level: Level,
    /// The configurations of the containerds that it is about, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    containerds: Vec<String>,
    id: &'static str,
    subject: &'static str,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
    /// What is to be written into the file that `mend` names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lines: Vec<String>,
}

impl Findings {
    /// What follows is about the containerds with these configurations, or about none of several.
    pub(super) fn about(&mut self, containerds: &[&Path]) {
        let names = containerds.iter();
        self.containerds = names
            .map(|path| escaped(&path.display().to_string()))
            .collect();
    }

    /// As it should be.
    pub(super) fn ok(&mut self, kind: Kind, text: String) {
        self.push(Level::Ok, kind, text, None);
    }

    /// It works, but not for everything, or not well.
    pub(super) fn warn(&mut self, kind: Kind, text: String, mend: impl Into<String>) {
        self.push(Level::Warn, kind, text, Some(mend.into()));
    }

    /// Layers will not be opened, or a secret or the node itself is open to others.
    pub(super) fn fail(&mut self, kind: Kind, text: String, mend: impl Into<String>) {
        self.push(Level::Fail, kind, text, Some(mend.into()));
    }

    /// As [`Findings::fail`], with lines to write into the file that `mend` names.
    pub(super) fn fail_with_lines(
        &mut self,
        kind: Kind,
        text: String,
        mend: String,
        lines: Vec<String>,
    ) {
        self.push(Level::Fail, kind, text, Some(mend));
        if let Some(finding) = self.findings.last_mut().filter(|one| one.id == kind.id) {
            finding.lines = lines.iter().map(|line| escaped(line)).collect();
        }
    }

    /// What the decoder would fail with. `mend` stands where the error has no hint of its own.
    pub(super) fn error(&mut self, kind: Kind, error: &impl Trouble, mend: &str) {
        let mend = match error.is_denied() {
            true => DENIED[usize::from(geteuid().is_root())].to_owned(),
            false => error.hint().unwrap_or_else(|| mend.to_owned()),
        };
        self.fail(kind, error.to_string(), mend);
    }

    /// Whether anything was said of this.
    pub(super) fn mention(&self, subject: &str) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.subject == subject)
    }

    fn push(&mut self, level: Level, kind: Kind, text: String, mend: Option<String>) {
        let finding = Finding {
            level,
            containerds: self.containerds.clone(),
            id: kind.id,
            subject: kind.subject,
            text: escaped(&text),
            mend: mend.map(|mend| escaped(&mend)),
            lines: Vec::new(),
        };
        // What several sections, keys or decoders share is said once.
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// One line for each, and below it how to mend it, once for those in a row that have it in common; above those of each
    /// containerd which it is, if there are several; below all of them how many there are.
    pub(super) fn to_text(&self, colour: Colour) -> String {
        let mut text = String::new();
        let mut about: &[String] = &[];
        let nexts = self.findings.iter().skip(1).map(Some).chain([None]);
        for (finding, next) in zip(&self.findings, nexts) {
            let (level, code) = match finding.level {
                Level::Ok => ("ok  ", 32),
                Level::Warn => ("warn", 33),
                Level::Fail => ("fail", 31),
            };
            let level = match colour {
                Colour::On => format!("\x1b[{code}m{level}\x1b[0m"),
                Colour::Off => level.to_owned(),
            };
            if finding.containerds != about {
                about = &finding.containerds;
                let _ = match about {
                    [] => writeln!(text, "Each of them:"),
                    [file] => writeln!(text, "The containerd with {file}:"),
                    files => writeln!(text, "The containerds with {}:", files.join(" and ")),
                };
            }
            let _ = writeln!(text, "{level}  {}: {}", finding.subject, finding.text);
            let has_same_mend = |next: &Finding| {
                (&next.mend, &next.containerds) == (&finding.mend, &finding.containerds)
            };
            let is_told_below = finding.lines.is_empty() && next.is_some_and(has_same_mend);
            if let Some(mend) = finding.mend.as_ref().filter(|_| !is_told_below) {
                let _ = writeln!(text, "      -> {mend}");
            }
            for line in &finding.lines {
                let _ = writeln!(text, "         {line}");
            }
        }
        let Counts {
            ok,
            warnings,
            failed,
        } = self.counts();
        let plural = if warnings == 1 { "" } else { "s" };
        let _ = writeln!(text, "{ok} ok, {warnings} warning{plural}, {failed} failed");
        text
    }

    /// One JSON object.
    pub(super) fn to_json(&self) -> String {
        let report = Report {
            version: 1,
            counts: self.counts(),
            findings: &self.findings,
        };
        let mut text = serde_json::to_string_pretty(&report)
            .expect("numbers, strings and lists of strings are always JSON");
        text.push('\n');
        text
    }

    /// An error if anything failed; with `strict` also if there was a warning.
    pub(super) fn verdict(&self, strict: bool) -> Result<()> {
        let counts = self.counts();
        let failed = counts.failed + if strict { counts.warnings } else { 0 };
        if failed == 0 {
            return Ok(());
        }
        Err(Error::Unhealthy {
            failed,
            checked: self.findings.len(),
        })
    }

    fn counts(&self) -> Counts {
        let of = |level| {
            let findings = self.findings.iter();
            findings.filter(|finding| finding.level == level).count()
        };
        Counts {
            ok: of(Level::Ok),
            warnings: of(Level::Warn),
            failed: of(Level::Fail),
        }
    }
}

/// What to do where the system refuses another user, and root.
const DENIED: [&str; 2] = [
    "run doctor as root, as containerd runs its decoder",
    "root itself may not: look at how it is mounted, and at AppArmor or SELinux",
];

/// An error of any room that can be a finding.
pub(super) trait Trouble: fmt::Display {
    /// What to do about it, where the room knows.
    fn hint(&self) -> Option<String>;

    /// Whether the system refuses this user.
    fn is_denied(&self) -> bool;
}

/// Implements it by the room's own hint.
macro_rules! trouble {
    ($error:ty, $denied:expr) => {
        impl Trouble for $error {
            fn hint(&self) -> Option<String> {
                self.hint()
            }

            fn is_denied(&self) -> bool {
                let denied: fn(&Self) -> bool = $denied;
                denied(self)
            }
        }
    };
}

trouble!(file::Error, |error| error.is_denied());
trouble!(content_store::Error, |error| matches!(
    error,
    content_store::Error::Failed { source, .. } if source.kind() == io::ErrorKind::PermissionDenied
));
trouble!(keys::Error, |error| match error {
    keys::Error::InFile(error) => error.is_denied(),
    keys::Error::InKeyFile { source, .. } => source.is_denied(),
    _ => false,
});
trouble!(node::Error, |error| match error {
    node::Error::InFile(error) => error.is_denied(),
    _ => false,
});
trouble!(settings::Error, |_| false);
trouble!(hsm::Error, |error| match error {
    hsm::Error::InFile { source } => source.is_denied(),
    hsm::Error::InKeyFile { source, .. } => source.is_denied(),
    hsm::Error::PinFile { source } => source.is_denied(),
    _ => false,
});
trouble!(Error, |error| match error {
    Error::InFile(error) => error.is_denied(),
    _ => false,
});

#[cfg(test)]
mod tests {
    use super::super::kind;
    use super::*;

    #[test]
    fn warnings_alone_are_no_failure_unless_strict() {
        let mut findings = Findings::default();
        findings.ok(kind::KEYS, "a".to_owned());
        assert!(findings.verdict(true).is_ok());
        findings.warn(kind::KEYS, "b".to_owned(), "c");
        assert!(findings.verdict(false).is_ok() && findings.verdict(true).is_err());
        findings.fail(kind::KEYS_EMPTY, "d\u{1b}".to_owned(), "e");
        let error = findings.verdict(false).unwrap_err();
        assert_eq!(error.to_string(), "1 of 3 checks failed");
        assert_eq!(
            findings.to_text(Colour::Off),
            "ok    keys: a\nwarn  keys: b\n      -> c\nfail  keys: d\\u{1b}\n      -> e\n1 ok, 1 warning, 1 failed\n"
        );
        assert!(
            findings
                .to_text(Colour::On)
                .starts_with("\x1b[32mok  \x1b[0m  keys: a\n")
        );
        let json: serde_json::Value = serde_json::from_str(&findings.to_json()).unwrap();
        assert_eq!((&json["version"], &json["failed"]), (&1.into(), &1.into()));
        assert_eq!(json["findings"][2]["id"], "keys-empty");
    }

    #[test]
    fn a_mend_that_several_in_a_row_have_is_printed_once() {
        let mut findings = Findings::default();
        findings.fail(kind::KEYS_EMPTY, "a".to_owned(), "x");
        findings.warn(kind::LOG, "b".to_owned(), "x");
        findings.ok(kind::LOG, "c".to_owned());
        findings.warn(kind::LOG, "d".to_owned(), "x");
        findings.about(&[Path::new("/e.toml")]);
        findings.warn(kind::LOG, "e".to_owned(), "x");
        let text = findings.to_text(Colour::Off);
        let marks = text
            .lines()
            .map(|line| line.split(' ').next_back().unwrap());
        let marks: Vec<_> = marks.take(9).collect();
        assert_eq!(marks, ["a", "b", "x", "c", "d", "x", "/e.toml:", "e", "x"]);
        assert_eq!(findings.to_json().matches("\"mend\": \"x\"").count(), 4);
    }

    #[test]
    fn what_is_found_twice_is_said_once_for_each_containerd() {
        let mut findings = Findings::default();
        let [a, b] = ["/a.toml", "/b.toml"].map(Path::new);
        for paths in [&[a][..], &[a], &[b], &[a, b]] {
            findings.about(paths);
            findings.ok(kind::LOG, "x".to_owned());
        }
        assert_eq!(
            findings.to_text(Colour::Off),
            "The containerd with /a.toml:\nok    log: x\nThe containerd with /b.toml:\nok    log: x\n\
             The containerds with /a.toml and /b.toml:\nok    log: x\n3 ok, 0 warnings, 0 failed\n"
        );
        let json: serde_json::Value = serde_json::from_str(&findings.to_json()).unwrap();
        assert_eq!(json["findings"][2]["containerds"][1], "/b.toml");
    }
}
