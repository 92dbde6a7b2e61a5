//! Damage of a simulated disk: what was synced rots, cannot be read, or is gone.
//!
//! Each kind is made for a case of recovery's tables (`raftd-wal(5)`), which bits that flip at
//! random would seldom meet. Only two kinds can make a member forget without noticing, which the
//! rules state as the ambiguity that remains (rules E3): [`Damage::LastBatch`] and
//! [`Damage::LastMark`] are for runs that leave the model. The others spare the last batch, or
//! leave evidence.

mod log;
#[cfg(test)]
mod tests;
mod victim;

use raftd::disk::sim::SimDisk;
use raftd::wal::format::BATCH_BYTES_MAX;

use self::victim::Victim;
use super::random::{MILLION, Random};

/// What is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    /// A record of a batch, with evidence behind it (case D).
    Record,
    /// The header of a batch, with evidence behind it (case H).
    Header,
    /// A batch begins with a sector of zeros, with evidence behind it (case H).
    Blank,
    /// A batch cannot be read.
    Unreadable,
    /// A record of a batch cannot be read, with evidence behind it (case D).
    RecordUnreadable,
    /// A sector of the last batch cannot be read, which no crash brings about (case h if it is the
    /// first one of its segment); often its mark is gone, too (cases O and P).
    LastUnreadable,
    /// A sector behind the mark of the last batch cannot be read (case R; P where that mark was on
    /// its way to the disk, and is lost).
    BehindUnreadable,
    /// A batch says that it follows another than it does (case B).
    Chain,
    /// The last records of a sealed segment, and the seal (case E).
    RecordAndSeal,
    /// The seal of a segment that has a successor (case I).
    Seal,
    /// A byte behind the seal (case N).
    BehindSeal,
    /// A batch behind the seal (case C).
    BatchBehindSeal,
    /// A byte out of reach behind the end of the log (case Q).
    FarByte,
    /// The same, and the mark of the last batch (case L).
    MarkAndFarByte,
    /// The last records, their mark, and a byte out of reach (case F).
    RecordAndFarByte,
    /// The first batch of the newest segment in use, with evidence behind it (case H).
    FirstBatch,
    /// The header page of the newest segment in use, and its first batch, which would tell what stood
    /// there (case d).
    NewestPage,
    /// The header page of the newest segment in use, whose first batch tells what stood there.
    NewestPageAlone,
    /// The name of the newest segment in use (case a).
    NewestName,
    /// The name of an older segment.
    OlderName,
    /// The header page of an older segment.
    OlderPage,
    /// The header page of the next spare (case e).
    NextPage,
    /// A byte in the next spare (case j).
    NextSpare,
    /// Both (case l).
    NextFile,
    /// The header page of the spare behind it (case f). Harmless to a member that is down, as the
    /// next two are: recovery removes what it cannot use.
    LaterPage,
    /// A byte in that spare (case k).
    LaterSpare,
    /// The name of that spare, which leaves a gap.
    LaterName,
    /// Both copies in IDENTITY.
    Identity,
    /// One of them, which the other heals.
    IdentityCopy,
    /// The name of IDENTITY.
    IdentityName,
    /// A part of the newest snapshot.
    Snapshot,
    /// A part of what it holds: most of a small one is its header page.
    SnapshotContent,
    /// Its name.
    SnapshotName,
    /// A part of what is being received of one. Harmless: it is received again.
    SnapshotPart,
    /// Bits of any sector that was ever written, the last batch and its mark excepted.
    Anywhere,
    /// The last batch, while its mark stands. Outside the model: the mark may be on its way only.
    LastBatch,
    /// The last batch and its mark. Outside the model: nothing vouches for it.
    LastMark,
}

