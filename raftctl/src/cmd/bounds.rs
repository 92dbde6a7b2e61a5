//! A range of keys that a change is about: never all of them by mistake.

use std::ffi::OsString;

use raftctl::failure::Failure;

use crate::encoding::Encoding;
use crate::input;

/// Which keys, by options alone.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Bounds {
    /// All keys that begin with it; "" is all keys.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    prefix: Option<OsString>,
    /// Keys from this one on.
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    from: Option<OsString>,
    /// Keys below this one.
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    to: Option<OsString>,
    /// So many keys must be there, or none is removed: exit 1.
    #[arg(long, value_name = "N")]
    pub(crate) expect: Option<u64>,
}

/// A range as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    /// The first key; may be empty.
    pub(crate) from: Vec<u8>,
    /// The first key behind it, not empty; `None`: there is no end.
    pub(crate) to: Option<Vec<u8>>,
}

impl Bounds {
    /// The range; `None` if no option names one.
    pub(crate) fn range(&self, encoding: Option<Encoding>) -> Result<Option<Range>, Failure> {
        if self.prefix.is_none() && self.from.is_none() && self.to.is_none() {
            return Ok(None);
        }
        let bound = |text: &Option<OsString>| match text {
            Some(text) => input::key(text, encoding).map(Some),
            None => Ok(None),
        };
        let [prefix, from, to] = [bound(&self.prefix)?, bound(&self.from)?, bound(&self.to)?];
        range(prefix, from, to).map(Some)
    }
}

/// The keys that are within all of these.
pub(crate) fn range(
    prefix: Option<Vec<u8>>,
    from: Option<Vec<u8>>,
    to: Option<Vec<u8>>,
) -> Result<Range, Failure> {
    if to.as_ref().is_some_and(Vec::is_empty) {
        return Err(Failure::usage("no key is below the empty one"));
    }
    let ends = [prefix_end(prefix.as_deref().unwrap_or_default()), to];
    Ok(Range {
        from: from.unwrap_or_default().max(prefix.unwrap_or_default()),
        to: ends.into_iter().flatten().min(),
    })
}

/// The first key behind all that begin with `prefix`; `None`: there is none.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix[..=kept].to_vec();
    end[kept] += 1;
    Some(end)
}
