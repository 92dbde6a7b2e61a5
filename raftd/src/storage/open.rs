//! Opening a data directory: lock, identity, log.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use fs2::FileExt;
use wire::membership::Membership;

use super::background::Chores;
use super::recover::finish_recovery;
use super::restore::{UNFINISHED_NAME, unfinished};
use super::{
    Keeper, LogReader, Options, Scrubber, SpareMaker, State, Worker, fatal_of, fatal_of_disk,
    fatal_of_identity, fatal_of_snapshot,
};
use crate::disk::os::OsDisk;
use crate::disk::{self, Disk, Latched};
use crate::fatal::{ExitStatus, Fatal};
use crate::node;
use crate::node::io::StorageRequest;
use crate::snapshot;
use crate::wal::format::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use crate::wal::identity::{IDENTITY_NAME, Identity};
use crate::wal::segment::WAL_DIR;
use crate::wal::{self, Recovered, Report, Settings};

pub(super) const LOCK_NAME: &str = "LOCK";

/// Whether a file or directory of this name in a data directory may be data. LOCK alone is what a
/// refused start leaves behind, and the other one is in the root of a file system.
pub(crate) fn is_data(name: &OsStr) -> bool {
    name != LOCK_NAME && name != "lost+found"
}

/// Opens the data directory, or makes it: locks it, reads who it is, recovers the log.
///
/// # Errors
/// A [`Fatal`] with the exit status: 65 damage, 69 locked, 74 I/O, 77 not permitted, 78 a
/// configuration that does not fit.
pub fn open(options: &Options) -> Result<Opened, Fatal> {
    check_segment_bytes(options.segment_bytes)?;
    let dir = &options.data_dir;
    make_dir(dir)?;
    let lock = lock(dir)?;
    let disk = OsDisk::new(dir.clone())
        .map_err(|error| under(fatal_of_disk(&error), dir))?
        .metered(&options.meter);
    let latched = Latched::new(disk.clone());

    let opened = open_disk(latched, options).map_err(|fatal| under(fatal, dir))?;
    let identity = opened.log.identity.clone();
    let created = opened.log.created;
    let recovered = &opened.log.recovered;
    let report = recovered.report.to_string();
    if let Some(damage) = &recovered.damage {
        let Report { faulty, lost, .. } = recovered.report;
        log::error!("write-ahead log damaged faulty={faulty} lost={lost} first={damage}");
    }
    let mut keeper = Keeper::new(disk.clone(), &identity, options.sessions_max);
    keeper.set_newest(opened.state.store.data_bytes(), opened.state.snapshot.bytes);
    if options.snapshot_rate_bytes == 0 {
        keeper.hurry();
    }
    let (restored, worker) = opened.start();
    let next_segment = worker.wal().next_segment();
    Ok(Opened {
        created,
        restored,
        report,
        worker,
        chores: Chores {
            maker: SpareMaker::new(disk.clone(), identity.owner(), next_segment, options),
            keeper,
            log_reader: LogReader::new(disk.clone()),
            scrubber: Scrubber::new(disk),
            snapshot_rate_bytes: options.snapshot_rate_bytes,
            scrubbing: options.scrubbing,
        },
        data_dir: dir.clone(),
        identity,
        lock,
    })
}

/// An opened data directory: what it holds, before the threads run.
pub struct Opened {
    /// Who it is.
    pub identity: Identity,
    /// It was made just now.
    pub created: bool,
    /// What it holds.
    pub restored: node::Restored,
    /// What recovery did, in one line.
    pub report: String,
    pub(super) worker: Worker<Latched<OsDisk>>,
    pub(super) chores: Chores,
    pub(super) data_dir: PathBuf,
    pub(super) lock: Lock,
}

impl Opened {
    /// Bytes of all segments.
    #[must_use]
    pub fn wal_bytes(&self) -> u64 {
        self.worker.wal().bytes()
    }
}

