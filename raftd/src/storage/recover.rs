//! Quorum lost for good: one member's data directory becomes a new cluster of one (`raftctl recover
//! apply`). Its members and clients of before are refused from then on, by the epoch (rules C7).
//!
//! Everything in the log is taken, also what is not known to be committed: it may have been
//! acknowledged. What other members acknowledged later is missing, and nobody can say how much.
//!
//! The log decides, with one sync:
//! 1. IDENTITY says which epoch is about to begin;
//! 2. a snapshot of the state in that epoch is published, which no marker names;
//! 3. the log begins anew behind it: its marker names that snapshot;
//! 4. IDENTITY says that this is the epoch, and this node the only member.
//!
//! Interrupted before 3, the node is what it was, and its next start forgets the attempt. Interrupted
//! behind it, the next start, or another `recover apply`, does what is left.

use std::path::{Path, PathBuf};

use raft::HardState;
use wire::membership::Membership;
use wire::types::{EntryId, Epoch, Index, NodeId};

use super::open::{Lock, fatal_of_io, lock, open_log, under};
use super::{
    LOAD_BYTES_MAX, Options, Scrubbing, State, fatal_of, fatal_of_disk, fatal_of_identity,
    fatal_of_snapshot, history,
};
use crate::disk::os::OsDisk;
use crate::disk::{Disk, Latched, Meter};
use crate::entropy::random_u64;
use crate::fatal::{ExitStatus, Fatal};
use crate::snapshot;
use crate::store::Store;
use crate::store::session::SESSIONS_MAX;
use crate::wal::identity::{IDENTITY_NAME, Identity};
use crate::wal::{self, Wal, examine};

/// The directory of a stopped member, and all that it holds.
///
/// Invariant: `store` has applied every entry of `wal`, and none of them is damaged.
pub struct Recovery<D: Disk> {
    identity: Identity,
    wal: Wal<D>,
    store: Store,
    membership: Membership,
    committed: Index,
    segment_bytes: u64,
}

/// What there is to go on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holds {
    /// Which member it is.
    pub node: NodeId,
    /// Its last entry.
    pub last: EntryId,
    /// Up to here it knows that entries are committed.
    pub committed: Index,
    /// How many keys it has.
    pub keys: u64,
    /// Who is a member, as it knows.
    pub membership: Membership,
    /// The history that it is of.
    pub epoch: Epoch,
}

impl<D: Disk> Recovery<D> {
    /// Reads it all. Changes nothing but what a start would.
    ///
    /// # Errors
    /// A [`Fatal`] with the exit status: 64 there is no member's directory, 65 damage, 74 I/O, 78 it
    /// never was of a cluster.
    pub fn look(disk: D, seed: u64) -> Result<Self, Fatal> {
        let found = Identity::look(&disk).map_err(|error| fatal_of_identity(&error))?;
        let Some(identity) = found else {
            return Err(Fatal::new(ExitStatus::Usage, "there is no IDENTITY")
                .at(IDENTITY_NAME)
                .remedy("the data directory of a member: the one with IDENTITY and wal/"));
        };
        if identity.formed.is_empty() {
            let what = "this node never was of a cluster: it holds nothing";
            return Err(Fatal::new(ExitStatus::Config, what)
                .remedy("use the directory of a member that took part"));
        }
        let segment_bytes = sound_segment_bytes(&disk, &identity)?;
        let options = Options {
            segment_bytes,
            soft_free_bytes: 0,
            tail_bytes: 0,
            sessions_max: SESSIONS_MAX,
            snapshot_rate_bytes: 0,
            scrubbing: Scrubbing::default(),
            data_dir: PathBuf::new(),
            meter: Meter::default(),
            create: None,
            seed,
        };
        let mut log = open_log(disk, &options)?;
        let wal = log.recovered.wal;
        finish_recovery(wal.disk(), &mut log.identity, wal.snapshot())?;
        let identity = log.identity;
        let state = State::of_log(&wal, &identity, true, SESSIONS_MAX)
            .map_err(|error| fatal_of_snapshot(&error))?;
        let covered = state.snapshot.id.index.max(wal.snapshot().index);
        let mut store = state.store;
        replay(&wal, &mut store)?;
        let membership = store.membership().cloned();
        Ok(Self {
            membership: membership
                .unwrap_or_else(|| Membership::initial(&identity.members, &identity.formed)),
            committed: wal.commit().max(covered),
            identity,
            wal,
            store,
            segment_bytes,
        })
    }

    /// What there is to go on from.
    pub fn holds(&self) -> Holds {
        Holds {
            node: self.identity.node,
            last: self.wal.last(),
            committed: self.committed,
            keys: self.store.map().len() as u64,
            membership: self.membership.clone(),
            epoch: self.identity.epoch,
        }
    }

    /// Makes it a cluster of one under this epoch, which no history ever had.
    ///
    /// # Errors
    /// A [`Fatal`] with the exit status 74 or 77. What was decided by then is finished by the next
    /// start; else nothing has changed.
    pub fn apply(self, epoch: Epoch, seed: u64) -> Result<Identity, Fatal> {
        let Self {
            mut identity,
            mut wal,
            mut store,
            membership,
            ..
        } = self;
        assert_ne!(epoch, identity.epoch, "a history of its own");
        identity.next_epoch = Some(epoch);
        write_identity(wal.disk(), &identity)?;
        let heir = heir(&identity, &membership, epoch);
        let HardState { term, .. } = wal.hard_state();
        history::begin(&mut store, &heir, &membership, term.next());
        let id = store.applied();
        history::publish(wal.disk(), store.view(), &heir)?;
        history::go_on_from(&mut wal, &heir, id, self.segment_bytes, seed)?;
        write_identity(wal.disk(), &heir)?;
        Ok(heir)
    }
}

