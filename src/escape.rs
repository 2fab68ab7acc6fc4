//! Text that others wrote, made safe for a terminal and a log: from images, key files, tokens and modules.

use std::ops::RangeInclusive;

/// What shows nothing of its own, turns the direction of text or separates lines: the general categories Cf, Zl and Zp,
/// and what may be left out of display (`Default_Ignorable_Code_Point`).
///
/// From `UnicodeData.txt` and `DerivedCoreProperties.txt` of Unicode 16.0; a part of the ranges is not assigned yet.
const HIDDEN: [RangeInclusive<char>; 25] = [
    '\u{ad}'..='\u{ad}',
    '\u{34f}'..='\u{34f}',
    '\u{600}'..='\u{605}',
    '\u{61c}'..='\u{61c}',
    '\u{6dd}'..='\u{6dd}',
    '\u{70f}'..='\u{70f}',
    '\u{890}'..='\u{891}',
    '\u{8e2}'..='\u{8e2}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fffb}',
    '\u{110bd}'..='\u{110bd}',
    '\u{110cd}'..='\u{110cd}',
    '\u{13430}'..='\u{1343f}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0000}'..='\u{e0fff}',
];

/// The text with every character escaped that a terminal could act upon, or that hides what stands beside it.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() || HIDDEN.iter().any(|range| range.contains(&char)) {
            escaped.extend(char.escape_unicode());
        } else {
            escaped.push(char);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_upon_is_escaped_and_letters_stay() {
        assert_eq!(
            escaped("a\n\u{1b}[31m\u{9b}\u{202e}\u{61c}b"),
            "a\\u{a}\\u{1b}[31m\\u{9b}\\u{202e}\\u{61c}b"
        );
        assert_eq!(escaped("Schlüssel 鍵 \"x\""), "Schlüssel 鍵 \"x\"");
        assert_eq!(escaped("e\u{301} हिन्दी 한글 …"), "e\u{301} हिन्दी 한글 …");
    }

    #[test]
    fn what_shows_nothing_is_escaped() {
        for char in [
            '\u{ad}',
            '\u{115f}',
            '\u{180e}',
            '\u{200b}',
            '\u{2064}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{fff9}',
            '\u{fffb}',
            '\u{e0001}',
            '\u{e0041}',
            '\u{e0100}',
        ] {
            assert_eq!(
                escaped(&char.to_string()),
                char.escape_unicode().to_string()
            );
        }
    }

    #[test]
    fn the_ranges_are_in_order() {
        assert!(
            HIDDEN
                .windows(2)
                .all(|pair| pair[0].end() < pair[1].start())
        );
    }
}
