//! The model's sessions against the shipped ones: the same writes take effect, whatever clients and
//! networks do to their order, and however small the table is.

use std::collections::BTreeSet;

use raftd::store::Answer as Applied;
use raftd_tests::history::{Answer, Operation};
use raftd_tests::sim::random::Random;
use wire::command::{SessionId, Write};
use wire::error::Error;
use wire::types::{Epoch, Index};

use super::maker::{EPOCH, Maker, increment};

/// Names that writes are drawn from.
const NAMES: u64 = 6;

fn any_session(maker: &Maker, random: &mut Random) -> SessionId {
    let last = maker.entries.len() as u64;
    let nonce = random.below(NAMES);
    SessionId {
        epoch: if random.below(40) == 0 {
            Epoch(8)
        } else {
            EPOCH
        },
        // Mostly a name that was used before; sometimes of the future.
        born: Index(match random.below(20) {
            0 => last + random.below(3),
            1 => last,
            _ => nonce * last / 64 * 8,
        }),
        nonce,
    }
}

#[test]
fn the_model_lets_the_same_writes_through() {
    let mut refused = BTreeSet::new();
    let (mut kept, mut applied) = (0, 0);
    for seed in 0..150 {
        let mut random = Random::new(seed);
        let sessions_max = random.within(1..=5) as usize;
        let mut maker = Maker::with_sessions(sessions_max);
        let mut last_seq = [0_u64; NAMES as usize];
        for at_ns in 0..200 {
            if random.below(20) == 0 {
                maker.elect();
            }
            let session = any_session(&maker, &mut random);
            let last = &mut last_seq[session.nonce as usize];
            let seq = match random.below(8) {
                0 => random.within(1..=*last + 3),
                1 => (*last).max(1),
                2 => 1,
                _ => *last + 1,
            };
            let floor = match random.below(4) {
                0 => random.within(1..=seq),
                1 => seq,
                _ => seq.saturating_sub(2).max(1),
            };
            // One of two commands, so that a name is used for both now and then.
            let command = increment("n", 1 + i64::from(random.below(10) == 0));
            let write = Write {
                session,
                seq,
                floor,
                command: command.to_wire(),
            };
            match maker.offer(&write) {
                Applied::Written { id, outcome } if id.index.0 == maker.entries.len() as u64 => {
                    applied += 1;
                    *last = seq;
                    let answer = Answer::Written { id, outcome };
                    let operation = Operation::Write {
                        session,
                        seq,
                        command,
                    };
                    let span = (at_ns, Some(at_ns + 1));
                    maker.record(session.nonce, span, operation, answer);
                }
                Applied::Written { .. } => kept += 1,
                Applied::Refused(error) => {
                    refused.insert(error.name());
                }
                Applied::Nothing => panic!("a write is no no-op"),
            }
        }
        assert_eq!(maker.witness(), Ok(()), "seed {seed}");
    }
    assert!(applied > 3_000 && kept > 300, "{applied} and {kept}");
    let expected = [
        Error::BornInFuture,
        Error::IdReused,
        Error::OutOfOrder { expected: 1 },
        Error::SessionExpired,
        Error::Stale,
        Error::WrongEpoch,
    ];
    let expected = expected.iter().map(Error::name).collect();
    assert_eq!(refused, expected, "every reason was met");
}
