//! The loader, which gathers the modules of a program: the file, its imports, and the standard
//! library.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::os::read_text;
use crate::syntax::token::is_of_a_name;
use crate::syntax::tree::{self, ExprKind, StmtKind};
use crate::syntax::{Diagnostic, Place, Sources, Span, parse};

use super::needed::needed;
use super::resolve;
use super::{Global, GlobalId, GlobalKind, Import, Module, ModuleId, Program};

/// A source of program texts: the file system, the store, or a test.
pub trait Loader {
    /// Returns the text of a module. `key` is a path relative to the program's first file, with `/`
    /// between parts. An error is a reason in words.
    fn read(&self, key: &str) -> Result<String, String>;
}

impl<F: Fn(&str) -> Result<String, String>> Loader for F {
    fn read(&self, key: &str) -> Result<String, String> {
        self(key)
    }
}

macro_rules! std_modules {
    ($($name:literal),*) => {
        /// Returns the names and texts of the standard library's modules.
        pub fn std_sources() -> &'static [(&'static str, &'static str)] {
            &[$(($name, include_str!(concat!("../../stdlib/", $name, ".df")))),*]
        }
    };
}

std_modules!(
    "prelude", "list", "string", "record", "math", "json", "csv", "toml", "yaml", "regex", "time", "bytes",
    "gzip", "http", "sql", "url", "fs", "path", "exec", "args", "log", "task", "retry", "saga", "schedule",
    "set", "map", "random", "uuid", "hash", "base64", "bits", "char", "cron", "repl"
);

/// The largest number of modules in a program.
const MAX_MODULES: usize = 1_000;

/// Loads and checks a program, with the modules of the standard library that it needs. `key` is the
/// name of the first file, and `text` is its contents.
///
/// A program about which there is something to say is checked with the whole library, since
/// messages suggest names of all its modules.
pub fn load(key: &str, text: String, loader: &dyn Loader) -> Program {
    let program = load_with(key, text.clone(), loader, std_sources(), true);
    if program.diagnostics.is_empty() { program } else { load_with_all(key, text, loader) }
}

/// Loads and checks a program like [`load`], with the whole standard library.
pub fn load_with_all(key: &str, text: String, loader: &dyn Loader) -> Program {
    load_with(key, text, loader, std_sources(), false)
}

/// Loads a program like [`load`], from a file's text. Imports are read from the folder of the file.
pub fn load_beside(file: &Path, text: String) -> Program {
    load_permitted(file, text, &|_| Ok(()))
}

/// Loads a program like [`load_beside`], with the whole standard library, for an editor.
pub fn load_beside_with_all(file: &Path, text: String) -> Program {
    load_with_all(&name_of(file), text, &reader_beside(file, &|_| Ok(())))
}

/// Loads a program like [`load_beside`]. `may` returns an error for a path that may not be read.
pub fn load_permitted(file: &Path, text: String, may: &dyn Fn(&Path) -> Result<(), String>) -> Program {
    load(&name_of(file), text, &reader_beside(file, may))
}

/// Returns the name of a program's first file.
fn name_of(file: &Path) -> String {
    file.file_name().map_or_else(|| "program.df".into(), |name| name.to_string_lossy().into_owned())
}

/// Returns a reader of the modules in the folder of a file.
fn reader_beside(
    file: &Path,
    may: &dyn Fn(&Path) -> Result<(), String>,
) -> impl Fn(&str) -> Result<String, String> {
    let folder = file.parent().unwrap_or(Path::new(""));
    move |key: &str| {
        let path = folder.join(key);
        may(&path)?;
        read_text(&path)
    }
}

