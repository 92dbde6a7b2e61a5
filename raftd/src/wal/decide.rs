//! The recovery decision tables: what the bytes found at a place mean. Facts are gathered by
//! `recover.rs`; each combination of them matches exactly one row, which a test proves by walking
//! through all of them. `man/raftd-wal.5` tells the rows in words.

use super::Damage;

/// A fact that a row asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Yes,
    No,
    Any,
}

use Ask::{Any, No, Yes};

impl Ask {
    fn matches(self, fact: bool) -> bool {
        match self {
            Yes => fact,
            No => !fact,
            Any => true,
        }
    }
}

/// One row: its label, what it asks of the facts in their order, what it decides, and why.
struct Row<const FACTS: usize, Verdict: 'static> {
    label: char,
    asks: [Ask; FACTS],
    verdict: Verdict,
    why: &'static str,
}

/// The verdict on a place, the label of its row and the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decision<Verdict> {
    /// The row.
    pub(super) label: char,
    /// What to do.
    pub(super) verdict: Verdict,
    /// Why, for a person.
    pub(super) why: &'static str,
}

impl<Verdict> Decision<Verdict> {
    /// The damage that it tells of.
    pub(super) fn damage(&self, segment: u64, offset: u64) -> Damage {
        let what = format!("{} (case {})", self.why, self.label);
        Damage::new(segment, offset, what)
    }
}

fn decide<const FACTS: usize, Verdict: Copy>(
    table: &[Row<FACTS, Verdict>],
    facts: [bool; FACTS],
) -> Decision<Verdict> {
    let matches = |row: &&Row<FACTS, Verdict>| {
        row.asks
            .iter()
            .zip(facts)
            .all(|(ask, fact)| ask.matches(fact))
    };
    let row = table
        .iter()
        .find(matches)
        .expect("the rows cover all facts, see the test");
    Decision {
        label: row.label,
        verdict: row.verdict,
        why: row.why,
    }
}

/// What stands where the next batch of a segment is expected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PlaceFacts {
    /// A genuine batch header: its CRC, salt, offset and segment are right.
    pub(super) header: bool,
    /// It follows the batch before: number, header CRC and last entry are right.
    pub(super) follows: bool,
    /// Every record in it is the one its table names.
    pub(super) payload: bool,
    /// From here to the segment's end there is nothing but zeros, or the mark of the batch before
    /// and then zeros.
    pub(super) blank: bool,
    /// What is not zero lies within the reach of one batch.
    pub(super) in_reach: bool,
    /// Behind here stands what was written after this batch's sync had returned: its mark, or a
    /// genuine header of a later batch.
    pub(super) evidence: bool,
    /// The batch before was the `Seal`.
    pub(super) sealed: bool,
    /// A later segment is in use.
    pub(super) successor: bool,
    /// From here to the last byte that is not zero, all can be read.
    pub(super) readable: bool,
    /// The mark of the batch before stands here.
    pub(super) marked: bool,
}

/// What to do about a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlaceVerdict {
    /// The batch is in the log; go on behind it.
    Accept,
    /// The same, but some of its entries are damaged: their identities are known.
    Faulty,
    /// The log ends here.
    End,
    /// The same, and what stands behind it is rot that means nothing.
    Passed,
    /// The log ends here; what follows was never acknowledged: zero and sync it before anything
    /// is appended.
    Torn,
    /// The same, but no crash left it.
    Rot,
    /// Batches that were durable are gone, and nobody knows what was in them: the log goes on where
    /// a later one is genuine.
    Gap,
    /// Something that was durable is gone, and maybe the newest term and vote with it: exit 65.
    Damage,
}

