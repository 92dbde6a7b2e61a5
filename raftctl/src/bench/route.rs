//! Where to connect: the endpoints given, the leader once known.

use std::net::{SocketAddr, ToSocketAddrs};

use super::protocol::Leader;

/// Endpoints in turn until a leader is known, then the leader, unless all are to be asked; how often
/// leaders changed.
#[derive(Debug)]
pub(super) struct Route {
    endpoints: Vec<String>,
    next: usize,
    leader: Option<SocketAddr>,
    term: u64,
    /// Whoever answers is as good as the leader.
    pub(super) spreads: bool,
    /// Times that a higher term was heard of.
    pub(super) leader_changes: u64,
    /// Per endpoint, why it could not be used; empty if not tried.
    causes: Vec<String>,
}

impl Route {
    pub(super) fn new(endpoints: &[String]) -> Self {
        Self {
            endpoints: endpoints.to_vec(),
            next: 0,
            leader: None,
            term: 0,
            spreads: false,
            leader_changes: 0,
            causes: vec![String::new(); endpoints.len()],
        }
    }

    /// The address to connect to; `None` if the endpoint whose turn it is has no address.
    pub(super) fn target(&mut self) -> Option<SocketAddr> {
        if let Some(leader) = self.leader.filter(|_| !self.spreads) {
            return Some(leader);
        }
        let turn = self.next % self.endpoints.len().max(1);
        self.next += 1;
        let endpoint = self.endpoints.get(turn)?;
        match endpoint.to_socket_addrs() {
            Ok(mut found) => found.next(),
            Err(error) => {
                self.causes[turn] = error.to_string();
                None
            }
        }
    }

    /// Takes news of a leader.
    pub(super) fn heard(&mut self, leader: &Leader) {
        match leader.term {
            Some(term) if term > self.term => {
                self.leader_changes += u64::from(self.term != 0);
                self.term = term;
                self.leader = None;
            }
            // Old news.
            Some(term) if term < self.term => return,
            Some(_) | None => {}
        }
        if let Some(address) = &leader.elsewhere {
            self.leader = address
                .to_socket_addrs()
                .ok()
                .and_then(|mut found| found.next());
        }
    }

    /// Whether a channel at `address` should move because the leader is known to be elsewhere.
    pub(super) fn is_elsewhere(&self, address: Option<SocketAddr>) -> bool {
        !self.spreads && self.leader.is_some() && self.leader != address
    }

    /// A connection to `address` failed or broke: a leader there is not believed in any more.
    pub(super) fn failed(&mut self, address: Option<SocketAddr>, cause: &str) {
        if self.leader == address {
            self.leader = None;
        }
        let Some(address) = address else { return };
        for (endpoint, noted) in self.endpoints.iter().zip(&mut self.causes) {
            let same = endpoint.to_socket_addrs();
            if same.is_ok_and(|mut found| found.any(|one| one == address)) {
                *noted = cause.to_owned();
            }
        }
    }

    /// Every endpoint with the reason why it could not be used, once all have failed.
    pub(super) fn all_failed(&self) -> Option<Vec<(String, String)>> {
        if self.causes.iter().any(String::is_empty) {
            return None;
        }
        let causes = self.causes.iter().cloned();
        Some(self.endpoints.iter().cloned().zip(causes).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elsewhere(term: Option<u64>, address: &str) -> Leader {
        Leader {
            term,
            elsewhere: Some(address.to_owned()),
        }
    }

    #[test]
    fn endpoints_take_turns_until_a_leader_is_known() {
        let mut route = Route::new(&["127.0.0.1:1".into(), "127.0.0.1:2".into()]);
        let turns: Vec<_> = (0..3).map(|_| route.target().unwrap().port()).collect();
        assert_eq!(turns, [1, 2, 1]);
        route.heard(&elsewhere(Some(3), "127.0.0.1:9"));
        assert_eq!(route.target().unwrap().port(), 9);
        assert!(route.is_elsewhere("127.0.0.1:1".parse().ok()));
        assert_eq!(route.leader_changes, 0, "the first term is no change");
    }

    #[test]
    fn where_any_node_answers_all_endpoints_take_turns() {
        let mut route = Route::new(&["127.0.0.1:1".into(), "127.0.0.1:2".into()]);
        route.heard(&elsewhere(Some(3), "127.0.0.1:2"));
        route.spreads = true;
        let turns: Vec<_> = (0..3).map(|_| route.target().unwrap().port()).collect();
        assert_eq!(turns, [1, 2, 1]);
        assert!(!route.is_elsewhere("127.0.0.1:1".parse().ok()));
    }

    #[test]
    fn a_higher_term_is_one_change_and_old_news_is_none() {
        let mut route = Route::new(&["127.0.0.1:1".into()]);
        route.heard(&elsewhere(Some(3), "127.0.0.1:9"));
        for _ in 0..4 {
            route.heard(&elsewhere(Some(5), "127.0.0.1:8"));
        }
        route.heard(&elsewhere(Some(3), "127.0.0.1:9"));
        assert_eq!(route.leader_changes, 1);
        assert_eq!(route.target().unwrap().port(), 8);
    }

    #[test]
    fn a_broken_leader_is_forgotten_and_causes_are_told_when_all_failed() {
        let mut route = Route::new(&["127.0.0.1:1".into(), "127.0.0.1:2".into()]);
        route.heard(&elsewhere(None, "127.0.0.1:2"));
        route.failed("127.0.0.1:2".parse().ok(), "reset");
        assert!(!route.is_elsewhere("127.0.0.1:1".parse().ok()));
        assert_eq!(route.all_failed(), None);
        route.failed("127.0.0.1:1".parse().ok(), "refused");
        let causes = route.all_failed().unwrap();
        assert_eq!(causes[1], ("127.0.0.1:2".into(), "reset".into()));
    }
}
