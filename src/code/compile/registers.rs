//! What instructions read and write, and what is executed after them.

use crate::code::{Code, Op, PathStep, Reg};

/// What is to be known of a function to tell what its instructions read.
pub struct Registers<'a> {
    /// The register of its environment.
    pub env: Reg,
    pub code: &'a Code,
}

/// What an instruction reads of registers.
pub enum Read {
    /// All that so many registers from one on hold.
    All(Reg, Reg),
    /// A field of what a register holds.
    Field(Reg, u16),
    /// All of it but the fields of a shape.
    Without(Reg, u16),
    /// What kind of value it is.
    Kind(Reg),
}

impl Registers<'_> {
    /// Tells of all that an instruction reads.
    pub fn reads(&self, op: Op, tell: &mut impl FnMut(Read)) {
        match op {
            Op::Field { a, name, .. } | Op::TakeField { a, name, .. } => return tell(Read::Field(a, name)),
            Op::SetField { a, .. } | Op::CheckSpread { a } => tell(Read::Kind(a)),
            Op::Update { base, a, shape } | Op::UpdateTaken { base, a, shape } => {
                tell(Read::Without(a, shape));
                return tell(Read::All(base, self.code.shapes[shape as usize].len() as Reg));
            }
            _ => {}
        }
        self.reads_all(op, &mut |from, count| tell(Read::All(from, count)));
    }

    /// Whether an instruction hands on what a register holds, or changes it; none when it does nothing with the register.
    pub(super) fn hands_on(&self, op: Op, reg: Reg) -> Option<bool> {
        let hands_on = match op {
            Op::Take { from, .. } | Op::Move { from, .. } => from == reg,
            Op::AddTaken { a, .. } => a == reg,
            Op::Append { list, value } => list == reg || value == reg,
            Op::ExtendTaken { values, .. } => values == reg,
            Op::MergeTaken { other, .. } => other == reg,
            Op::UpdateTaken { a, .. }
            | Op::SetField { a, .. }
            | Op::SetElement { a, .. }
            | Op::SetPath { a, .. }
            | Op::AddPath { a, .. }
            | Op::AddEntry { a, .. } => a == reg,
            Op::SetFieldOfElement { a, .. } | Op::SetElementOfElement { a, .. } => Reg::from(a) == reg,
            Op::CallFunction { .. }
            | Op::TailFunction { .. }
            | Op::CallSibling { .. }
            | Op::TailSibling { .. }
            | Op::Call { .. }
            | Op::TailCall { .. }
            | Op::CallMethod { .. }
            | Op::TailMethod { .. }
            | Op::Apply { .. }
            | Op::Invoke { .. } => self.is_read(op, reg),
            _ => false,
        };
        match hands_on {
            true => Some(true),
            false => (self.is_read(op, reg) || written(op) == Some(reg)).then_some(false),
        }
    }

    fn is_read(&self, op: Op, reg: Reg) -> bool {
        let mut found = false;
        self.reads(op, &mut |read| {
            found |= match read {
                Read::All(from, count) => (from..from.saturating_add(count)).contains(&reg),
                Read::Field(from, _) | Read::Without(from, _) | Read::Kind(from) => from == reg,
            };
        });
        found
    }

    /// Tells of the registers that an instruction reads all of: stretches of them.
    fn reads_all(&self, op: Op, read: &mut impl FnMut(Reg, Reg)) {
        let mut each = |regs: &[Reg]| regs.iter().for_each(|reg| read(*reg, 1));
        match op {
            Op::Constant { .. }
            | Op::Int { .. }
            | Op::Null { .. }
            | Op::Bool { .. }
            | Op::Missing { .. }
            | Op::Global { .. }
            | Op::Jump { .. }
            | Op::Repeat { .. }
            | Op::Forget { .. }
            | Op::Try { .. }
            | Op::EndTry
            | Op::WantBool { .. }
            | Op::Field { .. }
            | Op::TakeField { .. }
            | Op::CheckSpread { .. }
            | Op::Update { .. }
            | Op::UpdateTaken { .. } => {}
            Op::Move { from, .. }
            | Op::Take { from, .. }
            | Op::NewCell { from, .. }
            | Op::Return { from }
            | Op::Throw { from }
            | Op::NoArm { from }
            | Op::NoMatch { from } => each(&[from]),
            Op::Add { a, b, .. }
            | Op::AddTaken { a, b, .. }
            | Op::Subtract { a, b, .. }
            | Op::Multiply { a, b, .. }
            | Op::Divide { a, b, .. }
            | Op::Remainder { a, b, .. }
            | Op::Quotient { a, b, .. }
            | Op::Compare { a, b, .. }
            | Op::TestEqual { a, b, .. }
            | Op::TestLess { a, b, .. }
            | Op::TestLessEqual { a, b, .. }
            | Op::TestGreater { a, b, .. }
            | Op::TestGreaterEqual { a, b, .. } => each(&[a, b]),
            Op::AddInt { a, .. }
            | Op::MultiplyInt { a, .. }
            | Op::RemainderInt { a, .. }
            | Op::CompareInt { a, .. }
            | Op::Not { a, .. }
            | Op::Negate { a, .. }
            | Op::CheckBool { a }
            | Op::TestTrue { a, .. }
            | Op::TestNull { a, .. }
            | Op::TestMissing { a, .. }
            | Op::TestEqualInt { a, .. }
            | Op::TestLessInt { a, .. }
            | Op::TestLessEqualInt { a, .. }
            | Op::TestGreaterInt { a, .. }
            | Op::TestGreaterEqualInt { a, .. }
            | Op::TestConstant { a, .. }
            | Op::TestList { a }
            | Op::TestRecord { a }
            | Op::TestLength { a, .. }
            | Op::TestAtLeast { a, .. }
            | Op::OptionalField { a, .. }
            | Op::ReadField { a, .. }
            | Op::TestField { a, .. }
            | Op::ReadIndex { a, .. }
            | Op::ReadBack { a, .. }
            | Op::ReadMiddle { a, .. }
            | Op::ReadWithout { a, .. } => each(&[a]),
            Op::Push { list, value } | Op::Append { list, value } => each(&[list, value]),
            Op::Extend { list, values } | Op::ExtendTaken { list, values } => each(&[list, values]),
            Op::Put { record, key, value } => each(&[record, key, value]),
            Op::Merge { record, other } | Op::MergeTaken { record, other } => each(&[record, other]),
            Op::Index { a, index, .. } | Op::TakeElement { a, index, .. } => each(&[a, index]),
            Op::FieldOfElement { a, index, .. } => each(&[a.into(), index.into()]),
            Op::ElementOfElement { a, index, second, .. } => each(&[a.into(), index.into(), second.into()]),
            Op::SetField { value, .. } => each(&[value]),
            Op::SetElement { a, index, value } => each(&[a, index, value]),
            Op::SetFieldOfElement { a, index, value, .. } => each(&[a.into(), index, value.into()]),
            Op::SetElementOfElement { a, index, second, value } => {
                each(&[a.into(), index, second, value.into()]);
            }
            Op::GetCell { cell, .. } | Op::GetEarly { cell, .. } => each(&[cell]),
            Op::SetCell { cell, from } => each(&[cell, from]),
            Op::AddCell { cell, b } => each(&[cell, b]),
            Op::Capture { .. } => each(&[self.env]),
            Op::Closure { env, .. } => each(&[env]),
            Op::NewList { base, count, .. }
            | Op::Concat { base, count, .. }
            | Op::Environment { base, count, .. } => read(base, count),
            Op::NewRecord { base, shape, .. } => read(base, self.code.shapes[shape as usize].len() as Reg),
            Op::SetPath { a, base, path } | Op::AddPath { a, base, path } => {
                read(a, 1);
                read(base, self.steps(path) + 1);
            }
            Op::TakePath { a, base, path, .. }
            | Op::TakeEntry { a, base, path, .. }
            | Op::IsEntry { a, base, path, .. } => {
                read(a.into(), 1);
                read(base, self.steps(path));
            }
            Op::CheckPath { a, base, path } => {
                read(a, 1);
                read(base, self.steps(path));
            }
            Op::AddEntry { a, base, path } => {
                read(a, 1);
                read(base, self.steps(path) + 2);
            }
            Op::Range { base, .. } => read(base, 2),
            // Their own three: where they are, where they end, and the variable.
            Op::RangeStart { base, .. }
            | Op::RangeNext { base, .. }
            | Op::EachStart { base }
            | Op::EachNext { base, .. } => read(base, 3),
            Op::CallFunction { count, base, .. }
            | Op::TailFunction { count, base, .. }
            | Op::Apply { count, base, .. } => read(base, count.into()),
            Op::CallSibling { count, base, .. } | Op::TailSibling { count, base, .. } => {
                read(self.env, 1);
                read(base, count.into());
            }
            Op::Call { count, base, f } | Op::TailCall { count, base, f } => {
                read(f, 1);
                read(base, count.into());
            }
            // The receiver, or the options, beside the arguments.
            Op::CallMethod { count, base, .. }
            | Op::TailMethod { count, base, .. }
            | Op::Invoke { count, base, .. } => {
                read(base, Reg::from(count) + 1);
            }
            Op::CallSpread { base }
            | Op::TailSpread { base }
            | Op::CallMethodSpread { base, .. }
            | Op::TailMethodSpread { base, .. } => read(base, 2),
            Op::Rethrow { error } => read(error, 2),
        }
    }

    /// How many registers the indexes of a path take.
    fn steps(&self, path: u16) -> Reg {
        PathStep::indexes(&self.code.paths[path as usize]) as Reg
    }
}

