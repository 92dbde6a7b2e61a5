//! Quorum lost for good: a member's directory becomes a cluster of one. At every operation the
//! machine may go down, and what is there then is the member of before, or the new cluster.

use bytes::BytesMut;
use raft::Write;
use raftd::disk::sim::{Fault, SimDisk};
use raftd::disk::{Disk, Latched};
use raftd::fatal::ExitStatus;
use raftd::snapshot::{Step, Writer, snapshot_name};
use raftd::storage::{OpenedDisk, Recovery, open_disk};
use raftd::store::Store;
use raftd::store::session::SESSIONS_MAX;
use raftd::wal::identity::Identity;
use raftd::wal::segment::WAL_DIR;
use raftd::wal::{Pending, Progress};
use wire::command::{Command, SessionId, Write as Put};
use wire::entry::{Entry, EntryKind};
use wire::types::{EntryId, Epoch, Incarnation, Index, NodeId, Term};

use crate::wal_damage::put;
use crate::wal_story::{open, options};
use crate::wal_support::{entries, identity, membership_entry, write};

const NEXT: Epoch = Epoch(0xe2);
const TERM: u64 = 3;

fn open_it(disk: &SimDisk) -> OpenedDisk<Latched<SimDisk>> {
    open_disk(Latched::new(disk.clone()), &options(disk.operations())).expect("it opens")
}

fn look(disk: &SimDisk) -> Result<Recovery<Latched<SimDisk>>, raftd::fatal::Fatal> {
    Recovery::look(Latched::new(disk.clone()), disk.operations())
}

pub(crate) fn put_entry(index: u64, key: &[u8]) -> Entry {
    let write = Put {
        session: SessionId {
            epoch: identity().epoch,
            born: Index(0),
            nonce: 1,
        },
        seq: index,
        floor: index,
        command: Command::Put { key, value: b"v" },
    };
    let mut body = BytesMut::new();
    write.encode_body(&mut body);
    let id = EntryId {
        term: Term(TERM),
        index: Index(index),
    };
    let kind = EntryKind::Command;
    Entry::build(&mut BytesMut::new(), id, index * 10, kind, &body)
}

fn formed() -> Vec<(NodeId, Incarnation)> {
    (1..=3)
        .map(|n| (NodeId(n), Incarnation(if n == 1 { 77 } else { n })))
        .collect()
}

/// A member whose log has writes on both sides of a joint membership, the last of which is not known
/// to be committed; with a snapshot in between, or none.
fn member(has_snapshot: bool) -> SimDisk {
    let disk = SimDisk::new(7, 32 << 20);
    let mut log = open(&disk).expect("it is made");
    log.identity.formed = formed();
    log.identity.update(&disk).expect("no fault is planned");
    let mut wal = log.recovered.wal;
    let mut pending = Pending::default();
    let mut store = Store::new(identity().epoch, SESSIONS_MAX);
    for index in 1..=8 {
        let entry = match index {
            5 => membership_entry(5, TERM),
            _ => put_entry(index, &[index as u8]),
        };
        store.apply(&entry);
        pending.push(Write {
            commit: Index(index - 1),
            ..write(index, TERM, vec![entry])
        });
        put(&mut wal, &mut pending);
        if has_snapshot && index == 3 {
            let cluster = identity().cluster;
            let writer = Writer::begin(&disk, store.view(), cluster, &identity().members);
            let mut writer = writer.expect("there is room");
            while !matches!(
                writer.step(&disk).expect("there is room"),
                Step::Published(_)
            ) {}
            wal.mark(store.applied());
            put(&mut wal, &mut pending);
        }
    }
    drop(wal);
    disk.power_loss();
    disk.restart()
}

fn keys(store: &Store) -> Vec<Vec<u8>> {
    let view = store.view();
    view.items().map(|item| item.key.to_vec()).collect()
}

/// The new cluster, as the next start finds it.
fn check_new(opened: &OpenedDisk<Latched<SimDisk>>, context: &str) {
    let own = NodeId(1);
    let found = &opened.log.identity;
    let addr = "127.0.0.1:7401".to_owned();
    let expected = Identity {
        epoch: NEXT,
        formed: vec![(own, Incarnation(77))],
        members: vec![(own, addr.clone())],
        ..identity()
    };
    assert_eq!(found, &expected, "{context}");
    let wal = &opened.log.recovered.wal;
    let first = EntryId {
        term: Term(TERM + 1),
        index: Index(9),
    };
    assert_eq!((wal.base(), wal.last()), (first, first), "{context}");
    assert_eq!(wal.hard_state().term, first.term, "{context}");
    assert_eq!(wal.hard_state().vote, None, "{context}");
    let store = &opened.state.store;
    assert_eq!(store.applied(), first, "{context}");
    assert_eq!(
        keys(store),
        [1, 2, 3, 4, 6, 7, 8].map(|n: u8| vec![n]),
        "{context}"
    );
    assert_eq!(
        (store.sessions().len(), store.view().head().epoch),
        (0, NEXT)
    );
    let members = store.membership().expect("it says who is a member");
    assert_eq!(members.newest, NodeId(10), "{context}: ids are used once");
    let [member] = &members.members[..] else {
        panic!("{context}: {members:?}");
    };
    assert_eq!(
        (member.id, &*member.name, &member.peer_addr),
        (own, "n1", &addr)
    );
    assert_eq!(member.incarnation, Some(Incarnation(77)));
    assert!(members.is_alone(own) && !members.is_joint());
}

