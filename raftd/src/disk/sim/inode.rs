//! The bytes of one simulated file: what the cache shows, and what the disk below it holds.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::random::Random;
use crate::disk::SECTOR_BYTES;

pub(super) const SECTOR: usize = SECTOR_BYTES as usize;
const PAGE: usize = 4096;
const ZEROS: [u8; SECTOR] = [0; SECTOR];
/// A page that nobody has written.
const BLANK: [u8; PAGE] = [0; PAGE];

type Page = [u8; PAGE];

/// A file.
///
/// Invariants:
/// - `pages` are what a reader sees; a page that is not there holds zeros. Pages are shared with
///   forks until one of them writes.
/// - The disk holds the same, except in the sectors of `dirty` and `lost`: there it holds what
///   `before` says, and zeros where `before` says nothing.
/// - No sector is both dirty and lost; `before` speaks of no other sectors than those.
/// - What is behind `bytes`, as far as `durable_bytes`, holds zeros: the file may have that size
///   again after a loss of power.
#[derive(Clone, Debug)]
pub(super) struct Inode {
    bytes: usize,
    /// The size as of the last sync.
    durable_bytes: usize,
    pages: Vec<Option<Rc<Page>>>,
    /// Written, not synced.
    dirty: Bits,
    /// A sync of them failed: clean to the kernel, and not on the disk.
    lost: Bits,
    before: BTreeMap<usize, Box<[u8; SECTOR]>>,
    /// The device cannot read them, until they are written again.
    unreadable: Bits,
}

