//! All places where something is meant: in the open documents, and in the files of the folder that the editor works in.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::check::{GlobalId, Resolved};
use crate::os::read_text;
use crate::syntax::lexer::lex;
use crate::syntax::token::Token;
use crate::syntax::{Span, parse};

use super::document::{Document, path_of, range_in, uri_of};
use super::renaming;

/// Files of the folder that are looked at, and folders within it, at most.
const MOST_FILES: usize = 1_000;
const MOST_FOLDERS: usize = 2_000;

/// A declaration: its file, where it is there, and its name.
struct Declared {
    path: PathBuf,
    span: Span,
    name: String,
}

impl Declared {
    /// The declaration in a document's program, if that has it.
    fn find(&self, document: &Document) -> Option<GlobalId> {
        let program = &document.program;
        program.globals.iter().position(|global| {
            global.span == self.span
                && document.path(program.modules[global.module].source).is_some_and(|path| path == self.path)
        })
    }
}

impl Document {
    /// A declaration of the program; none of the standard library's.
    fn declaration(&self, global: GlobalId) -> Option<Declared> {
        let known = self.program.globals.get(global)?;
        let module = &self.program.modules[known.module];
        if module.std.is_some() {
            return None;
        }
        Some(Declared { path: self.path(module.source)?, span: known.span, name: known.name.to_string() })
    }
}

/// Places of one file, with its text.
#[derive(Default)]
struct Places {
    text: String,
    spans: Vec<Span>,
}

/// The documents that are open, and the folder around them.
pub struct Everywhere<'a> {
    pub documents: &'a HashMap<String, Document>,
    pub root: Option<&'a Path>,
}