/// An opened data directory, as long as it is locked.
pub struct Locked {
    /// What is in it.
    pub recovery: Recovery<Latched<OsDisk>>,
    data_dir: PathBuf,
    _lock: Lock,
}

impl Locked {
    /// See [`Recovery::apply`]; the epoch is drawn.
    ///
    /// # Errors
    /// Those of [`Recovery::apply`].
    pub fn apply(self) -> Result<Identity, Fatal> {
        let epoch = Epoch(random_u64()?.max(1));
        let applied = self.recovery.apply(epoch, random_u64()?);
        applied.map_err(|fatal| under(fatal, &self.data_dir))
    }
}

/// Looks into the data directory of a member that is stopped. The meter counts what that takes, and
/// what comes of it.
///
/// # Errors
/// Those of [`Recovery::look`]; 69 the node runs, 77 not permitted.
pub fn look(data_dir: &Path, meter: &Meter) -> Result<Locked, Fatal> {
    let place = data_dir.join(IDENTITY_NAME);
    let there = place.try_exists();
    if !there.map_err(|cause| fatal_of_io("IDENTITY cannot be read", &place, cause))? {
        return Err(Fatal::new(ExitStatus::Usage, "there is no IDENTITY")
            .at(data_dir.display())
            .remedy("the data directory of a member: the one with IDENTITY and wal/"));
    }
    let lock = lock(data_dir)?;
    let disk = OsDisk::new(data_dir.to_path_buf());
    let disk = disk.map_err(|error| under(fatal_of_disk(&error), data_dir))?;
    let recovery = Recovery::look(Latched::new(disk.metered(meter)), random_u64()?);
    Ok(Locked {
        recovery: recovery.map_err(|fatal| under(fatal, data_dir))?,
        data_dir: data_dir.to_path_buf(),
        _lock: lock,
    })
}

/// Does what a recovery left to do once its decision was durable, or forgets one that was not decided.
pub(super) fn finish_recovery<D: Disk>(
    disk: &D,
    identity: &mut Identity,
    marker: EntryId,
) -> Result<(), Fatal> {
    let Some(epoch) = identity.next_epoch else {
        return Ok(());
    };
    let mut decided = None;
    if marker != EntryId::default() {
        let header = snapshot::read_header(disk, marker);
        let header = header.map_err(|error| fatal_of_snapshot(&error))?;
        decided = Some(header).filter(|header| header.head.epoch == epoch);
    }
    *identity = match decided {
        Some(header) => heir(identity, &header.membership(), epoch),
        None => Identity {
            next_epoch: None,
            ..identity.clone()
        },
    };
    write_identity(disk, identity)
}

/// Who this node is in the new history. It keeps its id, its life and the cluster's id.
fn heir(identity: &Identity, membership: &Membership, epoch: Epoch) -> Identity {
    let listed = identity.members.iter();
    let listed = listed.map(|(id, addr)| (*id, addr.as_str()));
    let member = membership.get(identity.node);
    let told = member.map(|member| member.peer_addr.as_str());
    let listed = || listed.clone().find(|(id, _)| *id == identity.node);
    let peer_addr = told.or_else(|| listed().map(|(_, addr)| addr));
    let heir = Identity {
        epoch,
        ..identity.clone()
    };
    history::alone(&heir, peer_addr.unwrap_or(history::PEER_ADDR))
}

fn write_identity<D: Disk>(disk: &D, identity: &Identity) -> Result<(), Fatal> {
    identity
        .update(disk)
        .map_err(|error| fatal_of_identity(&error))
}

/// The size of the newest segment. Damage is refused: nobody is there to be asked for what was there,
/// and another member's directory may be whole.
fn sound_segment_bytes<D: Disk>(disk: &D, identity: &Identity) -> Result<u64, Fatal> {
    let failed = |error: wal::Error| fatal_of(&error);
    let examined = examine(disk, Some(identity.owner()), |_| {}).map_err(failed)?;
    let report = examined.verdict.map_err(failed)?;
    let newest = examined.segments.last();
    if let Some(newest) = newest.filter(|_| !report.lost && report.faulty == 0) {
        return Ok(newest.header.bytes);
    }
    let what = match report.lost {
        true => "the log is lost: what it acknowledged was to come from the others",
        false => "entries of the log are damaged",
    };
    let place = examined.damage.map(|damage| damage.to_string());
    Err(Fatal::new(ExitStatus::Damaged, what)
        .at(place.unwrap_or_else(|| wal::segment::WAL_DIR.to_owned()))
        .remedy("another member's directory, or raftctl snapshot restore of a backup"))
}

/// Applies every entry of the log that the state does not have.
fn replay<D: Disk>(wal: &Wal<D>, store: &mut Store) -> Result<(), Fatal> {
    let mut reader = wal::Reader::default();
    let last = wal.last().index;
    while store.applied().index < last {
        let from = store.applied().index.next();
        let passage = wal.passage(from, last).expect("the log has it");
        let entries = reader.read(wal.disk(), &passage, LOAD_BYTES_MAX);
        let entries = entries.map_err(|error| fatal_of(&error))?;
        for entry in &entries {
            store.apply(entry);
        }
    }
    Ok(())
}