impl Inode {
    /// Zeros, of a size that no sync has made durable yet.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            bytes,
            durable_bytes: 0,
            pages: vec![None; bytes.div_ceil(PAGE)],
            dirty: Bits::new(bytes.div_ceil(SECTOR)),
            lost: Bits::new(bytes.div_ceil(SECTOR)),
            before: BTreeMap::new(),
            unreadable: Bits::new(bytes.div_ceil(SECTOR)),
        }
    }

    /// A file that holds this, durably.
    pub(super) fn durable(content: &[u8]) -> Self {
        let mut inode = Self::new(content.len());
        inode.put(0, content);
        inode.durable_bytes = inode.bytes;
        inode
    }

    /// Makes it longer or shorter, in the cache.
    pub(super) fn resize(&mut self, bytes: usize) {
        let edge = self.bytes.min(bytes);
        let end = self.bytes.max(bytes).min(self.extent());
        if edge < end {
            // What is cut holds zeros, now and when it is there again.
            self.bytes = end;
            self.write(edge, &vec![0; end - edge]);
        }
        self.bytes = bytes;
        self.make_room();
    }

    /// Where the pages and sets must reach.
    fn extent(&self) -> usize {
        self.bytes.max(self.durable_bytes)
    }

    /// Fits pages and sets to the size.
    fn make_room(&mut self) {
        let sectors = self.extent().div_ceil(SECTOR);
        self.pages.resize(self.extent().div_ceil(PAGE), None);
        for bits in [&mut self.dirty, &mut self.lost, &mut self.unreadable] {
            bits.resize(sectors);
        }
        self.before.retain(|sector, _| *sector < sectors);
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes into the cache.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        assert!(end <= self.bytes, "a write stays within the file");
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            let was_lost = self.lost.remove(sector);
            if self.dirty.insert(sector) && !was_lost {
                self.keep(sector);
            }
            if offset <= sector * SECTOR && (sector + 1) * SECTOR <= end {
                self.unreadable.remove(sector);
            }
        }
        self.put(offset, bytes);
    }

    /// Remembers what the disk holds of a sector that is about to differ.
    fn keep(&mut self, sector: usize) {
        let cached = self.cached(sector);
        if *cached != ZEROS {
            let kept = Box::new(*cached);
            self.before.insert(sector, kept);
        }
    }

    /// Puts bytes into the pages, and makes no page to hold zeros.
    fn put(&mut self, offset: usize, bytes: &[u8]) {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let within = at % PAGE;
            let (piece, behind) = rest.split_at(rest.len().min(PAGE - within));
            let page = &mut self.pages[at / PAGE];
            if page.is_some() || *piece != BLANK[..piece.len()] {
                let page = page.get_or_insert_with(|| Rc::new([0; PAGE]));
                Rc::make_mut(page)[within..within + piece.len()].copy_from_slice(piece);
            }
            at += piece.len();
            rest = behind;
        }
    }

    /// What the cache holds of a sector.
    fn cached(&self, sector: usize) -> &[u8; SECTOR] {
        let at = sector * SECTOR;
        self.pages[at / PAGE].as_ref().map_or(&ZEROS, |page| {
            page[at % PAGE..][..SECTOR]
                .try_into()
                .expect("pages are whole sectors")
        })
    }

    /// What the disk holds of a sector.
    fn on_disk(&self, sector: usize) -> &[u8; SECTOR] {
        if self.differs(sector) {
            self.before.get(&sector).map_or(&ZEROS, |kept| kept)
        } else {
            self.cached(sector)
        }
    }

    fn differs(&self, sector: usize) -> bool {
        self.dirty.contains(sector) || self.lost.contains(sector)
    }

    /// What a reader gets: false if the device cannot read a part of it.
    ///
    /// The caller has checked that the range is within the file.
    pub(super) fn read(&self, offset: usize, buffer: &mut [u8]) -> bool {
        let mut at = offset;
        let mut rest = &mut *buffer;
        while !rest.is_empty() {
            let within = at % PAGE;
            let length = rest.len().min(PAGE - within);
            let (piece, behind) = rest.split_at_mut(length);
            match &self.pages[at / PAGE] {
                Some(page) => piece.copy_from_slice(&page[within..within + length]),
                None => piece.fill(0),
            }
            at += length;
            rest = behind;
        }
        self.unreadable.is_empty()
            || !(offset / SECTOR..at.div_ceil(SECTOR)).any(|n| self.unreadable.contains(n))
    }

    /// What the disk holds, regardless of the cache; false if the range leaves the file.
    pub(super) fn read_on_disk(&self, offset: usize, buffer: &mut [u8]) -> bool {
        let end = offset + buffer.len();
        if end > self.bytes {
            return false;
        }
        self.read(offset, buffer);
        if self.dirty.is_empty() && self.lost.is_empty() {
            return true;
        }
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            if self.differs(sector) {
                let from = offset.max(sector * SECTOR);
                let to = end.min((sector + 1) * SECTOR);
                let held = &self.on_disk(sector)[from % SECTOR..][..to - from];
                buffer[from - offset..to - offset].copy_from_slice(held);
            }
        }
        true
    }

    /// All of it, as a reader sees it.
    pub(super) fn content(&self) -> Vec<u8> {
        let mut content = vec![0; self.bytes];
        self.read(0, &mut content);
        content
    }

    /// The numbers of the sectors that are not just zeros on the disk.
    pub(super) fn used_sectors(&self) -> Vec<u64> {
        let sectors = 0..self.bytes.div_ceil(SECTOR);
        sectors
            .filter(|sector| *self.on_disk(*sector) != ZEROS)
            .map(|sector| sector as u64)
            .collect()
    }

    /// The cache reaches the disk, except what an earlier failure has marked clean.
    pub(super) fn sync(&mut self) {
        self.dirty.clear();
        if self.lost.is_empty() {
            self.before.clear();
        } else {
            self.before.retain(|sector, _| self.lost.contains(*sector));
        }
        self.fix_size();
    }

    /// The kernel marks clean what it could not write.
    pub(super) fn fail_sync(&mut self) {
        for sector in self.dirty.take() {
            self.lost.insert(sector);
        }
    }

    /// Clean pages are forgotten: the next reader gets what the disk holds.
    pub(super) fn drop_cache(&mut self) {
        for sector in self.lost.take() {
            self.revert(sector);
        }
    }

    /// The cache is gone. Each sector that was not synced is old, new or garbage.
    pub(super) fn lose_power(&mut self, random: &mut Random) {
        self.drop_cache();
        for sector in self.dirty.take() {
            match random.below(3) {
                0 => self.revert(sector),
                1 => {}
                _ => {
                    let mut garbage = [0; SECTOR];
                    for word in garbage.chunks_exact_mut(8) {
                        word.copy_from_slice(&random.draw().to_be_bytes());
                    }
                    let at = sector * SECTOR;
                    let end = self.extent().min(at + SECTOR);
                    self.put(at, &garbage[..end - at]);
                }
            }
        }
        self.before.clear();
        if self.durable_bytes != self.bytes {
            let size = std::mem::replace(&mut self.durable_bytes, self.bytes);
            if random.below(2) == 0 {
                self.bytes = size;
            }
            self.fix_size();
        }
    }

    /// The size is durable: what was behind it is gone for good.
    fn fix_size(&mut self) {
        if self.durable_bytes != self.bytes {
            self.durable_bytes = self.bytes;
            self.make_room();
            let zeros = vec![0; self.pages.len() * PAGE - self.bytes];
            self.put(self.bytes, &zeros);
        }
    }

    /// Nothing that was not synced is left.
    pub(super) fn revert_all(&mut self) {
        self.drop_cache();
        for sector in self.dirty.take() {
            self.revert(sector);
        }
    }

    /// From the disk into the cache.
    fn revert(&mut self, sector: usize) {
        let held = self.before.remove(&sector).unwrap_or(Box::new(ZEROS));
        let at = sector * SECTOR;
        let end = self.extent().min(at + SECTOR);
        self.put(at, &held[..end - at]);
    }

    /// Flips bits of one byte on the disk, which the cache shows unless it holds something newer.
    pub(super) fn rot(&mut self, offset: usize, mask: u8) {
        assert!(offset < self.bytes, "rot is within the file");
        let sector = offset / SECTOR;
        if self.differs(sector) {
            let kept = self.before.entry(sector).or_insert(Box::new(ZEROS));
            kept[offset % SECTOR] ^= mask;
        } else {
            let byte = self.cached(sector)[offset % SECTOR];
            self.put(offset, &[byte ^ mask]);
        }
    }

    /// The device cannot read these sectors any more.
    pub(super) fn make_unreadable(&mut self, offset: usize, end: usize) {
        for sector in offset / SECTOR..end.min(self.bytes).div_ceil(SECTOR) {
            self.unreadable.insert(sector);
        }
    }
}

