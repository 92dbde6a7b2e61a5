//! Exact bytes, each datum with a NUL byte behind it.

use memchr::memchr;
use raftctl::client::Command;

use super::{Broken, Datum, Each, Raw, Shape, UNIT_BYTES_MAX, encoded};
use crate::encoding::{Encoding, Encodings};

/// Reads data that end in NUL bytes: pairs, or keys alone. The last one may lack its NUL.
#[derive(Debug)]
pub(crate) struct Decoder {
    shape: Shape,
    encodings: Encodings,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    pub(super) fn new(shape: Shape, encodings: Encodings) -> Self {
        Self {
            shape,
            encodings,
            key: Vec::new(),
            value: Vec::new(),
        }
    }

    pub(super) fn decode(
        &mut self,
        buffer: &[u8],
        ends: bool,
        each: &mut Each<'_>,
    ) -> Result<usize, Broken> {
        let nul = memchr(0, buffer);
        let second = nul.map(|at| at + 1);
        let length = match (self.shape, second) {
            (Shape::Keys, _) => second,
            (Shape::Records, None) => None,
            (Shape::Records, Some(begin)) => memchr(0, &buffer[begin..]).map(|at| begin + at + 1),
        };
        let length = match length {
            Some(length) => length,
            None if buffer.len() >= UNIT_BYTES_MAX => {
                let why = format!("a record has more than {UNIT_BYTES_MAX} bytes");
                return Err(Broken { why });
            }
            None if ends => buffer.len(),
            None => 0,
        };
        if length > 0 {
            let raw = &buffer[..length];
            each(self.datum(raw), Raw::Text(raw));
        }
        Ok(length)
    }

    fn datum<'a>(&'a mut self, raw: &'a [u8]) -> Result<Datum<'a>, String> {
        let Encodings { key, value } = self.encodings;
        let text = raw.strip_suffix(b"\0").unwrap_or(raw);
        if self.shape == Shape::Keys {
            return field("key", text, key, &mut self.key).map(Datum::Key);
        }
        let end = memchr(0, raw).unwrap_or(raw.len());
        // Behind the key's NUL there is at least the value's, or a byte of it.
        if end + 1 >= raw.len() {
            return Err(
                "a key has no value: a record is two data, each with a NUL behind it".into(),
            );
        }
        let second = &text[end + 1..];
        Ok(Datum::Change(Command::Put {
            key: field("key", &raw[..end], key, &mut self.key)?,
            value: field("value", second, value, &mut self.value)?,
        }))
    }
}

fn field<'a>(
    what: &str,
    text: &'a [u8],
    encoding: Option<Encoding>,
    into: &'a mut Vec<u8>,
) -> Result<&'a [u8], String> {
    match encoding {
        Some(encoding) => encoded(what, text, encoding, into),
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::read;
    use super::*;
    use crate::format::Format;

    fn found(shape: Shape, text: &[u8]) -> Vec<Result<String, String>> {
        let decoder = super::super::Decoder::new(Format::Nul, shape, Encodings::default());
        read(decoder, text, || 2).expect("no record is too long")
    }

    fn put(key: &[u8], value: &[u8]) -> Result<String, String> {
        Ok(format!("{:?}", Datum::Change(Command::Put { key, value })))
    }

    #[test]
    fn pairs_end_in_two_nul_bytes_of_which_the_last_may_be_missing() {
        assert_eq!(
            found(Shape::Records, b"a\nb\0\\t\0k\0\0k\0v"),
            [put(b"a\nb", b"\\t"), put(b"k", b""), put(b"k", b"v")]
        );
        let lonely = found(Shape::Records, b"a\0b\0k\0");
        assert_eq!(lonely[0], put(b"a", b"b"));
        assert!(lonely[1].is_err());
        assert!(found(Shape::Records, b"k")[0].is_err());
    }

    #[test]
    fn keys_end_in_one() {
        let keys = [&b"a\n"[..], b"", b"c"].map(|key| Ok(format!("{:?}", Datum::Key(key))));
        assert_eq!(found(Shape::Keys, b"a\n\0\0c"), keys);
    }
}
