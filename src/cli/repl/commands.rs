//! The commands of the prompt: lines that begin with a colon.

use std::path::Path;
use std::time::Instant;

use crate::api::Queries;
use crate::check::reference::{self, Entry};
use crate::check::{self, closest, std_sources};
use crate::engine::InstanceRecord;
use crate::engine::query::{EntityFilter, EntityView, InstanceFilter};
use crate::machine::format;
use crate::os::read_text;
use crate::syntax::parse;
use crate::syntax::token::is_of_a_name;
use crate::syntax::tree::StmtKind;
use crate::{code, core};

use super::super::access;
use super::super::document::described;
use super::super::inspect;
use super::super::problem::{Problem, note};
use super::super::table::{table, time};
use super::super::{FAILED, STORE, USAGE, print, program};
use super::prompt::{Evaluated, Prompt};
use super::session::Came;

/// The commands, each with its name, its argument and its help text.
pub const COMMANDS: &[(&str, &str, &str)] = &[
    ("help", "[NAME]", "these commands; what a name of the library or of the session is"),
    ("load", "FILE", "evaluate a file as one entry"),
    ("reload", "", "evaluate the file that was loaded last once more"),
    ("save", "FILE", "write the entries that were done to a file"),
    ("history", "", "the entries so far"),
    ("timeline", "", "what the session asked for, and what it got"),
    ("instances", "", "the instances in the store"),
    ("entities", "", "the entities in the store, with their states"),
    ("entity", "NAME@KEY", "one entity of the store, with its state"),
    ("time", "ENTRY", "evaluate an entry, and say how long that took"),
    ("core", "ENTRY", "what an entry is in the small language that programs are lowered to"),
    ("code", "ENTRY", "what an entry is as instructions"),
    ("undo", "", "take the last entry back"),
    ("quit", "", "leave; the session can be gone on with"),
];

/// Returns the command that a line means although it has no colon: people who are new here type
/// `exit` and `help`. A name of the session means what it is bound to.
pub fn meant(entry: &str, is_bound: impl Fn(&str) -> bool) -> Option<String> {
    let line = entry.trim().trim_end_matches(';').trim_end();
    let (word, rest) = match line.find(|c: char| !c.is_ascii_alphabetic()) {
        Some(at) => line.split_at(at),
        None => (line, ""),
    };
    let command = match word {
        "exit" | "quit" | "bye" => "quit",
        "help" | "man" => "help",
        "" if line == "?" => return Some("help".to_string()),
        _ => return None,
    };
    if is_bound(word) {
        return None;
    }
    let inner = rest.trim();
    let inner = inner.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).unwrap_or(inner).trim();
    let is_topic = |c: char| is_of_a_name(c) || c == '.';
    match command {
        "quit" if inner.chars().all(|c| c.is_ascii_digit()) => Some("quit".to_string()),
        "help" if inner.chars().all(is_topic) => Some(format!("help {inner}")),
        _ => None,
    }
}

/// The continuation after a command.
#[derive(PartialEq, Eq)]
pub enum Then {
    GoOn,
    Leave,
}

/// The executor of commands, which remembers the file that was loaded last.
#[derive(Default)]
pub struct Commands {
    loaded: Option<String>,
}

impl Commands {
    /// Executes a command, given without its colon.
    pub fn run(&mut self, prompt: &mut Prompt, line: &str, width: usize) -> Result<Then, Problem> {
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match name {
            "help" | "h" | "?" => help(prompt, rest)?,
            "load" => {
                self.loaded = Some(wanted(rest, ":load FILE")?.to_string());
                self.load(prompt, width)?;
            }
            "reload" => self.load(prompt, width)?,
            "save" => save(prompt, wanted(rest, ":save FILE")?)?,
            "history" => {
                for (at, entry) in prompt.session.entries.iter().enumerate() {
                    let failed = if entry.came == Came::Failed { "  (failed)" } else { "" };
                    let mut lines = entry.text.lines();
                    print(&format!("{:>4}  {}{failed}\n", at + 1, lines.next().unwrap_or("")))?;
                    lines.try_for_each(|line| print(&format!("      {line}\n")))?;
                }
            }
            "timeline" => {
                let (_, history) = access::history(prompt.store(), &prompt.id)?;
                print(&inspect::timeline(&history))?;
            }
            "instances" => print(&instances(prompt.store())?)?,
            "entities" => print(&entities(prompt.store())?)?,
            "entity" => print(&entity(prompt.store(), wanted(rest, ":entity NAME@KEY")?)?)?,
            "time" => {
                let began = Instant::now();
                prompt.evaluate(wanted(rest, ":time ENTRY")?, width)?;
                note(&format!("{:.3} ms", began.elapsed().as_secs_f64() * 1e3));
            }
            "core" | "code" => {
                let file = Path::new("entry");
                let program = check::load(
                    "entry",
                    wanted(rest, if name == "core" { ":core ENTRY" } else { ":code ENTRY" })?.to_string(),
                    &|_: &str| Err("it is not looked for here".to_string()),
                );
                if program::report(&program, file).is_ok() {
                    match name {
                        "core" => print(&core::print(&core::lower(&program), &program, false))?,
                        _ => print(&code::print(&*program::code(&program, file)?, false))?,
                    }
                }
            }
            "undo" => prompt.undo()?,
            "quit" | "q" | "exit" => return Ok(Then::Leave),
            unknown => {
                let near = closest(unknown, COMMANDS.iter().map(|(name, ..)| *name));
                let hint = near.map_or("`:help` lists the commands".to_string(), |near| {
                    format!("did you mean `:{near}`?")
                });
                return Err(Problem::new(USAGE, format!("there is no command `:{unknown}`")).hint(hint));
            }
        }
        Ok(Then::GoOn)
    }

