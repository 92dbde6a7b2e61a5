//! How the protocol's types stand in [`super::text`].

use serde::{Deserialize, Serialize};
use wire::client::{Consistency, ScanMode};
use wire::command::{Outcome, Results, SessionId, Undone};
use wire::types::{EntryId, Epoch, Index, Term};

/// A module for `#[serde(with = "..")]`: a number without its type.
macro_rules! number {
    ($module:ident, $type:ident) => {
        pub(super) mod $module {
            use serde::{Deserialize, Deserializer, Serialize, Serializer};
            use wire::types::$type;

            pub(in super::super) fn serialize<S: Serializer>(
                number: &$type,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                number.0.serialize(serializer)
            }

            pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<$type, D::Error> {
                u64::deserialize(deserializer).map($type)
            }
        }
    };
}

number!(term, Term);
number!(index, Index);
number!(epoch, Epoch);

/// An index, or null.
mod index_or_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use wire::types::Index;

    pub(super) fn serialize<S: Serializer>(
        index: &Option<Index>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        index.map(|index| index.0).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Index>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Index))
    }
}

/// Bytes as text if they are, else as hex.
pub(super) mod bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::BytesText;

    pub(in super::super) fn serialize<S: Serializer>(
        bytes: &[u8],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        BytesText::serialize_bytes(bytes, serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        BytesText::deserialize(deserializer)?.into_bytes()
    }
}

/// The same, or null.
pub(super) mod bytes_or_null {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::BytesText;

    pub(in super::super) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => BytesText::serialize_bytes(bytes, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<BytesText>::deserialize(deserializer)?;
        text.map(BytesText::into_bytes).transpose()
    }
}

#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum BytesText {
    Text(String),
    Hex { hex: String },
}

impl BytesText {
    fn serialize_bytes<S: serde::Serializer>(
        bytes: &[u8],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = match str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Hex {
                hex: data_encoding::HEXLOWER.encode(bytes),
            },
        };
        text.serialize(serializer)
    }

    fn into_bytes<E: serde::de::Error>(self) -> Result<Vec<u8>, E> {
        match self {
            Self::Text(text) => Ok(text.into_bytes()),
            Self::Hex { hex } => data_encoding::HEXLOWER
                .decode(hex.as_bytes())
                .map_err(E::custom),
        }
    }
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "SessionId", deny_unknown_fields)]
pub(super) struct SessionText {
    #[serde(with = "epoch")]
    epoch: Epoch,
    #[serde(with = "index")]
    born: Index,
    nonce: u64,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "EntryId", deny_unknown_fields)]
pub(super) struct EntryIdText {
    #[serde(with = "term")]
    term: Term,
    #[serde(with = "index")]
    index: Index,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "Consistency", rename_all = "snake_case")]
pub(super) enum ConsistencyText {
    Linearizable,
    LinearizableAnywhere,
    Stale,
    Bounded { max_lag_ms: u32 },
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "ScanMode", rename_all = "snake_case")]
pub(super) enum ScanModeText {
    Items,
    Keys,
    Count,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "Outcome", rename_all = "snake_case")]
pub(super) enum OutcomeText {
    Put,
    Deleted(u64),
    Swapped,
    NotSwapped(#[serde(with = "index_or_null")] Option<Index>),
    Incremented(i64),
    NotANumber,
    Overflow,
    Applied,
    Appended(u64),
    TooLong,
    NotDeleted(u64),
    Txn {
        held: bool,
        #[serde(with = "results_or_null")]
        results: Option<Results>,
    },
    Undone {
        held: bool,
        operation: u32,
        #[serde(with = "UndoneText")]
        why: Undone,
    },
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "Undone", rename_all = "snake_case")]
enum UndoneText {
    NotANumber,
    Overflow,
    TooLong,
    TooManyKeys,
    TooMuchToTell,
}

/// The results of a txn as the protocol encodes them, or null.
mod results_or_null {
    use serde::{Deserializer, Serializer};
    use wire::command::Results;

    use super::bytes_or_null;

    pub(super) fn serialize<S: Serializer>(
        results: &Option<Results>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let bytes = results.as_ref().map(|results| results.bytes().to_vec());
        bytes_or_null::serialize(&bytes, serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Results>, D::Error> {
        let bytes = bytes_or_null::deserialize(deserializer)?;
        Ok(bytes.map(|bytes| Results::new(&bytes)))
    }
}
