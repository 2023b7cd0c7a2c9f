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

/// Formats programs, or lists those that are not formatted.
pub fn format(asked: Fmt) -> Result<u8, Problem> {
    if asked.files.iter().any(|file| file == Path::new("-")) {
        return from_input(asked.check);
    }
    let found = sources::find(&asked.files)?;
    let mut done = Done { failed: found.problems, ..Done::default() };
    done.failed.iter().for_each(Problem::show);
    for file in &found.files {
        match read_text(file) {
            Ok(text) => done.file(file, &text, asked.check)?,
            Err(reason) => {
                done.fails(Problem::new(STORE, format!("{} can't be read: {reason}", file.display())))
            }
        }
    }
    done.end(asked.check, found.files.len())
}

/// The results so far.
#[derive(Default)]
struct Done {
    changed: usize,
    /// Files with mistakes.
    bad: usize,
    /// The problems of files that cannot be read or written, which were shown already.
    failed: Vec<Problem>,
}

impl Done {
    fn fails(&mut self, problem: Problem) {
        problem.show();
        self.failed.push(problem);
    }

    /// Formats a file. An error means that standard output cannot be written.
    fn file(&mut self, file: &Path, text: &str, check: bool) -> Result<(), Problem> {
        let name = file.display();
        match styled(text, file) {
            Err(problem) => self.fails(problem),
            Ok(None) => self.bad += 1,
            Ok(Some(styled)) if styled == text => {}
            Ok(Some(_)) if check => {
                self.changed += 1;
                print(&format!("{name}\n"))?;
            }
            Ok(Some(styled)) => match replace(file, &styled) {
                Err(problem) => self.fails(problem),
                Ok(()) => {
                    self.changed += 1;
                    note(&format!("{name}: formatted"));
                }
            },
        }
        Ok(())
    }

    fn end(self, check: bool, files: usize) -> Result<u8, Problem> {
        let mut left = Vec::new();
        if self.bad > 0 {
            left.push(format!("{} with mistakes, left as they are", count(self.bad)));
        }
        if !self.failed.is_empty() {
            left.push(format!("{} that could not be formatted", count(self.failed.len())));
        }
        let worst = self.failed.iter().map(|problem| problem.code).max();
        match worst.or((self.bad > 0).then_some(INVALID)) {
            // The problem of the only file was shown already.
            Some(code) if files <= 1 && self.bad == 0 && self.failed.len() == 1 => Ok(code),
            Some(code) => Err(Problem::new(code, left.join("; "))),
            None if check && self.changed > 0 => {
                Err(Problem::new(FAILED, format!("not in the style: {}", count(self.changed)))
                    .hint("`durable fmt` writes them in it"))
            }
            None => {
                note(&format!("{} of {} changed", self.changed, count(files)));
                Ok(0)
            }
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

/// Returns a text in the one style, or `None` if the text has mistakes, which are then shown.
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

/// Replaces the content of a file, as a whole or not at all.
fn replace(file: &Path, text: &str) -> Result<(), Problem> {
    let failed = |error: std::io::Error| {
        let reason = crate::os::reason(&error);
        Problem::new(STORE, format!("{} can't be written: {reason}", file.display()))
    };
    // A link stays a link, and its target is replaced.
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
