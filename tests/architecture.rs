//! The structure of the code, as the documents describe it: layers in a line, no circles within a
//! folder, files and functions of readable length, paths and commands that exist, and prose of 100
//! columns.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use common::{DURABLE, files, files_below, repository};

/// The layers, top to bottom. Each layer uses only those before it.
const LAYERS: [&str; 27] = [
    "internal",
    "kv",
    "compress",
    "cron",
    "resident",
    "syntax",
    "os",
    "format",
    "builtins",
    "check",
    "core",
    "code",
    "machine",
    "render",
    "permissions",
    "engine",
    "model",
    "explore",
    "store",
    "host",
    "api",
    "archive",
    "cluster",
    "debug",
    "http",
    "runtime",
    "cli",
];

/// The folders and files that know the keys of a store, with the reasons.
const KNOW_KEYS: [(&str, &str); 3] = [
    ("src/engine/", "the keys are the engine's"),
    ("src/archive/", "an export has every key, and an import writes them"),
    ("src/explore/engine/world.rs", "the explored engine has a store in memory, without a host"),
];

/// The circles of files in a folder that use one another, with the reasons. New circles are taken
/// apart, so this list only gets shorter.
const CIRCLES: [(&str, &[&str], &str); 1] =
    [("model", &["evaluate", "instance"], "an evaluator remembers the turns of instances")];

/// The files of more than 700 lines, with the reasons.
const LONG_FILES: [(&str, &str); 2] = [
    ("src/machine/execute.rs", "the run loop: a case for each instruction"),
    ("src/machine/operate.rs", "operators and methods by the kinds of their operands"),
];

/// The functions of more than 100 lines, with the reasons.
const LONG_FUNCTIONS: [(&str, &str, &str); 11] = [
    ("src/check/resolve/expressions.rs", "expr", "a case for each form of expression"),
    ("src/code/compile/expressions.rs", "prim", "a case for each primitive"),
    ("src/core/lower/expressions.rs", "expr", "a case for each form of expression"),
    ("src/core/print.rs", "node", "a case for each form of core"),
    ("src/explore/search.rs", "search", "the loop of the search, with its threads"),
    ("src/machine/calls.rs", "builtin", "a case for each kind of builtin"),
    ("src/machine/execute.rs", "step", "the run loop"),
    ("src/machine/json.rs", "encode", "a loop in the place of recursion"),
    ("src/machine/plain.rs", "execute", "a case for each instruction"),
    ("src/model/instance/requests.rs", "dispatch", "a case for each kind of request"),
    ("src/syntax/foreign.rs", "shapes", "a case for each habit of another language"),
];

fn sources() -> Vec<(String, String)> {
    let root = repository("");
    let paths = files_below(&repository("src").display().to_string(), "rs");
    let named = paths.into_iter().map(|path| {
        let name = path.strip_prefix(&root).expect("a file of the repository").display().to_string();
        (name, fs::read_to_string(&path).expect("a source"))
    });
    named.collect()
}

/// Returns a source without its unit tests and comments.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// Returns the names that follow `crate::`, including those in groups.
fn used_layers(text: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let heads: Vec<&str> = match rest.strip_prefix('{') {
            Some(group) => group.split('}').next().unwrap_or("").split(',').map(str::trim).collect(),
            None => vec![rest],
        };
        for head in heads {
            let name: String = head.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            used.insert(name);
        }
    }
    used
}

fn layer(path: &str) -> &str {
    let below = path.strip_prefix("src/").unwrap_or(path);
    below.split('/').next().unwrap_or(below).trim_end_matches(".rs")
}

