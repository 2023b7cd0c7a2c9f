//! `durable repl`: a prompt whose session is an instance, so that the session survives a crash.

mod commands;
mod helper;
mod lifted;
mod prompt;
mod reader;
mod session;

use std::path::Path;

use crate::engine::query::last_number;
use crate::machine::bad_own_id;

use super::arguments::Repl;
use super::permissions::permissions;
use super::problem::{Problem, note, unreadable};
use super::{FAILED, INTERRUPTED, USAGE, access};

use commands::{Commands, Then};
pub use helper::Assistant;
use prompt::{Evaluated, Interrupter, Prompt};
use reader::{Read, Reader};

/// Reads entries, evaluates them and prints their values, until the input ends.
pub fn repl(asked: Repl) -> Result<u8, Problem> {
    let folder = &asked.store.store;
    let id = match &asked.session {
        Some(name) => name.clone(),
        None => fresh(folder)?,
    };
    if let Some(reason) = bad_own_id(&id) {
        return Err(Problem::new(USAGE, format!("`{id}` can't name a session: {reason}")));
    }
    let mut prompt = Prompt::open(folder, &id, permissions(&asked.may)?)?;
    let mut reader = Reader::start(folder)?;
    prompt.writes_above(reader.take_above());
    // The editor has a handler of its own, and was started first. Both handlers are called.
    watch_signals(prompt.interrupter.clone());
    if reader.is_person() {
        note(&format!(
            "durable {} · session {id} · `help` for help, `exit` or Ctrl-D to leave",
            env!("CARGO_PKG_VERSION")
        ));
    }
    let mut commands = Commands::default();
    let mut failed = false;
    if let Some(file) = &asked.file {
        let loaded = commands::load(&mut prompt, &file.display().to_string(), reader::WIDTH)?;
        failed = loaded != Evaluated::Done;
    }
    loop {
        reader.ask(prompt.session.entries.len() + 1, prompt.known(), prompt.handle());
        let (entry, width) = match prompt.wait_for(&mut || reader.read())? {
            Read::Entry(entry, width) => (entry, width),
            Read::End => break,
            Read::Failed(problem) => return Err(problem),
        };
        let meant = commands::meant(&entry, |name| prompt.session.names().iter().any(|known| known == name));
        let done = match entry.trim().strip_prefix(':').or(meant.as_deref()) {
            _ if entry.trim().is_empty() => continue,
            Some(command) => commands.run(&mut prompt, command, width),
            None => match prompt.evaluate(entry.trim_end(), width) {
                Ok(Evaluated::Over) => break,
                Ok(evaluated) => {
                    failed = evaluated != Evaluated::Done;
                    Ok(Then::GoOn)
                }
                Err(problem) => Err(problem),
            },
        };
        match done {
            Ok(Then::GoOn) => {}
            Ok(Then::Leave) => break,
            Err(problem) => {
                failed = true;
                problem.show();
            }
        }
    }
    let person = reader.is_person();
    prompt.close()?;
    if person {
        note(&format!("go on with it: durable repl --session {id}"));
        return Ok(0);
    }
    // A script on standard input fails if its last entry fails.
    Ok(if failed { FAILED } else { 0 })
}

/// Returns an id that no session has yet.
fn fresh(folder: &Path) -> Result<String, Problem> {
    let store = access::own(folder)?;
    let last = last_number(&store, "repl-").map_err(unreadable)?;
    store.close()?;
    Ok(format!("repl-{}", last + 1))
}

/// Makes SIGINT interrupt an evaluation. SIGTERM ends the process, and so does SIGINT when nothing
/// is evaluated; neither loses anything.
fn watch_signals(interrupter: Interrupter) {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]) else { return };
    let watch = move || {
        for signal in signals.forever() {
            if signal == SIGTERM || !interrupter.interrupt() {
                std::process::exit(i32::from(INTERRUPTED));
            }
        }
    };
    let _ = std::thread::Builder::new().name("signals".into()).spawn(watch);
}
