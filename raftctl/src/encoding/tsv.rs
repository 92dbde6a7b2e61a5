//! Lossless text for pipes: one record per line, fields divided by a TAB.

use super::{Encoding, Encodings, Record};

/// Appends the field: backslash, TAB, LF, CR and NUL as `\\ \t \n \r \0`, other bytes below 0x20
/// and 0x7f as `\xhh`, everything else as it is.
pub(crate) fn escape(mut bytes: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = bytes.iter().position(|byte| is_special(*byte)) {
        out.extend_from_slice(&bytes[..at]);
        match bytes[at] {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0 => out.extend_from_slice(b"\\0"),
            byte => push_hex(byte, out),
        }
        bytes = &bytes[at + 1..];
    }
    out.extend_from_slice(bytes);
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f || byte == b'\\'
}

/// Appends the line of a record.
pub(crate) fn encode(record: Record<'_>, encodings: Encodings, out: &mut Vec<u8>) {
    field(record.key, encodings.key, out);
    out.push(b'\t');
    field(record.value, encodings.value, out);
    out.push(b'\n');
}

/// Appends a line of fields.
pub(crate) fn line<'a>(fields: impl IntoIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    for (number, bytes) in fields.into_iter().enumerate() {
        if number > 0 {
            out.push(b'\t');
        }
        escape(bytes, out);
    }
    out.push(b'\n');
}

/// Appends the field in an encoding, which needs no escapes, or escaped.
pub(crate) fn field(bytes: &[u8], encoding: Option<Encoding>, out: &mut Vec<u8>) {
    match encoding {
        Some(encoding) => out.extend_from_slice(encoding.encode(bytes).as_bytes()),
        None => escape(bytes, out),
    }
}

/// Appends `\xhh`.
pub(crate) fn push_hex(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\x");
    out.push(DIGITS[usize::from(byte >> 4)]);
    out.push(DIGITS[usize::from(byte & 15)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_bytes_are_escaped_and_others_are_raw() {
        let mut out = Vec::new();
        escape(b"a\\\t\n\r\0\x01\x1f\x7f\x80\xff \xc3\xa4", &mut out);
        assert_eq!(out, b"a\\\\\\t\\n\\r\\0\\x01\\x1f\\x7f\x80\xff \xc3\xa4");
    }
}
