//! The line editor's side of the prompt: unfinished entries, completion, colours and hints.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};

use rustyline::completion::Completer;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};

use crate::check::reference::{Entry, standard};
use crate::syntax::lexer::lex;
use crate::syntax::token::{Token, is_of_a_name, last_name};

use super::super::lsp::cursor::{self, Cursor};
use super::commands::COMMANDS;
use super::session::{ENTITY, Known};

/// The state of the line editor's side.
pub struct Assistant {
    standard: &'static [Entry],
    /// The names of the session, with their kinds and fields where these are known.
    pub names: Vec<Known>,
    pub colours: bool,
    /// The line that is being typed.
    pub typed: Arc<Mutex<Typed>>,
}

/// A prompt and the text typed after it; both are empty while no entry is asked for.
#[derive(Default)]
pub struct Typed {
    pub prompt: String,
    pub line: String,
    pub colours: bool,
}

impl Typed {
    /// Returns the prompt and the line as they appear on the terminal.
    pub fn shown(&self) -> String {
        match self.colours {
            true if !self.prompt.is_empty() => {
                format!("\x1b[36m{}\x1b[0m{}", self.prompt, coloured(&self.line))
            }
            _ => format!("{}{}", self.prompt, self.line),
        }
    }
}

impl Assistant {
    pub fn new(colours: bool) -> Assistant {
        let typed = Arc::new(Mutex::new(Typed { colours, ..Typed::default() }));
        Assistant { standard: standard(), names: Vec::new(), colours, typed }
    }

    /// Notes the prompt that is shown now; an empty one means that no entry is asked for.
    pub fn asks(&mut self, prompt: &str) {
        if let Ok(mut typed) = self.typed.lock() {
            (typed.prompt, typed.line) = (prompt.to_string(), String::new());
        }
    }

    /// Returns the completions of the word before the cursor, and the offset where that word
    /// begins.
    pub fn complete_at(&self, line: &str, at: usize) -> (usize, Vec<String>) {
        self.complete_among(self.names.iter().map(|known| known.0.clone()), line, at)
    }

    /// Returns the documentation of a name, which is a name with its module or a bare one.
    pub fn described(&self, name: &str) -> Option<&Entry> {
        self.standard.iter().find(|entry| entry.path() == name || entry.name == name)
    }

