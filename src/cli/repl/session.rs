//! A session as a program: its entries in order. The standard library's `repl.evaluate` evaluates
//! each, and then waits for the next one.
//!
//! A program with one more entry does the same as the program before, up to the place where that
//! one waits. So the session is an ordinary instance, and continues by replay. The names of an
//! entry are bound after it, in the script. A later entry that binds a name again does not affect
//! earlier uses of the name.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::syntax::tree::{Member, Module, Stmt, StmtKind};
use crate::syntax::{Place, Sources, Span, parse};

use super::lifted::{Piece, pieces};

/// An entry: the text that was typed at once, with its outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub text: String,
    /// The number of the terminal's columns, which limits the printed form of the entry's value.
    pub width: usize,
    pub came: Came,
}

/// The kind of an entity that the session declares. Its fields are its operations.
pub const ENTITY: &str = "entity declaration";

/// A name of the session, its kind and its fields, the latter two as far as known.
pub type Known = (String, String, Vec<String>);

/// The outcome of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Came {
    /// The entry is not done.
    Running,
    Done,
    /// The entry failed or was interrupted, and binds nothing.
    Failed,
}

/// The parts of an entry, as spans of its text.
struct Parts {
    declarations: Vec<(String, Span)>,
    statements: Vec<Span>,
    /// The expression at the entry's end, if there is one.
    last: Option<Span>,
    names: Vec<String>,
    functions: Vec<(String, Span)>,
}

impl Parts {
    fn of(text: &str) -> Parts {
        let Module { items } = parse(text, 0).module;
        let mut parts = Parts {
            declarations: Vec::new(),
            statements: Vec::new(),
            last: None,
            names: Vec::new(),
            functions: Vec::new(),
        };
        let mut from = 0;
        let count = items.len();
        for (at, item) in items.iter().enumerate() {
            let span = Span { start: from, end: item.span.end };
            let own = item.span;
            match &item.kind {
                StmtKind::Expr(_) if at + 1 == count => parts.last = Some(own),
                kind => match declared(kind) {
                    Some(name) => parts.declarations.push((name, span)),
                    None => {
                        parts.statements.push(span);
                        if let StmtKind::Fn(f) = kind {
                            parts.functions.push((f.name.name.to_string(), own));
                        }
                        bound(item, &mut parts.names);
                    }
                },
            }
            from = item.span.end;
        }
        parts
    }

    fn is_evaluated(&self) -> bool {
        !self.statements.is_empty() || self.last.is_some()
    }
}

/// Returns the name of a declaration, or `None` for a statement.
fn declared(kind: &StmtKind) -> Option<String> {
    match kind {
        StmtKind::Activity(f) | StmtKind::Orchestration(f) => Some(f.name.name.to_string()),
        StmtKind::Entity(entity) => Some(entity.name.name.to_string()),
        StmtKind::Import { alias, .. } => Some(alias.name.to_string()),
        StmtKind::Const(name, ..) => Some(name.name.to_string()),
        StmtKind::Test(name, _) => Some(format!("test {:?}", &*name.name)),
        StmtKind::Mock(_) | StmtKind::Property(_) => Some(String::new()),
        StmtKind::Schedule(schedule) => Some(schedule.name.name.to_string()),
        _ => None,
    }
}

/// Adds the names that a statement binds.
fn bound(stmt: &Stmt, names: &mut Vec<String>) {
    let mut add = |name: &str| {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_string());
        }
    };
    match &stmt.kind {
        StmtKind::Let(pattern, _) => pattern.names(&mut |name, _| add(name)),
        StmtKind::Var(name, _) => add(&name.name),
        StmtKind::Fn(f) => add(&f.name.name),
        _ => {}
    }
}

/// A session's program, and the places of its entries in the program.
pub struct Text {
    pub text: String,
    /// The parts of the program that come from entries: the offset in the program, the length, the
    /// entry, and the offset in the entry.
    stretches: Vec<(u32, u32, usize, u32)>,
}

/// The entries of a session, the oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Session {
    pub entries: Vec<Entry>,
}

/// The prefix of the last line, which holds the entries as JSON.
const TRAILER: &str = "//= ";
/// The text before an expression.
const PARENTHESIS: &str = "(\n";
/// The name of the program's file.
pub const FILE: &str = "session.df";

impl Session {
    /// Returns the session with this program, or `None` if the text is not a session's program.
    pub fn read(text: &str) -> Option<Session> {
        let line = text.lines().last()?.strip_prefix(TRAILER)?;
        Some(Session { entries: serde_json::from_str(line).ok()? })
    }

