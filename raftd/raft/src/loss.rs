//! A follower that lost what it had acknowledged (rules D4).

use wire::peer::Standing;
use wire::types::Index;

/// What a leader keeps of a follower's loss, from the first sign of it until the follower is whole.
/// Meanwhile the follower counts for nothing: not for commits, rounds, nor as heard.
///
/// Why that is safe. Let entry E have been acknowledged by the follower before the loss. Who leads
/// now was elected by voters none of which is lost, or by this one before the loss, when it still
/// had E. If E was or may yet be committed by counting that acknowledgement, one of these voters
/// held E too (any two quorums share a voter; the lost one votes in none), so that the leader's log
/// has E (Leader Completeness, 3.6.3), at or before `upto`: acknowledgements to this very leader are
/// of entries that it had. A follower that holds all up to `upto` again holds E, and no promise of
/// its former life is broken. That a quorum of others holds all of it, too, leaves nothing to depend
/// on a disk that has failed once.
///
/// Invariants: `upto` is in the leader's log; `is_mended` never falls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loss {
    /// The leader's last index when it learned of the loss.
    upto: Index,
    /// A round that began later. Answers to it, or to a later one, are of the log as it is since;
    /// older ones may tell of what is gone.
    since: u64,
    /// The follower, and a quorum without it, hold everything up to `upto`.
    is_mended: bool,
}

impl Loss {
    /// Found by a leader whose log ends at `upto`, before it began round `since`.
    pub(crate) fn new(upto: Index, since: u64) -> Self {
        Self {
            upto,
            since,
            is_mended: false,
        }
    }

    /// Whether an answer to `round` is of the log as it is since the loss.
    pub(crate) fn believes(&self, round: u64) -> bool {
        round >= self.since
    }

    /// The follower holds everything up to `matched`, a quorum without it up to `held`.
    pub(crate) fn mend(&mut self, matched: Index, held: Index) {
        self.is_mended |= matched.min(held) >= self.upto;
    }

    /// Whether an answer to `round` from a follower that is not lost ends it: it was sent after the
    /// follower was told of the loss, so it was then told that it is whole.
    pub(crate) fn ends(&self, round: u64) -> bool {
        self.is_mended && self.believes(round)
    }

    /// What the follower is told.
    pub(crate) fn standing(&self) -> Standing {
        if self.is_mended {
            Standing::Whole(self.upto)
        } else {
            Standing::Lost
        }
    }
}
