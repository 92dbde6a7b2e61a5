//! The parts of the state's digest, and what no state is made from.

use raftd::store::session::{KEPT_MAX, KEPT_PER_SESSION_MAX};
use raftd::store::{Builder, ImageError, ImageHead, Kept, Run, SessionImage, Store, digest};
use wire::client::Item;
use wire::command::{Outcome, Results, Undone};
use wire::limits::{COUNTER_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use wire::membership::Membership;
use wire::types::{EntryId, Epoch, Index, NodeId, Term};

const EPOCH: Epoch = Epoch(77);
const ITEM: Item<'_> = Item {
    key: b"key",
    value: b"value",
    revision: Index(7),
    create_revision: Index(5),
    version: 2,
};
const KEPT: Kept = Kept {
    seq: 3,
    fingerprint: 11,
    id: EntryId {
        term: Term(2),
        index: Index(7),
    },
    outcome: Outcome::Put,
};

fn image(replies: &[Kept]) -> SessionImage {
    SessionImage {
        born: Index(4),
        nonce: 99,
        replies: replies.into(),
    }
}

fn txn(held: bool, results: Option<&[u8]>) -> Outcome {
    let results = results.map(Results::new);
    Outcome::Txn { held, results }
}

fn undone(held: bool, operation: u32, why: Undone) -> Outcome {
    Outcome::Undone {
        held,
        operation,
        why,
    }
}

fn membership(addr: &str) -> Membership {
    Membership::initial(&[(NodeId(1), addr.to_owned())], &[])
}

/// The digest travels between nodes and stays in files: it must not change by itself.
#[test]
fn the_digest_is_the_same_on_every_machine_and_in_every_version() {
    assert_eq!(
        format!("{:032x}", digest::item(&ITEM)),
        "e9a229450e97de8e96966d0a945e82f4"
    );
    assert_eq!(
        format!("{:032x}", digest::session(&image(&[KEPT]))),
        "83a78fc75af71706ce815eca0dfc2ac2"
    );
    assert_eq!(
        format!("{:032x}", digest::horizon(Some(Index(0)))),
        "a6241d69b84c24098a268d168a426ef3"
    );
    assert_eq!(
        format!("{:032x}", digest::membership(Some(&membership("a:1")))),
        "a6d2d5a5d594b01e6e535aad4316e324"
    );
    assert_eq!((digest::horizon(None), digest::membership(None)), (0, 0));
    assert_eq!(Store::new(EPOCH, 1).digest(), 0);
}

#[test]
fn whatever_differs_has_another_digest() {
    let items = [
        ITEM,
        Item {
            key: b"kez",
            ..ITEM
        },
        Item {
            key: b"keyv",
            value: b"alue",
            ..ITEM
        },
        Item {
            value: b"valuf",
            ..ITEM
        },
        Item { value: b"", ..ITEM },
        Item {
            revision: Index(8),
            ..ITEM
        },
        Item {
            create_revision: Index(6),
            ..ITEM
        },
        Item { version: 3, ..ITEM },
    ];
    let outcomes = [
        Outcome::Deleted(0),
        Outcome::Deleted(1),
        Outcome::Swapped,
        Outcome::NotSwapped(None),
        Outcome::NotSwapped(Some(Index(0))),
        Outcome::NotSwapped(Some(Index(1))),
        Outcome::Incremented(0),
        Outcome::Incremented(-1),
        Outcome::NotANumber,
        Outcome::Overflow,
        Outcome::Applied,
        Outcome::Appended(0),
        Outcome::Appended(1),
        Outcome::TooLong,
        Outcome::NotDeleted(0),
        Outcome::NotDeleted(1),
        txn(true, None),
        txn(false, None),
        txn(true, Some(&[])),
        txn(true, Some(&[3])),
        txn(true, Some(&[3, 3])),
        undone(true, 0, Undone::Overflow),
        undone(false, 0, Undone::Overflow),
        undone(true, 1, Undone::Overflow),
        undone(true, 0, Undone::TooLong),
    ];
    let kept = outcomes.map(|outcome| Kept { outcome, ..KEPT });
    let id = |term, index| EntryId {
        term: Term(term),
        index: Index(index),
    };
    let others = [
        KEPT,
        Kept { seq: 4, ..KEPT },
        Kept {
            fingerprint: 12,
            ..KEPT
        },
        Kept {
            id: id(3, 7),
            ..KEPT
        },
        Kept {
            id: id(2, 8),
            ..KEPT
        },
    ];
    let mut images: Vec<_> = kept
        .iter()
        .chain(&others)
        .map(|kept| image(std::slice::from_ref(kept)))
        .collect();
    images.push(SessionImage {
        born: Index(3),
        ..image(&[KEPT])
    });
    images.push(SessionImage {
        nonce: 98,
        ..image(&[KEPT])
    });
    let mut digests: Vec<_> = items.iter().map(digest::item).collect();
    digests.extend(images.iter().map(digest::session));
    digests.extend(["a:1", "a:2"].map(|addr| digest::membership(Some(&membership(addr)))));
    digests.extend([0, 1, 7].map(|born| digest::horizon(Some(Index(born)))));
    let all = digests.len();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), all);
}

