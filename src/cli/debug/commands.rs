//! The commands of the debugger.

use std::fmt::Write;

use crate::debug::{Breakpoint, Direction, Hits, On, Session, Step, Stepped, Stop, Watch, view};
use crate::engine::Line;
use crate::machine::format;

use super::debugger::{Debugger, Reply};
use super::help::HELP;
use super::places::{self, PASSED};

/// The reason why there are no variables in a trimmed history.
const TRIMMED: &str =
    "the history is kept from its last checkpoint on, so statements and variables can't be seen";

/// The width in characters of a value in a list.
const WIDTH: usize = 100;

impl Debugger {
    /// Executes a command. An empty one repeats the last step.
    pub fn execute(&mut self, line: &str) -> Reply {
        let line = match line.trim() {
            "" => self.last_step.clone(),
            line => line.to_string(),
        };
        if line.starts_with('#') {
            return Reply::default();
        }
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
        if matches!(word, "quit" | "q" | "exit") {
            return Reply { quits: true, ..Reply::default() };
        }
        self.command(word, rest.trim(), &line).unwrap_or_else(|reason| format!("error: {reason}")).into()
    }

    fn command(&mut self, word: &str, rest: &str, line: &str) -> Result<String, String> {
        match word {
            "step" | "next" | "n" => Ok(self.step(Step::Over, line)),
            "into" | "s" => Ok(self.step(Step::Into, line)),
            "out" => Ok(self.step(Step::Out, line)),
            "back" | "b" => match rest {
                "" => Ok(self.back(Step::Over, line)),
                "into" => Ok(self.back(Step::Into, line)),
                "out" => Ok(self.back(Step::Out, line)),
                "entry" => self.entry(false),
                other => Err(format!("`back {other}` is no command")),
            },
            "continue" | "c" => Ok(self.resume(Direction::Forward)),
            "reverse" | "rc" => Ok(self.resume(Direction::Backward)),
            "seek" | "goto" => {
                self.seek(rest)?;
                Ok(self.whereabouts())
            }
            "entry" => self.entry(true),
            "operation" => self.operation(rest),
            "child" => {
                self.enter(rest, None)?;
                Ok(self.whereabouts())
            }
            "parent" => match self.leave() {
                true => Ok(self.whereabouts()),
                false => Err("this is the run with which the debugger began".into()),
            },
            "where" | "w" => Ok(self.whereabouts()),
            "list" | "l" => self.list(rest),
            "stack" | "bt" => Ok(self.stack()),
            "tasks" => Ok(self.tasks()),
            "up" => self.move_call(true),
            "down" => self.move_call(false),
            "frame" => self.frame(rest),
            "task" => self.choose_task(rest),
            "vars" | "locals" | "v" => Ok(self.variables()),
            "print" | "p" => self.print(rest),
            "output" => Ok(self.output()),
            "waiting" => Ok(self.waiting()),
            "history" => self.history(rest),
            "who" => self.who(rest),
            "break" => self.add_break(rest),
            "watch" => self.add_watch(rest),
            "breakpoints" => Ok(self.list_breakpoints()),
            "delete" => self.delete(rest),
            "help" | "h" | "?" => Ok(HELP.to_string()),
            other => Err(format!("`{other}` is no command; `help` lists them")),
        }
    }

    // ---- moving

    fn step(&mut self, step: Step, line: &str) -> String {
        self.last_step = line.to_string();
        self.current().call = None;
        if self.depth() > 0 && self.session().end().is_some() {
            return self.return_to_caller();
        }
        match self.session().step(step) {
            Stepped::Child(id) => match self.enter(&id, None) {
                Ok(()) => self.whereabouts(),
                Err(reason) => format!("{}\n{id}: {reason}", self.whereabouts()),
            },
            Stepped::Operation(entity, from) => match self.enter_operation(&entity, &from) {
                Ok(()) => self.whereabouts(),
                Err(reason) => {
                    self.session().step(step);
                    format!("{}\nstepped over {entity}: {reason}", self.whereabouts())
                }
            },
            Stepped::End(_) if step == Step::Out && self.depth() > 0 => self.return_to_caller(),
            _ => match self.session().passed() {
                Some(name) => {
                    let name = name.to_string();
                    format!("{}\nstepped over {name}: {PASSED}", self.whereabouts())
                }
                None => self.whereabouts(),
            },
        }
    }

    /// Goes into a kept operation: `Account@alice 17`, or the last one without a number.
    fn operation(&mut self, rest: &str) -> Result<String, String> {
        let (entity, number) = rest.rsplit_once(' ').unwrap_or((rest, ""));
        match number.parse() {
            Ok(number) => self.enter(entity.trim(), Some(number))?,
            Err(_) => self.enter(rest, None)?,
        }
        Ok(self.whereabouts())
    }