/// A set of small numbers.
#[derive(Clone, Debug)]
struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    /// For numbers below `bound`.
    fn new(bound: usize) -> Self {
        Self {
            words: vec![0; bound.div_ceil(64)],
            len: 0,
        }
    }

    /// For numbers below another bound; forgets those above it.
    fn resize(&mut self, bound: usize) {
        self.words.resize(bound.div_ceil(64), 0);
        if let Some(last) = self.words.last_mut()
            && !bound.is_multiple_of(64)
        {
            *last &= (1 << (bound % 64)) - 1;
        }
        self.len = self
            .words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum();
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn contains(&self, n: usize) -> bool {
        self.words[n / 64] & (1 << (n % 64)) != 0
    }

    /// True if it was not there.
    fn insert(&mut self, n: usize) -> bool {
        let new = !self.contains(n);
        self.words[n / 64] |= 1 << (n % 64);
        self.len += usize::from(new);
        new
    }

    /// True if it was there.
    fn remove(&mut self, n: usize) -> bool {
        let old = self.contains(n);
        self.words[n / 64] &= !(1 << (n % 64));
        self.len -= usize::from(old);
        old
    }

    fn clear(&mut self) {
        if !self.is_empty() {
            self.words.fill(0);
            self.len = 0;
        }
    }

    /// Empties it; what was in it, in order.
    fn take(&mut self) -> Vec<usize> {
        let mut taken = Vec::with_capacity(self.len);
        if self.is_empty() {
            return taken;
        }
        for (n, word) in self.words.iter_mut().enumerate() {
            while *word != 0 {
                taken.push(n * 64 + word.trailing_zeros() as usize);
                *word &= *word - 1;
            }
        }
        self.len = 0;
        taken
    }
}