    /// Returns the session with one more entry, which is still running.
    pub fn with(&self, text: &str, width: usize) -> Session {
        let mut next = self.clone();
        next.entries.push(Entry { text: text.to_string(), width, came: Came::Running });
        next
    }

    /// Returns whether the last entry declares something that belongs into a file.
    pub fn misplaced(&self) -> bool {
        let items = self.entries.last().map(|entry| parse(&entry.text, 0).module.items).unwrap_or_default();
        let only_tried = |kind: &StmtKind| {
            matches!(
                kind,
                StmtKind::Test(..) | StmtKind::Mock(_) | StmtKind::Property(_) | StmtKind::Schedule(_)
            )
        };
        items.iter().any(|item| only_tried(&item.kind))
    }

    /// Returns the number of entries that are evaluated, which is also the number of the last of
    /// these.
    pub fn evaluated(&self) -> usize {
        self.entries.iter().filter(|entry| Parts::of(&entry.text).is_evaluated()).count()
    }

    /// Returns whether the last entry only declares.
    pub fn only_declares(&self) -> bool {
        self.entries.last().is_none_or(|entry| !Parts::of(&entry.text).is_evaluated())
    }

    /// Returns the names that successful entries bound or declared.
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.came == Came::Done) {
            let parts = Parts::of(&entry.text);
            names.extend(parts.names);
            names.extend(parts.declarations.into_iter().map(|(name, _)| name));
        }
        names.sort();
        names.dedup();
        names
    }

    /// Returns the entities that successful entries declared, with their operations.
    pub fn entities(&self) -> Vec<(String, Vec<String>)> {
        let mut entities: Vec<(String, Vec<String>)> = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.came == Came::Done) {
            for item in parse(&entry.text, 0).module.items {
                if let StmtKind::Entity(entity) = item.kind {
                    let name = entity.name.name.to_string();
                    let operation = |member: &Member| match member {
                        Member::Operation(operation) => Some(operation.name.name.to_string()),
                        _ => None,
                    };
                    let operations = entity.members.iter().filter_map(operation).collect();
                    entities.retain(|(known, _)| *known != name);
                    entities.push((name, operations));
                }
            }
        }
        entities
    }

    /// Returns the session's program.
    pub fn program(&self) -> Text {
        let mut out = Text { text: String::new(), stretches: Vec::new() };
        out.text.push_str("// A session of `durable repl`.\n");
        out.text.push_str("repl.evaluate(0, 80, fn () => {value: null, names: {}})\n");
        let all: Vec<Parts> = self.entries.iter().map(|entry| Parts::of(&entry.text)).collect();
        // A declaration replaces earlier ones of the same name.
        let mut newest: HashMap<&str, usize> = HashMap::new();
        for (at, parts) in all.iter().enumerate() {
            newest.extend(parts.declarations.iter().map(|(name, _)| (name.as_str(), at)));
        }
        let mut number = 0;
        let mut functions: BTreeSet<String> = BTreeSet::new();
        let mut wanted: Vec<String> = Vec::new();
        for (at, (entry, parts)) in self.entries.iter().zip(&all).enumerate() {
            functions.extend(parts.functions.iter().map(|(name, _)| name.clone()));
            for (name, span) in &parts.declarations {
                let from = out.text.len();
                let (pieces, used) = pieces(&entry.text, *span, &functions);
                out.put(at, entry, &pieces);
                if newest.get(name.as_str()) == Some(&at) {
                    wanted.extend(used);
                } else {
                    // Spaces replace the declaration, so that the text after it keeps its place.
                    let blank: String = out.text[from..].chars().map(blank).collect();
                    out.text.replace_range(from.., &blank);
                }
            }
            if !parts.is_evaluated() {
                continue;
            }
            number += 1;
            out.text
                .push_str(&format!("let _{number} = repl.evaluate({number}, {}, fn () {{\n", entry.width));
            parts.statements.iter().for_each(|span| out.take(at, entry, *span));
            match parts.last {
                Some(span) => {
                    out.text.push_str(&format!("let _value = {PARENTHESIS}"));
                    out.take(at, entry, span);
                    out.text.push_str(")\n");
                }
                None => out.text.push_str("let _value = null\n"),
            }
            let names = parts.names.join(", ");
            out.text.push_str(&format!("{{value: _value, names: {{{names}}}}}\n}})\n"));
            if entry.came != Came::Done {
                continue;
            }
            for name in &parts.names {
                out.text.push_str(&format!("var {name} = _{number}.names.get({name:?})\n"));
            }
            if parts.last.is_some() {
                out.text.push_str(&format!("var _ = _{number}.value\n"));
            }
        }
        self.copy_functions(&all, &functions, wanted, &mut out);
        // The entries are at the end, so that their places are the same in all programs of the
        // session. Errors contain places.
        let entries = serde_json::to_string(&self.entries).unwrap_or_default();
        out.text.push_str(&format!("{TRAILER}{entries}\n"));
        out
    }

    /// Appends the newest version of each function that declarations use, and of the functions that
    /// these use.
    fn copy_functions(
        &self,
        all: &[Parts],
        functions: &BTreeSet<String>,
        mut wanted: Vec<String>,
        out: &mut Text,
    ) {
        let mut copied: BTreeSet<String> = BTreeSet::new();
        while let Some(name) = wanted.pop() {
            if !copied.insert(name.clone()) {
                continue;
            }
            let newest = all.iter().enumerate().rev().find_map(|(at, parts)| {
                let found = parts.functions.iter().rev().find(|(known, _)| *known == name)?;
                Some((at, found.1))
            });
            if let Some((at, span)) = newest {
                let (pieces, used) = pieces(&self.entries[at].text, span, functions);
                out.put(at, &self.entries[at], &pieces);
                wanted.extend(used);
            }
        }
    }
}

