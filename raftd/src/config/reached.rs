//! Where others reach this node: what is advertised, or else what it listens on. The check of the
//! settings asks with the addresses that need no lookup, the start with those that are bound.

use std::net::SocketAddr;

use super::Settings;
use crate::fatal::{ExitStatus, Fatal};

impl Settings {
    /// The address that clients are told; `listening` is what [`Settings::listen`] stands for.
    ///
    /// # Errors
    /// It is a wildcard, and nothing is advertised.
    pub fn client_addr(&self, listening: SocketAddr) -> Result<String, Fatal> {
        let who = ("clients", "advertise");
        reached(self.advertise.as_deref(), &self.listen, listening, who)
    }

    /// The address at which a node that joins is added; `listening` is what
    /// [`Settings::peer_listen`] stands for.
    ///
    /// # Errors
    /// As [`Settings::client_addr`].
    pub fn peer_addr(&self, listening: SocketAddr) -> Result<String, Fatal> {
        let who = ("peers", "peer-advertise");
        let advertised = self.peer_advertise.as_deref();
        reached(advertised, &self.peer_listen, listening, who)
    }

    /// Checks that others can be told where this node is, and that it can listen on both ports.
    pub(super) fn check_addresses(&self) -> Result<(), Fatal> {
        let (client, peer) = (self.listen.parse(), self.peer_listen.parse());
        if let Ok(listening) = client {
            self.client_addr(listening)?;
        }
        if let Ok(listening) = peer
            && self.join.is_some()
        {
            self.peer_addr(listening)?;
        }
        let is_one = match (client, peer) {
            (Ok(client), Ok(peer)) => overlap(client, peer),
            _ => self.listen == self.peer_listen && !self.listen.ends_with(":0"),
        };
        if is_one {
            let what = format!(
                "clients and peers cannot both be served on {}",
                self.peer_listen
            );
            return Err(Fatal::new(ExitStatus::Config, what)
                .at("net.listen and net.peer_listen")
                .remedy("another port with --listen or --peer-listen"));
        }
        Ok(())
    }
}

fn reached(
    advertised: Option<&str>,
    listen: &str,
    listening: SocketAddr,
    (who, flag): (&str, &str),
) -> Result<String, Fatal> {
    let port = listening.port();
    match (advertised, listen.rsplit_once(':')) {
        (Some(addr), _) => Ok(addr.to_owned()),
        (None, _) if listening.ip().is_unspecified() => {
            let what = format!("{who} cannot be told to use {listening}: it is a wildcard");
            let port = match port {
                0 => "PORT".into(),
                port => port.to_string(),
            };
            Err(Fatal::new(ExitStatus::Config, what)
                .at(format!("net.{}", flag.replace('-', "_")))
                .remedy(format!("--{flag} HOST:{port}")))
        }
        // A name stays a name; a port 0 was replaced.
        (None, Some((host, _))) => Ok(format!("{host}:{port}")),
        (None, None) => Ok(listening.to_string()),
    }
}

/// Whether whoever listens on one of them keeps others from the other.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let is_same_host = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && a.is_ipv4() == b.is_ipv4() && is_same_host
}
