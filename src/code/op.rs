//! The one table of instructions: their operands, what each operand is for, and what may be executed next.

use super::{FunctionId, Reg};

/// What an instruction does with an operand, or what comes after it.
///
/// A role of several registers has the first one, and their number or what gives it. A jump has its distance from the next
/// instruction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// The register gets a new value, whatever it held.
    Write(Reg),
    /// All that a register holds is read.
    Read(Reg),
    /// All that so many registers from one on hold is read.
    Stretch(Reg, Reg),
    /// As many registers are read as a shape has names.
    Shape(Reg, u16),
    /// As many registers are read as a path has indexes, and so many more.
    Steps(Reg, u16, Reg),
    /// The function's environment is read.
    Env,
    /// A field of what the register holds is read.
    Field(Reg, u16),
    /// All of it but the fields of a shape is read.
    Without(Reg, u16),
    /// What kind of value the register holds is read.
    Kind(Reg),
    /// What the register holds is handed on, or changed.
    Gives(Reg),
    /// All that is read is handed on.
    GivesAll,
    /// It jumps.
    Goto(i32),
    /// It jumps, or the next instruction follows.
    Loops(i32),
    /// A later error jumps.
    Catches(i32),
    /// It may skip the next instruction.
    Skips,
    /// Nothing of the function is executed after it.
    Ends,
    // What it names, for people: indexes.
    Constant(u32),
    Name(u16),
    Function(FunctionId),
    Builtin(u16),
    Global(u16),
}

/// The role of that name.
// A table: one line a role.
#[rustfmt::skip]
macro_rules! role {
    (write $to:tt) => { Role::Write(reg($to)) };
    (read $from:tt) => { Role::Read(reg($from)) };
    (stretch $base:tt $count:literal) => { Role::Stretch($base, $count) };
    (stretch $base:tt $count:tt) => { Role::Stretch($base, reg($count)) };
    // As many as are counted, and one more.
    (beside $base:tt $count:tt) => { Role::Stretch($base, reg($count) + 1) };
    (shape $base:tt $shape:tt) => { Role::Shape($base, $shape) };
    (steps $base:tt $path:tt $more:tt) => { Role::Steps($base, $path, $more) };
    (env) => { Role::Env };
    (field $a:tt $name:tt) => { Role::Field($a, $name) };
    (without $a:tt $shape:tt) => { Role::Without($a, $shape) };
    (kind $a:tt) => { Role::Kind($a) };
    (gives $a:tt) => { Role::Gives(reg($a)) };
    (gives_all) => { Role::GivesAll };
    (goto $by:tt) => { Role::Goto($by) };
    (loops $by:tt) => { Role::Loops($by) };
    (catches $by:tt) => { Role::Catches($by) };
    (skips) => { Role::Skips };
    (ends) => { Role::Ends };
    (constant $index:tt) => { Role::Constant($index) };
    (name $index:tt) => { Role::Name($index) };
    (function $index:tt) => { Role::Function($index) };
    (builtin $index:tt) => { Role::Builtin($index) };
    (global $index:tt) => { Role::Global($index) };
}

/// The operand that says how far an instruction jumps, if the role is one of a jump.
macro_rules! distance {
    (goto $by:tt) => {
        Some($by)
    };
    (loops $by:tt) => {
        Some($by)
    };
    (catches $by:tt) => {
        Some($by)
    };
    ($($other:tt)*) => {
        None
    };
}

