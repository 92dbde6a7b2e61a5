//! What followers ask their leader on behalf of reads (thesis 6.4).

use std::collections::BTreeMap;

use raft::Instant;
use raftd::node::io::Effects;
use wire::peer::Message;
use wire::types::{NodeId, Term};

use super::Reign;

/// Every question that was put, by its number: who asked, and when first. No number is used twice.
#[derive(Debug, Default)]
pub(super) struct Questions {
    put: BTreeMap<u64, (NodeId, Instant)>,
}

impl Questions {
    /// Takes note of what a member asks.
    ///
    /// # Errors
    /// Another one has asked under that number.
    pub(super) fn note(
        &mut self,
        now: Instant,
        who: NodeId,
        effects: &Effects,
    ) -> Result<(), String> {
        for (_, message) in &effects.peers {
            if let Message::ReadIndex(m) = message {
                let (asker, _) = *self.put.entry(m.question).or_insert((who, now));
                if asker != who {
                    return Err(format!("{who} asks under a number of {asker}"));
                }
            }
        }
        Ok(())
    }
}

impl Reign {
    /// A follower is told a read index when a quorum, itself among it, was in the term after it
    /// asked (rules C1).
    pub(super) fn answers_followers(
        &self,
        who: NodeId,
        effects: &Effects,
        questions: &Questions,
        answered: &BTreeMap<NodeId, (Term, u64)>,
    ) -> Result<(), String> {
        for (_, message) in &effects.peers {
            let Message::ReadIndexAnswer(m) = message else {
                continue;
            };
            let Some((asker, since)) = questions.put.get(&m.question).copied() else {
                return Err(format!("{who} answers a question that nobody asked"));
            };
            let round = (self.term, self.round_since(since));
            let mut answered = answered.clone();
            answered.insert(asker, round);
            if m.term == self.term && !self.has_quorum(who, since, round, &answered) {
                return Err(format!(
                    "{who} answers a question of {asker}, and no quorum has spoken since it was put"
                ));
            }
        }
        Ok(())
    }
}
