//! Words of a line: divided by blanks, with quotes and the escapes of TSV.

use data_encoding::HEXLOWER_PERMISSIVE;

/// Splits a line into its words.
///
/// # Errors
/// What cannot be understood.
pub(super) fn split(text: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut rest = text.trim_ascii_start();
    let mut words = Vec::new();
    while !rest.is_empty() {
        words.push(take(&mut rest, |byte| byte.is_ascii_whitespace())?);
        rest = rest.trim_ascii_start();
    }
    Ok(words)
}

/// Takes a word off the front of `text`, up to a byte that `ends` it outside of quotes.
///
/// In `'..'` all bytes are as they are; in `".."` and without quotes `\\ \t \n \r \0 \xHH` stand for
/// bytes, and `\` before a blank, a quote or a parenthesis for that.
///
/// # Errors
/// What cannot be understood.
pub(super) fn take(text: &mut &[u8], ends: impl Fn(u8) -> bool) -> Result<Vec<u8>, String> {
    let mut word = Vec::new();
    let mut quote = None;
    while let Some((byte, rest)) = text.split_first() {
        if quote.is_none() && ends(*byte) {
            break;
        }
        *text = rest;
        match (quote, *byte) {
            (Some(open), byte) if byte == open => quote = None,
            (Some(b'\''), byte) => word.push(byte),
            (_, b'\\') => word.push(escaped(text)?),
            (None, open @ (b'\'' | b'"')) => quote = Some(open),
            (_, byte) => word.push(byte),
        }
    }
    match quote {
        Some(_) => Err("a quote is not closed".to_owned()),
        None => Ok(word),
    }
}

/// The byte that an escape stands for, without its backslash.
fn escaped(text: &mut &[u8]) -> Result<u8, String> {
    let Some((code, rest)) = text.split_first() else {
        return Err("it ends with a backslash".to_owned());
    };
    *text = rest;
    match code {
        b't' => Ok(b'\t'),
        b'n' => Ok(b'\n'),
        b'r' => Ok(b'\r'),
        b'0' => Ok(0),
        b'x' => {
            let digits = text.get(..2);
            let byte = digits.and_then(|digits| HEXLOWER_PERMISSIVE.decode(digits).ok());
            let byte = byte.ok_or("\\x is not followed by two hex digits")?[0];
            *text = &text[2..];
            Ok(byte)
        }
        b'\\' | b'\'' | b'"' | b' ' | b'(' | b')' => Ok(*code),
        code => Err(format!("\\{} is no escape", code.escape_ascii())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn words(text: &str, expected: &[&[u8]]) {
        let words = split(text.as_bytes()).expect("it can be understood");
        assert_eq!(words, expected);
    }

    #[test]
    fn words_are_divided_by_blanks_outside_of_quotes() {
        words("", &[]);
        words("  put  a\tb ", &[b"put", b"a", b"b"]);
        words(r#"put 'a b' "c d""#, &[b"put", b"a b", b"c d"]);
        words(r#"put a'"'b "" ''"#, &[b"put", b"a\"b", b"", b""]);
        words(r"put a\ b '\x'", &[b"put", b"a b", b"\\x"]);
        words(r#""\t\n\r\0\x00\xfF\\\"""#, &[b"\t\n\r\0\0\xff\\\""]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in ["'a", "\"a", "a\\", "\\q", "\\x1", "\\x+1", "\\xg0", "\"\\"] {
            assert!(split(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_word_ends_where_it_is_told_to() {
        let mut text = &br"a\)'b)')=1"[..];
        let word = take(&mut text, |byte| byte == b')');
        assert_eq!((word.as_deref(), text), (Ok(&b"a)b)"[..]), &b")=1"[..]));
    }
}
