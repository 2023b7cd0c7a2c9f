//! Tasks, calls, variables and values, as a debugger shows them.

use crate::machine::format;
use crate::machine::inspect::{Held, Variable, Waiting};
use crate::machine::value::Value;
use crate::syntax::Place;

use super::session::Session;

pub use super::replay::shown;

/// A running call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The number of the call within its task, from the outermost one on.
    pub number: usize,
    pub function: String,
    pub place: Place,
    /// Whether the call is one of the program's own, and not of the standard library.
    pub is_own: bool,
}

/// A running task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskView {
    pub id: u64,
    /// What the task does: the thing that it waits for, or `ready`.
    pub does: String,
}

/// The most parts of a value that are listed.
pub const MOST_PARTS: usize = 1_000;

impl Session {
    /// Returns the running tasks.
    pub fn tasks(&self) -> Vec<TaskView> {
        let machine = &self.replay.machine;
        let view = |id| {
            let does = match machine.waits_for(id) {
                Waiting::Nothing => "ready".to_string(),
                Waiting::Request(seq) => match self.replay.asked(seq) {
                    Some(asked) => format!("waits for {}", shown(&asked.request)),
                    None => format!("waits for request {seq}"),
                },
                Waiting::Tasks(tasks) => {
                    let tasks: Vec<String> = tasks.iter().map(|task| task.to_string()).collect();
                    format!("waits for task {}", tasks.join(", "))
                }
            };
            TaskView { id, does }
        };
        machine.tasks().into_iter().map(view).collect()
    }

    /// Returns the calls of a task, innermost first, without those that the compiler adds.
    pub fn frames(&self, task: u64) -> Vec<Call> {
        let code = &self.image.code;
        let calls = self.replay.machine.calls(task);
        let calls = calls.into_iter().enumerate().rev();
        let seen = calls.filter(|(_, call)| code.functions[call.function as usize].hidden == 0);
        let shown = seen.map(|(number, call)| Call {
            number,
            function: code.functions[call.function as usize].name.clone(),
            place: code.place(call.function, call.pc as usize),
            is_own: self.is_own(call),
        });
        shown.collect()
    }

    /// Returns the innermost call of a task that is one of the program's own.
    pub fn own_frame(&self, task: u64) -> Option<Call> {
        self.frames(task).into_iter().find(|call| call.is_own)
    }

    /// Returns the place of this moment: the statement that is about to be executed, or the call
    /// that waits.
    pub fn place(&self) -> Option<Place> {
        match self.at().statement {
            Some(statement) if self.at().task == self.task() => {
                self.tables().statements.get(statement as usize).map(|statement| statement.place)
            }
            _ => self.own_frame(self.task()).map(|call| call.place),
        }
    }

    /// Returns the source of a name: that of a file, or the end of its path.
    pub fn source_named(&self, name: &str) -> Option<u32> {
        let files = &self.image.code.sources.files;
        let is_it = |known: &str| {
            known == name || name.ends_with(&format!("/{known}")) || known.ends_with(&format!("/{name}"))
        };
        let own = files.iter().position(|file| file.name == name);
        own.or_else(|| files.iter().position(|file| is_it(&file.name))).map(|at| at as u32)
    }

    /// Returns the statements of a line, or of the next line that has any, with the number of that
    /// line. Of several statements on a line, only the first is returned.
    pub fn statements_at(&self, source: u32, line: usize) -> Option<(usize, Vec<u32>)> {
        let sources = &self.image.code.sources;
        let statements = self.tables().statements.iter().enumerate();
        let of_source = statements.filter(|(_, statement)| statement.place.source == source);
        let placed = of_source.map(|(number, statement)| {
            let (line, column) = sources.line_column(statement.place);
            (line, column, number as u32)
        });
        let mut found: Vec<(usize, usize, u32)> = placed.filter(|(at, ..)| *at >= line).collect();
        found.sort_unstable();
        let (line, column, _) = *found.first()?;
        let first = found.into_iter().filter(|(at, from, _)| (*at, *from) == (line, column));
        Some((line, first.map(|(.., number)| number).collect()))
    }

    /// Returns the first statements of the functions of a name.
    pub fn statements_of(&self, name: &str) -> Vec<u32> {
        let functions = self.image.code.functions.iter().enumerate();
        let named = functions.filter(|(_, function)| function.name == name && function.hidden == 0);
        named.filter_map(|(number, _)| self.tables().first_of(number as u32)).collect()
    }

    /// Returns the variables that a call of a task sees.
    pub fn variables(&self, task: u64, call: usize) -> Vec<Variable> {
        self.replay.machine.variables(task, call)
    }
}

/// Returns the value of a variable in one line of about so many characters.
pub fn held(held: &Held, most: usize) -> String {
    match held {
        Held::Value(value) => brief(value, most),
        Held::NotYet => "(no value yet)".into(),
        Held::HandedOn => "(handed to the running call)".into(),
    }
}

/// Returns a value in one line of about so many characters.
pub fn brief(value: &Value, most: usize) -> String {
    let (text, is_whole) = format::write(value, most);
    let text = text.replace('\n', "\\n");
    if is_whole && text.chars().count() <= most {
        return text;
    }
    let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Returns the number of parts of a value.
pub fn count_parts(value: &Value) -> usize {
    match value {
        Value::List(list) => list.len(),
        Value::Record(record) => record.iter().count(),
        _ => 0,
    }
}

/// Returns the parts of a value with their names, from one on.
pub fn parts(value: &Value, from: usize, most: usize) -> Vec<(String, Value)> {
    match value {
        Value::List(list) => {
            let items = list.as_slice().iter().enumerate().skip(from).take(most);
            items.map(|(at, item)| (format!("[{at}]"), item.clone())).collect()
        }
        Value::Record(record) => {
            let items = record.iter().skip(from).take(most);
            items.map(|(name, item)| (name.to_string(), item.clone())).collect()
        }
        _ => Vec::new(),
    }
}
