//! JSON as it is written: without a character that moves a terminal.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Appends one line. Also the control characters that JSON allows as they are, DEL and those of C1,
/// are escaped: the line may end on a terminal.
///
/// # Panics
///
/// With an object that has no form in JSON, as a map whose keys are not text.
pub fn line(object: &impl Serialize, out: &mut Vec<u8>) {
    let mut serializer = Serializer::with_formatter(&mut *out, Visible);
    let written = object.serialize(&mut serializer);
    written.expect("plain objects are JSON, and a vector takes everything");
    out.push(b'\n');
}

struct Visible;

impl Formatter for Visible {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        // DEL, and what each of C1 begins with.
        if memchr::memchr2(0x7f, 0xc2, fragment.as_bytes()).is_none() {
            return out.write_all(fragment.as_bytes());
        }
        let mut from = 0;
        for (at, found) in fragment.match_indices(char::is_control) {
            out.write_all(&fragment.as_bytes()[from..at])?;
            for character in found.chars() {
                write!(out, "\\u{:04x}", u32::from(character))?;
            }
            from = at + found.len();
        }
        out.write_all(&fragment.as_bytes()[from..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_read_back() {
        let text = "\u{9b}2J\u{7f}a\tGr\u{fc}n\u{1b}\u{6f22}\u{85}";
        let mut out = Vec::new();
        line(&[text], &mut out);
        let written = str::from_utf8(&out).unwrap();
        assert_eq!(
            written,
            "[\"\\u009b2J\\u007fa\\tGr\u{fc}n\\u001b\u{6f22}\\u0085\"]\n"
        );
        assert_eq!(
            serde_json::from_str::<[String; 1]>(written).unwrap(),
            [text]
        );
    }
}
