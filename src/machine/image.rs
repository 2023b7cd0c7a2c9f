//! Code that is ready to run on one thread, with constants as values and interned names.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::builtins::Context;
use crate::code::{Code, Constant, MethodTarget};

use super::error::{ErrorData, Fail};
use super::operate as op;
use super::value::{Closure, Keys, METHOD_MODULES, Name, Value, intern};
use super::{Identity, Machine, Progress, natives};

/// A program's code and the values of its constants.
#[derive(Debug)]
pub struct Image {
    pub code: Arc<Code>,
    pub constants: Vec<Value>,
    pub names: Vec<Name>,
    pub shapes: Vec<Rc<Keys>>,
    /// For each name, its last known place in a record.
    pub guesses: Vec<Cell<u32>>,
    /// For each name, the target of a method call with that name, by the receiver's kind.
    methods: Vec<[Option<MethodTarget>; METHOD_MODULES.len()]>,
    /// The values of `const`s.
    pub globals: RefCell<Vec<Value>>,
}

/// The fuel for one `const`, in calls and repetitions.
const CONST_FUEL: u64 = 50_000_000;

impl Image {
    /// Makes an image and evaluates the program's `const`s. An error is that of a `const`, whose
    /// name comes with it.
    #[expect(clippy::result_large_err, reason = "made once for a program")]
    pub fn new(code: Arc<Code>) -> Result<Rc<Image>, (String, ErrorData)> {
        let names: Vec<Name> = code.names.iter().map(|name| intern(name)).collect();
        let constants = code.constants.iter().map(|constant| match constant {
            Constant::Null => Value::Null,
            Constant::Bool(b) => Value::bool(*b),
            Constant::Int(n) => Value::Int(*n),
            Constant::Float(x) => Value::float(*x),
            Constant::Duration(d) => Value::Duration(*d),
            Constant::Str(s) => Value::str(s.as_str()),
            Constant::Function(id) => Value::Function(Rc::new(Closure { function: *id, env: Value::Null })),
            Constant::Builtin(id) => Value::Builtin(u64::from(*id)),
        });
        let constants = constants.collect();
        let shape = |shape: &Vec<u16>| {
            Rc::new(Keys::new(shape.iter().map(|at| names[*at as usize].clone()).collect()))
        };
        let shapes = code.shapes.iter().map(shape).collect();
        // The table is built now, and not by the first instruction that needs one of its natives.
        natives::table();
        let globals = RefCell::new(vec![Value::Missing; code.consts.len()]);
        let guesses = vec![Cell::new(0); names.len()];
        let mut methods = vec![[None; METHOD_MODULES.len()]; names.len()];
        for ((name, module), target) in &code.methods {
            if let Some(column) = METHOD_MODULES.iter().position(|known| known == module) {
                methods[*name as usize][column] = Some(*target);
            }
        }
        let image =
            Rc::new(Image { code: code.clone(), constants, names, shapes, guesses, methods, globals });
        // A const can use others. One that fails because another has no value yet is tried again
        // later.
        let mut waiting: Vec<usize> = (0..code.consts.len()).collect();
        while !waiting.is_empty() {
            let mut later = Vec::new();
            let before = waiting.len();
            let mut failure = None;
            for index in waiting {
                let (name, function) = &code.consts[index];
                match evaluate(&image, *function) {
                    Ok(value) => {
                        image.globals.borrow_mut()[index] = value;
                    }
                    Err(error) if error.kind().as_deref() == Some("uninitialised") => {
                        failure = Some((name.clone(), error));
                        later.push(index);
                    }
                    Err(error) => return Err((name.clone(), error)),
                }
            }
            if later.len() == before
                && let Some((name, error)) = failure
            {
                let error = ErrorData {
                    trace: error.trace,
                    ..ErrorData::new("uninitialised", format!("`const {name}` needs its own value"))
                };
                return Err((name, error));
            }
            waiting = later;
        }
        Ok(image)
    }

    /// Returns the target of a method call on a value that has no function of its own under the
    /// name.
    #[inline(always)]
    pub fn method_of(&self, value: &Value, name: u16) -> Option<MethodTarget> {
        self.methods[name as usize][value.methods()?]
    }

    /// Returns the error of a method that a value doesn't have.
    #[cold]
    pub fn no_method(&self, value: &Value, name: u16) -> Fail {
        let text = &self.names[name as usize];
        let Some(module) = value.methods().map(|column| METHOD_MODULES[column]) else {
            return op::no_method(value, text, std::iter::empty());
        };
        if let Value::Record(record) = value
            && let Some(field) = record.get(text)
        {
            return op::not_a_function(field);
        }
        let known = crate::check::std_sources().iter().find(|(name, _)| *name == module);
        let names = known.map(|(_, text)| *text).unwrap_or("").lines().filter_map(|line| {
            line.strip_prefix("fn ").and_then(|rest| rest.split('(').next()).map(str::to_string)
        });
        op::no_method(value, text, names)
    }
}

fn evaluate(image: &Rc<Image>, function: u32) -> Result<Value, ErrorData> {
    let mut machine = Machine::new(image.clone(), Context::Pure, function, Vec::new(), Identity::default());
    machine.keep_value();
    match machine.run(CONST_FUEL) {
        Progress::Done(Ok(_)) => Ok(machine.take_value()),
        Progress::Done(Err(error)) => Err(error),
        _ => Err(ErrorData::new("limit", "a `const` takes too long to compute")),
    }
}
