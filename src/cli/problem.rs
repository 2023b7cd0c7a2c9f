//! Problems of a command, as people see them.

use std::io::Write;

use crate::archive::ArchiveError;
use crate::host::HostError;
use crate::kv::StoreError;
use crate::render::coloured;

use super::{FAILED, INTERNAL, INTERRUPTED, STORE};

/// A problem: a title, a hint, and the exit code.
#[derive(Debug)]
pub struct Problem {
    pub code: u8,
    pub title: String,
    pub hint: Option<String>,
}

impl Problem {
    pub fn new(code: u8, title: impl Into<String>) -> Problem {
        Problem { code, title: title.into(), hint: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }

    /// Writes the problem to standard error. An empty title means that the problem was shown
    /// already.
    pub fn show(&self) {
        if self.title.is_empty() {
            return;
        }
        let (red, plain) = if coloured() { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
        let _ = writeln!(std::io::stderr(), "{red}Error:{plain} {}", self.title);
        if let Some(hint) = &self.hint {
            let _ = writeln!(std::io::stderr(), "  Hint: {hint}");
        }
    }
}

/// Writes a line about the progress to standard error.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        let code = if matches!(error, StoreError::Internal { .. }) { INTERNAL } else { STORE };
        Problem::new(code, error.to_string()).hint(error.hint())
    }
}

impl From<HostError> for Problem {
    fn from(error: HostError) -> Problem {
        match error {
            HostError::Store(error) => error.into(),
            HostError::Output(_) => Problem::new(STORE, error.to_string())
                .hint("nothing that was printed counts as lost; go on with `durable resume`"),
            HostError::Unreadable(error) => unreadable(error),
            HostError::NotProvided(_) => Problem::new(FAILED, error.to_string())
                .hint("the Rust program around registers it, and goes on from here: docs/embedding.md"),
            HostError::Interrupted => Problem::new(INTERRUPTED, ""),
        }
    }
}

impl From<ArchiveError> for Problem {
    fn from(error: ArchiveError) -> Problem {
        match error {
            ArchiveError::Store(error) => error.into(),
            ArchiveError::Query(error) => error.into(),
            ArchiveError::Output(error) => {
                let reason = crate::os::reason(&error);
                Problem::new(STORE, format!("the export can't be written: {reason}"))
            }
            ArchiveError::Input(_) | ArchiveError::Refused(_) => Problem::new(STORE, error.to_string()),
        }
    }
}

/// Returns the problem that a store cannot be read.
pub fn unreadable(reason: impl std::fmt::Display) -> Problem {
    Problem::new(STORE, reason.to_string()).hint("check the store with `durable store verify`")
}
