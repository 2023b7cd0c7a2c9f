//! Last uses: what a variable holds is moved out of it where nothing reads the variable any more.
//!
//! A list that two registers hold is copied when it is changed, even if nobody will look at the one of them again:
//! `heap = push(heap, x)` would copy the heap with each push. So a function's registers are followed backwards from
//! where they are read, and a copy out of one that nothing reads after it becomes a move.

use crate::code::{Code, Op, Reg};

use super::registers::{Registers, followers, jumped, written};

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
        for at in (block.from..block.to).rev() {
            live.add_all(&flow.caught);
            match ops[at] {
                Op::Move { to, from } if !live.has(from) => ops[at] = Op::Take { to, from },
                // A sum that is the function's value may grow in the place of its first operand.
                Op::Add { to, a, b }
                    if to != a
                        && a != b
                        && !flow.caught.has(a)
                        && at + 1 < block.to
                        && ops[at + 1] == (Op::Return { from: to }) =>
                {
                    ops[at] = Op::Add { to: a, a, b };
                    ops[at + 1] = Op::Return { from: a };
                }
                _ => {}
            }
            live.before(ops[at], &registers);
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

    /// From what is live after an instruction to what is live before it.
    fn before(&mut self, op: Op, registers: &Registers) {
        if let Some(to) = written(op) {
            self.remove(to);
        }
        registers
            .reads(op, &mut |from, count| (from..from.saturating_add(count)).for_each(|reg| self.add(reg)));
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
                live.before(*op, registers);
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
