//! Which keys, and their pages, for the verbs that walk over them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use raftctl::client::{Deadline, Error, Page, Reached, ScanMode, Walk, Way};
use raftctl::failure::{Exit, Failure};

use super::bounds;
use super::fresh::Fresh;
use crate::encoding::Encoding;
use crate::encoding::screen::shown;
use crate::encoding::shell::{can_be_typed, quoted};
use crate::input;
use crate::session::Session;

/// Pages that are read while one is printed, and wait.
const AHEAD_MAX: usize = 1;

/// Which keys.
#[derive(Debug, clap::Args)]
pub(crate) struct Range {
    /// Keys must begin with it.
    #[arg(
        default_value = "",
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    prefix: OsString,
    /// Keys from this one on.
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    from: Option<OsString>,
    /// Keys below this one.
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    to: Option<OsString>,
    /// Keys at most.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    fresh: Fresh,
}

impl Range {
    /// Bytes that all its keys begin with.
    pub(crate) fn stem_bytes(&self, encoding: Option<Encoding>) -> Result<usize, Failure> {
        Ok(input::key(&self.prefix, encoding)?.len())
    }

    /// How to walk over it.
    pub(crate) fn way(
        &self,
        mode: ScanMode,
        reverse: bool,
        encoding: Option<Encoding>,
    ) -> Result<Way, Failure> {
        let bound = |text: &Option<OsString>| input::bound(text.as_deref(), encoding);
        let prefix = input::key(&self.prefix, encoding)?;
        let (from, to) = bounds::within(prefix, bound(&self.from)?, bound(&self.to)?);
        Ok(Way {
            freshness: self.fresh.freshness()?,
            mode,
            from,
            to,
            reverse,
            limit: self.limit.unwrap_or(u64::MAX),
        })
    }
}

/// How many keys there are, all as of one revision. The time of `-t` is that of each page.
pub(crate) fn count(session: &Session<'_>, way: Way, what: &str) -> Result<u64, Failure> {
    let mut walk = Walk::new(session.client(), way);
    let mut total = 0;
    loop {
        let page = walk.next_page(Deadline::after(session.timeout));
        match page.map_err(|error| Failure::of(what, &error))? {
            Some(page) => total += page.count,
            None => return Ok(total),
        }
    }
}

/// The pages of a range, all of one revision. The next one is read while one is printed; if nobody
/// takes them, no more are read. The time of `-t` is that of each page.
pub(crate) struct Pages {
    pages: Receiver<Result<Page, (Error, Option<Reached>)>>,
    what: String,
    /// The option that goes on from a key.
    bound: &'static str,
    encoding: Option<Encoding>,
}

impl Pages {
    /// Begins to read. `what` names it in errors, keys are given as `encoding` says.
    pub(crate) fn new(
        session: &Session<'_>,
        way: Way,
        what: &str,
        encoding: Option<Encoding>,
    ) -> Result<Self, Failure> {
        let what = named(what, &way);
        let bound = if way.reverse { "--to" } else { "--from" };
        let timeout = session.timeout;
        let mut walk = Walk::new(session.client(), way);
        let (sender, pages) = sync_channel(AHEAD_MAX);
        let reader = move || {
            while let Some(page) = walk.next_page(Deadline::after(timeout)).transpose() {
                let page = page.map_err(|error| (error, walk.reached().cloned()));
                let failed = page.is_err();
                // Whoever printed them may be gone.
                if sender.send(page).is_err() || failed {
                    return;
                }
            }
        };
        let spawned = thread::Builder::new().name("pages".into()).spawn(reader);
        spawned.map_err(|error| {
            Failure::new(
                Exit::Bug,
                "thread",
                format!("no thread can be started: {error}"),
            )
        })?;
        Ok(Self {
            pages,
            what,
            bound,
            encoding,
        })
    }

    /// The next page; `None` after the last.
    pub(crate) fn next(&self) -> Result<Option<Page>, Failure> {
        let page = self.pages.recv().ok().transpose();
        page.map_err(|(error, reached)| {
            let failure = Failure::of(&self.what, &error);
            match reached {
                Some(reached) => self.broken_off(failure, &reached),
                None => failure,
            }
        })
    }

    /// Says how far it came, and how to get the rest.
    fn broken_off(&self, failure: Failure, reached: &Reached) -> Failure {
        let Reached {
            revision,
            count,
            last,
        } = reached;
        let place = match failure.place.as_str() {
            "" => String::new(),
            place => format!("{place}; "),
        };
        let last_key = shown(last);
        let place = format!("{place}behind {count} keys of revision {revision}, up to {last_key}");
        let word = match self.encoding {
            Some(encoding) => encoding.encode(last).into(),
            None => OsStr::from_bytes(last).to_owned(),
        };
        let mut bound = OsString::from(format!("{}=", self.bound));
        bound.push(word);
        let remedy = match can_be_typed(&bound) {
            true => format!(
                "run it again; or, for the rest of it as of another revision, with {}",
                quoted(&bound)
            ),
            false => "run it again".to_owned(),
        };
        failure.at(place).remedy(remedy)
    }
}

/// The verb with where it begins, for errors.
pub(crate) fn named(verb: &str, way: &Way) -> String {
    format!("{verb} {}", shown(&way.from)).trim_end().to_owned()
}
