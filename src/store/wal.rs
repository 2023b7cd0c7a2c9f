//! The write-ahead log: one file of small commits, which go to the database together later.
//!
//! Each flush appends a *frame*: a checksum, the length of the rest, the *generation*, the number
//! of the frame within its generation, and the [changes](super::change), which are compressed when
//! there are many. The generation is the number of commits that the database has. When the database
//! has taken the changes, it has one commit more. All earlier frames are then old, and the next
//! frame overwrites them from the beginning.
//!
//! A frame is begun only when the frame before it is durable and the database has durably reached
//! the frame's generation. So the last frame may be torn; such a frame was never acknowledged and
//! is left out. Two findings prove that acknowledged data is lost, which is damage: a whole frame
//! after a frame that is not whole, and a frame of a generation that the database does not reach.
//!
//! The file has its full size from the beginning, filled with zeros, because a write within a file
//! is durable without an update of the file's size. Checksums have a seed that is drawn when the
//! file is made, so that no program can write bytes that look like a frame.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::compress::{compress, decompress};
use crate::kv::StoreError;
use crate::os;

use super::change::{Change, Writes, pack, replay};
use super::lock::{Identity, sync_parent, wait_for};
use super::record::bytes;

/// The size of the file in bytes.
pub(super) const CAPACITY: usize = 128 << 10;
/// The first bytes of the file; the seed of the checksums and a checksum of the head follow.
const MAGIC: &[u8; 8] = b"df-wal\x00\x01";
/// The number of bytes before the first frame.
const HEAD: usize = 24;
/// The number of bytes in a frame that its length does not count: the checksum and the length.
const FRAME_HEAD: usize = 12;
/// An upper bound of the bytes of a frame's numbers; most are small.
const NUMBERS: usize = 24;

mod flips;
pub mod probe;
mod rescue;

pub(super) struct Wal {
    path: PathBuf,
    /// The open file, or `None` as long as there is no file.
    open: Option<Open>,
    /// Whether there is an unfinished file, which holds nothing.
    is_unfinished: bool,
}

struct Open {
    file: File,
    identity: Identity,
    seed: u64,
    /// The generation of the last frame.
    generation: u64,
    /// The number of frames of that generation.
    frames: u64,
    /// The place of the next frame.
    end: usize,
    /// The key of the last change in these frames.
    last: Vec<u8>,
    /// Whether a write failed; nothing more is written then, because the state of the disk is
    /// unknown.
    failed: bool,
}

/// The frames of a generation.
struct Frames {
    count: u64,
    /// The place of the next frame.
    end: usize,
    /// The writes that the frames stand for.
    writes: Writes,
    /// The key of the last change in the frames.
    last: Vec<u8>,
}

/// A frame of the file.
struct Frame {
    generation: u64,
    number: u64,
    /// The checksum in its head.
    known: u64,
    /// The place of everything that the checksum covers.
    rest: Range<usize>,
    is_packed: bool,
    /// The place of the changes.
    changes: Range<usize>,
}

