//! Standard output, standard error and standard input.
//!
//! Standard output carries the output of programs, and nothing else.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufWriter, IsTerminal, Read, Stdout, Write};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use crate::engine::Line;
use crate::machine::{ErrorData, MAX_TEXT, Value};

use super::{EffectResult, Message, data};

/// A function that writes a line above the one that is being typed.
pub type Above = Box<dyn FnMut(String) + Send>;

pub struct Terminal {
    out: BufWriter<Stdout>,
    /// Whether a person watches standard error, so that progress is shown there.
    watched: bool,
    colours: bool,
    progress: bool,
    reader: Option<Sender<(u64, String)>>,
    /// The lines that were read for effects that were abandoned meanwhile.
    spare: VecDeque<EffectResult>,
    /// The function that writes above the line being typed, and whether a line is being typed.
    above: Option<Above>,
    typed_in: bool,
    /// The reads of input that wait until no line is being typed.
    held: Vec<(u64, String)>,
}

impl Default for Terminal {
    fn default() -> Terminal {
        Terminal::new()
    }
}

impl Terminal {
    pub fn new() -> Terminal {
        let watched = io::stderr().is_terminal();
        Terminal {
            out: BufWriter::with_capacity(64 << 10, io::stdout()),
            watched,
            colours: watched && std::env::var_os("NO_COLOR").is_none(),
            progress: false,
            reader: None,
            spare: VecDeque::new(),
            above: None,
            typed_in: false,
            held: Vec::new(),
        }
    }

    /// Writes a line to standard output, which appears at the next `flush`.
    pub(crate) fn print(&mut self, line: &str) -> io::Result<()> {
        self.clear();
        if let Some(above) = self.above.as_mut().filter(|_| self.typed_in) {
            above(format!("{line}\n"));
            return Ok(());
        }
        self.out.write_all(line.as_bytes())?;
        self.out.write_all(b"\n")
    }

    /// Writes a line of a program. Printed lines appear before lines logged later.
    pub(crate) fn line(&mut self, line: &Line) -> io::Result<()> {
        match line {
            Line::Print(text) => self.print(text),
            Line::Log { level, text } => {
                self.flush()?;
                self.log(level, text);
                Ok(())
            }
        }
    }

    /// Sets the function that writes above the line being typed.
    pub fn writes_above(&mut self, above: Option<Above>) {
        self.above = above;
    }

    /// Sets whether a person is typing on standard input. The reads of programs wait meanwhile.
    pub fn is_typed_in(&mut self, typed_in: bool) {
        self.typed_in = typed_in;
        if !typed_in && let Some(reader) = &self.reader {
            // A reader that is gone was at the end of its input.
            self.held.drain(..).for_each(|held| drop(reader.send(held)));
        }
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Writes a message of the program to standard error.
    pub(crate) fn log(&mut self, level: &str, text: &str) {
        self.clear();
        let colour = match level {
            "error" => "31",
            "warn" => "33",
            "info" => "36",
            _ => "90",
        };
        let line = match self.colours {
            true => format!("\x1b[{colour}m{level}\x1b[0m: {text}\n"),
            false => format!("{level}: {text}\n"),
        };
        match self.above.as_mut().filter(|_| self.typed_in) {
            Some(above) => above(line),
            // There is nowhere to report that standard error cannot be written.
            None => drop(io::stderr().write_all(line.as_bytes())),
        }
    }

    /// Turns the progress line off.
    pub fn shows_no_progress(&mut self) {
        self.watched = false;
    }

    /// Returns whether a progress line would be seen.
    pub(crate) fn is_watched(&self) -> bool {
        self.watched
    }

    /// Shows the progress on one line, which the next output replaces.
    pub(crate) fn progress(&mut self, text: &str) {
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(100).collect();
        let _ = write!(io::stderr(), "\r\x1b[K\x1b[90m{text}\x1b[0m");
        let _ = io::stderr().flush();
        self.progress = true;
    }

    /// Removes the progress line.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.progress) {
            let _ = write!(io::stderr(), "\r\x1b[K");
            let _ = io::stderr().flush();
        }
    }

    /// Asks for a line of standard input. The answer comes as a message, or is returned if it is
    /// there already.
    pub(crate) fn input(
        &mut self,
        ticket: u64,
        prompt: &str,
        messages: &Sender<Message>,
    ) -> Option<EffectResult> {
        self.clear();
        if let Some(line) = self.spare.pop_front() {
            return Some(line);
        }
        if self.reader.is_none() {
            let (sender, requests) = channel::<(u64, String)>();
            let messages = messages.clone();
            let reader = move || {
                let mut lines = Lines::new();
                for (ticket, prompt) in requests {
                    let sent = match lines.read(&prompt) {
                        Some(result) => messages.send(Message::Done { ticket, result }),
                        None => messages.send(Message::Interrupt),
                    };
                    if sent.is_err() {
                        return;
                    }
                }
            };
            match thread::Builder::new().name("input".into()).spawn(reader) {
                Ok(_) => self.reader = Some(sender),
                Err(error) => {
                    return Some(Err(ErrorData::new("io_error", format!("can't read input: {error}"))));
                }
            }
        }
        if self.typed_in {
            self.held.push((ticket, prompt.to_string()));
            return None;
        }
        let sent =
            self.reader.as_ref().is_some_and(|reader| reader.send((ticket, prompt.to_string())).is_ok());
        (!sent).then(|| Err(ErrorData::new("io_error", "standard input can't be read")))
    }

    /// Keeps a line that is no longer wanted, for the next read.
    pub(crate) fn keep(&mut self, line: EffectResult) {
        self.spare.push_back(line);
    }
}

/// The source of lines: an editor on a terminal, or the stream.
enum Lines {
    Editor(Box<rustyline::DefaultEditor>),
    Stream,
}

impl Lines {
    fn new() -> Lines {
        let terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
        match terminal.then(rustyline::DefaultEditor::new) {
            Some(Ok(editor)) => Lines::Editor(Box::new(editor)),
            _ => Lines::Stream,
        }
    }

    /// Reads a line, or null at the end. Returns `None` if the person wants to stop.
    fn read(&mut self, prompt: &str) -> Option<EffectResult> {
        let problem = |error: String| {
            Some(Err(ErrorData::new("io_error", format!("could not read standard input: {error}"))))
        };
        match self {
            Lines::Editor(editor) => match editor.readline(prompt) {
                Ok(line) => Some(data(&Value::str(line))),
                Err(rustyline::error::ReadlineError::Eof) => Some(data(&Value::Null)),
                Err(rustyline::error::ReadlineError::Interrupted) => None,
                Err(error) => problem(error.to_string()),
            },
            Lines::Stream => {
                if !prompt.is_empty() {
                    let _ = write!(io::stderr(), "{prompt}");
                    let _ = io::stderr().flush();
                }
                match read_line() {
                    Ok(Some(line)) => Some(data(&Value::str(line))),
                    Ok(None) => Some(data(&Value::Null)),
                    Err(error) => problem(error.to_string()),
                }
            }
        }
    }
}

/// Reads one line of standard input, without its line break.
fn read_line() -> io::Result<Option<String>> {
    let mut line = String::new();
    let most = MAX_TEXT as u64 + 1;
    if io::stdin().lock().take(most).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    if line.len() > MAX_TEXT {
        return Err(io::Error::other("a line of more than 256 MiB"));
    }
    if line.ends_with('\n') {
        line.pop();
        if line.ends_with('\r') {
            line.pop();
        }
    }
    Ok(Some(line))
}