    /// Returns the library's entries with a name, from all modules.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &Entry> {
        self.standard.iter().filter(move |entry| entry.name == name)
    }

    /// Completes like [`Assistant::complete_at`], with the given names as those of the program.
    pub fn complete_among(
        &self,
        names: impl Iterator<Item = String>,
        line: &str,
        at: usize,
    ) -> (usize, Vec<String>) {
        let before = &line[..at];
        if let Some(command) = before.strip_prefix(':') {
            return match command.split_once(' ') {
                None => (0, starting(COMMANDS.iter().map(|(name, ..)| format!(":{name}")), before)),
                Some(("load" | "save", path)) => (at - path.len(), files(path)),
                Some((_, word)) => {
                    let names =
                        self.standard.iter().map(Entry::path).chain(self.names.iter().map(|n| n.0.clone()));
                    (at - word.len(), starting(names, word))
                }
            };
        }
        match cursor::after(before) {
            Cursor::Comment => return (at, Vec::new()),
            Cursor::Text => {
                let text = before.rfind(['"', '}']).map_or(at, |before| before + 1);
                return (text, files(&before[text..]));
            }
            Cursor::Code(_) => {}
        }
        self.complete_names(names, before)
    }

    /// Returns the completions of the word at the end of a line of code, and the word's offset.
    pub fn complete_names(&self, names: impl Iterator<Item = String>, before: &str) -> (usize, Vec<String>) {
        let word = last_name(before);
        let at = before.len();
        let word_at = at - word.len();
        if let Some(entity) = called_before_dot(&before[..word_at])
            && let Some((.., operations)) =
                self.names.iter().rev().find(|known| known.0 == entity && known.1 == ENTITY)
        {
            return (word_at, starting(operations.iter().cloned(), word));
        }
        if let Some(owner) = before[..word_at].strip_suffix('.') {
            return (word_at, self.members(last_name(owner), word));
        }
        if word.is_empty() {
            return (at, Vec::new());
        }
        let prelude = self.standard.iter().filter(|entry| entry.module == "prelude").map(|e| e.name.clone());
        let modules = self.modules().into_iter();
        let words = Token::SPELLINGS.iter().filter(|word| word.starts_with(|c: char| c.is_alphabetic()));
        let words = words.map(|word| word.to_string());
        (word_at, starting(names.chain(prelude).chain(modules).chain(words), word))
    }

    fn modules(&self) -> Vec<String> {
        let mut modules: Vec<String> =
            self.standard.iter().map(|entry| entry.module.clone()).filter(|m| m != "prelude").collect();
        modules.dedup();
        modules
    }

    /// Returns the fields and methods of a name, or the functions of a module.
    fn members(&self, owner: &str, word: &str) -> Vec<String> {
        let of_module = |module: &str| -> Vec<String> {
            self.standard
                .iter()
                .filter(|entry| entry.module == module)
                .map(|entry| entry.name.clone())
                .collect()
        };
        if let Some((_, kind, fields)) = self.names.iter().rev().find(|known| known.0 == owner) {
            let methods = of_module(if kind == "instant" || kind == "duration" { "time" } else { kind });
            return starting(fields.iter().cloned().chain(methods), word);
        }
        if self.standard.iter().any(|entry| entry.module == owner) {
            return starting(of_module(owner).into_iter(), word);
        }
        let methods = ["list", "string", "record"].into_iter().flat_map(of_module);
        starting(methods, word)
    }

    /// Returns the parameters of the function whose arguments begin at the end of the text.
    pub fn signature(&self, before: &str) -> Option<String> {
        let open = before.strip_suffix('(')?;
        let path = open.rsplit(|c| !is_of_a_name(c) && c != '.').next()?;
        let name = path.rsplit('.').next()?;
        let exact = self.standard.iter().find(|entry| entry.path() == path);
        let method =
            || self.standard.iter().find(|e| path.contains('.') && e.name == name && e.module != "prelude");
        let entry = exact.or_else(method)?;
        let params = entry.signature.split_once('(')?.1;
        let params = match exact.is_some() {
            true => params.to_string(),
            // The first parameter of a method is the value before the dot.
            false => params.split_once(", ").map_or(")".to_string(), |(_, rest)| rest.to_string()),
        };
        Some(params)
    }
}

/// Returns the name that is called before a dot at the end of the text: of `E` in `E("a").`.
pub fn called_before_dot(before: &str) -> Option<&str> {
    let call = before.strip_suffix('.')?.strip_suffix(')')?;
    let (mut depth, mut in_text) = (1, false);
    for (at, c) in call.char_indices().rev() {
        match c {
            '"' => in_text = !in_text,
            ')' if !in_text => depth += 1,
            '(' if !in_text => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(last_name(&call[..at])).filter(|name| !name.is_empty());
        }
    }
    None
}

fn starting(names: impl Iterator<Item = String>, word: &str) -> Vec<String> {
    let mut found: Vec<String> = names.filter(|name| name.starts_with(word)).collect();
    found.sort();
    found.dedup();
    found
}

/// Returns the paths of files and folders that begin with the given text.
fn files(path: &str) -> Vec<String> {
    let (folder, _) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
    let prefix = if path.contains('/') { format!("{folder}/") } else { String::new() };
    let place = if prefix.is_empty() { "." } else { &prefix };
    let Ok(entries) = std::fs::read_dir(place) else { return Vec::new() };
    let names = entries.flatten().map(|entry| {
        let end = if entry.path().is_dir() { "/" } else { "" };
        format!("{prefix}{}{end}", entry.file_name().to_string_lossy())
    });
    starting(names, path)
}

impl Helper for Assistant {}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.complete_at(line, at))
    }
}

impl Hinter for Assistant {
    type Hint = String;

    fn hint(&self, line: &str, at: usize, _: &Context<'_>) -> Option<String> {
        if let Ok(mut typed) = self.typed.lock() {
            typed.line = line.to_string();
        }
        (at == line.len()).then(|| self.signature(line)).flatten()
    }
}