impl Wal {
    /// Opens the log at a path, and returns the writes that a database with `commits` commits
    /// lacks. `expected` is the least number of frames, or `None` if there need be no log. Fails if
    /// the log is damaged or unreadable, or if another process has it.
    pub fn open(path: &Path, commits: u64, expected: Option<u64>) -> Result<(Wal, Writes), StoreError> {
        let failed = |error| StoreError::io("read", path, error);
        let mut wal = Wal { path: path.to_path_buf(), open: None, is_unfinished: false };
        let file = match File::options().read(true).write(true).open(path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        if let Some(file) = &file {
            wait_for(file, path, path.parent().unwrap_or(path), File::try_lock)?;
        }
        wal.is_unfinished = file.is_some();
        let Some(Found { seed, frames }) = read(path, file.as_ref(), commits, expected)? else {
            return Ok((wal, Writes::new()));
        };
        let Frames { count, end, writes, last } = frames;
        if let Some(file) = file {
            if count > 0 {
                // The last frames may be in the system's memory alone.
                file.sync_data().map_err(failed)?;
            }
            let identity = Identity::of(&file, path).map_err(failed)?;
            let open =
                Open { file, identity, seed, generation: commits, frames: count, end, last, failed: false };
            (wal.open, wal.is_unfinished) = (Some(open), false);
        }
        Ok((wal, writes))
    }

    /// Reads the log at a path like [`Wal::open`], and changes nothing.
    pub fn look(path: &Path, commits: u64, expected: Option<u64>) -> Result<(Wal, Writes), StoreError> {
        let file = match File::open(path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(StoreError::io("read", path, error)),
        };
        let found = read(path, file.as_ref(), commits, expected)?;
        let writes = found.map(|found| found.frames.writes).unwrap_or_default();
        Ok((Wal::absent(path), writes))
    }

    /// Returns all readable writes of a log that may be damaged, and descriptions of the losses.
    pub fn salvage(path: &Path, commits: u64) -> (Wal, Writes, Vec<String>) {
        let (writes, lost) = match fs::read(path) {
            Ok(bytes) => rescue::rescue(bytes, commits).taken(),
            Err(error) if error.kind() == ErrorKind::NotFound => (Writes::new(), Vec::new()),
            Err(error) => (Writes::new(), vec![StoreError::io("read", path, error).to_string()]),
        };
        (Wal::absent(path), writes, lost)
    }

    fn absent(path: &Path) -> Wal {
        Wal { path: path.to_path_buf(), open: None, is_unfinished: false }
    }

    /// Checks that the file is still in its place: `fully` as in [`Identity::check`], otherwise as
    /// in [`Identity::check_there`].
    pub fn check(&self, fully: bool) -> Result<(), StoreError> {
        match &self.open {
            Some(open) if !fully => open.identity.check_there(),
            Some(open) => open.identity.check(),
            None => Ok(()),
        }
    }

    /// Returns whether a frame with `bytes` bytes of changes fits after the frames of a generation.
    pub fn has_room(&self, generation: u64, bytes: usize) -> bool {
        let end = match &self.open {
            Some(open) if open.generation == generation => open.end,
            _ => HEAD,
        };
        end + FRAME_HEAD + NUMBERS + bytes <= CAPACITY
    }

    /// Returns the number of frames of a generation, or `None` if there is no file.
    pub fn frames(&self, generation: u64) -> Option<u64> {
        self.open.as_ref().map(|open| if open.generation == generation { open.frames } else { 0 })
    }

    /// Appends a frame durably. The database must durably have reached the generation, and the
    /// frame must fit.
    pub fn append(&mut self, generation: u64, changes: &[Change]) -> Result<(), StoreError> {
        let written = match &mut self.open {
            Some(open) => open.append(generation, changes),
            open => {
                if std::mem::take(&mut self.is_unfinished) {
                    let removed = fs::remove_file(&self.path);
                    removed.map_err(|error| StoreError::io("remove", &self.path, error))?;
                }
                match made(&self.path) {
                    // Another process has put a file there.
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                        return Err(StoreError::Replaced { path: self.path.clone() });
                    }
                    made => made.and_then(|made| {
                        open.insert(made).append(generation, changes)?;
                        sync_parent(&self.path);
                        Ok(())
                    }),
                }
            }
        };
        written.map_err(|error| StoreError::io("write to", &self.path, error))
    }

    /// Removes the file, after the database has durably taken all of its writes.
    pub fn remove(&mut self) -> Result<(), StoreError> {
        match self.open.take().map(|_| fs::remove_file(&self.path)) {
            Some(Err(error)) if error.kind() != ErrorKind::NotFound => {
                Err(StoreError::io("remove", &self.path, error))
            }
            _ => Ok(()),
        }
    }
}

impl Open {
    fn append(&mut self, generation: u64, changes: &[Change]) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("an earlier write failed"));
        }
        if self.generation != generation {
            (self.generation, self.frames, self.end) = (generation, 0, HEAD);
            self.last.clear();
        }
        let plain = pack(changes, &self.last);
        let packed = compress(&plain);
        let mut rest = bytes(&(generation, self.frames, packed.is_some()));
        rest.extend(packed.unwrap_or(plain));
        let length = (rest.len() as u32).to_le_bytes();
        let frame = [&check(&rest, self.seed).to_le_bytes()[..], &length, &rest].concat();
        self.failed = true;
        self.file.write_all_at(&frame, self.end as u64)?;
        self.file.sync_data()?;
        self.failed = false;
        (self.frames, self.end) = (self.frames + 1, self.end + frame.len());
        if let Some(change) = changes.last() {
            self.last.clone_from(&change.key);
        }
        Ok(())
    }
}

/// The contents of a log that is whole.
struct Found {
    seed: u64,
    frames: Frames,
}

/// Reads a log; returns `None` if there is no log or an unfinished one.
fn read(
    path: &Path,
    file: Option<&File>,
    commits: u64,
    expected: Option<u64>,
) -> Result<Option<Found>, StoreError> {
    let bytes = match file {
        None => None,
        Some(file) => {
            let mut bytes = Vec::new();
            let read = file.take(CAPACITY as u64).read_to_end(&mut bytes);
            read.map_err(|error| StoreError::io("read", path, error))?;
            Some(bytes)
        }
    };
    read_bytes(bytes.as_deref(), commits, expected).map_err(|what| damaged(path, what))
}

