//! Binary blocks ([`wire::block`]): what is damaged or cut off is found.

use raftctl::client::Command;
use wire::block::{Block, parse};

use super::{Broken, Datum, Each, Raw, Shape};

/// Where in a sequence of blocks it is.
#[derive(Debug)]
pub(super) struct Blocks {
    /// Records since the begin, or the last end; `None` right behind an end.
    open: Option<u64>,
}

impl Default for Blocks {
    fn default() -> Self {
        Self { open: Some(0) }
    }
}

impl Blocks {
    /// As [`super::Decoder::decode`], of a block.
    pub(super) fn decode(
        &mut self,
        buffer: &[u8],
        ends: bool,
        shape: Shape,
        each: &mut Each<'_>,
    ) -> Result<usize, Broken> {
        let broken = |why: String| Broken { why };
        let Some((block, length)) = parse(buffer).map_err(|error| broken(error.to_string()))?
        else {
            if ends && (!buffer.is_empty() || self.open.is_some()) {
                return Err(broken("it is cut off: its end is missing".into()));
            }
            return Ok(0);
        };
        match block {
            Block::Records(records) => {
                let open = self.open.get_or_insert(0);
                for (key, value) in records {
                    *open += 1;
                    let datum = match shape {
                        Shape::Records => Datum::Change(Command::Put { key, value }),
                        Shape::Keys => Datum::Key(key),
                    };
                    each(Ok(datum), Raw::Block);
                }
            }
            Block::End { records } => {
                let found = self.open.take().unwrap_or(0);
                if found != records {
                    return Err(broken(format!(
                        "blocks are missing: there are {found} of {records} records"
                    )));
                }
            }
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::read;
    use super::*;
    use crate::decoding::Decoder;
    use crate::encoding::frame::Encoder;
    use crate::encoding::{Encodings, Record};
    use crate::format::Format;

    fn blocks(count: u32) -> Vec<u8> {
        let mut encoder = Encoder::default();
        let mut out = Vec::new();
        for n in 0..count {
            let record = Record {
                key: &n.to_be_bytes(),
                value: &[7; 3000],
            };
            encoder.encode(record, &mut out);
        }
        encoder.finish(&mut out);
        out
    }

    fn count(input: &[u8]) -> Result<usize, Broken> {
        let decoder = Decoder::new(Format::Frame, Shape::Records, Encodings::default());
        read(decoder, input, || 10_000).map(|found| found.len())
    }

    #[test]
    fn what_is_cut_off_or_changed_is_found() {
        let whole = blocks(100);
        assert_eq!(count(&whole), Ok(100));
        assert_eq!(count(&blocks(0)), Ok(0));
        assert_eq!(count(&[whole.clone(), blocks(3)].concat()), Ok(103));
        assert_eq!(count(&[blocks(0), blocks(0)].concat()), Ok(0));
        for length in (0..whole.len()).step_by(997).chain([whole.len() - 1]) {
            assert!(count(&whole[..length]).is_err(), "cut at {length}");
        }
        for at in (0..whole.len()).step_by(1009) {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(count(&changed).is_err(), "changed at {at}");
        }
        // A block in the middle is missing.
        let first = parse(&whole).expect("sound").expect("whole").1;
        assert!(count(&whole[first..]).is_err());
    }
}