/// A data directory on any disk: who it is and what its log holds.
pub struct OpenedLog<D: Disk> {
    /// Who it is.
    pub identity: Identity,
    /// It was made just now.
    pub created: bool,
    /// The log.
    pub recovered: Recovered<D>,
}

/// A data directory on any disk, and all that it holds.
pub struct OpenedDisk<D: Disk> {
    /// Who it is, and its log.
    pub log: OpenedLog<D>,
    /// The state as of the newest snapshot.
    pub state: State,
}

impl<D: Disk> OpenedDisk<D> {
    /// What the node starts from, and who does its disk work from then on.
    pub fn start(self) -> (node::Restored, Worker<D>) {
        let Self { log, state } = self;
        let (identity, recovered) = (log.identity, log.recovered);
        let Recovered {
            wal,
            terms,
            tail,
            mut memberships,
            ..
        } = recovered;
        let applied = state.snapshot.id.index.max(wal.base().index);
        memberships.retain(|(id, _)| id.index > applied);
        let membership = state
            .store
            .membership()
            .cloned()
            .unwrap_or_else(|| Membership::initial(&identity.members, &identity.formed));
        let newest = memberships.last().map_or(&membership, |(_, newest)| newest);
        let alone = newest.is_alone(identity.node);
        let raft = raft::Restored {
            hard_state: wal.hard_state(),
            // What a published snapshot covers is committed, whether it can be read or not.
            commit: wal.commit().max(wal.snapshot().index).max(applied),
            base: wal.base(),
            applied,
            wall_ms: state.store.wall_ms(),
            membership,
            memberships,
            terms,
            last: wal.last(),
            tail,
            formed: !identity.formed.is_empty(),
            faulty: wal.faulty().next().map(|identity| identity.id.index),
            rebuilding: state.rebuilding,
        };
        let restored = node::Restored {
            raft,
            store: state.store,
            snapshot: state.snapshot,
        };
        let unmarked = state.snapshot.id.index > wal.snapshot().index;
        let mut worker = Worker::new(wal, identity);
        if unmarked {
            worker.push(StorageRequest::Mark(state.snapshot.id));
        }
        worker.push(StorageRequest::Alone(alone));
        (restored, worker)
    }
}

/// Reads who the data directory is, or makes it, recovers its log and loads its newest snapshot.
///
/// # Errors
/// As [`open`].
pub fn open_disk<D: Disk>(disk: D, options: &Options) -> Result<OpenedDisk<D>, Fatal> {
    let mut log = open_log(disk, options)?;
    let wal = &log.recovered.wal;
    finish_recovery(wal.disk(), &mut log.identity, wal.snapshot())?;
    let alone = log.recovered.alone;
    let state = State::of_log(wal, &log.identity, alone, options.sessions_max)
        .map_err(|error| fatal_of_snapshot(&error))?;
    // While the marked one cannot be read, nothing that is there is known to be of no use.
    if state.snapshot.id.index >= wal.snapshot().index {
        snapshot::remove_others(wal.disk(), state.snapshot.id)
            .map_err(|error| fatal_of_disk(&error))?;
    }
    Ok(OpenedDisk { log, state })
}

/// Reads who the data directory is, or makes it, and recovers its log; looks at no snapshot.
///
/// # Errors
/// As [`open`].
pub fn open_log<D: Disk>(disk: D, options: &Options) -> Result<OpenedLog<D>, Fatal> {
    let found = Identity::read(&disk).map_err(|error| fatal_of_identity(&error))?;
    let created = found.is_none();
    let identity = match found {
        Some(identity) => identity,
        None => create(&disk, options)?,
    };
    let alone = is_alone(&disk, &identity).map_err(|error| fatal_of_disk(&error))?;
    let settings = settings(&identity, options, alone);
    match wal::recover(disk, &settings).map_err(|error| fatal_of(&error))? {
        Some(recovered) => Ok(OpenedLog {
            identity,
            created,
            recovered,
        }),
        None => Err(Fatal::new(
            ExitStatus::Damaged,
            "there is an IDENTITY but no write-ahead log: votes and entries are lost",
        )
        .at(WAL_DIR)
        .remedy(
            "if the wal directory was moved away, put that very one back; else leave this member \
             stopped, and have a new one take its place (raftctl replace-peer): neither an older \
             copy nor an empty directory may",
        )),
    }
}