impl Validator for Assistant {
    fn validate(&self, _: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        // The reader asks for the other lines of an entry, each after a mark.
        Ok(ValidationResult::Valid(None))
    }
}

impl Highlighter for Assistant {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        match self.colours && !line.starts_with(':') {
            true => Cow::Owned(coloured(line)),
            false => Cow::Borrowed(line),
        }
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        match self.colours {
            true => Cow::Owned(format!("\x1b[90m{hint}\x1b[0m")),
            false => Cow::Borrowed(hint),
        }
    }

    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        match self.colours {
            true => Cow::Owned(format!("\x1b[36m{prompt}\x1b[0m")),
            false => Cow::Borrowed(prompt),
        }
    }

    fn highlight_char(&self, _: &str, _: usize, _: CmdKind) -> bool {
        self.colours
    }
}

/// Returns a text with its tokens in colours.
pub fn coloured(text: &str) -> String {
    let lexed = lex(text, 0);
    let mut marks: Vec<(usize, usize, u8)> =
        lexed.comments.iter().map(|(start, end)| (*start, *end, 90)).collect();
    for (start, token, end) in &lexed.tokens {
        let colour = match token {
            Token::Str(_) | Token::StrStart(_) | Token::StrMid(_) | Token::StrEnd(_) | Token::Format(_) => 32,
            Token::Int(_) | Token::Float(_) | Token::Duration(_) => 33,
            Token::True | Token::False | Token::Null => 33,
            token if token.is_word() => 35,
            _ => continue,
        };
        marks.push((*start, *end, colour));
    }
    marks.sort();
    let mut out = String::new();
    let mut at = 0;
    for (start, end, colour) in marks {
        if start < at || end <= start {
            continue;
        }
        out.push_str(&text[at..start]);
        out.push_str(&format!("\x1b[{colour}m{}\x1b[0m", &text[start..end]));
        at = end;
    }
    out.push_str(&text[at..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fields_methods_modules_and_commands_are_completed() {
        let mut assistant = Assistant::new(false);
        assistant.names.push(("order".into(), "record".into(), vec!["price".into(), "name".into()]));
        let at = |line: &str| assistant.complete_at(line, line.len());
        assert_eq!(at("let x = ord"), (8, vec!["order".to_string()]));
        assert_eq!(at("order.pri"), (6, vec!["price".to_string()]));
        assert!(at("order.k").1.contains(&"keys".to_string()));
        assert_eq!(at("json.pre"), (5, vec!["pretty".to_string()]));
        assert!(at("[1].ma").1.contains(&"map".to_string()));
        assert_eq!(at(":unt"), (0, vec![]));
        assert_eq!(at(":und"), (0, vec![":undo".to_string()]));
        assert_eq!(at("js"), (0, vec!["json".to_string()]));
    }

    #[test]
    fn operations_of_entities_are_completed() {
        let mut assistant = Assistant::new(false);
        let operations = vec!["deposit".to_string(), "balance".to_string()];
        assistant.names.push(("Account".into(), ENTITY.into(), operations));
        let at = |line: &str| assistant.complete_at(line, line.len());
        assert_eq!(at("Account(\"a)(\").dep"), (15, vec!["deposit".to_string()]));
        assert_eq!(at("x = 1 + Account(f(1)).").1, ["balance", "deposit"]);
        assert!(at("Other(1).ma").1.contains(&"map".to_string()));
        assert_eq!(called_before_dot("x)."), None);
        assert_eq!(called_before_dot("(1)."), None);
    }

    #[test]
    fn a_call_is_hinted_at_by_its_parameters() {
        let assistant = Assistant::new(false);
        assert_eq!(assistant.signature("let x = list.map("), Some("xs, f)".to_string()));
        assert_eq!(assistant.signature("[1].fold("), Some("initial, f)".to_string()));
        assert_eq!(assistant.signature("unknown("), None);
    }

    #[test]
    fn colours_keep_the_text() {
        let text = "let é = \"a{b}c\" // d";
        let plain: String = {
            let pattern = regex::Regex::new("\x1b\\[[0-9]*m").expect("a pattern");
            pattern.replace_all(&coloured(text), "").into_owned()
        };
        assert_eq!(plain, text);
    }
}
