//! `durable check`.

use crate::code;
use crate::core;

use super::arguments::{Check, Dump};
use super::problem::Problem;
use super::{INVALID, print, program};

/// Reports what is wrong with programs, and prints what they become.
pub fn check(check: Check) -> Result<u8, Problem> {
    let mut bad = Vec::new();
    for file in &check.files {
        let program = program::read(file)?;
        if program::report(&program, file).is_err() {
            bad.push(file.display().to_string());
            continue;
        }
        match check.dump {
            Some(Dump::Core) => print(&core::print(&core::lower(&program), &program, false))?,
            Some(Dump::Code) => print(&code::print(&*program::code(&program, file)?, false))?,
            None => {
                let code = program::code(&program, file)?;
                program::image(code, file)?;
            }
        }
    }
    match &bad[..] {
        [] => Ok(0),
        [one] => Err(Problem::new(INVALID, format!("{one} has mistakes"))),
        many => Err(Problem::new(INVALID, format!("{} have mistakes", many.join(", ")))),
    }
}
