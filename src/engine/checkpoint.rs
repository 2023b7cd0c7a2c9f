//! Checkpoints: the stored state of an instance, from which it resumes without its earlier history.
//!
//! Invariant: a checkpoint is written in one batch with the history up to it, and says no more than
//! that history: replay of the entries before it reaches the same state. So a checkpoint may be
//! missing, lost, or of another version, as long as the history is kept. Only with
//! [`Retention::Latest`] is the checkpoint the instance itself.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::builtins::TABLE;
use crate::code::Code;
use crate::machine::snapshot::{self, SavedRequest};
use crate::machine::{Data, Request};

use super::entry::{Entry, GRACE};
use super::stored;

/// The part of the history before a checkpoint that is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    /// All of it, so that the instance can be replayed from its beginning.
    #[default]
    All,
    /// Nothing, so that an instance that runs forever takes no more space than its state.
    Latest,
}

/// The policy for checkpoints: when they are written, and what history is kept before them.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoints {
    /// The estimated time of replay, in nanoseconds, that a checkpoint must save. With 0, each
    /// chunk of history gets one.
    pub after: u64,
    pub retention: Retention,
}

/// The approximate time to replay one entry of a history, in nanoseconds.
pub(super) const ENTRY: u64 = 2_000;
/// The approximate time that one unit of fuel takes, in nanoseconds.
pub(super) const FUEL: u64 = 30;
/// The nanoseconds of replay that a checkpoint must save for each byte that it takes.
const PER_BYTE: u64 = 200;
/// The factor by which replay must take longer for a checkpoint when no history is being written,
/// as in a long computation without requests.
const COMPUTES: u64 = 100;

impl Default for Checkpoints {
    fn default() -> Checkpoints {
        Checkpoints { after: 10_000_000, retention: Retention::All }
    }
}

impl Checkpoints {
    /// Returns the size in bytes that a checkpoint may have, given the time that replay takes by
    /// now. Returns `None` if no checkpoint is due, or if the state, of about `expected` bytes, is
    /// too large. If history is being written anyway (`writes`), a checkpoint is due sooner.
    pub(super) fn due(&self, replay: u64, expected: usize, writes: bool) -> Option<usize> {
        if self.after == 0 {
            return writes.then_some(usize::MAX);
        }
        let worth = if writes { replay } else { replay / COMPUTES };
        let most = (worth / PER_BYTE) as usize;
        (worth >= self.after && most >= expected).then_some(most)
    }
}

/// An open request, as stored.
#[derive(Serialize, Deserialize, Clone, PartialEq)]
pub(super) struct SavedOpen {
    pub request: SavedRequest,
    pub time: i64,
    pub attempt: u32,
    pub begins: i64,
    pub begun: bool,
}

/// The state of an instance after the chunks before number `chunks`.
#[derive(Serialize, Deserialize, Clone, PartialEq)]
pub struct Checkpoint {
    /// The [`fingerprint`] of the code that the machine ran.
    pub(super) code: u64,
    /// The life and the execution that the checkpoint belongs to.
    pub life: u64,
    pub execution: u32,
    /// The number of the first chunk after the checkpoint, and the checksum of the chunk before.
    pub chunks: u64,
    pub checksum: u64,
    /// Whether the history before the checkpoint was deleted.
    pub trimmed: bool,
    pub(super) open: Vec<SavedOpen>,
    /// The unanswered messages whose answers nobody waits for any more.
    pub(super) given_up: Vec<u64>,
    pub(super) machine: Data,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Checkpoint(before chunk {}, {} bytes)", self.chunks, self.machine.0.len())
    }
}

impl Checkpoint {
    pub(super) fn new(
        code: &Code,
        of: (u64, u32),
        at: (u64, u64),
        trimmed: bool,
        requests: (Vec<SavedOpen>, Vec<u64>),
        machine: Vec<u8>,
    ) -> Checkpoint {
        let ((life, execution), (chunks, checksum), (open, given_up)) = (of, at, requests);
        let code = fingerprint(code);
        Checkpoint {
            code,
            life,
            execution,
            chunks,
            checksum,
            trimmed,
            open,
            given_up,
            machine: Data(machine),
        }
    }

    /// Returns the bytes, with a checksum of their own.
    pub fn encode(&self) -> Vec<u8> {
        let body = stored::encode(self);
        let mut out = xxh3_64(&body).to_le_bytes().to_vec();
        out.extend(body);
        out
    }

    /// Decodes a checkpoint. Returns `None` if the bytes are damaged or of another version.
    pub fn decode(bytes: &[u8]) -> Option<Checkpoint> {
        let (checksum, body) = bytes.split_first_chunk::<8>()?;
        (u64::from_le_bytes(*checksum) == xxh3_64(body)).then(|| stored::decode(body))?
    }

    /// Whether an instance of this code can resume from the checkpoint.
    pub fn is_of(&self, code: &Code) -> bool {
        self.code == fingerprint(code)
    }

    /// Returns the open requests, as entries of the history before.
    pub fn open_entries(&self) -> Vec<Entry> {
        let entry = |open: &SavedOpen| {
            let request = snapshot::request(open.request.clone())?;
            Some(Entry::requested(&request, open.time))
        };
        // The program did not ask for a grace period.
        let entries = self.open.iter().filter_map(entry);
        entries.filter(|entry| entry.seq() != Some(GRACE)).collect()
    }

    /// Returns the open requests with their times.
    pub fn requests(&self) -> Vec<(Request, i64)> {
        let open = self.open.iter().filter_map(|open| {
            let request = snapshot::request(open.request.clone())?;
            Some((request, open.time))
        });
        open.filter(|(request, _)| request.seq != GRACE).collect()
    }

    /// Returns the machine's state, as bytes.
    pub fn state(&self) -> &[u8] {
        &self.machine.0
    }

    /// Returns the size of the machine's state in bytes.
    pub fn size(&self) -> usize {
        self.machine.0.len()
    }
}

/// Returns a hash of all that gives a machine's state its meaning: the instructions of all
/// functions, the builtins that they mention by number, and this version, whose machine runs them.
fn fingerprint(code: &Code) -> u64 {
    *code.fingerprint.get_or_init(|| {
        use std::hash::{Hash, Hasher};
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        env!("CARGO_PKG_VERSION").hash(&mut hasher);
        snapshot::FORM.hash(&mut hasher);
        for function in &code.functions {
            (&function.ops, function.registers, function.params, function.has_env).hash(&mut hasher);
        }
        for builtin in TABLE {
            builtin.name.hash(&mut hasher);
        }
        hasher.finish()
    })
}
