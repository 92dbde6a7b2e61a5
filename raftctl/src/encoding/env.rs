//! `NAME='VALUE'` lines for a shell: `eval "$(raftctl scan -o env cfg/)"`.

use raftctl::failure::{Exit, Failure};

use super::{Encoding, Record, screen};

/// Appends the line of a record, whose key is a shell's name.
pub(crate) fn encode(
    record: Record<'_>,
    encoding: Option<Encoding>,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    let Record { key, value } = record;
    let encoded = encoding.map(|encoding| encoding.encode(value));
    let value = encoded.as_ref().map_or(value, |text| text.as_bytes());
    let unfit = |what: &str, remedy: &str| {
        Failure::new(Exit::Refused, "no-variable", what)
            .at(screen::shown(key))
            .remedy(remedy)
    };
    if !is_name(key) {
        let what = "a key is not the name of a variable: letters, digits and _, no digit first";
        return Err(unfit(
            what,
            "a PREFIX, which is left out of the name; or another --format",
        ));
    }
    if value.contains(&0) {
        return Err(unfit(
            "a value holds a NUL byte, which no variable can",
            "--encode base64",
        ));
    }
    out.extend_from_slice(key);
    out.extend_from_slice(b"='");
    for byte in value {
        match byte {
            b'\'' => out.extend_from_slice(br"'\''"),
            _ => out.push(*byte),
        }
    }
    out.extend_from_slice(b"'\n");
    Ok(())
}

fn is_name(key: &[u8]) -> bool {
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let number_first = key.first().is_none_or(u8::is_ascii_digit);
    !number_first && key.iter().all(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(key: &[u8], value: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut out = Vec::new();
        encode(Record { key, value }, None, &mut out)?;
        Ok(out)
    }

    #[test]
    fn values_are_quoted_and_names_are_safe() {
        assert_eq!(
            line(b"A_1", b"it's $HOME\n"),
            Ok(b"A_1='it'\\''s $HOME\n'\n".to_vec())
        );
        for name in [&b""[..], b"1A", b"a-b", b"a b", b"a=b", b"\xc3\xa4"] {
            let refused = line(name, b"v").expect_err("it is no name");
            assert_eq!(refused.exit, Exit::Refused);
        }
        assert!(line(b"A", b"\0").is_err());
    }
}
