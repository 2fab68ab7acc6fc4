//! What a provider says of its failure, made fit for one line of ours.

use crate::escape::escaped;

/// Most characters of it that are shown.
const SHOWN: usize = 300;

/// The end of what it said, on one line.
pub(super) fn shown(words: &[u8]) -> String {
    let text = String::from_utf8_lossy(words);
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let text = escaped(&lines.join("; "));
    let skipped = text.chars().count().saturating_sub(SHOWN);
    match skipped {
        0 => text,
        _ => format!("…{}", text.chars().skip(skipped).collect::<String>()),
    }
}
