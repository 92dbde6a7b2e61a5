//! A range of keys that a change is about: never all of them by mistake.

use std::ffi::OsString;

use raftctl::client::prefix_end;
use raftctl::failure::Failure;

use crate::encoding::Encoding;
use crate::encoding::screen::shown;
use crate::encoding::shell::quoted;
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
    /// What a person types to confirm that it was meant.
    pub(crate) name: String,
}

impl Bounds {
    /// The verb with the options that name the range, as they were typed.
    pub(crate) fn said(&self, verb: &str) -> String {
        let options = [
            ("--prefix", &self.prefix),
            ("--from", &self.from),
            ("--to", &self.to),
        ];
        let given = options
            .iter()
            .filter_map(|(name, text)| Some((name, text.as_ref()?)));
        given.fold(verb.to_owned(), |said, (name, text)| {
            format!("{said} {name} {}", quoted(text))
        })
    }

    /// The range; `None` if no option names one.
    pub(crate) fn range(&self, encoding: Option<Encoding>) -> Result<Option<Range>, Failure> {
        if self.prefix.is_none() && self.from.is_none() && self.to.is_none() {
            return Ok(None);
        }
        let bound = |text: &Option<OsString>| input::bound(text.as_deref(), encoding);
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
    let name = match (&prefix, &from, &to) {
        (Some(prefix), None, None) if prefix.is_empty() => b"all keys".to_vec(),
        (Some(prefix), None, None) => prefix.clone(),
        (_, from, to) => {
            let end = |bound: &Option<Vec<u8>>| bound.clone().unwrap_or_default();
            [end(from), end(to)].join(&b".."[..])
        }
    };
    let (from, to) = within(prefix.unwrap_or_default(), from, to);
    let name = shown(&name);
    Ok(Range { from, to, name })
}

/// Where the keys that are within all of these begin, and the first key behind them.
pub(crate) fn within(
    prefix: Vec<u8>,
    from: Option<Vec<u8>>,
    to: Option<Vec<u8>>,
) -> (Vec<u8>, Option<Vec<u8>>) {
    let ends = [prefix_end(&prefix), to];
    let begin = from.unwrap_or_default().max(prefix);
    (begin, ends.into_iter().flatten().min())
}
