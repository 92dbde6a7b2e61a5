//! Loads of which the cluster refuses a write: what is before it is there, and what is behind it is
//! not, or is once it may be.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};

use raftctl::client::Outcome;
use raftd::store::map::Map;
use wire::command::{SessionId, Undone, Write};
use wire::error::Error as WireError;
use wire::types::Index;

use super::fake::{Act, Asked, Fake, What};
use super::run::{Done, SOON, run, run_with, store};

/// Lines of an input: more than what is on its way at a time.
const LINES: usize = 12_000;
/// The lines that are refused. When the first is, there is room again for what comes behind it.
const LARGE: [usize; 2] = [5_000, 5_200];
/// Bytes of their values, and of the others'.
const LARGE_BYTES: usize = 300_000;
const SMALL_BYTES: usize = 1_000;

/// A server with a store that refuses large writes and does those of a session in order (rules C2).
#[derive(Default)]
struct Picky {
    map: Map,
    index: u64,
    sessions: BTreeMap<SessionId, Session>,
    /// What is said of a large write.
    refusal: Option<WireError>,
}

#[derive(Default)]
struct Session {
    last: u64,
    replies: BTreeMap<u64, (u64, Outcome)>,
}

impl Picky {
    fn act(&mut self, asked: &Asked) -> Act {
        if asked.what == What::WatchLeader {
            return Act::Nothing;
        }
        let write = asked.write();
        if write.body.len() > LARGE_BYTES
            && let Some(refusal) = &self.refusal
        {
            return asked.error(refusal.clone());
        }
        let session = self.sessions.entry(write.session).or_default();
        // A floor that was told once holds for those that come later with a lower one.
        session.last = session.last.max(write.floor - 1);
        session.replies = session.replies.split_off(&write.floor);
        if let Some((index, outcome)) = session.replies.get(&write.seq) {
            return asked.done(*index, outcome.clone());
        }
        let expected = session.last + 1;
        if write.seq < expected {
            return asked.error(WireError::Stale);
        }
        if write.seq > expected {
            return asked.error(WireError::OutOfOrder { expected });
        }
        self.index += 1;
        let decoded = Write::decode_body(&write.body).unwrap();
        let outcome = self.map.apply(Index(self.index), &decoded.command);
        session.last = write.seq;
        let reply = (self.index, outcome.clone());
        session.replies.insert(write.seq, reply);
        asked.done(self.index, outcome)
    }
}

fn key(line: usize) -> String {
    format!("k{line:05}")
}

fn line(line: usize) -> String {
    let bytes = match LARGE.contains(&line) {
        true => LARGE_BYTES,
        false => SMALL_BYTES,
    };
    format!("{}\t{}\n", key(line), "v".repeat(bytes))
}

