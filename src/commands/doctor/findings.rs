//! What was found, and how it reads: lines for people, JSON for programs.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::escape::escaped;

/// Everything that was found, in order.
#[derive(Debug, Default, Serialize)]
pub(super) struct Findings {
    findings: Vec<Finding>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    subject: &'static str,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl Findings {
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
        let mend = error.hint().unwrap_or_else(|| mend.to_owned());
        self.fail(subject, error.to_string(), mend);
    }

    fn push(&mut self, level: Level, subject: &'static str, text: String, mend: Option<String>) {
        self.findings.push(Finding {
            level,
            subject,
            text: escaped(&text),
            mend: mend.map(|mend| escaped(&mend)),
        });
    }

    /// One line for each, and below it how to mend it.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let level = match finding.level {
                Level::Ok => "ok  ",
                Level::Warn => "warn",
                Level::Fail => "fail",
            };
            text.push_str(&format!("{level}  {}: {}\n", finding.subject, finding.text));
            if let Some(mend) = &finding.mend {
                text.push_str(&format!("      -> {mend}\n"));
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
}
