//! The model keeps to what it says of itself.

use super::inode::SECTOR;
use super::random::Random;
use super::*;
use crate::disk::SECTOR_BYTES;

fn file(disk: &SimDisk, name: &str, sectors: u64) -> SimFile {
    let mut file = disk.create(name, sectors * SECTOR_BYTES).unwrap();
    disk.map(&mut file).unwrap();
    file
}

#[test]
fn what_was_synced_survives_and_the_rest_is_old_new_or_garbage() {
    let (mut old, mut new, mut garbage) = (0, 0, 0);
    for seed in 0..8 {
        let disk = SimDisk::new(seed, 1 << 20);
        let a = file(&disk, "d/a", 100);
        disk.store(&a, 0, &[1; 50 * SECTOR]).unwrap();
        disk.sync(&a).unwrap();
        disk.sync_dir("d").unwrap();
        disk.store(&a, 40 * SECTOR_BYTES, &[2; 20 * SECTOR])
            .unwrap();
        disk.power_loss();
        let left = disk.restart().content("d/a").expect("its name was synced");
        assert!(left[..40 * SECTOR].iter().all(|byte| *byte == 1));
        assert!(left[60 * SECTOR..].iter().all(|byte| *byte == 0));
        for (n, sector) in left[40 * SECTOR..60 * SECTOR].chunks(SECTOR).enumerate() {
            let before = u8::from(n < 10);
            match sector {
                s if s.iter().all(|byte| *byte == before) => old += 1,
                s if s.iter().all(|byte| *byte == 2) => new += 1,
                _ => garbage += 1,
            }
        }
    }
    assert!(
        old > 20 && new > 20 && garbage > 20,
        "{old} {new} {garbage}"
    );
}

#[test]
fn names_are_durable_once_their_directory_is_synced() {
    let lost = (0..16).filter(|seed| {
        let disk = SimDisk::new(*seed, 1 << 20);
        file(&disk, "d/a", 1);
        disk.sync_dir("d").unwrap();
        file(&disk, "d/b", 1);
        disk.power_loss();
        let disk = disk.restart();
        assert!(disk.content("d/a").is_some());
        disk.content("d/b").is_none()
    });
    assert!((1..16).contains(&lost.count()));
}

#[test]
fn a_directory_is_durable_once_the_one_above_is_synced() {
    let lost = |above: bool| {
        let seeds = (0..16).filter(|seed| {
            let disk = SimDisk::new(*seed, 1 << 20);
            disk.create_dir("d").unwrap();
            file(&disk, "d/a", 1);
            disk.sync_dir("d").unwrap();
            if above {
                disk.sync_dir("").unwrap();
            }
            // It is there, so it is not made again.
            disk.create_dir("d").unwrap();
            disk.power_loss();
            disk.restart().content("d/a").is_none()
        });
        seeds.count()
    };
    assert!((1..16).contains(&lost(false)));
    assert_eq!(lost(true), 0);
}

#[test]
fn what_is_not_there_cannot_be_removed() {
    let disk = SimDisk::new(1, 1 << 20);
    file(&disk, "d/a", 1);
    disk.remove("d/a").unwrap();
    assert!(disk.remove("d/a").unwrap_err().is_not_found());
}

#[test]
fn a_failed_sync_looks_clean_until_the_cache_is_dropped() {
    let disk = SimDisk::new(1, 1 << 20);
    let a = file(&disk, "a", 1);
    disk.sync(&a).unwrap();
    disk.store(&a, 0, &[7; SECTOR]).unwrap();
    disk.fail_at(disk.operations() + 1, Fault::Io);
    assert!(disk.sync(&a).is_err());
    assert!(
        disk.sync(&a).is_ok(),
        "the second sync has nothing to write"
    );
    assert_eq!(disk.content("a").unwrap()[0], 7);
    disk.drop_cache(&a);
    assert_eq!(disk.content("a").unwrap()[0], 0);
}

#[test]
fn handles_of_an_earlier_life_are_dead() {
    let disk = SimDisk::new(1, 1 << 20);
    let a = file(&disk, "a", 1);
    disk.fail_at(disk.operations() + 1, Fault::Kill);
    assert!(disk.store(&a, 0, &[7]).is_err());
    assert!(disk.is_down());
    let next = disk.restart();
    assert!(disk.sync(&a).is_err());
    assert_eq!(
        next.content("a").unwrap()[0],
        7,
        "the cache survives a kill"
    );
}

#[test]
fn a_size_that_was_not_synced_is_the_old_or_the_new_one() {
    let (mut old, mut new) = (0, 0);
    for (seed, (before, after)) in (0..32).zip([(700, 5000), (5000, 700)].into_iter().cycle()) {
        let disk = SimDisk::new(seed, 1 << 20);
        let a = disk.create("a", before).unwrap();
        disk.write_at(&a, 0, &[1; 600]).unwrap();
        disk.sync(&a).unwrap();
        disk.sync_dir("").unwrap();
        disk.resize(&a, after).unwrap();
        assert_eq!(disk.bytes(&a).unwrap(), after);
        disk.power_loss();
        let left = disk.restart().content("a").unwrap();
        match left.len() as u64 {
            bytes if bytes == before => old += 1,
            bytes if bytes == after => new += 1,
            bytes => panic!("{bytes} bytes"),
        }
        assert_eq!(left[..512], [1; 512], "what was synced stays");
    }
    assert!(old > 4 && new > 4, "{old} {new}");
}