    /// Goes back to the run that called this one, to the statement after the call.
    fn return_to_caller(&mut self) -> String {
        self.leave();
        self.session().step(Step::Over);
        self.whereabouts()
    }

    fn back(&mut self, step: Step, line: &str) -> String {
        self.last_step = line.to_string();
        self.current().call = None;
        let is_at_start = self.session().ticks() == 0;
        if is_at_start && self.leave() {
            return self.whereabouts();
        }
        self.session().back(step);
        self.whereabouts()
    }

    fn entry(&mut self, forward: bool) -> Result<String, String> {
        self.current().call = None;
        let session = self.session();
        let here = session.position();
        let entry = match forward {
            true => here.entry + 1,
            false if here.statement > 0 => here.entry,
            false => here.entry.saturating_sub(1),
        };
        session.seek(crate::debug::Position::at(entry));
        Ok(self.whereabouts())
    }

    fn resume(&mut self, direction: Direction) -> String {
        let opened = self.current();
        opened.call = None;
        let stop = opened.session.resume(direction, &mut opened.breakpoints);
        let mut out: String =
            std::mem::take(&mut opened.breakpoints.said).iter().map(|said| format!("{said}\n")).collect();
        if let Stop::At { breakpoint, error } = stop {
            let _ = write!(out, "breakpoint {breakpoint}");
            if let Some(error) = error {
                let _ = write!(out, ": throws {}", format::title(&error));
            }
            out.push('\n');
        }
        out + &self.whereabouts()
    }

    // ---- looking

