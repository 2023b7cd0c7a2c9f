//! `durable debug`: a run of an instance, forwards and backwards.
//!
//! On a terminal it is a screen of panes. Otherwise it reads one command a line and prints what
//! happened, so that scripts can use it. Both have the same commands.

mod commands;
mod debugger;
mod help;
pub mod places;
mod target;
mod terminal;

use std::io::{BufRead, IsTerminal};

use crate::debug::Position;

use super::arguments::Debug;
use super::problem::Problem;
use super::{STORE, USAGE, print};

pub use commands::read_hits;
use debugger::Debugger;
pub use debugger::operation_of;
pub use target::Target;

/// Debugs an instance.
pub fn debug(asked: Debug) -> Result<u8, Problem> {
    let target = Target::open(&asked.store.store)?;
    let mut debugger = Debugger::open(target, &asked.id, asked.operation)?;
    match &asked.at {
        Some(at) => {
            let position = position(at)?;
            debugger.session().seek(position);
        }
        None => {
            debugger.session().seek_interest();
        }
    }
    match std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        true => terminal::run(&mut debugger),
        false => plain(&mut debugger),
    }
}

/// Reads a position of the command line.
fn position(text: &str) -> Result<Position, Problem> {
    text.parse().map_err(|_| {
        Problem::new(USAGE, format!("`{text}` is not a position"))
            .hint("write the number of an entry, or an entry and a statement: 147, 147.12")
    })
}

/// Executes the commands of standard input.
fn plain(debugger: &mut Debugger) -> Result<u8, Problem> {
    print(&format!("{}\n", debugger.whereabouts()))?;
    for line in std::io::stdin().lock().lines() {
        let line =
            line.map_err(|error| Problem::new(STORE, format!("standard input can't be read: {error}")))?;
        let reply = debugger.execute(&line);
        if !reply.text.is_empty() {
            print(&format!("{}\n", reply.text))?;
        }
        if reply.quits {
            break;
        }
    }
    Ok(0)
}
