//! The identity of a program: a hash of its sources.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::syntax::Sources;

/// The SHA-256 of the names and texts of all modules, including those of the standard library.
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

/// Returns the identity of a program with these sources.
pub fn program_hash(sources: &Sources) -> ProgramHash {
    modules_hash(sources.files.iter().map(|source| (source.name.as_str(), source.text.as_str())))
}

/// Returns the identity of a program whose modules have these names and texts.
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

/// Returns the SHA-256 of one text.
pub fn text_hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}
