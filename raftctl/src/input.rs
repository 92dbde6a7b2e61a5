//! Keys and values from the command line and from standard input.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use raftctl::failure::{Exit, Failure};
use wire::limits::VALUE_BYTES_MAX;

use crate::encoding::Encoding;

/// Bytes of the text of a value in an encoding: room for the largest one, and for blanks and line ends
/// in it.
pub(crate) const ENCODED_BYTES_MAX: usize = VALUE_BYTES_MAX * 3 + 1024;

/// A key or a prefix as given in an argument.
pub(crate) fn key(text: &OsStr, encoding: Option<Encoding>) -> Result<Vec<u8>, Failure> {
    decode("key", text.as_bytes(), encoding)
}

/// A bound of a range, if one was given.
pub(crate) fn bound(
    text: Option<&OsStr>,
    encoding: Option<Encoding>,
) -> Result<Option<Vec<u8>>, Failure> {
    text.map(|text| key(text, encoding)).transpose()
}

/// A key that names something: it has at least one byte.
pub(crate) fn full_key(text: &OsStr, encoding: Option<Encoding>) -> Result<Vec<u8>, Failure> {
    let key = key(text, encoding)?;
    if key.is_empty() {
        return Err(Failure::usage("a key has at least one byte"));
    }
    Ok(key)
}

/// A value as given in an argument; `-` is standard input.
pub(crate) fn value(text: &OsStr, encoding: Option<Encoding>) -> Result<Vec<u8>, Failure> {
    if text == "-" {
        return from_stdin(encoding);
    }
    decode("value", text.as_bytes(), encoding)
}

/// The value of a `put` without one: standard input, unless nobody can have meant that.
pub(crate) fn piped_value(encoding: Option<Encoding>) -> Result<Vec<u8>, Failure> {
    let nothing = if io::stdin().is_terminal() {
        "standard input is a terminal"
    } else if is_dev_null() {
        "standard input is /dev/null"
    } else {
        return from_stdin(encoding);
    };
    let what = format!("no value was given, and {nothing}");
    Err(Failure::usage(what).remedy("raftctl put KEY VALUE, or raftctl put KEY - < FILE"))
}

fn is_dev_null() -> bool {
    let stdin = io::stdin().as_fd().try_clone_to_owned().map(File::from);
    let device = |of: io::Result<fs::Metadata>| of.map(|of| (of.rdev(), of.mode())).ok();
    let stdin = device(stdin.and_then(|file| file.metadata()));
    stdin.is_some() && stdin == device(fs::metadata("/dev/null"))
}

fn from_stdin(encoding: Option<Encoding>) -> Result<Vec<u8>, Failure> {
    let limit = match encoding {
        Some(_) => ENCODED_BYTES_MAX,
        None => VALUE_BYTES_MAX,
    };
    let mut bytes = Vec::new();
    let read = io::stdin()
        .lock()
        .take(limit as u64 + 1)
        .read_to_end(&mut bytes);
    read.map_err(|error| {
        Failure::usage(format!(
            "reading the value from standard input failed: {error}"
        ))
    })?;
    if bytes.len() > limit {
        let what = format!("the value on standard input has more than {VALUE_BYTES_MAX} bytes");
        return Err(Failure::new(Exit::Refused, "too-large", what)
            .remedy("split it over several keys, for instance with split(1)"));
    }
    match encoding {
        Some(_) => decode("value", &bytes, encoding),
        None => Ok(bytes),
    }
}

/// The bytes that an argument or a text stands for.
pub(crate) fn decode(
    what: &str,
    text: &[u8],
    encoding: Option<Encoding>,
) -> Result<Vec<u8>, Failure> {
    let Some(encoding) = encoding else {
        return Ok(text.to_vec());
    };
    encoding
        .decode(text)
        .map_err(|why| Failure::usage(format!("the {what} cannot be decoded: {why}")))
}
