//! Register code: what the machine executes.
//!
//! Invariant: code is plain, immutable data that threads share. Every register that an instruction names lies in
//! its function's window, every jump within its function, every index within its table: the compiler made it so,
//! and code is never read from a store, only compiled from sources.

mod compile;
mod hash;
mod print;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::builtins::Context;
use crate::syntax::tree::PropertyKind;
use crate::syntax::{Place, Sources, Span};

pub use compile::{Read, Registers, compile, followers, jumped, written};
pub use hash::{ProgramHash, modules_hash, program_hash, text_hash};
pub use print::print;

/// A register, relative to its function's window.
pub type Reg = u16;
/// Index of a function in [`Code::functions`].
pub type FunctionId = u32;

/// An instruction: eight bytes.
// A table: one line an instruction.
#[rustfmt::skip]
#[derive(Clone, Copy, Debug, PartialEq, Hash)]
pub enum Op {
    Move { to: Reg, from: Reg },
    /// As `Move`, out of a register that nothing reads any more: the value is not held twice.
    Take { to: Reg, from: Reg },
    /// Within the compiler: lets go of what a register holds, unless it is read again.
    Forget { reg: Reg },
    Constant { to: Reg, index: u32 },
    Int { to: Reg, value: i32 },
    Null { to: Reg },
    Bool { to: Reg, value: bool },
    Missing { to: Reg },
    /// A `const` of the program.
    Global { to: Reg, index: u32 },

    Add { to: Reg, a: Reg, b: Reg },
    /// As `Add`, where nothing reads `a` any more: what it holds grows in place when nobody else holds it.
    AddTaken { to: Reg, a: Reg, b: Reg },
    Subtract { to: Reg, a: Reg, b: Reg },
    Multiply { to: Reg, a: Reg, b: Reg },
    Divide { to: Reg, a: Reg, b: Reg },
    Remainder { to: Reg, a: Reg, b: Reg },
    /// `div(a, b)`
    Quotient { to: Reg, a: Reg, b: Reg },
    /// Adds a constant; `value` may be negative, for a subtraction.
    AddInt { to: Reg, a: Reg, value: i16 },
    /// Multiplies by a constant.
    MultiplyInt { to: Reg, a: Reg, value: i16 },
    RemainderInt { to: Reg, a: Reg, value: i16 },
    Compare { how: Comparison, to: Reg, a: Reg, b: Reg },
    CompareInt { how: Comparison, to: Reg, a: Reg, value: i16 },
    Not { to: Reg, a: Reg },
    Negate { to: Reg, a: Reg },
    CheckBool { a: Reg },

    Jump { by: i32 },
    /// A jump backwards, which costs fuel.
    Repeat { by: i32 },
    // Tests: when the outcome is `want`, the next instruction, a jump, is skipped; else it is taken.
    TestTrue { want: bool, a: Reg },
    TestNull { want: bool, a: Reg },
    TestMissing { want: bool, a: Reg },
    TestEqual { want: bool, a: Reg, b: Reg },
    TestLess { want: bool, a: Reg, b: Reg },
    TestLessEqual { want: bool, a: Reg, b: Reg },
    TestGreater { want: bool, a: Reg, b: Reg },
    TestGreaterEqual { want: bool, a: Reg, b: Reg },
    TestEqualInt { want: bool, a: Reg, value: i32 },
    TestLessInt { want: bool, a: Reg, value: i32 },
    TestLessEqualInt { want: bool, a: Reg, value: i32 },
    TestGreaterInt { want: bool, a: Reg, value: i32 },
    TestGreaterEqualInt { want: bool, a: Reg, value: i32 },
    TestConstant { a: Reg, index: u32 },
    TestList { a: Reg },
    TestRecord { a: Reg },
    TestLength { a: Reg, length: u32 },
    TestAtLeast { a: Reg, length: u32 },

