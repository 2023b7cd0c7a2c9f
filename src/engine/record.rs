//! What is kept of an instance beside its history.

use serde::{Deserialize, Serialize};

use crate::code::ProgramHash;
use crate::machine::{Data, ErrorData};

/// Written when an instance begins and when it ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceRecord {
    pub id: String,
    /// The program it began with, and runs to its end.
    pub program: ProgramHash,
    /// The file that the program was read from, as it was named then.
    pub file: String,
    /// What it runs: `script`.
    pub function: String,
    /// The arguments, a list.
    pub args: Data,
    /// When it began, in nanoseconds since 1970.
    pub created: i64,
    pub status: Status,
    /// When it ended.
    pub ended: Option<i64>,
    /// At the end: how many chunks its history has.
    pub chunks: u64,
}

/// Where an instance is in its life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Status {
    Running,
    Completed(Data),
    Failed(ErrorData),
}

const VERSION: u8 = 1;

impl Status {
    /// One word.
    pub fn word(&self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Completed(_) => "completed",
            Status::Failed(_) => "failed",
        }
    }
}

impl InstanceRecord {
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    pub fn decode(bytes: &[u8]) -> Option<InstanceRecord> {
        decode(bytes)
    }
}

/// A value with the version of its form before it.
pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Writing to memory has no way to fail for these types: they are sequences and maps of known length.
    postcard::to_extend(value, vec![VERSION]).unwrap_or_default()
}

pub(super) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let (&VERSION, body) = bytes.split_first()? else { return None };
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}
