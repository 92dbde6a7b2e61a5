//! Writes numbered keys, hundreds of them in flight in one session, and reads them back.
//!
//! `cargo run -p raftctl --example pipeline -- 127.0.0.1:7400,127.0.0.1:7410 10000`

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use raftctl::client::{Client, Command, Deadline, Options, ScanMode, Walk, Way};

/// Writes in flight at most.
const IN_FLIGHT: usize = 500;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let endpoints = args.next().unwrap_or("127.0.0.1:7400".into());
    let count: u32 = args.next().unwrap_or("1000".into()).parse()?;
    let endpoints = endpoints.split(',').map(str::to_owned).collect();
    let mut client = Client::new(Options::new(endpoints));
    let deadline = || Deadline::after(Duration::from_secs(5));

    let begun = Instant::now();
    let mut done = 0;
    for number in 0..count {
        let key = format!("example/{number:08}");
        client.submit(Command::Put {
            key: key.as_bytes(),
            value: b"value",
        })?;
        while client.in_flight() >= IN_FLIGHT {
            done += finish_one(&mut client, deadline())?;
        }
    }
    while client.in_flight() > 0 {
        done += finish_one(&mut client, deadline())?;
    }

    let mut walk = Walk::new(client, Way::prefix(ScanMode::Count, b"example/"));
    let mut found = 0;
    while let Some(page) = walk.next_page(deadline())? {
        found += page.count;
    }
    let elapsed = begun.elapsed();
    writeln!(io::stdout(), "{done} written, {found} found, {elapsed:.1?}")?;
    Ok(())
}

/// Takes the result of the oldest write. An error tells whether it may be applied.
fn finish_one(client: &mut Client, deadline: Deadline) -> Result<u32, Box<dyn Error>> {
    match client.wait(deadline) {
        Some(result) => result.map(|_| 1).map_err(Into::into),
        None => Ok(0),
    }
}
