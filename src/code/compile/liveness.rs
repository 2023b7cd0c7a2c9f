//! Last uses: a value is moved out of a register where nothing reads the register again.
//!
//! A list that two registers hold is copied when it is changed, even if one of them is never read
//! again. `heap = push(heap, x)` would copy the heap with each push. So this pass follows registers
//! backwards from their reads. A copy out of a register that is not read again becomes a move. The
//! pass also follows fields: `state.items` is moved out of `state` if only other fields are read
//! later, or if `items` is set first.

use crate::code::{Code, Constant, FunctionId, Op, Reg};

use super::registers::{Read, Registers, followers, jumped, written};

/// The greatest number of liveness bits for a function. A larger function stays as it is.
const MOST: usize = 1 << 26;

/// The greatest number of instructions to search for the source or the use of a value.
const NEAR: usize = 64;

/// Turns copies into moves in a function with so many registers. `env` is the register of its
/// environment.
pub(super) fn take(ops: &mut [Op], registers: u32, env: Reg, code: &Code) {
    if !ops.iter().any(|op| taken(*op).is_some()) {
        return;
    }
    let blocks = blocks(ops);
    let parts = Parts::of(ops, registers as usize);
    if blocks.len() * parts.words() * 64 > MOST {
        return;
    }
    let registers = Registers { env, code };
    let none = Live { bits: vec![0; parts.words()], parts: &parts };
    let mut flow = Flow { live_in: vec![none.clone(); blocks.len()], caught: none };
    while flow.grows(ops, &blocks, &registers) {}
    for (number, block) in blocks.iter().enumerate() {
        let mut live = flow.after(number, &blocks, ops);
        for at in (block.from..block.to).rev() {
            live.add_all(&flow.caught);
            if let Some((taken, source)) = taken(ops[at])
                && !live.reads(source)
            {
                match ops[at] {
                    // A sum that the function returns may grow in place of its first operand.
                    Op::Add { to, a, b } if is_value(ops, block, at, to) => {
                        ops[at] = Op::Add { to: a, a, b };
                        ops[at + 1] = Op::Return { from: a };
                    }
                    _ if pays(ops, block, at, code) => ops[at] = taken,
                    _ => {}
                }
            }
            live.before(ops[at], &registers);
        }
    }
}

/// Returns for each register of a function whether the value that it has while an instruction waits
/// is read afterwards. Marks of statements read nothing here. A function that is too large reads
/// everything.
pub fn read_after(code: &Code, function: FunctionId, at: usize) -> Vec<bool> {
    let function = &code.functions[function as usize];
    let unmarked = |op: &Op| match *op {
        Op::Mark { statement, .. } => Op::Mark { live: 0, statement },
        op => op,
    };
    let ops: Vec<Op> = function.ops.iter().map(unmarked).collect();
    let blocks = blocks(&ops);
    let parts = Parts::of(&ops, function.registers.into());
    let number = blocks.iter().position(|block| (block.from..block.to).contains(&at));
    let (Some(number), true) = (number, blocks.len() * parts.words() * 64 <= MOST) else {
        return vec![true; function.registers.into()];
    };
    let registers = Registers { env: function.params.into(), code };
    let none = Live { bits: vec![0; parts.words()], parts: &parts };
    let mut flow = Flow { live_in: vec![none.clone(); blocks.len()], caught: none };
    while flow.grows(&ops, &blocks, &registers) {}
    let mut live = flow.after(number, &blocks, &ops);
    for op in ops[at + 1..blocks[number].to].iter().rev() {
        live.add_all(&flow.caught);
        live.before(*op, &registers);
    }
    // The instruction overwrites its result once it goes on.
    if let Some(to) = written(ops[at]) {
        live.remove(to.into());
        parts.fields(to).for_each(|(part, _)| live.remove(part));
    }
    (0..function.registers).map(|reg| live.reads(Read::All(reg, 1))).collect()
}

/// Returns the moving form of an instruction and the source of the move, if it has such a form.
fn taken(op: Op) -> Option<(Op, Read)> {
    let (taken, from) = match op {
        Op::Field { to, a, name } if to != a => {
            return Some((Op::TakeField { to, a, name }, Read::Field(a, name)));
        }
        Op::Move { to, from } => (Op::Take { to, from }, from),
        Op::Forget { reg } => (Op::Null { to: reg }, reg),
        Op::Add { to, a, b } if to != a && a != b => (Op::AddTaken { to, a, b }, a),
        Op::Extend { list, values } => (Op::ExtendTaken { list, values }, values),
        Op::Merge { record, other } => (Op::MergeTaken { record, other }, other),
        Op::Update { base, a, shape } => (Op::UpdateTaken { base, a, shape }, a),
        _ => return None,
    };
    Some((taken, Read::All(from, 1)))
}

/// Whether the value that an instruction puts into a register is returned next.
fn is_value(ops: &[Op], block: &Block, at: usize, to: Reg) -> bool {
    at + 1 < block.to && ops[at + 1] == (Op::Return { from: to })
}

/// Whether a move pays off for the instruction at `at`. It does not for numbers, which are copied
/// as fast.
fn pays(ops: &[Op], block: &Block, at: usize, code: &Code) -> bool {
    match ops[at] {
        Op::Add { a, b, .. } => [a, b].into_iter().any(|reg| {
            let mut before = ops[block.from..at].iter().rev().take(NEAR);
            match before.find(|op| written(**op) == Some(reg)) {
                Some(Op::NewList { .. } | Op::Concat { .. } | Op::NewRecord { .. }) => true,
                Some(Op::Constant { index, .. }) => {
                    matches!(code.constants[*index as usize], Constant::Str(_))
                }
                _ => false,
            }
        }),
        Op::Field { to, .. } => {
            let registers = Registers { env: Reg::MAX, code };
            let mut after = ops[at + 1..block.to].iter().take(NEAR);
            after.find_map(|op| registers.hands_on(*op, to)).unwrap_or(false)
        }
        _ => true,
    }
}

