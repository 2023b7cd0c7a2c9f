//! Every refusal of the command line and of the store, as users see it: the steps of
//! `tests/commands` and their output.
//!
//! A step is `$ ARGUMENTS` of `durable`; `write FILE`, with the lines up to `end`; `bytes FILE
//! HEX…`; `flip FILE`, which changes bytes near its beginning; `cut FILE`, which keeps the first
//! half; `remove PATH`. A changed message is a changed snapshot: run `INSTA_UPDATE=always cargo
//! test --test commands`, then `git diff tests/snapshots`.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{DURABLE, files, snapshots};
use tempfile::TempDir;

#[test]
fn refusals() {
    let paths = files("tests/commands");
    assert!(paths.len() >= 35, "{} files", paths.len());
    let _bound = snapshots().bind_to_scope();
    for path in paths {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let folder = TempDir::new().expect("a folder");
        let steps = fs::read_to_string(&path).expect("the steps");
        insta::assert_snapshot!(format!("command_{name}"), transcript(folder.path(), &steps));
    }
}

/// Returns whether a text looks like `0.01 s`.
fn is_seconds(text: &str) -> bool {
    let number = text.strip_suffix(" s").and_then(|number| number.split_once('.'));
    number.is_some_and(|(whole, rest)| {
        rest.len() == 2 && whole.parse::<u32>().is_ok() && rest.parse::<u32>().is_ok()
    })
}

/// Replaces measured seconds, which differ between runs.
fn untimed(text: &str) -> String {
    let untimed = |line: &str| match line.rsplit_once(", in ") {
        Some((before, took)) if is_seconds(took) => format!("{before}, in SOME s"),
        _ => line.to_string(),
    };
    text.split('\n').map(untimed).collect::<Vec<_>>().join("\n")
}

/// Runs steps, and returns them with their output.
fn transcript(folder: &Path, steps: &str) -> String {
    let mut out = String::new();
    let mut lines = steps.lines();
    while let Some(line) = lines.next() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "$" => {
                let run = Command::new(DURABLE)
                    .current_dir(folder)
                    .args(words(rest))
                    .stdin(Stdio::null())
                    .output()
                    .expect("durable runs");
                let text = |bytes: &[u8]| {
                    untimed(&String::from_utf8_lossy(bytes).replace(&*folder.to_string_lossy(), "HERE"))
                };
                let code = run.status.code().unwrap_or(-1);
                out.push_str(&format!(
                    "{line}\n{}{}exit code {code}\n\n",
                    text(&run.stdout),
                    text(&run.stderr)
                ));
            }
            "write" => {
                let path = folder.join(rest);
                fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                let text: String = lines
                    .by_ref()
                    .take_while(|line| *line != "end")
                    .map(|line| format!("{line}\n"))
                    .collect();
                fs::write(path, text).expect("a file");
            }
            "bytes" => {
                let (file, hex) = rest.split_once(' ').expect("bytes");
                let bytes: Vec<u8> =
                    hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).expect("a byte")).collect();
                fs::write(folder.join(file), bytes).expect("a file");
            }
            "flip" => {
                let mut bytes = fs::read(folder.join(rest)).expect("a file");
                // The data of a store's file lies at its beginning.
                bytes.iter_mut().take(40_000).skip(100).step_by(97).for_each(|byte| *byte ^= 0x55);
                fs::write(folder.join(rest), bytes).expect("a file");
            }
            "cut" => {
                let bytes = fs::read(folder.join(rest)).expect("a file");
                let end = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) / 2;
                fs::write(folder.join(rest), &bytes[..end]).expect("a file");
            }
            "remove" => match folder.join(rest) {
                path if path.is_dir() => fs::remove_dir_all(path).expect("a folder"),
                path => fs::remove_file(path).expect("a file"),
            },
            other => panic!("`{other}` is no step"),
        }
    }
    out
}

/// Splits a line into words. A word in quotes may contain spaces.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('"').enumerate() {
        match at % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_string)),
            _ => words.push(part.to_string()),
        }
    }
    words
}
