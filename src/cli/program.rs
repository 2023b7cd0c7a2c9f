//! The way from a file, or from the store, to a program that can run.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crate::api::Queries;
use crate::check::{self, Program};
use crate::code::{Code, ProgramHash, compile};
use crate::core::lower;
use crate::engine::load_modules;
use crate::machine::Image;
use crate::os::read_text;
use crate::permissions::Permissions;
use crate::render::{Shown, show};
use crate::syntax::Severity;

use super::problem::Problem;
use super::{INVALID, STORE};

/// Reads and checks the program in a file.
pub fn read(file: &Path) -> Result<Program, Problem> {
    read_as(file, |text| text)
}

/// Reads a program like [`read`], with the imports that the program itself may read.
pub fn read_restricted(file: &Path, permissions: &Permissions) -> Result<Program, Problem> {
    let may = |path: &Path| permissions.check_import(path, file.parent().unwrap_or(Path::new("")));
    Ok(check::load_permitted(file, text(file)?, &may))
}

/// Reads a program like [`read`], from a text that a function makes of the file's text.
pub fn read_as(file: &Path, made: impl FnOnce(String) -> String) -> Result<Program, Problem> {
    Ok(check::load_beside(file, made(text(file)?)))
}

fn text(file: &Path) -> Result<String, Problem> {
    read_text(file)
        .map_err(|reason| Problem::new(STORE, format!("{} can't be read: {reason}", file.display())))
}

/// Shows the diagnostics of a program. Returns an error if the program cannot run.
pub fn report(program: &Program, file: &Path) -> Result<(), Problem> {
    const MOST: usize = 50;
    let shown = Shown::new(&program.sources, file);
    let errors = program.diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
    // Warnings often follow from mistakes, so they are not shown beside mistakes.
    let said: Vec<_> =
        program.diagnostics.iter().filter(|d| errors == 0 || d.severity == Severity::Error).collect();
    for diagnostic in said.iter().take(MOST) {
        show(&shown.diagnostic(diagnostic));
    }
    if said.len() > MOST {
        show(&format!("… and {} more\n", said.len() - MOST));
    }
    match errors {
        0 => Ok(()),
        1 => Err(Problem::new(INVALID, format!("{} has a mistake; nothing was run", file.display()))),
        n => Err(Problem::new(INVALID, format!("{} has {n} mistakes; nothing was run", file.display()))),
    }
}

/// Compiles a checked program.
pub fn code(program: &Program, file: &Path) -> Result<Arc<Code>, Problem> {
    compile(&lower(program), program).map(Arc::new).map_err(|diagnostic| {
        show(&Shown::new(&program.sources, file).diagnostic(&diagnostic));
        Problem::new(INVALID, format!("{} can't be compiled; nothing was run", file.display()))
    })
}

/// Makes a program ready to run, which evaluates its `const`s.
pub fn image(code: Arc<Code>, file: &Path) -> Result<Rc<Image>, Problem> {
    Image::new(code.clone()).map_err(|(name, error)| {
        show(&Shown::new(&code.sources, file).error(&error));
        Problem::new(INVALID, format!("`const {name}` of {} has no value; nothing was run", file.display()))
    })
}

/// Returns the program of an instance, from the store.
pub fn stored(store: &dyn Queries, hash: ProgramHash, id: &str, file: &str) -> Result<Rc<Image>, Problem> {
    let modules = store.modules(hash).map_err(|error| error.to_string());
    let program = modules.and_then(|modules| load_modules(hash, &modules)).map_err(|reason| {
        Problem::new(STORE, format!("{id} can't go on: {reason}"))
            .hint("check the store with `durable store verify`")
    })?;
    let file = Path::new(file);
    if !program.is_sound() {
        report(&program, file)?;
    }
    image(code(&program, file)?, file)
}
