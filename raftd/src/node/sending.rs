//! What a leader knows of one follower that it sends a snapshot to: what it has, what is on its way,
//! and when it is to be asked.
//!
//! A link delivers in order, and each message is answered. On a slow one that takes long: an answer
//! to a piece that was sent before a question must not be taken for the answer to that, or what is on
//! its way is sent again, and again behind the next question.

use std::time::Duration;

use raft::Instant;
use wire::types::Index;

use super::io::SnapshotFile;

/// Pieces sent and not known to be stored, at most.
pub(super) const ON_THEIR_WAY_MAX: usize = 2;
/// A follower that did not answer for so long is asked how much it has.
const ASK: Duration = Duration::from_millis(500);
/// A question that was not answered for so long is lost: it is put again.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// A follower that took nothing for so long no longer holds on to its snapshot, and to the log
/// behind it; nor does a client that asked for nothing.
pub(super) const GIVE_UP: Duration = Duration::from_secs(30);

/// A snapshot on its way to a follower.
///
/// Invariant: `received_bytes <= sent_bytes`; between them are [`ON_THEIR_WAY_MAX`] pieces at most,
/// unless the follower has less than it had.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sending {
    pub(super) file: SnapshotFile,
    /// It must be at least as new as this: the follower has no state, and may lack the log before.
    pub(super) least: Index,
    /// What the follower holds of it, as far as it told.
    pub(super) received_bytes: u64,
    /// Where the next piece begins.
    pub(super) sent_bytes: u64,
    /// It was asked how much it has, behind this many bytes, and has not answered.
    asked_behind: Option<u64>,
    /// A piece is being read from the file, at this offset.
    pub(super) reading: Option<u64>,
    /// When it was last sent something, or answered.
    pub(super) touched_at: Option<Instant>,
    /// When it last told of another state than before; what this node read since is not counted.
    pub(super) moved_at: Instant,
    /// When its first answer came, and what it had then.
    pub(super) began: Option<(Instant, u64)>,
}

impl Sending {
    pub(super) fn new(file: SnapshotFile, least: Index, now: Instant) -> Self {
        Self {
            file,
            least,
            received_bytes: 0,
            sent_bytes: 0,
            asked_behind: None,
            reading: None,
            touched_at: None,
            moved_at: now,
            began: None,
        }
    }

    /// When it is to be asked, unless it answers; `None` if it was not asked yet.
    pub(super) fn ask_at(&self) -> Option<Instant> {
        let patience = if self.is_asked() { ASK_AGAIN } else { ASK };
        self.touched_at.map(|at| at + patience)
    }

    /// Whether it was not asked yet, or does not answer.
    pub(super) fn is_to_ask(&self, now: Instant) -> bool {
        self.ask_at().is_none_or(|at| now >= at)
    }

    /// Whether it was asked and has not answered.
    pub(super) fn is_asked(&self) -> bool {
        self.asked_behind.is_some()
    }

    /// Whether the follower takes nothing, and may not hold on to the snapshot any longer. What is
    /// being read for it is waited for as long as this node's own disk takes.
    pub(super) fn is_refused(&self, now: Instant) -> bool {
        self.reading.is_none() && now.since(self.moved_at) >= GIVE_UP
    }

    /// A piece is sent; an empty one is a question.
    pub(super) fn send(&mut self, now: Instant, offset: u64, bytes: usize) {
        self.touched_at = Some(now);
        if bytes == 0 {
            self.asked_behind = Some(self.sent_bytes);
        } else {
            self.sent_bytes = offset + bytes as u64;
        }
    }

    /// It told how much it has.
    pub(super) fn has_told(&mut self, now: Instant, received_bytes: u64) {
        let had = self.received_bytes;
        if self.began.is_none() || received_bytes != had {
            self.moved_at = now;
        }
        self.began.get_or_insert((now, received_bytes));
        if self.reading.is_none() {
            self.touched_at = Some(now);
        }
        self.received_bytes = received_bytes;
        let is_lacking = self.asked_behind.is_some_and(|sent| received_bytes < sent);
        // If it has more than it had, this answers a piece, and more of them may come.
        if !is_lacking || received_bytes <= had {
            self.asked_behind = None;
            // What was sent before the question has arrived by the time that this is answered: what
            // it lacks is lost, and so is what came behind. Nothing else sends any of it again, so a
            // disk that keeps nothing is tried as often as it is asked.
            if is_lacking {
                self.sent_bytes = received_bytes;
            }
        }
        self.sent_bytes = self.sent_bytes.max(received_bytes);
    }

    /// What was asked over another link may never be answered.
    pub(super) fn renew_link(&mut self) {
        self.asked_behind = None;
    }

