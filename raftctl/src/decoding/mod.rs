//! Records out of bytes: the other way round from `encoding`.
//!
//! A decoder takes one unit (a line, a pair, a block) off the front of a buffer at a time. What is
//! wrong with a record is told in place of it, and the next one is looked for behind it; only where
//! nobody can know where the next one begins does the whole input fail ([`Broken`]).

mod frame;
mod json;
mod nul;
mod tsv;

use raftctl::client::Command;

use crate::encoding::{Encoding, Encodings};
use crate::format::Format;

/// What an input consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Keys with values, or other changes where the format can say so.
    Records,
    /// Keys alone. Of a record that has more, the rest does not count.
    Keys,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Datum<'a> {
    /// Of [`Shape::Records`].
    Change(Command<'a>),
    /// Of [`Shape::Keys`].
    Key(&'a [u8]),
}

/// The bytes that a record was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Raw<'a> {
    /// All of them, its end included.
    Text(&'a [u8]),
    /// It was one of several in a block.
    Block,
}

/// What one unit brought: for each record, in order, what it says or why it says nothing.
pub(crate) type Each<'f> = dyn FnMut(Result<Datum<'_>, String>, Raw<'_>) + 'f;

/// The input cannot be understood from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Why.
    pub(crate) why: String,
}

/// Bytes of the longest line or pair: room for key and value of any size, however escaped.
pub(crate) const UNIT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Reads one of the formats of bulk work.
#[derive(Debug)]
pub(crate) struct Decoder {
    form: Form,
    reader: Reader,
}

/// How units follow each other, and what is in one.
#[derive(Debug)]
enum Form {
    Tsv,
    Jsonl,
    Nul,
    Frame(frame::Blocks),
}

/// What a unit of text is read with; the two buffers hold what does not stand there as it is.
#[derive(Debug)]
struct Reader {
    shape: Shape,
    encodings: Encodings,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// Reads one unit, its end included.
type Read = for<'a> fn(&'a mut Reader, &'a [u8]) -> Result<Datum<'a>, String>;

impl Decoder {
    /// For a format that bulk work knows.
    pub(crate) fn new(format: Format, shape: Shape, encodings: Encodings) -> Self {
        let form = match format {
            Format::Jsonl => Form::Jsonl,
            Format::Nul => Form::Nul,
            Format::Frame => Form::Frame(frame::Blocks::default()),
            Format::Tsv | Format::Table | Format::Csv | Format::Env => Form::Tsv,
        };
        let reader = Reader {
            shape,
            encodings,
            key: Vec::new(),
            value: Vec::new(),
        };
        Self { form, reader }
    }

    /// Whether what it refuses was damaged, as checksums tell, and not written by a person.
    pub(crate) fn has_checksums(&self) -> bool {
        matches!(self.form, Form::Frame(_))
    }

    /// Takes the unit at the front of `buffer`, calls `each` for its records, and returns how many
    /// bytes it has: 0 if it is not whole yet, or if nothing is left. `ends`: nothing comes behind
    /// `buffer`.
    pub(crate) fn decode(
        &mut self,
        buffer: &[u8],
        ends: bool,
        each: &mut Each<'_>,
    ) -> Result<usize, Broken> {
        let Self { form, reader } = self;
        let (unit, read): (_, Read) = match form {
            Form::Tsv => (line(buffer, ends)?, tsv::read),
            Form::Jsonl => (line(buffer, ends)?, json::read),
            Form::Nul => (nul::unit(buffer, ends, reader.shape)?, nul::read),
            Form::Frame(blocks) => return blocks.decode(buffer, ends, reader.shape, each),
        };
        let Some(unit) = unit else { return Ok(0) };
        each(read(reader, unit), Raw::Text(unit));
        Ok(unit.len())
    }
}

/// The line at the front of `buffer` with its end: a line feed, or that of the input.
fn line(buffer: &[u8], ends: bool) -> Result<Option<&[u8]>, Broken> {
    match memchr::memchr(b'\n', buffer) {
        Some(at) => Ok(Some(&buffer[..=at])),
        None if buffer.len() >= UNIT_BYTES_MAX => Err(Broken {
            why: format!("a line has more than {UNIT_BYTES_MAX} bytes"),
        }),
        None if ends && !buffer.is_empty() => Ok(Some(buffer)),
        None => Ok(None),
    }
}

/// A datum as it stands there, or what it says in its encoding.
fn plain<'a>(
    what: &str,
    text: &'a [u8],
    encoding: Option<Encoding>,
    into: &'a mut Vec<u8>,
) -> Result<&'a [u8], String> {
    let Some(encoding) = encoding else {
        return Ok(text);
    };
    *into = encoding
        .decode(text)
        .map_err(|why| format!("the {what} cannot be decoded: {why}"))?;
    Ok(into)
}

#[cfg(test)]
mod tests {
    use wire::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

    use super::*;
    use crate::encoding::{self, Record};

    const FORMATS: [Format; 4] = [Format::Tsv, Format::Jsonl, Format::Nul, Format::Frame];

    /// What `input` holds, read in pieces of every size that `piece` gives.
    pub(super) fn read(
        mut decoder: Decoder,
        input: &[u8],
        mut piece: impl FnMut() -> usize,
    ) -> Result<Vec<Result<String, String>>, Broken> {
        let mut found = Vec::new();
        let (mut begin, mut end) = (0, 0);
        loop {
            let ends = end == input.len();
            let used = decoder.decode(&input[begin..end], ends, &mut |datum, _| {
                found.push(datum.map(|datum| format!("{datum:?}")));
            })?;
            begin += used;
            if used == 0 && ends {
                assert_eq!(begin, end, "all was read");
                return Ok(found);
            }
            if used == 0 {
                end = (end + piece().max(1)).min(input.len());
            }
        }
    }

