//! Reads and what they are answered, and texts for people.

use wire::client::{Item, KeyRange, Reply, prefix_end};
use wire::error::Error;
use wire::frame::Kind;
use wire::limits::*;
use wire::types::Index;

use super::{Payload, malformed, too_large};
use crate::any::{Any, decode_payload, parse};
use crate::make::{items, zeros};
use crate::samples;

#[test]
fn ranges_and_scan_positions() {
    let option = |payload: Payload, length: Option<usize>| match length {
        Some(length) => payload.u8(1).bytes(zeros(length)),
        None => payload.u8(0),
    };
    let scan = |from: usize, to: Option<usize>, after: Option<usize>| {
        let payload = Payload::default().u32(0).raw(&[1, 1]).bytes(zeros(from));
        let payload = option(payload, to).u8(0);
        option(payload, after).u32(1).u8(1).decode(Kind::Scan)
    };
    assert_eq!(scan(0, None, None), Ok(()));
    assert_eq!(scan(0, Some(0), None), Ok(()));
    let most = KEY_BYTES_MAX;
    assert_eq!(scan(most, Some(most), Some(most)), Ok(()));
    let over = KEY_BYTES_MAX + 1;
    too_large(scan(over, None, None), "key", KEY_BYTES_MAX, over);
    too_large(scan(0, Some(over), None), "key", KEY_BYTES_MAX, over);
    too_large(scan(0, None, Some(over)), "key", KEY_BYTES_MAX, over);
    malformed(scan(0, None, Some(0)), "a key is empty");
}

#[test]
fn a_prefix_is_a_range() {
    for (prefix, end) in [
        (&b""[..], None),
        (b"a", Some(&b"b"[..])),
        (b"a\xff", Some(b"b")),
        (b"a\x00", Some(b"a\x01")),
        (b"\xff\xff", None),
    ] {
        let to = prefix_end(prefix);
        assert_eq!(to.as_deref(), end);
        let range = KeyRange {
            from: prefix,
            to: to.as_deref(),
        };
        for key in [
            &b"\0"[..],
            b"a",
            b"a\0",
            b"a\x01",
            b"a\xff\xff",
            b"b",
            b"\xff\xff\xff",
        ] {
            assert_eq!(
                range.contains(key),
                key.starts_with(prefix),
                "{key:?} {range:?}"
            );
        }
    }
}

fn page_of(list: &[Item<'_>], count: u64) -> Result<(), Error> {
    let page = Reply::Page {
        index: Index(1),
        count,
        more_after: None,
        view: None,
        items: items(list),
    };
    Any::decode(&parse(&Any::Reply(1, page).encode())).map(|_| ())
}

#[test]
fn pages() {
    let item = |value: usize| Item {
        key: b"k",
        value: zeros(value),
        revision: Index(1),
        create_revision: Index(1),
        version: 1,
    };
    let most = PAGE_ITEMS_MAX as usize;
    assert_eq!(page_of(&vec![item(0); most], most as u64), Ok(()));
    malformed(
        page_of(&vec![item(0); most + 1], most as u64 + 1),
        "a page has more items than allowed",
    );
    let count = "the count of a page is not that of its items";
    malformed(page_of(&[item(0); 2], 1), count);
    malformed(page_of(&[item(0); 2], 3), count);

    let bytes = PAGE_BYTES_MAX as usize;
    assert_eq!(
        page_of(&[item(VALUE_BYTES_MAX)], 1),
        Ok(()),
        "one item always fits"
    );
    assert_eq!(page_of(&[item(bytes - 2), item(0)], 2), Ok(()));
    too_large(
        page_of(&[item(bytes - 2), item(1)], 2),
        "page",
        bytes,
        bytes + 1,
    );
}

#[test]
fn texts_for_people_are_cut_between_characters() {
    let text = "é".repeat(TEXT_BYTES_MAX);
    for (shift, kept) in [("", TEXT_BYTES_MAX), ("a", TEXT_BYTES_MAX - 1)] {
        let error = Error::Malformed {
            reason: format!("{shift}{text}"),
        };
        let bytes = Any::Reply(1, Reply::Error(error)).encode();
        let Ok(Any::Reply(1, Reply::Error(Error::Malformed { reason }))) =
            Any::decode(&parse(&bytes))
        else {
            panic!("not the error");
        };
        assert_eq!(reason, format!("{shift}{text}")[..kept]);
    }
    let invalid = Payload::default().u16(15).u8(3).u16(1).u8(0xff);
    malformed(invalid.decode(Kind::Error), "a text is not UTF-8");
}

#[test]
fn errors_keep_their_class() {
    for error in samples::errors() {
        let good = Any::Reply(1, Reply::Error(error.clone())).encode();
        let mut payload = parse(&good).payload.to_vec();
        for class in [0, 1, 2, 3, 4, 0xff] {
            payload[2] = class;
            let decoded = decode_payload(Kind::Error, &payload);
            let expected = class == error.class().code()
                || error.name() == "unknown" && (1..=3).contains(&class);
            assert_eq!(decoded.is_ok(), expected, "{error:?} with class {class}");
        }
    }
}
