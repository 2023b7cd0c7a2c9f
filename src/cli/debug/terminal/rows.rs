//! The rows of the panes.

use std::collections::BTreeSet;

use crate::debug::{On, view};
use crate::machine::Value;

use super::super::debugger::Debugger;
use super::super::places;

/// A variable or a part of one.
pub struct Row {
    /// The variable's name, followed by those of the parts.
    pub path: String,
    pub variable: String,
    pub depth: usize,
    pub name: String,
    pub value: String,
    pub has_parts: bool,
    pub is_expanded: bool,
}

/// The most parts of a value that are shown below it.
const MOST_PARTS: usize = 200;

/// Returns the variables of the call that is looked at, with the parts of those that are expanded.
pub fn variables(debugger: &Debugger, expanded: &BTreeSet<String>) -> Vec<Row> {
    let session = &debugger.shown().session;
    let mut rows = Vec::new();
    for variable in session.variables(session.task(), debugger.call()) {
        if variable.is_function {
            continue;
        }
        match variable.value.value() {
            Some(value) => {
                add(&mut rows, expanded, &variable.name, (&variable.name, &variable.name, 0), value)
            }
            None => rows.push(Row {
                path: variable.name.clone(),
                variable: variable.name.clone(),
                depth: 0,
                name: variable.name.clone(),
                value: view::held(&variable.value, 80),
                has_parts: false,
                is_expanded: false,
            }),
        }
    }
    rows
}

/// Adds the row of a value, and those of its parts if it is expanded.
fn add(
    rows: &mut Vec<Row>,
    expanded: &BTreeSet<String>,
    variable: &str,
    (path, name, depth): (&str, &str, usize),
    value: &Value,
) {
    let has_parts = view::count_parts(value) > 0;
    let is_expanded = has_parts && expanded.contains(path);
    rows.push(Row {
        path: path.to_string(),
        variable: variable.to_string(),
        depth,
        name: name.to_string(),
        value: view::brief(value, 80),
        has_parts,
        is_expanded,
    });
    // Deep values are expanded one level at a time, so that this depth is what a person chose.
    if is_expanded && depth < 50 {
        for (name, part) in view::parts(value, 0, MOST_PARTS) {
            add(rows, expanded, variable, (&format!("{path}/{name}"), &name, depth + 1), &part);
        }
    }
}

/// A call or a task, and the command that chooses it.
pub struct Choice {
    pub text: String,
    pub command: String,
    pub is_chosen: bool,
}

/// Returns the calls of the task that steps follow, and the other tasks.
pub fn calls(debugger: &Debugger) -> Vec<Choice> {
    let session = &debugger.shown().session;
    let chosen = debugger.call();
    let frames = session.frames(session.task());
    let calls = frames.iter().map(|call| Choice {
        text: format!("{}  {}", call.function, places::locate(session, call.place)),
        command: format!("frame {}", call.number),
        is_chosen: call.number == chosen,
    });
    let tasks = session.tasks().into_iter().filter(|task| task.id != session.task());
    let tasks = tasks.map(|task| Choice {
        text: format!("task {}  {}", task.id, task.does),
        command: format!("task {}", task.id),
        is_chosen: false,
    });
    calls.chain(tasks).collect()
}

/// Returns the place of the call that is looked at: the file's number and the line.
pub fn current_line(debugger: &Debugger) -> Option<(u32, usize)> {
    let place = debugger.place()?;
    Some((place.source, debugger.shown().session.image.code.sources.line_column(place).0))
}

/// Returns the file and the number of the line that is selected in the source.
pub fn selected_line(debugger: &Debugger, distance: isize) -> Option<(String, usize)> {
    let (source, line) = current_line(debugger)?;
    let file = debugger.shown().session.image.code.sources.files.get(source as usize)?;
    let last = file.text.lines().count().max(1);
    Some((file.name.clone(), line.saturating_add_signed(distance).clamp(1, last)))
}

/// Returns the lines of a source that have breakpoints.
pub fn breakpoint_lines(debugger: &Debugger, source: u32) -> BTreeSet<usize> {
    let opened = debugger.shown();
    let statements = &opened.session.tables().statements;
    let all = opened.breakpoints.all.iter().filter_map(|breakpoint| match &breakpoint.on {
        On::Statements(own) => Some(own),
        _ => None,
    });
    let places = all.flatten().filter_map(|at| statements.get(*at as usize)).map(|statement| statement.place);
    let sources = &opened.session.image.code.sources;
    places.filter(|place| place.source == source).map(|place| sources.line_column(place).0).collect()
}

/// Returns the number of the breakpoint at a line, or at the line where a breakpoint for it is.
pub fn breakpoint_at(debugger: &Debugger, file: &str, line: usize) -> Option<u32> {
    let opened = debugger.shown();
    let source = opened.session.source_named(file)?;
    let (_, wanted) = opened.session.statements_at(source, line)?;
    let found = opened.breakpoints.all.iter().find(|breakpoint| match &breakpoint.on {
        On::Statements(own) => *own == wanted,
        _ => false,
    });
    found.map(|breakpoint| breakpoint.id)
}
