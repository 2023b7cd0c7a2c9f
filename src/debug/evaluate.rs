//! Expressions that are evaluated at a moment of a run.
//!
//! An expression is the body of a function that is added to the module of the call in which it is
//! evaluated. The function has the call's variables as parameters, and runs in a machine of its own
//! as a pure computation. So an expression can change nothing and do nothing outside.

use std::collections::HashMap;
use std::rc::Rc;

use crate::builtins::Context;
use crate::check::{self, Program};
use crate::machine::inspect::{Held, detached};
use crate::machine::value::Value;
use crate::machine::{Identity, Image, Machine, Progress};
use crate::syntax::lexer::lex;
use crate::syntax::token::Token;
use crate::syntax::{Severity, Sources};

use super::program;
use super::session::Session;

/// The fuel of one evaluation, in calls and repetitions.
const FUEL: u64 = 5_000_000;

/// The most expressions that are kept compiled.
const MOST_KEPT: usize = 64;

/// The name of the function of an expression.
const FUNCTION: &str = "debugged_expression";

/// An expression, its module and the variables that it names.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    source: u32,
    text: String,
    names: Vec<String>,
}

/// The compiled expressions of a session. The inner error says what is wrong with an expression.
#[derive(Default)]
pub(super) struct Expressions(HashMap<Key, Result<(Rc<Image>, u32), String>>);

impl Session {
    /// Evaluates an expression with the variables of a call. The error says why it has no value.
    pub fn evaluate(&mut self, task: u64, call: usize, text: &str) -> Result<Value, String> {
        if text.trim().is_empty() {
            return Err("there is no expression".into());
        }
        let calls = self.replay.machine.calls(task);
        let source =
            calls.get(call).map_or(0, |call| self.image.code.functions[call.function as usize].place.source);
        let mentioned = names(text);
        let (mut known, mut values) = (Vec::new(), Vec::new());
        for variable in self.variables(task, call) {
            if !mentioned.contains(&variable.name) {
                continue;
            }
            match variable.value {
                Held::Value(value) => {
                    known.push(variable.name);
                    values.push(detached(&value).unwrap_or(Value::Null));
                }
                Held::NotYet => return Err(format!("`{}` has no value yet", variable.name)),
                Held::HandedOn => {
                    return Err(format!("the value of `{}` was handed to the running call", variable.name));
                }
            }
        }
        let key = Key { source, text: text.to_string(), names: known };
        if self.expressions.0.len() >= MOST_KEPT && !self.expressions.0.contains_key(&key) {
            self.expressions.0.clear();
        }
        let sources = &self.image.code.sources;
        let compiled = self.expressions.0.entry(key).or_insert_with_key(|key| compile(sources, key));
        let (image, function) = compiled.clone()?;
        let identity = Identity { id: self.record.id.clone(), ..Identity::default() };
        run(Machine::new(image, Context::Pure, function, values, identity))
    }

    /// Returns the names that can be written at a call: its variables, and the functions, constants
    /// and modules of its file.
    pub fn names_at(&self, task: u64, call: usize) -> Vec<String> {
        let calls = self.replay.machine.calls(task);
        let source =
            calls.get(call).map_or(0, |call| self.image.code.functions[call.function as usize].place.source);
        let mut names: Vec<String> =
            self.variables(task, call).into_iter().map(|variable| variable.name).collect();
        let module = self.program.modules.iter().find(|module| module.source == source);
        if let Some(module) = module {
            let declared = module
                .globals
                .iter()
                .filter(|(_, global)| !self.program.globals[**global].kind.has_no_name());
            names.extend(declared.map(|(name, _)| name.to_string()));
            names.extend(module.imports.keys().map(|name| name.to_string()));
        }
        names.sort();
        names.dedup();
        names
    }
}

/// Runs the function of an expression to its value.
fn run(mut machine: Machine) -> Result<Value, String> {
    machine.keep_value();
    match machine.run(FUEL) {
        Progress::Done(Ok(_)) => Ok(machine.take_value()),
        Progress::Done(Err(error)) => Err(error.title()),
        Progress::OutOfFuel => Err("it computes for too long".into()),
        Progress::Waiting => Err("it waits for something, and a debugger does nothing outside".into()),
    }
}

/// Returns the names in an expression.
fn names(text: &str) -> Vec<String> {
    let tokens = lex(text, 0).tokens.into_iter();
    let names = tokens.filter_map(|(_, token, _)| match token {
        Token::Id(name) => Some(name.to_string()),
        _ => None,
    });
    names.collect()
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
