//! The debugger's core: any moment of an instance's run, forwards and backwards.
//!
//! An instance's history makes its run repeatable. A session repeats the run with *debug code*,
//! which is compiled so that every variable can be seen at every statement, and which asks for the
//! same requests. Going back is a snapshot of the machine before that moment, and forward again.
//!
//! Invariant: nothing is written, and nothing is done outside. A session only reads, through `api`,
//! so it can look at a store that another process uses, and at one that can't be written. What it
//! says about a moment depends on the history and the moment alone, and not on how one came there.

mod breakpoints;
mod evaluate;
mod expressions;
mod points;
mod position;
mod program;
mod replay;
mod search;
mod session;
mod snapshots;
pub mod view;
mod watch;

pub use breakpoints::{Breakpoints, Stop};
pub use points::{Breakpoint, Hits, On, Watch};
pub use position::Position;
pub use replay::{Asked, At, End, described};
pub use search::{Direction, Step, Stepped};
pub use session::{DebugError, Session};
pub use watch::Written;