    fn load(&self, prompt: &mut Prompt, width: usize) -> Result<(), Problem> {
        let Some(file) = &self.loaded else {
            return Err(Problem::new(USAGE, "no file was loaded").hint("`:load FILE` does"));
        };
        load(prompt, file, width).map(|_| ())
    }
}

/// Evaluates a file as one entry.
pub fn load(prompt: &mut Prompt, file: &str, width: usize) -> Result<Evaluated, Problem> {
    let text = read_text(Path::new(file))
        .map_err(|reason| Problem::new(STORE, format!("{file} can't be read: {reason}")))?;
    let folder = Path::new(file).parent().map(|folder| folder.display().to_string()).unwrap_or_default();
    prompt.evaluate(imported_from(&folder, &text).trim_end(), width)
}

/// Returns a file's text with the paths of its imports relative to the current folder, instead of
/// the file's own folder.
fn imported_from(folder: &str, text: &str) -> String {
    let mut out = String::new();
    let mut at = 0;
    for item in &parse(text, 0).module.items {
        if let StmtKind::Import { path, .. } = &item.kind
            && !folder.is_empty()
        {
            // The path begins after its quote.
            let start = path.span.start as usize + 1;
            out.push_str(&text[at..start]);
            out.push_str(&format!("{folder}/"));
            at = start;
        }
    }
    out.push_str(&text[at..]);
    out
}

fn wanted<'r>(rest: &'r str, usage: &str) -> Result<&'r str, Problem> {
    match rest {
        "" => Err(Problem::new(USAGE, format!("it is `{usage}`"))),
        rest => Ok(rest),
    }
}

fn instances(store: &dyn Queries) -> Result<String, Problem> {
    let mut all: Vec<InstanceRecord> = access::instances(store, &InstanceFilter::default())?;
    all.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
    let row = |record: &InstanceRecord| {
        vec![
            record.id.clone(),
            record.status.word().to_string(),
            time(record.created),
            record.function.clone(),
        ]
    };
    Ok(table(&["ID", "STATUS", "BEGAN", "RUNS"], &all.iter().map(row).collect::<Vec<_>>()))
}

fn entities(store: &dyn Queries) -> Result<String, Problem> {
    let mut rows = Vec::new();
    store.each_entities(&EntityFilter::default(), &mut |page| {
        for EntityView { entity, state, .. } in page {
            let Some(state) = state else { continue };
            let state = state.try_decode();
            let state = state.map_or("it can't be read".to_string(), |state| format::write(&state, 80).0);
            rows.push(vec![entity.to_string(), state]);
        }
        true
    })?;
    Ok(table(&["ENTITY", "STATE"], &rows))
}

fn entity(store: &dyn Queries, text: &str) -> Result<String, Problem> {
    let entity = super::super::clients::entity(text)?;
    let view = store.entity(&entity)?.ok_or_else(|| {
        Problem::new(FAILED, format!("no program here declares an entity `{}`", entity.name))
            .hint("`:entities` shows those that there are")
    })?;
    Ok(match view.state.map(|state| state.try_decode()) {
        Some(Some(state)) => format!("{}\n", format::write(&state, 4_000).0),
        Some(None) => "its state can't be read\n".to_string(),
        None => "no state: its next operation finds the initial one\n".to_string(),
    })
}

fn save(prompt: &Prompt, file: &str) -> Result<(), Problem> {
    let done = prompt.session.entries.iter().filter(|entry| entry.came == Came::Done);
    let text: String = done.map(|entry| format!("{}\n", entry.text.trim_end())).collect();
    std::fs::write(file, text).map_err(|error| {
        Problem::new(FAILED, format!("{file} can't be written: {}", crate::os::reason(&error)))
    })?;
    note(&format!("written to {file}"));
    Ok(())
}

fn help(prompt: &Prompt, name: &str) -> Result<(), Problem> {
    if name.is_empty() {
        let mut out = "What you type is evaluated, and everything that it binds stays, also when the terminal is killed.\n\
                       `_` is the last value. `…` marks the next line of an entry that is not complete; Ctrl-C drops it.\n\
                       Ctrl-C interrupts an evaluation, `exit` or Ctrl-D leaves. Tab completes.\n\n"
            .to_string();
        for (name, takes, does) in COMMANDS {
            out.push_str(&format!("  {:<18} {does}\n", format!(":{name} {takes}")));
        }
        let modules: Vec<&str> = std_sources().iter().map(|(name, _)| *name).collect();
        out.push_str(&format!("\n  `:help list` and so on for a module: {}\n", modules.join(", ")));
        return print(&out);
    }
    let done = prompt.session.entries.iter().filter(|entry| entry.came == Came::Done);
    let own: Vec<Entry> = done.flat_map(|entry| reference::of("", &entry.text)).collect();
    print(&described(name, &own)?)
}
