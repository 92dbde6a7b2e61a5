//! Telling how far a recovery has come: it reads the newest snapshot and the log, which takes as long
//! as they are large.

use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::disk::Meter;
use crate::snapshot::SNAPSHOT_DIR;
use crate::supervisor::Supervisor;
use crate::wal::segment::WAL_DIR;

/// Between two looks at how much was read.
const LOOK: Duration = Duration::from_secs(1);
/// So many looks apart the log tells it.
const LOOKS_A_LINE: u32 = 10;

/// Recovers a data directory, and meanwhile tells the service manager and the log how much was read
/// of it. Of a disk that hangs the manager hears nothing: it may end such a start.
pub(super) fn told<T>(
    data_dir: &Path,
    meter: &Meter,
    supervisor: &mut Supervisor,
    recover: impl FnOnce() -> T,
) -> T {
    let bytes_max = bytes_below(data_dir);
    let (recovered, over) = channel();
    let telling = thread::Builder::new().name("progress".to_owned());
    thread::scope(|scope| {
        // Without a thread nothing is told.
        let _ = telling.spawn_scoped(scope, move || tell(meter, bytes_max, supervisor, &over));
        let result = recover();
        drop(recovered);
        result
    })
}

fn tell(meter: &Meter, bytes_max: u64, supervisor: &mut Supervisor, over: &Receiver<()>) {
    let mut told_bytes = 0;
    let mut looks = 0;
    while over.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        looks += 1;
        let bytes = meter.bytes();
        if looks % LOOKS_A_LINE == 0 {
            log::info!("still recovering read_bytes={bytes} bytes_max={bytes_max}");
        }
        if bytes > told_bytes {
            told_bytes = bytes;
            supervisor.recovering(bytes, bytes_max);
        }
    }
}

/// What snapshots and log take; spare segments among it are not read.
fn bytes_below(data_dir: &Path) -> u64 {
    let dirs = [WAL_DIR, SNAPSHOT_DIR].map(|dir| fs::read_dir(data_dir.join(dir)));
    let files = dirs.into_iter().flatten().flatten().flatten();
    let bytes = files.map(|file| file.metadata().map_or(0, |about| about.len()));
    bytes.sum()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_recovery_that_reads_gets_more_time() {
        let data = tempfile::tempdir().expect("it is made");
        for (dir, bytes) in [(WAL_DIR, 1 << 20), (SNAPSHOT_DIR, 2 << 20)] {
            fs::create_dir(data.path().join(dir)).expect("it is made");
            fs::write(data.path().join(dir).join("file"), vec![0; bytes]).expect("it is written");
        }
        let name = data.path().join("notify");
        let manager = UnixDatagram::bind(&name).expect("it is bound");
        let patience = Some(Duration::from_secs(60));
        manager.set_read_timeout(patience).expect("it is set");
        let mut supervisor = Supervisor::at(name.as_os_str());
        let meter = Meter::default();
        let heard = told(data.path(), &meter, &mut supervisor, || {
            meter.add(1 << 20);
            let mut bytes = [0; 1024];
            let count = manager.recv(&mut bytes).expect("it is told");
            String::from_utf8_lossy(&bytes[..count]).into_owned()
        });
        let expected = "EXTEND_TIMEOUT_USEC=90000000\nSTATUS=recovering, 1 of at most 3 MiB read\n";
        assert_eq!(heard, expected);
    }
}