impl Everywhere<'_> {
    /// All places where the name at an offset is meant, its declaration among them.
    pub fn references(&self, document: &Document, at: usize) -> Value {
        let mut all = Vec::new();
        for (path, places) in self.meant(document, at).unwrap_or_default() {
            let uri = self.uri(&path);
            all.extend(
                places.spans.iter().map(|span| json!({"uri": uri, "range": range_in(&places.text, *span)})),
            );
        }
        all.into()
    }

    /// The edits that give what the name at an offset means another name; an error says why that can't be.
    pub fn rename(&self, document: &Document, at: usize, name: &str) -> Result<Value, String> {
        let meant = self.meant(document, at).ok_or("there is no name here that can be changed")?;
        let is_name = matches!(lex(name, 0).tokens[..], [(0, Token::Id(_), end)] if end == name.len());
        if !is_name {
            return Err(format!("`{name}` can't be a name"));
        }
        if let Some(meaning) = document.name_at(at).and_then(|span| document.meaning(span)) {
            self.check_rename(document, meaning, name)?;
        }
        let mut changes = serde_json::Map::new();
        for (path, Places { text, spans }) in meant {
            let parsed = parse(&text, 0);
            let is_short = |span: &Span| {
                let found = parsed.tokens.binary_search_by_key(&(span.start as usize), |token| token.0);
                found.is_ok_and(|at| parsed.is_short_field(at))
            };
            let edit = |span: &Span| {
                let old = &text[span.start as usize..span.end as usize];
                // A short field is the field and the variable.
                let new = if is_short(span) { format!("{old}: {name}") } else { name.to_string() };
                json!({"range": range_in(&text, *span), "newText": new})
            };
            changes.insert(self.uri(&path), spans.iter().map(edit).collect());
        }
        Ok(json!({"changes": changes}))
    }

    /// The places where the name at an offset is meant, by file; none when there is no name, or one of the standard
    /// library.
    fn meant(&self, document: &Document, at: usize) -> Option<BTreeMap<PathBuf, Places>> {
        let span = document.name_at(at)?;
        let meaning = document.meaning(span)?;
        document.declared(meaning)?;
        let global = match meaning {
            Resolved::Global(global) => global,
            Resolved::Builtin(_) => return None,
            Resolved::Local(_) => {
                let places = Places { text: document.text.clone(), spans: document.same(meaning) };
                return Some(BTreeMap::from([(path_of(&document.uri), places)]));
            }
        };
        let declared = document.declaration(global)?;
        let mut all = BTreeMap::new();
        let open: Vec<PathBuf> = self.documents.keys().map(|uri| path_of(uri)).collect();
        for document in self.documents.values() {
            gather(document, &declared, &open, &mut all);
        }
        for path in self.files() {
            if open.contains(&path) {
                continue;
            }
            let text = read_text(&path).unwrap_or_default();
            if text.contains(&declared.name) {
                gather(&Document::new(&uri_of(&path), text), &declared, &open, &mut all);
            }
        }
        Some(all)
    }

    /// Refuses a name that would mean something else somewhere, or make something else mean this.
    fn check_rename(&self, document: &Document, meaning: Resolved, name: &str) -> Result<(), String> {
        renaming::check(&document.program, meaning, name)?;
        let Resolved::Global(global) = meaning else { return Ok(()) };
        let Some(declared) = document.declaration(global) else { return Ok(()) };
        let others = |other: &Document| match declared.find(other) {
            Some(global) => renaming::check(&other.program, Resolved::Global(global), name),
            None => Ok(()),
        };
        for other in self.documents.values().filter(|other| other.uri != document.uri) {
            others(other)?;
        }
        let open: Vec<PathBuf> = self.documents.keys().map(|uri| path_of(uri)).collect();
        for path in self.files().into_iter().filter(|path| !open.contains(path)) {
            let text = read_text(&path).unwrap_or_default();
            if text.contains(&declared.name) {
                others(&Document::new(&uri_of(&path), text))?;
            }
        }
        Ok(())
    }

    /// As the editor calls a file that is open, or else as its path.
    fn uri(&self, path: &Path) -> String {
        let open = self.documents.keys().find(|uri| path_of(uri) == path);
        open.cloned().unwrap_or_else(|| uri_of(path))
    }

    /// The programs of the folder.
    fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut waiting: Vec<PathBuf> = self.root.iter().map(|root| root.to_path_buf()).collect();
        let mut folders = 0;
        while let Some(folder) = waiting.pop() {
            folders += 1;
            if folders > MOST_FOLDERS {
                break;
            }
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let hidden = entry.file_name().to_string_lossy().starts_with('.');
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() && !hidden => waiting.push(path),
                    Ok(kind) if kind.is_file() && path.extension().is_some_and(|e| e == "df") => {
                        found.push(path)
                    }
                    _ => {}
                }
                if found.len() >= MOST_FILES {
                    return found;
                }
            }
        }
        found
    }
}

/// The places in a document's program where a declaration is meant. Files that are open are looked at as they are there.
fn gather(document: &Document, declared: &Declared, open: &[PathBuf], all: &mut BTreeMap<PathBuf, Places>) {
    let program = &document.program;
    let Some(target) = declared.find(document) else { return };
    for module in program.modules.iter().filter(|module| module.std.is_none()) {
        let Some(path) = document.path(module.source) else { continue };
        if module.source != 0 && open.contains(&path) {
            continue;
        }
        let text = &program.sources.files[module.source as usize].text;
        let span = |start: u32| Span { start, end: start + declared.name.len() as u32 };
        let uses = module.uses.iter().filter(|(_, meaning)| **meaning == Resolved::Global(target));
        let mut spans: Vec<Span> = uses.map(|(start, _)| span(*start)).collect();
        if path == declared.path {
            spans.push(declared.span);
        }
        spans.retain(|span| text.get(span.start as usize..span.end as usize) == Some(&declared.name));
        if spans.is_empty() {
            continue;
        }
        let places = all.entry(path).or_default();
        places.text.clone_from(text);
        places.spans.extend(spans);
        places.spans.sort_unstable_by_key(|span| span.start);
        places.spans.dedup();
    }
}
