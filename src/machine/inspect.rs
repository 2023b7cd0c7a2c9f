//! Views of a machine for the debugger: tasks, calls and variables, as plain values.

use std::collections::BTreeMap;

use crate::code::debug::Scope;
use crate::code::{FunctionId, Op, Reg};

use super::compare::holds_function;
use super::snapshot::copied;
use super::value::{List, Value};
use super::{Machine, Wait};

/// A running call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CallView {
    pub function: FunctionId,
    /// The instruction that is being executed: a call in all but the innermost one.
    pub pc: u32,
}

/// The thing that a task waits for.
#[derive(Clone, Debug, PartialEq)]
pub enum Waiting {
    Nothing,
    /// The answer to the request of this number.
    Request(u64),
    /// These tasks.
    Tasks(Vec<u64>),
}

/// A variable that a call sees.
#[derive(Clone, Debug)]
pub struct Variable {
    pub name: String,
    pub value: Held,
    /// Whether the variable belongs to an enclosing function.
    pub is_captured: bool,
    /// Whether the variable is a local function.
    pub is_function: bool,
    /// The address of the cell that functions share, if the variable is in one. It names the cell
    /// as long as the machine exists.
    pub cell: Option<usize>,
    /// The register of the call that holds the variable; `None` for one of an enclosing function.
    pub register: Option<Reg>,
}

/// The value of a variable, if there is one.
#[derive(Clone, Debug)]
pub enum Held {
    Value(Value),
    /// The variable has no value yet.
    NotYet,
    /// The value was handed to a running call, whose result replaces it.
    HandedOn,
}

impl Held {
    pub fn value(&self) -> Option<&Value> {
        match self {
            Held::Value(value) => Some(value),
            Held::NotYet | Held::HandedOn => None,
        }
    }
}

impl Machine {
    /// Returns the numbers of the running tasks. 0 is the main one.
    pub fn tasks(&self) -> Vec<u64> {
        self.fibers.keys().copied().collect()
    }

    /// Returns the calls of a task, outermost first.
    pub fn calls(&self, task: u64) -> Vec<CallView> {
        let fiber = self.fibers.get(&task);
        let frames = fiber.into_iter().flat_map(|fiber| &fiber.frames);
        frames.map(|frame| CallView { function: frame.function, pc: frame.pc.saturating_sub(1) }).collect()
    }

    /// Returns the function of a call of a task.
    pub fn function_of(&self, task: u64, call: usize) -> Option<FunctionId> {
        Some(self.fibers.get(&task)?.frames.get(call)?.function)
    }

    /// Returns the number of calls of a task.
    pub fn count_calls(&self, task: u64) -> usize {
        self.fibers.get(&task).map_or(0, |fiber| fiber.frames.len())
    }

    /// Returns what a task waits for.
    pub fn waits_for(&self, task: u64) -> Waiting {
        match self.fibers.get(&task).map(|fiber| &fiber.wait) {
            Some(Wait::Answer { seq } | Wait::Shielded { seq }) => Waiting::Request(*seq),
            Some(Wait::Tasks(join)) => {
                let running = join.tasks.iter().filter(|task| !task.is_settled());
                Waiting::Tasks(running.map(|task| task.id).collect())
            }
            Some(Wait::Nothing) | None => Waiting::Nothing,
        }
    }

    /// Returns the task that waits for the answer to a request.
    pub fn asker(&self, seq: u64) -> Option<u64> {
        self.waiting.get(&seq).copied()
    }

    /// Returns the variable of a name that a call of a task sees.
    pub fn variable(&self, task: u64, call: usize, name: &str) -> Option<Variable> {
        self.variables_named(task, call, Some(name)).pop()
    }

    /// Returns the variables that a call of a task sees, by the tables of debug code. Of two with a
    /// name, only the inner one can be seen.
    pub fn variables(&self, task: u64, call: usize) -> Vec<Variable> {
        self.variables_named(task, call, None)
    }

