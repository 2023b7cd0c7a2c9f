//! Positions in a run.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// A moment of a run: the number of entries of the history that were taken in, and the number of
/// statements that have begun since. `0.0` is the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub entry: u64,
    pub statement: u64,
}

impl Position {
    /// Returns the moment at which an entry was taken in.
    pub fn at(entry: u64) -> Position {
        Position { entry, statement: 0 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.entry, self.statement)
    }
}

impl FromStr for Position {
    type Err = ParseIntError;

    /// Reads `147.12`, or `147` for the moment at which that entry was taken in.
    fn from_str(text: &str) -> Result<Position, ParseIntError> {
        let (entry, statement) = text.split_once('.').unwrap_or((text, "0"));
        Ok(Position { entry: entry.parse()?, statement: statement.parse()? })
    }
}
