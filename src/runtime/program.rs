//! Programs that are ready to be started.

use std::path::Path;
use std::sync::Arc;

use crate::check;
use crate::code::{Code, ProgramHash, compile};
use crate::core::lower;
use crate::engine::{SCRIPT, startable};
use crate::host::externs::Externs;
use crate::machine::Image;
use crate::os::read_text;
use crate::render::Shown;
use crate::syntax::Severity;

use super::Error;

/// A program without mistakes, all of whose `extern activity`s are provided. A clone is the same
/// program.
#[derive(Clone)]
pub struct Program {
    file: String,
    code: Arc<Code>,
}

impl Program {
    pub(super) fn load(file: &Path, externs: &Externs) -> Result<Program, Error> {
        let text = read_text(file)
            .map_err(|reason| Error::Invalid(format!("{} can't be read: {reason}", file.display())))?;
        Program::of(&check::load_beside(file, text), file, externs)
    }

    pub(super) fn compile(name: &str, text: &str, externs: &Externs) -> Result<Program, Error> {
        let alone = |_: &str| Err("a program that is given as text imports no files".to_string());
        Program::of(&check::load(name, text.to_string(), &alone), Path::new(name), externs)
    }

    fn of(checked: &check::Program, file: &Path, externs: &Externs) -> Result<Program, Error> {
        let shown = Shown { colours: false, ..Shown::new(&checked.sources, file) };
        let mistakes: Vec<String> = checked
            .diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.severity == Severity::Error)
            .map(|diagnostic| shown.diagnostic(diagnostic))
            .collect();
        if !mistakes.is_empty() {
            return Err(Error::Invalid(mistakes.concat()));
        }
        for (name, place) in checked.externs() {
            if externs.find(name).is_none() {
                let place = shown.locate(place);
                let reason = format!(
                    "`{name}`, an `extern activity` at {place}, is not provided: add `.activity(\"{name}\", …)` to the builder"
                );
                return Err(Error::Invalid(reason));
            }
        }
        let compiled = compile(&lower(checked), checked);
        let code = Arc::new(compiled.map_err(|mistake| Error::Invalid(shown.diagnostic(&mistake)))?);
        // The constants must have values, too.
        Image::new(code.clone()).map_err(|(name, error)| {
            Error::Invalid(format!("`const {name}` has no value\n{}", shown.error(&error)))
        })?;
        Ok(Program { file: file.display().to_string(), code })
    }

    /// Checks that an orchestration can be started with that many arguments.
    pub(super) fn accepts(&self, orchestration: &str, given: usize) -> Result<(), Error> {
        if orchestration == SCRIPT {
            return Ok(());
        }
        startable(&self.code, &self.file, orchestration, given).map_err(|(reason, hint)| {
            Error::Invalid(hint.map_or(reason.clone(), |hint| format!("{reason}; {hint}")))
        })
    }

    /// Returns the path of the file that the program was read from, as the caller gave it.
    pub fn file(&self) -> &str {
        &self.file
    }

    pub(super) fn hash(&self) -> ProgramHash {
        self.code.hash
    }

    /// Returns the texts of the program's modules, including the standard library that it was
    /// compiled with.
    pub(super) fn modules(&self) -> Vec<(String, String)> {
        self.code.sources.texts()
    }
}
