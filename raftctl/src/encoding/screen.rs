//! Bytes on a terminal: never a raw control character.

use std::fmt::Write as _;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::tsv::push_hex;

/// Bytes in a line of a dump.
const DUMP_LINE_BYTES: usize = 16;

/// Columns of a key in a message.
const SHOWN_COLUMNS_MAX: usize = 60;

/// Whether the bytes can be shown as they are: UTF-8 whose only control characters are line ends
/// and tabs.
pub(crate) fn is_printable(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| {
        text.chars()
            .all(|c| matches!(c, '\n' | '\t') || !c.is_control())
    })
}

/// One line of text without control characters: those, backslashes and what is not UTF-8 are
/// escaped as in TSV.
pub(crate) fn line(bytes: &[u8]) -> String {
    escaped(bytes, |character| {
        character == '\\' || character.is_control()
    })
}

/// One line that is text already, with its backslashes and TABs: only what a terminal must not get
/// is escaped.
pub(crate) fn visible(bytes: &[u8]) -> String {
    escaped(bytes, |character| {
        character != '\t' && character.is_control()
    })
}

fn escaped(bytes: &[u8], is_special: impl Fn(char) -> bool) -> String {
    let mut out = Vec::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            let mut buffer = [0; 4];
            let bytes = character.encode_utf8(&mut buffer).as_bytes();
            if !is_special(character) {
                out.extend_from_slice(bytes);
            } else if character.is_ascii() {
                super::tsv::escape(bytes, &mut out);
            } else {
                bytes.iter().for_each(|byte| push_hex(*byte, &mut out));
            }
        }
        chunk
            .invalid()
            .iter()
            .for_each(|byte| push_hex(*byte, &mut out));
    }
    String::from_utf8(out).expect("escapes are ASCII and the rest was UTF-8")
}

/// What stands in place of what is cut off.
pub(crate) const DOTS: &str = "...";

/// The columns that the text takes on a terminal: ideographs take two, combining marks none.
pub(crate) fn columns(text: &str) -> usize {
    text.width()
}

/// Cuts the text to this many columns, three dots included.
pub(crate) fn cut(mut text: String, columns_max: usize) -> String {
    if columns(&text) > columns_max {
        let mut left = columns_max.saturating_sub(DOTS.len());
        let mut end = 0;
        for (at, character) in text.char_indices() {
            let Some(rest) = left.checked_sub(character.width().unwrap_or(0)) else {
                break;
            };
            left = rest;
            end = at + character.len_utf8();
        }
        text.truncate(end);
        text.push_str(DOTS);
    }
    text
}

/// A key in a message.
pub(crate) fn shown(key: &[u8]) -> String {
    cut(line(key), SHOWN_COLUMNS_MAX)
}

/// A dump with offsets, hex digits and printable ASCII, and a line with the size.
pub(crate) fn hex_dump(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (number, line) in bytes.chunks(DUMP_LINE_BYTES).enumerate() {
        let offset = number * DUMP_LINE_BYTES;
        let mut hex = String::new();
        for (column, byte) in line.iter().enumerate() {
            let gap = if column == DUMP_LINE_BYTES / 2 {
                " "
            } else {
                ""
            };
            write!(hex, "{gap}{byte:02x} ").expect("a string takes everything");
        }
        let plain = |byte: &u8| match byte {
            0x20..=0x7e => char::from(*byte),
            _ => '.',
        };
        let ascii: String = line.iter().map(plain).collect();
        writeln!(out, "{offset:08x}  {hex:<49} {ascii}").expect("a string takes everything");
    }
    writeln!(out, "({} bytes)", bytes.len()).expect("a string takes everything");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_never_reach_a_terminal() {
        assert!(is_printable("a\tb\nGr\u{fc}n".as_bytes()));
        assert!(!is_printable(b"\x1b[2J"));
        assert!(!is_printable("\u{9b}2J".as_bytes()));
        assert!(!is_printable(b"\xff"));
        assert_eq!(line(b"a\x1b\xff\n\\"), "a\\x1b\\xff\\n\\\\");
        assert_eq!(line("\u{fc}\u{9b}".as_bytes()), "\u{fc}\\xc2\\x9b");
        assert_eq!(visible(b"a\\n\tb\x1b\xff"), "a\\n\tb\\x1b\\xff");
    }

    #[test]
    fn a_dump_shows_offset_bytes_text_and_size() {
        let dump = hex_dump(b"0123456789abcdef\x00z");
        assert_eq!(
            dump,
            "00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  0123456789abcdef\n\
             00000010  00 7a                                             .z\n\
             (18 bytes)\n"
        );
    }

    #[test]
    fn long_text_is_cut_with_dots() {
        assert_eq!(cut("abcdef".into(), 6), "abcdef");
        assert_eq!(cut("abcdefg".into(), 6), "abc...");
        assert_eq!(cut("abcdefg".into(), 2), "...");
    }

    #[test]
    fn what_is_wide_takes_two_columns_and_what_combines_takes_none() {
        let wide = "\u{6f22}\u{5b57}\u{6f22}\u{5b57}";
        assert_eq!(cut(wide.into(), 8), wide);
        assert_eq!(cut(wide.into(), 7), "\u{6f22}\u{5b57}...");
        assert_eq!(cut(wide.into(), 6), "\u{6f22}...");
        let marked = "a\u{301}b\u{301}c\u{301}";
        assert_eq!(cut(marked.into(), 3), marked);
    }
}
