//! Archives: a store as lines of JSON (an export), and such lines as a store again (an import).
//!
//! Invariant: an export has every key of its store once, in order, and names the keys that it
//! leaves out. An import is all or nothing: it overwrites nothing, brings nothing incomplete, and
//! exports as the same lines. Beside `engine` and `host`, only this layer knows the keys of a
//! store. This layer opens no files and shows nothing to people: it returns what it left out or
//! refused.

mod chain;
mod error;
mod export;
pub mod forms;
mod import;
mod incoming;
mod line;
mod parse;
mod places;
mod redact;
mod trace;
mod verify;

pub use error::{ArchiveError, Refusal};
pub use export::{Exported, Exporting, export};
pub use import::{import, import_into_cluster, read};
pub use incoming::Incoming;
pub use redact::redact_history;
pub use trace::{Finding, Traced, trace};
pub use verify::{Verification, verify, verify_cluster};
