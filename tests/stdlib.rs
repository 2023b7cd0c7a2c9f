//! The documentation of the standard library: every function has a comment with an example, and
//! every example holds.

mod common;

use std::fs;
use std::process::Command;

use common::DURABLE;
use durable::check::{STD, load_stored, std_sources};
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
