//! What was found, and how it reads: lines for people, JSON for programs.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use nix::unistd::geteuid;
use serde::Serialize;

use crate::content_store;
use crate::error::{Error, Result};
use crate::escape::escaped;
use crate::hsm;

/// Everything that was found, in order.
#[derive(Debug, Default, Serialize)]
pub(super) struct Findings {
    findings: Vec<Finding>,
    /// Which containerds are looked at, if there are several.
    #[serde(skip)]
    containerds: Vec<String>,
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
    subject: &'static str,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
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
    pub(super) fn ok(&mut self, subject: &'static str, text: String) {
        self.push(Level::Ok, subject, text, None);
    }

    /// It works, but not for everything, or not well.
    pub(super) fn warn(&mut self, subject: &'static str, text: String, mend: impl Into<String>) {
        self.push(Level::Warn, subject, text, Some(mend.into()));
    }

    /// Layers will not be opened, or a secret or the node itself is open to others.
    pub(super) fn fail(&mut self, subject: &'static str, text: String, mend: impl Into<String>) {
        self.push(Level::Fail, subject, text, Some(mend.into()));
    }

    /// What the decoder would fail with. `mend` stands where the error has no hint of its own.
    pub(super) fn error(&mut self, subject: &'static str, error: &Error, mend: &str) {
        let mend = match is_denied(error) {
            true => DENIED[usize::from(geteuid().is_root())].to_owned(),
            false => error.hint().unwrap_or_else(|| mend.to_owned()),
        };
        self.fail(subject, error.to_string(), mend);
    }

    /// Whether anything was said of this.
    pub(super) fn mention(&self, subject: &str) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.subject == subject)
    }

    fn push(&mut self, level: Level, subject: &'static str, text: String, mend: Option<String>) {
        let finding = Finding {
            level,
            containerds: self.containerds.clone(),
            subject,
            text: escaped(&text),
            mend: mend.map(|mend| escaped(&mend)),
        };
        // What several sections, keys or decoders share is said once.
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// One line for each, and below it how to mend it; above those of each containerd which it is, if there are several.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        let mut about: &[String] = &[];
        for finding in &self.findings {
            let level = match finding.level {
                Level::Ok => "ok  ",
                Level::Warn => "warn",
                Level::Fail => "fail",
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
            if let Some(mend) = &finding.mend {
                let _ = writeln!(text, "      -> {mend}");
            }
        }
        text
    }

    /// One JSON object.
    pub(super) fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self)
            .expect("strings and lists of strings are always JSON");
        text.push('\n');
        text
    }

    /// An error if anything failed.
    pub(super) fn verdict(&self) -> Result<()> {
        let failed = self
            .findings
            .iter()
            .filter(|finding| finding.level == Level::Fail)
            .count();
        if failed == 0 {
            return Ok(());
        }
        Err(Error::Unhealthy {
            failed,
            checked: self.findings.len(),
        })
    }
}

/// What to do where the system refuses another user, and root.
const DENIED: [&str; 2] = [
    "run doctor as root, as containerd runs its decoder",
    "root itself may not: look at how it is mounted, and at AppArmor or SELinux",
];

fn is_denied(error: &Error) -> bool {
    match error {
        Error::File { source, .. } | Error::Stream { source, .. } => {
            source.kind() == io::ErrorKind::PermissionDenied
        }
        Error::InFile(error) => error.is_denied(),
        Error::ContentStore(content_store::Error::Failed { source, .. }) => {
            source.kind() == io::ErrorKind::PermissionDenied
        }
        Error::InKeyFile { source, .. } => is_denied(source),
        Error::Hsm(hsm::Error::PinFile { source }) => is_denied(source),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_alone_are_no_failure() {
        let mut findings = Findings::default();
        findings.ok("keys", "a".to_owned());
        findings.warn("keys", "b".to_owned(), "c");
        assert!(findings.verdict().is_ok());
        findings.fail("keys", "d\u{1b}".to_owned(), "e");
        let error = findings.verdict().unwrap_err();
        assert_eq!(error.to_string(), "1 of 3 checks failed");
        assert_eq!(
            findings.to_text(),
            "ok    keys: a\nwarn  keys: b\n      -> c\nfail  keys: d\\u{1b}\n      -> e\n"
        );
    }

    #[test]
    fn what_is_found_twice_is_said_once_for_each_containerd() {
        let mut findings = Findings::default();
        let [a, b] = ["/a.toml", "/b.toml"].map(Path::new);
        for paths in [&[a][..], &[a], &[b], &[a, b]] {
            findings.about(paths);
            findings.ok("log", "x".to_owned());
        }
        assert_eq!(
            findings.to_text(),
            "The containerd with /a.toml:\nok    log: x\nThe containerd with /b.toml:\nok    log: x\n\
             The containerds with /a.toml and /b.toml:\nok    log: x\n"
        );
        let json: serde_json::Value = serde_json::from_str(&findings.to_json()).unwrap();
        assert_eq!(json["findings"][2]["containerds"][1], "/b.toml");
    }
}
