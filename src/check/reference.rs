//! The reference of the standard library, from its doc comments: for help at the prompt, in
//! editors, and as pages.

use std::sync::OnceLock;

use crate::syntax::parse;
use crate::syntax::tree::{Entity, Member, Module, Param, StmtKind};

use super::load::std_sources;

/// A documented name.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The module: `prelude` for names of the standard library that need no module, and empty for a
    /// user's file.
    pub module: String,
    pub name: String,
    /// The declaration, such as `fn map(xs, f)`.
    pub signature: String,
    /// The doc comment. Its lines of code begin with four spaces.
    pub doc: String,
}

impl Entry {
    /// Returns the name as programs write it: `list.map`.
    pub fn path(&self) -> String {
        match self.module.as_str() {
            "" | "prelude" => self.name.clone(),
            module => format!("{module}.{}", self.name),
        }
    }

    /// Returns the sentences of the doc comment, without its examples.
    pub fn text(&self) -> String {
        let lines = self.doc.lines().filter(|line| !line.starts_with("    "));
        lines.collect::<Vec<_>>().join("\n").trim().to_string()
    }

    /// Returns the lines of code in the doc comment.
    pub fn examples(&self) -> Vec<String> {
        self.doc.lines().filter_map(|line| line.strip_prefix("    ")).map(str::to_string).collect()
    }
}

/// Returns the names that the standard library declares, by module, in the order of their
/// declarations.
pub fn standard() -> &'static [Entry] {
    static ALL: OnceLock<Vec<Entry>> = OnceLock::new();
    ALL.get_or_init(|| std_sources().iter().flat_map(|(module, text)| of(module, text)).collect())
}

/// Returns the comment at the head of a standard module.
pub fn head(text: &str) -> String {
    let lines = text.lines().take_while(|line| line.starts_with("//") && !line.starts_with("///"));
    lines.map(|line| line.trim_start_matches('/').trim()).collect::<Vec<_>>().join("\n")
}

/// Returns the declarations of a text, documented or not.
pub fn of(module: &str, text: &str) -> Vec<Entry> {
    let Module { items } = parse(text, 0).module;
    let mut all = Vec::new();
    for item in &items {
        let (word, name, params, doc) = match &item.kind {
            StmtKind::Fn(f) => ("fn", &f.name, Some(&f.params), &f.doc),
            StmtKind::Activity(f) => ("activity", &f.name, Some(&f.params), &f.doc),
            StmtKind::Orchestration(f) => ("orchestration", &f.name, Some(&f.params), &f.doc),
            StmtKind::Const(name, _, doc) => ("const", name, None, doc),
            StmtKind::Entity(entity) => ("entity", &entity.name, None, &entity.doc),
            _ => continue,
        };
        let params = params.map_or(String::new(), |params| format!("({})", shown(params, text)));
        all.push(Entry {
            module: module.to_string(),
            name: name.name.to_string(),
            signature: format!("{word} {}{params}", name.name),
            doc: doc.as_ref().map(|doc| doc.to_string()).unwrap_or_default(),
        });
        if let StmtKind::Entity(entity) = &item.kind {
            all.extend(operations(module, entity, text));
        }
    }
    all
}

/// Returns the operations of an entity. Its functions are private.
fn operations(module: &str, entity: &Entity, text: &str) -> Vec<Entry> {
    let of = |member: &Member| {
        let Member::Operation(f) = member else { return None };
        Some(Entry {
            module: module.to_string(),
            name: format!("{}.{}", entity.name.name, f.name.name),
            signature: format!("on {}({})", f.name.name, shown(&f.params, text)),
            doc: f.doc.as_ref().map(|doc| doc.to_string()).unwrap_or_default(),
        })
    };
    entity.members.iter().filter_map(of).collect()
}

/// Returns parameters as they are written.
fn shown(params: &[Param], text: &str) -> String {
    let of = |param: &Param| {
        let start = param.pattern.span.start as usize;
        let end = param.default.as_ref().map_or(param.pattern.span.end, |default| default.span.end) as usize;
        text.get(start..end).unwrap_or("").to_string()
    };
    params.iter().map(of).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_signatures_and_docs() {
        let all = standard();
        let map = all.iter().find(|entry| entry.path() == "list.map").expect("it is there");
        assert_eq!(map.signature, "fn map(xs, f)");
        assert_eq!(map.text(), "What `f` makes of each element.");
        assert_eq!(map.examples(), ["[1, 2].map(fn x => x * 10) == [10, 20]"]);
        assert!(all.iter().any(|entry| entry.path() == "assert"));
    }
}
