//! Writing a snapshot, step by step.

use wire::types::{ClusterId, EntryId, Index, NodeId};

use super::format::{CHUNK_BYTES, ChunkKind, HEADER_BYTES, Header, Sums, Trailer};
use super::frames::{FileReader, ReadAhead};
use super::pack::{Packer, item_bytes};
use super::press::Press;
use super::sink::Sink;
use super::verify::{Found, Verifier};
use super::{Error, SNAPSHOT_DIR, SnapshotInfo, UNFINISHED_SUFFIX, name, publish};
use crate::disk::Disk;
use crate::store::{View, digest};

/// So much is written at once: a sync of the log that comes meanwhile waits no longer than that takes.
pub(super) const PIECE_BYTES: usize = 128 * 1024;
/// So much is synced at once: the last sync is no longer than any other.
pub(super) const SYNC_BYTES: u64 = 8 * 1024 * 1024;

/// What a step of a [`Writer`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There are keys or sessions left.
    Writing {
        /// Keys written.
        done_keys: u64,
        /// All of them.
        total_keys: u64,
    },
    /// Everything is written and synced; there is some left to read again.
    Verifying {
        /// Bytes that are as they should be.
        done_bytes: u64,
        /// The size of the file.
        total_bytes: u64,
    },
    /// The snapshot has its name, durably.
    Published(SnapshotInfo),
}

/// Where a writer is.
enum Stage {
    /// Among the keys, behind this one.
    Keys { after: Option<Vec<u8>> },
    /// Among the sessions, behind the one that wrote here.
    Sessions { after: Index },
    /// Reading again what was written: this trailer is at its end.
    Verifying(Box<Verifier>, ReadAhead, Trailer),
    /// Nothing is left to do.
    Ended,
}

/// Writes a snapshot of a view.
///
/// Invariants:
/// - the file has its temporary name until all of it is durable, was read again and is sound;
/// - `out` comes behind what went into `sink`;
/// - `digest` is that of the head and of what went into chunks: compared with the view's, before
///   the trailer tells it.
pub struct Writer<F> {
    header: Header,
    /// Until it is taken back: it keeps old versions of what changes.
    view: Option<View>,
    sink: Sink<F>,
    stage: Stage,
    packer: Packer,
    sums: Sums,
    out: Vec<u8>,
    digest: u128,
    done_keys: u64,
}

impl<F> Writer<F> {
    /// Makes the file. `members` are those with whom the cluster began, in any order.
    ///
    /// # Errors
    /// [`Error::Disk`]; no file is left behind.
    pub fn begin<D: Disk<File = F>>(
        disk: &D,
        view: View,
        cluster: ClusterId,
        members: &[(NodeId, String)],
    ) -> Result<Self, Error> {
        let head = view.head().clone();
        // Where the log tells who is a member, those of the beginning are history.
        let mut members = match head.membership {
            Some(_) => Vec::new(),
            None => members.to_vec(),
        };
        members.sort();
        let header = Header {
            cluster,
            head,
            members,
        };
        let page = header.encode();
        disk.create_dir(SNAPSHOT_DIR)?;
        let name = temporary_name(header.head.applied);
        let file = disk.create(&name, HEADER_BYTES as u64)?;
        let sink = Sink::new(disk, file, HEADER_BYTES as u64);
        Ok(Self {
            sums: Sums::new(&page),
            digest: digest::head(&header.head),
            header,
            view: Some(view),
            sink,
            stage: Stage::Keys { after: None },
            packer: Packer::new(),
            out: page,
            done_keys: 0,
        })
    }

    /// Has chunks pressed by this one: for large snapshots, on another thread.
    #[must_use]
    pub fn press_with(mut self, press: Box<dyn Press>) -> Self {
        self.packer.press_with(press);
        self
    }

    /// The last entry of the state that is written.
    #[must_use]
    pub fn id(&self) -> EntryId {
        self.header.head.applied
    }

    /// Bytes of the file that are written, and then those that were read again on top: with every
    /// step more.
    #[must_use]
    pub fn progress_bytes(&self) -> u64 {
        match &self.stage {
            Stage::Verifying(verifier, ..) => self.sink.bytes() + verifier.offset(),
            Stage::Keys { .. } | Stage::Sessions { .. } | Stage::Ended => self.sink.bytes(),
        }
    }

    /// The view, once: when nothing more of it will be written. It takes long to free.
    pub fn take_view(&mut self) -> Option<View> {
        match self.stage {
            Stage::Keys { .. } | Stage::Sessions { .. } => None,
            Stage::Verifying(..) | Stage::Ended => self.view.take(),
        }
    }

    /// Goes on with about a chunk, see [`CHUNK_BYTES`].
    ///
    /// # Errors
    /// [`Error`]. The file is removed then, and nothing is left to do.
    ///
    /// # Panics
    /// If an earlier step failed or was the last.
    pub fn step<D: Disk<File = F>>(&mut self, disk: &D) -> Result<Step, Error> {
        let stepped = self.advance(disk);
        if stepped.is_err() {
            self.end(disk);
        }
        stepped
    }

    /// Gives up. The view, if it was not taken, takes long to free.
    pub fn discard<D: Disk<File = F>>(mut self, disk: &D) -> Option<View> {
        self.end(disk);
        self.view
    }

