//! What is refused before anything is sent.

use raftctl::client::{
    Command, Consistency, Error, Expect, KeyRange, RequestId, Scan, ScanMode, Walk, Way,
};
use wire::client::MemberChange;
use wire::types::NodeId;

use super::client::{client, soon};
use super::fake::Fake;
use super::script::obliging;

#[test]
fn what_is_too_large_is_refused_before_it_is_sent() {
    let server = Fake::start(1, obliging());
    let mut client = client(&[&server]);
    let (key, value) = (&[b'k'; 4097][..], &vec![0; 1024 * 1024 + 1][..]);
    let large = &value[1..];
    let cas = |key, expect, value| Command::CompareAndSwap { key, expect, value };
    let delete = |from, to| Command::DeleteRange {
        from,
        to,
        expect: None,
    };
    let (put, append) = (
        |key, value| Command::Put { key, value },
        |key, value| Command::Append { key, value },
    );
    let commands = [
        put(key, b""),
        put(b"k", value),
        put(b"", b""),
        append(key, b""),
        append(b"k", value),
        append(b"", b""),
        cas(key, Expect::Absent, b""),
        cas(b"k", Expect::Absent, value),
        cas(b"k", Expect::Value(value), b""),
        cas(b"k", Expect::Value(large), large),
        delete(key, None),
        delete(b"", Some(key)),
        delete(b"", Some(b"")),
        Command::Delete { key },
        Command::Delete { key: b"" },
        Command::Increment { key, delta: 1 },
    ];
    let request: RequestId = format!("{}-1", "1".repeat(48)).parse().unwrap();
    for command in commands {
        for result in [
            client.write(command, soon()),
            client.resume(request, command, soon()),
            client.resubmit(command).map(|()| unreachable!()),
        ] {
            assert!(matches!(result, Err(Error::Refused { .. })), "{result:?}");
        }
    }
    for key in [key, b""] {
        let found = client.get(key, Consistency::Linearizable, soon());
        assert!(matches!(found, Err(Error::Refused { .. })), "{found:?}");
    }
    for (from, to) in [(key, None), (b"", Some(key))] {
        let way = Way::range(ScanMode::Keys, from, to);
        let page = Walk::new(self::client(&[&server]), way).next_page(soon());
        assert!(matches!(page, Err(Error::Refused { .. })), "{page:?}");
    }
    for after in [key, b""] {
        let mut scan = Scan::new(ScanMode::Keys, KeyRange::default());
        scan.after = Some(after);
        let page = client.scan(scan, soon());
        assert!(matches!(page, Err(Error::Refused { .. })), "{page:?}");
    }
    assert_eq!(server.asked(), []);
}

#[test]
fn a_name_or_an_address_that_no_member_has_is_refused_before_it_is_sent() {
    let server = Fake::start(1, obliging());
    let mut client = client(&[&server]);
    let (name, addr) = ("n".repeat(65), "h".repeat(263));
    let add = |name, peer_addr| MemberChange::Add {
        name,
        peer_addr,
        promote_within_ms: None,
        replaces: None,
    };
    let update = |name, peer_addr| MemberChange::Update {
        id: NodeId(1),
        name,
        peer_addr,
    };
    for change in [
        add(&name, "h:1"),
        add("n4", &addr),
        add("", "h:1"),
        add("n4", ""),
        update(Some(&name), None),
        update(None, Some(&addr)),
        update(Some(""), None),
        update(None, Some("")),
    ] {
        for dry_run in [true, false] {
            let changed = client.change_members(change, dry_run, soon());
            assert!(matches!(changed, Err(Error::Refused { .. })), "{changed:?}");
        }
    }
    assert_eq!(server.asked(), []);
}

#[test]
#[should_panic(expected = "0 numbers no write")]
fn a_request_without_a_number_is_a_bug_of_the_caller() {
    let text = format!("{}-1", "1".repeat(48));
    let mut request: RequestId = text.parse().unwrap();
    request.seq = 0;
    let server = Fake::start(1, obliging());
    client(&[&server]).continue_session(request);
}
