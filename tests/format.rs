//! The formatter: what it writes means the same and is the same when it is formatted again, with all its comments.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use durable::format::{Unformatted, format};
use durable::syntax::parse;
use regex::Regex;

const FOLDERS: [&str; 5] = ["stdlib", "examples", "tests/conformance", "tests/explore", "benches/programs"];

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files_below(&path, found);
        } else if path.extension().is_some_and(|end| end == "df") {
            found.push(path);
        }
    }
}

fn programs(folders: &[&str]) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    folders.iter().for_each(|folder| files_below(Path::new(folder), &mut files));
    files.sort();
    files.into_iter().map(|file| (file.clone(), fs::read_to_string(file).expect("a text"))).collect()
}

/// The tree of a text without its places.
fn meaning(text: &str, spans: &Regex) -> String {
    let parsed = parse(text, 0);
    assert!(parsed.diagnostics.is_empty(), "{text}\n{:?}", parsed.diagnostics);
    spans.replace_all(&format!("{:?}", parsed.module), "").into_owned()
}

fn spans() -> Regex {
    Regex::new(r"Span \{ start: \d+, end: \d+ \}").expect("a pattern")
}

/// Formats a text and checks what has to hold; nothing when the text has mistakes.
fn checked(text: &str, name: &str, spans: &Regex) -> Option<String> {
    let styled = match format(text, 0) {
        Ok(styled) => styled,
        Err(Unformatted::Mistakes(_)) => return None,
        Err(Unformatted::Changed) => panic!("{name}: it would be changed\n{text}"),
    };
    assert_eq!(
        meaning(text, spans),
        meaning(&styled, spans),
        "{name} means the same\n{text}\n----\n{styled}"
    );
    let again = format(&styled, 0).expect("it has no mistakes");
    assert_eq!(again, styled, "{name} is the same when it is formatted again\n{text}");
    Some(styled)
}

#[test]
fn every_program_of_the_repository_means_the_same_in_the_style() {
    let spans = spans();
    let formatted = programs(&FOLDERS)
        .iter()
        .filter(|(file, text)| checked(text, &file.display().to_string(), &spans).is_some())
        .count();
    assert!(formatted > 250, "{formatted} programs were formatted");
}

#[test]
fn what_people_copy_is_in_the_style() {
    for (file, text) in programs(&["stdlib", "examples"]) {
        assert_eq!(format(&text, 0).expect("no mistakes"), text, "{}: run `durable fmt`", file.display());
    }
}

/// A text with other spaces, line breaks and comments between its tokens, where it stays a program.
fn scrambled(text: &str, random: &mut common::Random) -> String {
    let parsed = parse(text, 0);
    let mut out = String::new();
    let mut at = 0;
    let mut depth = 0_usize;
    for pair in parsed.tokens.windows(2) {
        use durable::syntax::token::Token::*;
        let (start, token, end) = &pair[0];
        if *start < at || *token == Nl {
            continue;
        }
        out.push_str(&text[at..*end]);
        at = *end;
        match token {
            LParen | LBracket => depth += 1,
            RParen | RBracket => depth = depth.saturating_sub(1),
            LBrace | StrStart(_) | StrMid(_) => continue,
            _ => {}
        }
        if matches!(pair[1].1, StrMid(_) | StrEnd(_)) {
            continue;
        }
        match random.below(12) {
            0 => out.push_str("  "),
            1 => out.push_str(" /* why */ "),
            2 if depth > 0 => out.push('\n'),
            3 if depth > 0 => out.push_str(" // because\n\n\n"),
            4 if matches!(pair[1].1, Nl | RBrace) => out.push_str(" ; "),
            5 if matches!(pair[1].1, Nl) => out.push_str(" // so\n\n\n"),
            6 if matches!(pair[1].1, RBrace) => out.push('\n'),
            _ => {}
        }
    }
    out.push_str(&text[at..]);
    out
}

#[test]
fn however_a_program_is_laid_out() {
    let spans = spans();
    let mut random = common::Random::new(7);
    let mut formatted = 0;
    for (file, text) in programs(&FOLDERS) {
        if !parse(&text, 0).diagnostics.is_empty() {
            continue;
        }
        for _ in 0..20 {
            let text = scrambled(&text, &mut random);
            let Some(styled) = checked(&text, &file.display().to_string(), &spans) else { continue };
            formatted += 1;
            for comment in ["/* why */", "// because", "// so"] {
                assert_eq!(styled.matches(comment).count(), text.matches(comment).count(), "{text}");
            }
        }
    }
    assert!(formatted > 3_000, "{formatted} layouts were formatted");
}

fn durable(arguments: &[&str], folder: &Path) -> (i32, String, String) {
    let program = Command::new(env!("CARGO_BIN_EXE_durable"));
    let output = { program }.args(arguments).current_dir(folder).output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_writes_what_has_no_mistakes_and_says_the_rest() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("deep/.hidden")).expect("folders");
    fs::write(at("good.df"), "print(1)\n").expect("a file");
    fs::write(at("deep/ugly.df"), "print( 1 );print(2)").expect("a file");
    fs::write(at("deep/.hidden/ugly.df"), "print( 1 )").expect("a file");
    let (code, out, error) = durable(&["fmt", "--check"], folder.path());
    assert_eq!((code, out.as_str()), (1, "deep/ugly.df\n"), "{error}");
    assert!(fs::read_to_string(at("deep/ugly.df")).expect("a text").contains("( 1 )"));
    let (code, _, error) = durable(&["fmt"], folder.path());
    assert_eq!(code, 0, "{error}");
    assert_eq!(fs::read_to_string(at("deep/ugly.df")).expect("a text"), "print(1)\nprint(2)\n");
    assert_eq!(fs::read_to_string(at("deep/.hidden/ugly.df")).expect("a text"), "print( 1 )");
    fs::write(at("wrong.df"), "print( 1").expect("a file");
    let (code, _, error) = durable(&["fmt"], folder.path());
    assert_eq!(code, 3, "{error}");
    assert!(error.contains("unclosed `(`"), "{error}");
    assert_eq!(fs::read_to_string(at("wrong.df")).expect("a text"), "print( 1");
}
