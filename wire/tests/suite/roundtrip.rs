//! Whatever the types can hold within the limits survives the wire.

mod client;
mod command;
mod number;
mod peer;
mod status;

use proptest::collection::vec;
use proptest::prelude::*;
use wire::client::Request;
use wire::command::Write;
use wire::error::Error;
use wire::hello::negotiate;
use wire::membership::{Membership, Suffrage};
use wire::peer::Message;
use wire::types::NodeId;

use self::client::{reply, request};
use self::command::{item, write};
use self::peer::{append, hello, message, welcome};
use self::status::membership;
use crate::any::{Any, parse};
use crate::make::{body, items, write_request};

fn anything() -> impl Strategy<Value = Any<'static>> {
    prop_oneof![
        1 => hello().prop_map(Any::Hello),
        1 => welcome().prop_map(Any::Welcome),
        4 => message().prop_map(Any::Peer),
        4 => (1..=u64::MAX, request()).prop_map(|(id, request)| Any::Request(id, request)),
        4 => (1..=u64::MAX, reply()).prop_map(|(id, reply)| Any::Reply(id, reply)),
    ]
}

proptest! {
    /// The joint step has the voters of before and those of after, and what is left of it when the
    /// set of before ends is the target (thesis 4.3).
    #[test]
    fn a_change_takes_both_sets_of_voters_along(before in membership(), after in membership()) {
        let (before, mut after) = (before.settled(), after.settled());
        for member in &mut after.members {
            let known = before.get(member.id);
            member.name = known.map_or_else(|| format!("m{}", member.id), |m| m.name.clone());
        }
        let joint = before.toward(&after);
        prop_assume!(joint.members.len() <= 16);
        let voters = |m: &Membership, of: fn(Suffrage) -> bool| -> Vec<NodeId> {
            m.members.iter().filter(|m| of(m.suffrage)).map(|m| m.id).collect()
        };
        prop_assert_eq!(
            voters(&joint, Suffrage::votes_before),
            voters(&before, Suffrage::votes)
        );
        prop_assert_eq!(voters(&joint, Suffrage::votes_after), voters(&after, Suffrage::votes));
        prop_assert_eq!(&joint.settled(), &after);
        let same = voters(&before, Suffrage::votes) == voters(&after, Suffrage::votes);
        prop_assert_eq!(joint.is_joint(), !same);
        prop_assert!(joint.is_joint() || joint == after);
    }

    /// A quorum of a change is one of the voters of before and one of those of after, and the others
    /// are none (thesis 4.3).
    #[test]
    fn a_quorum_is_one_of_either_set(members in membership(), yes in any::<u16>()) {
        let has = |id: NodeId| {
            let place = members.members.iter().position(|member| member.id == id);
            place.is_some_and(|place| yes & 1 << place != 0)
        };
        let majority = |of: fn(Suffrage) -> bool| {
            let set = members.members.iter().filter(|m| of(m.suffrage));
            let (yes, no): (Vec<_>, Vec<_>) = set.partition(|m| has(m.id));
            yes.len() > no.len()
        };
        let either = majority(Suffrage::votes_before) && majority(Suffrage::votes_after);
        prop_assert_eq!(members.has_quorum(has), either);
        prop_assert!(!(either && members.has_quorum(|id| !has(id))));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_decodes_to_itself(sent in anything()) {
        let bytes = sent.encode();
        let frame = parse(&bytes);
        prop_assert_eq!(frame.len, bytes.len());
        prop_assert_eq!(Any::decode(&frame), Ok(sent));
    }

    #[test]
    fn the_body_of_a_write_is_the_body_of_its_entry(write in write()) {
        let bytes = body(&write);
        prop_assert_eq!(Write::decode_body(&bytes), Ok(write));
        let sent = write_request(1, write);
        let framed = Any::Request(1, sent).encode();
        let Ok(Request::Write { body, .. }) = Request::decode(&parse(&framed)) else {
            panic!("not a write");
        };
        prop_assert_eq!(body, &bytes[..]);
    }

    #[test]
    fn items_iterate_as_they_were_encoded(list in vec(item(), 0..20)) {
        let encoded = items(&list);
        prop_assert_eq!(encoded.iter().collect::<Vec<_>>(), list);
    }

    #[test]
    fn entries_of_an_append_are_the_senders_bytes(append in append()) {
        let sent = append.entries.clone();
        let whole = Any::Peer(Message::Append(append)).encode().freeze();
        let Ok(Message::Append(received)) = Message::decode_shared(&parse(&whole), &whole) else {
            panic!("not an append");
        };
        prop_assert_eq!(received.entries.len(), sent.len());
        for (a, b) in received.entries.iter().zip(&sent) {
            prop_assert_eq!(a.bytes(), b.bytes());
            prop_assert!(whole.as_ptr_range().contains(&a.bytes().as_ptr()), "copied");
        }
    }

    /// The highest version that both know, or a refusal that tells ours.
    #[test]
    fn negotiation_finds_the_highest_common_version(min in any::<u8>(), max in any::<u8>()) {
        let common = (min..=max).rev().find(|version| *version == 1);
        match negotiate(min, max) {
            Ok(version) => prop_assert_eq!(Some(version), common),
            Err(error) => {
                prop_assert_eq!(error, Error::UnsupportedVersion { min: 1, max: 1 });
                prop_assert_eq!(common, None);
            }
        }
    }
}