    fn written(format: Format, encodings: Encodings, records: &[Record<'_>]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut blocks = encoding::frame::Encoder::default();
        for record in records {
            match format {
                Format::Jsonl => encoding::json::encode(*record, encodings, &mut out),
                Format::Nul => encoding::nul::encode(*record, encodings, &mut out)
                    .expect("it holds no NUL byte"),
                Format::Frame => blocks.encode(*record, &mut out),
                _ => encoding::tsv::encode(*record, encodings, &mut out),
            }
        }
        if format == Format::Frame {
            blocks.finish(&mut out);
        }
        out
    }

    #[test]
    fn what_is_written_is_read_again_whatever_the_bytes() {
        let all: Vec<u8> = (0..=255).collect();
        let most: Vec<u8> = (1..=255).collect();
        let both = [Encoding::Hex, Encoding::Base64].map(|encoding| Encodings {
            key: Some(encoding),
            value: Some(encoding),
        });
        let [hex, base64] = both;
        let plain = Encodings::default();
        for (format, encodings) in FORMATS
            .into_iter()
            .map(|format| (format, plain))
            .chain([Format::Tsv, Format::Jsonl, Format::Nul].map(|format| (format, hex)))
            .chain([Format::Tsv, Format::Jsonl, Format::Nul].map(|format| (format, base64)))
        {
            let bytes = match (format, encodings.key) {
                (Format::Nul, None) => &most,
                _ => &all,
            };
            let mut records = vec![
                Record {
                    key: bytes,
                    value: bytes,
                },
                Record {
                    key: b"k",
                    value: b"",
                },
            ];
            let single: Vec<_> = bytes.chunks(1).collect();
            records.extend(single.iter().map(|byte| Record {
                key: byte,
                value: byte,
            }));
            let expected: Vec<_> = records
                .iter()
                .map(|record| {
                    let (key, value) = (record.key, record.value);
                    Ok(format!("{:?}", Datum::Change(Command::Put { key, value })))
                })
                .collect();
            let input = written(format, encodings, &records);
            for size in [1, 7, usize::MAX >> 1] {
                let decoder = Decoder::new(format, Shape::Records, encodings);
                let found = read(decoder, &input, || size).expect("it is sound");
                assert_eq!(found, expected, "{format:?} in pieces of {size}");
            }
            let decoder = Decoder::new(format, Shape::Keys, encodings);
            if format != Format::Tsv && format != Format::Nul {
                let keys = read(decoder, &input, || 100).expect("it is sound");
                assert_eq!(keys.len(), records.len());
                assert_eq!(keys[1], Ok(format!("{:?}", Datum::Key(b"k"))));
            }
        }
    }

    #[test]
    fn whatever_bytes_come_no_decoder_minds() {
        let record = Record {
            key: b"k\t\\\n",
            value: b"\x01\xff{\"",
        };
        let mut state = 1_u64;
        let mut draw = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % below
        };
        for format in FORMATS {
            let sound = written(format, Encodings::default(), &[record; 20]);
            for _ in 0..2_000 {
                let mut input = sound.clone();
                for _ in 0..1 + draw(3) {
                    let at = draw(input.len());
                    match draw(3) {
                        0 => input[at] = u8::try_from(draw(256)).expect("a byte"),
                        1 => drop(input.remove(at)),
                        _ => input.truncate(at + 1),
                    }
                }
                let shape = [Shape::Records, Shape::Keys][draw(2)];
                let decoder = Decoder::new(format, shape, Encodings::default());
                // It ends, and it has taken all or said why not.
                let _ = read(decoder, &input, || 1 + draw(50));
            }
        }
    }

    #[test]
    fn an_input_of_nothing_has_no_records() {
        for format in [Format::Tsv, Format::Jsonl, Format::Nul] {
            let decoder = Decoder::new(format, Shape::Records, Encodings::default());
            assert_eq!(read(decoder, b"", || 1), Ok(Vec::new()));
        }
    }

    #[test]
    fn the_largest_record_is_read_however_it_is_escaped() {
        let (key, value) = (vec![1; KEY_BYTES_MAX], vec![1; VALUE_BYTES_MAX]);
        let record = Record {
            key: &key,
            value: &value,
        };
        for format in FORMATS {
            let input = written(format, Encodings::default(), &[record]);
            let mut decoder = Decoder::new(format, Shape::Records, Encodings::default());
            let put = Datum::Change(Command::Put {
                key: &key,
                value: &value,
            });
            let mut puts = 0;
            let used = decoder.decode(&input, false, &mut |datum, _| {
                puts += 1;
                assert!(datum == Ok(put), "{format:?}");
            });
            assert!(used.is_ok_and(|used| used > 0), "{format:?}");
            assert_eq!(puts, 1, "{format:?}");
            // Before its last byte is there, it is awaited.
            if format != Format::Frame {
                let begun = &input[..input.len() - 1];
                let awaited = decoder.decode(begun, false, &mut |_, _| panic!("{format:?}"));
                assert_eq!(awaited, Ok(0), "{format:?}");
            }
        }
    }

    #[test]
    fn a_line_without_an_end_in_sight_is_given_up() {
        for format in [Format::Tsv, Format::Jsonl, Format::Nul] {
            let decoder = Decoder::new(format, Shape::Records, Encodings::default());
            let endless = vec![b'x'; UNIT_BYTES_MAX + 1];
            assert!(read(decoder, &endless, || 1 << 20).is_err(), "{format:?}");
        }
    }
}
