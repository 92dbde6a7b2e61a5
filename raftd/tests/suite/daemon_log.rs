//! The log's queue: order, cutting, and a reader that stops reading.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use log::{Level, LevelFilter, Log, Record};
use raftd::logging::{QueueLogger, Style};

/// A stderr whose reader takes one line per permit.
struct SlowReader {
    permits: Receiver<()>,
    lines: Sender<String>,
}

impl Write for SlowReader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Once the test drops its permits, everything is taken.
        let _ = self.permits.recv();
        let _ = self.lines.send(String::from_utf8(bytes.to_vec()).unwrap());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn slow_logger(style: Style) -> (QueueLogger, Sender<()>, Receiver<String>) {
    let (permit, permits) = channel();
    let (lines, seen) = channel();
    let logger =
        QueueLogger::start(LevelFilter::Info, style, SlowReader { permits, lines }).unwrap();
    (logger, permit, seen)
}

fn say(logger: &QueueLogger, level: Level, text: &str) {
    logger.log(
        &Record::builder()
            .level(level)
            .args(format_args!("{text}"))
            .build(),
    );
}

const PATIENCE: Duration = Duration::from_secs(20);

/// Names and addresses in it are other people's.
#[test]
fn a_line_holds_nothing_that_a_terminal_obeys() {
    let (logger, permit, seen) = slow_logger(Style::Journal);
    say(
        &logger,
        Level::Info,
        "peer=\u{1b}[2J\r\n\t\u{9b}1m\u{7f} \u{e9}\\n",
    );
    drop(permit);
    let line = seen.recv_timeout(PATIENCE).unwrap();
    assert_eq!(
        line,
        "<6>peer=\\u{1b}[2J\\r\\n\\t\\u{9b}1m\\u{7f} \u{e9}\\n\n"
    );
}

#[test]
fn a_stopped_reader_costs_lines_but_no_time_and_the_loss_is_reported() {
    let (logger, permit, seen) = slow_logger(Style::Journal);
    let total = 10_000;
    for n in 0..total {
        say(&logger, Level::Info, &format!("event n={n}"));
    }
    // Nothing was taken so far, and yet all calls have returned.
    drop(permit);
    let mut written = 0;
    let mut lost = 0;
    while written + lost < total {
        let line = seen.recv_timeout(PATIENCE).unwrap();
        match line.trim_end().strip_prefix("<4>log lines dropped count=") {
            Some(count) => lost += count.parse::<usize>().unwrap(),
            None if lost == 0 => {
                assert_eq!(
                    line,
                    format!("<6>event n={written}\n"),
                    "in order, from the first"
                );
                written += 1;
            }
            None => written += 1,
        }
    }
    assert!(
        lost > 0 && written >= 4096,
        "written {written}, lost {lost}"
    );
}

#[test]
fn a_line_has_a_priority_under_journald_and_a_time_elsewhere() {
    for (style, level, start) in [
        (Style::Journal, Level::Error, "<3>down why=\"x\\ny\"\n"),
        (Style::Journal, Level::Warn, "<4>down why=\"x\\ny\"\n"),
        (Style::Plain, Level::Info, "Z INFO  down why=\"x\\ny\"\n"),
    ] {
        let (logger, permit, seen) = slow_logger(style);
        drop(permit);
        say(&logger, level, "down why=\"x\ny\"");
        say(&logger, Level::Debug, "not shown at this level");
        logger.flush();
        let line = seen.recv_timeout(PATIENCE).unwrap();
        match style {
            Style::Journal => assert_eq!(line, start),
            Style::Plain => {
                assert!(line.ends_with(start), "{line}");
                assert_eq!(&line[10..11], "T", "{line}");
            }
        }
        assert!(seen.try_recv().is_err());
    }
}

#[test]
fn a_long_line_is_cut_between_characters() {
    let (logger, permit, seen) = slow_logger(Style::Journal);
    drop(permit);
    say(&logger, Level::Info, &"ü".repeat(4000));
    let line = seen.recv_timeout(PATIENCE).unwrap();
    assert!(
        line.len() <= 2049 && line.ends_with("ü\n"),
        "{}",
        line.len()
    );
}
