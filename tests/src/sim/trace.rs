//! What happened in a run, as a hash that any difference changes, and as lines for a person.

use std::collections::VecDeque;

use raft::Instant;
use xxhash_rust::xxh3::xxh3_64;

/// Lines that are kept at most: the newest.
const LINES_MAX: usize = 2_000;

/// The trace of a run. The hash covers every effect of every node, with its time.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    lines: Option<VecDeque<String>>,
    prints: bool,
}

impl Trace {
    /// A trace that also keeps the newest lines, and prints all of them if told to.
    #[must_use]
    pub fn with_lines(prints: bool) -> Self {
        Self {
            hash: 0,
            lines: Some(VecDeque::new()),
            prints,
        }
    }

    /// The hash of all so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Adds a number to the hash.
    pub fn number(&mut self, number: u64) {
        // An odd constant of good bits: every number moves all that came before.
        const SPREAD: u64 = 0x9fb2_1c65_1e98_df25;
        self.hash = (self.hash.rotate_left(23) ^ number).wrapping_mul(SPREAD);
    }

    /// Adds bytes to the hash.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(xxh3_64(bytes));
    }

    /// Whether lines are kept: else nobody need make them.
    #[must_use]
    pub fn has_lines(&self) -> bool {
        self.lines.is_some()
    }

    /// Keeps a line, if lines are kept.
    #[expect(clippy::print_stdout, reason = "that is what --trace asks for")]
    pub fn line(&mut self, now: Instant, text: impl FnOnce() -> String) {
        let Some(lines) = &mut self.lines else {
            return;
        };
        let micros = now.0 / 1_000;
        let line = format!(
            "{:>6}.{:06} {}",
            micros / 1_000_000,
            micros % 1_000_000,
            text()
        );
        if self.prints {
            println!("{line}");
        }
        if lines.len() >= LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// Keeps a line of which there are very many, if lines are printed.
    pub fn detail(&mut self, now: Instant, text: impl FnOnce() -> String) {
        if self.prints {
            self.line(now, text);
        }
    }

    /// The newest lines, oldest first.
    #[must_use]
    pub fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default().into()
    }
}
