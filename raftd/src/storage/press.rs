//! Pressing the chunks of a large snapshot on a second thread.

use std::num::NonZero;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::snapshot::{Collected, Press, Pressed};

/// So many chunks are with the helper while the next one is collected: neither thread waits until
/// the other wakes up, and memory for them is bounded.
const AHEAD_MAX: usize = 8;
/// A panic of it ends the process, like any in the daemon.
const AT_WORK: &str = "the helper works until whoever asks is gone";

/// A thread presses what another collects. What comes out does not depend on who does it.
#[derive(Default)]
pub(super) struct Threaded {
    /// From the first chunk on, where there is a processor for it and the system gives a thread.
    helper: Option<Helper>,
}

struct Helper {
    chunks: Sender<Collected>,
    pressed: Receiver<Pressed>,
    in_work: usize,
}

impl Press for Threaded {
    fn push(&mut self, chunk: Collected) -> Option<Pressed> {
        if self.helper.is_none() {
            self.helper = Helper::start();
        }
        let Some(helper) = &mut self.helper else {
            return Some(chunk.press());
        };
        helper.chunks.send(chunk).expect(AT_WORK);
        helper.in_work += 1;
        if helper.in_work > AHEAD_MAX {
            return self.pop();
        }
        None
    }

    fn pop(&mut self) -> Option<Pressed> {
        let helper = self.helper.as_mut()?;
        helper.in_work = helper.in_work.checked_sub(1)?;
        Some(helper.pressed.recv().expect(AT_WORK))
    }
}

impl Helper {
    /// Its thread is as important as the one that starts it.
    fn start() -> Option<Self> {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        if processors == 1 {
            return None;
        }
        let (chunks, collected) = channel::<Collected>();
        let (results, pressed) = channel();
        let run = move || {
            for chunk in collected {
                if results.send(chunk.press()).is_err() {
                    return;
                }
            }
        };
        let builder = thread::Builder::new().name("press".to_owned());
        builder.spawn(run).ok()?;
        Some(Self {
            chunks,
            pressed,
            in_work: 0,
        })
    }
}