/// The register that gets a new value from an instruction, whatever it held.
pub fn written(op: Op) -> Option<Reg> {
    match op {
        Op::Move { to, .. }
        | Op::Take { to, .. }
        | Op::Constant { to, .. }
        | Op::Int { to, .. }
        | Op::Null { to }
        | Op::Bool { to, .. }
        | Op::Missing { to }
        | Op::Global { to, .. }
        | Op::Add { to, .. }
        | Op::AddTaken { to, .. }
        | Op::Subtract { to, .. }
        | Op::Multiply { to, .. }
        | Op::Divide { to, .. }
        | Op::Remainder { to, .. }
        | Op::Quotient { to, .. }
        | Op::AddInt { to, .. }
        | Op::MultiplyInt { to, .. }
        | Op::RemainderInt { to, .. }
        | Op::Compare { to, .. }
        | Op::CompareInt { to, .. }
        | Op::Not { to, .. }
        | Op::Negate { to, .. }
        | Op::NewList { to, .. }
        | Op::NewRecord { to, .. }
        | Op::Field { to, .. }
        | Op::TakeField { to, .. }
        | Op::OptionalField { to, .. }
        | Op::ReadField { to, .. }
        | Op::TestField { to, .. }
        | Op::ReadIndex { to, .. }
        | Op::ReadBack { to, .. }
        | Op::ReadMiddle { to, .. }
        | Op::ReadWithout { to, .. }
        | Op::Index { to, .. }
        | Op::TakeElement { to, .. }
        | Op::TakePath { to, .. }
        | Op::TakeEntry { to, .. }
        | Op::IsEntry { to, .. }
        | Op::Concat { to, .. }
        | Op::Range { to, .. }
        | Op::NewCell { to, .. }
        | Op::GetCell { to, .. }
        | Op::GetEarly { to, .. }
        | Op::Capture { to, .. }
        | Op::Environment { to, .. }
        | Op::Closure { to, .. } => Some(to),
        Op::FieldOfElement { to, .. } | Op::ElementOfElement { to, .. } => Some(to),
        Op::Update { base, .. }
        | Op::UpdateTaken { base, .. }
        | Op::CallFunction { base, .. }
        | Op::CallSibling { base, .. }
        | Op::Call { base, .. }
        | Op::CallMethod { base, .. }
        | Op::TailMethod { base, .. }
        | Op::CallSpread { base }
        | Op::TailSpread { base }
        | Op::CallMethodSpread { base, .. }
        | Op::TailMethodSpread { base, .. }
        | Op::Apply { base, .. }
        | Op::Invoke { base, .. } => Some(base),
        _ => None,
    }
}