/// Places inside the data directory are told with its name.
pub(super) fn under(mut fatal: Fatal, dir: &Path) -> Fatal {
    fatal.place = match &fatal.place[..] {
        "" => String::new(),
        "." => dir.display().to_string(),
        place => dir.join(place).display().to_string(),
    };
    fatal
}

fn check_segment_bytes(bytes: u64) -> Result<(), Fatal> {
    if (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes) && bytes.is_multiple_of(4096) {
        return Ok(());
    }
    let what = format!("wal.segment_bytes is {bytes}");
    Err(Fatal::new(ExitStatus::Config, what)
        .remedy("a multiple of 4KiB from 256KiB to 1GiB; 64MiB is the default"))
}

/// What these directories of a data directory take. Spare segments are among it, which nobody reads.
#[must_use]
pub fn bytes_in(data_dir: &Path, dirs: &[&str]) -> u64 {
    let dirs = dirs.iter().map(|dir| fs::read_dir(data_dir.join(dir)));
    let files = dirs.flatten().flatten().flatten();
    let bytes = files.map(|file| file.metadata().map_or(0, |about| about.len()));
    bytes.sum()
}

/// Whether no other member could have what is damaged here, as far as that can be told without the
/// log.
fn is_alone<D: Disk>(disk: &D, identity: &Identity) -> Result<bool, disk::Error> {
    let newest = snapshot::newest_header(disk)?;
    let own = newest
        .filter(|header| header.cluster == identity.cluster && header.head.epoch == identity.epoch);
    let told = own.and_then(|header| header.head.membership);
    let membership =
        told.unwrap_or_else(|| Membership::initial(&identity.members, &identity.formed));
    Ok(membership.is_alone(identity.node))
}

fn settings(identity: &Identity, options: &Options, alone: bool) -> Settings {
    Settings {
        owner: identity.owner(),
        segment_bytes: options.segment_bytes,
        tail_bytes: options.tail_bytes,
        alone,
        // The background thread continues with the same seed; ids differ, so salts do.
        seed: options.seed,
    }
}

/// Only its owner may enter it. It may exist already; if not, its name is durable from now on.
pub(crate) fn make_dir(dir: &Path) -> Result<(), Fatal> {
    let changed = gets_new_name(dir);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    let synced = made.and_then(|()| {
        let mut changed = changed.iter();
        changed.try_for_each(|above| File::open(above)?.sync_all())
    });
    synced.map_err(|cause| {
        fatal_of_io("the data directory cannot be made", dir, cause)
            .remedy("name a directory that this user can make with --data-dir")
    })
}

/// The directories that get another name in them when this one is made with all that it lacks above.
fn gets_new_name(dir: &Path) -> Vec<&Path> {
    let missing = dir.ancestors().take_while(|above| !above.exists());
    let above = missing.filter_map(Path::parent);
    let spelled = above.map(|above| match above.as_os_str().is_empty() {
        true => Path::new("."),
        false => above,
    });
    spelled.collect()
}

/// A locked data directory. The lock goes with the process, however it ends.
pub(crate) struct Lock {
    _file: File,
    /// Whoever takes LOCK for a leftover and removes it unlocks nothing.
    _dir: File,
}

