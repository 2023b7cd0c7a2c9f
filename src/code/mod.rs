//! Register code: what the machine executes.
//!
//! Invariant: code is plain, immutable data that threads share. Every register that an instruction names lies in
//! its function's window, every jump within its function, every index within its table: the compiler made it so,
//! and code is never read from a store, only compiled from sources.

mod compile;
mod hash;
mod op;
mod print;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::builtins::Context;
use crate::syntax::tree::PropertyKind;
use crate::syntax::{Place, Sources, Span};

pub use compile::{Read, Registers, compile, followers, jumped, written};
pub use hash::{ProgramHash, modules_hash, program_hash, text_hash};
pub use op::{Comparison, Op, Role};
pub use print::print;

/// A register, relative to its function's window.
pub type Reg = u16;
/// Index of a function in [`Code::functions`].
pub type FunctionId = u32;

/// A function's code.
#[derive(Debug)]
pub struct Function {
    pub name: String,
    pub required: u8,
    pub params: u8,
    /// Parameters at the end that only the compiler fills: a stub's options.
    pub hidden: u8,
    /// Size of the window.
    pub registers: u16,
    /// Whether the register after the parameters holds an environment.
    pub has_env: bool,
    pub ops: Vec<Op>,
    /// The source of each instruction.
    pub spans: Vec<Span>,
    pub place: Place,
}

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Duration(i64),
    Str(String),
    /// A function without an environment.
    Function(FunctionId),
    Builtin(u16),
}

/// A step of an assigned path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathStep {
    Field(u16),
    /// The next register from `base` on.
    Index,
}

impl PathStep {
    /// How many steps of a path are indexes.
    pub fn indexes(path: &[PathStep]) -> usize {
        path.iter().filter(|step| matches!(step, PathStep::Index)).count()
    }
}

/// What a method of a value of the standard library calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MethodTarget {
    Function(FunctionId),
    Builtin(u16),
}

/// An activity, orchestration or entity.
#[derive(Clone, Debug)]
pub struct Isolated {
    pub name: String,
    /// None for an entity.
    pub context: Option<Context>,
    pub body: FunctionId,
    pub stub: FunctionId,
    pub entity: Option<Entity>,
}

/// What an entity is made of.
#[derive(Clone, Debug, Default)]
pub struct Entity {
    /// The `const` that is its initial state; null when there is none.
    pub initial: Option<usize>,
    pub operations: Vec<Operation>,
}

/// An operation of an entity. The function's last parameter is the cell of the state.
#[derive(Clone, Debug)]
pub struct Operation {
    pub name: String,
    pub function: FunctionId,
    pub required: usize,
    pub params: usize,
}

/// What can come of something that is mocked.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The value or the error of a function of the arguments.
    Function(FunctionId),
    /// What an operation of an entity gives and does; the function gives the entity.
    Operation(FunctionId, String),
    Never,
}

/// An activity or an effect that is mocked.
#[derive(Clone, Debug)]
pub struct Mock {
    /// The activity's name, or the effect's in the table of builtins.
    pub target: String,
    pub is_activity: bool,
    /// Whether the outcomes come one after the other, the last one again and again; else any of them may come.
    pub in_turn: bool,
    pub outcomes: Vec<Outcome>,
    /// The time within which an answer comes, in nanoseconds.
    pub within: Option<i64>,
    pub place: Place,
}

/// What has to hold; the function has no parameters and gives a bool.
#[derive(Clone, Debug)]
pub struct Property {
    pub kind: PropertyKind,
    pub name: String,
    pub function: FunctionId,
    pub place: Place,
}

/// How a program is tried out.
#[derive(Clone, Debug, Default)]
pub struct Trials {
    pub mocks: Vec<Mock>,
    pub properties: Vec<Property>,
}

/// A test: what it runs, and what holds for it alone.
#[derive(Clone, Debug)]
pub struct Test {
    pub name: String,
    pub function: FunctionId,
    pub trials: Trials,
}

/// A compiled program.
#[derive(Debug)]
pub struct Code {
    pub functions: Vec<Function>,
    pub constants: Vec<Constant>,
    pub names: Vec<Arc<str>>,
    pub shapes: Vec<Vec<u16>>,
    pub paths: Vec<Vec<PathStep>>,
    pub slices: Vec<(u32, u32)>,
    /// The functions that give the values of `const`s, with their names.
    pub consts: Vec<(String, FunctionId)>,
    pub isolated: Vec<Isolated>,
    /// For each name, by the kind's module.
    pub methods: HashMap<(u16, &'static str), MethodTarget>,
    pub script: FunctionId,
    pub tests: Vec<Test>,
    /// What holds for the script and for all tests.
    pub trials: Trials,
    pub sources: Sources,
    pub hash: ProgramHash,
    /// Whether cancelling a task cancels what it began: not in programs that began with the library of a version where it
    /// did not, so that their histories are replayed as they were made.
    pub structured: bool,
    /// What tells whether a machine's state is of this code; computed when first asked for.
    pub fingerprint: OnceLock<u64>,
}

impl Code {
    /// The isolated declaration of that name.
    pub fn find_isolated(&self, name: &str) -> Option<usize> {
        self.isolated.iter().position(|item| item.name == name)
    }

    /// The entity of that name.
    pub fn find_entity(&self, name: &str) -> Option<&Entity> {
        self.isolated.iter().filter(|item| item.name == name).find_map(|item| item.entity.as_ref())
    }

    /// The entities that the program declares, by name.
    pub fn entities(&self) -> impl Iterator<Item = &str> {
        self.isolated.iter().filter(|item| item.entity.is_some()).map(|item| item.name.as_str())
    }

    /// The source of an instruction.
    pub fn place(&self, function: FunctionId, at: usize) -> Place {
        let f = &self.functions[function as usize];
        Place { source: f.place.source, span: f.spans.get(at).copied().unwrap_or(f.place.span) }
    }
}
