//! A program in an editor: its places, its diagnostics and their fixes.

use std::path::{Component, Path, PathBuf};

use serde_json::{Value, json};

use crate::check::{self, Program, STD, std_sources};
use crate::format::format;
use crate::syntax::tree::StmtKind;
use crate::syntax::{Diagnostic, Place, Severity, Span};

/// A file as the editor has it, and its program.
pub struct Document {
    pub(super) uri: String,
    pub(super) text: String,
    folder: PathBuf,
    pub(super) program: Program,
}

impl Document {
    pub fn new(uri: &str, text: String) -> Document {
        let path = path_of(uri);
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        let program = check::load_beside_with_all(&path, text.clone());
        Document { uri: uri.to_string(), text, folder, program }
    }

    /// Returns the folder of the file.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    // ---- places

    /// Returns the offset of a line and a column, which counts UTF-16 units.
    pub fn offset(&self, position: &Value) -> usize {
        offset_in(&self.text, position)
    }

    pub(super) fn range(&self, span: Span) -> Value {
        range_in(&self.text, span)
    }

    /// Returns the path of a source. A module of the standard library is written to a file first,
    /// so that the editor can show it.
    pub(super) fn path(&self, source: u32) -> Option<PathBuf> {
        let file = self.program.sources.files.get(source as usize)?;
        match file.name.strip_prefix(STD) {
            Some(name) => written_down(name),
            None if source == 0 => Some(path_of(&self.uri)),
            None => Some(plain(&self.folder.join(&file.name))),
        }
    }

    /// Returns a place in the editor's form.
    pub(super) fn location(&self, place: Place) -> Option<Value> {
        let file = self.program.sources.files.get(place.source as usize)?;
        let uri = match place.source {
            0 => self.uri.clone(),
            source => uri_of(&self.path(source)?),
        };
        Some(json!({"uri": uri, "range": range_in(&file.text, place.span)}))
    }

    // ---- diagnostics

    pub fn diagnostics(&self) -> Value {
        self.own_diagnostics().map(|diagnostic| self.diagnostic(diagnostic)).collect()
    }

    fn own_diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        self.program
            .diagnostics
            .iter()
            .filter(|d| d.labels.first().is_some_and(|label| label.place.source == 0))
    }

    fn diagnostic(&self, diagnostic: &Diagnostic) -> Value {
        let mut message = diagnostic.title.clone();
        let main = diagnostic.labels.first();
        if let Some(label) = main {
            message.push_str(&format!(": {}", label.text));
        }
        for more in diagnostic.reason.iter().chain(&diagnostic.hint) {
            message.push_str(&format!("\n{more}"));
        }
        let related: Vec<Value> = diagnostic
            .labels
            .iter()
            .skip(1)
            .filter_map(|label| Some(json!({"location": self.location(label.place)?, "message": label.text})))
            .collect();
        json!({
            "range": self.range(main.map(|label| label.place.span).unwrap_or_default()),
            "severity": if diagnostic.severity == Severity::Error { 1 } else { 2 },
            "source": "durable",
            "message": message,
            "relatedInformation": related
        })
    }

    /// Returns the fixes of mistakes within a range: replacements that the hints name literally.
    pub fn actions(&self, range: &Value) -> Value {
        let (from, to) = (self.offset(&range["start"]) as u32, self.offset(&range["end"]) as u32);
        let mut actions = Vec::new();
        for diagnostic in self.own_diagnostics() {
            let (Some(label), Some(hint)) = (diagnostic.labels.first(), &diagnostic.hint) else { continue };
            let span = label.place.span;
            if span.end < from || span.start > to {
                continue;
            }
            let quoted = |before: &str| hint.strip_prefix(before)?.split('`').next().map(str::to_string);
            let own = &self.text[span.start as usize..span.end as usize];
            let new = quoted("did you mean `")
                .or_else(|| quoted("write `").filter(|new| !new.contains(['…', ' '])))
                .or_else(|| quoted("remove it, or name it `"));
            let Some(new) = new.filter(|new| new != own && !own.contains('\n')) else { continue };
            actions.push(json!({
                "title": format!("Replace with `{new}`"),
                "kind": "quickfix",
                "diagnostics": [self.diagnostic(diagnostic)],
                "edit": {"changes": {&self.uri: [{"range": self.range(span), "newText": new}]}}
            }));
        }
        actions.into()
    }

    // ---- symbols and formatting

    pub fn symbols(&self) -> Value {
        let module = &self.program.modules[0];
        let symbols = module.tree.items.iter().filter_map(|item| {
            // Function 12, variable 13, constant 14, class 5, event 24, method 6.
            let (name, kind) = match &item.kind {
                StmtKind::Fn(f) => (&f.name, 12),
                StmtKind::Activity(f) => (&f.name, 6),
                StmtKind::Orchestration(f) => (&f.name, 24),
                StmtKind::Entity(entity) => (&entity.name, 5),
                StmtKind::Const(name, ..) => (name, 14),
                StmtKind::Var(name, _) => (name, 13),
                StmtKind::Test(name, _) => (name, 12),
                StmtKind::Schedule(schedule) => (&schedule.name, 24),
                _ => return None,
            };
            Some(json!({
                "name": &*name.name, "kind": kind,
                "range": self.range(item.span), "selectionRange": self.range(name.span)
            }))
        });
        symbols.collect()
    }

    pub fn formatted(&self) -> Value {
        match format(&self.text, 0) {
            Ok(new) if new != self.text => {
                json!([{"range": self.range(Span::new(0, self.text.len())), "newText": new}])
            }
            _ => json!([]),
        }
    }
}

