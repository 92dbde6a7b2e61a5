//! The data directory of `--dev`.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::entropy::random_u64;
use crate::fatal::{ExitStatus, Fatal};

/// A temporary directory that is removed with what is in it when this is dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    pub(super) fn make() -> Result<Self, Fatal> {
        let path = std::env::temp_dir().join(format!("raftd-dev-{:016x}", random_u64()?));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| {
                Fatal::new(
                    ExitStatus::Io,
                    format!("making a temporary directory failed: {error}"),
                )
                .at(path.display())
                .remedy("point TMPDIR to a directory that this user may write")
            })?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            log::warn!(
                "temporary directory left path={} error=\"{error}\"",
                self.path.display()
            );
        }
    }
}
