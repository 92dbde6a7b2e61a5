//! Exact bytes, each datum with a NUL byte behind it: for `xargs -0` and `sort -z`.

use raftctl::failure::{Exit, Failure};

use super::{Encoding, Encodings, Record, screen};

/// Appends a datum. One that holds a NUL byte itself could not be told from two.
pub(crate) fn field(
    bytes: &[u8],
    encoding: Option<Encoding>,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    match encoding {
        Some(encoding) => out.extend_from_slice(encoding.encode(bytes).as_bytes()),
        None if bytes.contains(&0) => {
            let what = "a datum holds a NUL byte, which the format nul cannot tell from its end";
            return Err(Failure::new(Exit::Refused, "nul-byte", what)
                .at(screen::shown(bytes))
                .remedy("--format frame or jsonl"));
        }
        None => out.extend_from_slice(bytes),
    }
    out.push(0);
    Ok(())
}

/// Appends a record: key, NUL, value, NUL; or nothing of it.
pub(crate) fn encode(
    record: Record<'_>,
    encodings: Encodings,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    let start = out.len();
    field(record.key, encodings.key, out)?;
    field(record.value, encodings.value, out).inspect_err(|_| out.truncate(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datum_with_a_nul_byte_is_refused() {
        let mut out = Vec::new();
        let record = Record {
            key: b"k\n",
            value: b"\xff",
        };
        encode(record, Encodings::default(), &mut out).expect("it has no NUL byte");
        assert_eq!(out, b"k\n\0\xff\0");
        let half = Record {
            key: b"k",
            value: b"\0",
        };
        assert!(encode(half, Encodings::default(), &mut out).is_err());
        assert_eq!(out, b"k\n\0\xff\0", "nothing of it is written");
        let refused = field(b"a\0b", None, &mut out).expect_err("it has one");
        assert_eq!(refused.exit, Exit::Refused);
        field(b"a\0b", Some(Encoding::Hex), &mut out).expect("hex has none");
        assert!(out.ends_with(b"\x00610062\0"));
    }
}
