//! An alarm finer than poll's milliseconds, for open loops.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// A timerfd in the loop's poll.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: OwnedFd,
}

impl Alarm {
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { timer })
    }

    /// Rings once after `wait`, which is more than zero; what was set before is forgotten.
    pub(super) fn set(&self, wait: Duration) -> io::Result<()> {
        let value = Timespec::try_from(wait).map_err(io::Error::other)?;
        let interval = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let ring = Itimerspec {
            it_interval: interval,
            it_value: value,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &ring)?;
        Ok(())
    }

    /// Takes notice of a ring: the next one is then an event of its own.
    pub(super) fn acknowledge(&self) {
        // Nothing to read means that it was set again meanwhile.
        let _ = rustix::io::read(&self.timer, &mut [0_u8; 8]);
    }
}