    /// The file is in doubt, here or there. It is asked again after a while: another one may be there
    /// by then.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        *self = Self {
            touched_at: Some(now),
            ..Self::new(self.file, self.least, now)
        };
    }

    /// A piece was read. The follower could take nothing meanwhile.
    pub(super) fn has_read(&mut self, now: Instant) {
        self.reading = None;
        let began = self.touched_at.expect("it has answered");
        self.moved_at = self.moved_at + now.since(began);
    }

    /// Whether the next piece of so many bytes can be read, to be sent.
    pub(super) fn is_to_read(&self, piece_bytes: usize) -> bool {
        let on_their_way = self.sent_bytes - self.received_bytes;
        self.began.is_some()
            && self.reading.is_none()
            && self.sent_bytes < self.file.bytes
            && on_their_way <= (piece_bytes * (ON_THEIR_WAY_MAX - 1)) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use wire::types::EntryId;

    use super::*;

    fn sending(now: Instant) -> Sending {
        let file = SnapshotFile {
            id: EntryId::default(),
            bytes: 50,
        };
        Sending::new(file, Index(0), now)
    }

    /// A leader that slept while it read sent a piece and forgot it in the same turn (simulator, seed
    /// 77015631).
    #[test]
    fn what_a_leader_reads_for_a_follower_is_not_held_against_it() {
        let at = |seconds| Instant::default() + Duration::from_secs(seconds);
        let mut sending = sending(at(0));
        assert!(!sending.is_refused(at(29)));
        assert!(sending.is_refused(at(30)), "it took nothing");
        (sending.reading, sending.touched_at) = (Some(0), Some(at(10)));
        assert!(!sending.is_refused(at(90)), "it could take nothing");
        sending.has_read(at(90));
        assert!(!sending.is_refused(at(109)));
        assert!(sending.is_refused(at(110)), "10 s before and 20 s after");
    }

    #[test]
    fn the_first_answer_is_a_beginning_and_the_same_again_is_none() {
        let at = |seconds| Instant::default() + Duration::from_secs(seconds);
        let mut sending = sending(at(0));
        sending.has_told(at(29), 0);
        assert!(!sending.is_refused(at(58)));
        sending.has_told(at(58), 0);
        assert!(sending.is_refused(at(59)), "it took nothing");
        sending.has_told(at(59), 10);
        assert!(!sending.is_refused(at(88)));
    }

    #[test]
    fn two_pieces_are_on_their_way_at_most() {
        let mut sending = sending(Instant::default());
        assert!(!sending.is_to_read(10), "what it has is not known");
        sending.began = Some((Instant::default(), 0));
        for (sent, received, is_to_read) in [
            (0, 0, true),
            (10, 0, true),
            (20, 0, false),
            (20, 10, true),
            (50, 40, false),
        ] {
            (sending.sent_bytes, sending.received_bytes) = (sent, received);
            assert_eq!(sending.is_to_read(10), is_to_read, "{sent} {received}");
        }
        (sending.sent_bytes, sending.received_bytes) = (10, 10);
        sending.reading = Some(10);
        assert!(!sending.is_to_read(10), "one is read at a time");
    }

    /// On a line that takes 4 s for a piece a 40 MB snapshot went over almost three times.
    #[test]
    fn what_is_on_its_way_over_a_slow_line_is_not_sent_again() {
        const PIECE: u64 = 10;
        let at = |ms| Instant::default() + Duration::from_millis(ms);
        let mut sending = sending(at(0));
        // What is in the line: offset and bytes. The first of it arrives then.
        let mut line = VecDeque::new();
        let (mut arrival, mut here, mut sent) = (0, 0, 0);
        for now in (0..60_000).step_by(20) {
            if sending.is_to_ask(at(now)) {
                sending.send(at(now), 0, 0);
                line.push_back((0, 0));
            }
            while sending.is_to_read(PIECE as usize) {
                let offset = sending.sent_bytes;
                sending.send(at(now), offset, PIECE as usize);
                line.push_back((offset, PIECE));
                sent += PIECE;
            }
            if now < arrival {
                continue;
            }
            if let Some((offset, bytes)) = line.pop_front() {
                if offset == here {
                    here += bytes;
                }
                sending.has_told(at(now), here);
            }
            arrival = now + line.front().map_or(0, |(_, bytes)| bytes * 400);
        }
        assert_eq!((here, sent), (50, 50), "received and sent");
    }

    /// Each is asked for anew: after a loss, at once; if the question is lost, too, over a new link
    /// or after a while.
    #[test]
    fn what_is_lost_is_sent_again() {
        let at = |ms| Instant::default() + Duration::from_millis(ms);
        let mut sending = sending(at(0));
        sending.send(at(0), 0, 0);
        sending.has_told(at(0), 0);
        sending.send(at(0), 0, 10);
        sending.send(at(0), 10, 10);
        assert!(!sending.is_to_ask(at(499)));
        assert!(sending.is_to_ask(at(500)));
        sending.send(at(500), 0, 0);
        sending.has_told(at(600), 10);
        assert_eq!(sending.sent_bytes, 20, "the other one may come");
        assert!(!sending.is_to_ask(at(10_599)));
        assert!(sending.is_to_ask(at(10_600)));
        sending.renew_link();
        assert!(sending.is_to_ask(at(1_100)));
        sending.send(at(1_100), 0, 0);
        sending.has_told(at(1_200), 10);
        assert_eq!(sending.sent_bytes, 10, "it was asked behind the other one");
    }
}
