//! What peers might say: anything, and what a node in this state would be moved by.

use raft::Raft;
use wire::entry::Entry;
use wire::leadership::HandOver;
use wire::limits::COUNTER_MAX;
use wire::peer::{
    Append, AppendConflict, AppendOk, Digest, DiskReport, DiskState, Health, InstallSnapshot,
    Message, PreVote, PreVoteAnswer, ReadIndex, ReadIndexAnswer, RequestVote, SnapshotOk,
    StaleTerm, Standing, TimeoutNow, VoteAnswer,
};
use wire::types::{EntryId, Index, NodeId, Term};

use super::disk::{entry, membership_entry};
use super::script::Script;

/// The entries of one message, at most.
const ENTRIES_MAX: usize = 6;
/// Questions of the node that are remembered.
const ASKED_MAX: usize = 32;

/// What the node asked its peers.
#[derive(Debug, Default)]
pub(super) struct Asked {
    questions: Vec<(NodeId, Message)>,
}

impl Asked {
    /// The node said something.
    pub(super) fn note(&mut self, to: NodeId, message: &Message) {
        if !message.is_answer() {
            if self.questions.len() == ASKED_MAX {
                self.questions.remove(0);
            }
            self.questions.push((to, message.clone()));
        }
    }

    /// What an honest peer might answer to one of the newest questions, or might have answered
    /// to an older one; sometimes bent.
    pub(super) fn answer(&self, script: &mut Script<'_>) -> Option<(NodeId, Message)> {
        let back = script.below(8);
        let (peer, question) = self.questions.iter().rev().nth(back)?;
        let granted = !script.rarely(6);
        let answer = match question {
            Message::PreVote(m) => Message::PreVoteAnswer(PreVoteAnswer {
                term: m.term,
                granted,
            }),
            Message::RequestVote(m) => Message::VoteAnswer(VoteAnswer {
                term: m.term,
                granted,
            }),
            Message::Append(m) if granted => {
                let last = m.entries.last().map_or(m.prev.index, Entry::index);
                let received = script.pick(&[last, last, last, m.prev.index, last.prev()]);
                Message::AppendOk(AppendOk {
                    term: m.term,
                    round: m.round,
                    match_index: script.pick(&[received, received, Index(0), received.prev()]),
                    received,
                    disk: disk_report(script),
                    health: health(script),
                    digest: digest(script),
                })
            }
            Message::Append(m) => {
                let short = EntryId {
                    term: m.prev.term,
                    index: m.prev.index.prev(),
                };
                let older = EntryId {
                    term: Term(m.prev.term.0.saturating_sub(1)),
                    index: script.index(short.index),
                };
                Message::AppendConflict(AppendConflict {
                    term: m.term,
                    round: m.round,
                    prev: m.prev,
                    conflict: script.pick(&[None, Some(older)]),
                    last: script.pick(&[short, m.prev, EntryId::default()]),
                    disk: disk_report(script),
                    health: health(script),
                })
            }
            Message::InstallSnapshot(m) => Message::SnapshotOk(SnapshotOk {
                term: m.term,
                round: m.round,
                snapshot: m.snapshot,
                received_bytes: script.near(m.offset + m.bytes.len() as u64),
                disk: disk_report(script),
                health: health(script),
            }),
            Message::ReadIndex(m) => Message::ReadIndexAnswer(ReadIndexAnswer {
                term: m.term,
                question: m.question,
                index: script.index(Index(8)),
            }),
            _ => return None,
        };
        Some((*peer, answer))
    }
}

fn disk_report(script: &mut Script<'_>) -> DiskReport {
    let choice = script.byte();
    let state = match choice {
        0..=239 => DiskState::Ok,
        240..=247 => DiskState::Soft,
        _ => DiskState::Hard,
    };
    DiskReport {
        state,
        oldest_write_ms: u32::from(choice) << 24,
    }
}

fn health(script: &mut Script<'_>) -> Health {
    Health {
        lost: script.rarely(8),
        rebuilding: script.rarely(8),
    }
}

fn standing(script: &mut Script<'_>, last: Index) -> Standing {
    match script.below(8) {
        0..=4 => Standing::Unsaid,
        5 => Standing::Lost,
        _ => Standing::Whole(script.index(last)),
    }
}

