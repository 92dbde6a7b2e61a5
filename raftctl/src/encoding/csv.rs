//! Comma-separated values (RFC 4180, but for the line end, which is LF).

/// Appends a field, in quotes where it needs them.
pub(crate) fn field(bytes: &[u8], out: &mut Vec<u8>) {
    let special = |byte: &u8| matches!(byte, b',' | b'"' | b'\n' | b'\r');
    let blank = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_whitespace);
    if !(bytes.iter().any(special) || blank(bytes.first()) || blank(bytes.last())) {
        out.extend_from_slice(bytes);
        return;
    }
    out.push(b'"');
    for byte in bytes {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// Appends a line of fields.
pub(crate) fn line<'a>(fields: impl IntoIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    for (number, bytes) in fields.into_iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        field(bytes, out);
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_need_it() {
        let mut out = Vec::new();
        let fields: [&[u8]; 8] = [
            b"plain",
            b"a,b",
            b"say \"hi\"",
            b"two\nlines",
            b"a\rb",
            b" x",
            b"x\t",
            b"",
        ];
        line(fields, &mut out);
        assert_eq!(
            out,
            b"plain,\"a,b\",\"say \"\"hi\"\"\",\"two\nlines\",\"a\rb\",\" x\",\"x\t\",\n"
        );
    }
}
