//! Expressions as programs: each is a function that is added to a module.

use std::collections::HashMap;
use std::rc::Rc;

use crate::check::{self, Program};
use crate::machine::Image;
use crate::syntax::{Severity, Sources};

use super::program;

/// The most expressions that are kept compiled.
const MOST_KEPT: usize = 64;
/// The name of the function of an expression.
const FUNCTION: &str = "debugged_expression";

/// An expression, its module and the variables that it names.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub source: u32,
    pub text: String,
    pub names: Vec<String>,
}

/// The compiled expressions of a session. The inner error says what is wrong with an expression.
#[derive(Default)]
pub(super) struct Expressions(HashMap<Key, Result<(Rc<Image>, u32), String>>);

impl Expressions {
    /// Returns an expression, compiled. The error says what is wrong with it.
    pub fn compiled(&mut self, sources: &Sources, key: Key) -> Result<(Rc<Image>, u32), String> {
        if self.0.len() >= MOST_KEPT && !self.0.contains_key(&key) {
            self.0.clear();
        }
        self.0.entry(key).or_insert_with_key(|key| compile(sources, key)).clone()
    }
}

/// Compiles an expression. The error says what is wrong with it.
fn compile(sources: &Sources, key: &Key) -> Result<(Rc<Image>, u32), String> {
    let texts: Vec<(String, String)> = sources
        .files
        .iter()
        .enumerate()
        .map(|(at, file)| {
            let mut text = file.text.clone();
            if at == key.source as usize {
                text.push_str(&format!("\nfn {FUNCTION}({}) {{\n{}\n}}\n", key.names.join(", "), key.text));
            }
            (file.name.clone(), text)
        })
        .collect();
    let program = check::load_stored(&texts).ok_or("the program has no modules")?;
    if let Some(mistake) = mistake(&program) {
        return Err(mistake);
    }
    let global = program
        .globals
        .iter()
        .position(|global| &*global.name == FUNCTION && program.modules[global.module].source == key.source);
    let global = global.filter(|at| program.globals[*at].script_bound.is_none());
    let Some(global) = global else {
        return Err("it names a variable or a function that can't be seen here".into());
    };
    let image = program::image_with(&program, Some(global))?;
    let function = image.code.functions.iter().position(|function| function.name == FUNCTION);
    function.map(|at| (image.clone(), at as u32)).ok_or_else(|| "it can't be compiled".to_string())
}

/// Returns the first mistake of a program.
fn mistake(program: &Program) -> Option<String> {
    let errors = program.diagnostics.iter().filter(|found| found.severity == Severity::Error);
    errors.map(|error| error.title.clone()).next()
}