/// The facts: header, follows, payload, blank, in_reach, evidence, sealed, successor, readable, marked.
#[rustfmt::skip]
const PLACE: &[Row<10, PlaceVerdict>] = &[
    // The ordinary case, and also a batch that was stored whole when the process or the machine
    // died before its sync returned: nobody was told of it, keeping it is as good as losing it.
    Row { label: 'A', asks: [Yes, Yes, Yes, Any, Any, Any, No, Any, Any, Any], verdict: PlaceVerdict::Accept,
        why: "a whole batch that follows the one before" },
    // Headers are stored only at the end of the chain, so a genuine one that does not follow means
    // that what stood between is not what was written.
    Row { label: 'B', asks: [Yes, No, Any, Any, Any, Any, No, Any, Any, Any], verdict: PlaceVerdict::Gap,
        why: "a genuine batch does not follow the one before it" },
    // Nothing is ever stored behind a seal.
    Row { label: 'C', asks: [Yes, Any, Any, Any, Any, Any, Yes, Any, Any, Any], verdict: PlaceVerdict::Damage,
        why: "a batch stands behind the seal of its segment" },
    // Its mark, or a batch behind it, could only be stored after its sync had returned.
    Row { label: 'D', asks: [Yes, Yes, No, Any, Any, Yes, No, Any, Any, Any], verdict: PlaceVerdict::Faulty,
        why: "entries of a batch that was durable are damaged" },
    Row { label: 'E', asks: [Yes, Yes, No, Any, Any, No, No, Yes, Any, Any], verdict: PlaceVerdict::Faulty,
        why: "entries of a batch are damaged, and a later segment is in use" },
    // One unsynced batch is all that a crash can leave.
    Row { label: 'F', asks: [Yes, Yes, No, Any, No, No, No, No, Any, Any], verdict: PlaceVerdict::Damage,
        why: "more bytes than one batch holds follow a damaged one" },
    // A power cut during the sync of the last batch: the header reached the disk, some record not.
    Row { label: 'G', asks: [Yes, Yes, No, Any, Yes, No, No, No, Yes, Any], verdict: PlaceVerdict::Torn,
        why: "the last batch is torn in its entries" },
    Row { label: 'H', asks: [No, Any, Any, Any, Any, Yes, No, Any, Any, Any], verdict: PlaceVerdict::Gap,
        why: "a batch that was durable is gone" },
    // The next segment is opened only after the seal is durable.
    Row { label: 'I', asks: [No, Any, Any, Any, Any, No, No, Yes, Any, Any], verdict: PlaceVerdict::Gap,
        why: "the segment has no seal, and a later segment is in use" },
    // A clean stop, or a crash with nothing in flight.
    Row { label: 'J', asks: [No, Any, Any, Yes, Any, No, No, No, Any, Any], verdict: PlaceVerdict::End,
        why: "the log ends here" },
    // A power cut during the sync of the last batch: its header did not reach the disk.
    Row { label: 'K', asks: [No, Any, Any, No, Yes, No, No, No, Yes, Any], verdict: PlaceVerdict::Torn,
        why: "the last batch is torn in its header" },
    Row { label: 'L', asks: [No, Any, Any, No, No, No, No, No, Any, No], verdict: PlaceVerdict::Damage,
        why: "more bytes than one batch holds stand behind the end of the log" },
    // Sealed: the log goes on in the next segment, or stops here for the moment.
    Row { label: 'M', asks: [No, Any, Any, Yes, Any, Any, Yes, Any, Any, Any], verdict: PlaceVerdict::End,
        why: "the segment is sealed" },
    // Nothing is ever stored there, so they mean nothing.
    Row { label: 'N', asks: [No, Any, Any, No, Any, Any, Yes, Any, Any, Any], verdict: PlaceVerdict::Passed,
        why: "bytes stand behind the seal of the segment" },
    // A power cut leaves no sector that cannot be read, so the batch may have been durable. If it
    // was not, somebody else's log will replace it.
    Row { label: 'O', asks: [Yes, Yes, No, Any, Yes, No, No, No, No, Any], verdict: PlaceVerdict::Faulty,
        why: "entries of the last batch cannot be read" },
    Row { label: 'P', asks: [No, Any, Any, No, Yes, No, No, No, No, No], verdict: PlaceVerdict::Damage,
        why: "what stands behind the last batch cannot be read" },
    // The header of a next batch would have taken the mark's place: none was ever durable.
    Row { label: 'Q', asks: [No, Any, Any, No, No, No, No, No, Any, Yes], verdict: PlaceVerdict::Rot,
        why: "bytes stand behind the mark of the last batch" },
    Row { label: 'R', asks: [No, Any, Any, No, Yes, No, No, No, No, Yes], verdict: PlaceVerdict::Rot,
        why: "what stands behind the mark of the last batch cannot be read" },
];

