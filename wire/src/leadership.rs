//! Why leadership changes.

use bytes::{BufMut, BytesMut};

use crate::buf::{Reader, malformed};
use crate::error::Error;

/// Why a leader hands its office over (thesis 3.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandOver {
    /// An operator wished it.
    Asked,
    /// It was told to stop.
    Stopping,
    /// Its disk did not finish a write for too long.
    DiskStalled,
    /// Its disk had no room for entries.
    DiskFull,
    /// Its state was not what a quorum held.
    StateDiffers,
    /// It will vote no more, or does not any more.
    Leaving,
}

/// Why there is another leader, as one node saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It knew of none before in this life.
    Start,
    /// The end of the last leader closed its connection: its process ended.
    LinkClosed,
    /// The last leader was not heard for an election timeout.
    Silence,
    /// It led itself, and heard no quorum for an election timeout.
    NoQuorum,
    /// Others elected one, though it heard the last.
    Elected,
    /// The last leader handed over.
    HandedOver(HandOver),
}

impl HandOver {
    /// A stable name for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Stopping => "stopping",
            Self::DiskStalled => "disk-stalled",
            Self::DiskFull => "disk-full",
            Self::StateDiffers => "state-differs",
            Self::Leaving => "leaving",
        }
    }

    pub(crate) fn encode(self, out: &mut BytesMut) {
        out.put_u8(match self {
            Self::Asked => 1,
            Self::Stopping => 2,
            Self::DiskStalled => 3,
            Self::DiskFull => 4,
            Self::StateDiffers => 5,
            Self::Leaving => 6,
        });
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        match reader.u8()? {
            1 => Ok(Self::Asked),
            2 => Ok(Self::Stopping),
            3 => Ok(Self::DiskStalled),
            4 => Ok(Self::DiskFull),
            5 => Ok(Self::StateDiffers),
            6 => Ok(Self::Leaving),
            _ => Err(malformed("the reason of a hand-over is not known")),
        }
    }
}

impl Cause {
    /// A stable name for programs; of a hand-over, that of its reason.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::LinkClosed => "link-closed",
            Self::Silence => "silence",
            Self::NoQuorum => "no-quorum",
            Self::Elected => "elected",
            Self::HandedOver(why) => why.name(),
        }
    }

    pub(crate) fn encode(self, out: &mut BytesMut) {
        let code = match self {
            Self::Start => 1,
            Self::LinkClosed => 2,
            Self::Silence => 3,
            Self::NoQuorum => 4,
            Self::Elected => 5,
            Self::HandedOver(_) => 6,
        };
        out.put_u8(code);
        if let Self::HandedOver(why) = self {
            why.encode(out);
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        match reader.u8()? {
            1 => Ok(Self::Start),
            2 => Ok(Self::LinkClosed),
            3 => Ok(Self::Silence),
            4 => Ok(Self::NoQuorum),
            5 => Ok(Self::Elected),
            6 => Ok(Self::HandedOver(HandOver::decode(reader)?)),
            _ => Err(malformed("the cause of a change of leaders is not known")),
        }
    }
}
