//! Completions and signatures at a place.

use serde_json::{Value, json};

use crate::check::{GlobalKind, reference};
use crate::syntax::token::{Token, last_name};

use super::super::repl::Assistant;
use super::cursor::{self, Cursor};
use super::document::Document;

impl Document {
    /// Returns the line of code up to an offset, or `None` within a comment or the text of a
    /// string.
    fn before(&self, at: usize) -> Option<&str> {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let Cursor::Code(from) = cursor::after(before) else { return None };
        let before = &before[from..];
        Some(&before[before.rfind('\n').map_or(0, |at| at + 1)..])
    }

    pub fn completions(&self, assistant: &Assistant, at: usize) -> Value {
        let Some(line) = self.before(at) else { return self.imports(at) };
        let module = &self.program.modules[0];
        let declared = self.program.globals.iter().filter(|g| g.module == 0 && !g.kind.has_no_name());
        let imported = module.imports.keys().map(|name| name.to_string());
        let names = module.bindings.iter().map(|binding| binding.name.to_string());
        let names = names.chain(declared.map(|global| global.name.to_string())).chain(imported);
        let (from, words) = assistant.complete_names(names, line);
        let owner = line[..from].strip_suffix('.').map(last_name);
        let mut items: Vec<Value> = words.into_iter().map(|word| self.completion(assistant, &word)).collect();
        // An imported module offers its declarations. An entity offers its operations, further
        // below.
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

    /// Returns the programs and folders beside the file, for the path of an import.
    fn imports(&self, at: usize) -> Value {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let line = &before[before.rfind('\n').map_or(0, |at| at + 1)..];
        let Some(path) = line.trim_start().strip_prefix("import \"") else { return json!([]) };
        let (folder, word) = path.rsplit_once('/').map_or(("", path), |(folder, word)| (folder, word));
        let entries = std::fs::read_dir(self.folder().join(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                let is_folder = entry.path().is_dir() && !name.starts_with('.');
                (name.starts_with(word) && (is_folder || name.ends_with(".df"))).then_some(name)
            })
            .collect();
        names.sort();
        names.into_iter().map(|name| json!({"label": name, "kind": 17})).collect()
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
        let Some(line) = self.before(at) else { return Value::Null };
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

    /// Returns the signature of the function that is called before an open parenthesis.
    fn called(&self, assistant: &Assistant, line: &str) -> Option<String> {
        let name = last_name(line.strip_suffix('(')?);
        let own = reference::of("", &self.text).into_iter().find(|entry| entry.name == name);
        match own {
            Some(entry) => Some(entry.signature),
            None => assistant.signature(line).map(|params| format!("{name}({params}")),
        }
    }
}
