//! Register code, which the machine executes.
//!
//! Invariant: code is plain, immutable data that threads share. Every register that an instruction
//! names lies in its function's window, every jump stays within its function, and every index
//! within its table. The compiler guarantees this, because code is only compiled from sources and
//! never read from a store.

mod compile;
pub mod debug;
mod hash;
mod op;
mod print;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::builtins::Context;
use crate::syntax::tree::PropertyKind;
use crate::syntax::{Place, Sources, Span};

pub use compile::{Read, Registers, compile, compile_for_debugging, followers, jumped, read_after, written};
pub use hash::{ProgramHash, modules_hash, program_hash, text_hash};
pub use op::{Comparison, Op, Role};
pub use print::print;

/// A register, relative to its function's window.
pub type Reg = u16;
/// The index of a function in [`Code::functions`].
pub type FunctionId = u32;

/// A function's code.
#[derive(Debug)]
pub struct Function {
    pub name: String,
    pub required: u8,
    pub params: u8,
    /// The number of trailing parameters that only the compiler fills: a stub's options.
    pub hidden: u8,
    /// The size of the window.
    pub registers: u16,
    /// Whether the register after the parameters holds an environment.
    pub has_env: bool,
    pub ops: Vec<Op>,
    /// The source span of each instruction.
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
    /// An index, taken from the next register from `base` on.
    Index,
}

impl PathStep {
    /// Returns the number of indexes in a path.
    pub fn indexes(path: &[PathStep]) -> usize {
        path.iter().filter(|step| matches!(step, PathStep::Index)).count()
    }
}

/// The target of a method of the standard library.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MethodTarget {
    Function(FunctionId),
    Builtin(u16),
}

/// An activity, orchestration or entity.
#[derive(Clone, Debug)]
pub struct Isolated {
    pub name: String,
    /// The context of the body; `None` for an entity.
    pub context: Option<Context>,
    pub body: FunctionId,
    pub stub: FunctionId,
    pub entity: Option<Entity>,
}

/// The parts of an entity.
#[derive(Clone, Debug, Default)]
pub struct Entity {
    /// The index of the `const` with the initial state; `None` means null.
    pub initial: Option<usize>,
    /// The functions that make a state of each version of that of the version before. The version
    /// of a new state is their number.
    pub migrations: Vec<FunctionId>,
    pub operations: Vec<Operation>,
    /// The names of the functions that can't be called from outside.
    pub private: Vec<String>,
}

/// An operation of an entity. The last parameter of its function is the cell of the state.
#[derive(Clone, Debug)]
pub struct Operation {
    pub name: String,
    pub function: FunctionId,
    pub required: usize,
    pub params: usize,
}

/// A possible outcome of a mocked activity or effect.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The value or the error of a function that gets the arguments.
    Function(FunctionId),
    /// The result and the effects of an entity's operation. The function returns the entity.
    Operation(FunctionId, String),
    Never,
}

/// A mocked activity or effect.
#[derive(Clone, Debug)]
pub struct Mock {
    /// The activity's name, or the effect's name in the table of builtins.
    pub target: String,
    pub is_activity: bool,
    /// Whether the outcomes come in order and the last one repeats; otherwise any of them may come.
    pub in_turn: bool,
    pub outcomes: Vec<Outcome>,
    /// The longest time until the answer, in nanoseconds.
    pub within: Option<i64>,
    pub place: Place,
}

/// A property that has to hold. Its function has no parameters and returns a bool.
#[derive(Clone, Debug)]
pub struct Property {
    pub kind: PropertyKind,
    pub name: String,
    pub function: FunctionId,
    pub place: Place,
}

/// The mocks and properties with which a program is tested.
#[derive(Clone, Debug, Default)]
pub struct Trials {
    pub mocks: Vec<Mock>,
    pub properties: Vec<Property>,
}

/// A test: its function, and the mocks and properties of this test alone.
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
    /// The ranges that patterns test: the first int and the last one.
    pub ranges: Vec<(i64, i64)>,
    /// The name and the function of each `const`; the function returns its value.
    pub consts: Vec<(String, FunctionId)>,
    pub isolated: Vec<Isolated>,
    /// The methods of values, by method name and by the standard library's module for the kind of
    /// value.
    pub methods: HashMap<(u16, &'static str), MethodTarget>,
    pub script: FunctionId,
    pub tests: Vec<Test>,
    /// The mocks and properties for the script and for all tests.
    pub trials: Trials,
    pub sources: Sources,
    pub hash: ProgramHash,
    /// Whether cancelling a task also cancels the work that it began. Programs whose stored
    /// standard library predates this rule keep the old behaviour, so that their histories replay
    /// unchanged.
    pub structured: bool,
    /// Whether durations are written in the units that people read. Programs whose stored standard
    /// library predates this rule keep the old form.
    pub readable: bool,
    /// The hash by which a machine's state names its code, computed on first use.
    pub fingerprint: OnceLock<u64>,
    /// The tables for the debugger. Code that programs run by has none.
    pub debug: Option<debug::Tables>,
}

impl Code {
    /// Returns the index of the isolated declaration of that name.
    pub fn find_isolated(&self, name: &str) -> Option<usize> {
        self.isolated.iter().position(|item| item.name == name)
    }

    /// Returns the entity of that name.
    pub fn find_entity(&self, name: &str) -> Option<&Entity> {
        self.isolated.iter().filter(|item| item.name == name).find_map(|item| item.entity.as_ref())
    }

    /// Returns the names of the entities that the program declares.
    pub fn entities(&self) -> impl Iterator<Item = &str> {
        self.isolated.iter().filter(|item| item.entity.is_some()).map(|item| item.name.as_str())
    }

    /// Returns the source of an instruction.
    pub fn place(&self, function: FunctionId, at: usize) -> Place {
        let f = &self.functions[function as usize];
        Place { source: f.place.source, span: f.spans.get(at).copied().unwrap_or(f.place.span) }
    }
}
