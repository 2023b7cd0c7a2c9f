//! Checkpoints: the state of an instance as bytes, from which it goes on without its history before.
//!
//! Invariant: a checkpoint is written in one batch with the history up to it, and says no more than that history: replay of the
//! entries before it comes to the same state. So it may be left out, be of another version, or be lost, as long as
//! the history is kept; only with [`Retention::Latest`] it is what the instance is.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::builtins::TABLE;
use crate::code::Code;
use crate::machine::Data;
use crate::machine::snapshot::{self, SavedRequest};

use super::entry::Entry;
use super::stored;

/// What is kept of the history before a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    /// All of it: the instance can be replayed from its beginning.
    #[default]
    All,
    /// Nothing: an instance that runs forever takes no more space than its state.
    Latest,
}

/// When checkpoints are written, and what is kept before them.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoints {
    /// Nanoseconds of replay, by estimate, that are worth one; none are written for less. With 0, each chunk of history
    /// has one.
    pub after: u64,
    pub retention: Retention,
}

/// What one entry of a history takes to be replayed, in nanoseconds, about.
pub(super) const ENTRY: u64 = 2_000;
/// What one unit of fuel takes, in nanoseconds, about.
pub(super) const FUEL: u64 = 30;
/// A checkpoint must save this many nanoseconds of replay for each byte that it takes.
const PER_BYTE: u64 = 200;
/// A computation that asks for nothing must have taken this many times as long.
const COMPUTES: u64 = 100;

impl Default for Checkpoints {
    fn default() -> Checkpoints {
        Checkpoints { after: 10_000_000, retention: Retention::All }
    }
}

impl Checkpoints {
    /// The bytes that a checkpoint may take when replay has come to take so long; none when none is due, the state
    /// being known to take `expected`. What is being written anyway is worth one sooner.
    pub(super) fn due(&self, replay: u64, expected: usize, writes: bool) -> Option<usize> {
        if self.after == 0 {
            return writes.then_some(usize::MAX);
        }
        let worth = if writes { replay } else { replay / COMPUTES };
        let most = (worth / PER_BYTE) as usize;
        (worth >= self.after && most >= expected).then_some(most)
    }
}

/// A request without an answer.
#[derive(Serialize, Deserialize, Clone, PartialEq)]
pub(super) struct SavedOpen {
    pub request: SavedRequest,
    pub time: i64,
    pub attempt: u32,
    pub begins: i64,
    pub begun: bool,
}

/// An instance's state after the chunks before `chunks`.
#[derive(Serialize, Deserialize, Clone, PartialEq)]
pub struct Checkpoint {
    /// Which code the machine ran: [`fingerprint`].
    pub(super) code: u64,
    /// Of which life and execution it is.
    pub life: u64,
    pub execution: u32,
    /// The number of the first chunk after it, and the checksum of the one before.
    pub chunks: u64,
    pub checksum: u64,
    /// Whether the history before it is gone.
    pub trimmed: bool,
    pub(super) open: Vec<SavedOpen>,
    /// Messages that nobody waits for any more, and that were not answered.
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

    /// The bytes, with a checksum of their own.
    pub fn encode(&self) -> Vec<u8> {
        let body = stored::encode(self);
        let mut out = xxh3_64(&body).to_le_bytes().to_vec();
        out.extend(body);
        out
    }

    /// None when the bytes are not what was written, or of another version.
    pub fn decode(bytes: &[u8]) -> Option<Checkpoint> {
        let (checksum, body) = bytes.split_first_chunk::<8>()?;
        (u64::from_le_bytes(*checksum) == xxh3_64(body)).then(|| stored::decode(body))?
    }

    /// Whether an instance of this code can go on from it.
    pub fn is_of(&self, code: &Code) -> bool {
        self.code == fingerprint(code)
    }

    /// The requests that are open, as entries of the history before.
    pub fn open_entries(&self) -> Vec<Entry> {
        let entry = |open: &SavedOpen| {
            let request = snapshot::request(open.request.clone())?;
            Some(Entry::requested(&request, open.time))
        };
        self.open.iter().filter_map(entry).collect()
    }

    /// The machine's state, as bytes.
    pub fn state(&self) -> &[u8] {
        &self.machine.0
    }

    /// Bytes of the machine's state.
    pub fn size(&self) -> usize {
        self.machine.0.len()
    }
}

/// What must be the same for a machine's state to mean the same: the instructions of all functions, the builtins that
/// they mention by number, and this version, whose machine it is.
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
