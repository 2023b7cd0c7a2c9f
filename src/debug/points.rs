//! Breakpoints and watched variables as data.

use crate::code::FunctionId;

/// A breakpoint.
#[derive(Clone, Debug)]
pub struct Breakpoint {
    pub id: u32,
    pub on: On,
    /// An expression that must be true.
    pub condition: Option<String>,
    pub hits: Option<Hits>,
    /// A text to print in place of a stop. `{expression}` in it is replaced by a value.
    pub log: Option<String>,
}

/// The thing at which a run stops.
#[derive(Clone, Debug)]
pub enum On {
    /// Statements, by their numbers: those of a line or the first one of a function.
    Statements(Vec<u32>),
    /// A request of this name, or the answer to one.
    Request(String),
    Answer(String),
    /// An error that is thrown, of a kind or of any.
    Thrown(Option<String>),
    /// The error that ended the instance.
    Uncaught,
    /// A change of a variable.
    Change(Watch),
}

/// The hits at which a breakpoint stops.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hits {
    At(u64),
    From(u64),
    Every(u64),
}

impl Hits {
    pub(super) fn includes(self, hit: u64) -> bool {
        match self {
            Hits::At(n) => hit == n,
            Hits::From(n) => hit >= n,
            Hits::Every(n) => n > 0 && hit.is_multiple_of(n),
        }
    }
}

/// A variable of a call, or of every call of its function at that depth of its task.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    pub task: u64,
    pub call: usize,
    pub function: FunctionId,
    pub name: String,
}
