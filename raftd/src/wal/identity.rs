//! `IDENTITY`: who this data directory is (rules D1). Two copies, each in its own slot; an update
//! writes and syncs one after the other, so that one whole copy is there at any moment.
//!
//! ```text
//! 0     slot of the first copy       each slot:  0  8 bytes "RAFTDIDT"
//! 8192  slot of the second copy                  8  u32  CRC-32 of bytes 12..8192
//!                                               12  u32  format, 1
//!                                               16  u64  sequence, one more with each update
//!                                               24  u128 cluster
//!                                               40  u64  node
//!                                               48  u64  incarnation
//!                                               56  u64  epoch
//!                                               64  u16  formed members: u64 node, u64 incarnation each
//!                                               ..  u16  members: u64 node, u16 length, peer address each
//!                                               ..  u64  epoch that a recovery is about to begin, or 0
//! ```

use byteorder::{BigEndian, ByteOrder};
use bytes::{Buf, BufMut};
use wire::limits::{ADDR_BYTES_MAX, MEMBERS_MAX};
use wire::types::{ClusterId, Epoch, Incarnation, NodeId};

use super::format::{FORMAT, Owner, is_zero};
use crate::disk::{Disk, Error as DiskError};

/// The file's name.
pub const IDENTITY_NAME: &str = "IDENTITY";
/// Opens a slot.
pub const IDENTITY_MAGIC: &[u8; 8] = b"RAFTDIDT";
/// One slot; the file has two.
pub const SLOT_BYTES: usize = 8192;
const FILE_BYTES: u64 = 2 * SLOT_BYTES as u64;
const TEMPORARY_NAME: &str = "IDENTITY.tmp";
const FIXED_BYTES: usize = 64;

const _: () = assert!(
    FIXED_BYTES + 2 + MEMBERS_MAX * 16 + 2 + MEMBERS_MAX * (8 + 2 + ADDR_BYTES_MAX) + 8
        <= SLOT_BYTES
);

/// Who a data directory is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// Drawn when the directory was made: tells its life from another of the same node id.
    pub incarnation: Incarnation,
    /// The history of the data (rules C7).
    pub epoch: Epoch,
    /// The incarnation of every initial member, once the cluster is formed; empty before.
    pub formed: Vec<(NodeId, Incarnation)>,
    /// The members' peer addresses.
    pub members: Vec<(NodeId, String)>,
    /// The history that a recovery is about to begin here: it has, once the log's marker names a
    /// snapshot of it.
    pub next_epoch: Option<Epoch>,
}

/// Why there is no identity.
#[derive(Debug)]
pub enum IdentityError {
    /// The disk failed.
    Disk(DiskError),
    /// Neither copy is whole.
    Damaged,
}

