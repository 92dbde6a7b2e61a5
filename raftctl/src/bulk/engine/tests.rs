//! What becomes of blocks that are not done.

use std::sync::mpsc::sync_channel;

use raftctl::client::Options;
use raftctl::failure::Exit;

use super::*;
use crate::format::Style;

/// Consecutive increments, those behind `after`.
fn increments(after: u64, records: u64) -> Block {
    let mut block = Block::default();
    (block.after, block.last) = (after, after + records);
    block.may_fail = true;
    for number in after + 1..=after + records {
        let key = b"n";
        let increment = Command::Increment { key, delta: 1 };
        let pushed = block.batch.push(Operation::Change(increment));
        pushed.expect("a batch is not full so soon");
        block.numbers.push(number);
    }
    block
}

#[test]
fn a_block_that_ends_before_its_first_record_is_never_in_a_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoint = Checkpoint::new(&folder.path().join("ck"));
    let words = Words {
        doing: "load",
        input: "input",
        unit: "line",
    };
    let (_, intake) = sync_channel(1);
    let client = Client::new(Options::new(Vec::new()));
    let counts = Counts::default();
    let mut engine = Engine::new(client, intake, words, Duration::ZERO, &counts);
    let next = "000000000000000100000000000000020000000000000003-7".parse();
    let next = next.expect("a name");
    engine.remember(checkpoint.clone(), Some(&State::new(next)));
    engine.ledger.records = 5;
    let flight = Flight::new(increments(5, 3), false);
    let first = flight.block.numbers[0];
    engine.flights.push_back(flight);
    let mut out = Out::new(Style::default()).expect("there is an output");
    let ended = engine.send_otherwise(first, Undone::NotANumber, &mut out);
    assert_eq!(ended.expect_err("it ends there").exit, Exit::Refused);
    let state = checkpoint
        .read()
        .expect("it is sound")
        .expect("it is there");
    assert_eq!((state.records, state.request()), (5, Some(next)));
    assert!(state.in_flight.is_empty(), "{state:?}");
}