impl Damage {
    /// Those that must be noticed or be harmless.
    pub const INSIDE: [Self; 31] = [
        Self::Record,
        Self::Header,
        Self::Blank,
        Self::Unreadable,
        Self::RecordUnreadable,
        Self::LastUnreadable,
        Self::BehindUnreadable,
        Self::Chain,
        Self::RecordAndSeal,
        Self::Seal,
        Self::BehindSeal,
        Self::BatchBehindSeal,
        Self::FarByte,
        Self::MarkAndFarByte,
        Self::RecordAndFarByte,
        Self::FirstBatch,
        Self::NewestPage,
        Self::NewestPageAlone,
        Self::NewestName,
        Self::OlderName,
        Self::OlderPage,
        Self::NextPage,
        Self::NextSpare,
        Self::NextFile,
        Self::Identity,
        Self::IdentityCopy,
        Self::IdentityName,
        Self::Snapshot,
        Self::SnapshotContent,
        Self::SnapshotName,
        Self::Anywhere,
    ];

    /// Those that need a log of several segments, or a segment that has just begun.
    pub const BETWEEN_SEGMENTS: [Self; 9] = [
        Self::LastUnreadable,
        Self::LastUnreadable,
        Self::RecordAndSeal,
        Self::Seal,
        Self::BehindSeal,
        Self::BatchBehindSeal,
        Self::NewestPage,
        Self::NewestPageAlone,
        Self::NewestName,
    ];

    /// Those that cost a member that is down nothing.
    pub const HARMLESS: [Self; 4] = [
        Self::LaterPage,
        Self::LaterSpare,
        Self::LaterName,
        Self::SnapshotPart,
    ];

    /// One of those that must be noticed or be harmless. Few segments are large enough for a byte
    /// out of reach, so that those get one often; to end a log at zeros is the mistake that others
    /// have made; and what cannot be read at its end has four cases.
    #[must_use]
    pub fn draw(random: &mut Random, segment_bytes: u64) -> Self {
        if segment_bytes > BATCH_BYTES_MAX && random.chance(MILLION * 3 / 4) {
            return *random.pick(&[
                Self::FarByte,
                Self::MarkAndFarByte,
                Self::RecordAndFarByte,
                Self::RecordAndFarByte,
            ]);
        }
        if random.chance(MILLION / 6) {
            return Self::Blank;
        }
        if random.chance(MILLION / 6) {
            return *random.pick(&[Self::LastUnreadable, Self::BehindUnreadable]);
        }
        if random.chance(MILLION / 4) {
            return *random.pick(&[Self::Record, Self::Record, Self::RecordUnreadable]);
        }
        *random.pick(&Self::INSIDE)
    }

    /// Whether it may take away the newest term and vote, or who the member is: then it must refuse
    /// to start (rules D4). After the others it gets whole again.
    #[must_use]
    pub fn may_be_final(self) -> bool {
        !matches!(
            self,
            Self::Record
                | Self::Header
                | Self::Blank
                | Self::Unreadable
                | Self::RecordUnreadable
                | Self::Chain
                | Self::RecordAndSeal
                | Self::Seal
                | Self::BehindSeal
                | Self::FirstBatch
                | Self::NewestPageAlone
                | Self::OlderName
                | Self::OlderPage
                | Self::NextPage
                | Self::IdentityCopy
                | Self::Snapshot
                | Self::SnapshotContent
                | Self::SnapshotName
        )
    }

    /// Whether a living process goes on writing there and is none the wiser: all that it makes
    /// durable from then on is lost with the rest.
    #[must_use]
    pub fn undermines(self) -> bool {
        matches!(
            self,
            Self::NewestName
                | Self::NewestPage
                | Self::NewestPageAlone
                | Self::NextPage
                | Self::NextSpare
                | Self::NextFile
        )
    }

    /// Damages the disk. Says what it did, or `None` if the disk has no such place.
    pub fn inflict(self, disk: &SimDisk, random: &mut Random) -> Option<String> {
        let mut victim = Victim::new(disk, random);
        victim.suffer(self)?;
        Some(format!("{self:?}: {}", victim.done().join(", ")))
    }
}
