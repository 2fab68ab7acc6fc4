//! How a JSON document was laid out, so that a changed one is laid out the same way.
//!
//! A manifest's digest is of its text. With the text kept, an image that was encrypted and decrypted again has the
//! digest it began with, whoever wrote it.

use std::io::{self, Write};

use serde::Serialize as _;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

/// White space and escapes of one document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Style {
    /// One step of indentation; `None` where all is on one line.
    indent: Option<Vec<u8>>,
    /// A space after each colon and, on one line, each comma (Python).
    spaced: bool,
    /// `<`, `>` and `&` as `\u003c` (Go).
    html: bool,
    /// What follows the last brace.
    end: Vec<u8>,
}

impl Style {
    /// The style that gives these bytes back; where none of ours does, the nearest.
    pub(super) fn of(bytes: &[u8], json: &Value) -> Self {
        let body = bytes.trim_ascii_end();
        let inner = body.get(1..).unwrap_or_default();
        let white = inner
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count();
        let indent = inner[..white]
            .strip_prefix(b"\n")
            .filter(|indent| indent.len() <= 16);
        let indent = indent.map(<[u8]>::to_vec);
        let end: Vec<u8> = bytes[body.len()..].iter().take(16).copied().collect();
        let tries = [(false, false), (false, true), (true, false), (true, true)];
        let mut styles = tries.into_iter().map(|(spaced, html)| Self {
            indent: indent.clone(),
            spaced: spaced || indent.is_some(),
            html,
            end: end.clone(),
        });
        let nearest = Self {
            spaced: indent.is_some(),
            indent: indent.clone(),
            ..Self::default()
        };
        styles
            .find(|style| style.write(json) == bytes)
            .unwrap_or(nearest)
    }

    /// The document's text.
    pub(super) fn write(&self, json: &Value) -> Vec<u8> {
        let mut text = Vec::new();
        let layout = Laid {
            style: self,
            depth: 0,
            empty: true,
        };
        json.serialize(&mut Serializer::with_formatter(&mut text, layout))
            .expect("a JSON value can always be written to memory");
        text.extend_from_slice(&self.end);
        text
    }
}

struct Laid<'a> {
    style: &'a Style,
    depth: usize,
    /// Whether nothing was written yet into the innermost array or object.
    empty: bool,
}

impl Laid<'_> {
    fn begin<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.empty = true;
        writer.write_all(bracket)
    }

    fn end<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if !self.empty {
            self.new_line(writer)?;
        }
        self.empty = false;
        writer.write_all(bracket)
    }

    fn item<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(b",")?;
            if self.style.spaced && self.style.indent.is_none() {
                writer.write_all(b" ")?;
            }
        }
        self.new_line(writer)
    }

    fn new_line<W: ?Sized + Write>(&self, writer: &mut W) -> io::Result<()> {
        let Some(indent) = &self.style.indent else {
            return Ok(());
        };
        writer.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| writer.write_all(indent))
    }
}

impl Formatter for Laid<'_> {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        self.item(w, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.empty = false;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        self.item(w, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(if self.style.spaced { b": " } else { b":" })
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.empty = false;
        Ok(())
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        w: &mut W,
        text: &str,
    ) -> io::Result<()> {
        if !self.style.html {
            return w.write_all(text.as_bytes());
        }
        text.split_inclusive(['<', '>', '&', '\u{2028}', '\u{2029}'])
            .try_for_each(|part| {
                let last = part.chars().next_back().unwrap_or_default();
                let escape: &[u8] = match last {
                    '<' => b"\\u003c",
                    '>' => b"\\u003e",
                    '&' => b"\\u0026",
                    '\u{2028}' => b"\\u2028",
                    '\u{2029}' => b"\\u2029",
                    _ => return w.write_all(part.as_bytes()),
                };
                w.write_all(&part.as_bytes()[..part.len() - last.len_utf8()])?;
                w.write_all(escape)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(text: &str) -> String {
        let json: Value = serde_json::from_str(text).unwrap();
        let style = Style::of(text.as_bytes(), &json);
        String::from_utf8(style.write(&json)).unwrap()
    }

    #[test]
    fn the_layouts_of_the_tools_come_back_byte_for_byte() {
        for text in [
            r#"{"b":1,"a":[{"c":"x"},2],"d":{},"e":[]}"#,
            r#"{"b": 1, "a": [{"c": "x"}, 2], "d": {}, "e": []}"#,
            "{\n  \"b\": 1,\n  \"a\": [\n    {\n      \"c\": \"x\"\n    },\n    2\n  ],\n  \"d\": {},\n  \"e\": []\n}",
            "{\n   \"b\": 1,\n   \"a\": [\n      []\n   ]\n}",
            "{\n\t\"b\": 1\n}\n",
            r#"{"author":"A \u003ca@b\u003e \u0026 ü"}"#,
            r#"{"author":"A <a@b> & ü \" \\ \n"}"#,
            r#"{"a":"\": , "}"#,
            "{}",
        ] {
            assert_eq!(again(text), text);
        }
    }

    #[test]
    fn another_layout_keeps_its_meaning() {
        let text = "{ \"a\" : [ 1 , 2 ],\n\"b\":\"\\u0061\" }";
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&again(text)).unwrap(), value);
    }
}
