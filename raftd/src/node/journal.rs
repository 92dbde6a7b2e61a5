//! Lines for the log, without floods, and those that tell of changes.

use std::collections::BTreeMap;
use std::time::Duration;

use log::Level;
use raft::{Instant, RoleChange, RoleName};
use wire::leadership::Cause;

use super::Node;
use super::io::{Effects, Event};

/// A repeated line is written once in this time.
const REPEAT: Duration = Duration::from_secs(10);
/// Kinds of repeated lines that are told apart.
const KINDS_MAX: usize = 64;
/// Lines that wait for the end of the turn.
const LINES_MAX: usize = 256;

/// Collects lines until the turn ends.
#[derive(Debug, Default)]
pub(super) struct Journal {
    lines: Vec<Event>,
    /// When a kind of line was last written, and how many were left out since.
    repeats: BTreeMap<(&'static str, u64), (Instant, u64)>,
}

impl Journal {
    /// A line that is worth being seen each time.
    pub(super) fn line(&mut self, level: Level, text: String) {
        if self.lines.len() < LINES_MAX {
            self.lines.push(Event { level, text });
        }
    }

    /// A line that others can cause as often as they like: `kind` and `subject` name it. `text`
    /// is only made if it is written.
    pub(super) fn repeated(
        &mut self,
        now: Instant,
        level: Level,
        (kind, subject): (&'static str, u64),
        text: impl FnOnce() -> String,
    ) {
        if self.repeats.len() >= KINDS_MAX {
            self.repeats
                .retain(|_, (last, _)| now.since(*last) < REPEAT);
        }
        let known = self.repeats.contains_key(&(kind, subject));
        if !known && self.repeats.len() >= KINDS_MAX {
            return;
        }
        let (last, left_out) = self.repeats.entry((kind, subject)).or_insert((now, 0));
        if known && now.since(*last) < REPEAT {
            *left_out += 1;
            return;
        }
        let mut text = text();
        if *left_out > 0 {
            text = format!("{text} repeated={left_out}");
        }
        (*last, *left_out) = (now, 0);
        self.line(level, text);
    }

    /// Hands the lines over.
    pub(super) fn drain(&mut self, effects: &mut Effects) {
        effects.events.append(&mut self.lines);
    }
}

impl Node {
    /// The log was lost, or is whole again (rules D4).
    pub(super) fn note_loss(&mut self) {
        let lost = self.raft.hard_state().lost;
        if lost && !self.lost {
            let text = "the log was lost, waiting until a leader has brought it back".to_owned();
            self.journal.line(Level::Error, text);
        } else if self.lost && !lost {
            let text = "the log is whole again, this node votes and counts".to_owned();
            self.journal.line(Level::Info, text);
        }
        self.lost = lost;
    }

    /// One line per leader and one for the end of its reign, with the reason, and not one per attempt to elect one.
    pub(super) fn note_role(
        &mut self,
        before: RoleChange,
        change: RoleChange,
        cause: Option<Cause>,
    ) {
        let RoleChange { role, term, leader } = change;
        let (now, id) = (self.now.monotonic, self.config.id);
        if let Some((lost, cause)) = before.leader.zip(cause) {
            let (lost_term, reason) = (before.term, cause.name());
            let text = format!("leader lost leader={lost} term={lost_term} reason={reason}");
            self.journal.line(Level::Warn, text);
        }
        match (role, leader) {
            (RoleName::Leader, _) => {
                let text = format!("leader elected leader={id} term={term}");
                self.journal.line(Level::Info, text);
            }
            (RoleName::Follower, Some(leader)) => {
                let text = format!("leader elected leader={leader} term={term}");
                self.journal.line(Level::Info, text);
            }
            (RoleName::PreCandidate, _) => {
                self.journal
                    .repeated(now, Level::Info, ("pre-vote", 0), || {
                        format!("no leader heard, asking for votes term={}", term.next())
                    });
            }
            (RoleName::Candidate, _) => {
                self.journal
                    .repeated(now, Level::Info, ("election", 0), || {
                        format!("election started term={term}")
                    });
            }
            (RoleName::Follower, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::default() + Duration::from_secs(seconds)
    }

    fn lines(journal: &mut Journal) -> Vec<String> {
        let mut effects = Effects::default();
        journal.drain(&mut effects);
        effects.events.into_iter().map(|event| event.text).collect()
    }

    #[test]
    fn a_repeated_line_comes_once_in_a_while_with_the_count() {
        let mut journal = Journal::default();
        for second in 0..25 {
            journal.repeated(at(second), Level::Warn, ("no", 1), || {
                format!("no at={second}")
            });
        }
        journal.repeated(at(25), Level::Warn, ("no", 2), || "other".to_owned());
        let expected = [
            "no at=0",
            "no at=10 repeated=9",
            "no at=20 repeated=9",
            "other",
        ];
        assert_eq!(lines(&mut journal), expected);
    }

    #[test]
    fn neither_kinds_nor_lines_grow_without_bound() {
        let mut journal = Journal::default();
        for subject in 0..10_000 {
            journal.repeated(at(0), Level::Warn, ("no", subject), || "no".to_owned());
            journal.line(Level::Info, "yes".to_owned());
        }
        assert_eq!(journal.repeats.len(), KINDS_MAX);
        assert_eq!(lines(&mut journal).len(), LINES_MAX);
    }
}
