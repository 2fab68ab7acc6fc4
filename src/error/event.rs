//! An error as a part of an event of Kubernetes: one line, within a budget.
//!
//! An event holds 1024 bytes. containerd and the kubelet put about 300 before what a stream processor says, and what is
//! over is cut off at its end, where the hint stands.

use std::fmt;

use crate::escape::escaped;

/// Most bytes of the whole line.
const BUDGET: usize = 600;
/// Most bytes of the hint.
const HINT: usize = 200;
/// How long a word may be, in bytes, from one attempt to shorten a text to the next.
const WORDS: [usize; 3] = [96, 64, 40];
/// What stands between a name and what is said of it.
const COLON: &str = ": ";
/// What a part between colons keeps, in bytes.
const PART: usize = 40;

/// An error and its hint in one line without an end, of 600 bytes at most. Harmless on a terminal.
#[must_use]
pub fn event_line(error: &impl fmt::Display, hint: Option<String>) -> String {
    let hint = match hint {
        Some(hint) => format!("; hint: {}", fitted(&escaped(&hint), HINT)),
        None => String::new(),
    };
    let head = "ocihsm: error: ";
    let room = BUDGET - head.len() - hint.len();
    format!("{head}{}{hint}", fitted(&escaped(&error.to_string()), room))
}

/// The text in so many bytes. A reason consists of short words; so those that are long (paths, URIs) lose their middles
/// first, then the longest part between colons (a name with blanks), and only then the text its own.
pub(crate) fn fitted(text: &str, budget: usize) -> String {
    let mut short = text.to_owned();
    for longest in WORDS {
        if short.len() <= budget {
            return short;
        }
        let words: Vec<_> = short.split(' ').map(|word| cut(word, longest)).collect();
        short = words.join(" ");
    }
    let mut parts: Vec<_> = short.split(COLON).map(str::to_owned).collect();
    loop {
        let len = parts.iter().map(|part| part.len() + COLON.len()).sum();
        let excess = usize::saturating_sub(len, budget + COLON.len());
        match parts.iter_mut().max_by_key(|part| part.len()) {
            Some(part) if excess > 0 && part.len() > PART => {
                *part = cut(part, part.len().saturating_sub(excess).max(PART));
            }
            _ => return cut(&parts.join(COLON), budget),
        }
    }
}

/// The text with an ellipsis in the place of its middle.
fn cut(text: &str, budget: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= budget {
        return text.to_owned();
    }
    let room = budget.saturating_sub(ELLIPSIS.len());
    let boundary = |at: &usize| text.is_char_boundary(*at);
    let head = (0..=room / 2).rev().find(boundary).unwrap_or_default();
    let rest = text.len() - (room - head);
    let tail = (rest..=text.len()).find(boundary).unwrap_or(text.len());
    format!("{}{ELLIPSIS}{}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::*;
    use crate::{file, keys};

    #[test]
    fn a_long_path_is_shortened_before_the_reason() {
        let error = file::Error::Failed {
            action: "read",
            path: format!("/etc{}/prod.yaml", "/déeper".repeat(500)).into(),
            source: io::Error::from_raw_os_error(2),
        };
        let line = event_line(&error, error.hint());
        assert!(line.len() < 150, "{line}");
        assert!(
            line.starts_with("ocihsm: error: cannot read /etc/"),
            "{line}"
        );
        assert!(
            line.ends_with("/prod.yaml: no such file or directory"),
            "{line}"
        );
    }

    #[test]
    fn a_hint_with_a_path_leaves_room_for_the_error() {
        let path = PathBuf::from(format!("/{}", "x y".repeat(2000)));
        let error = keys::Error::PolicyMissing { path };
        let line = event_line(&error, error.hint());
        assert!(line.len() <= BUDGET, "{line}");
        assert!(line.contains("the module policy /x yx"), "{line}");
        assert!(line.contains(" is not there; hint: "), "{line}");
    }

    #[test]
    fn what_a_module_or_a_file_name_says_breaks_no_line() {
        let line = event_line(&"/a\nb\u{1b}[2J is there already", None);
        assert!(line.contains("/a\\u{a}b\\u{1b}[2J is there"));
    }

    #[test]
    fn cutting_keeps_within_the_budget_at_any_character() {
        for budget in 0..30 {
            let short = cut("a ü鍵b ü鍵c ü鍵d ü鍵", budget);
            assert!(short.len() <= budget.max(3), "{budget}: {short}");
        }
        assert_eq!(cut("abcdefghijkl", 12), "abcdefghijkl");
        assert_eq!(cut("abcdefghijklm", 12), "abcd…ijklm");
    }
}
