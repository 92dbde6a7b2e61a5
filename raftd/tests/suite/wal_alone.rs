//! Whether anybody else could have what is damaged.

use std::collections::VecDeque;

use raftd::disk::Latched;
use raftd::disk::sim::SimDisk;
use raftd::fatal::ExitStatus;
use raftd::node::io::StorageEvent;
use raftd::snapshot::{Step, Writer};
use raftd::storage::{Options, open_disk};
use raftd::store::Store;
use raftd::store::session::SESSIONS_MAX;
use raftd::wal::Pending;
use raftd::wal::identity::Identity;
use raftd::wal::segment::segment_name;
use wire::types::{ClusterId, Epoch, Index};

use crate::wal_damage::put;
use crate::wal_story::{open, options};
use crate::wal_support::{alone_entry, entries, identity, membership_entry, rot_text, write};

/// A member that began alone has others now, or the reverse: who could have what is damaged is told by
/// the newest membership of the log, without one by the newest snapshot, and only then by IDENTITY.
#[test]
fn who_is_a_member_says_whether_damage_is_final() {
    let alone = Identity {
        members: identity().members[..1].to_vec(),
        ..identity()
    };
    let cases = [
        // Who began; what a snapshot and then the log say; whether damage is final.
        (identity(), None, None, false),
        (alone.clone(), None, None, true),
        (alone.clone(), None, Some(membership_entry(4, 1)), false),
        (identity(), None, Some(alone_entry(4, 1)), true),
        (alone.clone(), Some(membership_entry(2, 1)), None, false),
        (identity(), Some(alone_entry(2, 1)), None, true),
        (
            identity(),
            Some(alone_entry(2, 1)),
            Some(membership_entry(4, 1)),
            false,
        ),
    ];
    for (number, (began, in_snapshot, in_log, is_final)) in cases.into_iter().enumerate() {
        let context = format!("case {number}");
        let disk = SimDisk::new(9, 32 << 20);
        let open = |disk: &SimDisk| {
            let options = Options {
                create: Some(began.clone()),
                ..options(disk.operations())
            };
            open_disk(Latched::new(disk.clone()), &options)
        };
        let mut wal = open(&disk).expect("it opens").log.recovered.wal;
        let mut pending = Pending::default();
        let mut store = Store::new(began.epoch, SESSIONS_MAX);
        for index in 1..=6 {
            let told = match index {
                2 => in_snapshot.clone(),
                4 => in_log.clone(),
                _ => None,
            };
            let plain = entries(index, 1, 1, 30).remove(0);
            store.apply(told.as_ref().unwrap_or(&plain));
            // What the snapshot says the log says no more.
            let logged = told.filter(|_| index == 4).unwrap_or(plain);
            pending.push(write(index, 1, vec![logged]));
            put(&mut wal, &mut pending);
            if index == 3 && in_snapshot.is_some() {
                let (cluster, members) = (began.cluster, &began.members);
                let mut writer = Writer::begin(&disk, store.view(), cluster, members).unwrap();
                while !matches!(writer.step(&disk).unwrap(), Step::Published(_)) {}
                wal.mark(store.applied());
                put(&mut wal, &mut pending);
            }
        }
        drop(wal);
        let segment = segment_name(1);
        disk.tamper(&segment, |bytes| {
            let place = bytes.windows(4).rposition(|bytes| bytes == b"1.5.");
            bytes[place.expect("it is there")] ^= 1;
        });
        let disk = disk.restart();
        match open(&disk) {
            Ok(opened) => {
                assert!(!is_final, "{context}");
                assert_eq!(opened.log.recovered.faulty.len(), 1, "{context}");
                // And it says so, for others to help.
                let (restored, mut worker) = opened.start();
                assert_eq!(restored.raft.faulty, Some(Index(5)), "{context}");
                let mut events = VecDeque::new();
                while worker.has_work() && worker.round(&mut events).unwrap().worked {}
                let told = events
                    .iter()
                    .any(|event| matches!(event, StorageEvent::Faulty(_)));
                assert!(told, "{context}");
            }
            Err(fatal) => {
                assert!(is_final, "{context}: {fatal}");
                assert_eq!(fatal.status, ExitStatus::Damaged, "{context}: {fatal}");
            }
        }
    }
}

/// A history that was given up before it began leaves a snapshot, too.
#[test]
fn a_snapshot_of_another_history_does_not_say_who_is_a_member() {
    let elsewhere = [
        (ClusterId(9), identity().epoch),
        (identity().cluster, Epoch(9)),
    ];
    for (cluster, epoch) in elsewhere {
        let disk = SimDisk::new(9, 32 << 20);
        let mut wal = open(&disk).expect("it opens").recovered.wal;
        let mut pending = Pending::default();
        for index in 1..=6 {
            pending.push(write(index, 1, entries(index, 1, 1, 30)));
            put(&mut wal, &mut pending);
        }
        drop(wal);
        let mut store = Store::new(epoch, SESSIONS_MAX);
        store.apply(&alone_entry(1, 1));
        let members = &identity().members[..1];
        let mut writer = Writer::begin(&disk, store.view(), cluster, members).unwrap();
        while !matches!(writer.step(&disk).unwrap(), Step::Published(_)) {}
        rot_text(&disk, &segment_name(1), b"1.5.");
        let recovered = open(&disk.restart()).expect("others have it").recovered;
        assert_eq!(recovered.faulty.len(), 1);
    }
}

/// Also what is before a gap knows who else has what was in it.
#[test]
fn a_log_with_a_gap_begins_anew_only_if_there_are_others() {
    for (told, is_final) in [(membership_entry(2, 1), false), (alone_entry(2, 1), true)] {
        let began = Identity {
            members: identity().members[..1].to_vec(),
            ..identity()
        };
        let disk = SimDisk::new(9, 32 << 20);
        let open = |disk: &SimDisk| {
            let options = Options {
                create: Some(began.clone()),
                ..options(disk.operations())
            };
            open_disk(Latched::new(disk.clone()), &options)
        };
        let mut wal = open(&disk).expect("it opens").log.recovered.wal;
        let mut pending = Pending::default();
        for index in 1..=6 {
            let entry = match index {
                2 => told.clone(),
                _ => entries(index, 1, 1, 30).remove(0),
            };
            pending.push(write(index, 1, vec![entry]));
            put(&mut wal, &mut pending);
        }
        drop(wal);
        disk.tamper(&segment_name(1), |bytes| {
            let batches = bytes.windows(4).enumerate();
            let mut batches = batches.filter(|(_, magic)| magic == b"RBAT");
            let (header, _) = batches.nth(4).expect("there are seven");
            bytes[header + 40] ^= 1;
        });
        let disk = disk.restart();
        match open(&disk) {
            Ok(opened) => assert!(opened.log.recovered.report.lost && !is_final),
            Err(fatal) => assert!(is_final && fatal.status == ExitStatus::Damaged, "{fatal}"),
        }
    }
}