/// Loads a program from the texts of all its modules, the running one first, with the standard
/// library that was stored with them. Returns `None` if there are no texts.
pub fn load_stored(texts: &[(String, String)]) -> Option<Program> {
    let (key, text) = texts.first()?;
    let find = |key: &str| texts.iter().find(|(name, _)| name == key).map(|(_, text)| text.clone());
    let reader = |key: &str| find(key).ok_or_else(|| "not in the store".to_string());
    let std: Vec<(&'static str, String)> = std_sources()
        .iter()
        .filter_map(|(name, _)| find(&format!("{STD}{name}.df")).map(|text| (*name, text)))
        .collect();
    let std: Vec<(&'static str, &str)> = std.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let mut program = load_with(key, text.clone(), &reader, &std, false);
    program.diagnostics.retain(|diagnostic| !diagnostic.tolerated);
    Some(program)
}

/// The prefix of the names of the standard library's modules.
pub const STD: &str = "std:";

/// Loads a program with the library `std`, of which only the needed modules are read if `choose`.
fn load_with(
    key: &str,
    text: String,
    loader: &dyn Loader,
    std: &[(&'static str, &str)],
    choose: bool,
) -> Program {
    let mut program = Program {
        sources: Sources::default(),
        modules: Vec::new(),
        globals: Vec::new(),
        methods: HashSet::new(),
        retries_children: false,
        diagnostics: Vec::new(),
    };
    // The offset in each source from which the source can't be trusted.
    let mut broken: HashMap<u32, usize> = HashMap::new();
    let mut warnings = Vec::new();
    let mut known: HashMap<String, ModuleId> = HashMap::new();
    let mut waiting = vec![(key.to_string(), text)];
    known.insert(key.to_string(), 0);
    let mut at = 0;
    while at < waiting.len() {
        let (key, text) = waiting[at].clone();
        let id = add_module(&mut program, &key, text, None, &mut broken, &mut warnings);
        let imports: Vec<(tree::Ident, tree::Ident)> = program.modules[id]
            .tree
            .items
            .iter()
            .filter_map(|item| match &item.kind {
                StmtKind::Import { path, alias } => Some((path.clone(), alias.clone())),
                _ => None,
            })
            .collect();
        for (path, alias) in imports {
            let place = Place { source: program.modules[id].source, span: path.span };
            let target = match relative(&key, &path.name) {
                Ok(target) => target,
                Err(reason) => {
                    program.diagnostics.push(
                        Diagnostic::error("this import can't be read", place, reason)
                            .hint("write a path relative to this file, like \"lib/mail.df\""),
                    );
                    continue;
                }
            };
            let module = match known.get(&target) {
                Some(module) => *module,
                None if known.len() >= MAX_MODULES => {
                    let text = "a program has at most 1,000 modules";
                    program.diagnostics.push(Diagnostic::error("too many modules", place, text));
                    continue;
                }
                None => match loader.read(&target) {
                    Ok(text) => {
                        known.insert(target.clone(), waiting.len());
                        waiting.push((target, text));
                        waiting.len() - 1
                    }
                    Err(reason) => {
                        program.diagnostics.push(
                            Diagnostic::error("this import can't be read", place, reason)
                                .because(format!("paths are relative to the importing file: {target}"))
                                .hint("modules of the standard library need no import"),
                        );
                        continue;
                    }
                },
            };
            let import = Import { module, span: alias.span, used: false };
            if let Some(first) = program.modules[id].imports.insert(alias.name.clone(), import) {
                let place = Place { source: program.modules[id].source, span: alias.span };
                let first = Place { source: program.modules[id].source, span: first.span };
                program.diagnostics.push(
                    Diagnostic::error(
                        format!("two imports are named `{}`", alias.name),
                        place,
                        "named again here",
                    )
                    .and(first, "named here first")
                    .hint("give one of them another name after `as`"),
                );
            }
        }
        at += 1;
    }
    let texts: Vec<&str> = waiting.iter().map(|(_, text)| text.as_str()).collect();
    let chosen = if choose { needed(&texts, std) } else { std.to_vec() };
    for (name, text) in chosen {
        let key = format!("{STD}{name}.df");
        add_module(&mut program, &key, text.to_string(), Some(name), &mut broken, &mut warnings);
    }
    resolved(program, &broken, warnings)
}

/// Resolves a program whose modules are read, and puts its diagnostics in order.
fn resolved(mut program: Program, broken: &HashMap<u32, usize>, warnings: Vec<Diagnostic>) -> Program {
    let unreadable = program.diagnostics.len();
    resolve::resolve(&mut program);
    if unreadable > 0 {
        drop_cascades(&mut program, unreadable, broken);
    }
    program.diagnostics.extend(warnings);
    let rank = |d: &Diagnostic| d.labels.first().map(|l| (l.place.source, l.place.span.start));
    program.diagnostics.sort_by_key(rank);
    program
}

/// The number of characters of a line in which names are looked for.
const LONG_LINE: usize = 1_000;

/// Drops the diagnostics that follow from unreadable lines, which are those of the first
/// `unreadable` diagnostics. It drops other diagnostics on these lines, unknown names that these
/// lines mention, and in a source whose blocks no longer end where they began, everything on the
/// lines after.
fn drop_cascades(program: &mut Program, unreadable: usize, broken: &HashMap<u32, usize>) {
    let Program { sources, diagnostics, .. } = program;
    let line_of = |diagnostic: &Diagnostic| {
        let place = diagnostic.labels.first()?.place;
        let text = &sources.files.get(place.source as usize)?.text;
        let at = (place.span.start as usize).min(text.len());
        let from = text[..at].rfind('\n').map_or(0, |at| at + 1);
        let to = text[at..].find('\n').map_or(text.len(), |end| at + end);
        let line: String = text[from..to].chars().take(LONG_LINE).collect();
        Some((place.source, from, line))
    };
    let lines: Vec<_> = diagnostics[..unreadable].iter().filter_map(line_of).collect();
    let mut at = 0;
    diagnostics.retain(|diagnostic| {
        at += 1;
        let Some((source, from, _)) = line_of(diagnostic).filter(|_| at > unreadable) else { return true };
        let title = diagnostic.title.as_str();
        let unknown = title.strip_prefix("unknown name `").and_then(|rest| rest.strip_suffix('`'));
        let follows = lines.iter().any(|(own, start, text)| {
            let named = unknown.is_some_and(|name| text.split(|c| !is_of_a_name(c)).any(|word| word == name));
            (*own, *start) == (source, from) || named
        });
        !follows && broken.get(&source).is_none_or(|first| from <= *first)
    });
}

/// Returns the key of a path that is written in the module `from`.
fn relative(from: &str, path: &str) -> Result<String, &'static str> {
    if path.is_empty() {
        return Err("an empty path");
    }
    if path.starts_with('/') || path.contains('\\') || path.contains(':') {
        return Err("not a relative path");
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

fn add_module(
    program: &mut Program,
    key: &str,
    text: String,
    std: Option<&'static str>,
    broken: &mut HashMap<u32, usize>,
    warnings: &mut Vec<Diagnostic>,
) -> ModuleId {
    let source = program.sources.add(key, text);
    let parsed = parse(&program.sources.files[source as usize].text, source);
    program.diagnostics.extend(parsed.diagnostics);
    warnings.extend(parsed.warnings);
    broken.extend(parsed.broken.map(|at| (source, at)));
    let id = program.modules.len();
    program.modules.push(Module {
        name: key.to_string(),
        source,
        std,
        tree: parsed.module,
        imports: HashMap::new(),
        globals: HashMap::new(),
        uses: HashMap::new(),
        bindings: Vec::new(),
        bound: HashMap::new(),
        function_places: HashMap::new(),
        mocked: HashMap::new(),
        args: 0,
    });
    declare(program, id);
    id
}

fn declare(program: &mut Program, module: ModuleId) {
    let items = std::mem::take(&mut program.modules[module].tree.items);
    let source = program.modules[module].source;
    for (item, stmt) in items.iter().enumerate() {
        let (kind, name, min, max) = match &stmt.kind {
            StmtKind::Fn(f) => callable(GlobalKind::Function, f),
            StmtKind::Activity(f) => callable(GlobalKind::Activity, f),
            StmtKind::Orchestration(f) => callable(GlobalKind::Orchestration, f),
            StmtKind::Const(name, ..) => (GlobalKind::Const, name, 0, 0),
            StmtKind::Entity(entity) => (GlobalKind::Entity, &entity.name, 1, 1),
            StmtKind::Test(name, _) => (GlobalKind::Test, name, 0, 0),
            StmtKind::Property(property) => (GlobalKind::Property, &property.name, 0, 0),
            StmtKind::Schedule(schedule) => (GlobalKind::Schedule, &schedule.name, 0, 1),
            StmtKind::Mock(tree::Mock { target, .. }) => match target.last() {
                Some(name) => (GlobalKind::Mock, name, 0, 0),
                None => continue,
            },
            _ => continue,
        };
        let id: GlobalId = program.globals.len();
        program.globals.push(Global {
            module,
            name: name.name.clone(),
            kind,
            item,
            span: name.span,
            min,
            max,
            script_bound: None,
            alias: alias(program.modules[module].std, stmt),
            operations: operations(&stmt.kind),
            private: private(&stmt.kind),
            binding: u32::MAX,
        });
        let same = |global: &&Global| {
            global.kind == GlobalKind::Entity && global.module != module && global.name == name.name
        };
        if kind == GlobalKind::Entity
            && let Some(other) = program.globals.iter().find(same)
        {
            let place = Place { source: program.modules[other.module].source, span: other.span };
            let error = Diagnostic::error(
                format!("entity `{}` is declared in two modules", name.name),
                Place { source, span: name.span },
                "declared here",
            )
            .and(place, "and here")
            .because("an entity is one in the whole store, so its name belongs to one module")
            .hint("give one of them another name");
            program.diagnostics.push(error);
        }
        if kind.has_no_name() {
            continue;
        }
        if let Some(first) = program.modules[module].globals.insert(name.name.clone(), id) {
            let first: Span = program.globals[first].span;
            program.diagnostics.push(
                Diagnostic::error(
                    format!("`{}` is declared twice", name.name),
                    Place { source, span: name.span },
                    "declared again here",
                )
                .and(Place { source, span: first }, "declared here first")
                .hint("give one of them another name"),
            );
        }
    }
    program.modules[module].tree.items = items;
}

fn operations(kind: &StmtKind) -> Vec<(crate::syntax::token::Name, usize, usize)> {
    let StmtKind::Entity(entity) = kind else { return Vec::new() };
    let of = |member: &tree::Member| match member {
        tree::Member::Operation(f) => {
            let (min, max) = super::scope::arity(&f.params);
            Some((f.name.name.clone(), min, max))
        }
        _ => None,
    };
    entity.members.iter().filter_map(of).collect()
}

fn private(kind: &StmtKind) -> Vec<(crate::syntax::token::Name, Span)> {
    let StmtKind::Entity(entity) = kind else { return Vec::new() };
    let of = |member: &tree::Member| match member {
        tree::Member::Function(f) => Some((f.name.name.clone(), f.name.span)),
        _ => None,
    };
    entity.members.iter().filter_map(of).collect()
}

fn callable(kind: GlobalKind, f: &tree::Callable) -> (GlobalKind, &tree::Ident, usize, usize) {
    let (min, max) = super::scope::arity(&f.params);
    (kind, &f.name, min, max)
}

/// Returns the builtin `g` if a declaration of the standard library only renames it: `fn f(a, b =
/// null) => native.g(a, b)` or `const f = native.g`.
fn alias(std: Option<&str>, stmt: &tree::Stmt) -> Option<crate::builtins::BuiltinId> {
    std?;
    if let StmtKind::Const(_, value, _) = &stmt.kind {
        let ExprKind::Field(module, name) = &value.kind else { return None };
        let native = matches!(&module.kind, ExprKind::Name(module) if &**module == "native");
        return native.then(|| crate::builtins::find(&name.name)).flatten();
    }
    let StmtKind::Fn(f) = &stmt.kind else { return None };
    let [tree::Stmt { kind: StmtKind::Expr(body), .. }] = &f.body.stmts[..] else { return None };
    let ExprKind::Call(callee, args) = &body.kind else { return None };
    let ExprKind::Field(module, name) = &callee.kind else { return None };
    let ExprKind::Name(module) = &module.kind else { return None };
    if &**module != "native" || args.len() != f.params.len() {
        return None;
    }
    let same = f.params.iter().zip(args).all(|(param, arg)| {
        matches!((&param.pattern.kind, &arg), (tree::PatternKind::Name(a), tree::Element::Item(e))
            if matches!(&e.kind, ExprKind::Name(b) if a == b))
    });
    let builtin = same.then(|| crate::builtins::find(&name.name)).flatten()?;
    // Omitted arguments get the defaults of the builtin, which are the same.
    let (required, _) = super::scope::arity(&f.params);
    (crate::builtins::TABLE[builtin.0 as usize].min as usize == required).then_some(builtin)
}