/// The member of before, with nothing of the attempt.
fn check_old(opened: &OpenedDisk<Latched<SimDisk>>, context: &str) {
    let expected = Identity {
        formed: formed(),
        ..identity()
    };
    assert_eq!(opened.log.identity, expected, "{context}");
    let wal = &opened.log.recovered.wal;
    assert_eq!(wal.last().index, Index(8), "{context}");
    assert_eq!(opened.log.recovered.memberships.len(), 1, "{context}");
}

#[test]
fn what_a_member_holds_is_told_and_becomes_a_cluster_of_one() {
    for has_snapshot in [false, true] {
        let disk = member(has_snapshot);
        let recovery = look(&disk).expect("it can be read");
        let holds = recovery.holds();
        assert_eq!((holds.node, holds.keys), (NodeId(1), 7));
        assert_eq!((holds.last.index, holds.committed), (Index(8), Index(7)));
        assert_eq!(holds.membership.members.len(), 5);
        let made = recovery.apply(NEXT, 9).expect("there is room");
        assert_eq!(made.epoch, NEXT);
        disk.power_loss();
        let disk = disk.restart();
        check_new(&open_it(&disk), "made");
        // Again there is nothing to forget; and it starts once more.
        let holds = look(&disk).expect("it can be read").holds();
        assert!(holds.membership.is_alone(NodeId(1)));
        check_new(&open_it(&disk.restart()), "once more");
    }
}

/// As a full disk leaves it: not even a reset has room in the newest segment.
#[test]
fn a_member_whose_log_has_no_room_becomes_a_cluster_of_one() {
    let disk = member(false);
    let mut wal = open(&disk).expect("it opens").recovered.wal;
    let mut pending = Pending::default();
    let mut term = TERM;
    loop {
        term += 1;
        pending.push(write(term, term, Vec::new()));
        if wal.write(&mut pending).expect("no fault is planned") == Progress::NoRoom {
            break;
        }
    }
    let segments = disk.list(WAL_DIR).unwrap();
    drop(wal);
    let disk = disk.restart();
    let recovery = look(&disk).expect("it can be read");
    recovery.apply(NEXT, 9).expect("there is room on the disk");
    disk.power_loss();
    let opened = open_it(&disk.restart());
    assert_eq!(opened.log.identity.epoch, NEXT);
    assert_eq!(opened.state.store.applied().index, Index(9));
    assert_ne!(disk.restart().list(WAL_DIR).unwrap(), segments);
}

#[test]
fn it_is_old_or_new_wherever_the_machine_goes_down() {
    for has_snapshot in [false, true] {
        let sound = member(has_snapshot);
        let whole = sound.fork(1);
        let before = whole.operations();
        look(&whole)
            .and_then(|recovery| recovery.apply(NEXT, 9))
            .expect("no fault is planned");
        let operations = whole.operations() - before;
        assert!(operations > 20, "{operations}");
        let (mut old, mut new) = (0, 0);
        for fault in [Fault::PowerLoss, Fault::Kill, Fault::NoSpace] {
            for at in 1..=operations {
                let context = format!("snapshot {has_snapshot}, {fault:?} at {at}");
                let disk = sound.fork(at);
                disk.fail_at(disk.operations() + at, fault);
                let made = look(&disk).and_then(|recovery| recovery.apply(NEXT, 9));
                // A start or another attempt, and then without power: it stays what it is.
                let disk = disk.restart();
                let started = disk.fork(2 * at);
                let opened = open_it(&started);
                let written = Identity::look(&started).expect("it is whole");
                assert_eq!(written.as_ref(), Some(&opened.log.identity), "{context}");
                let is_new = opened.log.identity.epoch == NEXT;
                assert!(is_new || made.is_err(), "{context}: it was said to be done");
                match is_new {
                    true => check_new(&opened, &context),
                    false => check_old(&opened, &context),
                }
                new += u32::from(is_new);
                old += u32::from(!is_new);
                let again = look(&disk).expect("it can be read");
                assert_eq!(again.holds().epoch == NEXT, is_new, "{context}");
                if !is_new {
                    again.apply(NEXT, 10).expect("no fault is planned");
                }
                disk.power_loss();
                check_new(&open_it(&disk.restart()), &context);
            }
        }
        assert!(old > 10 && new > 3, "{old} old, {new} new");
    }
}

