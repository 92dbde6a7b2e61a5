//! Damage to a member's files while it is down.
//!
//! All of it lies within one sector of 512 bytes: more would be a double fault, against which one
//! member alone promises nothing (raftd-wal(5), LIMITS).

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use raftd::wal::format::SEGMENT_HEADER_BYTES;

use crate::sim::random::Random;

const SECTOR_BYTES: u64 = 512;
const WORD_BYTES: u64 = 8;
/// How far behind the last byte that is not zero it may strike.
const BEHIND_BYTES: u64 = 1024;
/// Every so many times IDENTITY is struck.
const IDENTITY_EVERY: u64 = 10;

/// Bytes that are not what they were.
///
/// Invariant: if `is` is shorter than what was there, the file ends behind it.
#[derive(Clone, Debug)]
pub struct Rot {
    path: PathBuf,
    offset: u64,
    was: Vec<u8>,
    is: Vec<u8>,
}

impl Rot {
    /// Damages a random place of a data directory.
    ///
    /// # Errors
    /// The file system's.
    pub fn strike(data_dir: &Path, chance: u64) -> io::Result<Self> {
        let mut random = Random::new(chance);
        let (path, content) = target(data_dir, &mut random)?;
        let end = content
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |at| at as u64 + 1);
        let at = random.below((end + BEHIND_BYTES).min(content.len() as u64));
        let (offset, bytes) = match random.below(4) {
            0 => (at, 1),
            1 => (at - at % WORD_BYTES, WORD_BYTES),
            _ => (at - at % SECTOR_BYTES, SECTOR_BYTES),
        };
        let was = &content[offset as usize..(offset + bytes) as usize];
        let zeros = bytes > 1 && random.below(3) > 0 && was.iter().any(|&byte| byte != 0);
        let is = match bytes {
            _ if zeros => vec![0; was.len()],
            1 => vec![was[0] ^ (1 << random.below(8))],
            _ => was.iter().map(|_| random.bits() as u8).collect(),
        };
        Self::put(path, offset, is)
    }

    /// Puts other bytes into a file; none: it ends there.
    ///
    /// # Errors
    /// The file system's.
    pub fn put(path: PathBuf, offset: u64, is: Vec<u8>) -> io::Result<Self> {
        let content = fs::read(&path)?;
        let mut was = content[offset as usize..].to_vec();
        if !is.is_empty() {
            was.truncate(is.len());
        }
        let rot = Self {
            path,
            offset,
            was,
            is,
        };
        rot.write(&rot.is)?;
        Ok(rot)
    }

    /// Whether anything is other than it was.
    #[must_use]
    pub fn bites(&self) -> bool {
        self.was != self.is
    }

    /// Puts back what was there.
    ///
    /// # Errors
    /// The file system's; that somebody changed the place since.
    pub fn put_back(&self) -> io::Result<()> {
        let mut found = fs::read(&self.path)?.split_off(self.offset as usize);
        if !self.is.is_empty() {
            found.truncate(self.is.len());
        }
        if found != self.is {
            return Err(io::Error::other(
                "a start that refused the damage changed it",
            ));
        }
        self.write(&self.was)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(&self.path)?;
        file.write_all_at(bytes, self.offset)?;
        if bytes.is_empty() {
            file.set_len(self.offset)?;
        }
        file.sync_all()
    }

    /// The name of the damaged file.
    #[must_use]
    pub fn file_name(&self) -> String {
        self.path
            .file_name()
            .map_or_else(String::new, |name| name.display().to_string())
    }

    /// Where and what, for the log of the run.
    #[must_use]
    pub fn describe(&self) -> String {
        let (path, offset) = (self.path.display(), self.offset);
        match self.is.len() {
            0 => format!("{path} ends at {offset}"),
            bytes => format!("{bytes} bytes of {path} at {offset}"),
        }
    }
}

/// A file with its content: IDENTITY now and then; else the newest segment in use, where the end of
/// the log must be told from damage, or any.
fn target(data_dir: &Path, random: &mut Random) -> io::Result<(PathBuf, Vec<u8>)> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(data_dir.join("wal"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wal") {
            segments.push(path);
        }
    }
    segments.sort();
    if random.below(IDENTITY_EVERY) == 0 || segments.is_empty() {
        segments = vec![data_dir.join("IDENTITY")];
    } else if random.below(2) == 0 {
        while let [_, .., last] = &segments[..]
            && is_spare(&fs::read(last)?)
        {
            segments.pop();
        }
        segments = segments.split_off(segments.len() - 1);
    }
    let path = segments.swap_remove(random.index(segments.len()));
    let content = fs::read(&path)?;
    Ok((path, content))
}

/// Whether nothing stands behind a segment's header page.
fn is_spare(content: &[u8]) -> bool {
    let behind = content.get(SEGMENT_HEADER_BYTES as usize..);
    behind.is_none_or(|bytes| bytes.iter().all(|&byte| byte == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_a_sector_and_can_be_put_back() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("wal")).expect("a folder");
        let mut content = vec![0; 64 * 1024];
        content[..9000].fill(0xa5);
        for name in ["IDENTITY", "wal/1.wal", "wal/2.wal"] {
            fs::write(dir.path().join(name), &content).expect("written");
        }
        for chance in 0..200 {
            let rot = Rot::strike(dir.path(), chance).expect("struck");
            let now = fs::read(&rot.path).expect("read");
            let differ: Vec<_> = (0..now.len())
                .filter(|&at| now[at] != content[at])
                .collect();
            let (first, last) = (differ[0], differ[differ.len() - 1]);
            assert_eq!(first / 512, last / 512, "{}", rot.describe());
            rot.put_back().expect("put back");
            assert!(fs::read(&rot.path).expect("read") == content);
        }
    }
}