#[test]
fn what_was_cut_never_comes_back() {
    for seed in 0..16 {
        let disk = SimDisk::new(seed, 1 << 20);
        let a = disk.create("a", 6000).unwrap();
        disk.write_at(&a, 0, &[1; 6000]).unwrap();
        disk.sync(&a).unwrap();
        disk.resize(&a, 1000).unwrap();
        match seed % 4 {
            0 => {}
            1 => disk.sync(&a).unwrap(),
            _ => {
                disk.fail_next(Operation::Sync, Fault::Io);
                disk.sync(&a).unwrap_err();
                disk.drop_cache(&a);
            }
        }
        if seed % 4 == 3 {
            disk.sync(&a).unwrap();
        }
        disk.resize(&a, 9000).unwrap();
        let content = disk.content("a").unwrap();
        assert_eq!(content[..1000], [1; 1000]);
        assert!(content[1000..].iter().all(|byte| *byte == 0), "seed {seed}");
        assert_eq!(disk.used_bytes(), 9000);
    }
}

#[test]
fn a_full_disk_refuses_growth_and_keeps_the_file() {
    let disk = SimDisk::new(1, 4 * SECTOR_BYTES);
    let a = disk.create("a", SECTOR_BYTES).unwrap();
    for bytes in [5 * SECTOR_BYTES, u64::MAX] {
        assert!(disk.resize(&a, bytes).unwrap_err().is_no_space());
        assert_eq!(disk.bytes(&a).unwrap(), SECTOR_BYTES);
    }
    disk.resize(&a, 4 * SECTOR_BYTES).unwrap();
}

#[test]
fn a_full_disk_refuses_files() {
    let disk = SimDisk::new(1, 4 * SECTOR_BYTES);
    file(&disk, "a", 3);
    let error = disk.create("b", 2 * SECTOR_BYTES).unwrap_err();
    assert!(error.is_no_space());
    assert!(disk.content("b").is_none());
}

#[test]
fn a_failed_sync_is_forgotten_also_of_a_file_that_was_renamed() {
    let disk = SimDisk::new(1, 1 << 20);
    let a = file(&disk, "a", 1);
    disk.rename("a", "b").unwrap();
    disk.store(&a, 0, &[7; SECTOR]).unwrap();
    disk.fail_next(Operation::Sync, Fault::Io);
    assert!(disk.sync(&a).is_err());
    assert!(disk.sync(&a).is_ok());
    disk.drop_cache(&a);
    assert_eq!(disk.content("b").unwrap()[0], 0);
}

#[test]
fn what_is_durable_is_told_apart_from_what_is_seen() {
    let disk = SimDisk::new(1, 1 << 20);
    let a = file(&disk, "d/a", 20);
    disk.store(&a, 100, &[1; 5000]).unwrap();
    disk.sync(&a).unwrap();
    let mut held = [9; 6000];
    assert!(!disk.read_durable("d/a", 0, &mut held), "its name is not");
    disk.sync_dir("d").unwrap();
    disk.store(&a, 4000, &[2; 3000]).unwrap();
    assert!(disk.read_durable("d/a", 0, &mut held));
    let mut synced = [0; 6000];
    synced[100..5100].fill(1);
    assert_eq!(held, synced);
    assert_eq!(disk.content("d/a").unwrap()[4000..7000], [2; 3000]);
    assert_eq!(disk.used_sectors("d/a"), (0..10).collect::<Vec<_>>());
    assert_eq!(
        disk.durable_files(),
        [("d/a".to_owned(), 20 * SECTOR_BYTES)]
    );
}

#[test]
fn rot_is_seen_at_once_unless_the_cache_is_newer() {
    let disk = SimDisk::new(1, 1 << 20);
    let a = file(&disk, "a", 2);
    disk.store(&a, 0, &[1; 2 * SECTOR]).unwrap();
    disk.sync(&a).unwrap();
    disk.sync_dir("").unwrap();
    disk.store(&a, 0, &[2; SECTOR]).unwrap();
    disk.rot("a", 3, 4);
    disk.rot("a", SECTOR_BYTES + 3, 4);
    let seen = disk.content("a").unwrap();
    assert_eq!((seen[3], seen[SECTOR + 3]), (2, 5));
    let mut held = [0; 4];
    assert!(disk.read_durable("a", 0, &mut held));
    assert_eq!(held, [1, 1, 1, 5]);
}

#[test]
fn a_sector_that_cannot_be_read_can_be_written() {
    let disk = SimDisk::new(1, 1 << 20);
    let a = file(&disk, "a", 3);
    disk.make_unreadable("a", 600..601);
    let mut buffer = [0; 10];
    assert!(disk.read_at(&a, 0, &mut buffer).is_ok());
    assert!(disk.read_at(&a, 505, &mut buffer).is_err());
    disk.store(&a, SECTOR_BYTES, &[1; SECTOR]).unwrap();
    assert!(disk.read_at(&a, 505, &mut buffer).is_ok());
}

