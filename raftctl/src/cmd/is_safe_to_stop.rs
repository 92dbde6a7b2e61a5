//! `raftctl is-safe-to-stop`: whether the others would go on without one node.

use std::thread;
use std::time::Duration;

use raftctl::client::{Cause, Deadline, Error, Member, NodeRole, Status, status_of};
use raftctl::failure::{Exit, Failure};
use serde_json::json;
use wire::membership::Suffrage;
use wire::types::NodeId;

use crate::cluster::{History, MEMBER_TIMEOUT, ask_each, title};
use crate::session::Session;

/// Time for a node to hear of its leader, and for a voter to get what was committed when this was
/// asked: one that does not would hold up every write.
const CATCH_UP: Duration = Duration::from_secs(1);
/// Between two looks at a node.
const PAUSE: Duration = Duration::from_millis(10);

/// What keeps a voter from being counted on; `None`: nothing.
type Flaw = Option<String>;

pub(crate) fn run(session: &mut Session<'_>) -> Result<Exit, Failure> {
    let endpoint = session.node()?;
    let node = status_once_led(endpoint, session.deadline()).map_err(|cause| {
        let causes = vec![cause];
        Failure::of("is-safe-to-stop", &Error::Unreachable { causes })
    })?;
    let reason = why_not(&node, session.deadline());
    if session.out.json() {
        let object = json!({"safe": reason.is_none(), "id": node.node.0, "reason": reason});
        session.out.object(&object)?;
    }
    let Some(reason) = reason else {
        session.out.note("safe to stop")?;
        return Ok(Exit::Done);
    };
    session.out.flush()?;
    let what = format!("node {} is not safe to stop: {reason}", node.node);
    Err(Failure::new(Exit::No, "not-safe", what)
        .at(endpoint_of(&node))
        .remedy("bring the others up first: `raftctl status`"))
}

/// As the node tells it when it knows a leader, or has had the time to hear of one.
fn status_once_led(endpoint: &str, deadline: Deadline) -> Result<Status, Cause> {
    let patience = patience(deadline);
    loop {
        let status = status_of(endpoint, deadline.left())?;
        if status.leader.is_some() || patience.is_over() {
            return Ok(status);
        }
        thread::sleep(PAUSE);
    }
}

fn endpoint_of(node: &Status) -> String {
    let own = node.members.iter().find(|m| m.node == node.node);
    own.map_or_else(String::new, |own| own.client_addr.clone())
}

/// Why the cluster would not go on without the node; `None`: it would.
fn why_not(node: &Status, deadline: Deadline) -> Option<String> {
    let leader = match leader_of(node, deadline) {
        Ok(leader) => leader,
        Err(reason) => return Some(reason),
    };
    let votes = |member: &&Member| member.suffrage.votes();
    let voters: Vec<_> = leader.members.iter().filter(votes).collect();
    if !voters.iter().any(|member| member.node == node.node) {
        return None;
    }
    let others = voters.iter().filter(|member| member.node != node.node);
    let flaws = ask_each(others, |member| {
        (member.node, flaw(member, &leader, deadline))
    });
    // While the voters change, both sets of them decide.
    let sets: [fn(Suffrage) -> bool; 2] = [Suffrage::votes_before, Suffrage::votes_after];
    sets.into_iter().find_map(|is_in| {
        let set: Vec<_> = voters.iter().filter(|m| is_in(m.suffrage)).collect();
        let is_good = |id: NodeId| flaws.contains(&(id, None));
        let left = set.iter().filter(|member| is_good(member.node)).count();
        let needed = set.len() / 2 + 1;
        if left >= needed {
            return None;
        }
        let missing = set.iter().filter_map(|member| {
            let (_, flaw) = flaws.iter().find(|(id, _)| *id == member.node)?;
            let title = title(&leader.members, member.node);
            Some(format!("{title} {}", flaw.as_ref()?))
        });
        let mut reason = format!(
            "{left} of {} voters would be left, it takes {needed}",
            set.len()
        );
        for flaw in missing {
            reason = format!("{reason}; {flaw}");
        }
        Some(reason)
    })
}

/// How the leader sees the cluster.
fn leader_of(node: &Status, deadline: Deadline) -> Result<Status, String> {
    let id = node.leader.ok_or("it knows no leader")?;
    let leader = if id == node.node {
        node.clone()
    } else {
        let member = node.members.iter().find(|member| member.node == id);
        let addr = member.map_or("", |member| member.client_addr.as_str());
        History::of(node)
            .ask(Some(id), addr, MEMBER_TIMEOUT.min(deadline.left()))
            .map_err(|why| format!("the leader does not answer: {why}"))?
    };
    if leader.role != NodeRole::Leader || !leader.quorum_ok {
        return Err("no leader hears a quorum".into());
    }
    Ok(leader)
}

/// Until when it is waited for, so that there is time left to say what came of it.
fn patience(deadline: Deadline) -> Deadline {
    Deadline::after(CATCH_UP.min(deadline.left() / 2))
}

/// What keeps this voter from being counted on.
fn flaw(member: &Member, leader: &Status, deadline: Deadline) -> Flaw {
    let committed = leader.commit;
    let patience = patience(deadline);
    loop {
        let timeout = MEMBER_TIMEOUT.min(deadline.left());
        let told = History::of(leader).ask(Some(member.node), &member.client_addr, timeout);
        let status = match told {
            Ok(status) => status,
            Err(why) => return Some(format!("does not answer: {why}")),
        };
        if status.state != "serving" {
            return Some(format!("is {}", status.state));
        }
        if !status.error.is_empty() {
            return Some(format!("has trouble: {}", status.error));
        }
        let is_led = status.quorum_ok;
        if is_led && status.durable >= committed {
            return None;
        }
        if patience.is_over() {
            return Some(match is_led {
                true => format!("is {} entries behind", committed.0 - status.durable.0),
                false => "hears no leader".into(),
            });
        }
        thread::sleep(PAUSE);
    }
}
