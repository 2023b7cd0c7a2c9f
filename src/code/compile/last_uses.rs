//! Last uses: what a variable holds is moved out of it where nothing reads the variable any more.
//!
//! A list that two registers hold is copied when it is changed, even if nobody will look at the one of them again:
//! `heap = push(heap, x)` would copy the heap with each push. So a function's registers are followed backwards from
//! where they are read, and a copy out of one that nothing reads after it becomes a move.

use crate::code::{Code, Op, PathStep, Reg};

/// Bits of what is known of a function at most: one that is longer stays as it is.
const MOST: usize = 1 << 24;

/// Makes moves of the copies in a function that has so many registers; `env` is that of its environment.
pub(super) fn take(ops: &mut [Op], registers: u32, env: Reg, code: &Code) {
    if !ops.iter().any(|op| matches!(op, Op::Move { .. } | Op::Add { .. })) {
        return;
    }
    let blocks = blocks(ops);
    let words = registers.div_ceil(64) as usize;
    if blocks.len() * words * 64 > MOST {
        return;
    }
    let registers = Registers { env, code };
    let mut flow = Flow { live_in: vec![Live::new(words); blocks.len()], caught: Live::new(words) };
    while flow.grows(ops, &blocks, &registers) {}
    for (number, block) in blocks.iter().enumerate() {
        let mut live = flow.after(number, &blocks, ops);
        for at in block.from..block.to {
            // From the last to the first.
            let at = block.to - 1 - (at - block.from);
            live.add_all(&flow.caught);
            match ops[at] {
                Op::Move { to, from } if !live.has(from) => ops[at] = Op::Take { to, from },
                // A sum that is the function's value may grow in the place of its first operand.
                Op::Add { to, a, b } if to != a && a != b && !flow.caught.has(a) => {
                    if at + 1 < block.to && ops[at + 1] == (Op::Return { from: to }) {
                        ops[at] = Op::Add { to: a, a, b };
                        ops[at + 1] = Op::Return { from: a };
                    }
                }
                _ => {}
            }
            registers.before(ops[at], &mut live);
        }
    }
}

/// Instructions that are executed one after another.
struct Block {
    from: usize,
    to: usize,
}

fn blocks(ops: &[Op]) -> Vec<Block> {
    let mut begins = vec![false; ops.len() + 1];
    begins[0] = true;
    for (at, op) in ops.iter().enumerate() {
        let next = at + 1;
        match followers(*op, at) {
            [Some(only), None] if only == next => {}
            all => {
                begins[next] = true;
                all.into_iter().flatten().for_each(|to| begins[to.min(ops.len())] = true);
            }
        }
        if let Op::Try { by, .. } = op {
            begins[jumped(at, *by).min(ops.len())] = true;
        }
    }
    let mut starts = (0..ops.len()).filter(|at| begins[*at]).peekable();
    let mut blocks = Vec::new();
    while let Some(from) = starts.next() {
        blocks.push(Block { from, to: starts.peek().copied().unwrap_or(ops.len()) });
    }
    blocks
}

fn jumped(at: usize, by: i32) -> usize {
    (at + 1).saturating_add_signed(by as isize)
}

/// What may be executed after an instruction, if it doesn't fail.
fn followers(op: Op, at: usize) -> [Option<usize>; 2] {
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

/// Registers that are read before they are written again.
#[derive(Clone, PartialEq)]
struct Live(Vec<u64>);

impl Live {
    fn new(words: usize) -> Live {
        Live(vec![0; words])
    }

    fn has(&self, reg: Reg) -> bool {
        self.0.get(reg as usize / 64).is_some_and(|word| word >> (reg % 64) & 1 == 1)
    }

    fn add(&mut self, reg: Reg) {
        if let Some(word) = self.0.get_mut(reg as usize / 64) {
            *word |= 1 << (reg % 64);
        }
    }

    fn remove(&mut self, reg: Reg) {
        if let Some(word) = self.0.get_mut(reg as usize / 64) {
            *word &= !(1 << (reg % 64));
        }
    }

    fn add_all(&mut self, other: &Live) {
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }
}

struct Flow {
    /// What is live where each block begins.
    live_in: Vec<Live>,
    /// What is live where an error is caught: any instruction may lead there.
    caught: Live,
}

impl Flow {
    /// Follows all blocks once, backwards; whether anything was not known before.
    fn grows(&mut self, ops: &[Op], blocks: &[Block], registers: &Registers) -> bool {
        let mut grown = false;
        for (number, block) in blocks.iter().enumerate().rev() {
            let mut live = self.after(number, blocks, ops);
            for op in ops[block.from..block.to].iter().rev() {
                live.add_all(&self.caught);
                registers.before(*op, &mut live);
            }
            if live != self.live_in[number] {
                self.live_in[number] = live;
                grown = true;
            }
        }
        for (at, op) in ops.iter().enumerate() {
            if let Op::Try { by, .. } = op
                && let Some(handler) = find(blocks, jumped(at, *by))
            {
                let before = self.caught.clone();
                self.caught.add_all(&self.live_in[handler]);
                grown |= before != self.caught;
            }
        }
        grown
    }

    /// What is live where a block ends.
    fn after(&self, number: usize, blocks: &[Block], ops: &[Op]) -> Live {
        let mut live = self.caught.clone();
        let last = blocks[number].to - 1;
        for next in followers(ops[last], last).into_iter().flatten() {
            if let Some(block) = find(blocks, next) {
                live.add_all(&self.live_in[block]);
            }
        }
        live
    }
}

/// The block that begins there.
fn find(blocks: &[Block], at: usize) -> Option<usize> {
    blocks.binary_search_by_key(&at, |block| block.from).ok()
}

/// What instructions read and write.
struct Registers<'a> {
    env: Reg,
    code: &'a Code,
}