/// A basic block: instructions that are executed one after another.
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

/// The parts of registers that are followed: for each register, the fields that the function reads
/// of it, and the rest.
struct Parts {
    registers: usize,
    /// The registers and names of these fields, sorted.
    fields: Vec<(Reg, u16)>,
}

impl Parts {
    fn of(ops: &[Op], registers: usize) -> Parts {
        let field = |op: &Op| match *op {
            Op::Field { a, name, .. } => Some((a, name)),
            _ => None,
        };
        let mut fields: Vec<(Reg, u16)> = ops.iter().filter_map(field).collect();
        fields.sort_unstable();
        fields.dedup();
        Parts { registers, fields }
    }

    fn words(&self) -> usize {
        (self.registers + self.fields.len()).div_ceil(64)
    }

    /// Returns the followed fields of a register, each as its part and its name.
    fn fields(&self, reg: Reg) -> impl Iterator<Item = (usize, u16)> {
        let from = self.fields.partition_point(|(known, _)| *known < reg);
        let same = self.fields[from..].iter().take_while(move |(known, _)| *known == reg);
        same.enumerate().map(move |(at, (_, name))| (self.registers + from + at, *name))
    }

    fn field(&self, reg: Reg, name: u16) -> Option<usize> {
        self.fields.binary_search(&(reg, name)).ok().map(|at| self.registers + at)
    }
}

/// The parts of registers that are read before they are written again.
#[derive(Clone)]
struct Live<'a> {
    bits: Vec<u64>,
    parts: &'a Parts,
}

impl Live<'_> {
    fn has(&self, part: usize) -> bool {
        self.bits.get(part / 64).is_some_and(|word| word >> (part % 64) & 1 == 1)
    }

    fn add(&mut self, part: usize) {
        if let Some(word) = self.bits.get_mut(part / 64) {
            *word |= 1 << (part % 64);
        }
    }

    fn remove(&mut self, part: usize) {
        if let Some(word) = self.bits.get_mut(part / 64) {
            *word &= !(1 << (part % 64));
        }
    }

    /// Whether any part of a source is live.
    fn reads(&self, source: Read) -> bool {
        match source {
            Read::Field(reg, name) => self.parts.field(reg, name).is_none_or(|part| self.has(part)),
            Read::All(reg, _) | Read::Without(reg, _) | Read::Kind(reg) => {
                self.has(reg.into()) || self.parts.fields(reg).any(|(part, _)| self.has(part))
            }
        }
    }

    /// Turns the parts that are live after an instruction into those that are live before it.
    fn before(&mut self, op: Op, registers: &Registers) {
        let parts = self.parts;
        if let Some(to) = written(op) {
            self.remove(to.into());
            parts.fields(to).for_each(|(part, _)| self.remove(part));
        }
        if let Op::SetField { a, name, .. } = op
            && let Some(part) = parts.field(a, name)
        {
            self.remove(part);
        }
        registers.reads(op, &mut |read| match read {
            Read::All(from, count) => {
                for reg in from..from.saturating_add(count) {
                    self.add(reg.into());
                    parts.fields(reg).for_each(|(part, _)| self.add(part));
                }
            }
            Read::Field(reg, name) => {
                if let Some(part) = parts.field(reg, name) {
                    self.add(part);
                }
            }
            Read::Without(reg, shape) => {
                self.add(reg.into());
                let names = &registers.code.shapes[shape as usize];
                let rest = parts.fields(reg).filter(|(_, name)| !names.contains(name));
                rest.for_each(|(part, _)| self.add(part));
            }
            Read::Kind(reg) => self.add(reg.into()),
        });
    }

    fn add_all(&mut self, other: &Live) {
        for (word, more) in self.bits.iter_mut().zip(&other.bits) {
            *word |= more;
        }
    }
}

struct Flow<'a> {
    /// The live parts at the beginning of each block.
    live_in: Vec<Live<'a>>,
    /// The live parts at error handlers, to which any instruction may lead.
    caught: Live<'a>,
}

impl<'a> Flow<'a> {
    /// Follows all blocks once, backwards. Returns whether this found new live parts.
    fn grows(&mut self, ops: &[Op], blocks: &[Block], registers: &Registers) -> bool {
        let mut grown = false;
        for (number, block) in blocks.iter().enumerate().rev() {
            let mut live = self.after(number, blocks, ops);
            for op in ops[block.from..block.to].iter().rev() {
                live.add_all(&self.caught);
                live.before(*op, registers);
            }
            if live.bits != self.live_in[number].bits {
                self.live_in[number] = live;
                grown = true;
            }
        }
        for (at, op) in ops.iter().enumerate() {
            if let Op::Try { by, .. } = op
                && let Some(handler) = find(blocks, jumped(at, *by))
            {
                let before = self.caught.bits.clone();
                self.caught.add_all(&self.live_in[handler]);
                grown |= before != self.caught.bits;
            }
        }
        grown
    }

    /// Returns the live parts at the end of a block.
    fn after(&self, number: usize, blocks: &[Block], ops: &[Op]) -> Live<'a> {
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

/// Returns the block that begins at `at`.
fn find(blocks: &[Block], at: usize) -> Option<usize> {
    blocks.binary_search_by_key(&at, |block| block.from).ok()
}
