//! Damage for bytes that once were good.

/// Xorshift64*: the same mutations for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).expect("below a usize")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    /// A place in `bytes` and one not before it, nearly always near.
    fn range(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let start = self.below(bytes.len() + 1);
        let most = if self.below(16) == 0 { 4096 } else { 64 };
        start..start + self.below(bytes.len() - start + 1).min(most)
    }
}

/// Damages `bytes` in one to four ways that follow from `seed`. `other` is where foreign bytes
/// come from.
pub fn mutate(seed: u64, bytes: &mut Vec<u8>, other: &[u8]) {
    // The generator stands still at 0.
    let mut random = Random(seed | 1 << 63);
    random.next();
    for _ in 0..=random.below(4) {
        mutate_once(&mut random, bytes, other);
    }
}

fn mutate_once(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = random.below(bytes.len());
    match random.below(9) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        1 if !bytes.is_empty() => bytes[at] = random.byte(),
        // What a length, a count, a flag or a code is most surprised by.
        2 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
        3 => {
            let fill = [0, 0xff][random.below(2)];
            let range = random.range(bytes);
            bytes[range].fill(fill);
        }
        4 => bytes.truncate(at),
        5 => {
            let extra = random.below(40);
            bytes.extend((0..extra).map(|_| random.byte()));
        }
        6 => {
            let copy = bytes[random.range(bytes)].to_vec();
            bytes.splice(at..at, copy);
        }
        7 => {
            let range = random.range(bytes);
            bytes.drain(range);
        }
        _ => {
            let graft = other[random.range(other)].to_vec();
            bytes.splice(at..at, graft);
        }
    }
}
