//! Files that take the place of others: whoever looks sees the one or the other, whole.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

/// Refuses a place where something stands that is no file, such as /dev/null: it must not become
/// one.
pub(crate) fn check_replaceable(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(there) if !there.is_file() => {
            let what = "it is no regular file";
            Err(io::Error::new(ErrorKind::InvalidInput, what))
        }
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Gives the file at `from`, which was synced, the name `to`: for good, also if the power fails.
pub(crate) fn publish(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    File::open(folder(to))?.sync_all()
}

/// The folder that a file is in.
pub(crate) fn folder(path: &Path) -> &Path {
    let folder = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}
