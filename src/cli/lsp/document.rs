//! A program in an editor: what is wrong with it, what its names mean, and what can be done about either.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::check::reference::{self, Entry};
use crate::check::{self, GlobalKind, Program, Resolved, STD};
use crate::format::format;
use crate::syntax::lexer::lex;
use crate::syntax::parse;
use crate::syntax::token::{Token, is_of_a_name, last_name};
use crate::syntax::tree::StmtKind;
use crate::syntax::{Diagnostic, Place, Severity, Span};

use super::super::repl::Assistant;
use crate::os::read_text;

/// Kinds of tokens, as the editor knows them.
pub const TOKEN_TYPES: [&str; 7] =
    ["keyword", "string", "number", "comment", "function", "variable", "class"];

pub struct Document {
    uri: String,
    text: String,
    folder: PathBuf,
    program: Program,
}

impl Document {
    pub fn new(uri: &str, text: String) -> Document {
        let path = path_of(uri);
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        let name =
            path.file_name().map_or_else(|| "program.df".into(), |name| name.to_string_lossy().into_owned());
        let program = check::load(&name, text.clone(), &|key: &str| read_text(&folder.join(key)));
        Document { uri: uri.to_string(), text, folder, program }
    }

    // ---- places

    /// The offset of a line and a column, which counts UTF-16 units.
    pub fn offset(&self, position: &Value) -> usize {
        let number = |name: &str| position[name].as_u64().unwrap_or(0) as usize;
        let mut from = 0;
        for _ in 0..number("line") {
            match self.text[from..].find('\n') {
                Some(at) => from += at + 1,
                None => return self.text.len(),
            }
        }
        let mut units = 0;
        for (at, c) in self.text[from..].char_indices() {
            if units >= number("character") || c == '\n' {
                return from + at;
            }
            units += c.len_utf16();
        }
        self.text.len()
    }

    fn range_in(text: &str, span: Span) -> Value {
        let position = |at: usize| {
            let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let before = &text[..at];
            let line_start = before.rfind('\n').map_or(0, |at| at + 1);
            let units: usize = before[line_start..].chars().map(char::len_utf16).sum();
            json!({"line": before.matches('\n').count(), "character": units})
        };
        json!({"start": position(span.start as usize), "end": position(span.end as usize)})
    }

    fn range(&self, span: Span) -> Value {
        Document::range_in(&self.text, span)
    }

    /// Where a place is, for the editor; none in the standard library, which is no file.
    fn location(&self, place: Place) -> Option<Value> {
        let file = self.program.sources.files.get(place.source as usize)?;
        if file.name.starts_with(STD) {
            return None;
        }
        let uri = match place.source {
            0 => self.uri.clone(),
            _ => format!("file://{}", self.folder.join(&file.name).display()),
        };
        Some(json!({"uri": uri, "range": Document::range_in(&file.text, place.span)}))
    }

    // ---- what is wrong

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

    /// What can be done about mistakes within a range: what a hint says in so many words.
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

    // ---- what names mean

    /// The name at an offset: where it is written.
    fn name_at(&self, at: usize) -> Option<Span> {
        let before = self.text.get(..at.min(self.text.len()))?;
        let start = before.len() - last_name(before).len();
        let after = self.text.get(start..)?;
        let end = start + after.find(|c| !is_of_a_name(c)).unwrap_or(after.len());
        (end > start).then(|| Span::new(start, end))
    }

    /// What the name at a span means: where it is used, or declared.
    fn meaning(&self, span: Span) -> Option<Resolved> {
        let module = self.program.modules.first()?;
        let used = module.uses.get(&span.start).copied();
        let bound = || module.bound.get(&span.start).map(|binding| Resolved::Local(*binding));
        let declared = || {
            let found = self.program.globals.iter().position(|g| g.module == 0 && g.span == span);
            found.map(Resolved::Global)
        };
        used.or_else(bound).or_else(declared)
    }

    /// Where it is declared.
    fn declared(&self, meaning: Resolved) -> Option<Place> {
        match meaning {
            Resolved::Local(binding) => {
                let span = self.program.modules[0].bindings.get(binding as usize)?.span;
                (span.start != u32::MAX).then_some(Place { source: 0, span })
            }
            Resolved::Global(global) => {
                let global = &self.program.globals[global];
                Some(Place { source: self.program.modules[global.module].source, span: global.span })
            }
            Resolved::Builtin(_) => None,
        }
    }

    pub fn definition(&self, at: usize) -> Value {
        let found =
            self.name_at(at).and_then(|span| self.meaning(span)).and_then(|meaning| self.declared(meaning));
        found.and_then(|place| self.location(place)).unwrap_or(Value::Null)
    }

