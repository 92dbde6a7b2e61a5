//! Files that take the place of others: whoever looks sees the one or the other, whole. And what is
//! said of those that the system refuses.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use raftctl::failure::Failure;
use rustix::io::Errno;

use crate::encoding::shell::quoted;

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

/// Adds which file it was, and the command that shows why the system refused it.
pub(crate) fn inaccessible(failure: Failure, path: &Path, error: &io::Error) -> Failure {
    let failure = failure.at(path.display());
    let shown_by = |command: &str, path: &Path| format!("{command} {}", quoted(path.as_os_str()));
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            let there = path.ancestors().skip(1).find(|folder| folder.is_dir());
            failure.remedy(shown_by("ls -l", there.unwrap_or(Path::new("."))))
        }
        ErrorKind::PermissionDenied => {
            // Behind a folder that may not be entered nothing can be shown.
            let seen = path.ancestors().find(|at| at.symlink_metadata().is_ok());
            failure.remedy(shown_by("ls -ld", seen.unwrap_or(Path::new("."))))
        }
        ErrorKind::IsADirectory => {
            failure.remedy(format!("a file in it: {}", shown_by("ls -l", path)))
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem => {
            failure.remedy(shown_by("df -h", folder(path)))
        }
        _ => match Errno::from_io_error(error) {
            Some(Errno::IO) => failure.remedy("check the disk: dmesg tells what is wrong with it"),
            Some(Errno::MFILE) => failure.remedy("ulimit -n tells how many files may be open"),
            _ => failure,
        },
    }
}

#[cfg(test)]
mod tests {
    use raftctl::failure::Exit;

    use super::*;

    fn remedy(path: &str, kind: ErrorKind) -> String {
        let failure = Failure::new(Exit::Usage, "unreadable", "it failed");
        inaccessible(failure, Path::new(path), &kind.into()).remedy
    }

    #[test]
    fn what_is_not_there_is_looked_for_in_the_nearest_folder_that_is() {
        assert_eq!(
            remedy("/usr/no folder/f", ErrorKind::NotFound),
            "ls -l /usr"
        );
        assert_eq!(remedy("/usr/bin/f", ErrorKind::NotFound), "ls -l /usr/bin");
        assert_eq!(remedy("f", ErrorKind::NotFound), "ls -l .");
    }

    #[test]
    fn what_is_refused_is_shown_with_the_cause() {
        let denied = ErrorKind::PermissionDenied;
        assert_eq!(remedy("/usr/bin/no folder/f", denied), "ls -ld /usr/bin");
        assert_eq!(remedy("/usr/bin", denied), "ls -ld /usr/bin");
        assert_eq!(remedy("f", denied), "ls -ld .");
        assert_eq!(
            remedy("d", ErrorKind::IsADirectory),
            "a file in it: ls -l d"
        );
        assert_eq!(remedy("d/f", ErrorKind::StorageFull), "df -h d");
        assert_eq!(remedy("d/f", ErrorKind::BrokenPipe), "");
        let failure = Failure::new(Exit::Usage, "unreadable", "it failed");
        let told = inaccessible(failure, Path::new("f"), &Errno::IO.into());
        assert!(told.remedy.starts_with("check the disk"), "{told}");
    }
}
