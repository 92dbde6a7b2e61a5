//! Reads by the library.

use raftctl::client::{Consistency, Error, ScanMode, Walk, Way, Why, status_of};
use wire::client::{NodeRole, Reply};
use wire::error::Error as WireError;
use wire::types::{Index, NodeId};

use super::client::{PUT, briefly, client, closed_port, soon};
use super::fake::{Act, Fake, What};
use super::script::{Store, always, status};

#[test]
fn a_read_finds_what_was_written() {
    let server = Store::default().serve();
    let mut client = client(&[&server]);
    let linearizable = Consistency::Linearizable;
    assert_eq!(client.get(b"k", linearizable, soon()), Ok(None));
    client.write(PUT, soon()).unwrap();
    client.write(PUT, soon()).unwrap();
    let entry = client.get(b"k", linearizable, soon()).unwrap().unwrap();
    assert_eq!(entry.value, b"v");
    assert_eq!(
        (entry.revision, entry.create_revision),
        (Index(2), Index(1))
    );
    assert_eq!(entry.version, 2);
}

#[test]
fn a_read_sends_what_is_queued_before_it() {
    let server = Store::default().serve();
    let mut client = client(&[&server]);
    client.submit(PUT).unwrap();
    let entry = client.get(b"k", Consistency::Linearizable, soon()).unwrap();
    assert_eq!(entry.unwrap().value, b"v");
    assert_eq!(client.in_flight(), 1);
    client.wait(soon()).unwrap().unwrap();
}

#[test]
fn a_read_goes_on_after_a_lost_connection_and_a_redirect() {
    let leader = Store::default().serve();
    let hint = leader.hint();
    let follower = Fake::start(2, move |asked| match asked.connection {
        0 => Act::Close,
        _ => asked.error(WireError::NotLeader {
            leader: hint.clone(),
        }),
    });
    let found = client(&[&follower]).get(b"k", Consistency::Linearizable, soon());
    assert_eq!(found, Ok(None));
    assert_eq!(leader.asked().len(), 1);
}

#[test]
fn a_read_that_nobody_answers_is_not_applied() {
    let hanging = Fake::start(1, |_| Act::Nothing);
    let result = client(&[&hanging]).get(b"k", Consistency::Linearizable, briefly());
    assert!(
        matches!(
            result,
            Err(Error::NotApplied {
                why: Why::Deadline,
                ..
            })
        ),
        "{result:?}"
    );
    let lost = Fake::start(1, always(WireError::NoLeader));
    let result = client(&[&lost]).get(b"k", Consistency::Linearizable, briefly());
    assert!(
        matches!(result, Err(Error::NotApplied { .. })),
        "{result:?}"
    );
}

#[test]
fn a_stale_read_stays_where_it_is() {
    let leader = Store::default().serve();
    let mut store = Store::default();
    let follower = Fake::start(2, move |asked| store.act(asked));
    follower.name_leader(&leader, 1);
    let found = client(&[&follower]).get(b"k", Consistency::Stale, soon());
    assert_eq!(found, Ok(None));
    let asked = follower.asked();
    assert_eq!(
        asked[0].what,
        What::Get(Consistency::Stale.into(), b"k".to_vec())
    );
}

#[test]
fn pages_follow_one_another() {
    let store = Store {
        page_items: 2,
        ..Store::default()
    };
    let server = store.serve();
    let mut client = client(&[&server]);
    for key in [b"a1", b"a2", b"a3", b"b1"] {
        let command = raftctl::client::Command::Put { key, value: b"v" };
        client.submit(command).unwrap();
    }
    while client.in_flight() > 0 {
        client.wait(soon()).unwrap().unwrap();
    }
    for (reverse, expected) in [
        (false, [b"a1", b"a2", b"a3"]),
        (true, [b"a3", b"a2", b"a1"]),
    ] {
        let way = Way {
            reverse,
            ..way(b"a", u64::MAX)
        };
        assert_eq!(keys(Walk::new(self::client(&[&server]), way)), expected);
    }
    let limited = Walk::new(self::client(&[&server]), way(b"", 3));
    assert_eq!(keys(limited), [b"a1", b"a2", b"a3"]);
}

fn way(prefix: &[u8], limit: u64) -> Way {
    Way {
        limit,
        ..Way::prefix(ScanMode::Items, prefix)
    }
}

fn keys(mut walk: Walk) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    while let Some(page) = walk.next_page(soon()).unwrap() {
        keys.extend(page.items().iter().map(|item| item.key.to_vec()));
    }
    keys
}

#[test]
fn all_pages_are_of_one_revision_or_none_is_made_up() {
    let store = Store {
        page_items: 1,
        ..Store::default()
    };
    let server = store.serve();
    let put = |key: &[u8]| {
        let command = raftctl::client::Command::Put { key, value: b"v" };
        client(&[&server]).write(command, soon()).unwrap();
    };
    put(b"a");
    put(b"c");
    let mut walk = Walk::new(client(&[&server]), way(b"", u64::MAX));
    let first = walk.next_page(soon()).unwrap().unwrap();
    put(b"b");
    let second = walk.next_page(soon()).unwrap().unwrap();
    assert_eq!(first.index, second.index);
    assert_eq!(second.items().iter().next().unwrap().key, b"c");
    assert_eq!(walk.next_page(soon()), Ok(None));
}

#[test]
fn a_view_goes_with_its_connection() {
    let mut store = Store {
        page_items: 1,
        ..Store::default()
    };
    for (index, key) in (1..).zip([b"a", b"b"]) {
        let put = wire::command::Command::Put { key, value: b"v" };
        store.map.apply(Index(index), &put);
    }
    let mut scans = 0;
    let server = Fake::start(1, move |asked| {
        scans += 1;
        match scans {
            1 => store.act(asked),
            _ => Act::Close,
        }
    });
    let mut walk = Walk::new(client(&[&server]), way(b"", u64::MAX));
    walk.next_page(soon()).unwrap().unwrap();
    match walk.next_page(soon()) {
        Err(Error::NotApplied { why, .. }) => assert_eq!(why.name(), "view-gone"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_of_another_kind_is_not_believed() {
    let server = Fake::start(1, |asked| match asked.connection {
        0 => asked.reply(&Reply::Page {
            index: Index(1),
            count: 0,
            more_after: None,
            view: None,
            items: wire::client::Items { bytes: b"" },
        }),
        _ => asked.reply(&Reply::Missing { index: Index(1) }),
    });
    let found = client(&[&server]).get(b"k", Consistency::Linearizable, soon());
    assert_eq!(found, Ok(None));
}

#[test]
fn the_status_of_a_node_is_asked_of_that_node() {
    let leader = Store::default().serve();
    let addrs = [leader.addr.as_str(), "", ""];
    let mut store = Store {
        status: Some(status(2, NodeRole::Follower, addrs, [true; 3])),
        ..Store::default()
    };
    let follower = Fake::start(2, move |asked| store.act(asked));
    follower.name_leader(&leader, 1);
    let told = status_of(&follower.addr, std::time::Duration::from_secs(20)).unwrap();
    assert_eq!(told.node, NodeId(2));
    assert_eq!(leader.hellos().len(), 0);
    let cause = status_of(&closed_port(), std::time::Duration::from_secs(20)).unwrap_err();
    assert_eq!(cause.text, "connection refused");
}