/// Returns one space for each byte of a character; line breaks stay.
fn blank(c: char) -> &'static str {
    match (c, c.len_utf8()) {
        ('\n', _) => "\n",
        (_, 1) => " ",
        (_, 2) => "  ",
        (_, 3) => "   ",
        _ => "    ",
    }
}

impl Text {
    fn take(&mut self, at: usize, entry: &Entry, span: Span) {
        self.put(at, entry, &[Piece { span, instead: None }]);
    }

    /// Appends parts of an entry, each with its replacement if there is one.
    fn put(&mut self, at: usize, entry: &Entry, pieces: &[Piece]) {
        for (number, Piece { span, instead }) in pieces.iter().enumerate() {
            let whole = &entry.text[span.start as usize..span.end as usize];
            let own = match number {
                0 => whole.trim_start_matches([' ', '\t', '\r', '\n', ';']),
                _ => whole,
            };
            let skipped = (whole.len() - own.len()) as u32;
            if !own.is_empty() {
                self.stretches.push((self.text.len() as u32, own.len() as u32, at, span.start + skipped));
            }
            self.text.push_str(instead.as_deref().unwrap_or(own));
        }
        self.text.push('\n');
    }

    /// Returns the place in an entry for a place in the program. The entries follow as sources,
    /// from number `first`.
    pub fn place(&self, place: Place, first: u32) -> Option<Place> {
        if place.source != 0 {
            return Some(place);
        }
        let Span { start, end } = place.span;
        // The place of an expression includes the parentheses around it.
        let inside = |(from, len, ..): &&(u32, u32, usize, u32)| {
            start + PARENTHESIS.len() as u32 >= *from && start <= from + len && end >= *from
        };
        let (from, len, entry, own) = self.stretches.iter().find(inside)?;
        let span = Span { start: start.max(*from) - from + own, end: end.min(from + len) - from + own };
        Some(Place { source: first + *entry as u32, span })
    }

    /// Returns the program's sources with the entries after them, and the number of the first
    /// entry's source.
    pub fn sources(&self, program: &Sources, session: &Session) -> (Sources, u32) {
        let mut sources = program.clone();
        let first = sources.files.len() as u32;
        for (at, entry) in session.entries.iter().enumerate() {
            sources.add(format!("[{}]", at + 1), entry.text.as_str());
        }
        (sources, first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_says_which_session_it_is_of() {
        let mut session = Session::default().with("let a = 1; a + 1", 80);
        session.entries[0].came = Came::Done;
        let session = session.with("activity f() => 1", 80).with("activity f() => 2\nf()", 80);
        let text = session.program();
        assert_eq!(Session::read(&text.text), Some(session.clone()));
        assert_eq!(session.evaluated(), 2);
        assert!(!text.text.contains("\nactivity f() => 1\n"), "{}", text.text);
        assert!(text.text.contains("\n                 \n"), "{}", text.text);
        assert!(text.text.contains("\nactivity f() => 2\n"), "{}", text.text);
        let at = text.text.rfind("f()\n").expect("the call") as u32;
        let place = text.place(Place { source: 0, span: Span { start: at, end: at + 3 } }, 7);
        assert_eq!(place, Some(Place { source: 9, span: Span { start: 18, end: 21 } }));
    }
}