#[test]
fn a_lying_sync_leaves_everything_in_doubt() {
    let lost = (0..16).filter(|seed| {
        let disk = SimDisk::new(*seed, 1 << 20);
        let a = file(&disk, "a", 1);
        disk.sync(&a).unwrap();
        disk.sync_dir("").unwrap();
        disk.set_lying(true);
        disk.store(&a, 0, &[1; SECTOR]).unwrap();
        disk.sync(&a).unwrap();
        disk.drop_cache(&a);
        assert_eq!(
            disk.content("a").unwrap()[0],
            1,
            "the device's cache has it"
        );
        disk.power_loss();
        disk.restart().content("a") != Some(vec![1; SECTOR])
    });
    assert!((1..16).contains(&lost.count()));
}

#[test]
fn a_device_that_lies_may_forget_everything_at_once() {
    let all_old = (0..16).filter(|seed| {
        let disk = SimDisk::new(*seed, 1 << 20);
        let a = file(&disk, "a", 40);
        disk.sync(&a).unwrap();
        disk.sync_dir("").unwrap();
        disk.set_lying(true);
        disk.store(&a, 0, &[1; 40 * SECTOR]).unwrap();
        disk.sync(&a).unwrap();
        disk.power_loss();
        disk.restart().content("a") == Some(vec![0; 40 * SECTOR])
    });
    assert!((8..16).contains(&all_old.count()));
}

#[test]
fn a_lost_name_is_lost_although_it_was_durable() {
    let disk = SimDisk::new(1, 1 << 20);
    file(&disk, "d/a", 1);
    disk.sync_dir("d").unwrap();
    disk.lose_name("d/a");
    assert!(disk.open("d/a").unwrap_err().is_not_found());
    disk.power_loss();
    assert!(disk.restart().open("d/a").unwrap_err().is_not_found());
}

#[test]
fn a_fork_goes_its_own_way() {
    let disk = SimDisk::new(1, 1 << 20);
    let a = file(&disk, "a", 9);
    disk.store(&a, 0, &[1; 9 * SECTOR]).unwrap();
    let fork = disk.fork(2);
    let b = fork.open("a").unwrap();
    fork.write_at(&b, 10, &[2]).unwrap();
    disk.store(&a, 4100, &[3]).unwrap();
    assert_eq!(disk.content("a").unwrap()[10], 1);
    assert_eq!(fork.content("a").unwrap()[10], 2);
    assert_eq!(fork.content("a").unwrap()[4100], 1);
}

/// Against the plainest model there is: two copies of everything, and a list of what differs.
#[test]
fn random_work_leaves_what_the_plain_model_says() {
    const SECTORS: usize = 24;
    for seed in 0..50 {
        let mut random = Random(seed);
        let disk = SimDisk::new(seed, 1 << 20);
        let a = file(&disk, "a", SECTORS as u64);
        disk.sync(&a).unwrap();
        disk.sync_dir("").unwrap();
        let (mut cached, mut durable) = (vec![0; SECTORS * SECTOR], vec![0; SECTORS * SECTOR]);
        let mut lost = [false; SECTORS];
        for _ in 0..200 {
            let at = random.below((SECTORS * SECTOR) as u64 - 1) as usize;
            match random.below(8) {
                0 => {
                    disk.sync(&a).unwrap();
                    for (n, _) in lost.iter().enumerate().filter(|(_, lost)| !**lost) {
                        let range = n * SECTOR..(n + 1) * SECTOR;
                        durable[range.clone()].copy_from_slice(&cached[range]);
                    }
                }
                1 => {
                    disk.fail_next(Operation::Sync, Fault::Io);
                    disk.sync(&a).unwrap_err();
                    for (n, lost) in lost.iter_mut().enumerate() {
                        let range = n * SECTOR..(n + 1) * SECTOR;
                        *lost |= cached[range.clone()] != durable[range];
                    }
                }
                2 => {
                    disk.drop_cache(&a);
                    for (n, lost) in lost.iter_mut().enumerate().filter(|(_, lost)| **lost) {
                        let range = n * SECTOR..(n + 1) * SECTOR;
                        cached[range.clone()].copy_from_slice(&durable[range]);
                        *lost = false;
                    }
                }
                _ => {
                    let most = (SECTORS * SECTOR - at).min(3000) as u64;
                    let bytes = vec![random.below(3) as u8; random.below(most) as usize + 1];
                    disk.store(&a, at as u64, &bytes).unwrap();
                    cached[at..at + bytes.len()].copy_from_slice(&bytes);
                    let touched = at / SECTOR..(at + bytes.len()).div_ceil(SECTOR);
                    lost[touched].fill(false);
                }
            }
            let mut held = vec![0; SECTORS * SECTOR];
            assert!(disk.read_durable("a", 0, &mut held));
            assert!(held == durable, "seed {seed}: the disk's bytes");
            assert!(
                disk.content("a").unwrap() == cached,
                "seed {seed}: the cache's"
            );
        }
    }
}