fn run<const N: usize>(items: [Item<'_>; N]) -> Result<Run, ImageError> {
    let mut run = Run::default();
    items.into_iter().try_for_each(|item| run.push(item))?;
    Ok(run)
}

const HEAD: ImageHead = ImageHead {
    applied: EntryId {
        term: Term(2),
        index: Index(9),
    },
    wall_ms: 5,
    epoch: EPOCH,
    horizon: None,
    keys: 0,
    sessions: 0,
    membership: None,
};

#[test]
fn impossible_items_are_refused() {
    let long_key = vec![b'z'; KEY_BYTES_MAX + 1];
    let long_value = vec![0; VALUE_BYTES_MAX + 1];
    let revisions = |created, modified, version| Item {
        key: b"z",
        revision: Index(modified),
        create_revision: Index(created),
        version,
        ..ITEM
    };
    let refused = [
        Item { key: b"", ..ITEM },
        Item {
            key: &long_key,
            ..ITEM
        },
        Item {
            key: b"z",
            value: &long_value,
            ..ITEM
        },
        ITEM,
        Item { key: b"ke", ..ITEM },
        revisions(0, 0, 1),
        revisions(0, 3, 2),
        revisions(3, 3, 0),
        revisions(3, 3, 10_001),
        revisions(3, 4, 1),
        revisions(3, 4, 20_001),
        revisions(4, 3, 2),
        revisions(3, u64::MAX, u64::MAX),
        revisions(3, 10, 2),
    ];
    for item in refused {
        let mut builder = Builder::new(ImageHead { keys: 2, ..HEAD });
        builder.run(run([ITEM]).unwrap()).unwrap();
        let error = run([item]).and_then(|run| builder.run(run)).unwrap_err();
        assert!(matches!(error, ImageError::Item(_)), "{item:?}: {error}");
        // Nothing of it was added. A txn may write one key as often as it touches any.
        builder
            .run(run([revisions(3, 4, 20_000)]).unwrap())
            .unwrap();
        assert_eq!(builder.finish(1).unwrap().map().len(), 2);
    }
}

#[test]
fn impossible_sessions_are_refused() {
    let kept = |seq, term, index| Kept {
        seq,
        id: EntryId {
            term: Term(term),
            index: Index(index),
        },
        ..KEPT
    };
    let many: Vec<_> = (1..=KEPT_PER_SESSION_MAX as u64 + 1)
        .map(|seq| kept(seq, 2, seq + 4))
        .collect();
    let far = EntryId {
        index: Index(10_000),
        ..HEAD.applied
    };
    let refused = [
        image(&[]),
        image(&many),
        image(&[kept(0, 2, 8)]),
        image(&[kept(COUNTER_MAX + 1, 2, 8)]),
        image(&[kept(1, 2, 8), kept(1, 2, 9)]),
        image(&[kept(1, 2, 8), kept(2, 2, 8)]),
        image(&[kept(1, 2, 8), kept(2, 1, 9)]),
        image(&[kept(1, 2, 4)]),
        image(&[kept(1, 2, 10_001)]),
        image(&[kept(1, 3, 8)]),
        image(&[Kept {
            outcome: txn(true, Some(&[3; 257])),
            ..kept(1, 2, 8)
        }]),
        // The one before it wrote later, or is the same.
        image(&[kept(1, 2, 7)]),
        SessionImage {
            nonce: 1,
            ..image(&[kept(1, 2, 8)])
        },
    ];
    for session in refused {
        let head = ImageHead {
            applied: far,
            sessions: 1,
            ..HEAD
        };
        let mut builder = Builder::new(head);
        let first = SessionImage {
            nonce: 1,
            ..image(&[KEPT])
        };
        builder.session(&first).unwrap();
        let error = builder.session(&session).unwrap_err();
        assert!(matches!(error, ImageError::Session(_)), "{error}");
        assert_eq!(builder.finish(1).unwrap().sessions().len(), 1);
    }
}

/// Of all sessions together, beyond the last one of each.
#[test]
fn kept_replies_are_limited() {
    let mut builder = Builder::new(ImageHead {
        applied: EntryId {
            term: Term(2),
            index: Index(COUNTER_MAX),
        },
        ..HEAD
    });
    let mut index = 4;
    let mut add = |nonce, replies: usize| {
        let replies = (1..=replies as u64).map(|seq| {
            index += 1;
            let mut kept = Kept { seq, ..KEPT };
            kept.id.index = Index(index);
            kept
        });
        builder.session(&SessionImage {
            nonce,
            replies: replies.collect(),
            ..image(&[])
        })
    };
    let full = KEPT_MAX / (KEPT_PER_SESSION_MAX - 1);
    for nonce in 0..full {
        assert_eq!(add(nonce as u64, KEPT_PER_SESSION_MAX), Ok(()));
    }
    let left = KEPT_MAX - full * (KEPT_PER_SESSION_MAX - 1);
    assert!(matches!(add(1_000, left + 2), Err(ImageError::Session(_))));
    assert_eq!(add(1_001, left + 1), Ok(()));
}

#[test]
fn a_state_must_be_what_its_head_says() {
    let finish = |head, sessions_max| {
        let mut builder = Builder::new(head);
        builder.run(run([ITEM]).unwrap()).unwrap();
        for (nonce, index) in [(1, 6), (2, 7)] {
            let mut session = image(&[KEPT]);
            session.nonce = nonce;
            session.replies[0].id.index = Index(index);
            builder.session(&session).unwrap();
        }
        builder
            .finish(sessions_max)
            .map(|store| store.view().head().clone())
    };
    let head = ImageHead {
        horizon: Some(Index(8)),
        keys: 1,
        sessions: 2,
        ..HEAD
    };
    assert_eq!(finish(head.clone(), 2), Ok(head.clone()));
    let count = |what, announced, found| {
        Err(ImageError::Count {
            what,
            announced,
            found,
        })
    };
    assert_eq!(
        finish(
            ImageHead {
                keys: 2,
                ..head.clone()
            },
            2
        ),
        count("keys", 2, 1)
    );
    let sessions = |sessions| {
        finish(
            ImageHead {
                sessions,
                ..head.clone()
            },
            2,
        )
    };
    assert_eq!(sessions(1), count("sessions", 1, 2));
    assert!(matches!(
        finish(head.clone(), 1),
        Err(ImageError::Session(_))
    ));
    let horizon = Some(Index(9));
    let late = finish(
        ImageHead {
            horizon,
            ..head.clone()
        },
        2,
    );
    assert!(matches!(late, Err(ImageError::Head(_))));
    let mut far = head;
    far.applied.index = Index(COUNTER_MAX + 1);
    assert!(matches!(finish(far, 2), Err(ImageError::Head(_))));
}
