//! The check that a renaming changes no meaning.
//!
//! The program is renamed and checked again. All names must mean the same as before.

use std::collections::HashMap;

use crate::check::{Module, ModuleId, Program, Resolved, load};
use crate::syntax::{Severity, Span, parse};

/// A module's text with the new name, and the edits that led to it.
struct Renamed {
    text: String,
    /// The place of each edit, and whether it is a field and a variable in one word.
    edits: Vec<(Span, bool)>,
    name: usize,
}

impl Renamed {
    fn new(program: &Program, module: &Module, spans: Vec<Span>, name: &str) -> Renamed {
        let text = &program.sources.files[module.source as usize].text;
        let parsed = parse(text, 0);
        let is_short = |span: &Span| {
            let found = parsed.tokens.binary_search_by_key(&(span.start as usize), |token| token.0);
            found.is_ok_and(|at| parsed.is_short_field(at))
        };
        let edits: Vec<(Span, bool)> = spans.iter().map(|span| (*span, is_short(span))).collect();
        let mut new = String::with_capacity(text.len());
        let mut at = 0;
        for (span, short) in &edits {
            new.push_str(&text[at..span.start as usize]);
            at = span.end as usize;
            if *short {
                new.push_str(&text[span.start as usize..at]);
                new.push_str(": ");
            }
            new.push_str(name);
        }
        new.push_str(&text[at..]);
        Renamed { text: new, edits, name: name.len() }
    }

    /// Returns the new offset of the text that was at an offset.
    fn now(&self, offset: u32) -> u32 {
        let mut now = i64::from(offset);
        for (span, short) in &self.edits {
            let old = i64::from(span.end - span.start);
            let field = if *short { old + 2 } else { 0 };
            if span.start < offset {
                now += field + self.name as i64 - old;
            } else {
                now += if span.start == offset { field } else { 0 };
                break;
            }
        }
        now as u32
    }
}

/// Returns the places in a module that have a meaning, in order.
fn places(program: &Program, id: ModuleId, meaning: Resolved) -> Vec<Span> {
    let module = &program.modules[id];
    let text = &program.sources.files[module.source as usize].text;
    let is_local = matches!(meaning, Resolved::Local(_));
    let mut starts: Vec<u32> = Vec::new();
    if !is_local || id == 0 {
        let uses = module.uses.iter().filter(|(_, known)| **known == meaning);
        starts.extend(uses.map(|(start, _)| *start));
    }
    let name = match meaning {
        Resolved::Local(binding) if id == 0 => {
            let bound = module.bound.iter().filter(|(_, known)| **known == binding);
            starts.extend(bound.map(|(start, _)| *start));
            module.bindings[binding as usize].name.clone()
        }
        Resolved::Global(global) => {
            let global = &program.globals[global];
            if global.module == id {
                starts.push(global.span.start);
            }
            global.name.clone()
        }
        _ => return Vec::new(),
    };
    starts.sort_unstable();
    starts.dedup();
    let spans = starts.into_iter().map(|start| Span { start, end: start + name.len() as u32 });
    spans.filter(|span| text.get(span.start as usize..span.end as usize) == Some(&*name)).collect()
}

/// Checks that a meaning can have another name. An error says why it cannot.
pub fn check(program: &Program, meaning: Resolved, name: &str) -> Result<(), String> {
    let own = || program.modules.iter().enumerate().filter(|(_, module)| module.std.is_none());
    let renamed: HashMap<&str, Renamed> = own()
        .map(|(id, module)| {
            (module.name.as_str(), Renamed::new(program, module, places(program, id, meaning), name))
        })
        .collect();
    let Some(first) = program.modules.first() else { return Ok(()) };
    let Some(text) = renamed.get(first.name.as_str()).map(|renamed| renamed.text.clone()) else {
        return Ok(());
    };
    let read = |key: &str| {
        renamed.get(key).map(|renamed| renamed.text.clone()).ok_or_else(|| "it can't be read".to_string())
    };
    let after = load(&first.name, text, &read);
    for (id, module) in own() {
        let (Some(renamed), Some(new)) = (renamed.get(module.name.as_str()), after.modules.get(id)) else {
            continue;
        };
        let mut changed: Vec<u32> = module
            .uses
            .iter()
            .filter(|(start, known)| new.uses.get(&renamed.now(**start)) != Some(*known))
            .map(|(start, _)| *start)
            .collect();
        changed.extend(
            module
                .bound
                .iter()
                // The script's `args` have no place in the text.
                .filter(|(start, known)| {
                    **start != u32::MAX && new.bound.get(&renamed.now(**start)) != Some(*known)
                })
                .map(|(start, _)| *start),
        );
        if let Some(at) = changed.into_iter().min() {
            let text = &program.sources.files[module.source as usize].text;
            let line = text[..at as usize].matches('\n').count() + 1;
            let word = text[at as usize..].split(|c| !crate::syntax::token::is_of_a_name(c)).next();
            let word = word.unwrap_or_default();
            return Err(format!(
                "`{name}` is another name there: `{word}` in line {line} of {} would mean something else",
                module.name
            ));
        }
    }
    let errors =
        |program: &Program| program.diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
    match after.diagnostics.iter().find(|d| d.severity == Severity::Error) {
        Some(error) if errors(&after) > errors(program) => {
            Err(format!("`{name}` can't be the name of this: {}", error.title))
        }
        _ => Ok(()),
    }
}
