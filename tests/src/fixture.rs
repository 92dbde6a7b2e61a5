//! Files of an earlier day, which must open for ever: `tests/fixtures/format-N`.
//!
//! Those of a data directory are kept compressed, each by itself, as `data/NAME.lz4`: an LZ4 block
//! behind its length, u32 little-endian. Segments are zeros for the most part.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};

use crate::root;

const SUFFIX: &str = ".lz4";

/// Where the data directory of this format is kept.
#[must_use]
pub fn data_dir(format: u32) -> PathBuf {
    root().join(format!("tests/fixtures/format-{format}/data"))
}

/// Copies the data directory that is kept in `from` to `to`: whoever opens one changes it.
///
/// # Errors
/// The file system's, or what is kept is no such file.
pub fn unpack(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|_| unusable())?;
        if entry.file_type()?.is_dir() {
            unpack(&entry.path(), &to.join(name))?;
            continue;
        }
        let name = name.strip_suffix(SUFFIX).ok_or_else(unusable)?;
        let kept = fs::read(entry.path())?;
        fs::write(to.join(name), decompress(&kept).ok_or_else(unusable)?)?;
    }
    Ok(())
}

/// Keeps a data directory in `to`, in the place of what was there.
///
/// # Errors
/// The file system's.
pub fn pack<'a>(files: impl Iterator<Item = (&'a str, Vec<u8>)>, to: &Path) -> io::Result<()> {
    match fs::remove_dir_all(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    for (name, content) in files {
        let path = to.join(format!("{name}{SUFFIX}"));
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        fs::write(path, compress(&content))?;
    }
    Ok(())
}

fn compress(content: &[u8]) -> Vec<u8> {
    let mut kept = (content.len() as u32).to_le_bytes().to_vec();
    let length = kept.len();
    kept.resize(length + get_maximum_output_size(content.len()), 0);
    let bytes = compress_into(content, &mut kept[length..]).expect("there is room");
    kept.truncate(length + bytes);
    kept
}

fn decompress(kept: &[u8]) -> Option<Vec<u8>> {
    let (length, block) = kept.split_first_chunk()?;
    let mut content = vec![0; u32::from_le_bytes(*length) as usize];
    let bytes = decompress_into(block, &mut content).ok()?;
    (bytes == content.len()).then_some(content)
}

fn unusable() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no file of a fixture")
}
