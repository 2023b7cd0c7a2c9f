//! Programs as debug code.

use std::rc::Rc;
use std::sync::Arc;

use crate::check::{GlobalId, Program};
use crate::code::compile_for_debugging;
use crate::core::lower_for_debugging;
use crate::machine::Image;
use crate::syntax::Severity;

/// Compiles a program as debug code. The error says why that is not possible.
pub(super) fn image(program: &Program) -> Result<Rc<Image>, String> {
    image_with(program, None)
}

/// Compiles a program as debug code, with a function that comes after all others.
pub(super) fn image_with(program: &Program, last: Option<GlobalId>) -> Result<Rc<Image>, String> {
    if let Some(error) = program.diagnostics.iter().find(|found| found.severity == Severity::Error) {
        return Err(format!("this version finds a mistake in the program: {}", error.title));
    }
    let code = compile_for_debugging(&lower_for_debugging(program), program, last)
        .map_err(|error| format!("the program can't be compiled: {}", error.title))?;
    Image::new(Arc::new(code))
        .map_err(|(name, error)| format!("`const {name}` has no value: {}", error.title()))
}