/// Where a jump at `at` leads.
pub fn jumped(at: usize, by: i32) -> usize {
    (at + 1).saturating_add_signed(by as isize)
}

/// What may be executed after an instruction, if it doesn't fail.
pub fn followers(op: Op, at: usize) -> [Option<usize>; 2] {
    let next = Some(at + 1);
    match op {
        Op::Jump { by } | Op::Repeat { by } => [Some(jumped(at, by)), None],
        Op::RangeNext { by, .. } | Op::EachNext { by, .. } => [next, Some(jumped(at, by))],
        Op::TestTrue { .. }
        | Op::TestNull { .. }
        | Op::TestMissing { .. }
        | Op::TestEqual { .. }
        | Op::TestLess { .. }
        | Op::TestLessEqual { .. }
        | Op::TestGreater { .. }
        | Op::TestGreaterEqual { .. }
        | Op::TestEqualInt { .. }
        | Op::TestLessInt { .. }
        | Op::TestLessEqualInt { .. }
        | Op::TestGreaterInt { .. }
        | Op::TestGreaterEqualInt { .. }
        | Op::TestConstant { .. }
        | Op::TestList { .. }
        | Op::TestRecord { .. }
        | Op::TestLength { .. }
        | Op::TestAtLeast { .. }
        | Op::TestField { .. } => [next, Some(at + 2)],
        Op::Return { .. } | Op::Throw { .. } | Op::Rethrow { .. } | Op::NoArm { .. } | Op::NoMatch { .. } => {
            [None, None]
        }
        // A tail call of a builtin comes back.
        _ => [next, None],
    }
}
