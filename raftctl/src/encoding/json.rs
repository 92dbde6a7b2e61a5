//! Keys, values and what belongs to them as one JSON object.

use serde::Serialize;

use super::{Encoding, Encodings, Record};

/// A datum of bytes: text where it is UTF-8, else base64; hex or base64 where asked for.
#[derive(Debug)]
pub(crate) enum Datum<'a> {
    Text(&'a str),
    Base64(String),
    Hex(String),
}

impl<'a> Datum<'a> {
    pub(crate) fn new(bytes: &'a [u8], encoding: Option<Encoding>) -> Self {
        match (encoding, str::from_utf8(bytes)) {
            (None, Ok(text)) => Self::Text(text),
            (Some(Encoding::Hex), _) => Self::Hex(Encoding::Hex.encode(bytes)),
            (Some(Encoding::Base64) | None, _) => Self::Base64(Encoding::Base64.encode(bytes)),
        }
    }

    /// The field that it is in an object, with its name: `name`, or with what it is written in.
    pub(crate) fn named(self, name: &str) -> (String, String) {
        match self {
            Self::Text(text) => (name.to_owned(), text.to_owned()),
            Self::Base64(text) => (format!("{name}_b64"), text),
            Self::Hex(text) => (format!("{name}_hex"), text),
        }
    }

    /// As text, base64 and hex: one of them.
    fn forms(self) -> (Option<&'a str>, Option<String>, Option<String>) {
        match self {
            Self::Text(text) => (Some(text), None, None),
            Self::Base64(text) => (None, Some(text), None),
            Self::Hex(text) => (None, None, Some(text)),
        }
    }
}

/// A key with its value and revisions. The value is left out where only keys were asked for, the
/// revisions where only data were.
#[derive(Debug, Serialize)]
pub(crate) struct Object<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_b64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_b64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
    #[serde(flatten)]
    revisions: Option<Revisions>,
}

/// What belongs to a key besides its value.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Revisions {
    pub(crate) revision: u64,
    pub(crate) create_revision: u64,
    pub(crate) version: u64,
}

impl<'a> Object<'a> {
    pub(crate) fn new(
        key: Datum<'a>,
        value: Option<Datum<'a>>,
        revisions: Option<Revisions>,
    ) -> Self {
        let (key, key_b64, key_hex) = key.forms();
        let (value, value_b64, value_hex) = value.map(Datum::forms).unwrap_or_default();
        Self {
            key,
            key_b64,
            key_hex,
            value,
            value_b64,
            value_hex,
            revisions,
        }
    }

    /// Appends it as a line.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        raftctl::json::line(self, out);
    }
}

/// Appends the line of a record: key and value, without revisions.
pub(crate) fn encode(record: Record<'_>, encodings: Encodings, out: &mut Vec<u8>) {
    let key = Datum::new(record.key, encodings.key);
    let value = Datum::new(record.value, encodings.value);
    Object::new(key, Some(value), None).encode(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(key: &[u8], value: &[u8], encoding: Option<Encoding>) -> String {
        let key = Datum::new(key, encoding);
        let value = Datum::new(value, encoding);
        let revisions = Revisions {
            revision: 3,
            create_revision: 2,
            version: 1,
        };
        let object = Object::new(key, Some(value), Some(revisions));
        serde_json::to_string(&object).unwrap()
    }

    #[test]
    fn text_is_text_and_the_rest_is_base64() {
        let rest = r#""revision":3,"create_revision":2,"version":1}"#;
        assert_eq!(
            json(b"k\n", b"", None),
            format!(r#"{{"key":"k\n","value":"",{rest}"#)
        );
        assert_eq!(
            json(b"k", b"\xff", None),
            format!(r#"{{"key":"k","value_b64":"/w==",{rest}"#)
        );
        assert_eq!(
            json(b"k", b"\xff", Some(Encoding::Hex)),
            format!(r#"{{"key_hex":"6b","value_hex":"ff",{rest}"#)
        );
        assert_eq!(
            json(b"k", b"v", Some(Encoding::Base64)),
            format!(r#"{{"key_b64":"aw==","value_b64":"dg==",{rest}"#)
        );
        let named = |bytes, encoding| Datum::new(bytes, encoding).named("key");
        for (named, name, text) in [
            (named(b"k", None), "key", "k"),
            (named(b"\xff", None), "key_b64", "/w=="),
            (named(b"k", Some(Encoding::Hex)), "key_hex", "6b"),
        ] {
            assert_eq!(named, (name.to_owned(), text.to_owned()));
        }
        let record = Record {
            key: b"k",
            value: b"\"",
        };
        let mut line = Vec::new();
        encode(record, Encodings::default(), &mut line);
        assert_eq!(line, b"{\"key\":\"k\",\"value\":\"\\\"\"}\n");
    }
}