/// Returns the offset of a line and a column of a text; the column counts UTF-16 units.
pub(super) fn offset_in(text: &str, position: &Value) -> usize {
    let number = |name: &str| position[name].as_u64().unwrap_or(0) as usize;
    let mut from = 0;
    for _ in 0..number("line") {
        match text[from..].find('\n') {
            Some(at) => from += at + 1,
            None => return text.len(),
        }
    }
    let mut units = 0;
    for (at, c) in text[from..].char_indices() {
        if units >= number("character") || c == '\n' {
            return from + at;
        }
        units += c.len_utf16();
    }
    text.len()
}

/// Returns a span of a text in the editor's form.
pub(super) fn range_in(text: &str, span: Span) -> Value {
    let position = |at: usize| {
        let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let before = &text[..at];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let units: usize = before[line_start..].chars().map(char::len_utf16).sum();
        json!({"line": before.matches('\n').count(), "character": units})
    };
    json!({"start": position(span.start as usize), "end": position(span.end as usize)})
}

/// Returns the path of a `file:` URI.
pub(super) fn path_of(uri: &str) -> PathBuf {
    let path = reqwest::Url::parse(uri).ok().and_then(|url| url.to_file_path().ok());
    path.unwrap_or_else(|| PathBuf::from(uri))
}

/// Returns a path with `.` and inner `..` resolved, without looking at the file system.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir if out.file_name().is_some() => {
                out.pop();
            }
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

/// Returns the URI of a path.
pub(super) fn uri_of(path: &Path) -> String {
    reqwest::Url::from_file_path(path).map_or_else(|()| format!("file://{}", path.display()), String::from)
}

/// Returns a file with a module of the standard library, which the binary contains; `None` if the
/// file cannot be written.
fn written_down(name: &str) -> Option<PathBuf> {
    let (_, text) = std_sources().iter().find(|(module, _)| name.strip_suffix(".df") == Some(module))?;
    let caches = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let caches = caches.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let folder = caches.unwrap_or_else(std::env::temp_dir).join("durable").join(env!("CARGO_PKG_VERSION"));
    let path = folder.join(name);
    if std::fs::read_to_string(&path).ok().as_deref() != Some(text) {
        std::fs::create_dir_all(&folder).ok()?;
        std::fs::write(&path, text).ok()?;
    }
    Some(path)
}