/// Held for life.
pub(crate) fn lock(dir: &Path) -> Result<Lock, Fatal> {
    let path = dir.join(LOCK_NAME);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|cause| fatal_of_io("the data directory cannot be locked", &path, cause))?;
    let refused = |place: &Path, cause: io::Error| {
        if !is_contended(&cause) {
            return fatal_of_io("the data directory cannot be locked", place, cause);
        }
        let what = "the data directory is in use by another process";
        Fatal::new(ExitStatus::Unavailable, what)
            .at(place.display())
            .remedy("stop that process, or use another --data-dir")
    };
    FileExt::try_lock_exclusive(&file).map_err(|cause| refused(&path, cause))?;
    let opened = File::open(dir);
    let dir_file = opened.map_err(|cause| refused(dir, cause))?;
    match FileExt::try_lock_exclusive(&dir_file) {
        Err(cause) if is_contended(&cause) => return Err(refused(dir, cause)),
        // Some file systems lock no directories: LOCK must do there.
        _ => {}
    }
    Ok(Lock {
        _file: file,
        _dir: dir_file,
    })
}

fn is_contended(cause: &io::Error) -> bool {
    cause.kind() == fs2::lock_contended_error().kind()
}

/// The log first, then IDENTITY: when IDENTITY is there, the log must be, and an IDENTITY without
/// a log can only be damage (rules E4). What an earlier attempt left half-made is thrown away:
/// without IDENTITY it never spoke to anyone.
fn create<D: Disk>(disk: &D, options: &Options) -> Result<Identity, Fatal> {
    let names = disk.list("").map_err(|error| fatal_of_disk(&error))?;
    if names.iter().any(|name| name == UNFINISHED_NAME) {
        return Err(unfinished());
    }
    remove_unfinished(disk)?;
    let Some(identity) = options.create.clone() else {
        return Err(
            Fatal::new(ExitStatus::Config, "the data directory is empty")
                .at(".")
                .remedy("name the first members with --initial-cluster"),
        );
    };
    let settings = settings(&identity, options, false);
    wal::create(disk, &settings).map_err(|error| fatal_of(&error))?;
    identity
        .create(disk)
        .map_err(|error| fatal_of_disk(&error))?;
    Ok(identity)
}

fn remove_unfinished<D: Disk>(disk: &D) -> Result<(), Fatal> {
    match wal::remove_virgin(disk) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Fatal::new(
            ExitStatus::Damaged,
            "there is a write-ahead log but no IDENTITY",
        )
        .at(IDENTITY_NAME)
        .remedy(super::RESTORE_IDENTITY)),
        Err(error) => Err(fatal_of(&error)),
    }
}

/// What failed is told in words of its own; what follows from it is as for any other disk error.
pub(super) fn fatal_of_io(what: &str, place: &Path, cause: io::Error) -> Fatal {
    let what = format!("{what}: {cause}");
    let fatal = fatal_of_disk(&disk::Error::new("use", "", cause));
    Fatal { what, ..fatal }.at(place.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_with_the_directory() {
        for (place, told) in [("", ""), (".", "/dir"), ("wal", "/dir/wal")] {
            let fatal = Fatal::new(ExitStatus::Io, "anything").at(place);
            assert_eq!(under(fatal, Path::new("/dir")).place, told);
        }
    }

    #[test]
    fn what_keeps_a_directory_from_being_locked_is_told_with_what_to_try() {
        let dir = tempfile::tempdir().expect("it is made");
        fs::create_dir(dir.path().join(LOCK_NAME)).expect("it can be made");
        let fatal = lock(dir.path()).err().expect("a directory is no lock");
        assert_eq!(fatal.status, ExitStatus::Io);
        assert!(fatal.what.contains("cannot be locked: "), "{fatal}");
        assert!(fatal.remedy.contains("check the disk"), "{fatal}");
    }

    #[test]
    fn all_that_is_made_for_a_directory_gets_a_durable_name() {
        let dir = tempfile::tempdir().expect("it is made");
        let (root, a) = (dir.path(), dir.path().join("a"));
        let b = a.join("b");
        assert_eq!(gets_new_name(root), [] as [&Path; 0]);
        assert_eq!(gets_new_name(&b), [&a, root]);
        make_dir(&b).expect("it can be made");
        assert_eq!(gets_new_name(&b), [] as [&Path; 0]);
        let here = Path::new("nothing-of-that-name");
        assert_eq!(gets_new_name(here), [Path::new(".")]);
    }
}
