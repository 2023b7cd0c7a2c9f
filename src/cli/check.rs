//! `durable check`.

use std::path::Path;

use crate::check::Program;
use crate::code;
use crate::core;
use crate::render::Shown;

use super::arguments::{Check, Dump};
use super::problem::Problem;
use super::table::table;
use super::{INVALID, STORE, asks, print, program, sources};

/// Reports the mistakes in programs, and prints a compiled form or the permissions on request.
pub fn check(check: Check) -> Result<u8, Problem> {
    let mut bad = Vec::new();
    let found = sources::find(&check.files)?;
    found.problems.iter().for_each(Problem::show);
    let mut unread = found.problems.len();
    for file in &found.files {
        let program = match program::read(file) {
            Ok(program) => program,
            Err(problem) => {
                problem.show();
                unread += 1;
                continue;
            }
        };
        let checked = program::report(&program, file).and_then(|()| match check.dump {
            None if check.permissions => Ok(Some(permissions(&program, file))),
            Some(Dump::Core) => Ok(Some(core::print(&core::lower(&program), &program, false))),
            Some(Dump::Code) => Ok(Some(code::print(&*program::code(&program, file)?, false))),
            None => program::image(program::code(&program, file)?, file).map(|_| None),
        });
        match checked {
            Ok(Some(dump)) => print(&dump)?,
            Ok(None) => {}
            Err(_) => bad.push(file.display().to_string()),
        }
    }
    match &bad[..] {
        // The problem of the only file was shown already.
        _ if unread > 0 && found.files.len() + found.problems.len() == 1 => Ok(STORE),
        _ if unread > 0 => {
            let files = if unread == 1 { "1 file".to_string() } else { format!("{unread} files") };
            Err(Problem::new(STORE, format!("{files} could not be read; {} with mistakes", bad.len())))
        }
        [] => Ok(0),
        [one] => Err(Problem::new(INVALID, format!("{one} has mistakes"))),
        many => Err(Problem::new(INVALID, format!("{} have mistakes", many.join(", ")))),
    }
}

/// Lists the permissions that a program needs, with the first place for each, and the command that
/// grants them.
fn permissions(program: &Program, file: &Path) -> String {
    let asked = asks::asked(program, &core::lower(program));
    let externs: Vec<&str> = program.externs().map(|(name, _)| name).collect();
    let shown = Shown::new(&program.sources, file);
    let mut rows = Vec::new();
    let mut all: Vec<String> = Vec::new();
    for ((capability, what), places) in &asked {
        let is_open = asked.contains_key(&(*capability, None));
        let permission = match what {
            Some(what) => format!("{}={what}", capability.name()),
            None => capability.name().to_string(),
        };
        let first = places.first().map(|place| shown.locate(*place)).unwrap_or_default();
        let more = match places.len() {
            0 | 1 => String::new(),
            several => format!(" and {} more", several - 1),
        };
        let note = if what.is_none() { "; which is known only when it runs" } else { "" };
        if what.is_none() || !is_open {
            all.push(permission.clone());
        }
        rows.push(vec![permission, format!("{first}{more}{note}")]);
    }
    let mut out = match rows.is_empty() {
        true => format!("{} asks for nothing outside\n", file.display()),
        false => table(&["PERMISSION", "WHERE"], &rows),
    };
    if !all.is_empty() {
        out.push_str(&format!("\ndurable run {} --allow {}\n", file.display(), all.join(",")));
    }
    if !externs.is_empty() {
        out.push_str(&format!(
            "\nextern activities do what the process around does: {}\n",
            externs.join(", ")
        ));
    }
    out
}