    /// All places in this file where the same is meant, its declaration among them.
    fn same(&self, meaning: Resolved) -> Vec<Span> {
        let module = &self.program.modules[0];
        let mut starts: Vec<u32> =
            module.uses.iter().filter(|(_, known)| **known == meaning).map(|(start, _)| *start).collect();
        if let Some(place) = self.declared(meaning).filter(|place| place.source == 0) {
            starts.push(place.span.start);
        }
        starts.sort_unstable();
        starts.dedup();
        starts.into_iter().filter_map(|start| self.name_at(start as usize)).collect()
    }

    pub fn references(&self, at: usize) -> Value {
        let Some(meaning) = self.name_at(at).and_then(|span| self.meaning(span)) else { return json!([]) };
        let all = self.same(meaning);
        all.into_iter().map(|span| json!({"uri": self.uri, "range": self.range(span)})).collect()
    }

    pub fn rename(&self, at: usize, name: &str) -> Result<Value, String> {
        let meaning = self.name_at(at).and_then(|span| self.meaning(span)).ok_or("there is no name here")?;
        let ours = self.declared(meaning).is_some_and(|place| place.source == 0);
        if !ours {
            return Err("it is declared elsewhere".into());
        }
        let is_name = matches!(lex(name, 0).tokens[..], [(0, Token::Id(_), end)] if end == name.len());
        if !is_name {
            return Err(format!("`{name}` can't be a name"));
        }
        let old =
            self.name_at(at).map(|span| &self.text[span.start as usize..span.end as usize]).unwrap_or("");
        let edit = |span: Span| {
            // A short field is the field and the variable.
            let short = self.is_short_field(span);
            let new = if short { format!("{old}: {name}") } else { name.to_string() };
            json!({"range": self.range(span), "newText": new})
        };
        let edits: Vec<Value> = self.same(meaning).into_iter().map(edit).collect();
        Ok(json!({"changes": {&self.uri: edits}}))
    }