impl Registers<'_> {
    /// From what is live after an instruction to what is live before it.
    fn before(&self, op: Op, live: &mut Live) {
        if let Some(to) = written(op) {
            live.remove(to);
        }
        self.reads(op, &mut |from, count| {
            for reg in from..from.saturating_add(count) {
                live.add(reg);
            }
        });
    }

    /// Tells of all registers that an instruction reads: stretches of them.
    fn reads(&self, op: Op, read: &mut impl FnMut(Reg, Reg)) {
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
            | Op::Try { .. }
            | Op::EndTry => {}
            Op::Move { from, .. }
            | Op::Take { from, .. }
            | Op::NewCell { from, .. }
            | Op::Return { from }
            | Op::Throw { from }
            | Op::NoArm { from }
            | Op::NoMatch { from } => each(&[from]),
            Op::Add { a, b, .. }
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
            | Op::Field { a, .. }
            | Op::OptionalField { a, .. }
            | Op::ReadField { a, .. }
            | Op::TestField { a, .. }
            | Op::ReadIndex { a, .. }
            | Op::ReadBack { a, .. }
            | Op::ReadMiddle { a, .. }
            | Op::ReadWithout { a, .. } => each(&[a]),
            Op::Push { list, value } | Op::Append { list, value } => each(&[list, value]),
            Op::Extend { list, values } => each(&[list, values]),
            Op::Put { record, key, value } => each(&[record, key, value]),
            Op::Merge { record, other } => each(&[record, other]),
            Op::Index { a, index, .. } => each(&[a, index]),
            Op::FieldOfElement { a, index, .. } => each(&[a.into(), index.into()]),
            Op::ElementOfElement { a, index, second, .. } => each(&[a.into(), index.into(), second.into()]),
            Op::SetField { a, value, .. } => each(&[a, value]),
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
            Op::SetCellPath { cell, base, path } | Op::AddCellPath { cell, base, path } => {
                read(cell, 1);
                read(base, self.steps(path) + 1);
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
            Op::CallMethod { count, base, .. } | Op::Invoke { count, base, .. } => {
                read(base, Reg::from(count) + 1);
            }
            Op::CallSpread { base } | Op::CallMethodSpread { base, .. } => read(base, 2),
            Op::Rethrow { error } => read(error, 2),
        }
    }

    /// How many registers the indexes of a path take.
    fn steps(&self, path: u16) -> Reg {
        let steps = &self.code.paths[path as usize];
        steps.iter().filter(|step| matches!(step, PathStep::Index)).count() as Reg
    }
}

/// The register that gets a new value from an instruction, whatever it held.
fn written(op: Op) -> Option<Reg> {
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
        | Op::OptionalField { to, .. }
        | Op::ReadField { to, .. }
        | Op::TestField { to, .. }
        | Op::ReadIndex { to, .. }
        | Op::ReadBack { to, .. }
        | Op::ReadMiddle { to, .. }
        | Op::ReadWithout { to, .. }
        | Op::Index { to, .. }
        | Op::Concat { to, .. }
        | Op::Range { to, .. }
        | Op::NewCell { to, .. }
        | Op::GetCell { to, .. }
        | Op::GetEarly { to, .. }
        | Op::Capture { to, .. }
        | Op::Environment { to, .. }
        | Op::Closure { to, .. } => Some(to),
        Op::FieldOfElement { to, .. } | Op::ElementOfElement { to, .. } => Some(to),
        Op::CallFunction { base, .. }
        | Op::CallSibling { base, .. }
        | Op::Call { base, .. }
        | Op::CallMethod { base, .. }
        | Op::CallSpread { base }
        | Op::CallMethodSpread { base, .. }
        | Op::Apply { base, .. }
        | Op::Invoke { base, .. } => Some(base),
        _ => None,
    }
}
