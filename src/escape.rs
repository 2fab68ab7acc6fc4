//! Text that others wrote, made safe for a terminal and a log: from images, key files, tokens and modules.

/// The text with every character escaped that a terminal could act upon, or that hides what stands beside it.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() || is_formatting(char) {
            escaped.extend(char.escape_unicode());
        } else {
            escaped.push(char);
        }
    }
    escaped
}

/// Line and paragraph separators, and what turns the direction of text or hides in it (Unicode, category Cf).
fn is_formatting(char: char) -> bool {
    matches!(char, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
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
    }
}