/// Whoever else has what is missing here is to be asked, or a backup.
#[test]
fn a_damaged_member_or_one_that_never_took_part_is_refused() {
    let disk = member(true);
    let name = snapshot_name(EntryId {
        term: Term(TERM),
        index: Index(3),
    });
    let log = "wal/0000000000000001.wal";
    let entry = disk.content(log).expect("it is there");
    let entry = entry.windows(2).rposition(|bytes| bytes == b"n5");
    let damages: [&dyn Fn(&SimDisk); 2] = [
        &|disk| disk.tamper(log, |bytes| bytes[entry.expect("a name in it")] ^= 1),
        &|disk| disk.tamper("IDENTITY", |bytes| bytes.fill(1)),
    ];
    for damage in damages {
        let disk = disk.fork(1);
        damage(&disk);
        let before = disk.content(log);
        let fatal = look(&disk).err().expect("it is damaged");
        assert_eq!(fatal.status, ExitStatus::Damaged, "{fatal}");
        assert!(
            !fatal.place.is_empty() && !fatal.remedy.is_empty(),
            "{fatal}"
        );
        assert_eq!(disk.content(log), before, "nothing is changed");
    }
    // The log is whole, and makes up for a snapshot that is not.
    let without = disk.fork(2);
    without.tamper(&name, |bytes| bytes[8192 + 60] ^= 1);
    look(&without)
        .and_then(|recovery| recovery.apply(NEXT, 9))
        .expect("the log has it all");
    check_new(&open_it(&without.restart()), "from the log");

    let unformed = SimDisk::new(7, 32 << 20);
    drop(open(&unformed));
    let fatal = look(&unformed).err().expect("it holds nothing");
    assert_eq!(fatal.status, ExitStatus::Config, "{fatal}");
    let empty = SimDisk::new(7, 32 << 20);
    let fatal = look(&empty).err().expect("there is nothing");
    assert_eq!(fatal.status, ExitStatus::Usage, "{fatal}");
}

/// What it acknowledged was to come from the others. Also if no start has found that out yet.
#[test]
fn a_member_that_lost_its_log_is_refused() {
    let disk = member(true);
    let log = "wal/0000000000000001.wal";
    disk.tamper(log, |bytes| {
        let heads = (0..bytes.len()).step_by(512);
        let mut heads = heads.filter(|at| bytes[*at..].starts_with(b"RBAT"));
        let last_but_one = heads.nth_back(1).expect("there are many");
        bytes[last_but_one + 40] ^= 1;
    });
    for started in [false, true] {
        let fatal = look(&disk.fork(1)).err().expect("it is lost");
        assert_eq!(fatal.status, ExitStatus::Damaged, "{started}: {fatal}");
        assert!(
            fatal.what.starts_with("the log is lost"),
            "{started}: {fatal}"
        );
        drop(open_it(&disk));
    }
}

/// A member that took another address since is known by that one.
#[test]
fn the_address_that_the_log_tells_stays() {
    let disk = member(false);
    let mut identity = Identity::look(&disk).unwrap().expect("it is there");
    let told = identity.members[0].1.clone();
    identity.members[0].1 = "10.0.0.1:9".to_owned();
    identity.update(&disk).unwrap();
    let made = look(&disk).and_then(|recovery| recovery.apply(NEXT, 9));
    let made = made.expect("no fault is planned");
    assert_eq!(made.members, [(NodeId(1), told)]);
}

/// Whoever was a member before the log began anew has nothing of what is in it now.
#[test]
fn nobody_of_before_is_asked_for_what_is_damaged_afterwards() {
    let disk = member(true);
    look(&disk)
        .and_then(|recovery| recovery.apply(NEXT, 9))
        .expect("no fault is planned");
    let disk = disk.restart();
    let mut wal = open(&disk).expect("it opens").recovered.wal;
    let mut pending = Pending::default();
    for index in 10..=12 {
        pending.push(write(index, TERM + 1, entries(index, 1, TERM + 1, 50)));
        put(&mut wal, &mut pending);
    }
    drop(wal);
    disk.tamper("wal/0000000000000001.wal", |bytes| {
        let place = bytes.windows(5).rposition(|bytes| bytes == b"4.11.");
        bytes[place.expect("it is there")] ^= 1;
    });
    let fatal = open(&disk.restart()).err().expect("it is alone");
    assert_eq!(fatal.status, ExitStatus::Damaged, "{fatal}");
}