    /// Whether the name is `{name}` of a record or a pattern.
    fn is_short_field(&self, span: Span) -> bool {
        let parsed = parse(&self.text, 0);
        let tokens = &parsed.tokens;
        let Ok(at) = tokens.binary_search_by_key(&(span.start as usize), |token| token.0) else {
            return false;
        };
        let mut depth = 0;
        for (start, token, _) in tokens[..at].iter().rev() {
            match token {
                Token::RBrace | Token::RParen | Token::RBracket => depth += 1,
                Token::LBrace if depth == 0 => {
                    let beside = |at: Option<usize>| at.and_then(|at| tokens.get(at)).map(|token| &token.1);
                    let ends = matches!(beside(Some(at + 1)), Some(Token::Comma | Token::RBrace));
                    let begins = matches!(beside(at.checked_sub(1)), Some(Token::Comma | Token::LBrace));
                    return !parsed.braces.contains_key(start) && begins && ends;
                }
                Token::LBrace | Token::LParen | Token::LBracket if depth == 0 => return false,
                Token::LBrace | Token::LParen | Token::LBracket => depth -= 1,
                _ => {}
            }
        }
        false
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
            if !entry.examples().is_empty() {
                out.push_str(&format!("\n```df\n{}\n```", entry.examples().join("\n")));
            }
            out
        };
        match self.meaning(span) {
            Some(Resolved::Local(binding)) => {
                let info = self.program.modules[0].bindings.get(binding as usize)?;
                Some(format!("```df\n{} {name}\n```", if info.mutable { "var" } else { "let" }))
            }
            Some(Resolved::Global(global)) => {
                let global = &self.program.globals[global];
                let module = &self.program.modules[global.module];
                let text = &self.program.sources.files[module.source as usize].text;
                let all = reference::of(module.std.unwrap_or(""), text);
                all.iter().find(|entry| *entry.name == *global.name).map(page)
            }
            Some(Resolved::Builtin(_)) | None => {
                // A method, or a function of the library under another name.
                let found: Vec<String> = assistant.named(name).map(page).collect();
                (!found.is_empty()).then(|| found.join("\n\n---\n\n"))
            }
        }
    }

    // ---- what it has, and what it could have

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

    /// The line up to an offset.
    fn before(&self, at: usize) -> &str {
        let before = self.text.get(..at).unwrap_or(&self.text);
        &before[before.rfind('\n').map_or(0, |at| at + 1)..]
    }

    pub fn completions(&self, assistant: &Assistant, at: usize) -> Value {
        let line = self.before(at);
        let module = &self.program.modules[0];
        let declared = self.program.globals.iter().filter(|g| g.module == 0 && !g.kind.has_no_name());
        let imported = module.imports.keys().map(|name| name.to_string());
        let names = module.bindings.iter().map(|binding| binding.name.to_string());
        let names = names.chain(declared.map(|global| global.name.to_string())).chain(imported);
        let (from, words) = assistant.complete_among(names, line, line.len());
        let owner = line[..from].strip_suffix('.').map(last_name);
        let mut items: Vec<Value> = words.into_iter().map(|word| self.completion(assistant, &word)).collect();
        // What an imported module or an entity offers.
        if let Some(owner) = owner {
            let word = &line[from..];
            let of_import = module.imports.get(owner).map(|import| import.module);
            let offered = self.program.globals.iter().filter(|global| Some(global.module) == of_import);
            let offered = offered.filter(|g| !g.kind.has_no_name() && g.name.starts_with(word));
            items.extend(offered.map(|global| json!({"label": &*global.name, "kind": 3})));
        }
        let before_call = line[..from].trim_end_matches('.');
        if let Some(open) =
            before_call.strip_suffix(')').and_then(|before| before.rfind('(').map(|at| &before[..at]))
        {
            let name = last_name(open);
            let entity =
                self.program.globals.iter().find(|g| g.kind == GlobalKind::Entity && &*g.name == name);
            let word = &line[from..];
            let operations = entity.into_iter().flat_map(|entity| &entity.operations);
            let operations = operations.filter(|(name, ..)| name.starts_with(word));
            items.extend(operations.map(|(name, ..)| json!({"label": &**name, "kind": 2})));
        }
        items.into()
    }

    fn completion(&self, assistant: &Assistant, word: &str) -> Value {
        match assistant.described(word) {
            Some(entry) => {
                json!({"label": word, "kind": 3, "detail": entry.signature, "documentation": entry.text()})
            }
            None if Token::fixed(word).is_some() => json!({"label": word, "kind": 14}),
            None => json!({"label": word, "kind": 6}),
        }
    }

    pub fn signature(&self, assistant: &Assistant, at: usize) -> Value {
        let line = self.before(at);
        let mut depth = 0;
        let mut commas = 0;
        for (place, c) in line.char_indices().rev() {
            match c {
                ')' | ']' | '}' => depth += 1,
                '[' | '{' if depth == 0 => break,
                '[' | '{' => depth -= 1,
                ',' if depth == 0 => commas += 1,
                '(' if depth == 0 => {
                    let Some(label) = self.called(assistant, &line[..=place]) else { return Value::Null };
                    return json!({"signatures": [{"label": label}], "activeSignature": 0, "activeParameter": commas});
                }
                '(' => depth -= 1,
                _ => {}
            }
        }
        Value::Null
    }

    /// The signature of what is called before an open parenthesis.
    fn called(&self, assistant: &Assistant, line: &str) -> Option<String> {
        let name = last_name(line.strip_suffix('(')?);
        let own = reference::of("", &self.text).into_iter().find(|entry| entry.name == name);
        match own {
            Some(entry) => Some(entry.signature),
            None => assistant.signature(line).map(|params| format!("{name}({params}")),
        }
    }

    pub fn semantic_tokens(&self) -> Value {
        let lexed = lex(&self.text, 0);
        let mut marks: Vec<(usize, usize, usize)> =
            lexed.comments.iter().map(|(start, end)| (*start, *end, 3)).collect();
        let module = &self.program.modules[0];
        for (start, token, end) in &lexed.tokens {
            let kind = match token {
                Token::Str(_) | Token::StrStart(_) | Token::StrMid(_) | Token::StrEnd(_) => 1,
                Token::Int(_) | Token::Float(_) | Token::Duration(_) => 2,
                Token::Id(_) => match module.uses.get(&(*start as u32)) {
                    Some(Resolved::Global(global)) => match self.program.globals[*global].kind {
                        GlobalKind::Entity => 6,
                        _ => 4,
                    },
                    Some(Resolved::Builtin(_)) => 4,
                    Some(Resolved::Local(_)) => 5,
                    None => continue,
                },
                token if token.is_word() => 0,
                _ => continue,
            };
            marks.push((*start, *end, kind));
        }
        marks.sort_unstable();
        let mut data: Vec<usize> = Vec::new();
        let (mut last_line, mut last_column) = (0, 0);
        let (mut line, mut line_start, mut seen) = (0, 0, 0);
        for (start, end, kind) in marks {
            // One that goes over several lines is cut at the end of its first.
            let end = self.text[start..end].find('\n').map_or(end, |at| start + at);
            let between = &self.text[seen..start];
            line += between.matches('\n').count();
            if let Some(at) = between.rfind('\n') {
                line_start = seen + at + 1;
            }
            seen = start;
            let units = |text: &str| text.chars().map(char::len_utf16).sum::<usize>();
            let column = units(&self.text[line_start..start]);
            let from = if line == last_line { last_column } else { 0 };
            data.extend([line - last_line, column - from, units(&self.text[start..end]), kind, 0]);
            (last_line, last_column) = (line, column);
        }
        json!({"data": data})
    }
}

/// The path of a `file:` URI.
fn path_of(uri: &str) -> PathBuf {
    let path = reqwest::Url::parse(uri).ok().and_then(|url| url.to_file_path().ok());
    path.unwrap_or_else(|| PathBuf::from(uri))
}
