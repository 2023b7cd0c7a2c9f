//! The source of entries: a person at a terminal, or a stream. A thread of its own reads, so that
//! the session goes on meanwhile.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;

use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{CompletionType, Config, Editor};

use crate::host::{Above, Handle};
use crate::syntax::parser::is_unfinished;

use super::helper::Assistant;
use super::session::Known;
use super::{FAILED, Problem};

/// The largest number of entries that are remembered from session to session.
const REMEMBERED: usize = 10_000;
/// The width of values in columns, if no terminal gives one.
pub const WIDTH: usize = 100;

/// A request for an entry.
struct Asked {
    number: usize,
    names: Vec<Known>,
    /// The host to wake when the entry is there.
    host: Handle,
}

/// The result of reading.
pub enum Read {
    /// An entry of one or more lines, and the number of the terminal's columns.
    Entry(String, usize),
    End,
    Failed(Problem),
}

/// The session's side of the reading thread.
pub struct Reader {
    asks: Sender<Asked>,
    reads: Receiver<Read>,
    is_person: bool,
    above: Option<Above>,
}

impl Reader {
    /// Starts the reading thread. The history of entries is a file in the store's folder.
    pub fn start(folder: &Path) -> Result<Reader, Problem> {
        let (asks, asked) = channel::<Asked>();
        let (send, reads) = channel();
        let (began, beginning) = channel();
        let file = folder.join("entries.txt");
        let read = move || {
            let mut source = Source::new(file);
            let _ = began.send((source.is_person(), source.above()));
            for Asked { number, names, host } in asked {
                if send.send(source.read(number, names)).is_err() {
                    return;
                }
                host.wake();
            }
        };
        let failed = |error: &dyn std::fmt::Display| {
            Problem::new(FAILED, format!("the prompt can't be read: {}", crate::os::reason(error)))
        };
        thread::Builder::new().name("prompt".into()).spawn(read).map_err(|error| failed(&error))?;
        let (is_person, above) = beginning.recv().map_err(|error| failed(&error))?;
        Ok(Reader { asks, reads, is_person, above })
    }

    pub fn is_person(&self) -> bool {
        self.is_person
    }

    /// Returns the function that writes above the line being typed; only the first call returns it.
    pub fn take_above(&mut self) -> Option<Above> {
        self.above.take()
    }

    /// Asks for the next entry. The reading thread wakes the host when the entry is there.
    pub fn ask(&self, number: usize, names: Vec<Known>, host: Handle) {
        // If the thread is gone, `read` returns the end.
        let _ = self.asks.send(Asked { number, names, host });
    }

    /// Returns the entry that was asked for, or `None` if it is not there yet.
    pub fn read(&self) -> Option<Read> {
        match self.reads.try_recv() {
            Ok(read) => Some(read),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Read::End),
        }
    }
}

/// The place that entries are read from.
enum Source {
    Person(Box<Editor<Assistant, DefaultHistory>>, PathBuf),
    Stream,
}

impl Source {
    fn new(file: PathBuf) -> Source {
        let person = io::stdin().is_terminal() && io::stdout().is_terminal();
        let config = Config::builder()
            .max_history_size(REMEMBERED)
            .map(|c| c.completion_type(CompletionType::List).completion_show_all_if_ambiguous(true));
        match (person, config) {
            (true, Ok(config)) => match Editor::with_config(config.build()) {
                Ok(mut editor) => {
                    editor.set_helper(Some(Assistant::new(std::env::var_os("NO_COLOR").is_none())));
                    let _ = editor.load_history(&file);
                    Source::Person(Box::new(editor), file)
                }
                Err(_) => Source::Stream,
            },
            _ => Source::Stream,
        }
    }

    fn is_person(&self) -> bool {
        matches!(self, Source::Person(..))
    }

    /// Returns a function that writes a line above the one being typed. The editor's own function
    /// waits for more input while its buffer has some (rustyline 17), so it misses text that
    /// arrives at once. This one writes to the terminal directly, and the editor redraws its line
    /// at the next key.
    fn above(&mut self) -> Option<Above> {
        let Source::Person(editor, _) = self else { return None };
        let typed = editor.helper()?.typed.clone();
        Some(Box::new(move |line| {
            let Ok(typed) = typed.lock() else { return };
            let mut out = io::stdout().lock();
            // There is nowhere to report that the terminal cannot be written.
            let _ = write!(out, "\r\x1b[J{line}{}", typed.shown());
            let _ = out.flush();
        }))
    }

    fn read(&mut self, number: usize, names: Vec<Known>) -> Read {
        match self {
            Source::Person(editor, file) => {
                let prompt = format!("[{number}] ");
                if let Some(helper) = editor.helper_mut() {
                    helper.names = names;
                }
                let mut entry = String::new();
                loop {
                    let asks = if entry.is_empty() { prompt.clone() } else { mark(&prompt) };
                    if let Some(helper) = editor.helper_mut() {
                        helper.asks(&asks);
                    }
                    let line = editor.readline(&asks);
                    if let (Some(helper), Ok(_)) = (editor.helper_mut(), &line) {
                        helper.asks("");
                    }
                    match line {
                        Ok(line) => {
                            entry.push_str(&line);
                            if !entry.starts_with(':') && is_unfinished(&entry) {
                                entry.push('\n');
                                continue;
                            }
                            // A history that cannot be written is no reason to stop.
                            let _ = editor.add_history_entry(entry.as_str());
                            let _ = editor.append_history(file);
                            let width =
                                editor.dimensions().map_or(WIDTH, |(columns, _)| usize::from(columns));
                            return Read::Entry(entry, width);
                        }
                        Err(ReadlineError::Interrupted) => entry.clear(),
                        Err(ReadlineError::Eof) => return Read::End,
                        Err(error) => {
                            let title = format!("the terminal can't be read: {error}");
                            return Read::Failed(Problem::new(FAILED, title));
                        }
                    }
                }
            }
            Source::Stream => lines(),
        }
    }
}

/// Returns the mark before the next line of an entry, which is as wide as the prompt.
fn mark(prompt: &str) -> String {
    format!("{}… ", " ".repeat(prompt.chars().count().saturating_sub(2)))
}

/// Reads the lines of standard input that make up one entry. The lock is released between lines, so
/// that others may read there.
fn lines() -> Read {
    let mut entry = String::new();
    loop {
        match io::stdin().read_line(&mut entry) {
            Ok(0) if entry.trim().is_empty() => return Read::End,
            Ok(0) => return Read::Entry(entry, WIDTH),
            Ok(_) if entry.starts_with(':') || !is_unfinished(&entry) => return Read::Entry(entry, WIDTH),
            Ok(_) => {}
            Err(error) => {
                let reason = crate::os::reason(&error);
                let title = format!("standard input can't be read: {reason}");
                return Read::Failed(Problem::new(FAILED, title));
            }
        }
    }
}
