//! Parts of messages: the operating system's reason, and lists that have a bound.

use std::io;
use std::path::PathBuf;

/// Most items of a list that are told.
const LISTED: usize = 6;

/// The texts in quotes; what is in them is escaped.
#[must_use]
pub fn quoted(texts: &[String]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| format!("{text:?}")).collect();
    texts.join(", ")
}

/// The operating system's words in our style: lower case, without the code that Rust adds.
#[must_use]
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

/// The directories in which something was looked for.
#[must_use]
pub fn listed(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "no directory at all".to_owned();
    }
    let paths: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    told(&paths)
}

/// The first of them, and how many more there are.
#[must_use]
pub fn told(texts: &[String]) -> String {
    match texts.len().saturating_sub(LISTED) {
        0 => texts.join(", "),
        more => format!("{}, and {more} more", texts[..LISTED].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_counted_from_a_bound_on() {
        let paths: Vec<PathBuf> = (0..50).map(|n| format!("/{n}").into()).collect();
        assert_eq!(listed(&paths), "/0, /1, /2, /3, /4, /5, and 44 more");
        assert_eq!(listed(&paths[..2]), "/0, /1");
    }
}