/// A server that refuses, the folder of an input, and what both are asked about.
struct Scene {
    picky: Arc<Mutex<Picky>>,
    server: Fake,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new(refusal: WireError) -> Self {
        let picky = Arc::new(Mutex::new(Picky {
            refusal: Some(refusal),
            ..Picky::default()
        }));
        let serving = Arc::clone(&picky);
        let server = Fake::start(1, move |asked| serving.lock().unwrap().act(asked));
        let folder = tempfile::tempdir().unwrap();
        let input: String = (1..=LINES).map(line).collect();
        fs::write(folder.path().join("input"), input).unwrap();
        Self {
            picky,
            server,
            folder,
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().into()
    }

    fn load(&self, flags: &[&str]) -> Done {
        let input = self.path("input");
        // A busy machine is no reason to give up.
        let patience = match flags.contains(&"-t") {
            true => &[][..],
            false => &["-t", "60s"],
        };
        run(
            &self.server.addr,
            &[patience, &["load", &input], flags].concat(),
        )
    }

    /// Exactly these lines are written.
    #[track_caller]
    fn has(&self, lines: impl Fn(usize) -> bool) {
        let picky = self.picky.lock().unwrap();
        let wrong = (1..=LINES).find(|n| picky.map.get(key(*n).as_bytes()).is_some() != lines(*n));
        assert_eq!(wrong, None);
    }
}

fn too_large() -> WireError {
    WireError::TooLarge {
        what: "entry".into(),
        limit: 192_368,
        actual: 300_100,
    }
}

#[test]
fn a_load_stops_at_a_record_that_the_cluster_finds_too_large() {
    for flags in [&[][..], &["--checkpoint"]] {
        let scene = Scene::new(too_large());
        let checkpoint = scene.path("ck");
        let flags = [flags, &[&*checkpoint][..flags.len()]].concat();
        // Once more: it still ends there.
        for _ in 0..2 {
            let stopped = scene.load(&flags);
            assert_eq!(stopped.code, Some(6), "{stopped:?}");
            let words = "load failed at line 5000: k05000: entry of 300100 bytes is over the limit";
            assert!(stopped.stderr.contains(words), "{}", stopped.stderr);
            scene.has(|line| line < LARGE[0]);
        }
        scene.picky.lock().unwrap().refusal = None;
        scene.load(&flags).silently(0, "");
        scene.has(|_| true);
    }
}

#[test]
fn records_that_the_cluster_finds_too_large_are_left_out() {
    for flags in [&[][..], &["--checkpoint"]] {
        let scene = Scene::new(too_large());
        let (checkpoint, rejects) = (scene.path("ck"), scene.path("rejects"));
        let flags = [flags, &[&*checkpoint][..flags.len()]].concat();
        let done = scene.load(&[&["--rejects", &rejects], &flags[..]].concat());
        assert_eq!(done.code, Some(8), "{done:?}");
        let words = "load left out 2 of 12000 records";
        assert!(done.stderr.contains(words), "{}", done.stderr);
        scene.has(|line| !LARGE.contains(&line));
        let kept = fs::read_to_string(rejects).unwrap();
        assert!(kept == LARGE.map(line).concat(), "both, as they were read");
    }
}

#[test]
fn a_load_that_finds_the_disks_full_goes_on_when_there_is_room() {
    let scene = Scene::new(WireError::DiskFull { hard: true });
    let checkpoint = scene.path("ck");
    let flags = ["--checkpoint", &checkpoint];
    let stopped = scene.load(&flags);
    assert_eq!(stopped.code, Some(6), "{stopped:?}");
    scene.has(|line| line < LARGE[0]);
    scene.picky.lock().unwrap().refusal = None;
    scene.load(&flags).silently(0, "");
    scene.has(|_| true);
}

/// What is sent again may have been done by somebody who took it: nobody can say that it was not.
#[test]
fn a_load_that_goes_on_with_what_is_refused_for_good_is_not_told_to_try_for_ever() {
    let scene = Scene::new(WireError::NoLeader);
    let checkpoint = scene.path("ck");
    let given_up = scene.load(&["-t", SOON, "--checkpoint", &checkpoint]);
    // On a busy machine the last attempt of some may still be under way.
    assert!(matches!(given_up.code, Some(4 | 5)), "{given_up:?}");
    let knows = format!("run the same command again: {checkpoint} knows where to go on");
    assert!(given_up.stderr.contains(&knows), "{}", given_up.stderr);
    scene.picky.lock().unwrap().refusal = Some(too_large());
    let refused = scene.load(&["--checkpoint", &checkpoint]);
    assert_eq!(refused.code, Some(5), "{refused:?}");
    let how = format!(
        "the cluster refuses the first of these for good, and may have done it before: see with \
         `raftctl get` which of these are written, remove {checkpoint} and load the rest"
    );
    assert!(refused.stderr.contains(&how), "{}", refused.stderr);
}

/// Whoever removes its own copy of what is echoed must not remove one that was left alone.
#[test]
fn what_nobody_knows_to_be_written_is_not_echoed() {
    // What a retry is told when the first answer was too long to keep.
    let server = Fake::start(1, |asked| {
        let outcome = Outcome::Txn {
            held: true,
            results: None,
        };
        asked.done(41, outcome)
    });
    let input = b"a\t1\nb\t2\n";
    run_with(&server.addr, &["load", "--echo"], input).silently(0, input);
    run_with(&server.addr, &["load", "--echo", "--if-absent"], input).silently(0, "");
}

#[test]
fn echoed_frames_are_an_input_again() {
    let (_from, from) = store();
    let (_to, to) = store();
    for (key, value) in [("a", "1"), ("b", ""), ("c\n", "x\ty")] {
        run(&from, &["put", key, value]).silently(0, "");
    }
    let dumped = run(&from, &["dump", "--format", "frame"]).stdout;
    let load = ["load", "--format", "frame", "--echo"];
    let echoed = run_with(&to, &load, &dumped);
    assert_eq!(echoed.code, Some(0), "{echoed:?}");
    let (_again, again) = store();
    let echoed = run_with(&again, &load, &echoed.stdout);
    assert_eq!(echoed.code, Some(0), "{echoed:?}");
    for at in [&to, &again] {
        run(at, &["dump", "--format", "frame"]).silently(0, &dumped);
    }
}

#[test]
fn an_operation_that_no_block_has_is_an_odd_answer() {
    let server = Fake::start(1, |asked| match asked.what {
        What::Write(_) => asked.done(
            1,
            Outcome::Undone {
                held: true,
                operation: u32::MAX,
                why: Undone::NotANumber,
            },
        ),
        _ => Act::Nothing,
    });
    for args in [&["load"][..], &["load", "--atomic"]] {
        let done = run_with(&server.addr, args, b"k\tv\n");
        assert_eq!(done.code, Some(5), "{done:?}");
        assert!(done.stderr.contains("the answer is Undone"), "{done:?}");
    }
}
