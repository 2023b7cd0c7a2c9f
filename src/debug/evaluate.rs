//! Expressions that are evaluated at a moment of a run.
//!
//! An expression is the body of a function that is added to the module of the call in which it is
//! evaluated. The function has the call's variables as parameters, and runs in a machine of its own
//! as a pure computation. So an expression can change nothing and do nothing outside.

use crate::builtins::Context;
use crate::machine::inspect::{Held, detached};
use crate::machine::value::Value;
use crate::machine::{Identity, Machine, Progress};
use crate::syntax::lexer::lex;
use crate::syntax::token::Token;

use super::expressions::Key;
use super::session::Session;

/// The fuel of one evaluation, in calls and repetitions.
const FUEL: u64 = 5_000_000;

impl Session {
    /// Evaluates an expression with the variables of a call. The error says why it has no value.
    pub fn evaluate(&mut self, task: u64, call: usize, text: &str) -> Result<Value, String> {
        if text.trim().is_empty() {
            return Err("there is no expression".into());
        }
        let source = self.source_of(task, call);
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
        let (image, function) = self.expressions.compiled(&self.image.code.sources, key)?;
        let identity = Identity { id: self.record.id.clone(), ..Identity::default() };
        run(Machine::new(image, Context::Pure, function, values, identity))
    }

    /// Returns the source of a call.
    fn source_of(&self, task: u64, call: usize) -> u32 {
        let function = self.replay.machine.function_of(task, call);
        function.map_or(0, |function| self.image.code.functions[function as usize].place.source)
    }

    /// Returns the names that can be written at a call: its variables, and the functions, constants
    /// and modules of its file.
    pub fn names_at(&self, task: u64, call: usize) -> Vec<String> {
        let source = self.source_of(task, call);
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
