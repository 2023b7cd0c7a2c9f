//! The meanings of the names in a document.

use serde_json::{Value, json};

use crate::check::reference::{self, Entry};
use crate::check::{Global, Resolved};
use crate::syntax::token::{is_of_a_name, last_name};
use crate::syntax::tree::{Member, StmtKind};
use crate::syntax::{Place, Span};

use super::super::repl::Assistant;
use super::cursor::{self, Cursor};
use super::document::Document;

impl Document {
    /// Returns the span of the name at an offset.
    pub(super) fn name_at(&self, at: usize) -> Option<Span> {
        let before = self.text.get(..at.min(self.text.len()))?;
        let start = before.len() - last_name(before).len();
        let after = self.text.get(start..)?;
        let end = start + after.find(|c| !is_of_a_name(c)).unwrap_or(after.len());
        // Words in comments and strings are no names.
        let is_code = matches!(cursor::after(&self.text[..start]), Cursor::Code(_));
        (end > start && is_code).then(|| Span::new(start, end))
    }

    /// Returns the meaning of the name at a span, which is a use or a declaration.
    pub(super) fn meaning(&self, span: Span) -> Option<Resolved> {
        let module = self.program.modules.first()?;
        let used = module.uses.get(&span.start).copied();
        let bound = || module.bound.get(&span.start).map(|binding| Resolved::Local(*binding));
        let declared = || {
            let found = self.program.globals.iter().position(|g| g.module == 0 && g.span == span);
            found.map(Resolved::Global)
        };
        used.or_else(bound).or_else(declared)
    }

    /// Returns the place where a meaning is declared.
    pub(super) fn declared(&self, meaning: Resolved) -> Option<Place> {
        match meaning {
            Resolved::Local(binding) => {
                let span = self.program.modules[0].bindings.get(binding as usize)?.span;
                (span.start != u32::MAX).then_some(Place { source: 0, span })
            }
            Resolved::Global(global) => {
                let global = &self.program.globals[global];
                Some(Place { source: self.program.modules[global.module].source, span: global.span })
            }
            // The function of the library that stands for the builtin declares it.
            Resolved::Builtin(builtin) => {
                let global = self.program.globals.iter().find(|global| global.alias == Some(builtin))?;
                Some(Place { source: self.program.modules[global.module].source, span: global.span })
            }
        }
    }

    /// Whether a meaning is an operation of an entity.
    pub(super) fn is_operation(&self, meaning: Resolved) -> bool {
        let Resolved::Local(binding) = meaning else { return false };
        let Some(module) = self.program.modules.first() else { return false };
        let Some(declared) = module.bindings.get(binding as usize).map(|binding| binding.span) else {
            return false;
        };
        let entities = module.tree.items.iter().filter_map(|item| match &item.kind {
            StmtKind::Entity(entity) => Some(entity),
            _ => None,
        });
        entities.flat_map(|entity| &entity.members).any(|member| match member {
            Member::Operation(f) => f.name.span == declared,
            _ => false,
        })
    }

    /// Returns the place where the name at an offset is declared; for a method, the places of all
    /// library functions of that name.
    pub fn definition(&self, at: usize) -> Value {
        let Some(span) = self.name_at(at) else { return Value::Null };
        if let Some(meaning) = self.meaning(span) {
            return self.declared(meaning).and_then(|place| self.location(place)).unwrap_or(Value::Null);
        }
        let name = &self.text[span.start as usize..span.end as usize];
        let of_library = |global: &&Global| {
            &*global.name == name && self.program.modules[global.module].std.is_some_and(|of| of != "prelude")
        };
        let place =
            |global: &Global| Place { source: self.program.modules[global.module].source, span: global.span };
        let all = self.program.globals.iter().filter(of_library);
        all.filter_map(|global| self.location(place(global))).collect()
    }

    /// Returns all places in this file with a meaning, its declaration among them.
    pub(super) fn same(&self, meaning: Resolved) -> Vec<Span> {
        let module = &self.program.modules[0];
        let mut starts: Vec<u32> =
            module.uses.iter().filter(|(_, known)| **known == meaning).map(|(start, _)| *start).collect();
        if let Resolved::Local(binding) = meaning {
            // Alternatives of a pattern bind one name in several places.
            starts
                .extend(module.bound.iter().filter(|(_, known)| **known == binding).map(|(start, _)| *start));
        }
        if let Some(place) = self.declared(meaning).filter(|place| place.source == 0) {
            starts.push(place.span.start);
        }
        starts.sort_unstable();
        starts.dedup();
        let name = |start: u32| {
            let rest = self.text.get(start as usize..)?;
            let length = rest.find(|c| !is_of_a_name(c)).unwrap_or(rest.len());
            Some(Span::new(start as usize, start as usize + length))
        };
        starts.into_iter().filter_map(name).collect()
    }

    pub fn hover(&self, assistant: &Assistant, at: usize) -> Value {
        let Some(span) = self.name_at(at) else { return Value::Null };
        let Some(text) = self.described(assistant, span) else { return Value::Null };
        json!({"contents": {"kind": "markdown", "value": text}, "range": self.range(span)})
    }

    fn described(&self, assistant: &Assistant, span: Span) -> Option<String> {
        let name = &self.text[span.start as usize..span.end as usize];
        let page = |entry: &Entry| {
            let mut out = format!("```df\n{}\n```\n{}", entry.signature, entry.text());
            if !entry.code().is_empty() {
                out.push_str(&format!("\n```df\n{}\n```", entry.code().join("\n")));
            }
            out
        };
        match self.meaning(span) {
            Some(Resolved::Local(binding)) => {
                let info = self.program.modules[0].bindings.get(binding as usize)?;
                let word = match (info.mutable, info.arity) {
                    (true, _) => "var",
                    (false, Some(_)) if self.is_operation(Resolved::Local(binding)) => "on",
                    (false, Some(_)) => "fn",
                    (false, None) => "let",
                };
                Some(format!("```df\n{word} {name}\n```"))
            }
            Some(Resolved::Global(global)) => {
                let global = &self.program.globals[global];
                let module = &self.program.modules[global.module];
                let text = &self.program.sources.files[module.source as usize].text;
                let all = reference::of(module.std.unwrap_or(""), text);
                all.iter().find(|entry| *entry.name == *global.name).map(page)
            }
            Some(Resolved::Builtin(_)) | None => {
                // This is a method, or a function of the library under another name.
                let found: Vec<String> = assistant.named(name).map(page).collect();
                (!found.is_empty()).then(|| found.join("\n\n---\n\n"))
            }
        }
    }
}
