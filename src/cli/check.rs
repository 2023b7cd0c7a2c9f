//! `durable check`.

use crate::code;
use crate::core;

use super::arguments::{Check, Dump};
use super::problem::Problem;
use super::{INVALID, STORE, print, program};

/// Reports what is wrong with programs, and prints what they become.
pub fn check(check: Check) -> Result<u8, Problem> {
    let mut bad = Vec::new();
    let mut unread = 0;
    for file in &check.files {
        let program = match program::read(file) {
            Ok(program) => program,
            Err(problem) => {
                problem.show();
                unread += 1;
                continue;
            }
        };
        let checked = program::report(&program, file).and_then(|()| match check.dump {
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
        // The one file that was asked for was told of.
        _ if unread > 0 && check.files.len() == 1 => Ok(STORE),
        _ if unread > 0 => {
            let files = if unread == 1 { "1 file".to_string() } else { format!("{unread} files") };
            Err(Problem::new(STORE, format!("{files} could not be read; {} with mistakes", bad.len())))
        }
        [] => Ok(0),
        [one] => Err(Problem::new(INVALID, format!("{one} has mistakes"))),
        many => Err(Problem::new(INVALID, format!("{} have mistakes", many.join(", ")))),
    }
}
