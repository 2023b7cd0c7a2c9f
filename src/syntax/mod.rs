//! From text to a syntax tree.
//!
//! Invariant: nothing here knows the meaning of a program. For every text, this layer returns a
//! tree and a list of diagnostics. It never panics, and its trees are never deeper than
//! [`tree::MAX_DEPTH`], so that every later walk over a tree may recurse.

mod ahead;
mod cascades;
pub mod diagnostic;
mod division;
mod foreign;
mod habit;
pub mod layout;
pub mod lexer;
pub mod parser;
mod quoting;
pub mod source;
pub mod spec;
pub mod token;
pub mod tree;
mod unexpected;

pub use diagnostic::{Diagnostic, Label, Severity};
pub use parser::parse;
pub use source::{Place, Sources, Span};

#[allow(clippy::all, unused, missing_docs)]
mod grammar {
    include!(concat!(env!("OUT_DIR"), "/df.rs"));
}