impl From<DiskError> for IdentityError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl Identity {
    /// What segments must say.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner {
            cluster: self.cluster,
            node: self.node,
            incarnation: self.incarnation,
        }
    }

    fn encode(&self, sequence: u64) -> Vec<u8> {
        assert!(
            self.formed.len() <= MEMBERS_MAX,
            "formed members are limited"
        );
        assert!(self.members.len() <= MEMBERS_MAX, "members are limited");
        let mut slot = Vec::with_capacity(SLOT_BYTES);
        slot.put_slice(IDENTITY_MAGIC);
        slot.put_u32(0);
        slot.put_u32(FORMAT);
        slot.put_u64(sequence);
        slot.put_u128(self.cluster.0);
        slot.put_u64(self.node.0);
        slot.put_u64(self.incarnation.0);
        slot.put_u64(self.epoch.0);
        slot.put_u16(self.formed.len() as u16);
        for (node, incarnation) in &self.formed {
            slot.put_u64(node.0);
            slot.put_u64(incarnation.0);
        }
        slot.put_u16(self.members.len() as u16);
        for (node, addr) in &self.members {
            assert!(addr.len() <= ADDR_BYTES_MAX, "addresses are limited");
            slot.put_u64(node.0);
            slot.put_u16(addr.len() as u16);
            slot.put_slice(addr.as_bytes());
        }
        slot.put_u64(self.next_epoch.unwrap_or_default().0);
        slot.resize(SLOT_BYTES, 0);
        let crc = crc32fast::hash(&slot[12..]);
        BigEndian::write_u32(&mut slot[8..], crc);
        slot
    }

    fn decode(slot: &[u8]) -> Option<(Self, u64)> {
        let whole = slot.len() == SLOT_BYTES
            && slot.starts_with(IDENTITY_MAGIC)
            && BigEndian::read_u32(&slot[8..]) == crc32fast::hash(&slot[12..])
            && BigEndian::read_u32(&slot[12..]) == FORMAT;
        if !whole {
            return None;
        }
        let mut rest = &slot[16..];
        let sequence = rest.try_get_u64().ok()?;
        let mut identity = Self {
            cluster: ClusterId(rest.try_get_u128().ok()?),
            node: NodeId(rest.try_get_u64().ok()?),
            incarnation: Incarnation(rest.try_get_u64().ok()?),
            epoch: Epoch(rest.try_get_u64().ok()?),
            ..Self::default()
        };
        for _ in 0..member_count(&mut rest)? {
            let node = NodeId(rest.try_get_u64().ok()?);
            let incarnation = Incarnation(rest.try_get_u64().ok()?);
            identity.formed.push((node, incarnation));
        }
        for _ in 0..member_count(&mut rest)? {
            let node = NodeId(rest.try_get_u64().ok()?);
            let length = usize::from(rest.try_get_u16().ok()?);
            if length > ADDR_BYTES_MAX {
                return None;
            }
            let (addr, behind) = rest.split_at_checked(length)?;
            rest = behind;
            let addr = String::from_utf8(addr.to_vec()).ok()?;
            identity.members.push((node, addr));
        }
        let next_epoch = rest.try_get_u64().ok()?;
        identity.next_epoch = (next_epoch > 0).then_some(Epoch(next_epoch));
        is_zero(rest).then_some((identity, sequence))
    }

    /// Makes the file, durably, under a temporary name first.
    ///
    /// # Errors
    /// The disk's.
    pub fn create<D: Disk>(&self, disk: &D) -> Result<(), DiskError> {
        self.replace(disk, 1)
    }

    fn replace<D: Disk>(&self, disk: &D, sequence: u64) -> Result<(), DiskError> {
        let file = disk.create(TEMPORARY_NAME, FILE_BYTES)?;
        let slot = self.encode(sequence);
        disk.write_at(&file, 0, &slot)?;
        disk.write_at(&file, SLOT_BYTES as u64, &slot)?;
        disk.sync(&file)?;
        disk.rename(TEMPORARY_NAME, IDENTITY_NAME)?;
        disk.sync_dir("")
    }

    /// Reads the newer whole copy and changes nothing. `None`: there is no such file.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn look<D: Disk>(disk: &D) -> Result<Option<Self>, IdentityError> {
        let file = match disk.open(IDENTITY_NAME) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let whole = [0, 1].into_iter().filter_map(|n| read_slot(disk, &file, n));
        let newest = whole.max_by_key(|(_, sequence)| *sequence);
        let (identity, _) = newest.ok_or(IdentityError::Damaged)?;
        Ok(Some(identity))
    }

    /// Reads the newer whole copy, and makes the other one equal to it if it is not: in its place,
    /// which needs no room on the disk, or in a new file if this one has no place for it. `None`:
    /// there is no such file. If there is, its name is durable from now on: a process killed
    /// before it could see to that left it in the cache only.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn read<D: Disk>(disk: &D) -> Result<Option<Self>, IdentityError> {
        let file = match disk.open(IDENTITY_NAME) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        disk.sync_dir("")?;
        let mut slots = [0, 1].map(|n| read_slot(disk, &file, n));
        let sequence = |slot: &Option<(Self, u64)>| slot.as_ref().map(|(_, sequence)| *sequence);
        if sequence(&slots[0]) == sequence(&slots[1]) {
            let [first, _] = slots;
            return match first {
                Some((identity, _)) => Ok(Some(identity)),
                None => Err(IdentityError::Damaged),
            };
        }
        let newer = usize::from(sequence(&slots[1]) > sequence(&slots[0]));
        if slots[1 - newer].is_none() {
            log::warn!("a copy in IDENTITY is damaged, and made anew from the other one");
        }
        let Some((identity, sequence)) = slots[newer].take() else {
            return Err(IdentityError::Damaged);
        };
        if disk.bytes(&file)? < FILE_BYTES {
            identity.replace(disk, sequence)?;
        } else {
            write_slot(disk, &file, 1 - newer, &identity.encode(sequence))?;
        }
        Ok(Some(identity))
    }

    /// Replaces what the file says; a crash leaves the old or the new. Needs no room on the disk.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn update<D: Disk>(&self, disk: &D) -> Result<(), IdentityError> {
        let file = disk.open(IDENTITY_NAME)?;
        let sequences = [0, 1].map(|n| read_slot(disk, &file, n).map(|(_, sequence)| sequence));
        let newest = sequences.into_iter().flatten().max();
        let newest = newest.ok_or(IdentityError::Damaged)?;
        // No daemon comes near the end of the numbers; where rot does, equal slots are as good.
        let slot = self.encode(newest.saturating_add(1));
        for n in [0, 1] {
            write_slot(disk, &file, n, &slot)?;
        }
        Ok(())
    }
}

/// The count of a list of members; none if there cannot be so many.
fn member_count(bytes: &mut &[u8]) -> Option<u16> {
    let count = bytes.try_get_u16().ok()?;
    (usize::from(count) <= MEMBERS_MAX).then_some(count)
}

/// A slot that cannot be read is a damaged one (rules D3).
fn read_slot<D: Disk>(disk: &D, file: &D::File, n: usize) -> Option<(Identity, u64)> {
    let mut slot = vec![0; SLOT_BYTES];
    disk.read_at(file, (n * SLOT_BYTES) as u64, &mut slot)
        .ok()?;
    Identity::decode(&slot)
}

fn write_slot<D: Disk>(disk: &D, file: &D::File, n: usize, slot: &[u8]) -> Result<(), DiskError> {
    disk.write_at(file, (n * SLOT_BYTES) as u64, slot)?;
    disk.sync(file)
}