    NewList { to: Reg, base: Reg, count: Reg },
    Push { list: Reg, value: Reg },
    /// Adds one element, a temporary, to a variable, in place when nobody else holds the list: `xs += [x]`.
    Append { list: Reg, value: Reg },
    Extend { list: Reg, values: Reg },
    /// As `Extend`, where nothing reads `values` any more: it becomes the list, if that has nothing yet.
    ExtendTaken { list: Reg, values: Reg },
    /// A record of the values from `base` on, with the keys of a shape.
    NewRecord { to: Reg, base: Reg, shape: Reg },
    Put { record: Reg, key: Reg, value: Reg },
    Merge { record: Reg, other: Reg },
    /// As `Merge`, where nothing reads `other` any more: it becomes the record, if that has nothing yet.
    MergeTaken { record: Reg, other: Reg },
    /// An error if `a` can't be spread in a record.
    CheckSpread { a: Reg },
    /// `{..a, name: value}`: the values lie from `base` on, their names are those of a shape; the result goes to `base`.
    Update { base: Reg, a: Reg, shape: Reg },
    /// As `Update`, where nothing reads `a` any more.
    UpdateTaken { base: Reg, a: Reg, shape: Reg },
    Field { to: Reg, a: Reg, name: u16 },
    /// As `Field`, where nothing reads this field of `a` any more: its value is not held twice.
    TakeField { to: Reg, a: Reg, name: u16 },
    OptionalField { to: Reg, a: Reg, name: u16 },
    /// A field, or the mark of a missing one.
    ReadField { to: Reg, a: Reg, name: u16 },
    /// As `ReadField`, and a test whether it is there.
    TestField { to: Reg, a: Reg, name: u16 },
    ReadIndex { to: Reg, a: Reg, index: u16 },
    ReadBack { to: Reg, a: Reg, index: u16 },
    ReadMiddle { to: Reg, a: Reg, slice: u16 },
    ReadWithout { to: Reg, a: Reg, shape: u16 },
    Index { to: Reg, a: Reg, index: Reg },
    /// As `Index`, of an element that is set next: it is not held twice meanwhile.
    TakeElement { to: Reg, a: Reg, index: Reg },
    /// Likewise what is at a path of the value in `a`, whose steps lie from `base` on.
    TakePath { a: u8, to: Reg, base: Reg, path: u16 },
    /// As `TakePath`, of an entry; null if there is none.
    TakeEntry { a: u8, to: Reg, base: Reg, path: u16 },
    /// `a[index].name`, without holding the element.
    FieldOfElement { a: u8, to: Reg, index: u8, name: u16 },
    /// `a[index][second]`, likewise.
    ElementOfElement { a: u8, to: Reg, index: u8, second: u8 },
    /// `a.name = value`, `a[index] = value` and so on; `value` is a temporary, which is taken.
    SetField { a: Reg, value: Reg, name: u16 },
    SetElement { a: Reg, index: Reg, value: Reg },
    SetFieldOfElement { a: u8, index: Reg, value: u8, name: u16 },
    SetElementOfElement { a: u8, index: Reg, value: u8, second: Reg },
    /// Sets a path of the value in `a`, or in the cell there: steps from `base` on as the path says, the value after them.
    SetPath { a: Reg, base: Reg, path: u16 },
    /// Adds to a path of the value in `a`, in place when nobody else holds what is there: `a.items += [x]`.
    AddPath { a: Reg, base: Reg, path: u16 },
    /// An error when there is nothing at a path of the value in `a`.
    CheckPath { a: Reg, base: Reg, path: u16 },
    /// Whether the last step of a path of the value in `a`, or in the cell there, is a key of a record, whose `get` is that of
    /// all records. The steps lie from `base` on.
    IsEntry { a: u8, to: Reg, base: Reg, path: u16 },
    /// As `AddPath`, of such a record: what isn't there, or is null, is what lies after the steps, and what is added after that.
    AddEntry { a: Reg, base: Reg, path: u16 },
    Concat { to: Reg, base: Reg, count: Reg },
    Range { to: Reg, base: Reg, inclusive: bool },

    RangeStart { base: Reg, inclusive: bool },
    /// The end of a loop: jumps back with the next int while there is one, which costs fuel.
    RangeNext { base: Reg, by: i32 },
    EachStart { base: Reg },
    /// The end of a loop: jumps back with the next element while there is one, which costs fuel.
    EachNext { base: Reg, by: i32 },

    NewCell { to: Reg, from: Reg },
    GetCell { to: Reg, cell: Reg },
    /// As `GetCell`, for a variable that may not have its value yet.
    GetEarly { to: Reg, cell: Reg },
    SetCell { cell: Reg, from: Reg },
    /// Adds to what a cell holds, in place when nobody else holds it.
    AddCell { cell: Reg, b: Reg },
    Capture { to: Reg, index: u16 },
    Environment { to: Reg, base: Reg, count: Reg },
    /// A function with the environment in `env`.
    Closure { to: Reg, env: Reg, function: u16 },

    // Calls: arguments from `base` on; the result goes to `base`.
    CallFunction { count: u8, base: Reg, function: FunctionId },
    TailFunction { count: u8, base: Reg, function: FunctionId },
    /// A function of the same group, which shares the environment.
    CallSibling { count: u8, base: Reg, function: u16 },
    TailSibling { count: u8, base: Reg, function: u16 },
    Call { count: u8, base: Reg, f: Reg },
    TailCall { count: u8, base: Reg, f: Reg },
    /// The receiver is in `base`, the arguments after it.
    CallMethod { count: u8, base: Reg, name: u16 },
    /// As `CallMethod`; a function that a record has under the name takes the place of the frame.
    TailMethod { count: u8, base: Reg, name: u16 },
    /// The function is in `base`, the list of arguments after it.
    CallSpread { base: Reg },
    TailSpread { base: Reg },
    CallMethodSpread { base: Reg, name: u16 },
    TailMethodSpread { base: Reg, name: u16 },
    /// What the function gives must be a bool, whoever gives it in the end: the function that sees to it stands below.
    WantBool { by: u32 },
    Apply { count: u8, base: Reg, builtin: u16 },
    /// Calls an isolated declaration; the options are after the arguments.
    Invoke { count: u8, base: Reg, global: u16 },
    Return { from: Reg },

    /// From here to `EndTry`, an error goes to `by`, into `error` and, with its trace, `error + 1`.
    Try { error: Reg, by: i32 },
    EndTry,
    Throw { from: Reg },
    Rethrow { error: Reg },
    NoArm { from: Reg },
    NoMatch { from: Reg },
}

/// A comparison whose outcome is a value.
#[derive(Clone, Copy, Debug, PartialEq, Hash)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

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
