//! The one table of instructions: their operands, the role of each operand, and the instructions
//! that may follow.

use super::{FunctionId, Reg};

/// The use of an operand by an instruction, or the instructions that may follow.
///
/// A role for several registers has the first register, and their number or its source. A jump has
/// the distance from the next instruction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// Overwrites the register, whatever it held.
    Write(Reg),
    /// Reads everything that the register holds.
    Read(Reg),
    /// Reads a number of registers, from the first one on.
    Stretch(Reg, Reg),
    /// Reads as many registers as the shape has names.
    Shape(Reg, u16),
    /// Reads as many registers as the path has indexes, plus the given number.
    Steps(Reg, u16, Reg),
    /// Reads the function's environment.
    Env,
    /// Reads one field of the register's value.
    Field(Reg, u16),
    /// Reads the register's value except for the fields of a shape.
    Without(Reg, u16),
    /// Reads only the kind of the register's value.
    Kind(Reg),
    /// Passes on the register's value, or changes it.
    Gives(Reg),
    /// Passes on everything that the instruction reads.
    GivesAll,
    /// Jumps.
    Goto(i32),
    /// Jumps, or continues with the next instruction.
    Loops(i32),
    /// Jumps when a later instruction fails.
    Catches(i32),
    /// May skip the next instruction.
    Skips,
    /// Ends the execution of the function.
    Ends,
    // Indexes of what an operand names, for printed code.
    Constant(u32),
    Name(u16),
    Function(FunctionId),
    Builtin(u16),
    Global(u16),
}

