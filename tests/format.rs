//! The formatter: its output has the same meaning and all comments, and formatting it again changes
//! nothing.

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

/// Returns the tree of a text without its places.
fn meaning(text: &str, spans: &Regex) -> String {
    let parsed = parse(text, 0);
    assert!(parsed.diagnostics.is_empty(), "{text}\n{:?}", parsed.diagnostics);
    spans.replace_all(&format!("{:?}", parsed.module), "").into_owned()
}

fn spans() -> Regex {
    Regex::new(r"Span \{ start: \d+, end: \d+ \}").expect("a pattern")
}

/// Formats a text and checks the result. Returns `None` if the text has mistakes.
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

/// Returns a text with other spaces, line breaks and comments between its tokens, where it stays a
/// program.
fn scrambled(text: &str, random: &mut common::Random) -> String {
    use durable::syntax::token::Token::*;
    let tokens = parse(text, 0).tokens;
    let mut out = String::new();
    let mut at = 0;
    let mut depth = 0_usize;
    for (number, (start, token, end)) in tokens.iter().enumerate() {
        let Some((_, next, _)) = tokens.get(number + 1) else { break };
        if *start < at || *token == Nl {
            continue;
        }
        out.push_str(&text[at..*end]);
        at = *end;
        match token {
            LParen | LBracket => depth += 1,
            RParen | RBracket => depth = depth.saturating_sub(1),
            _ => {}
        }
        // Within a string, only the braces have room, and only for a comment.
        let in_string = matches!(token, StrStart(_) | StrMid(_)) || matches!(next, StrMid(_) | StrEnd(_));
        let opens = *token == LBrace;
        match random.below(18) {
            1 => out.push_str(" /* why */ "),
            2 => out.push_str("/* why /* so */ **/"),
            3 => out.push_str(" /* why */ /* why not */"),
            _ if in_string => {}
            0 => out.push_str("  "),
            4 if depth > 0 || opens => out.push('\n'),
            5 if depth > 0 || opens => out.push_str(" // because\n\n\n"),
            6 if depth > 0 || opens => out.push_str(" /* why */\n /* why\n  two lines */ "),
            7 if matches!(next, Nl | RBrace) => out.push_str(" ; "),
            8 if matches!(next, Nl | RBrace) => out.push_str("; /* why */ "),
            9 if matches!(next, Nl | RBrace) => out.push_str(" /* why */ ; /* why\n too */"),
            10 if matches!(next, Nl) => out.push_str(" // so\n\n\n"),
            11 if matches!(next, Nl) => out.push_str("; // so\n"),
            12 if matches!(next, RBrace) => out.push('\n'),
            13 | 14 if matches!(next, Nl) => {
                // Two statements on one line.
                let Some((follows, ..)) = tokens.get(number + 2) else { continue };
                if text[at..*follows].trim().is_empty() {
                    out.push_str(["; /* why */ ", " /* why */; "][random.below(2) as usize]);
                    at = *follows;
                }
            }
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
            for comment in ["/* why", "/* so", "two lines", "// because", "// so"] {
                assert_eq!(styled.matches(comment).count(), text.matches(comment).count(), "{text}");
            }
        }
    }
    assert!(formatted > 3_000, "{formatted} layouts were formatted");
}

#[test]
fn comments_stand_wherever_one_writes_them() {
    let cases = [
        ("fn f() { print(1); /* c */ 2 }", "fn f() { print(1); /* c */ 2 }\n"),
        ("fn f() { print(1) /* c */; 2 }", "fn f() { print(1) /* c */; 2 }\n"),
        ("fn f() { print(1); /* c */ }", "fn f() { print(1) /* c */ }\n"),
        (
            "fn f() { print(1); /* c */ /* d */ 2; /* e */ }",
            "fn f() { print(1); /* c */ /* d */ 2 /* e */ }\n",
        ),
        ("print(1); /* c */ print(2)", "print(1)\n/* c */ print(2)\n"),
        ("print(1); // c\nprint(2)", "print(1)  // c\nprint(2)\n"),
        ("let x = match 1 { 1 => 2; /* c */ _ => 3 }", "let x = match 1 { 1 => 2; /* c */ _ => 3 }\n"),
        (
            "let x = match 1 { 1 => 2, /* c */ _ => 3 /* d */ }",
            "let x = match 1 { 1 => 2, /* c */ _ => 3 /* d */ }\n",
        ),
        ("entity E { state 1; /* c */ on f() => 1 }", "entity E { state 1; /* c */ on f() => 1 }\n"),
        ("fn f(a /* c */, b = 1 /* d */) => a", "fn f(a /* c */, b = 1 /* d */) => a\n"),
        ("let x = \"{ /* c */ 1 }\"", "let x = \"{ /* c */ 1 }\"\n"),
        ("fn f() { /* a /* b */ c */ }", "fn f() { /* a /* b */ c */ }\n"),
    ];
    for (text, style) in cases {
        assert_eq!(format(text, 0).expect("no mistakes"), style, "{text}");
        assert_eq!(format(style, 0).expect("no mistakes"), style, "{text}");
    }
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

#[test]
fn what_cannot_be_read_holds_nothing_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    fs::write(at("a_bytes.df"), b"print(\xff)").expect("a file");
    fs::write(at("b_wrong.df"), "print( 1").expect("a file");
    fs::write(at("z_ugly.df"), "test \"a\" { assert( true ) }").expect("a file");
    let (code, _, error) = durable(&["fmt", "no.df", "."], folder.path());
    assert_eq!(code, 4, "{error}");
    for said in [
        "no.df can't be read",
        "a_bytes.df can't be read: it is not UTF-8",
        "unclosed `(`",
        "z_ugly.df: formatted",
    ] {
        assert!(error.contains(said), "{said}: {error}");
    }
    assert!(
        error.contains("1 file with mistakes, left as they are; 2 files that could not be formatted"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(at("z_ugly.df")).expect("a text"), "test \"a\" { assert(true) }\n");
    // `check` and `test` go on with the other files as well.
    let (code, _, error) = durable(&["check", "no.df", "b_wrong.df", "z_ugly.df"], folder.path());
    assert_eq!(
        (code, error.contains("no.df can't be read"), error.contains("unclosed `(`")),
        (4, true, true),
        "{error}"
    );
    let (code, out, error) = durable(&["test", "no.df", "z_ugly.df"], folder.path());
    assert_eq!(
        (code, out.contains("1 passed"), error.contains("no.df can't be read")),
        (4, true, true),
        "{out}{error}"
    );
    let (code, _, _) = durable(&["check", "z_ugly.df"], folder.path());
    assert_eq!(code, 0);
}