    fn end<D: Disk<File = F>>(&mut self, disk: &D) {
        self.stage = Stage::Ended;
        // The first error counts. A leftover has a temporary name and is removed at the next start.
        let _ = disk.remove(&temporary_name(self.id()));
    }

    fn advance<D: Disk<File = F>>(&mut self, disk: &D) -> Result<Step, Error> {
        match &mut self.stage {
            Stage::Keys { .. } => self.write_keys(disk),
            Stage::Sessions { .. } => self.write_sessions(disk),
            Stage::Verifying(..) => self.verify(disk),
            Stage::Ended => panic!("a snapshot that is done is not stepped"),
        }
    }

    fn write_keys<D: Disk<File = F>>(&mut self, disk: &D) -> Result<Step, Error> {
        let (Stage::Keys { after }, Some(view)) = (&mut self.stage, &self.view) else {
            unreachable!("the view is there while keys are written");
        };
        let mut bytes = 0;
        let mut last = None;
        for item in view.items_after(after.as_deref()) {
            self.packer.key(&item, &mut self.sums, &mut self.out);
            self.digest = self.digest.wrapping_add(digest::item(&item));
            self.done_keys += 1;
            bytes += item_bytes(&item);
            last = Some(item.key);
            if bytes >= CHUNK_BYTES {
                break;
            }
        }
        if bytes >= CHUNK_BYTES {
            *after = last.map(<[u8]>::to_vec);
        } else {
            let (sums, out) = (&mut self.sums, &mut self.out);
            self.packer.finish(ChunkKind::Keys, sums, out);
            self.stage = Stage::Sessions { after: Index(0) };
        }
        self.write_out(disk)?;
        Ok(self.writing())
    }

    fn write_sessions<D: Disk<File = F>>(&mut self, disk: &D) -> Result<Step, Error> {
        let (Stage::Sessions { after }, Some(view)) = (&mut self.stage, &self.view) else {
            unreachable!("the view is there while sessions are written");
        };
        let mut bytes = 0;
        for image in view.sessions_after(*after) {
            let (sums, out) = (&mut self.sums, &mut self.out);
            bytes += self.packer.session(&image, sums, out);
            self.digest = self.digest.wrapping_add(digest::session(&image));
            *after = image.last_write();
            if bytes >= CHUNK_BYTES {
                break;
            }
        }
        if bytes >= CHUNK_BYTES {
            self.write_out(disk)?;
            return Ok(self.writing());
        }
        let (sums, out) = (&mut self.sums, &mut self.out);
        self.packer.finish(ChunkKind::Sessions, sums, out);
        self.close(disk)
    }

    /// Ends the file with its trailer, makes it durable, and begins to read it again.
    fn close<D: Disk<File = F>>(&mut self, disk: &D) -> Result<Step, Error> {
        let kept = self.view.as_ref().map(View::digest);
        if let Some(kept) = kept.filter(|kept| *kept != self.digest) {
            let counted = self.digest;
            return Err(Error::Digest { kept, counted });
        }
        let trailer = self.sums.trailer(self.digest);
        self.out.extend_from_slice(&trailer.encode());
        self.write_out(disk)?;
        self.sink.finish(disk)?;
        // What is read again comes from the device, or the check would prove nothing.
        let total_bytes = self.sink.bytes();
        let mut ahead = ReadAhead::new();
        let mut source = FileReader::new(disk, self.sink.file(), &mut ahead, 0, total_bytes);
        let verifier = Verifier::open(&mut source, &temporary_name(self.id()))?;
        self.stage = Stage::Verifying(Box::new(verifier), ahead, trailer);
        Ok(Step::Verifying {
            done_bytes: HEADER_BYTES as u64,
            total_bytes,
        })
    }

    fn verify<D: Disk<File = F>>(&mut self, disk: &D) -> Result<Step, Error> {
        let Stage::Verifying(verifier, ahead, written) = &mut self.stage else {
            unreachable!("what is verified was written");
        };
        let (file, total_bytes) = (self.sink.file(), self.sink.bytes());
        let mut source = FileReader::new(disk, file, ahead, verifier.offset(), total_bytes);
        match verifier.step(&mut source)? {
            Found::Chunk(_) => Ok(Step::Verifying {
                done_bytes: verifier.offset(),
                total_bytes,
            }),
            Found::End(verified) => {
                let info = verified.info();
                let name = temporary_name(info.id);
                if verified.trailer != *written || verified.header != self.header {
                    let what = "it is another snapshot than the one that was written";
                    return Err(Error::damaged(&name, 0, what));
                }
                self.stage = Stage::Ended;
                publish(disk, &name, info.id)?;
                Ok(Step::Published(info))
            }
        }
    }

    fn writing(&self) -> Step {
        Step::Writing {
            done_keys: self.done_keys,
            total_keys: self.header.head.keys,
        }
    }

    fn write_out<D: Disk<File = F>>(&mut self, disk: &D) -> Result<(), Error> {
        self.sink.write(disk, &self.out)?;
        self.out.clear();
        Ok(())
    }
}

fn temporary_name(id: EntryId) -> String {
    name(id, UNFINISHED_SUFFIX)
}
