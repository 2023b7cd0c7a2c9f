//! `durable repl`: a prompt whose session is itself an instance, so that it goes on where it was, whatever happens.

mod commands;
mod helper;
mod prompt;
mod session;

use std::io::{BufRead, IsTerminal};
use std::path::Path;

use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{Config, Editor};

use crate::engine::keys;
use crate::store::Store;
use crate::syntax::parser::is_unfinished;

use super::arguments::Repl;
use super::permissions::permissions;
use super::problem::{Problem, note};
use super::{FAILED, INTERRUPTED, USAGE, access};

use commands::{Commands, Then};
pub use helper::Assistant;
use prompt::{Evaluated, Interrupter, Prompt};

/// Entries that are remembered from session to session.
const REMEMBERED: usize = 10_000;
/// Columns of a value where no terminal says how many it has.
const WIDTH: usize = 100;

/// Reads entries, evaluates them and shows what they give, until the end of the input.
pub fn repl(asked: Repl) -> Result<u8, Problem> {
    let folder = &asked.store.store;
    let id = match &asked.session {
        Some(name) => name.clone(),
        None => fresh(folder)?,
    };
    if let Some(reason) = keys::bad_id(&id) {
        return Err(Problem::new(USAGE, format!("`{id}` can't name a session: {reason}")));
    }
    let mut prompt = Prompt::open(folder, &id, permissions(&asked.may)?)?;
    let mut reader = Reader::new(folder);
    // After the editor, which has a handler of its own: both are called.
    watch_signals(prompt.interrupter.clone());
    if reader.is_person() {
        note(&format!(
            "durable {} · session {id} · `:help` for help, Ctrl-D to leave",
            env!("CARGO_PKG_VERSION")
        ));
    }
    let mut commands = Commands::default();
    let mut failed = false;
    if let Some(file) = &asked.file {
        failed = !matches!(
            commands::load(&mut prompt, &file.display().to_string(), reader.width())?,
            Evaluated::Done
        );
    }
    loop {
        reader.learn(&prompt);
        let Some(entry) = reader.read(prompt.session.entries.len() + 1)? else { break };
        let width = reader.width();
        let done = match entry.trim().strip_prefix(':') {
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
    // A script that is piped in has failed when its last entry has.
    Ok(if failed { FAILED } else { 0 })
}

/// A name that no session has yet.
fn fresh(folder: &Path) -> Result<String, Problem> {
    let store = access::own(folder)?;
    let mut last = 0;
    for (key, _) in Store::all(&store, &keys::instance("repl-"))? {
        let name = String::from_utf8_lossy(&key).into_owned();
        last = last.max(name.rsplit('-').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0));
    }
    store.close()?;
    Ok(format!("repl-{}", last + 1))
}

/// SIGINT stops an evaluation; SIGTERM the process, which loses nothing.
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

/// Where entries come from: a person at a terminal, or a stream.
enum Reader {
    Person(Box<Editor<Assistant, DefaultHistory>>, std::path::PathBuf),
    Stream(std::io::Lines<std::io::StdinLock<'static>>),
}

impl Reader {
    fn new(folder: &Path) -> Reader {
        let person = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let config =
            Config::builder().max_history_size(REMEMBERED).map(|config| config.auto_add_history(true));
        match (person, config) {
            (true, Ok(config)) => match Editor::with_config(config.build()) {
                Ok(mut editor) => {
                    editor.set_helper(Some(Assistant::new(std::env::var_os("NO_COLOR").is_none())));
                    let file = folder.join("entries.txt");
                    let _ = editor.load_history(&file);
                    Reader::Person(Box::new(editor), file)
                }
                Err(_) => Reader::Stream(std::io::stdin().lock().lines()),
            },
            _ => Reader::Stream(std::io::stdin().lock().lines()),
        }
    }

    fn is_person(&self) -> bool {
        matches!(self, Reader::Person(..))
    }

    fn width(&mut self) -> usize {
        match self {
            Reader::Person(editor, _) => {
                editor.dimensions().map_or(WIDTH, |(columns, _)| usize::from(columns))
            }
            Reader::Stream(_) => WIDTH,
        }
    }

    /// Lets the editor know the session's names.
    fn learn(&mut self, prompt: &Prompt) {
        let Reader::Person(editor, _) = self else { return };
        let Some(helper) = editor.helper_mut() else { return };
        helper.names = prompt
            .session
            .names()
            .into_iter()
            .map(|name| {
                let known = prompt.kinds.iter().find(|known| known.0 == name);
                known.cloned().unwrap_or((name, String::new(), Vec::new()))
            })
            .collect();
    }

    /// The next entry, over as many lines as it needs; none at the end.
    fn read(&mut self, number: usize) -> Result<Option<String>, Problem> {
        match self {
            Reader::Person(editor, file) => loop {
                match editor.readline(&format!("[{number}] ")) {
                    Ok(entry) => {
                        // What can't be remembered is no reason to stop.
                        let _ = editor.append_history(file);
                        return Ok(Some(entry));
                    }
                    Err(ReadlineError::Interrupted) => {}
                    Err(ReadlineError::Eof) => return Ok(None),
                    Err(error) => {
                        return Err(Problem::new(FAILED, format!("the terminal can't be read: {error}")));
                    }
                }
            },
            Reader::Stream(lines) => {
                let mut entry = String::new();
                for line in lines {
                    let line = line.map_err(|error| {
                        let reason = crate::os::reason(&error);
                        Problem::new(FAILED, format!("standard input can't be read: {reason}"))
                    })?;
                    entry.push_str(&line);
                    entry.push('\n');
                    if entry.starts_with(':') || !is_unfinished(&entry) {
                        return Ok(Some(entry));
                    }
                }
                Ok((!entry.trim().is_empty()).then_some(entry))
            }
        }
    }
}