/// The role with that name.
// As a table, with one line for each role.
#[rustfmt::skip]
macro_rules! role {
    (write $to:tt) => { Role::Write(reg($to)) };
    (read $from:tt) => { Role::Read(reg($from)) };
    (stretch $base:tt $count:literal) => { Role::Stretch($base, $count) };
    (stretch $base:tt $count:tt) => { Role::Stretch($base, reg($count)) };
    // One more register than the count.
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

/// The operand with the jump distance, if the role is that of a jump.
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
        /// An instruction, in eight bytes.
        #[derive(Clone, Copy, Debug, PartialEq, Hash)]
        pub enum Op {
            $($(#[doc = $doc])* $op $({ $($field: $type),+ })?,)+
        }

        impl Op {
            /// Calls `tell` with the role of each operand.
            #[inline(always)]
            #[allow(unused_variables)]
            pub fn roles(self, tell: &mut impl FnMut(Role)) {
                match self {
                    $(Op::$op $({ $($field),+ })? => { $(tell(role!($role $($operand)*));)* })+
                }
            }

            /// Returns the distance of the jump, if there is one. This includes the jump to an
            /// error handler.
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

// Each line: an instruction, its operands, and their roles.
instructions! {
    Move { to: Reg, from: Reg } => write(to) read(from) gives(from);
    /// Like `Move`, from a register that is not read again, so that only one register holds the
    /// value.
    Take { to: Reg, from: Reg } => write(to) read(from) gives(from);
    /// For the compiler only: releases the value of a register, unless the register is read again.
    Forget { reg: Reg } =>;
    Constant { to: Reg, index: u32 } => write(to) constant(index);
    Int { to: Reg, value: i32 } => write(to);
    Null { to: Reg } => write(to);
    Bool { to: Reg, value: bool } => write(to);
    Missing { to: Reg } => write(to);
    /// Reads a `const` of the program.
    Global { to: Reg, index: u32 } => write(to);

    Add { to: Reg, a: Reg, b: Reg } => write(to) read(a) read(b);
    /// Like `Add`, where `a` is not read again: its value grows in place if nothing else holds it.
    AddTaken { to: Reg, a: Reg, b: Reg } => write(to) read(a) read(b) gives(a);
    Subtract { to: Reg, a: Reg, b: Reg } => write(to) read(a) read(b);
    Multiply { to: Reg, a: Reg, b: Reg } => write(to) read(a) read(b);
    Divide { to: Reg, a: Reg, b: Reg } => write(to) read(a) read(b);
    Remainder { to: Reg, a: Reg, b: Reg } => write(to) read(a) read(b);
    /// `div(a, b)`
    Quotient { to: Reg, a: Reg, b: Reg } => write(to) read(a) read(b);
    /// Adds a constant. `value` is negative for a subtraction.
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
    /// A backward jump, which costs fuel.
    Repeat { by: i32 } => goto(by);
    // Tests: if the outcome is `want`, execution skips the next instruction, a jump. Otherwise it
    // jumps.
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
    /// Tests whether a value is of a kind, given by its place in `Kind::ALL`.
    TestKind { a: Reg, kind: u8 } => read(a) skips();
    /// Tests whether a value is equal to an int of a range in the code's table.
    TestRange { a: Reg, range: u32 } => read(a) skips();
    /// Tests whether a value is a string that begins with a text among the names.
    TestPrefix { a: Reg, name: u16 } => read(a) skips() name(name);
    /// Reads what follows that text.
    ReadAfter { to: Reg, a: Reg, name: u16 } => write(to) read(a) name(name);
    TestLength { a: Reg, length: u32 } => read(a) skips();
    TestAtLeast { a: Reg, length: u32 } => read(a) skips();

    NewList { to: Reg, base: Reg, count: Reg } => write(to) stretch(base, count);
    Push { list: Reg, value: Reg } => read(list) read(value);
    /// Appends a temporary to a variable's list, in place if nothing else holds the list:
    /// `xs += [x]`.
    Append { list: Reg, value: Reg } => read(list) read(value) gives(list) gives(value);
    Extend { list: Reg, values: Reg } => read(list) read(values);
    /// Like `Extend`, where `values` is not read again: `values` becomes the list if the list is
    /// empty.
    ExtendTaken { list: Reg, values: Reg } => read(list) read(values) gives(values);
    /// Makes a record of the values from `base` on, with the keys of a shape.
    NewRecord { to: Reg, base: Reg, shape: Reg } => write(to) shape(base, shape);
    Put { record: Reg, key: Reg, value: Reg } => read(record) read(key) read(value);
    Merge { record: Reg, other: Reg } => read(record) read(other);
    /// Like `Merge`, where `other` is not read again: `other` becomes the record if the record is
    /// empty.
    MergeTaken { record: Reg, other: Reg } => read(record) read(other) gives(other);
    /// Fails if `a` can't be spread in a record.
    CheckSpread { a: Reg } => kind(a);
    /// `{..a, name: value}`: the values lie from `base` on, and a shape has their names. The result
    /// goes to `base`.
    Update { base: Reg, a: Reg, shape: Reg } => write(base) without(a, shape) shape(base, shape);
    /// Like `Update`, where `a` is not read again.
    UpdateTaken { base: Reg, a: Reg, shape: Reg } => write(base) without(a, shape) shape(base, shape) gives(a);
    Field { to: Reg, a: Reg, name: u16 } => write(to) field(a, name) name(name);
    /// Like `Field`, where this field of `a` is not read again: only one place holds its value.
    TakeField { to: Reg, a: Reg, name: u16 } => write(to) field(a, name) name(name);
    OptionalField { to: Reg, a: Reg, name: u16 } => write(to) read(a) name(name);
    /// Reads a field, or the mark of a missing one.
    ReadField { to: Reg, a: Reg, name: u16 } => write(to) read(a) name(name);
    /// Like `ReadField`, and tests whether the field is there.
    TestField { to: Reg, a: Reg, name: u16 } => write(to) read(a) skips();
    ReadIndex { to: Reg, a: Reg, index: u16 } => write(to) read(a);
    ReadBack { to: Reg, a: Reg, index: u16 } => write(to) read(a);
    ReadMiddle { to: Reg, a: Reg, slice: u16 } => write(to) read(a);
    ReadWithout { to: Reg, a: Reg, shape: u16 } => write(to) read(a);
    Index { to: Reg, a: Reg, index: Reg } => write(to) read(a) read(index);
    /// Like `Index`, for an element that is set next: until then only `to` holds its value.
    TakeElement { to: Reg, a: Reg, index: Reg } => write(to) read(a) read(index);
    /// Likewise takes the value at a path in `a`. The indexes of the path lie from `base` on.
    TakePath { a: u8, to: Reg, base: Reg, path: u16 } => write(to) read(a) steps(base, path, 0);
    /// Like `TakePath`, for an entry of a record: null if there is no such entry.
    TakeEntry { a: u8, to: Reg, base: Reg, path: u16 } => write(to) read(a) steps(base, path, 0);
    /// `a[index].name`, without an extra reference to the element.
    FieldOfElement { a: u8, to: Reg, index: u8, name: u16 } => write(to) read(a) read(index);
    /// `a[index][second]`, likewise.
    ElementOfElement { a: u8, to: Reg, index: u8, second: u8 } => write(to) read(a) read(index) read(second);
    /// `a.name = value`, `a[index] = value` and so on. `value` is a temporary, which is moved.
    SetField { a: Reg, value: Reg, name: u16 } => kind(a) read(value) gives(a);
    SetElement { a: Reg, index: Reg, value: Reg } => read(a) read(index) read(value) gives(a);
    SetFieldOfElement { a: u8, index: Reg, value: u8, name: u16 } => read(a) read(index) read(value) gives(a);
    SetElementOfElement { a: u8, index: Reg, value: u8, second: Reg } => read(a) read(index) read(second) read(value) gives(a);
    /// Sets a path in `a`, or in the cell there. The indexes of the path lie from `base` on,
    /// followed by the value.
    SetPath { a: Reg, base: Reg, path: u16 } => read(a) steps(base, path, 1) gives(a);
    /// Adds to the value at a path in `a`, in place if nothing else holds it: `a.items += [x]`.
    AddPath { a: Reg, base: Reg, path: u16 } => read(a) steps(base, path, 1) gives(a);
    /// Fails if there is nothing at a path in `a`.
    CheckPath { a: Reg, base: Reg, path: u16 } => read(a) steps(base, path, 0);
    /// Tests whether the last step of a path in `a`, or in the cell there, is a key of a record
    /// whose `get` is the standard one. The indexes of the path lie from `base` on.
    IsEntry { a: u8, to: Reg, base: Reg, path: u16 } => write(to) read(a) steps(base, path, 0);
    /// Like `AddPath`, for an entry of such a record. The indexes are followed by the default,
    /// which replaces an absent or null entry, and then by the value to add.
    AddEntry { a: Reg, base: Reg, path: u16 } => read(a) steps(base, path, 2) gives(a);
    Concat { to: Reg, base: Reg, count: Reg } => write(to) stretch(base, count);
    Range { to: Reg, base: Reg, inclusive: bool } => write(to) stretch(base, 2);

    RangeStart { base: Reg, inclusive: bool } => stretch(base, 3);
    /// The end of a loop: jumps back with the next int, if there is one. The jump costs fuel.
    RangeNext { base: Reg, by: i32 } => stretch(base, 3) loops(by);
    EachStart { base: Reg } => stretch(base, 3);
    /// The end of a loop: jumps back with the next element, if there is one. The jump costs fuel.
    EachNext { base: Reg, by: i32 } => stretch(base, 3) loops(by);

    NewCell { to: Reg, from: Reg } => write(to) read(from);
    GetCell { to: Reg, cell: Reg } => write(to) read(cell);
    /// Like `GetCell`, for a variable that may not have its value yet.
    GetEarly { to: Reg, cell: Reg } => write(to) read(cell);
    SetCell { cell: Reg, from: Reg } => read(cell) read(from);
    /// Adds to the value of a cell, in place if nothing else holds it.
    AddCell { cell: Reg, b: Reg } => read(cell) read(b);
    Capture { to: Reg, index: u16 } => write(to) env();
    Environment { to: Reg, base: Reg, count: Reg } => write(to) stretch(base, count);
    /// Makes a function with the environment in `env`.
    Closure { to: Reg, env: Reg, function: u16 } => write(to) read(env);

    // Calls: the arguments lie from `base` on, and the result goes to `base`.
    CallFunction { count: u8, base: Reg, function: FunctionId } => write(base) stretch(base, count) gives_all() function(function);
    TailFunction { count: u8, base: Reg, function: FunctionId } => stretch(base, count) gives_all() function(function);
    /// Calls a function of the same group, which shares the environment.
    CallSibling { count: u8, base: Reg, function: u16 } => write(base) env() stretch(base, count) gives_all();
    TailSibling { count: u8, base: Reg, function: u16 } => env() stretch(base, count) gives_all();
    Call { count: u8, base: Reg, f: Reg } => write(base) read(f) stretch(base, count) gives_all();
    TailCall { count: u8, base: Reg, f: Reg } => read(f) stretch(base, count) gives_all();
    /// Calls a method. The receiver is in `base`, followed by the arguments.
    CallMethod { count: u8, base: Reg, name: u16 } => write(base) beside(base, count) gives_all() name(name);
    /// Like `CallMethod`; a function in the record's field of that name replaces the current frame.
    TailMethod { count: u8, base: Reg, name: u16 } => write(base) beside(base, count) gives_all() name(name);
    /// Calls the function in `base` with the list of arguments after it.
    CallSpread { base: Reg } => write(base) stretch(base, 2);
    TailSpread { base: Reg } => write(base) stretch(base, 2);
    CallMethodSpread { base: Reg, name: u16 } => write(base) stretch(base, 2) name(name);
    TailMethodSpread { base: Reg, name: u16 } => write(base) stretch(base, 2) name(name);
    /// Demands that the function's value is a bool, even if a tail call computes it. A checking
    /// function goes below the frame.
    WantBool { by: u32 } =>;
    Apply { count: u8, base: Reg, builtin: u16 } => write(base) stretch(base, count) gives_all() builtin(builtin);
    /// Calls an isolated declaration. The options follow the arguments.
    Invoke { count: u8, base: Reg, global: u16 } => write(base) beside(base, count) gives_all() global(global);
    Return { from: Reg } => read(from) ends();

    /// From here to `EndTry`, an error jumps to `by`. The error goes into `error`, and its trace
    /// into `error + 1`.
    Try { error: Reg, by: i32 } => catches(by);
    EndTry =>;
    Throw { from: Reg } => read(from) ends();
    Rethrow { error: Reg } => stretch(error, 2) ends();
    NoArm { from: Reg } => read(from) ends();
    NoMatch { from: Reg } => read(from) ends();

    /// The beginning of a statement, in code for the debugger alone. All variables up to `live` can
    /// be seen there, so they keep their values.
    Mark { live: Reg, statement: u32 } => stretch(0, live);
}

/// A comparison that produces a value.
#[derive(Clone, Copy, Debug, PartialEq, Hash)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}