pub(super) fn digest(script: &mut Script<'_>) -> Option<Digest> {
    script.rarely(8).then(|| Digest {
        index: script.index(Index(16)),
        sum: u128::from(script.byte()),
    })
}

/// Entries that nearly follow `prev`: most have no gap and no falling term, some have.
pub(super) fn entries(script: &mut Script<'_>, prev: EntryId) -> Vec<Entry> {
    let mut id = prev;
    let mut entries = Vec::new();
    for _ in 0..script.below(ENTRIES_MAX) {
        let choice = script.byte();
        let gap = if choice >= 250 { 3 } else { 1 };
        id.index.0 = id.index.0.wrapping_add(gap);
        id.term.0 = match choice % 16 {
            0..=12 => id.term.0,
            13 | 14 => id.term.0.wrapping_add(1),
            _ => id.term.0.wrapping_sub(1),
        };
        let body = usize::from(choice / 16) * 20;
        entries.push(match choice {
            200.. => membership_entry(id.term.0, id.index.0),
            _ => entry(id.term.0, id.index.0, body),
        });
    }
    entries
}

/// Any message, with numbers near those of the node, or absurd.
pub(super) fn draw(script: &mut Script<'_>, raft: &Raft) -> Message {
    let last = raft.last();
    let term = script.term(raft.term());
    match script.below(16) {
        0..=3 => {
            let base = raft.base().index;
            let at = script.pick(&[last.index, raft.commit(), raft.durable(), base]);
            // The term that the node itself has there, where that is known here.
            let known = raft.entry(at).map_or(last.term, Entry::term);
            let prev = script.id(EntryId {
                term: known,
                index: at,
            });
            Message::Append(Append {
                term,
                prev,
                commit: script.index(raft.commit()),
                round: script.near(1),
                standing: standing(script, last.index),
                digest: digest(script),
                entries: entries(script, prev),
            })
        }
        4 => Message::AppendOk(AppendOk {
            term,
            round: script.near(1),
            match_index: script.index(last.index),
            received: script.index(last.index),
            disk: disk_report(script),
            health: health(script),
            digest: digest(script),
        }),
        5 => Message::AppendConflict(AppendConflict {
            term,
            round: script.near(1),
            prev: script.id(last),
            conflict: script.flag().then(|| script.id(last)),
            last: script.id(last),
            disk: disk_report(script),
            health: health(script),
        }),
        6 => Message::StaleTerm(StaleTerm { term }),
        7 => Message::PreVote(PreVote {
            term: script.term(raft.term().next()),
            last: script.id(last),
        }),
        8 => Message::PreVoteAnswer(PreVoteAnswer {
            term,
            granted: script.flag(),
        }),
        9 | 10 => Message::RequestVote(RequestVote {
            term: script.term(raft.term().next()),
            last: script.id(last),
            transfer: script.flag().then_some(HandOver::Asked),
        }),
        11 => Message::VoteAnswer(VoteAnswer {
            term,
            granted: script.flag(),
        }),
        12 => Message::SnapshotOk(SnapshotOk {
            term,
            round: script.near(1),
            snapshot: script.id(raft.base()),
            received_bytes: script.near(1),
            disk: disk_report(script),
            health: health(script),
        }),
        13 => Message::TimeoutNow(TimeoutNow {
            term,
            why: HandOver::Asked,
        }),
        14 => {
            let question = script.near(1).clamp(1, COUNTER_MAX);
            match script.flag() {
                true => Message::ReadIndex(ReadIndex { term, question }),
                false => Message::ReadIndexAnswer(ReadIndexAnswer {
                    term,
                    question,
                    index: script.index(raft.commit()),
                }),
            }
        }
        _ => {
            let near = script.pick(&[last, last, raft.base()]);
            let length = script.below(4);
            Message::InstallSnapshot(InstallSnapshot {
                term,
                round: script.near(1),
                snapshot: script.id(near),
                total_bytes: script.near(8),
                offset: script.near(0),
                bytes: vec![7; length].into(),
            })
        }
    }
}