    /// Returns these variables, or only the one of a name.
    fn variables_named(&self, task: u64, call: usize, only: Option<&str>) -> Vec<Variable> {
        let is_wanted = |name: &str| only.is_none_or(|only| only == name);
        let (Some(tables), Some(fiber)) = (&self.image.code.debug, self.fibers.get(&task)) else {
            return Vec::new();
        };
        let Some(frame) = fiber.frames.get(call) else { return Vec::new() };
        let pc = frame.pc.saturating_sub(1);
        let function = &self.image.code.functions[frame.function as usize];
        let register = |at: usize| fiber.stack.get(frame.base as usize + at);
        let is_innermost = call + 1 == fiber.frames.len();
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let mut found: Vec<Variable> = Vec::new();
        let scopes = tables.scopes_at(frame.function, pc).filter(|scope| scope.is_own);
        for scope in scopes.filter(|scope| is_wanted(&scope.name)) {
            let Some(value) = register(scope.register as usize) else { continue };
            let is_gone = !is_innermost
                && matches!(value, Value::Null)
                && is_handed_on(&function.ops, pc as usize, scope.register);
            let (value, cell) = match is_gone {
                true => (Held::HandedOn, None),
                false => held(value, scope.is_cell),
            };
            let variable = Variable {
                name: scope.name.clone(),
                value,
                is_captured: false,
                is_function: scope.is_function,
                cell,
                register: Some(scope.register),
            };
            match seen.insert(&scope.name, found.len()) {
                Some(outer) => {
                    found[outer] = variable;
                    seen.insert(&scope.name, outer);
                }
                None => found.push(variable),
            }
        }
        if function.has_env
            && let Some(Value::Env(env)) = register(function.params as usize)
            && let Some(variables) = tables.variables.get(frame.function as usize)
        {
            for (captured, value) in variables.captured.iter().zip(&env.values) {
                let is_seen = seen.contains_key(captured.name.as_str());
                if captured.is_own && !is_seen && is_wanted(&captured.name) {
                    let (value, cell) = held(value, captured.is_cell);
                    let is_function = matches!(value, Held::Value(Value::Function(_)));
                    let name = captured.name.clone();
                    found.push(Variable {
                        name,
                        value,
                        is_captured: true,
                        is_function,
                        cell,
                        register: None,
                    });
                }
            }
        }
        found
    }
}

impl Machine {
    /// Returns the loops that a call of a task is in, outermost first: the name of each loop's
    /// variable, if the program names one, and what the loop has yet to go through.
    pub fn loops(&self, task: u64, call: usize) -> Vec<(Option<String>, Value)> {
        let (Some(tables), Some(fiber)) = (&self.image.code.debug, self.fibers.get(&task)) else {
            return Vec::new();
        };
        let Some(frame) = fiber.frames.get(call) else { return Vec::new() };
        let scopes = tables.scopes_at(frame.function, frame.pc.saturating_sub(1));
        let left = |scope: &Scope| {
            let base = frame.base as usize + usize::from(scope.looped?);
            let left = match (fiber.stack.get(base)?, fiber.stack.get(base + 1)?) {
                (Value::List(list), Value::Int(at)) => {
                    let from = usize::try_from(*at).ok()?.min(list.len());
                    Value::List(List::slice(list, from, list.len()))
                }
                (Value::Int(next), Value::Int(last)) => {
                    Value::List(List::new(vec![Value::Int(*next), Value::Int(*last)]))
                }
                _ => return None,
            };
            Some((scope.is_own.then(|| scope.name.clone()), left))
        };
        scopes.filter_map(left).collect()
    }
}

/// Returns a value that shares nothing with the machine that can change. So a function that is
/// called with it changes only copies.
pub fn detached(value: &Value) -> Option<Value> {
    match holds_function(value) {
        true => copied(value),
        false => Some(value.clone()),
    }
}

/// Returns the value of a variable, and the address of its cell.
fn held(value: &Value, is_cell: bool) -> (Held, Option<usize>) {
    let of = |value: &Value| match value {
        Value::Missing => Held::NotYet,
        value => Held::Value(value.clone()),
    };
    match value {
        Value::Cell(cell) if is_cell => (of(&cell.value.borrow()), Some(std::rc::Rc::as_ptr(cell).addr())),
        value => (of(value), None),
    }
}

/// Whether the statement that contains an instruction moved a register's value out before.
fn is_handed_on(ops: &[Op], pc: usize, register: u16) -> bool {
    let before = ops[..pc.min(ops.len())].iter().rev();
    let mut of_statement = before.take_while(|op| !matches!(op, Op::Mark { .. }));
    of_statement.any(|op| match op {
        Op::Take { from, .. } => *from == register,
        Op::Null { to } => *to == register,
        _ => false,
    })
}
