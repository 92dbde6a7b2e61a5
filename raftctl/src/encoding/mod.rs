//! Bytes as text: for pipes, programs and screens. `man raftctl-formats` has the forms; of the four
//! that bulk work knows (tsv, json, nul, frame) what is encoded decodes to the same bytes.

pub(crate) mod csv;
pub(crate) mod env;
pub(crate) mod frame;
pub(crate) mod json;
pub(crate) mod nul;
pub(crate) mod screen;
pub(crate) mod shell;
pub(crate) mod tsv;

use std::borrow::Cow;

use data_encoding::{BASE64, BASE64_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use raftctl::failure::Failure;

use crate::format::Format;

/// How `--encode` and `--key-encode` write bytes, in arguments and in output alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Encoding {
    /// Two hex digits per byte.
    Hex,
    /// Standard base64 with padding.
    Base64,
}

/// A key with its value: what one line, pair or record of every bulk format holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

/// What keys and values are written in where a format is text; `None` is as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Encodings {
    pub(crate) key: Option<Encoding>,
    pub(crate) value: Option<Encoding>,
}

/// The encoding of keys and values, in arguments and in output.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Codec {
    /// Values are given and shown like this.
    #[arg(long, value_enum, value_name = "ENCODING")]
    pub(crate) encode: Option<Encoding>,
    #[command(flatten)]
    pub(crate) key: KeyCodec,
}

/// The encoding of keys, in arguments and in output.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct KeyCodec {
    /// Keys are given and shown like this.
    #[arg(long, value_enum, value_name = "ENCODING")]
    pub(crate) key_encode: Option<Encoding>,
}

impl Codec {
    pub(crate) fn encodings(self) -> Encodings {
        Encodings {
            key: self.key.key_encode,
            value: self.encode,
        }
    }
}

/// Writes records one by one in a bulk format; call [`Encoder::finish`] at the end.
#[derive(Debug)]
pub(crate) enum Encoder {
    Tsv(Encodings),
    Jsonl(Encodings),
    Nul(Encodings),
    Frame(frame::Encoder),
}

impl Encoder {
    /// Of one of the formats of [`crate::format::BULK`]; `None` of any other.
    pub(crate) fn new(format: Format, encodings: Encodings) -> Option<Self> {
        match format {
            Format::Tsv => Some(Self::Tsv(encodings)),
            Format::Jsonl => Some(Self::Jsonl(encodings)),
            Format::Nul => Some(Self::Nul(encodings)),
            Format::Frame => Some(Self::Frame(frame::Encoder::default())),
            Format::Table | Format::Csv | Format::Env => None,
        }
    }

    /// Appends the record, now or with those that follow.
    pub(crate) fn encode(&mut self, record: Record<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        match self {
            Self::Tsv(encodings) => tsv::encode(record, *encodings, out),
            Self::Jsonl(encodings) => json::encode(record, *encodings, out),
            Self::Nul(encodings) => return nul::encode(record, *encodings, out),
            Self::Frame(encoder) => encoder.encode(record, out),
        }
        Ok(())
    }

    /// Appends what is left of an output that breaks off.
    pub(crate) fn close(&mut self, out: &mut Vec<u8>) {
        if let Self::Frame(encoder) = self {
            encoder.close(out);
        }
    }

    /// Appends what is left, and the end.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        if let Self::Frame(encoder) = self {
            encoder.finish(out);
        }
    }
}

impl Encoding {
    /// Blanks and line ends do not count, wherever base64(1) and xxd(1) put them; padding may be
    /// missing.
    pub(crate) fn decode(self, text: &[u8]) -> Result<Vec<u8>, String> {
        let mut text = Cow::from(text.trim_ascii());
        if text.iter().any(u8::is_ascii_whitespace) {
            text.to_mut().retain(|byte| !byte.is_ascii_whitespace());
        }
        let text = &*text;
        let decoded = match self {
            Self::Hex => HEXLOWER_PERMISSIVE.decode(text),
            Self::Base64 if text.ends_with(b"=") => BASE64.decode(text),
            Self::Base64 => BASE64_NOPAD.decode(text),
        };
        decoded.map_err(|error| format!("it is not {}: {error}", self.name()))
    }

    pub(crate) fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Hex => HEXLOWER.encode(bytes),
            Self::Base64 => BASE64.encode(bytes),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hex => "hex",
            Self::Base64 => "base64",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_encodings_give_back_every_byte() {
        let all: Vec<u8> = (0..=255).collect();
        for encoding in [Encoding::Hex, Encoding::Base64] {
            for bytes in [&all[..], b"", b"a", b"ab"] {
                let text = encoding.encode(bytes) + "\n";
                assert_eq!(encoding.decode(text.as_bytes()).as_deref(), Ok(bytes));
            }
        }
    }

    #[test]
    fn decoding_takes_upper_case_hex_and_unpadded_base64() {
        assert_eq!(Encoding::Hex.decode(b"00FFfa"), Ok(vec![0, 255, 250]));
        assert_eq!(Encoding::Base64.decode(b"YQ"), Ok(b"a".to_vec()));
        assert_eq!(Encoding::Base64.decode(b"YQ=="), Ok(b"a".to_vec()));
        assert_eq!(Encoding::Hex.decode(b"61 62\n63\n"), Ok(b"abc".to_vec()));
        assert_eq!(Encoding::Base64.decode(b"YW\r\nJj\n"), Ok(b"abc".to_vec()));
        assert!(Encoding::Hex.decode(b"0").is_err());
        assert!(Encoding::Hex.decode(b"zz").is_err());
        assert!(Encoding::Base64.decode(b"Y!").is_err());
    }
}