    fn list(&mut self, rest: &str) -> Result<String, String> {
        let around = match rest {
            "" => 5,
            text => text.parse().map_err(|_| format!("`{text}` is not a number of lines"))?,
        };
        let Some(place) = self.place() else { return Err("no statement is running".into()) };
        let sources = &self.shown().session.image.code.sources;
        let (current, _) = sources.line_column(place);
        let text = sources.files.get(place.source as usize).map_or("", |file| file.text.as_str());
        let first = current.saturating_sub(around).max(1);
        let lines = text.lines().enumerate().skip(first - 1).take(current + around + 1 - first);
        let lines = lines.map(|(at, line)| {
            let mark = if at + 1 == current { '>' } else { ' ' };
            format!("{mark}{:>5}  {line}", at + 1)
        });
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    fn stack(&mut self) -> String {
        let session = &self.shown().session;
        let chosen = self.call();
        let frames = session.frames(session.task());
        let lines = frames.iter().map(|call| {
            let mark = if call.number == chosen { '>' } else { ' ' };
            let place = places::locate(session, call.place);
            format!(
                "{mark}{:>3}  {}  {place}  {}",
                call.number,
                call.function,
                places::line(session, call.place)
            )
        });
        let lines: Vec<String> = lines.collect();
        if lines.is_empty() { "no call is running".into() } else { lines.join("\n") }
    }

    fn tasks(&mut self) -> String {
        let session = &self.shown().session;
        let lines = session.tasks().into_iter().map(|task| {
            let mark = if task.id == session.task() { '>' } else { ' ' };
            let place = session.own_frame(task.id).map(|call| places::locate(session, call.place));
            format!("{mark}{:>3}  {}  {}", task.id, place.unwrap_or_default(), task.does)
        });
        let lines: Vec<String> = lines.collect();
        if lines.is_empty() { "no task is running".into() } else { lines.join("\n") }
    }

    fn move_call(&mut self, up: bool) -> Result<String, String> {
        let session = &self.shown().session;
        let numbers: Vec<usize> = session
            .frames(session.task())
            .iter()
            .filter(|call| call.is_own)
            .map(|call| call.number)
            .collect();
        let here = self.call();
        let next = match up {
            true => numbers.iter().copied().find(|number| *number < here),
            false => numbers.iter().rev().copied().find(|number| *number > here),
        };
        let next =
            next.ok_or(if up { "this is the outermost call" } else { "this is the innermost call" })?;
        self.current().call = Some(next);
        Ok(self.stack())
    }

    fn frame(&mut self, rest: &str) -> Result<String, String> {
        let number: usize = rest.parse().map_err(|_| format!("`{rest}` is not the number of a call"))?;
        let session = &self.shown().session;
        if !session.frames(session.task()).iter().any(|call| call.number == number) {
            return Err(format!("there is no call {number}; `stack` lists them"));
        }
        self.current().call = Some(number);
        Ok(self.stack())
    }

    fn choose_task(&mut self, rest: &str) -> Result<String, String> {
        let number: u64 = rest.parse().map_err(|_| format!("`{rest}` is not the number of a task"))?;
        if !self.session().follow(number) {
            return Err(format!("there is no task {number}; `tasks` lists them"));
        }
        self.current().call = None;
        Ok(self.stack())
    }

    fn variables(&mut self) -> String {
        let session = &self.shown().session;
        let variables = session.variables(session.task(), self.call());
        let shown = variables.iter().filter(|variable| !variable.is_function);
        let lines: Vec<String> = shown
            .map(|variable| format!("{} = {}", variable.name, view::held(&variable.value, WIDTH)))
            .collect();
        match lines.is_empty() {
            true if session.is_trimmed() => TRIMMED.into(),
            true => "there are no variables".into(),
            false => lines.join("\n"),
        }
    }

    fn print(&mut self, text: &str) -> Result<String, String> {
        let call = self.call();
        let session = self.session();
        let value = session.evaluate(session.task(), call, text)?;
        Ok(format::write(&value, 100_000).0)
    }

    fn output(&mut self) -> String {
        let lines = self.shown().session.output_so_far().iter().map(|(_, line)| match line {
            Line::Print(text) => text.clone(),
            Line::Log { level, text } => format!("[{level}] {text}"),
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn waiting(&mut self) -> String {
        let session = &self.shown().session;
        let lines = session.waiting().map(|asked| {
            let place = places::locate(session, asked.request.place);
            format!("#{}  {place}  {}", asked.request.seq, view::shown(&asked.request))
        });
        let lines: Vec<String> = lines.collect();
        if lines.is_empty() { "it waits for nothing".into() } else { lines.join("\n") }
    }

    fn history(&mut self, rest: &str) -> Result<String, String> {
        let around: u64 = match rest {
            "" => 5,
            text => text.parse().map_err(|_| format!("`{text}` is not a number of entries"))?,
        };
        let session = &self.shown().session;
        let here = session.position().entry;
        let first = here.saturating_sub(around).max(1);
        let last = (here + around).min(session.history.len() as u64);
        let lines = (first..=last).map(|number| {
            let mark = if number == here { '>' } else { ' ' };
            let entry = &session.history[number as usize - 1];
            format!("{mark}{number:>5}  {}", crate::render::short(&places::happened(session, entry), WIDTH))
        });
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    fn who(&mut self, name: &str) -> Result<String, String> {
        let call = self.call();
        let session = self.session();
        let watch = watch(session, call, name)?;
        let Some(written) = session.last_write(&watch) else {
            return Err(format!("`{name}` has its value from the beginning"));
        };
        let place = written.place.map_or_else(String::new, |place| {
            format!("  {}  {}", places::locate(session, place), places::line(session, place))
        });
        Ok(format!("{name} was set at {}{place}", written.position))
    }

    // ---- breakpoints

    fn add_break(&mut self, text: &str) -> Result<String, String> {
        let (what, condition, hits, log) = clauses(text)?;
        let session = &self.shown().session;
        let (word, rest) = what.split_once(char::is_whitespace).unwrap_or((what, ""));
        let rest = rest.trim();
        let needs = |what: &str| match rest {
            "" => Err(format!("`break {word}` needs {what}")),
            rest => Ok(rest.to_string()),
        };
        let on = match word {
            "fn" => {
                let name = needs("the name of a function")?;
                let found = session.statements_of(&name);
                if found.is_empty() {
                    return Err(format!("there is no function `{name}` with statements"));
                }
                On::Statements(found)
            }
            "request" => On::Request(needs("the name of a request")?),
            "answer" => On::Answer(needs("the name of a request")?),
            "error" => On::Thrown((!rest.is_empty()).then(|| rest.to_string())),
            "uncaught" => On::Uncaught,
            place => {
                let (file, line) = match place.rsplit_once(':') {
                    Some((file, line)) => (Some(file), line),
                    None => (None, place),
                };
                let line: usize =
                    line.parse().map_err(|_| format!("`{place}` is not a line; `help` lists what is"))?;
                let found = match file {
                    None => session.place().map_or(Some(0), |place| Some(place.source)),
                    Some(file) => session.source_named(file),
                };
                let source =
                    found.ok_or_else(|| format!("the program has no file `{}`", file.unwrap_or("")))?;
                let (_, statements) = session
                    .statements_at(source, line)
                    .ok_or_else(|| format!("there is no statement at or after line {line}"))?;
                On::Statements(statements)
            }
        };
        Ok(self.add(Breakpoint { id: 0, on, condition, hits, log }))
    }

    fn add_watch(&mut self, name: &str) -> Result<String, String> {
        let call = self.call();
        let watch = watch(self.session(), call, name)?;
        Ok(self.add(Breakpoint { id: 0, on: On::Change(watch), condition: None, hits: None, log: None }))
    }

    fn add(&mut self, breakpoint: Breakpoint) -> String {
        let id = self.next_breakpoint;
        self.next_breakpoint += 1;
        let breakpoint = Breakpoint { id, ..breakpoint };
        let line = shown_breakpoint(&self.shown().session, &breakpoint);
        self.current().breakpoints.all.push(breakpoint);
        line
    }

    fn list_breakpoints(&mut self) -> String {
        let opened = self.shown();
        let lines: Vec<String> =
            opened.breakpoints.all.iter().map(|b| shown_breakpoint(&opened.session, b)).collect();
        if lines.is_empty() { "there are no breakpoints".into() } else { lines.join("\n") }
    }

    fn delete(&mut self, rest: &str) -> Result<String, String> {
        let id: u32 = rest.parse().map_err(|_| format!("`{rest}` is not the number of a breakpoint"))?;
        let all = &mut self.current().breakpoints.all;
        let before = all.len();
        all.retain(|breakpoint| breakpoint.id != id);
        if all.len() == before {
            return Err(format!("there is no breakpoint {id}"));
        }
        Ok(self.list_breakpoints())
    }
}

fn watch(session: &Session, call: usize, name: &str) -> Result<Watch, String> {
    Watch::new(session, session.task(), call, name)
        .ok_or_else(|| format!("there is no variable `{name}` here"))
}

/// The parts of a breakpoint: what it is on, its condition, its hits and its log text.
type Clauses<'t> = (&'t str, Option<String>, Option<Hits>, Option<String>);

/// Takes the clauses `if`, `hits` and `log` off the end of a breakpoint.
fn clauses(text: &str) -> Result<Clauses<'_>, String> {
    let (text, log) = match text.split_once(" log ") {
        Some((text, log)) => (text, Some(log.trim().to_string())),
        None => (text, None),
    };
    let (text, hits) = match text.rsplit_once(" hits ") {
        Some((text, hits)) => (text, Some(read_hits(hits.trim())?)),
        None => (text, None),
    };
    let (text, condition) = match text.split_once(" if ") {
        Some((text, condition)) => (text, Some(condition.trim().to_string())),
        None => (text, None),
    };
    Ok((text.trim(), condition, hits, log))
}

/// Reads a number of hits: `3`, `>=3` or `%3`.
pub fn read_hits(text: &str) -> Result<Hits, String> {
    let number = |text: &str| text.trim().parse::<u64>().ok().filter(|n| *n > 0);
    let hits = match text.trim() {
        text if text.starts_with(">=") => number(&text[2..]).map(Hits::From),
        text if text.starts_with('%') => number(&text[1..]).map(Hits::Every),
        text => number(text.trim_start_matches("==").trim_start_matches('=')).map(Hits::At),
    };
    hits.ok_or_else(|| format!("`{text}` is not a number of hits: write 3, >=3 or %3"))
}

fn shown_breakpoint(session: &Session, breakpoint: &Breakpoint) -> String {
    let on = match &breakpoint.on {
        On::Statements(statements) => {
            let first = statements.first().and_then(|at| session.tables().statements.get(*at as usize));
            first.map_or_else(String::new, |first| {
                format!("{}  {}", places::locate(session, first.place), places::line(session, first.place))
            })
        }
        On::Request(name) => format!("request {name}"),
        On::Answer(name) => format!("answer {name}"),
        On::Thrown(None) => "error".into(),
        On::Thrown(Some(kind)) => format!("error {kind}"),
        On::Uncaught => "uncaught".into(),
        On::Change(watch) => format!("watch {}", watch.name),
    };
    let mut out = format!("breakpoint {}: {on}", breakpoint.id);
    if let Some(condition) = &breakpoint.condition {
        let _ = write!(out, "  if {condition}");
    }
    match breakpoint.hits {
        Some(Hits::At(n)) => out.push_str(&format!("  hits {n}")),
        Some(Hits::From(n)) => out.push_str(&format!("  hits >={n}")),
        Some(Hits::Every(n)) => out.push_str(&format!("  hits %{n}")),
        None => {}
    }
    if let Some(log) = &breakpoint.log {
        let _ = write!(out, "  log {log}");
    }
    out
}