#[test]
fn layers_use_only_those_above_them() {
    let place = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (path, text) in sources() {
        let own = layer(&path);
        if matches!(own, "lib" | "main") {
            continue;
        }
        let Some(at) = place(own) else {
            wrong.push(format!("{path}: `{own}` is not in the list of layers"));
            continue;
        };
        seen.insert(at);
        for used in used_layers(&code(&text)) {
            if place(&used).is_some_and(|used| used > at) {
                wrong.push(format!("{path} uses `{used}`, a layer below its own"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(seen.len(), LAYERS.len(), "a layer of the list has no files");
}

/// Whether a source names the module of the keys.
fn knows_keys(text: &str) -> bool {
    let is_path = |at: usize| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let uses = text.match_indices("keys::").any(|(at, _)| is_path(at));
    let imports = text.split("use crate::").skip(1).any(|rest| {
        let group = rest.split(';').next().unwrap_or("");
        group.split(|c: char| !c.is_alphanumeric() && c != '_').any(|name| name == "keys")
    });
    uses || imports
}

#[test]
fn only_the_engine_and_what_is_beside_it_know_keys() {
    let sources = sources();
    let mut wrong = Vec::new();
    for (path, _) in sources.iter().filter(|(_, text)| knows_keys(&code(text))) {
        if !KNOW_KEYS.iter().any(|(known, _)| path.starts_with(known)) {
            wrong.push(format!("{path} knows the keys of a store: ask by a query of `api` instead"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (known, reason) in KNOW_KEYS {
        assert!(!reason.is_empty());
        let is_needed = |(path, text): &(String, String)| path.starts_with(known) && knows_keys(&code(text));
        assert!(sources.iter().any(is_needed), "{known} knows no keys any more, so it is not in the list");
    }
}

/// Finds the modules of its own folder that a file uses.
fn neighbours(folder: &Path, layer: &str, module: &[&str], text: &str, found: &mut BTreeSet<String>) {
    let begins = |at: usize| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
    let own = format!("crate::{layer}::");
    for start in ["super::", "self::", own.as_str()] {
        for (at, _) in text.match_indices(start).filter(|(at, _)| begins(*at)) {
            let mut base: Vec<&str> = match start {
                "super::" => module[..module.len().saturating_sub(1)].to_vec(),
                "self::" => module.to_vec(),
                _ => Vec::new(),
            };
            let mut rest = &text[at + start.len()..];
            while let Some(higher) = rest.strip_prefix("super::") {
                base.pop();
                rest = higher;
            }
            let items: Vec<String> = match rest.strip_prefix('{') {
                Some(group) => top_items(group),
                None => vec![rest.chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect()],
            };
            for item in items {
                let mut deepest = None;
                let mut path = base.clone();
                for part in item.split("::").map(str::trim).filter(|part| !part.is_empty()) {
                    path.push(part);
                    let file = folder.join(path.join("/"));
                    match file.with_extension("rs").exists() || file.join("mod.rs").exists() {
                        true => deepest = Some(path.join("/")),
                        false => break,
                    }
                }
                found.extend(deepest.filter(|name| *name != module.join("/")));
            }
        }
    }
}

/// Returns the items of a group of a `use`, without the groups within them.
fn top_items(group: &str) -> Vec<String> {
    let (mut items, mut depth, mut item) = (Vec::new(), 0, String::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(std::mem::take(&mut item)),
            c if depth == 0 => item.push(c),
            _ => {}
        }
    }
    items.push(item);
    items.into_iter().map(|item| item.trim().to_string()).collect()
}

/// Returns the groups of modules in which each module can be reached from each other.
fn circles(graph: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<BTreeSet<String>> {
    let reached = |from: &String| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(one) = open.pop() {
            for next in graph.get(&one).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        seen
    };
    let all: BTreeMap<&String, BTreeSet<String>> = graph.keys().map(|name| (name, reached(name))).collect();
    let mut found = BTreeSet::new();
    for (name, seen) in all.iter().filter(|(name, seen)| seen.contains(**name)) {
        let circle = seen.iter().filter(|other| all.get(other).is_some_and(|seen| seen.contains(*name)));
        found.insert(circle.cloned().collect());
    }
    found
}

#[test]
fn no_files_of_a_folder_use_one_another() {
    let mut graphs: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (path, text) in sources() {
        let own = layer(&path);
        let Some(module) = path.strip_prefix(&format!("src/{own}/")) else { continue };
        let module = module.trim_end_matches(".rs").trim_end_matches("mod").trim_end_matches('/');
        let parts: Vec<&str> = module.split('/').filter(|part| !part.is_empty()).collect();
        // The head of a folder names all of its modules.
        if parts.is_empty() {
            continue;
        }
        let mut found = BTreeSet::new();
        neighbours(&repository(&format!("src/{own}")), own, &parts, &code(&text), &mut found);
        graphs.entry(own.to_string()).or_default().insert(parts.join("/"), found);
    }
    let mut known: BTreeSet<(String, BTreeSet<String>)> = BTreeSet::new();
    for (layer, modules, reason) in CIRCLES {
        assert!(!reason.is_empty());
        known.insert((layer.into(), modules.iter().map(|name| name.to_string()).collect()));
    }
    let mut found = BTreeSet::new();
    for (layer, graph) in &graphs {
        found.extend(circles(graph).into_iter().map(|circle| (layer.clone(), circle)));
    }
    let fresh: Vec<_> = found.difference(&known).collect();
    assert!(fresh.is_empty(), "circles: {fresh:?}");
    let gone: Vec<_> = known.difference(&found).collect();
    assert!(gone.is_empty(), "not there any more, so not in the list either: {gone:?}");
}

#[test]
fn files_and_functions_are_read_in_a_sitting() {
    let (mut long_files, mut long_functions) = (BTreeSet::new(), BTreeSet::new());
    for (path, text) in sources() {
        if text.lines().count() > 700 {
            long_files.insert(path.clone());
        }
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let words: Vec<&str> = line.split_whitespace().collect();
            let Some(fn_at) = words.iter().position(|word| *word == "fn").filter(|at| *at < 4) else {
                continue;
            };
            let is_plain = words[..fn_at].iter().all(|word| {
                word.starts_with("pub")
                    || matches!(*word, "const" | "async" | "unsafe")
                    || word.ends_with(')')
            });
            let end = format!("{}}}", " ".repeat(indent));
            let length = lines[at..].iter().position(|line| **line == end).unwrap_or(0);
            if is_plain && !line.trim_end().ends_with([';', '}']) && length > 100 {
                let name: String =
                    words[fn_at + 1].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                long_functions.insert((path.clone(), name));
            }
        }
    }
    let known: BTreeSet<String> = LONG_FILES.iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(long_files, known, "files of more than 700 lines, and those that may be");
    let known: BTreeSet<(String, String)> =
        LONG_FUNCTIONS.iter().map(|(path, name, _)| (path.to_string(), name.to_string())).collect();
    assert_eq!(long_functions, known, "functions of more than 100 lines, and those that may be");
}

/// Returns the documents, by name and text.
fn documents() -> Vec<(String, String)> {
    let mut paths: Vec<_> =
        files("docs").into_iter().filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    paths.extend(["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(repository));
    let read = |path: std::path::PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        (name, fs::read_to_string(&path).expect("a document"))
    };
    paths.into_iter().map(read).collect()
}

/// Returns the pieces of a text between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

#[test]
fn paths_in_documents_exist() {
    let mut wrong = Vec::new();
    for (name, text) in documents().into_iter().filter(|(name, _)| name != "CHANGELOG.md") {
        let is_inside =
            matches!(name.as_str(), "architecture.md" | "CONTRIBUTING.md" | "models.md" | "formats.md");
        for piece in quoted(&text) {
            let is_path =
                piece.chars().all(|c| c.is_alphanumeric() || "_-./".contains(c)) && piece.contains('/');
            let top = [
                "src/",
                "tests/",
                "docs/",
                "examples/",
                "stdlib/",
                "benches/",
                "grammar/",
                "editors/",
                "fuzz/",
                ".ci/",
            ];
            let is_ours = top.iter().any(|top| piece.starts_with(top));
            let is_source = is_inside && piece.ends_with(".rs");
            if !is_path || !(is_ours || is_source) {
                continue;
            }
            let exists = [piece.to_string(), format!("src/{piece}"), format!("tests/{piece}")]
                .iter()
                .any(|path| repository(path).exists());
            if !exists {
                wrong.push(format!("{name}: `{piece}`"));
            }
        }
        for suite in text.split("--test ").skip(1) {
            let suite: String = suite.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !suite.chars().all(|c| c.is_uppercase()) && !repository(&format!("tests/{suite}.rs")).exists()
            {
                wrong.push(format!("{name}: no suite `{suite}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn commands_in_documents_exist() {
    let help = |arguments: &[&str]| {
        let run = Command::new(DURABLE).args(arguments).output().expect("durable runs");
        String::from_utf8_lossy(&run.stdout).into_owned()
    };
    let commands_of = |text: String| -> BTreeSet<String> {
        let after = text.split("Commands:").nth(1).unwrap_or("").to_string();
        let words = after.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        words.filter_map(|line| Some(line.split_whitespace().next()?.to_string())).collect()
    };
    let commands = commands_of(help(&["--help"]));
    assert!(commands.len() > 20, "{commands:?}");
    let mut helps: BTreeMap<String, String> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (name, text) in documents().into_iter().filter(|(name, _)| name != "CHANGELOG.md") {
        let indented = text.lines().filter_map(|line| line.trim_start().strip_prefix("durable "));
        let mentioned = quoted(&text).filter_map(|piece| piece.strip_prefix("durable "));
        for words in indented.filter(|line| !line.contains("durable")).chain(mentioned) {
            let words: Vec<&str> = words.split('#').next().unwrap_or("").split_whitespace().collect();
            let Some(command) =
                words.first().filter(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
            else {
                continue;
            };
            if !commands.contains(*command) {
                // A sentence may begin a line with the program's name.
                if !command.starts_with('-') && text.contains(&format!("`durable {command}")) {
                    wrong.push(format!("{name}: `durable {command}`"));
                }
                continue;
            }
            let flags = words.iter().filter_map(|word| word.strip_prefix("--"));
            let flags = flags.map(|flag| flag.split(['=', ',', ')', ']', ';', ':']).next().unwrap_or(flag));
            for flag in flags
                .filter(|flag| !flag.is_empty() && flag.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
            {
                let mut path = vec![*command];
                if *command == "store" {
                    path.extend(words.get(1).copied());
                }
                path.push("--help");
                let text = helps.entry(path.join(" ")).or_insert_with(|| help(&path));
                if !text.contains(&format!("--{flag}")) {
                    wrong.push(format!("{name}: `durable {}` has no `--{flag}`", words.join(" ")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn prose_has_100_columns() {
    let mut long = Vec::new();
    for (name, text) in documents() {
        let mut is_code = false;
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                is_code = !is_code;
            }
            let is_prose = !is_code
                && !line.trim_start().starts_with('|')
                && !line.starts_with("    ")
                && !line.contains("](");
            if is_prose && line.chars().count() > 100 {
                long.push(format!("{name}, line {}", number + 1));
            }
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}
