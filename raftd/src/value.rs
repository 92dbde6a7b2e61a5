//! How the values of settings are written: sizes, times, addresses, names, member lists.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use wire::limits::{ADDR_BYTES_MAX, MEMBERS_MAX, NAME_BYTES_MAX};
use wire::types::NodeId;

const UNITS: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

/// Reads a size in bytes: `64MiB`, `1GB`, `4096`.
///
/// # Errors
/// What is wrong with it.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text[digits.len()..].trim_start();
    let factor = match UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => *factor,
        None if unit.is_empty() => 1,
        None => {
            return Err(format!(
                "the unit \"{unit}\" is not one of B, KiB, MiB, GiB, kB, MB, GB"
            ));
        }
    };
    number(digits)?
        .checked_mul(factor)
        .ok_or_else(|| "2^64 bytes or more".into())
}

/// Writes a size so that [`size`] reads it back.
#[must_use]
pub fn size_text(bytes: u64) -> String {
    let unit = UNITS[..3]
        .iter()
        .rev()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    match unit {
        Some((name, factor)) => format!("{}{name}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

/// Reads a time: `150ms`, `2s`, `1m 30s`.
///
/// # Errors
/// What is wrong with it.
pub fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write a time like 150ms, 2s or 1m"))
}

/// Reads a decimal number.
///
/// # Errors
/// What is wrong with it.
pub fn number(text: &str) -> Result<u64, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("not a number".into());
    }
    text.parse().map_err(|_| "2^64 or more".into())
}

/// Reads `HOST:PORT`; an IPv6 host stands in brackets.
///
/// # Errors
/// What is wrong with it.
pub fn address(text: &str) -> Result<String, String> {
    if text.len() > ADDR_BYTES_MAX {
        return Err(format!("longer than {ADDR_BYTES_MAX} bytes"));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err("no port; write HOST:PORT".into());
    };
    if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("\"{port}\" is not a port"));
    }
    port.parse::<u16>()
        .map_err(|_| format!("\"{port}\" is not a port: the highest is 65535"))?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    match bare {
        Some(v6) if v6.parse::<Ipv6Addr>().is_err() => {
            Err(format!("\"{v6}\" is not an IPv6 address"))
        }
        None if host.is_empty() => Err("no host; write HOST:PORT".into()),
        None if !host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b)) =>
        {
            Err(format!("\"{host}\" is not a host"))
        }
        None if host.contains(':') => Err("write an IPv6 host in brackets: [::1]:7400".into()),
        // No name is like that, but some resolvers would make an address of it.
        None if host.bytes().all(|b| b.is_ascii_digit() || b == b'.')
            && host.parse::<Ipv4Addr>().is_err() =>
        {
            Err(format!("\"{host}\" is not an IPv4 address"))
        }
        _ => Ok(text.to_owned()),
    }
}

/// Reads an address that somebody connects to: its port is known.
///
/// # Errors
/// What is wrong with it.
pub fn fixed_address(text: &str) -> Result<String, String> {
    let addr = address(text)?;
    let (_, port) = addr.rsplit_once(':').unwrap_or_default();
    match port.bytes().all(|b| b == b'0') {
        true => Err("no fixed port".into()),
        false => Ok(addr),
    }
}

/// Reads an address that others are told to use.
///
/// # Errors
/// What is wrong with it.
pub fn told_address(text: &str) -> Result<String, String> {
    let addr = fixed_address(text)?;
    match addr.parse::<SocketAddr>() {
        Ok(literal) if literal.ip().is_unspecified() => {
            Err("a wildcard is no address that others can use".into())
        }
        _ => Ok(addr),
    }
}

/// Reads a node's name: `[a-z][a-z0-9._-]*`.
///
/// # Errors
/// What is wrong with it.
pub fn name(text: &str) -> Result<String, String> {
    let rest_fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    if text.len() > NAME_BYTES_MAX {
        return Err(format!("longer than {NAME_BYTES_MAX} bytes"));
    }
    if !text.starts_with(|c: char| c.is_ascii_lowercase()) || !text.bytes().all(rest_fits) {
        return Err(
            "a name is a lower-case letter, then such letters, digits, '.', '_' and '-'".into(),
        );
    }
    Ok(text.to_owned())
}

/// Reads a node's id.
///
/// # Errors
/// What is wrong with it.
pub fn node_id(text: &str) -> Result<NodeId, String> {
    match number(text)? {
        0 => Err("ids begin at 1".into()),
        id => Ok(NodeId(id)),
    }
}

/// Reads `HOST:PORT,HOST:PORT,..`.
///
/// # Errors
/// What is wrong with it.
pub fn addresses(text: &str) -> Result<Vec<String>, String> {
    let parts = text.split(',').map(str::trim);
    parts
        .map(|part| fixed_address(part).map_err(|why| format!("\"{part}\": {why}")))
        .collect()
}

/// Reads `1=HOST:PORT,2=HOST:PORT,..`; the result is sorted by id.
///
/// # Errors
/// What is wrong with it.
pub fn members(text: &str) -> Result<Vec<(NodeId, String)>, String> {
    let mut members = Vec::new();
    for part in text.split(',').map(str::trim) {
        let Some((id, addr)) = part.split_once('=') else {
            return Err(format!("\"{part}\" is not ID=HOST:PORT"));
        };
        let id = node_id(id.trim()).map_err(|why| format!("\"{id}\": {why}"))?;
        let addr = told_address(addr.trim()).map_err(|why| format!("member {id}: {why}"))?;
        if members.iter().any(|(known, _)| *known == id) {
            return Err(format!("member {id} is listed twice"));
        }
        if members.iter().any(|(_, known)| *known == addr) {
            return Err(format!("{addr} is listed twice"));
        }
        members.push((id, addr));
    }
    if members.len() > MEMBERS_MAX {
        return Err(format!("more than {MEMBERS_MAX} members"));
    }
    members.sort();
    Ok(members)
}
