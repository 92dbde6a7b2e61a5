//! A new cluster of one node from a snapshot: the way back from a backup.
//!
//! The state is that of the snapshot, the history another: cluster id and epoch are drawn anew
//! (rules C7), so that no member and no client of the old cluster takes it for its own.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::iter;
use std::path::Path;

use wire::membership::Membership;
use wire::types::{ClusterId, EntryId, Epoch, Incarnation, NodeId};

use super::open::{LOCK_NAME, fatal_of_io, is_data, lock, make_dir, under};
use super::{fatal_of, fatal_of_disk, fatal_of_snapshot, history};
use crate::disk::os::OsDisk;
use crate::disk::{Disk, Latched, Meter};
use crate::entropy::random_u64;
use crate::fatal::{ExitStatus, Fatal};
use crate::snapshot::{self, Expected, Loaded, Loader, SNAPSHOT_DIR};
use crate::store::session::SESSIONS_MAX;
use crate::wal::identity::{IDENTITY_NAME, Identity};
use crate::wal::segment::WAL_DIR;
use crate::wal::{self, Settings};

/// What was made.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Who the data directory is.
    pub identity: Identity,
    /// The entry that its log goes on behind: the one after the snapshot's last.
    pub snapshot: EntryId,
    /// How many keys it has.
    pub keys: u64,
}

/// The new node's id. That of another node of the old history is none of this one: epoch and cluster
/// differ.
const NODE: NodeId = NodeId(1);
/// All is made in this directory inside of the new one, and leaves it when it is whole, IDENTITY last.
/// What is in it, and what left it before IDENTITY, was never a node's data, so a restore that was killed
/// is begun anew.
pub(super) const UNFINISHED_NAME: &str = "restore.tmp";
/// What leaves it before IDENTITY does.
const MOVED_FIRST: [&str; 2] = [SNAPSHOT_DIR, WAL_DIR];

/// How often so many bytes as its file has are read or written by a restore: they are verified, loaded,
/// written anew, and what was written is read again.
pub const RESTORE_PASSES: u64 = 4;

/// Makes a data directory from the snapshot in `file`, which may have come from any member of any
/// cluster. Members that are added later find the node at `peer_addr`, the daemon's own default
/// without one. If that fails nothing is left of it, but LOCK in a directory that was there before; what
/// an earlier attempt left that was killed goes first. The meter counts all of it.
///
/// # Errors
/// A [`Fatal`] with the exit status: 64 the directory is not empty, 65 the snapshot is damaged, 69
/// another process uses the directory, 74 I/O, 77 not permitted.
pub fn restore(
    file: &Path,
    data_dir: &Path,
    peer_addr: Option<&str>,
    segment_bytes: u64,
    meter: &Meter,
) -> Result<Restored, Fatal> {
    let made = !data_dir.exists();
    // No LOCK is left in what is something else.
    check_empty(data_dir)?;
    make_dir(data_dir)?;
    let _lock = lock(data_dir)?;
    // Whoever had it before may have filled it.
    check_empty(data_dir)?;
    let unfinished = data_dir.join(UNFINISHED_NAME);
    let peer_addr = peer_addr.unwrap_or(history::PEER_ADDR);
    let restored = load(file, meter).and_then(|loaded| {
        make_anew(&unfinished, data_dir)?;
        let filled = fill(loaded, &unfinished, peer_addr, segment_bytes, meter);
        let restored = filled.map_err(|fatal| under(fatal, &unfinished))?;
        finish(&unfinished, data_dir)
            .map_err(|cause| fatal_of_io("the restored files cannot be moved", data_dir, cause))?;
        Ok(restored)
    });
    if restored.is_err() {
        // What is left does not matter: the next attempt begins with that.
        let _ = take_back(&unfinished, data_dir, made);
    }
    restored
}

/// An unfinished restore is nobody's data.
fn check_empty(data_dir: &Path) -> Result<(), Fatal> {
    let cannot_look = |cause: io::Error| {
        fatal_of_io("the data directory cannot be read", data_dir, cause)
            .remedy("a directory that is not there yet, or an empty one")
    };
    let entries = match fs::read_dir(data_dir) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(cannot_look(cause)),
    };
    let unfinished = data_dir.join(UNFINISHED_NAME);
    let mut is_empty = true;
    for entry in entries {
        let name = entry.map_err(cannot_look)?.file_name();
        is_empty &= !is_data(&name) || name == UNFINISHED_NAME || was_moved(&unfinished, &name);
    }
    if is_empty {
        return Ok(());
    }
    Err(
        Fatal::new(ExitStatus::Usage, "the data directory is not empty")
            .at(data_dir.display())
            .remedy("a directory that is not there yet, or an empty one"),
    )
}

/// Refuses a directory in which a restore was not finished.
pub(crate) fn check_restored(data_dir: &Path) -> Result<(), Fatal> {
    let unfinished_dir = data_dir.join(UNFINISHED_NAME);
    match unfinished_dir.exists() {
        true => Err(unfinished().at(unfinished_dir.display())),
        false => Ok(()),
    }
}

/// Why no node starts beside [`UNFINISHED_NAME`].
pub(super) fn unfinished() -> Fatal {
    let what = "a restore into this directory was not finished";
    Fatal::new(ExitStatus::Config, what)
        .at(UNFINISHED_NAME)
        .remedy("run `raftctl snapshot restore` into it again")
}

