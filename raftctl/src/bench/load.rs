//! What is asked of a cluster: operations, keys, values.

use std::time::Duration;

/// Bytes of every key.
pub const KEY_BYTES: usize = 16;
/// The most keys that the key's last four characters can tell apart.
pub const KEYS_MAX: u32 = 62 * 62 * 62 * 62;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const PREFIX_BYTES: usize = 12;
/// Random bytes that all values are cut from: large enough that neighbours differ, small enough
/// to stay in the cache.
const POOL_BYTES: usize = 256 * 1024;

/// What one operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sets a key to a random value.
    Put,
    /// Reads a key; finding none is an error, for keys are laid down first.
    Get,
    /// Removes a key.
    Delete,
}

/// One operation: everything that is needed to encode it, and to encode it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What it does.
    pub action: Action,
    /// The number of its key.
    pub key: u32,
    /// Where its value begins in the pool.
    pub value: u32,
}

/// Which operations are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mix {
    /// Writes only.
    Put,
    /// Linearizable reads only.
    Get,
    /// Half writes, half linearizable reads, at random.
    Mixed,
}

impl Mix {
    /// Whether keys must be there before the measurement.
    #[must_use]
    pub fn reads(self) -> bool {
        self != Self::Put
    }
}

/// How much is asked, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Which operations.
    pub mix: Mix,
    /// Connections.
    pub connections: usize,
    /// Operations in flight on each connection.
    pub in_flight: usize,
    /// Time before the measurement that is not counted.
    pub warm_up: Duration,
    /// Time that is counted.
    pub measured: Duration,
    /// Operations per second over all connections; `None` sends the next when one is answered.
    pub rate: Option<f64>,
}

/// The bytes of keys and values.
#[derive(Clone, Debug)]
pub struct Material {
    prefix: [u8; PREFIX_BYTES],
    keys: u32,
    pool: Vec<u8>,
    value_bytes: usize,
}

impl Material {
    /// Draws the run's nonce and the values' bytes.
    ///
    /// # Panics
    /// If `keys` is not within 1 and [`KEYS_MAX`].
    #[must_use]
    pub fn new(keys: u32, value_bytes: usize, random: &mut Random) -> Self {
        assert!((1..=KEYS_MAX).contains(&keys), "{keys} keys");
        let mut prefix = *b"__bench/000/";
        for digit in &mut prefix[8..11] {
            *digit = ALPHABET[random.below(62) as usize];
        }
        let mut pool = Vec::with_capacity(POOL_BYTES + value_bytes + 8);
        while pool.len() < POOL_BYTES + value_bytes {
            pool.extend_from_slice(&random.bits().to_ne_bytes());
        }
        Self {
            prefix,
            keys,
            pool,
            value_bytes,
        }
    }

    /// What every key begins with: `__bench/`, three characters drawn for this run, `/`.
    #[must_use]
    pub fn prefix(&self) -> &str {
        std::str::from_utf8(&self.prefix).expect("the alphabet is ASCII")
    }

    /// How many keys there are.
    #[must_use]
    pub fn keys(&self) -> u32 {
        self.keys
    }

    /// Bytes of every value.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    /// The key with this number: the prefix and four base-62 digits.
    #[must_use]
    pub fn key(&self, number: u32) -> [u8; KEY_BYTES] {
        let mut key = [0; KEY_BYTES];
        key[..PREFIX_BYTES].copy_from_slice(&self.prefix);
        let mut rest = number;
        for digit in key[PREFIX_BYTES..].iter_mut().rev() {
            *digit = ALPHABET[(rest % 62) as usize];
            rest /= 62;
        }
        key
    }

    /// The value that begins at `offset`.
    #[must_use]
    pub fn value(&self, offset: u32) -> &[u8] {
        let offset = offset as usize;
        &self.pool[offset..offset + self.value_bytes]
    }

    /// An operation on `key` with a value drawn at random.
    pub fn operation(&self, action: Action, key: u32, random: &mut Random) -> Operation {
        let value = random.below(u32::try_from(POOL_BYTES).unwrap_or(u32::MAX));
        Operation { action, key, value }
    }
}

/// A small, fast generator (SplitMix64): its draws choose keys and fill values, nothing more.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, uniform but for a bias of less than one in 2^32.
    pub fn below(&mut self, bound: u32) -> u32 {
        let high = (self.bits() >> 32) * u64::from(bound);
        u32::try_from(high >> 32).expect("the product's upper half is below the bound")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sixteen_bytes_in_order_and_distinct() {
        let material = Material::new(KEYS_MAX, 0, &mut Random::new(7));
        let numbers = [0, 1, 61, 62, 3843, 3844, KEYS_MAX - 1];
        let keys: Vec<_> = numbers.iter().map(|n| material.key(*n)).collect();
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{keys:?}");
        assert!(keys.iter().all(|key| key.starts_with(b"__bench/")));
        assert_eq!(&keys[0][12..], b"0000");
        assert_eq!(&keys[6][12..], b"zzzz");
        assert!(material.prefix().ends_with('/'));
    }

    #[test]
    fn values_have_the_size_asked_for_and_differ() {
        let mut random = Random::new(7);
        let material = Material::new(10, 256, &mut random);
        let a = material.operation(Action::Put, 3, &mut random);
        let b = material.operation(Action::Put, 3, &mut random);
        assert_eq!(material.value(a.value).len(), 256);
        assert_ne!(material.value(a.value), material.value(b.value));
    }

    #[test]
    fn draws_below_a_bound_reach_all_of_it() {
        let mut random = Random::new(1);
        let mut seen = [false; 10];
        for _ in 0..1000 {
            seen[random.below(10) as usize] = true;
        }
        assert_eq!(seen, [true; 10]);
    }
}
