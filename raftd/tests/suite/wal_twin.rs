//! The same writes on the real disk, through the map, and on the simulated one: the same bytes.

use raftd::disk::os::OsDisk;
use raftd::disk::sim::SimDisk;
use raftd::disk::{Disk, Latched};
use raftd::storage::open_log;
use raftd::wal::segment::{SegmentMaker, segment_id, segment_name};
use raftd::wal::{Pending, Progress};

use crate::wal_story::{Content, Story, content, options};
use crate::wal_support::identity;

/// Plays a story and returns what a second life finds.
fn play<D: Disk>(disk: impl Fn() -> D, seed: u64) -> Content {
    let mut wal = open_log(Latched::new(disk()), &options(seed))
        .expect("it opens")
        .recovered
        .wal;
    let mut story = Story::new(seed);
    let mut pending = Pending::default();
    for _ in 0..60 {
        pending.push(story.next_write());
        loop {
            match wal.write(&mut pending).expect("no fault is planned") {
                Progress::Idle => break,
                Progress::Durable(ticket) => ticket.into_iter().for_each(|t| story.reported(t)),
                Progress::NoRoom => {
                    let (owner, id) = (identity().owner(), wal.next_segment());
                    let bytes = options(seed).segment_bytes;
                    let maker = SegmentMaker::begin(wal.disk(), owner, id, bytes, seed);
                    let maker = maker.expect("there is room");
                    let spare = maker.finish(wal.disk()).expect("no fault is planned");
                    wal.add_spare(spare);
                }
            }
        }
        story.keep_house(&mut wal).expect("no fault is planned");
    }
    drop(wal);
    let opened = open_log(Latched::new(disk()), &options(seed)).expect("it opens again");
    let found = content(&opened.recovered);
    story.check(&found, "after a clean end");
    found
}

#[test]
fn the_map_and_the_model_leave_the_same_bytes() {
    for seed in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let os = || OsDisk::new(dir.path().to_path_buf()).unwrap();
        let sim = SimDisk::new(seed, 64 << 20);
        assert_eq!(play(os, seed), play(|| sim.clone(), seed));
        let segments = os().list("wal").unwrap();
        assert_eq!(segments, sim.list("wal").unwrap());
        let newest = segments.last().and_then(|name| segment_id(name));
        assert!(newest > Some(2), "the story rotates");
        let first = segment_name(1);
        assert!(!first.ends_with(&segments[0]), "the story compacts");
        for name in segments {
            let name = format!("wal/{name}");
            let real = std::fs::read(dir.path().join(&name)).unwrap();
            assert!(
                Some(real) == sim.content(&name),
                "{name} differs, seed {seed}"
            );
        }
        let real = std::fs::read(dir.path().join("IDENTITY")).unwrap();
        assert_eq!(Some(real), sim.content("IDENTITY"));
    }
}
