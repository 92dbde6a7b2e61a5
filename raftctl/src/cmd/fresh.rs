//! How fresh a read must be, and who may answer it: the flags of every verb that reads.

use std::time::Duration;

use clap::ValueEnum;
use raftctl::client::{Consistency, Freshness};
use raftctl::failure::Failure;
use wire::limits::COUNTER_MAX;
use wire::types::Index;

use crate::config::setting;

/// What a read must see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Level {
    /// Every write that was acknowledged before
    #[default]
    Linear,
    /// What the node that is asked happens to have
    Stale,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Fresh {
    /// What must be seen: every acknowledged write, or what the node that is asked has.
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t)]
    consistency: Level,
    /// With stale: all that was acknowledged so long ago, such as 500ms.
    #[arg(long, value_name = "TIME", value_parser = setting::time)]
    max_lag: Option<Duration>,
    /// See this revision, whichever node answers.
    #[arg(long, value_name = "REV", value_parser = revision)]
    after: Option<Index>,
    /// Let the node at -e answer, though it may not lead. With stale it does.
    #[arg(long)]
    any_node: bool,
}

fn revision(text: &str) -> Result<Index, String> {
    match text.parse() {
        Ok(revision @ 1..=COUNTER_MAX) => Ok(Index(revision)),
        _ => Err("a revision is a number from 1 on".into()),
    }
}

impl Fresh {
    /// As the protocol says it.
    pub(crate) fn freshness(self) -> Result<Freshness, Failure> {
        let consistency = match (self.consistency, self.max_lag) {
            (Level::Linear, None) if self.any_node => Consistency::LinearizableAnywhere,
            (Level::Linear, None) => Consistency::Linearizable,
            (Level::Linear, Some(_)) => {
                let what = "--max-lag is for reads that may be stale; these are not";
                return Err(Failure::usage(what).remedy("add --consistency stale"));
            }
            (Level::Stale, None) => Consistency::Stale,
            (Level::Stale, Some(max_lag)) => Consistency::Bounded {
                max_lag_ms: u32::try_from(max_lag.as_millis()).unwrap_or(u32::MAX),
            },
        };
        let after = self.after.unwrap_or_default();
        Ok(Freshness { consistency, after })
    }
}
