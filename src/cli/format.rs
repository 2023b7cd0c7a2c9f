//! `durable fmt`.

use std::io::{Read, Write};
use std::path::Path;

use crate::format::{Unformatted, format as in_style};
use crate::os::read_text;
use crate::render::{Shown, show};
use crate::syntax::Sources;

use super::arguments::Fmt;
use super::problem::{Problem, note};
use super::{FAILED, INTERNAL, INVALID, STORE, print, sources};

/// Writes programs in the one style, or says which are not in it.
pub fn format(asked: Fmt) -> Result<u8, Problem> {
    if asked.files.iter().any(|file| file == Path::new("-")) {
        return from_input(asked.check);
    }
    let files = sources::find(&asked.files)?;
    let (mut changed, mut bad) = (0, 0);
    for file in &files {
        let name = file.display();
        let text = read_text(file)
            .map_err(|reason| Problem::new(STORE, format!("{name} can't be read: {reason}")))?;
        let Some(styled) = styled(&text, file)? else {
            bad += 1;
            continue;
        };
        if styled == text {
            continue;
        }
        changed += 1;
        if asked.check {
            print(&format!("{name}\n"))?;
        } else {
            replace(file, &styled)?;
            note(&format!("{name}: formatted"));
        }
    }
    match (bad, changed) {
        (1.., _) => Err(Problem::new(INVALID, format!("{} with mistakes, left as they are", count(bad)))),
        (0, 1..) if asked.check => Err(Problem::new(FAILED, format!("not in the style: {}", count(changed)))
            .hint("`durable fmt` writes them in it")),
        (0, n) => {
            note(&format!("{} of {} changed", n, count(files.len())));
            Ok(0)
        }
    }
}

fn count(n: usize) -> String {
    format!("{n} file{}", if n == 1 { "" } else { "s" })
}

fn from_input(check: bool) -> Result<u8, Problem> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| {
        Problem::new(STORE, format!("standard input can't be read: {}", crate::os::reason(&error)))
    })?;
    let Some(styled) = styled(&text, Path::new("standard input"))? else {
        return Err(Problem::new(INVALID, "standard input has mistakes"));
    };
    if check {
        return Ok(if styled == text { 0 } else { FAILED });
    }
    print(&styled)?;
    Ok(0)
}

/// A text in the style; nothing when it has mistakes, which are shown.
fn styled(text: &str, file: &Path) -> Result<Option<String>, Problem> {
    match in_style(text, 0) {
        Ok(styled) => Ok(Some(styled)),
        Err(Unformatted::Mistakes(mistakes)) => {
            let mut sources = Sources::default();
            sources.add(file.file_name().map_or("", |name| name.to_str().unwrap_or("")), text);
            let shown = Shown::new(&sources, file);
            mistakes.iter().for_each(|mistake| show(&shown.diagnostic(mistake)));
            Ok(None)
        }
        Err(Unformatted::Changed) => {
            Err(Problem::new(INTERNAL, format!("{}: formatted it would mean something else", file.display()))
                .hint("this is a mistake in durable; the file is as it was"))
        }
    }
}

/// Puts a new text in the place of a file, whole or not at all.
fn replace(file: &Path, text: &str) -> Result<(), Problem> {
    let failed = |error: std::io::Error| {
        let reason = crate::os::reason(&error);
        Problem::new(STORE, format!("{} can't be written: {reason}", file.display()))
    };
    // A link stays one: what it leads to is replaced.
    let file = &file.canonicalize().map_err(failed)?;
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let new = file.with_file_name(name);
    let written = (|| {
        let permissions = std::fs::metadata(file)?.permissions();
        let mut out = std::fs::File::create(&new)?;
        out.write_all(text.as_bytes())?;
        out.set_permissions(permissions)?;
        std::fs::rename(&new, file)
    })();
    written.map_err(|error| {
        let _ = std::fs::remove_file(&new);
        failed(error)
    })
}
