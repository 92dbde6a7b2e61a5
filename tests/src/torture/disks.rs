//! Small file systems for data directories, which can be full and then not.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FallocateFlags, StatVfs, fallocate, statvfs};

use super::ledger::Fault;

/// Attempts to make a tmpfs as small as what is in it.
const SHRINKS_MAX: usize = 20;

/// A mounted file system, which goes with this value.
///
/// Invariant: `ballast` is the only file of ours in its root.
#[derive(Debug)]
pub struct Small {
    at: PathBuf,
    kind: Kind,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tmpfs,
    Ext4,
}

impl Small {
    /// A tmpfs of so many bytes and 1,000 files at the folder `at`, which is made; it takes only
    /// what is used.
    ///
    /// # Errors
    /// This user may not mount: the words of mount(8).
    pub fn tmpfs(at: &Path, bytes: u64) -> Result<Self, String> {
        fs::create_dir_all(at).map_err(|error| error.to_string())?;
        let size = format!("size={bytes},nr_inodes=1000,mode=0700");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(at))?;
        Ok(Self {
            at: at.to_path_buf(),
            kind: Kind::Tmpfs,
            bytes,
        })
    }

    /// An ext4 of so many bytes in the image file `image`, which is made and sparse, at the folder
    /// `at`, which is made.
    ///
    /// # Errors
    /// This user may not mount, or the machine has no loop devices: the words of mount(8).
    pub fn ext4(image: &Path, at: &Path, bytes: u64) -> Result<Self, String> {
        fs::create_dir_all(at).map_err(|error| error.to_string())?;
        let file = File::create(image).map_err(|error| error.to_string())?;
        file.set_len(bytes).map_err(|error| error.to_string())?;
        // Nothing is kept back for the superuser: he is who runs this.
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-m", "0"])
            .arg(image))?;
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(image)
            .arg(at))?;
        Ok(Self {
            at: at.to_path_buf(),
            kind: Kind::Ext4,
            bytes,
        })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// As which fault its being full counts.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self.kind {
            Kind::Tmpfs => Fault::FullTmpfs,
            Kind::Ext4 => Fault::FullExt4,
        }
    }

    /// Takes all the room that is left.
    ///
    /// # Errors
    /// What failed.
    pub fn fill(&self) -> Result<(), String> {
        match self.kind {
            Kind::Tmpfs => self.shrink(),
            Kind::Ext4 => self.take(),
        }
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// What failed.
    pub fn free(&self) -> Result<(), String> {
        match self.kind {
            Kind::Tmpfs => self.resize(self.bytes),
            Kind::Ext4 => match fs::remove_file(self.ballast()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.told(&error)),
                _ => Ok(()),
            },
        }
    }

    /// To what is used. The member writes on meanwhile, and no file system gets smaller than that.
    fn shrink(&self) -> Result<(), String> {
        let mut done = Ok(());
        for _ in 0..SHRINKS_MAX {
            let room = self.room()?;
            done = self.resize((room.f_blocks - room.f_bfree) * room.f_frsize);
            if done.is_ok() {
                break;
            }
        }
        done
    }

    fn resize(&self, bytes: u64) -> Result<(), String> {
        let size = format!("remount,size={bytes}");
        run(Command::new("mount").args(["-o", &size]).arg(&self.at))
    }

    /// Puts a file into every free block. Where free space ends is known only by trying: names of
    /// blocks take some of it.
    fn take(&self) -> Result<(), String> {
        let ballast = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.ballast())
            .map_err(|error| self.told(&error))?;
        let room = self.room()?;
        let (mut held, mut piece) = (0, room.f_bavail * room.f_frsize);
        while piece >= room.f_frsize {
            if fallocate(&ballast, FallocateFlags::empty(), held, piece).is_ok() {
                held += piece;
            } else {
                piece /= 2;
            }
        }
        Ok(())
    }

    fn room(&self) -> Result<StatVfs, String> {
        statvfs(&self.at).map_err(|error| self.told(&error.into()))
    }

    fn told(&self, error: &io::Error) -> String {
        format!("{}: {error}", self.at.display())
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open there ends soon, and the loop device with it.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

/// Runs a tool of the system; what it said if it failed.
fn run(command: &mut Command) -> Result<(), String> {
    let done = command.stdin(Stdio::null()).output();
    let done = done.map_err(|error| format!("{command:?}: {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let line = said.trim().lines().next().unwrap_or("it failed");
    Err(format!("{command:?} said: {line}"))
}
