//! What an operation did, as a row or as JSON.

use raftctl::client::{OperationResult, Outcome};
use serde_json::{Map, Value};

use super::plan::Step;
use crate::encoding::Codec;
use crate::encoding::Encoding;
use crate::encoding::json::Datum;
use crate::items;

/// What an operation did.
pub(super) struct Row<'a> {
    step: &'a Step,
    result: OperationResult<'a>,
    /// In one word.
    word: &'static str,
}

impl<'a> Row<'a> {
    /// `None` if the result is none of such an operation.
    pub(super) fn new(step: &'a Step, result: OperationResult<'a>) -> Option<Self> {
        use OperationResult::{Did, Found, Missing};
        let word = match (step, &result) {
            (Step::Put(..), Did(Outcome::Put))
            | (Step::Increment(..), Did(Outcome::Incremented(_)))
            | (Step::Append(..), Did(Outcome::Appended(_))) => "done",
            (Step::Get(_), Found(_)) => "found",
            (Step::Get(_), Missing) => "missing",
            (Step::Delete(_) | Step::DeleteRange { .. }, Did(Outcome::Deleted(_))) => "deleted",
            (Step::DeleteRange { .. }, Did(Outcome::NotDeleted(_))) => "not-deleted",
            (Step::Swap(..), Did(Outcome::Swapped)) => "swapped",
            (Step::Swap(..), Did(Outcome::NotSwapped(_))) => "not-swapped",
            _ => return None,
        };
        Some(Self { step, result, word })
    }

    /// A number that the operation answers with.
    fn number(&self) -> Option<(&'static str, Value)> {
        let OperationResult::Did(outcome) = &self.result else {
            return None;
        };
        match outcome {
            Outcome::Incremented(sum) => Some(("value", Value::from(*sum))),
            Outcome::Appended(bytes) => Some(("bytes", Value::from(*bytes))),
            Outcome::Deleted(keys) => Some(("deleted", Value::from(*keys))),
            Outcome::NotDeleted(keys) => Some(("keys", Value::from(*keys))),
            Outcome::NotSwapped(at) => {
                let revision = at.map(|revision| Value::from(revision.0));
                Some(("revision", revision.unwrap_or(Value::Null)))
            }
            _ => None,
        }
    }

    /// The operation, its key, what came of it in one word, and what it answers with, if anything.
    pub(super) fn fields(&self, codec: Codec) -> [Vec<u8>; 4] {
        let encode = |bytes: &[u8], encoding: Option<Encoding>| match encoding {
            Some(encoding) => encoding.encode(bytes).into_bytes(),
            None => bytes.to_vec(),
        };
        let answer = match (&self.result, self.number()) {
            (OperationResult::Found(item), _) => encode(item.value, codec.encode),
            (_, Some((_, Value::Null)) | None) => Vec::new(),
            (_, Some((_, number))) => number.to_string().into_bytes(),
        };
        [
            self.step.name().into(),
            encode(self.step.key(), codec.key.key_encode),
            self.word.into(),
            answer,
        ]
    }

    /// The same with names, and all that belongs to an item.
    pub(super) fn object(&self, codec: Codec) -> Value {
        let mut object = Map::new();
        object.insert("op".to_owned(), Value::from(self.step.name()));
        let bounds = match self.step {
            Step::DeleteRange { from, to, .. } => {
                vec![("from", Some(from.as_slice())), ("to", to.as_deref())]
            }
            step => vec![("key", Some(step.key()))],
        };
        for (name, bytes) in bounds {
            if let Some(bytes) = bytes {
                let (name, text) = Datum::new(bytes, codec.key.key_encode).named(name);
                object.insert(name, Value::from(text));
            }
        }
        object.insert("result".to_owned(), Value::from(self.word));
        if let Some((name, number)) = self.number() {
            object.insert(name.to_owned(), number);
        }
        if let OperationResult::Found(item) = &self.result {
            let item = items::object(item, false, codec.encodings());
            let fields = serde_json::to_value(item).expect("an object of plain fields");
            if let Value::Object(fields) = fields {
                object.extend(fields);
            }
        }
        Value::Object(object)
    }
}
