//! What is written is read back; what is not a history is refused with the line.

use raftd_tests::history::text::{self, Kept, Unreadable};

use super::maker::{Maker, put};
use super::random::{Shape, right};

fn lines(maker: &Maker) -> Vec<u8> {
    let mut out = Vec::new();
    text::write(&mut out, &maker.history, Some(maker.committed())).expect("memory takes it");
    out
}

#[test]
fn what_is_written_is_read_back() {
    let shape = Shape {
        clients: 5,
        operations: 300,
        keys: 3,
        abandoned: 10,
        all_reads: true,
        own_values: false,
    };
    for seed in 0..20 {
        let mut maker = right(seed, shape);
        maker.sent(0, 3, 4);
        let bytes = lines(&maker);
        let kept = Kept::read(&bytes[..]).expect("it was written here");
        assert_eq!(kept.history, maker.history, "seed {seed}");
        let committed = kept.committed().expect("the log was written");
        assert_eq!(committed.entries, maker.entries, "seed {seed}");
        assert_eq!(committed.epoch, maker.committed().epoch, "seed {seed}");
        let mut again = Vec::new();
        text::write(&mut again, &kept.history, Some(committed)).expect("memory takes it");
        assert!(again == bytes, "seed {seed}: the same lines");
    }
}

#[test]
fn the_lines_are_as_documented() {
    let mut maker = Maker::new();
    let place = maker.put(1, (10, 20), "k", "v");
    maker.sent(place, 1, 1);
    maker.get(2, (30, 40), "k");
    let text = String::from_utf8(lines(&maker)).expect("JSON is text");
    let source = include_str!("../../../src/history/text.rs");
    let documented = source.split("//! ```").nth(1).expect("there is an example");
    let documented: String = documented
        .lines()
        .skip(1)
        .map(|line| line.trim_start_matches("//!").trim_start())
        .collect();
    assert_eq!(text.lines().collect::<String>(), documented);
}

#[test]
fn bytes_that_are_no_text_are_kept() {
    let mut maker = Maker::new();
    maker.unanswered(
        1,
        0,
        raftd_tests::history::Command::Put {
            key: vec![0, 0xff],
            value: b"\"quoted\"\n".to_vec(),
        },
    );
    let mut out = Vec::new();
    text::write(&mut out, &maker.history, None).expect("memory takes it");
    let kept = Kept::read(&out[..]).expect("it was written here");
    assert_eq!(kept.history, maker.history);
    assert_eq!(kept.log, None);
    assert!(String::from_utf8_lossy(&out).contains(r#"{"hex":"00ff"}"#));
}

#[test]
fn what_is_no_history_is_refused_with_the_line() {
    let mut maker = Maker::new();
    maker.write(1, (0, 1), put("k", "v"));
    let good = String::from_utf8(lines(&maker)).expect("JSON is text");
    let (head, rest) = good.split_once('\n').expect("there are lines");
    for (bad, expected) in [
        (rest.to_owned(), 1),
        (format!("{{\"history\":{{\"format\":2}}}}\n{rest}"), 1),
        (format!("{{\"history\":{{\"format\":1}}}}\n{rest}"), 2),
        (format!("{head}\n{head}\n"), 2),
        (format!("{head}\n\n"), 2),
        (good.replace("\"seq\"", "\"sequence\""), 3),
        (
            good.replace("\"outcome\":\"put\"", "\"outcome\":\"set\""),
            4,
        ),
        (
            good.replace("\"value\":\"v\"", "\"value\":{\"hex\":\"0\"}"),
            3,
        ),
    ] {
        match Kept::read(bad.as_bytes()) {
            Err(Unreadable::Line { number, .. }) => assert_eq!(number, expected, "{bad}"),
            other => panic!("{other:?} of {bad}"),
        }
    }
    assert_eq!(
        Kept::read(good.as_bytes()).expect("it is good").history,
        maker.history
    );
}
