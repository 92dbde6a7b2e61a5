//! Lossless text for pipes: one record per line, fields divided by a TAB.

use super::Encoding;

/// Appends the field: backslash, TAB, LF, CR and NUL as `\\ \t \n \r \0`, other bytes below 0x20
/// and 0x7f as `\xhh`, everything else as it is.
pub(crate) fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0 => out.extend_from_slice(b"\\0"),
            0x01..=0x1f | 0x7f => push_hex(byte, out),
            _ => out.push(byte),
        }
    }
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
