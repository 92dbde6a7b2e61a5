//! Lines of `key TAB value`, escaped as `encoding::tsv` does.

use memchr::memchr;
use raftctl::client::Command;

use super::{Datum, Reader, Shape, plain};
use crate::encoding::{Encoding, Encodings};

/// Reads a line; the last one may lack its end.
pub(super) fn read<'a>(reader: &'a mut Reader, line: &'a [u8]) -> Result<Datum<'a>, String> {
    let Encodings { key, value } = reader.encodings;
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let tab = memchr(b'\t', text);
    if reader.shape == Shape::Keys {
        if tab.is_some() {
            return Err("a line is one key, and here is a TAB".into());
        }
        return field("key", text, key, &mut reader.key).map(Datum::Key);
    }
    let Some(tab) = tab else {
        return Err("a line is a key, a TAB and a value, and there is no TAB".into());
    };
    let (first, second) = (&text[..tab], &text[tab + 1..]);
    if memchr(b'\t', second).is_some() {
        let why = "a line is a key, a TAB and a value, and here is a second TAB; \
                   in a value it is written \\t";
        return Err(why.into());
    }
    Ok(Datum::Change(Command::Put {
        key: field("key", first, key, &mut reader.key)?,
        value: field("value", second, value, &mut reader.value)?,
    }))
}

fn field<'a>(
    what: &str,
    text: &'a [u8],
    encoding: Option<Encoding>,
    into: &'a mut Vec<u8>,
) -> Result<&'a [u8], String> {
    if encoding.is_some() || memchr(b'\\', text).is_none() {
        return plain(what, text, encoding, into);
    }
    into.clear();
    unescape(text, into)?;
    Ok(into)
}

/// Appends what the text stands for: `\\ \t \n \r \0` and `\xHH`.
fn unescape(mut text: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    while let Some(at) = memchr(b'\\', text) {
        out.extend_from_slice(&text[..at]);
        let (byte, length) = match text[at + 1..] {
            [b'\\', ..] => (b'\\', 2),
            [b't', ..] => (b'\t', 2),
            [b'n', ..] => (b'\n', 2),
            [b'r', ..] => (b'\r', 2),
            [b'0', ..] => (0, 2),
            [b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (digit(high) << 4 | digit(low), 4)
            }
            [b'x', ..] => return Err("\\x is followed by two hex digits".into()),
            [byte, ..] => {
                let shown = byte.escape_ascii();
                return Err(format!("the escape \\{shown} is not known"));
            }
            [] => return Err("a backslash stands alone; one as data is written \\\\".into()),
        };
        out.push(byte);
        text = &text[at + length..];
    }
    out.extend_from_slice(text);
    Ok(())
}

fn digit(ascii: u8) -> u8 {
    match ascii {
        b'0'..=b'9' => ascii - b'0',
        _ => (ascii | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::read;
    use super::*;
    use crate::decoding::Decoder;
    use crate::format::Format;

    fn lines(shape: Shape, text: &[u8]) -> Vec<Result<String, String>> {
        let decoder = Decoder::new(Format::Tsv, shape, Encodings::default());
        read(decoder, text, || 3).expect("no line is too long")
    }

    #[test]
    fn escapes_are_undone_and_unknown_ones_refused() {
        let found = lines(Shape::Records, b"a\\x0A\t\\\\\\t\\n\\r\\0\\xfF\nb\t\r\nc\t");
        let puts: [(&[u8], &[u8]); 3] = [(b"a\n", b"\\\t\n\r\0\xff"), (b"b", b"\r"), (b"c", b"")];
        let puts = puts
            .map(|(key, value)| Ok(format!("{:?}", Datum::Change(Command::Put { key, value }))));
        assert_eq!(found, puts);
        let wrong: [&[u8]; 8] = [
            b"\n",
            b"a\n",
            b"a\tb\tc\n",
            b"a\t\\q\n",
            b"a\t\\\n",
            b"a\t\\x0\n",
            b"a\t\\x0g\n",
            b"\\8\tb\n",
        ];
        for text in wrong {
            let found = lines(Shape::Records, &[text, b"k\tv\n"].concat());
            assert!(found[0].is_err(), "{text:?}");
            assert!(found[1].is_ok(), "{text:?}");
        }
    }

    #[test]
    fn keys_are_lines_without_a_tab() {
        let found = lines(Shape::Keys, b"a\\t\nb\tc\n\nd");
        assert_eq!(found[0], Ok(format!("{:?}", Datum::Key(b"a\t"))));
        assert!(found[1].is_err());
        assert_eq!(found[2], Ok(format!("{:?}", Datum::Key(b""))));
        assert_eq!(found[3], Ok(format!("{:?}", Datum::Key(b"d"))));
    }
}
