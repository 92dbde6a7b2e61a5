//! Exact bytes, each datum with a NUL byte behind it.

use memchr::{memchr, memchr_iter};
use raftctl::client::Command;

use super::{Broken, Datum, Reader, Shape, UNIT_BYTES_MAX, plain};
use crate::encoding::Encodings;

/// The pair, or the key alone, at the front of `buffer`, with its end; the last one may lack its NUL.
pub(super) fn unit(buffer: &[u8], ends: bool, shape: Shape) -> Result<Option<&[u8]>, Broken> {
    let mut nuls = memchr_iter(0, buffer);
    let end = match shape {
        Shape::Keys => nuls.next(),
        Shape::Records => nuls.nth(1),
    };
    match end {
        Some(at) => Ok(Some(&buffer[..=at])),
        None if buffer.len() >= UNIT_BYTES_MAX => Err(Broken {
            why: format!("a record has more than {UNIT_BYTES_MAX} bytes"),
        }),
        None => Ok((ends && !buffer.is_empty()).then_some(buffer)),
    }
}

/// Reads what [`unit`] found.
pub(super) fn read<'a>(reader: &'a mut Reader, unit: &'a [u8]) -> Result<Datum<'a>, String> {
    let Encodings { key, value } = reader.encodings;
    let text = unit.strip_suffix(b"\0").unwrap_or(unit);
    if reader.shape == Shape::Keys {
        return plain("key", text, key, &mut reader.key).map(Datum::Key);
    }
    let end = memchr(0, unit).unwrap_or(unit.len());
    // Behind the key's NUL there is at least the value's, or a byte of it.
    if end + 1 >= unit.len() {
        return Err("a key has no value: a record is two data, each with a NUL behind it".into());
    }
    Ok(Datum::Change(Command::Put {
        key: plain("key", &unit[..end], key, &mut reader.key)?,
        value: plain("value", &text[end + 1..], value, &mut reader.value)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::super::tests::read;
    use super::*;
    use crate::decoding::Decoder;
    use crate::format::Format;

    fn found(shape: Shape, text: &[u8]) -> Vec<Result<String, String>> {
        let decoder = Decoder::new(Format::Nul, shape, Encodings::default());
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
