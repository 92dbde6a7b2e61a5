//! A disk that is full, and then is not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use raftd_tests::cluster::Cluster;
use raftd_tests::proc::PATIENCE;
use raftd_tests::{skip, wait};

/// A small file system; unmounted when dropped.
struct Small(PathBuf);

impl Small {
    /// `None` where this user may not mount.
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).expect("a folder");
        let size = ["-t", "tmpfs", "-o", "size=5m,mode=0700", "tmpfs"];
        let mounted = Command::new("mount").args(size).arg(at).output();
        mounted
            .is_ok_and(|done| done.status.success())
            .then(|| Self(at.to_path_buf()))
    }

    fn grow(&self) {
        let done = Command::new("mount")
            .args(["-o", "remount,size=64m"])
            .arg(&self.0)
            .status();
        assert!(done.expect("mount runs").success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Left mounted, it would only fail to be removed with its folder.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Rules E5: writes are refused by name, reads and the process go on, and when space comes back so
/// do the writes.
#[test]
fn a_full_disk_refuses_writes_and_recovers_by_itself() {
    let mut cluster = Cluster::prepare(1, &[]);
    let Some(small) = Small::mount(&cluster.nodes[0].data_dir.clone()) else {
        skip(
            "disk_full::a_full_disk_refuses_writes_and_recovers_by_itself",
            "this user may not mount a file system",
        );
        return;
    };
    cluster.start_all();
    cluster.wait_leader();
    let value = "v".repeat(60_000);
    let mut acknowledged = 0;
    let refused = wait::until("a write is refused", PATIENCE, || {
        let done = cluster.ctl(&["-t", "5s", "put", &format!("k/{acknowledged:04}"), &value]);
        if done.code == Some(0) {
            acknowledged += 1;
            return None;
        }
        Some(done)
    });
    assert_eq!(refused.code, Some(6), "a full disk is told by name");
    assert!(acknowledged > 10, "{acknowledged} writes fitted");
    let count = cluster.ctl(&["count", "k/"]).exits(0);
    assert_eq!(count.text().trim(), acknowledged.to_string());

    // A restart on the full disk needs no room.
    cluster.node(1).kill();
    cluster.start_all();
    cluster.wait_leader();
    let count = cluster.ctl(&["count", "k/"]).exits(0);
    assert_eq!(count.text().trim(), acknowledged.to_string());

    small.grow();
    wait::until_true("writes go on", PATIENCE, || {
        cluster.ctl(&["-t", "2s", "put", "again", &value]).code == Some(0)
    });
}
