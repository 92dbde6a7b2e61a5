//! The only source of randomness that is not a seed: the kernel's.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::fatal::{ExitStatus, Fatal};

/// Draws a random number: identities, lives, the seed of every generator.
///
/// # Errors
/// The kernel has no `getrandom` (older than 3.17, or a sandbox that forbids it).
pub fn random_u64() -> Result<u64, Fatal> {
    let mut bytes = [0_u8; 8];
    loop {
        match getrandom(&mut bytes, GetRandomFlags::empty()) {
            Ok(8) => return Ok(u64::from_ne_bytes(bytes)),
            // Requests of up to 256 bytes are cut short by nothing but a signal.
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                return Err(Fatal::new(
                    ExitStatus::Io,
                    format!("drawing random numbers failed: {error}"),
                )
                .remedy("allow the system call getrandom(2)"));
            }
        }
    }
}