/// Whether what has this name beside an unfinished restore has come from it.
fn was_moved(unfinished: &Path, name: &OsStr) -> bool {
    MOVED_FIRST.iter().any(|moved| name == *moved)
        && unfinished.join(IDENTITY_NAME).exists()
        && !unfinished.join(name).exists()
}

fn fill(
    loaded: Loaded,
    data_dir: &Path,
    peer_addr: &str,
    segment_bytes: u64,
    meter: &Meter,
) -> Result<Restored, Fatal> {
    let identity = Identity {
        cluster: ClusterId(u128::from(random_u64()?) << 64 | u128::from(random_u64()?)),
        node: NODE,
        incarnation: Incarnation(random_u64()?.max(1)),
        epoch: Epoch(random_u64()?.max(1)),
        ..Identity::default()
    };
    let identity = history::alone(&identity, peer_addr);
    let Loaded {
        header, mut store, ..
    } = loaded;
    let term = store.applied().term.next();
    // The old members have nothing to do with the new one but the ids that were used.
    let known = Membership {
        members: Vec::new(),
        ..header.membership()
    };
    history::begin(&mut store, &identity, &known, term);
    let disk = OsDisk::new(data_dir.to_path_buf()).map_err(|error| fatal_of_disk(&error))?;
    let disk = Latched::new(disk.metered(meter));
    let view = store.view();
    let (snapshot, keys) = (view.applied(), view.keys());
    history::publish(&disk, view, &identity)?;
    begin_log(disk, &identity, snapshot, segment_bytes)?;
    Ok(Restored {
        identity,
        snapshot,
        keys,
    })
}

/// The state in the file. It is verified before anything of it is kept in memory.
fn load(path: &Path, meter: &Meter) -> Result<Loaded, Fatal> {
    let name = path.display().to_string();
    let open = || {
        let file = File::open(path);
        let file = file.map_err(|cause| {
            fatal_of_io("the snapshot cannot be read", path, cause)
                .remedy("a file that `raftctl snapshot save` wrote, and that this user may read")
        });
        file.map(|file| meter.reader(file))
    };
    let damaged = |error: snapshot::Error| match &error {
        snapshot::Error::Damaged(_) => Fatal::new(ExitStatus::Damaged, error.to_string())
            .remedy("take another backup: what is damaged in this one is lost"),
        _ => fatal_of_snapshot(&error),
    };
    let header = snapshot::verify(&mut open()?, &name)
        .map_err(damaged)?
        .header;
    let expected = Expected {
        cluster: header.cluster,
        epoch: header.head.epoch,
        id: header.head.applied,
    };
    let mut source = BufReader::new(open()?);
    let mut loader = Loader::open(&mut source, &name, &expected).map_err(damaged)?;
    while let Some(stored) = loader.next(&mut source).map_err(damaged)? {
        let content = stored.unpack().map_err(damaged)?;
        loader.take(content).map_err(damaged)?;
    }
    loader.finish(SESSIONS_MAX).map_err(damaged)
}

/// A log that goes on from the snapshot, and then IDENTITY: only with it the directory counts.
fn begin_log<D: Disk>(
    disk: D,
    identity: &Identity,
    snapshot: EntryId,
    segment_bytes: u64,
) -> Result<(), Fatal> {
    let failed = |error: wal::Error| fatal_of(&error);
    let settings = Settings {
        owner: identity.owner(),
        segment_bytes,
        tail_bytes: 0,
        alone: true,
        seed: random_u64()?,
    };
    wal::create(&disk, &settings).map_err(failed)?;
    let made = wal::recover(disk, &settings).map_err(failed)?;
    let mut log = made.expect("it was made just now").wal;
    history::go_on_from(&mut log, identity, snapshot, segment_bytes, settings.seed)?;
    identity
        .create(log.disk())
        .map_err(|error| fatal_of_disk(&error))
}

/// An empty directory, whatever an earlier attempt left.
fn make_anew(unfinished: &Path, data_dir: &Path) -> Result<(), Fatal> {
    throw_away(unfinished, data_dir).map_err(|cause| {
        fatal_of_io("an unfinished restore cannot be removed", unfinished, cause)
    })?;
    make_dir(unfinished)
}

/// What is whole gets its place; IDENTITY comes last, since only with it the directory counts.
fn finish(unfinished: &Path, data_dir: &Path) -> io::Result<()> {
    let sync = || File::open(data_dir)?.sync_all();
    for names in [&MOVED_FIRST[..], &[IDENTITY_NAME]] {
        for name in names {
            fs::rename(unfinished.join(name), data_dir.join(name))?;
        }
        sync()?;
    }
    fs::remove_dir(unfinished)
}

/// Removes all that an attempt made. What it had moved goes back first: so it is known for what it is, if
/// this is killed, too.
fn throw_away(unfinished: &Path, data_dir: &Path) -> io::Result<()> {
    let unless_absent = |done: io::Result<()>| match done {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
        _ => Ok(()),
    };
    for name in iter::once(IDENTITY_NAME).chain(MOVED_FIRST) {
        unless_absent(fs::rename(data_dir.join(name), unfinished.join(name)))?;
    }
    unless_absent(fs::remove_dir_all(unfinished))
}

/// Takes back what was made, by who holds the lock. The lock itself goes last, and only with the
/// directory: who takes another one then has what it makes there left alone.
fn take_back(unfinished: &Path, data_dir: &Path, made: bool) -> io::Result<()> {
    throw_away(unfinished, data_dir)?;
    if made {
        fs::remove_file(data_dir.join(LOCK_NAME))?;
        fs::remove_dir(data_dir)?;
    }
    Ok(())
}