/// What to make of the bytes at a place.
#[must_use]
pub(super) fn decide_place(f: &PlaceFacts) -> Decision<PlaceVerdict> {
    let facts = [
        f.header,
        f.follows,
        f.payload,
        f.blank,
        f.in_reach,
        f.evidence,
        f.sealed,
        f.successor,
        f.readable,
        f.marked,
    ];
    decide(PLACE, facts)
}

/// A file behind the newest segment in use, or the one that should be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FileFacts {
    /// The file exists.
    pub(super) present: bool,
    /// It has a genuine header page of this node, for its name and its size.
    pub(super) header: bool,
    /// Where its first batch would stand there are only zeros.
    pub(super) blank: bool,
    /// All that it holds can be read.
    pub(super) readable: bool,
    /// It is the next after the newest in use.
    pub(super) next: bool,
    /// The newest in use is sealed.
    pub(super) sealed: bool,
}

/// What to do about a file behind the newest segment in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileVerdict {
    /// There is none, and none is needed.
    Nothing,
    /// Keep it.
    Spare,
    /// Its `Open` was never acknowledged: zero it, sync it, keep it.
    TornOpen,
    /// Remove it: it was never used.
    Discard,
    /// Something that was durable is gone: exit 65.
    Damage,
}

/// The facts: present, header, blank, readable, next, sealed.
#[rustfmt::skip]
const FILE: &[Row<6, FileVerdict>] = &[
    // A segment is sealed only when the next one exists, durably.
    Row { label: 'a', asks: [No, Any, Any, Any, Yes, Yes], verdict: FileVerdict::Damage,
        why: "the newest segment is sealed, but the next one is missing" },
    Row { label: 'b', asks: [No, Any, Any, Any, Yes, No], verdict: FileVerdict::Nothing,
        why: "no spare" },
    Row { label: 'c', asks: [No, Any, Any, Any, No, Any], verdict: FileVerdict::Nothing,
        why: "no spare" },
    // Its name appeared after its header page was durable, so the page was damaged later; the log
    // may go on in it.
    Row { label: 'd', asks: [Yes, No, Any, Any, Yes, Yes], verdict: FileVerdict::Damage,
        why: "the newest segment is sealed, and the header page of the next one is damaged" },
    Row { label: 'e', asks: [Yes, No, Yes, Any, Yes, No], verdict: FileVerdict::Discard,
        why: "a spare with a damaged header page" },
    Row { label: 'f', asks: [Yes, No, Any, Any, No, Any], verdict: FileVerdict::Discard,
        why: "a spare with a damaged header page" },
    Row { label: 'g', asks: [Yes, Yes, Yes, Any, Any, Any], verdict: FileVerdict::Spare,
        why: "a spare" },
    // A power cut leaves no sector that cannot be read, so that batch may have been durable.
    Row { label: 'h', asks: [Yes, Yes, No, No, Yes, Yes], verdict: FileVerdict::Damage,
        why: "the first batch of the newest segment cannot be read" },
    // A power cut during the sync of the first batch.
    Row { label: 'i', asks: [Yes, Yes, No, Yes, Yes, Yes], verdict: FileVerdict::TornOpen,
        why: "the first batch of the newest segment is torn" },
    // Stored to before its predecessor was sealed: that seal is gone.
    Row { label: 'j', asks: [Yes, Yes, No, Any, Yes, No], verdict: FileVerdict::Damage,
        why: "a segment was begun, but the one before has no seal" },
    // Only the next segment is ever stored into.
    Row { label: 'k', asks: [Yes, Yes, No, Any, No, Any], verdict: FileVerdict::Discard,
        why: "a spare that is not blank" },
    // As j: the log may go on in it.
    Row { label: 'l', asks: [Yes, No, No, Any, Yes, No], verdict: FileVerdict::Damage,
        why: "a segment was begun whose header page is damaged, and the one before has no seal" },
];

