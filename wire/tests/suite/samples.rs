//! One value of every kind and variant, named: the golden files hold their bytes.

mod peer;
mod reply;
mod request;

use wire::client::Reply;
use wire::error::{Class, Error, Lag};
use wire::membership::{MemberRecord, Membership, Suffrage, Wish};
use wire::types::{Incarnation, NodeId};

use self::peer::{hellos, hint, peers};
use self::reply::replies;
use self::request::requests;
use crate::any::Any;

/// One member of every suffrage.
pub(crate) fn membership() -> Membership {
    let suffrages = [
        Suffrage::Voter,
        Suffrage::Learner,
        Suffrage::Incoming,
        Suffrage::Demoted,
        Suffrage::Leaving,
    ];
    let member = |(n, suffrage)| MemberRecord {
        id: NodeId(n),
        name: format!("n{n}"),
        peer_addr: format!("10.0.0.{n}:7401"),
        incarnation: (n != 2).then(|| Incarnation(0x1111 * n)),
        suffrage,
        wish: (n == 2).then_some(Wish {
            until_wall_ms: 1_700_000_000_000,
            replaces: Some(NodeId(4)),
        }),
    };
    Membership {
        newest: NodeId(7),
        members: (1..).zip(suffrages).map(member).collect(),
    }
}

/// Every error of this version, and one of a later one.
pub(crate) fn errors() -> Vec<Error> {
    vec![
        Error::NotLeader { leader: hint() },
        Error::NoLeader,
        Error::DeadlineExpired,
        Error::Overloaded { retry_after_ms: 20 },
        Error::TooManyConnections { limit: 4096 },
        Error::ShuttingDown,
        Error::DiskFull { hard: true },
        Error::SessionExpired,
        Error::OutOfOrder { expected: 8 },
        Error::OutcomeUnknown,
        Error::Stale,
        Error::IdReused,
        Error::BornInFuture,
        Error::TooLarge {
            what: "value".into(),
            limit: 1 << 20,
            actual: (1 << 20) + 1,
        },
        Error::Malformed {
            reason: "a key is empty".into(),
        },
        Error::UnknownKind { kind: 0xff },
        Error::UnknownFlags { flags: 0x8000 },
        Error::UnsupportedVersion { min: 1, max: 1 },
        Error::WrongCluster {
            cluster: "00112233445566778899aabbccddeeff".into(),
        },
        Error::WrongEpoch,
        Error::WrongNode {
            reason: "node 4 is no member".into(),
        },
        Error::WrongIncarnation {
            reason: "node 2 was another one: replace-peer".into(),
        },
        Error::Divergence {
            reason: "entry 40 is committed".into(),
        },
        Error::StateInDoubt,
        Error::Refused {
            reason: "node 3 is down: of 3 voters 1 would be left".into(),
            advice: "bring it back first".into(),
        },
        Error::Removed,
        Error::Lagging(Box::new(Lag {
            reason: "no leader is known".into(),
            entries: 120,
            behind_ms: Some(3200),
            better: Some(hint()),
        })),
        Error::ViewGone,
        Error::Unknown {
            code: 999,
            class: Class::NotApplied,
            text: "come back on Monday".into(),
        },
    ]
}

/// Every sample under its name.
pub(crate) fn all() -> Vec<(String, Any<'static>)> {
    let named = [hellos(), peers(), requests(), replies()].into_iter();
    let errors = errors().into_iter().map(|error| {
        let request_id = if error.name().starts_with("wrong") {
            0
        } else {
            12
        };
        let name = format!("error-{}", error.name());
        (name, Any::Reply(request_id, Reply::Error(error)))
    });
    named
        .flatten()
        .map(|(name, any)| (name.to_owned(), any))
        .chain(errors)
        .collect()
}
