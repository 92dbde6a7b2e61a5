//! What only the cluster knows: keys, names and addresses of members. A person waits: what is not
//! there in time is left out.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use raftctl::client::{
    Client, Consistency, Deadline, KeyRange, Options, Scan, ScanMode, Status, prefix_end,
};

use super::{CANDIDATES_MAX, Candidate};
use crate::config::Config;

/// The time for all of it.
const TIME: Duration = Duration::from_millis(150);
/// Where keys are cut: what they have in common up to there is one candidate.
const SEPARATORS: &[u8] = b"/:";
/// Behind all text that goes on after a separator: no text has these bytes.
const BEHIND: [u8; 8] = [0xff; 8];

/// Asks the cluster on a thread that nobody waits for longer than that.
fn ask<T: Send + 'static>(
    config: &Config,
    question: impl FnOnce(Client, Instant, &mpsc::Sender<T>) + Send + 'static,
) -> Vec<T> {
    let mut options = Options::new(config.endpoints());
    options.connect_timeout = TIME;
    let until = Instant::now() + TIME;
    let (sender, answers) = mpsc::channel();
    thread::spawn(move || question(Client::new(options), until, &sender));
    let mut got = Vec::new();
    while got.len() < CANDIDATES_MAX
        && let Ok(answer) = answers.recv_timeout(until.saturating_duration_since(Instant::now()))
    {
        got.push(answer);
    }
    got
}

/// Keys that begin with what was typed, cut at the next separator, so that they complete as paths
/// do. Any node answers.
pub(super) fn keys(config: &Config, typed: &str) -> Vec<Candidate> {
    let prefix = typed.as_bytes().to_vec();
    ask(config, move |mut client, until, sender| {
        let to = prefix_end(&prefix);
        let range = KeyRange {
            from: &prefix,
            to: to.as_deref(),
        };
        let mut after: Option<Vec<u8>> = None;
        loop {
            let deadline = Deadline::after(until.saturating_duration_since(Instant::now()));
            let scan = Scan {
                freshness: Consistency::Stale.into(),
                after: after.as_deref(),
                limit: CANDIDATES_MAX as u32,
                ..Scan::new(ScanMode::Keys, range)
            };
            let Ok(page) = client.scan(scan, deadline) else {
                return;
            };
            let mut last = after.clone();
            for item in page.items() {
                if last.as_deref().is_some_and(|last| item.key <= last) {
                    continue;
                }
                let cut = cut(item.key, prefix.len());
                let candidate = str::from_utf8(&item.key[..cut]).ok();
                let candidate = candidate.filter(|text| !text.chars().any(char::is_control));
                if let Some(text) = candidate {
                    // Whoever asked may have enough already.
                    let _ = sender.send(Candidate::new(text, ""));
                }
                let mut behind = item.key[..cut].to_vec();
                if cut < item.key.len() {
                    behind.extend(BEHIND);
                }
                last = Some(behind);
            }
            if page.more_after.is_none() {
                return;
            }
            after = last.max(page.more_after);
        }
    })
}

/// Where a key ends as a candidate: behind the first separator that comes after what was typed.
fn cut(key: &[u8], typed: usize) -> usize {
    let rest = key.get(typed..).unwrap_or_default();
    let separator = rest.iter().position(|byte| SEPARATORS.contains(byte));
    separator.map_or(key.len(), |at| typed + at + 1)
}

fn status(config: &Config) -> Option<Status> {
    let found = ask(config, |mut client, until, sender| {
        let deadline = Deadline::after(until.saturating_duration_since(Instant::now()));
        if let Ok(status) = client.status(deadline) {
            // Whoever asked may be gone.
            let _ = sender.send(status);
        }
    });
    found.into_iter().next()
}

/// Names of members.
pub(super) fn peers(config: &Config) -> Vec<Candidate> {
    let members = status(config).map_or(Vec::new(), |status| status.members);
    let named = members.into_iter().filter(|member| !member.name.is_empty());
    named
        .map(|member| Candidate::new(member.name, member.client_addr))
        .collect()
}

/// Where members serve clients.
pub(super) fn endpoints(config: &Config) -> Vec<Candidate> {
    let members = status(config).map_or(Vec::new(), |status| status.members);
    let known = members
        .into_iter()
        .filter(|member| !member.client_addr.is_empty());
    known
        .map(|member| Candidate::new(member.client_addr, member.name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_cut_behind_the_next_separator() {
        assert_eq!(cut(b"app/db/url", 0), 4);
        assert_eq!(cut(b"app/db/url", 4), 7);
        assert_eq!(cut(b"app/db/url", 7), 10);
        assert_eq!(cut(b"user:7:name", 2), 5);
    }
}
