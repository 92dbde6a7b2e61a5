//! A data directory of this format opens for ever: whatever is written later, what was written once
//! is read.

use raft::Write;
use raftd::disk::sim::SimDisk;
use raftd::disk::{Latched, Meter};
use raftd::snapshot::{Step, Writer};
use raftd::storage::{self, Options, open_log};
use raftd::wal::Progress;
use raftd::wal::format::FORMAT;
use raftd::wal::identity::Identity;
use raftd::wal::{Pending, segment};
use raftd_tests::fixture;
use wire::command::{Command, Expect};
use wire::entry::{Entry, EntryKind};
use wire::types::{EntryId, Incarnation, Index, NodeId};

use crate::snap_support::{CLUSTER, EPOCH, Maker, assert_same};
use crate::wal_story::{self, SimWal, make_spare};
use crate::wal_support::write;

/// The only member of a cluster that is formed.
fn identity() -> Identity {
    Identity {
        cluster: CLUSTER,
        epoch: EPOCH,
        formed: vec![(NodeId(1), Incarnation(77))],
        members: vec![(NodeId(1), "127.0.0.1:7401".to_owned())],
        ..crate::wal_support::identity()
    }
}

fn options() -> Options {
    Options {
        create: Some(identity()),
        ..wal_story::options(1)
    }
}

/// A life that leaves something of everything behind: segments sealed, removed, in use and spare, a
/// snapshot, a log that goes on behind it, a suffix that was replaced, two terms.
struct Life {
    disk: SimDisk,
    wal: SimWal,
    maker: Maker,
    tickets: u64,
    snapshot: EntryId,
    /// Every entry that counts, also those that the log has forgotten.
    entries: Vec<Entry>,
}

impl Life {
    fn lived() -> Self {
        let disk = SimDisk::new(1, 8 << 20);
        let opened = open_log(Latched::new(disk.clone()), &options()).unwrap();
        let mut maker = Maker::new(3);
        let mut life = Self {
            disk,
            wal: opened.recovered.wal,
            tickets: 0,
            snapshot: EntryId::default(),
            entries: vec![maker.append(EntryKind::Noop, b"")],
            maker,
        };
        life.put(write(0, 3, life.entries.clone()));
        let bytes = [0, 0xff, b'\n', 0x80];
        life.command(Command::Put {
            key: b"bytes",
            value: &bytes,
        });
        life.command(Command::Increment {
            key: b"counter",
            delta: -5,
        });
        let filler = vec![b'f'; 90_000];
        for _ in 0..5 {
            life.command(Command::Put {
                key: b"filler",
                value: &filler,
            });
        }
        life.command(Command::Delete { key: b"filler" });
        let taken = life.maker.append(EntryKind::SnapshotAt, b"");
        life.put_entry(taken);
        life.take_snapshot();
        life.command(Command::CompareAndSwap {
            key: b"bytes",
            expect: Expect::Value(&bytes),
            value: b"text",
        });
        life.replace_a_suffix();
        life.command(Command::Increment {
            key: b"counter",
            delta: 7,
        });
        make_spare(&mut life.wal).unwrap();
        life
    }

    fn command(&mut self, command: Command<'_>) {
        let entry = self.maker.apply(command);
        self.put_entry(entry);
    }

    fn put_entry(&mut self, entry: Entry) {
        self.entries.push(entry.clone());
        self.put(write(0, self.maker.term, vec![entry]));
    }

    fn put(&mut self, mut write: Write) {
        self.tickets += 1;
        write.ticket.0 = self.tickets;
        write.commit = Index(self.wal.last().index.0.saturating_sub(1));
        let mut pending = Pending::default();
        pending.push(write);
        loop {
            match self.wal.write(&mut pending).unwrap() {
                Progress::Idle => return,
                Progress::Durable(_) => {}
                Progress::NoRoom => make_spare(&mut self.wal).unwrap(),
            }
        }
    }

    fn take_snapshot(&mut self) {
        let view = self.maker.store.view();
        self.snapshot = view.applied();
        let disk = &self.disk;
        let mut writer = Writer::begin(disk, view, CLUSTER, &identity().members).unwrap();
        while !matches!(writer.step(disk).unwrap(), Step::Published(_)) {}
        self.wal.mark(self.snapshot);
        self.put(write(0, self.maker.term, Vec::new()));
        let mut gone = self.wal.compact(self.snapshot.index, 0);
        while !gone.is_empty() {
            segment::remove(self.wal.disk(), &mut gone).unwrap();
        }
    }

    /// Two entries of a leader that did not last, then those of the next.
    fn replace_a_suffix(&mut self) {
        let from = self.wal.last().index.next();
        let stale = crate::wal_support::entries(from.0, 2, 3, 40);
        self.put(write(0, 3, stale));
        self.maker.term = 5;
        let noop = self.maker.append(EntryKind::Noop, b"");
        self.entries.push(noop.clone());
        self.put(Write {
            truncate_from: Some(from),
            ..write(0, 5, vec![noop])
        });
    }
}

/// Until the format is frozen, `RAFTD_BLESS=1` writes the fixture anew.
#[test]
fn the_data_directory_of_this_format_opens() {
    let life = Life::lived();
    let kept = fixture::data_dir(FORMAT);
    if std::env::var_os("RAFTD_BLESS").is_some() {
        let names: Vec<String> = life.disk.durable_files().into_iter().map(|f| f.0).collect();
        let content = |name| life.disk.content(name).unwrap();
        let files = names.iter().map(|name| (name.as_str(), content(name)));
        fixture::pack(files, &kept).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    fixture::unpack(&kept, dir.path()).unwrap();
    let meter = Meter::default();
    let opened = storage::open(&Options {
        data_dir: dir.path().to_path_buf(),
        create: None,
        meter: meter.clone(),
        ..options()
    });
    let opened = opened.unwrap();
    assert!(meter.bytes() > life.wal.bytes() / 2, "{meter:?}");
    assert!(!opened.created);
    assert_eq!(opened.identity, identity());
    let (restored, wal) = (opened.restored, &life.wal);
    let (raft, mut store) = (restored.raft, restored.store);
    assert_eq!(raft.hard_state, wal.hard_state());
    assert_eq!((raft.base, raft.last), (wal.base(), wal.last()));
    assert!(raft.base.index > Index(0), "the log's front is gone");
    assert_eq!(raft.commit, wal.last().index.prev());
    let behind = raft.base.index.0 as usize;
    assert_eq!(raft.tail, life.entries[behind..]);
    assert_eq!(restored.snapshot.id, life.snapshot);
    assert_eq!(store.applied(), life.snapshot);
    for entry in &life.entries[life.snapshot.index.0 as usize..] {
        store.apply(entry);
    }
    assert_same(&life.maker.store, &store);
}
