//! Views that clients walk over: one state for all pages, whoever leads, and an end in any case.

use raftd::node::Limits;
use raftd::node::io::ConnectionId;
use wire::client::{Consistency, KeyRange, Reply, Request, ScanMode, ViewChoice};
use wire::error::Error;
use wire::types::NodeId;

use super::node_cluster::{put, session};
use super::node_harness::{Cluster, Options, error, ms};

/// A page of two keys behind one.
pub(crate) fn scan(view: ViewChoice, after: Option<&[u8]>) -> Request<'_> {
    Request::Scan {
        deadline_ms: 0,
        freshness: Consistency::Linearizable.into(),
        mode: ScanMode::Items,
        range: KeyRange::default(),
        reverse: false,
        after,
        limit: 2,
        view,
    }
}

/// A page as a test looks at it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    index: u64,
    view: Option<u64>,
    values: Vec<Vec<u8>>,
}

fn seen(reply: &Reply<'_>) -> Seen {
    let Reply::Page {
        index, view, items, ..
    } = reply
    else {
        panic!("no page: {reply:?}");
    };
    Seen {
        index: index.0,
        view: *view,
        values: items.iter().map(|item| item.value.to_vec()).collect(),
    }
}

fn values(values: &[&str]) -> Vec<Vec<u8>> {
    values
        .iter()
        .map(|value| value.as_bytes().to_vec())
        .collect()
}

/// A cluster with five keys of the value `old`, its leader and a connection to it.
fn five(limits: Limits) -> (Cluster, NodeId, ConnectionId) {
    let mut cluster = Cluster::serving(Options {
        limits,
        ..Options::default()
    });
    let leader = cluster.elect();
    let client = cluster.connect(leader);
    write_all(&mut cluster, client, 1, b"old");
    (cluster, leader, client)
}

fn write_all(cluster: &mut Cluster, client: ConnectionId, first_id: u64, value: &[u8]) {
    let mut session = session(cluster, first_id);
    for (request_id, key) in (first_id..).zip([b"a", b"b", b"c", b"d", b"e"]) {
        let put = session.next(put(key, value));
        cluster.ask(client, request_id, put);
    }
}

#[test]
fn all_pages_of_a_view_are_of_one_state() {
    let (mut cluster, leader, client) = five(Limits::default());
    let first = seen(&cluster.ask(client, 10, scan(ViewChoice::Keep, None)));
    assert_eq!(first.values, values(&["old", "old"]));
    let view = first.view.expect("there are more");
    write_all(&mut cluster, client, 20, b"new");
    let second = seen(&cluster.ask(client, 30, scan(ViewChoice::Of(view), Some(b"b"))));
    assert_eq!((second.index, second.view), (first.index, Some(view)));
    assert_eq!(second.values, values(&["old", "old"]));
    // Without a view a page is of the newest state.
    let now = seen(&cluster.ask(client, 31, scan(ViewChoice::Now, Some(b"b"))));
    assert_eq!(now.values, values(&["new", "new"]));
    assert!(now.index > first.index && now.view.is_none());

    // A node that leads no more goes on with it.
    cluster.isolate(leader);
    cluster.run_until("another leader", ms(5_000), |cluster| {
        cluster.leader().is_some_and(|id| id != leader)
    });
    let last = seen(&cluster.ask(client, 32, scan(ViewChoice::Of(view), Some(b"d"))));
    assert_eq!((last.index, last.view), (first.index, None));
    assert_eq!(last.values, values(&["old"]));
    // That was its last page.
    let gone = cluster.ask(client, 33, scan(ViewChoice::Of(view), Some(b"d")));
    assert_eq!(error(gone), Error::ViewGone);
}

#[test]
fn a_view_belongs_to_its_connection_and_goes_with_it() {
    let limits = Limits {
        views_max: 1,
        ..Limits::default()
    };
    let (mut cluster, leader, client) = five(limits);
    let view = seen(&cluster.ask(client, 10, scan(ViewChoice::Keep, None))).view;
    let view = view.expect("there are more");
    let other = cluster.connect(leader);
    let foreign = cluster.ask(other, 1, scan(ViewChoice::Of(view), None));
    assert_eq!(error(foreign), Error::ViewGone);
    // There are as many as may be. A page that needs none is served all the same.
    let second = cluster.ask(other, 2, scan(ViewChoice::Keep, None));
    assert!(matches!(error(second), Error::Overloaded { .. }));
    let last = seen(&cluster.ask(other, 3, scan(ViewChoice::Keep, Some(b"c"))));
    assert_eq!((last.values.len(), last.view), (2, None));
    cluster.hang_up(client);
    let second = seen(&cluster.ask(other, 4, scan(ViewChoice::Keep, None)));
    assert_eq!(second.view, Some(view + 1), "an id is given once");
}

#[test]
fn a_view_ends_when_nobody_uses_it_and_when_it_is_old() {
    let limits = Limits {
        view_idle_max: ms(1_000),
        view_age_max: ms(3_000),
        ..Limits::default()
    };
    let (mut cluster, _, client) = five(limits);
    let keep = |cluster: &mut Cluster, request_id| {
        let page = seen(&cluster.ask(client, request_id, scan(ViewChoice::Keep, None)));
        page.view.expect("there are more")
    };
    let idle = keep(&mut cluster, 10);
    cluster.run(ms(1_100));
    let gone = cluster.ask(client, 11, scan(ViewChoice::Of(idle), None));
    assert_eq!(error(gone), Error::ViewGone);
    let used = keep(&mut cluster, 12);
    for request_id in 20..23 {
        cluster.run(ms(800));
        let page = seen(&cluster.ask(client, request_id, scan(ViewChoice::Of(used), None)));
        assert_eq!(page.view, Some(used));
    }
    cluster.run(ms(800));
    let gone = cluster.ask(client, 30, scan(ViewChoice::Of(used), None));
    assert_eq!(error(gone), Error::ViewGone);
}