/// Reads a log like [`read`], from the bytes of its file, if there is one. An error says what is
/// wrong with the log.
fn read_bytes(
    bytes: Option<&[u8]>,
    commits: u64,
    expected: Option<u64>,
) -> Result<Option<Found>, &'static str> {
    let none = |what| if expected.is_some() { Err(what) } else { Ok(None) };
    let Some(bytes) = bytes else { return none("is missing") };
    let Some(seed) = seed(bytes).filter(|_| bytes.len() == CAPACITY) else {
        // The file is unfinished, unless something says that the log existed.
        return none("is not readable");
    };
    let frames = frames(bytes, seed, commits);
    if frames.count < expected.unwrap_or(0) {
        return Err("lacks commits at its end");
    }
    if (frames.end..CAPACITY).any(|at| frame(bytes, at, seed, commits).is_some()) {
        return Err("has commits after one that is gone");
    }
    Ok(Some(Found { seed, frames }))
}

/// Makes the file, but not durably.
fn made(path: &Path) -> io::Result<Open> {
    let seed = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
    let mut bytes = vec![0; CAPACITY];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&seed.to_le_bytes());
    let check = xxh3_64(&bytes[..16]).to_le_bytes();
    bytes[16..HEAD].copy_from_slice(&check);
    let mut file = os::private_file().create_new(true).read(true).write(true).open(path)?;
    file.try_lock()?;
    file.write_all(&bytes)?;
    let identity = Identity::of(&file, path)?;
    Ok(Open { file, identity, seed, generation: 0, frames: 0, end: HEAD, last: Vec::new(), failed: false })
}

/// Returns the seed of the checksums, or `None` if the head of the file is not whole.
fn seed(bytes: &[u8]) -> Option<u64> {
    let (head, rest) = bytes.split_at_checked(16)?;
    let (check, _) = rest.split_first_chunk::<8>()?;
    let is_whole = head.starts_with(MAGIC) && u64::from_le_bytes(*check) == xxh3_64(head);
    is_whole.then(|| head.last_chunk::<8>().map(|seed| u64::from_le_bytes(*seed)))?
}

/// Returns the checksum of the bytes that follow a frame's length.
fn check(rest: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(rest, seed)
}

/// Reads the frames of a generation, from the beginning.
fn frames(bytes: &[u8], seed: u64, generation: u64) -> Frames {
    let mut found = Frames { count: 0, end: HEAD, writes: Writes::new(), last: Vec::new() };
    while let Some(frame) = frame(bytes, found.end, seed, generation)
        && (frame.generation, frame.number) == (generation, found.count)
        && let Some(changes) = frame.changes(bytes)
        && replay(&mut found.writes, &mut found.last, &changes).is_some()
    {
        (found.count, found.end) = (found.count + 1, frame.rest.end);
    }
    found
}

/// Returns the frame at a place if it is whole and its generation is at least `least`.
fn frame(bytes: &[u8], at: usize, seed: u64, least: u64) -> Option<Frame> {
    candidate(bytes, at, least).filter(|frame| check(&bytes[frame.rest.clone()], seed) == frame.known)
}

/// Returns the frame whose head is at a place if its generation is at least `least`. The checksum
/// is not looked at.
fn candidate(bytes: &[u8], at: usize, least: u64) -> Option<Frame> {
    let (known, rest) = bytes.get(at..)?.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let rest = rest.get(..u32::from_le_bytes(*length) as usize)?;
    let ((generation, number, is_packed), changes) =
        postcard::take_from_bytes::<(u64, u64, bool)>(rest).ok()?;
    let begin = at + FRAME_HEAD;
    let end = begin + rest.len();
    (generation >= least).then_some(Frame {
        generation,
        number,
        known: u64::from_le_bytes(*known),
        rest: begin..end,
        is_packed,
        changes: end - changes.len()..end,
    })
}

impl Frame {
    /// Returns the changes, uncompressed, or `None` if they can't be uncompressed.
    fn changes<'a>(&self, bytes: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let changes = bytes.get(self.changes.clone())?;
        if self.is_packed { decompress(changes).map(Cow::Owned) } else { Some(Cow::Borrowed(changes)) }
    }
}

fn damaged(path: &Path, what: &str) -> StoreError {
    StoreError::Damaged { what: format!("the write-ahead log {} {what}", path.display()) }
}
