//! The programs in the README and in `docs` are correct.

mod common;

use std::fs;
use std::process::{Command, Stdio};

use common::{DURABLE, repository};
use tempfile::TempDir;

/// Returns the blocks of the language in a text.
fn blocks(path: &str) -> Vec<String> {
    let text = fs::read_to_string(repository(path)).expect("the text");
    let mut blocks = Vec::new();
    for part in text.split("```df\n").skip(1) {
        blocks.push(part.split("```").next().expect("the end of the block").to_string());
    }
    blocks
}

fn durable(command: &str, text: &str) -> String {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("block.df"), text).expect("a program");
    let run = Command::new(DURABLE)
        .current_dir(folder.path())
        .args([command, "block.df"])
        .stdin(Stdio::null())
        .output()
        .expect("durable runs");
    assert!(run.status.success(), "{text}\n{}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8_lossy(&run.stdout).into_owned()
}

#[test]
fn programs_of_the_readme_have_no_mistakes() {
    let blocks = blocks("README.md");
    assert!(blocks.len() >= 2);
    for block in blocks {
        durable("check", &block);
    }
}

#[test]
fn programs_about_exploring_are_right() {
    let blocks = blocks("docs/explore.md");
    assert!(!blocks.is_empty());
    for block in blocks {
        let report = durable("explore", &block);
        assert!(report.contains("nothing goes wrong, under any schedule"), "{report}");
    }
}

#[test]
fn tests_on_pages_pass() {
    for page in ["docs/tools.md", "docs/coming_from.md", "docs/embedding.md"] {
        let blocks = blocks(page);
        let [block] = &blocks[..] else { panic!("{page} has {} programs", blocks.len()) };
        let report = durable("test", block);
        assert!(report.contains("2 passed"), "{report}");
    }
}

#[test]
fn programs_of_the_tour_run() {
    let blocks = blocks("docs/tour.md");
    assert!(blocks.len() >= 19);
    for block in blocks {
        durable("run", &block);
        if block.contains("test \"") {
            durable("test", &block);
        }
        if block.contains("eventually \"") {
            let report = durable("explore", &block);
            assert!(report.contains("nothing goes wrong, under any schedule"), "{report}");
        }
    }
}

/// Each example in the pages about errors fails with the kind of its page, and `explain` shows the
/// page.
#[test]
fn examples_of_errors_fail_so() {
    let text = fs::read_to_string(repository("docs/errors.md")).expect("the text");
    let mut examples = 0;
    for page in text.split("\n## ").skip(1) {
        let (kind, rest) = page.split_once('\n').expect("a title");
        let shown = Command::new(DURABLE).args(["explain", kind]).output().expect("durable runs");
        assert!(String::from_utf8_lossy(&shown.stdout).starts_with(kind), "{kind}");
        let Some(example) = rest.split("```df\n").nth(1).and_then(|rest| rest.split("```").next()) else {
            continue;
        };
        let folder = TempDir::new().expect("a folder");
        fs::write(folder.path().join("a.df"), example).expect("a program");
        let run = Command::new(DURABLE).current_dir(folder.path()).args(["run", "a.df"]).output();
        let error = String::from_utf8_lossy(&run.expect("durable runs").stderr).into_owned();
        assert!(error.contains(&format!("Error: {kind}: ")), "{kind}\n{error}");
        examples += 1;
    }
    assert!(examples >= 25, "{examples}");
}

/// Each kind of error that the source throws is in the reference and has a page.
#[test]
fn every_kind_of_error_is_in_the_reference() {
    let reference = fs::read_to_string(repository("docs/language.md")).expect("the reference");
    let pages = fs::read_to_string(repository("docs/errors.md")).expect("the pages");
    let mut waiting = vec![repository("src"), repository("stdlib")];
    let mut found = 0;
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting
                .extend(fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").path()));
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source");
        for call in
            ["fail(\"", "fail_with(\"", "ErrorData::new(\"", "ErrorData::with(\"", "failed(\"", "kind: \""]
        {
            for part in text.split(call).skip(1) {
                let kind: String = part.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                if part[kind.len()..].starts_with('"') && !kind.is_empty() {
                    found += 1;
                    assert!(
                        reference.contains(&format!("`{kind}`")),
                        "{}: `{kind}` is not in docs/language.md",
                        path.display()
                    );
                    let own = kind == "mock";
                    assert!(
                        own || pages.contains(&format!("\n## {kind}\n")),
                        "`{kind}` has no page in docs/errors.md"
                    );
                }
            }
        }
    }
    assert!(found > 30, "only {found} found");
}
