//! One JSON object per line. It may name another operation than a put.

use raftctl::client::Command;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Datum, Reader, Shape, plain};
use crate::encoding::Encoding;

/// An object, as `get`, `scan` and `dump` write them, or with an operation. A field that nobody
/// knows is a mistake that would cost data.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    op: Option<String>,
    key: Option<String>,
    key_b64: Option<String>,
    key_hex: Option<String>,
    value: Option<String>,
    value_b64: Option<String>,
    value_hex: Option<String>,
    by: Option<i64>,
    #[serde(default, rename = "revision")]
    _revision: IgnoredAny,
    #[serde(default, rename = "create_revision")]
    _create_revision: IgnoredAny,
    #[serde(default, rename = "version")]
    _version: IgnoredAny,
}

/// A datum in one of its three forms.
type Forms = [Option<String>; 3];

/// Reads a line; the last one may lack its end.
pub(super) fn read<'a>(reader: &'a mut Reader, line: &'a [u8]) -> Result<Datum<'a>, String> {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let object: Object = serde_json::from_slice(text).map_err(|error| explain(&error))?;
    let by = object.by;
    let key = [object.key, object.key_b64, object.key_hex];
    let value = [object.value, object.value_b64, object.value_hex];
    if !bytes("key", key, &mut reader.key)? {
        return Err("the object has no key".into());
    }
    let key = reader.key.as_slice();
    if reader.shape == Shape::Keys {
        return Ok(Datum::Key(key));
    }
    let op = object.op.as_deref().unwrap_or("put");
    let has_value = bytes("value", value, &mut reader.value)?;
    let value = reader.value.as_slice();
    let change = match (op, has_value, by) {
        ("put", true, None) => Command::Put { key, value },
        ("append", true, None) => Command::Append { key, value },
        ("del", false, None) => Command::Delete { key },
        ("incr", false, by) => Command::Increment {
            key,
            delta: by.unwrap_or(1),
        },
        ("put" | "append", false, _) => return Err(format!("a {op} needs a value")),
        ("del" | "incr", true, _) => return Err(format!("a {op} takes no value")),
        ("put" | "append" | "del", _, Some(_)) => {
            return Err(format!("\"by\" belongs to incr, not to {op}"));
        }
        _ => return Err("\"op\" is one of put, append, del, incr".into()),
    };
    Ok(Datum::Change(change))
}

/// Puts the datum into `into`; false if it is not there at all.
fn bytes(what: &str, [text, base64, hex]: Forms, into: &mut Vec<u8>) -> Result<bool, String> {
    let (text, encoding) = match (text, base64, hex) {
        (None, None, None) => return Ok(false),
        (Some(text), None, None) => {
            *into = text.into_bytes();
            return Ok(true);
        }
        (None, Some(text), None) => (text, Encoding::Base64),
        (None, None, Some(text)) => (text, Encoding::Hex),
        _ => return Err(format!("the object tells its {what} twice")),
    };
    plain(what, text.as_bytes(), Some(encoding), into).map(|_| true)
}

/// Without the line, which is always the first of what serde sees.
fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line 1 column {}", error.column());
    match text.strip_suffix(&place) {
        Some(what) => format!("{what}, at column {}", error.column()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::read;
    use super::*;
    use crate::decoding::Decoder;
    use crate::encoding::Encodings;
    use crate::format::Format;

    fn found(text: &str) -> Result<String, String> {
        let decoder = Decoder::new(Format::Jsonl, Shape::Records, Encodings::default());
        let mut found = read(decoder, text.as_bytes(), || 5).expect("no line is too long");
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    fn change(command: Command<'_>) -> Result<String, String> {
        Ok(format!("{:?}", Datum::Change(command)))
    }

    #[test]
    fn an_object_is_a_put_unless_it_says_so() {
        let (key, value) = (&b"k\n"[..], &b"v"[..]);
        let put = change(Command::Put { key, value });
        assert_eq!(found(r#"{"key":"k\n","value":"v"}"#), put);
        let full = r#" {"op":"put","key_b64":"awo","value_hex":"76",
            "revision":3,"create_revision":"x","version":null} "#
            .replace('\n', "");
        assert_eq!(found(&full), put);
        let append = change(Command::Append { key, value });
        assert_eq!(found(r#"{"key":"k\n","value":"v","op":"append"}"#), append);
        assert_eq!(
            found(r#"{"key":"k\n","op":"del"}"#),
            change(Command::Delete { key })
        );
        let incr = |delta| change(Command::Increment { key, delta });
        assert_eq!(found(r#"{"op":"incr","key":"k\n"}"#), incr(1));
        assert_eq!(found(r#"{"op":"incr","key":"k\n","by":-7}"#), incr(-7));
    }

    #[test]
    fn what_is_wrong_with_an_object_is_told() {
        for (text, why) in [
            ("", "EOF while parsing a value"),
            ("[]", "invalid length"),
            (
                "{\"key\":\"k\"",
                "EOF while parsing an object, at column 10",
            ),
            (r#"{"key":"k"}"#, "a put needs a value"),
            (r#"{"value":"k"}"#, "no key"),
            (r#"{"key":"k","key_b64":"aw","value":""}"#, "its key twice"),
            (r#"{"key":"k","val":"v"}"#, "unknown field `val`"),
            (r#"{"key":"k","value":1}"#, "invalid type"),
            (r#"{"key":"k","value_b64":"?"}"#, "cannot be decoded"),
            (r#"{"key":"k","op":"incr","by":1.5}"#, "invalid type"),
            (r#"{"key":"k","op":"incr","value":"1"}"#, "takes no value"),
            (r#"{"key":"k","op":"del","by":1}"#, "belongs to incr"),
            (r#"{"key":"k","value":"v","by":1}"#, "belongs to incr"),
            (
                r#"{"key":"k","value":"v","op":"append","by":1}"#,
                "belongs to incr",
            ),
            (r#"{"key":"k","op":"swap"}"#, "is one of"),
            (r#"{"key":"k","value":"v"} x"#, "trailing characters"),
        ] {
            let refused = found(&format!("{text}\n")).expect_err(text);
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }
}
