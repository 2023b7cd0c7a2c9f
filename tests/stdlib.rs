//! The documentation of the standard library: every function has a comment with an example, and
//! every example holds.

mod common;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::DURABLE;
use durable::check::{Program, STD, load_beside, load_beside_with_all, load_stored, std_sources};
use durable::core;
use tempfile::TempDir;

/// A function or constant with its comment.
struct Documented {
    name: String,
    text: Vec<String>,
    examples: Vec<String>,
}

fn documented(source: &str) -> Vec<Documented> {
    let (mut found, mut text, mut examples) = (Vec::new(), Vec::new(), Vec::new());
    for line in source.lines() {
        if let Some(example) = line.strip_prefix("///     ") {
            examples.push(example.to_string());
        } else if let Some(words) = line.strip_prefix("/// ") {
            text.push(words.to_string());
        } else if let Some(rest) = line.strip_prefix("fn ").or(line.strip_prefix("const ")) {
            let name = rest.split(['(', ' ']).next().unwrap_or_default().to_string();
            found.push(Documented {
                name,
                text: std::mem::take(&mut text),
                examples: std::mem::take(&mut examples),
            });
        }
    }
    found
}

#[test]
fn every_function_is_documented_with_an_example() {
    for (module, source) in std_sources() {
        for item in documented(source) {
            assert!(!item.text.is_empty(), "{module}.{} has no comment", item.name);
            assert!(!item.examples.is_empty(), "{module}.{} has no example", item.name);
        }
    }
}

#[test]
fn every_example_holds() {
    let mut failures = Vec::new();
    for (module, source) in std_sources() {
        let folder = TempDir::new().expect("a temporary folder");
        let mut script = String::new();
        let mut count = 0;
        for item in documented(source) {
            for example in item.examples {
                script.push_str(&format!("fn example_{count}() {{\n{example}\n}}\n"));
                script.push_str(&format!(
                    "if example_{count}() != true {{ print(\"{module}.{} {count}\") }}\n",
                    item.name
                ));
                count += 1;
            }
        }
        fs::write(folder.path().join("examples.df"), script).expect("the script is written");
        let run = Command::new(DURABLE)
            .current_dir(folder.path())
            .args(["run", "examples.df"])
            .output()
            .expect("durable runs");
        let (stdout, stderr) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        // The output of `print` and `log` themselves is no failure.
        let wrong: Vec<&str> =
            stdout.lines().filter(|line| line.starts_with(&format!("{module}."))).collect();
        if !run.status.success() || !wrong.is_empty() {
            failures.push(format!("{module}: {wrong:?}\n{stderr}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A program is stored with the library that it began with, so the natives of earlier libraries
/// stay.
#[test]
fn a_program_of_an_earlier_library_goes_on() {
    let now = "  var out = [..xs]\n  for i in 0..native.len(out) { out[i] = f(out[i]) }\n  out\n";
    let earlier = "  var out = native.list_room(xs)\n  for x in xs { out += [f(x)] }\n  out\n";
    let mut texts = vec![("p.df".to_string(), "print([1, 2].map(fn x => x + 1))\n".to_string())];
    for (name, text) in std_sources() {
        assert!(*name != "list" || text.contains(now));
        texts.push((format!("{STD}{name}.df"), text.replace(now, earlier)));
    }
    let program = load_stored(&texts).expect("there are texts");
    assert!(program.diagnostics.is_empty(), "{:?}", program.diagnostics);
}

/// Returns all files with programs in a folder of the repository.
fn programs_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(programs_in(&path));
        } else if path.extension().is_some_and(|extension| extension == "df") {
            found.push(path);
        }
    }
    found
}

/// A program is loaded with the modules of the library that it needs. Its own code is the same then
/// as with the whole library, and methods have the same targets.
#[test]
fn a_part_of_the_library_is_enough() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["tests/conformance", "tests/explore", "examples", "benches/programs"];
    let (mut checked, mut smaller) = (0, 0);
    for file in folders.iter().flat_map(|folder| programs_in(&root.join(folder))) {
        let text = fs::read_to_string(&file).expect("a program");
        let part = load_beside(&file, text.clone());
        let whole = load_beside_with_all(&file, text);
        if !part.diagnostics.is_empty() {
            continue;
        }
        checked += 1;
        smaller += usize::from(part.modules.len() < whole.modules.len());
        let shown = |program: &Program| {
            let core = core::lower(program);
            let named =
                |(module, global): &(&str, usize)| format!("{module}.{}", program.globals[*global].name);
            let methods: HashMap<String, Vec<String>> = core
                .methods
                .iter()
                .filter(|(_, targets)| !targets.is_empty())
                .map(|(name, targets)| (name.to_string(), targets.iter().map(named).collect()))
                .collect();
            (core::print(&core, program, false), methods)
        };
        let ((part_code, part_methods), (whole_code, whole_methods)) = (shown(&part), shown(&whole));
        assert_eq!(part_code, whole_code, "{}", file.display());
        for (name, targets) in &part_methods {
            assert_eq!(Some(targets), whole_methods.get(name), "{name} in {}", file.display());
        }
        // A member of a module is no method.
        let mut text = part.sources.files[0].text.clone();
        for (module, _) in std_sources() {
            text = text.replace(&format!("{module}."), "");
        }
        let own = |name: &&String| text.contains(&format!(".{name}("));
        for name in whole_methods.keys().filter(own) {
            assert!(part_methods.contains_key(name), "{name} in {}", file.display());
        }
    }
    assert!(checked > 300 && smaller > checked / 2, "{checked} programs, {smaller} with a part");
}
