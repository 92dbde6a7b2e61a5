//! The words of a command of a script: its arguments, and the message that they describe.

use std::error::Error;

use goldenscript::Command;
use wire::entry::Entry;
use wire::leadership::HandOver;
use wire::peer::{
    Append, AppendConflict, AppendOk, Digest, DiskReport, Health, InstallSnapshot, Message,
    PreVote, PreVoteAnswer, ReadIndex, ReadIndexAnswer, RequestVote, SnapshotOk, StaleTerm,
    Standing, TimeoutNow, VoteAnswer,
};
use wire::types::{EntryId, Index, NodeId, Term};

use crate::cluster::{Cluster, entry};
use crate::transfer::FILE_BYTES;

pub(crate) type Fallible<T> = Result<T, Box<dyn Error>>;

/// Positional and named arguments, parsed on demand.
pub(crate) struct Args<'a> {
    pub(crate) positional: Vec<&'a str>,
    named: Vec<(&'a str, &'a str)>,
}

impl<'a> Args<'a> {
    pub(crate) fn new(command: &'a Command) -> Self {
        let mut args = Self {
            positional: Vec::new(),
            named: Vec::new(),
        };
        for arg in &command.args {
            match arg {
                goldenscript::Argument::Positional(value) => args.positional.push(value),
                goldenscript::Argument::KeyValue(key, value) => args.named.push((key, value)),
                _ => {}
            }
        }
        args
    }

    pub(crate) fn has(&self, word: &str) -> bool {
        self.positional.contains(&word)
    }

    pub(crate) fn number(&self, place: usize) -> Fallible<u64> {
        let word = self.positional.get(place).ok_or("an argument is missing")?;
        Ok(word.parse()?)
    }

    pub(crate) fn node(&self, place: usize) -> Fallible<NodeId> {
        Ok(NodeId(self.number(place)?))
    }

    pub(crate) fn nodes(&self, cluster: &Cluster) -> Fallible<Vec<NodeId>> {
        if self.positional.is_empty() {
            return Ok(cluster.ids());
        }
        (0..self.positional.len())
            .map(|place| self.node(place))
            .collect()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.named
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| *value)
    }

    pub(crate) fn named(&self, name: &str, default: u64) -> Fallible<u64> {
        match self.get(name) {
            Some("max") => Ok(u64::MAX),
            Some(value) => Ok(value.parse()?),
            None => Ok(default),
        }
    }

    /// `INDEX@TERM`.
    pub(crate) fn id(&self, name: &str) -> Fallible<EntryId> {
        self.get(name).map_or(Ok(EntryId::default()), parse_id)
    }

    /// `digest=SUM@INDEX`.
    pub(crate) fn digest(&self) -> Fallible<Option<Digest>> {
        let Some(word) = self.get("digest") else {
            return Ok(None);
        };
        let (sum, index) = word.split_once('@').ok_or("a digest is SUM@INDEX")?;
        Ok(Some(Digest {
            index: Index(index.parse()?),
            sum: u128::from_str_radix(sum, 16)?,
        }))
    }

    /// The words of a list.
    fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        let list = self.get(name).unwrap_or("");
        list.split('/').filter(|word| !word.is_empty())
    }

    /// `1/1/2`: the terms of a log from index 1 on.
    pub(crate) fn terms(&self, name: &str) -> Fallible<Vec<u64>> {
        self.list(name).map(|word| Ok(word.parse()?)).collect()
    }

    /// `5@2/6@2`.
    pub(crate) fn entries(&self, name: &str) -> Fallible<Vec<Entry>> {
        self.list(name)
            .map(|word| {
                let id = parse_id(word)?;
                Ok(entry(id.index.0, id.term.0, word.as_bytes()))
            })
            .collect()
    }
}

pub(crate) fn parse_id(word: &str) -> Fallible<EntryId> {
    let number = |word: &str| match word {
        "max" => Ok(u64::MAX),
        word => word.parse(),
    };
    let (index, term) = word.split_once('@').ok_or("an entry is INDEX@TERM")?;
    Ok(EntryId {
        term: Term(number(term)?),
        index: Index(number(index)?),
    })
}

/// `say FROM TO KIND term=.. ..`: a message that no node of the cluster sent.
pub(crate) fn message(args: &Args) -> Fallible<Message> {
    let term = Term(args.named("term", 0)?);
    let granted = args.has("yes");
    let disk = DiskReport::default();
    let health = Health {
        lost: args.has("lost"),
        rebuilding: args.has("rebuilding"),
    };
    let digest = args.digest()?;
    Ok(match *args.positional.get(2).ok_or("no kind")? {
        "append" => Message::Append(Append {
            term,
            prev: args.id("prev")?,
            commit: Index(args.named("commit", 0)?),
            round: args.named("round", 0)?,
            standing: match args.get("whole") {
                Some(upto) => Standing::Whole(Index(upto.parse()?)),
                None if health.lost => Standing::Lost,
                None => Standing::Unsaid,
            },
            digest,
            entries: args.entries("entries")?,
        }),
        "append-ok" => Message::AppendOk(AppendOk {
            term,
            round: args.named("round", 0)?,
            match_index: Index(args.named("match", 0)?),
            received: Index(args.named("received", args.named("match", 0)?)?),
            disk,
            health,
            digest,
        }),
        "append-conflict" => Message::AppendConflict(AppendConflict {
            term,
            round: args.named("round", 0)?,
            prev: args.id("prev")?,
            conflict: args.get("conflict").map(parse_id).transpose()?,
            last: args.id("last")?,
            disk,
            health,
        }),
        "stale-term" => Message::StaleTerm(StaleTerm { term }),
        "pre-vote" => Message::PreVote(PreVote {
            term,
            last: args.id("last")?,
        }),
        "pre-vote-answer" => Message::PreVoteAnswer(PreVoteAnswer { term, granted }),
        "request-vote" => Message::RequestVote(RequestVote {
            term,
            last: args.id("last")?,
            transfer: args.has("transfer").then_some(HandOver::Asked),
        }),
        "vote-answer" => Message::VoteAnswer(VoteAnswer { term, granted }),
        "install-snapshot" => {
            let length = usize::try_from(args.named("bytes", FILE_BYTES)?)?;
            Message::InstallSnapshot(InstallSnapshot {
                term,
                round: args.named("round", 0)?,
                snapshot: args.id("snapshot")?,
                total_bytes: args.named("total", FILE_BYTES)?,
                offset: args.named("offset", 0)?,
                bytes: vec![7; length].into(),
            })
        }
        "snapshot-ok" => Message::SnapshotOk(SnapshotOk {
            term,
            round: args.named("round", 0)?,
            snapshot: args.id("snapshot")?,
            received_bytes: args.named("received", 0)?,
            disk,
            health,
        }),
        "read-index" => Message::ReadIndex(ReadIndex {
            term,
            question: args.named("question", 0)?,
        }),
        "read-index-answer" => Message::ReadIndexAnswer(ReadIndexAnswer {
            term,
            question: args.named("question", 0)?,
            index: Index(args.named("index", 0)?),
        }),
        "timeout-now" => Message::TimeoutNow(TimeoutNow {
            term,
            why: HandOver::Asked,
        }),
        other => return Err(format!("no message is called {other}").into()),
    })
}