/// What to make of a file behind the newest segment in use.
#[must_use]
pub(super) fn decide_file(f: &FileFacts) -> Decision<FileVerdict> {
    decide(
        FILE,
        [f.present, f.header, f.blank, f.readable, f.next, f.sealed],
    )
}

/// The labels of all rows.
pub(super) fn labels() -> impl Iterator<Item = char> {
    let place = PLACE.iter().map(|row| row.label);
    place.chain(FILE.iter().map(|row| row.label))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches_exactly_once<const FACTS: usize, V>(table: &[Row<FACTS, V>]) {
        for bits in 0_u32..1 << FACTS {
            let facts: [bool; FACTS] = std::array::from_fn(|n| bits & (1 << n) != 0);
            let labels: Vec<char> = table
                .iter()
                .filter(|row| {
                    row.asks
                        .iter()
                        .zip(facts)
                        .all(|(ask, fact)| ask.matches(fact))
                })
                .map(|row| row.label)
                .collect();
            assert_eq!(labels.len(), 1, "{facts:?} match {labels:?}");
        }
    }

    #[test]
    fn every_combination_of_facts_matches_exactly_one_row() {
        matches_exactly_once(PLACE);
        matches_exactly_once(FILE);
    }

    /// The other way round: no row is dead, so each label is some combination's verdict.
    #[test]
    fn labels_are_unique_and_in_order() {
        let labels: Vec<char> = PLACE.iter().map(|row| row.label).collect();
        assert!(labels.is_sorted_by(|a, b| a < b), "{labels:?}");
        let labels: Vec<char> = FILE.iter().map(|row| row.label).collect();
        assert!(labels.is_sorted_by(|a, b| a < b), "{labels:?}");
    }

    /// Safety in one sentence: evidence of a completed sync never leads to cutting.
    #[test]
    fn nothing_proven_durable_is_ever_cut() {
        let cuts = [PlaceVerdict::Torn, PlaceVerdict::Rot];
        for row in PLACE.iter().filter(|row| cuts.contains(&row.verdict)) {
            assert_eq!(row.asks[5], No, "row {} asks for no evidence", row.label);
            assert_eq!(row.asks[7], No, "row {} asks for no successor", row.label);
            if row.asks[9] == Yes {
                continue;
            }
            assert_eq!(row.asks[4], Yes, "row {} is bounded", row.label);
            assert_eq!(row.asks[8], Yes, "row {} cuts what was seen", row.label);
        }
        for row in FILE
            .iter()
            .filter(|row| row.verdict == FileVerdict::TornOpen)
        {
            assert_eq!(row.asks[3], Yes, "row {} cuts what was seen", row.label);
        }
    }

    #[test]
    fn the_manual_page_tells_every_row() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../man/raftd-wal.5");
        let page = std::fs::read_to_string(path).unwrap();
        let told: Vec<char> = page
            .split(".TP\n")
            .filter_map(|case| case.lines().next())
            .flat_map(|labels| labels.split(", ").filter(|label| label.len() == 1))
            .filter_map(|label| label.chars().next())
            .collect();
        assert_eq!(told, labels().collect::<Vec<_>>());
    }
}
