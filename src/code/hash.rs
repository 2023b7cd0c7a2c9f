//! A program's identity: a hash of its sources.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::syntax::Sources;

/// SHA-256 over the names and texts of all modules, the standard library's among them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub struct ProgramHash(pub [u8; 32]);

impl fmt::Display for ProgramHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ProgramHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The identity of a program with these sources.
pub fn program_hash(sources: &Sources) -> ProgramHash {
    modules_hash(sources.files.iter().map(|source| (source.name.as_str(), source.text.as_str())))
}

/// The identity of a program with modules of these names and texts.
pub fn modules_hash<'a>(modules: impl Iterator<Item = (&'a str, &'a str)>) -> ProgramHash {
    let mut hasher = Sha256::new();
    for (name, text) in modules {
        for part in [name, text] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    ProgramHash(hasher.finalize().into())
}

/// The identity of one text.
pub fn text_hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}
