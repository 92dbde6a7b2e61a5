use proptest::collection::vec;
use proptest::prelude::*;
use wire::command::SessionId;
use wire::types::Term;

use super::*;

const EPOCH: Epoch = Epoch(1);
const SESSIONS: u64 = 5;

proptest! {
    /// With limits so small that replies are dropped and sessions evicted for either reason, and
    /// a view whenever it says so, which makes the next change copy.
    #[test]
    fn what_is_counted_is_what_is_there(
        writes in vec((0..SESSIONS, 1..4_u64, any::<bool>()), 1..200),
        sessions_max in 1..5_usize,
        kept_max in 0..12_usize,
    ) {
        let mut sessions = Sessions::new(EPOCH, sessions_max, kept_max);
        let mut next_seqs = [1; SESSIONS as usize];
        let mut view = None;
        for (index, (client, unsettled, look)) in (1..).zip(writes) {
            let seq = next_seqs[client as usize];
            let write = Write {
                session: SessionId {
                    epoch: EPOCH,
                    // Who has expired comes back as somebody else.
                    born: Index(seq >> 32),
                    nonce: client,
                },
                seq: seq & u64::from(u32::MAX),
                floor: (seq & u64::from(u32::MAX)).saturating_sub(unsettled).max(1),
                command: Command::Delete { key: b"key" },
            };
            let id = EntryId { term: Term(1), index: Index(index) };
            match sessions.judge(id.index, &write) {
                Verdict::Apply(place) => {
                    sessions.keep(place, id, &write, &Outcome::Deleted(index));
                    next_seqs[client as usize] += 1;
                }
                verdict => {
                    prop_assert_eq!(verdict, Verdict::Refuse(Error::SessionExpired));
                    next_seqs[client as usize] = (index - 1) << 32 | 1;
                }
            }
            let images: Vec<_> = sessions.freeze().images(Index(0)).collect();
            let parts = images.iter().map(digest::session);
            let digest = parts.fold(digest::horizon(sessions.horizon()), u128::wrapping_add);
            prop_assert_eq!(sessions.digest(), digest);
            let kept: usize = images.iter().map(|image| image.replies.len() - 1).sum();
            prop_assert_eq!((sessions.len(), sessions.kept()), (images.len(), kept));
            prop_assert!(images.len() <= sessions_max);
            prop_assert!(sessions.slots.len() <= sessions_max + 1, "slots are used again");
            prop_assert!(kept <= kept_max || images.len() == 1);
            if look {
                view = Some(sessions.freeze());
            }
        }
        drop(view);
    }
}
