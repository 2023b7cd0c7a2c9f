//! All uses of a name: in the open documents, and in the files of the editor's folder.

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

/// The largest number of files that are searched, and of folders.
const MOST_FILES: usize = 1_000;
const MOST_FOLDERS: usize = 2_000;

/// A declaration: its file, its place there, and its name.
struct Declared {
    path: PathBuf,
    span: Span,
    name: String,
}

impl Declared {
    /// Returns the declaration in a document's program, or `None` if the program does not have it.
    fn find(&self, document: &Document) -> Option<GlobalId> {
        let program = &document.program;
        program.globals.iter().position(|global| {
            global.span == self.span
                && document.path(program.modules[global.module].source).is_some_and(|path| path == self.path)
        })
    }
}

impl Document {
    /// Returns a declaration of the program, or `None` for one of the standard library.
    fn declaration(&self, global: GlobalId) -> Option<Declared> {
        let known = self.program.globals.get(global)?;
        let module = &self.program.modules[known.module];
        if module.std.is_some() {
            return None;
        }
        Some(Declared { path: self.path(module.source)?, span: known.span, name: known.name.to_string() })
    }
}

/// The places in one file, with its text.
#[derive(Default)]
struct Places {
    text: String,
    spans: Vec<Span>,
}

/// The open documents, and the editor's folder.
pub struct Everywhere<'a> {
    pub documents: &'a HashMap<String, Document>,
    pub root: Option<&'a Path>,
}

impl Everywhere<'_> {
    /// Returns all places that mean the same as the name at an offset, the declaration among them.
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

    /// Returns the edits that rename the name at an offset. An error says why it cannot be renamed.
    pub fn rename(&self, document: &Document, at: usize, name: &str) -> Result<Value, String> {
        let meant = self.meant(document, at).ok_or("there is no name here that can be changed")?;
        let is_name = matches!(lex(name, 0).tokens[..], [(0, Token::Id(_), end)] if end == name.len());
        if !is_name {
            return Err(format!("`{name}` can't be a name"));
        }
        if let Some(meaning) = document.name_at(at).and_then(|span| document.meaning(span)) {
            if document.is_operation(meaning) {
                return Err("an operation can also be called from other programs and by clients: \
                            its name is not changed"
                    .into());
            }
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
                // A short field is a field and a variable in one word.
                let new = if is_short(span) { format!("{old}: {name}") } else { name.to_string() };
                json!({"range": range_in(&text, *span), "newText": new})
            };
            changes.insert(self.uri(&path), spans.iter().map(edit).collect());
        }
        Ok(json!({"changes": changes}))
    }

    /// Returns the places that mean the same as the name at an offset, by file. Returns `None` if
    /// there is no name, or if the standard library declares it.
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

    /// Refuses a name that means something else at one of the places, or that changes the meaning
    /// of another name.
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

    /// Returns the editor's URI of an open file, or the URI of the path.
    fn uri(&self, path: &Path) -> String {
        let open = self.documents.keys().find(|uri| path_of(uri) == path);
        open.cloned().unwrap_or_else(|| uri_of(path))
    }

    /// Returns the programs in the editor's folder.
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

/// Adds the places in a document's program that mean a declaration. An open file counts only as its
/// own document, whose text is the editor's.
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