macro_rules! instructions {
    ($($(#[doc = $doc:literal])* $op:ident $({ $($field:ident: $type:ty),+ })? => $($role:ident($($operand:tt),*))*;)+) => {
        /// An instruction: eight bytes.
        #[derive(Clone, Copy, Debug, PartialEq, Hash)]
        pub enum Op {
            $($(#[doc = $doc])* $op $({ $($field: $type),+ })?,)+
        }

        impl Op {
            /// Tells of the roles of its operands.
            #[inline(always)]
            #[allow(unused_variables)]
            pub fn roles(self, tell: &mut impl FnMut(Role)) {
                match self {
                    $(Op::$op $({ $($field),+ })? => { $(tell(role!($role $($operand)*));)* })+
                }
            }

            /// How far it jumps, if it does: errors included.
            #[allow(unused_variables)]
            pub(super) fn distance(&mut self) -> Option<&mut i32> {
                match self {
                    $(Op::$op $({ $($field),+ })? => {
                        let found: [Option<&mut i32>; _] = [$(distance!($role $($operand)*)),*];
                        found.into_iter().flatten().next()
                    })+
                }
            }
        }
    };
}

fn reg(operand: impl Into<Reg>) -> Reg {
    operand.into()
}

// An instruction, its operands, and their roles.
instructions! {
    Move { to: Reg, from: Reg } => write(to) read(from) gives(from);
    /// As `Move`, out of a register that nothing reads any more: the value is not held twice.
    Take { to: Reg, from: Reg } => write(to) read(from) gives(from);
    /// Within the compiler: lets go of what a register holds, unless it is read again.
    Forget { reg: Reg } =>;
    Constant { to: Reg, index: u32 } => write(to) constant(index);
    Int { to: Reg, value: i32 } => write(to);
    Null { to: Reg } => write(to);
    Bool { to: Reg, value: bool } => write(to);
    Missing { to: Reg } => write(to);
    /// A `const` of the program.
    Global { to: Reg, index: u32 } => write(to);

    Add { to: Reg, a: Reg, b: Reg } => write(to) read(a) read(b);
    /// As `Add`, where nothing reads `a` any more: what it holds grows in place when nobody else holds it.
    AddTaken { to: Reg, a: Reg, b: Reg } => write(to) read(a) read(b) gives(a);
    Subtract { to: Reg, a: Reg, b: Reg } => write(to) read(a) read(b);
    Multiply { to: Reg, a: Reg, b: Reg } => write(to) read(a) read(b);
    Divide { to: Reg, a: Reg, b: Reg } => write(to) read(a) read(b);
    Remainder { to: Reg, a: Reg, b: Reg } => write(to) read(a) read(b);
    /// `div(a, b)`
    Quotient { to: Reg, a: Reg, b: Reg } => write(to) read(a) read(b);
    /// Adds a constant; `value` may be negative, for a subtraction.
    AddInt { to: Reg, a: Reg, value: i16 } => write(to) read(a);
    /// Multiplies by a constant.
    MultiplyInt { to: Reg, a: Reg, value: i16 } => write(to) read(a);
    RemainderInt { to: Reg, a: Reg, value: i16 } => write(to) read(a);
    Compare { how: Comparison, to: Reg, a: Reg, b: Reg } => write(to) read(a) read(b);
    CompareInt { how: Comparison, to: Reg, a: Reg, value: i16 } => write(to) read(a);
    Not { to: Reg, a: Reg } => write(to) read(a);
    Negate { to: Reg, a: Reg } => write(to) read(a);
    CheckBool { a: Reg } => read(a);

    Jump { by: i32 } => goto(by);
    /// A jump backwards, which costs fuel.
    Repeat { by: i32 } => goto(by);
    // Tests: when the outcome is `want`, the next instruction, a jump, is skipped; else it is taken.
    TestTrue { want: bool, a: Reg } => read(a) skips();
    TestNull { want: bool, a: Reg } => read(a) skips();
    TestMissing { want: bool, a: Reg } => read(a) skips();
    TestEqual { want: bool, a: Reg, b: Reg } => read(a) read(b) skips();
    TestLess { want: bool, a: Reg, b: Reg } => read(a) read(b) skips();
    TestLessEqual { want: bool, a: Reg, b: Reg } => read(a) read(b) skips();
    TestGreater { want: bool, a: Reg, b: Reg } => read(a) read(b) skips();
    TestGreaterEqual { want: bool, a: Reg, b: Reg } => read(a) read(b) skips();
    TestEqualInt { want: bool, a: Reg, value: i32 } => read(a) skips();
    TestLessInt { want: bool, a: Reg, value: i32 } => read(a) skips();
    TestLessEqualInt { want: bool, a: Reg, value: i32 } => read(a) skips();
    TestGreaterInt { want: bool, a: Reg, value: i32 } => read(a) skips();
    TestGreaterEqualInt { want: bool, a: Reg, value: i32 } => read(a) skips();
    TestConstant { a: Reg, index: u32 } => read(a) skips() constant(index);
    TestList { a: Reg } => read(a) skips();
    TestRecord { a: Reg } => read(a) skips();
    TestLength { a: Reg, length: u32 } => read(a) skips();
    TestAtLeast { a: Reg, length: u32 } => read(a) skips();

    NewList { to: Reg, base: Reg, count: Reg } => write(to) stretch(base, count);
    Push { list: Reg, value: Reg } => read(list) read(value);
    /// Adds one element, a temporary, to a variable, in place when nobody else holds the list: `xs += [x]`.
    Append { list: Reg, value: Reg } => read(list) read(value) gives(list) gives(value);
    Extend { list: Reg, values: Reg } => read(list) read(values);
    /// As `Extend`, where nothing reads `values` any more: it becomes the list, if that has nothing yet.
    ExtendTaken { list: Reg, values: Reg } => read(list) read(values) gives(values);
    /// A record of the values from `base` on, with the keys of a shape.
    NewRecord { to: Reg, base: Reg, shape: Reg } => write(to) shape(base, shape);
    Put { record: Reg, key: Reg, value: Reg } => read(record) read(key) read(value);
    Merge { record: Reg, other: Reg } => read(record) read(other);
    /// As `Merge`, where nothing reads `other` any more: it becomes the record, if that has nothing yet.
    MergeTaken { record: Reg, other: Reg } => read(record) read(other) gives(other);
    /// An error if `a` can't be spread in a record.
    CheckSpread { a: Reg } => kind(a);
    /// `{..a, name: value}`: the values lie from `base` on, their names are those of a shape; the result goes to `base`.
    Update { base: Reg, a: Reg, shape: Reg } => write(base) without(a, shape) shape(base, shape);
    /// As `Update`, where nothing reads `a` any more.
    UpdateTaken { base: Reg, a: Reg, shape: Reg } => write(base) without(a, shape) shape(base, shape) gives(a);
    Field { to: Reg, a: Reg, name: u16 } => write(to) field(a, name) name(name);
    /// As `Field`, where nothing reads this field of `a` any more: its value is not held twice.
    TakeField { to: Reg, a: Reg, name: u16 } => write(to) field(a, name) name(name);
    OptionalField { to: Reg, a: Reg, name: u16 } => write(to) read(a) name(name);
    /// A field, or the mark of a missing one.
    ReadField { to: Reg, a: Reg, name: u16 } => write(to) read(a) name(name);
    /// As `ReadField`, and a test whether it is there.
    TestField { to: Reg, a: Reg, name: u16 } => write(to) read(a) skips();
    ReadIndex { to: Reg, a: Reg, index: u16 } => write(to) read(a);
    ReadBack { to: Reg, a: Reg, index: u16 } => write(to) read(a);
    ReadMiddle { to: Reg, a: Reg, slice: u16 } => write(to) read(a);
    ReadWithout { to: Reg, a: Reg, shape: u16 } => write(to) read(a);
    Index { to: Reg, a: Reg, index: Reg } => write(to) read(a) read(index);
    /// As `Index`, of an element that is set next: it is not held twice meanwhile.
    TakeElement { to: Reg, a: Reg, index: Reg } => write(to) read(a) read(index);
    /// Likewise what is at a path of the value in `a`, whose steps lie from `base` on.
    TakePath { a: u8, to: Reg, base: Reg, path: u16 } => write(to) read(a) steps(base, path, 0);
    /// As `TakePath`, of an entry; null if there is none.
    TakeEntry { a: u8, to: Reg, base: Reg, path: u16 } => write(to) read(a) steps(base, path, 0);
    /// `a[index].name`, without holding the element.
    FieldOfElement { a: u8, to: Reg, index: u8, name: u16 } => write(to) read(a) read(index);
    /// `a[index][second]`, likewise.
    ElementOfElement { a: u8, to: Reg, index: u8, second: u8 } => write(to) read(a) read(index) read(second);
    /// `a.name = value`, `a[index] = value` and so on; `value` is a temporary, which is taken.
    SetField { a: Reg, value: Reg, name: u16 } => kind(a) read(value) gives(a);
    SetElement { a: Reg, index: Reg, value: Reg } => read(a) read(index) read(value) gives(a);
    SetFieldOfElement { a: u8, index: Reg, value: u8, name: u16 } => read(a) read(index) read(value) gives(a);
    SetElementOfElement { a: u8, index: Reg, value: u8, second: Reg } => read(a) read(index) read(second) read(value) gives(a);
    /// Sets a path of the value in `a`, or in the cell there: steps from `base` on as the path says, the value after them.
    SetPath { a: Reg, base: Reg, path: u16 } => read(a) steps(base, path, 1) gives(a);
    /// Adds to a path of the value in `a`, in place when nobody else holds what is there: `a.items += [x]`.
    AddPath { a: Reg, base: Reg, path: u16 } => read(a) steps(base, path, 1) gives(a);
    /// An error when there is nothing at a path of the value in `a`.
    CheckPath { a: Reg, base: Reg, path: u16 } => read(a) steps(base, path, 0);
    /// Whether the last step of a path of the value in `a`, or in the cell there, is a key of a record, whose `get` is that of
    /// all records. The steps lie from `base` on.
    IsEntry { a: u8, to: Reg, base: Reg, path: u16 } => write(to) read(a) steps(base, path, 0);
    /// As `AddPath`, of such a record: what isn't there, or is null, is what lies after the steps, and what is added after that.
    AddEntry { a: Reg, base: Reg, path: u16 } => read(a) steps(base, path, 2) gives(a);
    Concat { to: Reg, base: Reg, count: Reg } => write(to) stretch(base, count);
    Range { to: Reg, base: Reg, inclusive: bool } => write(to) stretch(base, 2);

    RangeStart { base: Reg, inclusive: bool } => stretch(base, 3);
    /// The end of a loop: jumps back with the next int while there is one, which costs fuel.
    RangeNext { base: Reg, by: i32 } => stretch(base, 3) loops(by);
    EachStart { base: Reg } => stretch(base, 3);
    /// The end of a loop: jumps back with the next element while there is one, which costs fuel.
    EachNext { base: Reg, by: i32 } => stretch(base, 3) loops(by);

    NewCell { to: Reg, from: Reg } => write(to) read(from);
    GetCell { to: Reg, cell: Reg } => write(to) read(cell);
    /// As `GetCell`, for a variable that may not have its value yet.
    GetEarly { to: Reg, cell: Reg } => write(to) read(cell);
    SetCell { cell: Reg, from: Reg } => read(cell) read(from);
    /// Adds to what a cell holds, in place when nobody else holds it.
    AddCell { cell: Reg, b: Reg } => read(cell) read(b);
    Capture { to: Reg, index: u16 } => write(to) env();
    Environment { to: Reg, base: Reg, count: Reg } => write(to) stretch(base, count);
    /// A function with the environment in `env`.
    Closure { to: Reg, env: Reg, function: u16 } => write(to) read(env);

    // Calls: arguments from `base` on; the result goes to `base`.
    CallFunction { count: u8, base: Reg, function: FunctionId } => write(base) stretch(base, count) gives_all() function(function);
    TailFunction { count: u8, base: Reg, function: FunctionId } => stretch(base, count) gives_all() function(function);
    /// A function of the same group, which shares the environment.
    CallSibling { count: u8, base: Reg, function: u16 } => write(base) env() stretch(base, count) gives_all();
    TailSibling { count: u8, base: Reg, function: u16 } => env() stretch(base, count) gives_all();
    Call { count: u8, base: Reg, f: Reg } => write(base) read(f) stretch(base, count) gives_all();
    TailCall { count: u8, base: Reg, f: Reg } => read(f) stretch(base, count) gives_all();
    /// The receiver is in `base`, the arguments after it.
    CallMethod { count: u8, base: Reg, name: u16 } => write(base) beside(base, count) gives_all() name(name);
    /// As `CallMethod`; a function that a record has under the name takes the place of the frame.
    TailMethod { count: u8, base: Reg, name: u16 } => write(base) beside(base, count) gives_all() name(name);
    /// The function is in `base`, the list of arguments after it.
    CallSpread { base: Reg } => write(base) stretch(base, 2);
    TailSpread { base: Reg } => write(base) stretch(base, 2);
    CallMethodSpread { base: Reg, name: u16 } => write(base) stretch(base, 2) name(name);
    TailMethodSpread { base: Reg, name: u16 } => write(base) stretch(base, 2) name(name);
    /// What the function gives must be a bool, whoever gives it in the end: the function that sees to it stands below.
    WantBool { by: u32 } =>;
    Apply { count: u8, base: Reg, builtin: u16 } => write(base) stretch(base, count) gives_all() builtin(builtin);
    /// Calls an isolated declaration; the options are after the arguments.
    Invoke { count: u8, base: Reg, global: u16 } => write(base) beside(base, count) gives_all() global(global);
    Return { from: Reg } => read(from) ends();

    /// From here to `EndTry`, an error goes to `by`, into `error` and, with its trace, `error + 1`.
    Try { error: Reg, by: i32 } => catches(by);
    EndTry =>;
    Throw { from: Reg } => read(from) ends();
    Rethrow { error: Reg } => stretch(error, 2) ends();
    NoArm { from: Reg } => read(from) ends();
    NoMatch { from: Reg } => read(from) ends();
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
