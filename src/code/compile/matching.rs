//! Decision trees as tests and jumps.

use std::collections::BTreeSet;

use crate::core::{self, Decision, Form, Otherwise, Part, Test, Var};
use crate::syntax::Span;
use crate::syntax::tree::Literal;

use super::{Compiler, Op, Reg, constant};

impl Compiler<'_, '_> {
    pub(super) fn matching(&mut self, m: &core::Match, to: Reg, span: Span, tail: bool) {
        let mut taken_apart = BTreeSet::new();
        containers(&m.tree, &mut taken_apart);
        let subject = match &m.subject.form {
            Form::Var(var) if *var == m.subject_var => self.load(*var, None, span),
            _ => {
                let reg = self.alloc();
                self.expr(&m.subject, Some(reg));
                self.state().locals.insert(m.subject_var, reg);
                reg
            }
        };
        let mut arms: Vec<Vec<usize>> = vec![Vec::new(); m.arms.len()];
        let mut fails = Vec::new();
        self.decision(&m.tree, &mut arms, &mut fails, span);
        self.patch_here(fails);
        let op = match m.otherwise {
            Otherwise::NoArm => Op::NoArm { from: subject },
            Otherwise::NoMatch => Op::NoMatch { from: subject },
            Otherwise::Rethrow => {
                Op::Rethrow { error: self.state().catches.last().copied().unwrap_or(subject) }
            }
        };
        self.emit(op, span);
        let mut ends = Vec::new();
        for (number, (arm, jumps)) in m.arms.iter().zip(arms).enumerate() {
            if jumps.is_empty() {
                continue;
            }
            self.patch_here(jumps);
            let mark = self.mark();
            // The containers release the values that the variables of the pattern now hold.
            for var in &taken_apart {
                if let Some(reg) = self.state().locals.get(var).copied() {
                    self.emit(Op::Forget { reg }, span);
                }
            }
            self.show_bound(&m.tree, Some(number));
            if tail {
                self.tail_return(arm);
            } else {
                self.expr(arm, Some(to));
                ends.push(self.jump(span));
            }
            self.hide_bound(&m.tree, number);
            self.release(mark);
        }
        self.patch_here(ends);
        if m.otherwise == Otherwise::NoMatch {
            self.show_bound(&m.tree, None);
        }
    }

    pub(super) fn decision(
        &mut self,
        tree: &Decision,
        arms: &mut [Vec<usize>],
        fails: &mut Vec<usize>,
        span: Span,
    ) {
        match tree {
            Decision::Read { into, from, part, then } => {
                let a = self.load(*from, None, span);
                let to = match self.state().locals.get(into).copied() {
                    Some(reg) => reg,
                    None => {
                        let reg = self.alloc();
                        self.state().locals.insert(*into, reg);
                        reg
                    }
                };
                if let Part::Field(name) = part
                    && let Decision::Test { var, test: Test::Present, yes, no } = &**then
                    && var == into
                {
                    let name = self.unit.name(name);
                    self.emit(Op::TestField { to, a, name }, span);
                    return self.branch(yes, no, arms, fails, span);
                }
                let op = match part {
                    Part::Field(name) => Op::ReadField { to, a, name: self.unit.name(name) },
                    Part::Index(index) => Op::ReadIndex { to, a, index: *index as u16 },
                    Part::IndexBack(index) => Op::ReadBack { to, a, index: *index as u16 },
                    Part::Middle(before, after) => {
                        self.unit.code.slices.push((*before as u32, *after as u32));
                        Op::ReadMiddle { to, a, slice: (self.unit.code.slices.len() - 1) as u16 }
                    }
                    Part::After(text) => Op::ReadAfter { to, a, name: self.unit.name(text) },
                    Part::Without(names) => {
                        let names = names.iter().map(|name| self.unit.name(name)).collect();
                        Op::ReadWithout { to, a, shape: self.unit.shape(names) }
                    }
                };
                self.emit(op, span);
                self.decision(then, arms, fails, span);
            }
            Decision::Test { var, test, yes, no } => {
                let a = self.load(*var, None, span);
                let op = match test {
                    Test::Equal(literal) => self.is_equal(a, literal),
                    Test::OneOf(literals) => {
                        let fail = self.one_of(a, literals, span);
                        self.decision(yes, arms, fails, span);
                        self.patch_here(fail);
                        return self.decision(no, arms, fails, span);
                    }
                    Test::Range(low, high) => {
                        self.unit.code.ranges.push((*low, *high));
                        Op::TestRange { a, range: (self.unit.code.ranges.len() - 1) as u32 }
                    }
                    Test::Prefix(text) => Op::TestPrefix { a, name: self.unit.name(text) },
                    Test::Kind(kind) => Op::TestKind { a, kind: *kind as u8 },
                    Test::IsList => Op::TestList { a },
                    Test::IsRecord => Op::TestRecord { a },
                    Test::Present => Op::TestMissing { want: false, a },
                    Test::Length(n) => Op::TestLength { a, length: *n as u32 },
                    Test::AtLeast(n) => Op::TestAtLeast { a, length: *n as u32 },
                };
                self.emit(op, span);
                self.branch(yes, no, arms, fails, span);
            }
            Decision::Arm { binds, guard, arm } => {
                for (var, from) in binds {
                    let mark = self.mark();
                    let from = self.load(*from, None, span);
                    self.bind_register(*var, from, span);
                    self.release(mark);
                }
                match guard {
                    None => {
                        let jump = self.jump(span);
                        arms[*arm].push(jump);
                    }
                    Some((guard, no)) => {
                        let fail = self.condition(guard, false);
                        let jump = self.jump(span);
                        arms[*arm].push(jump);
                        self.patch_here(fail);
                        self.decision(no, arms, fails, span);
                    }
                }
            }
            Decision::Either(a, b) => {
                let mut here = Vec::new();
                self.decision(a, arms, &mut here, span);
                self.patch_here(here);
                self.decision(b, arms, fails, span);
            }
            Decision::Fail => fails.push(self.jump(span)),
        }
    }

    /// Emits tests whether a value is equal to one of several literals. Returns the jump that is taken
    /// if it is equal to none.
    fn one_of(&mut self, a: Reg, literals: &[Literal], span: Span) -> Vec<usize> {
        let Some((last, others)) = literals.split_last() else { return vec![self.jump(span)] };
        let mut found = Vec::new();
        for literal in others {
            let op = self.is_equal(a, literal);
            self.emit(op, span);
            let next = self.jump(span);
            found.push(self.jump(span));
            self.patch_here(vec![next]);
        }
        let op = self.is_equal(a, last);
        self.emit(op, span);
        let fail = vec![self.jump(span)];
        self.patch_here(found);
        fail
    }

    /// Returns the test whether a value is equal to a literal.
    fn is_equal(&mut self, a: Reg, literal: &Literal) -> Op {
        match literal {
            Literal::Null => Op::TestNull { want: true, a },
            literal => {
                let index = self.unit.constant(constant(literal));
                Op::TestConstant { a, index }
            }
        }
    }

    /// Compiles the jump after a test and both of its outcomes.
    fn branch(
        &mut self,
        yes: &Decision,
        no: &Decision,
        arms: &mut [Vec<usize>],
        fails: &mut Vec<usize>,
        span: Span,
    ) {
        let jump = self.jump(span);
        self.decision(yes, arms, fails, span);
        self.patch_here(vec![jump]);
        self.decision(no, arms, fails, span);
    }
}

/// Collects the variables of a match from which parts are read.
fn containers(tree: &Decision, found: &mut BTreeSet<Var>) {
    match tree {
        Decision::Read { from, then, .. } => {
            found.insert(*from);
            containers(then, found);
        }
        Decision::Test { yes: a, no: b, .. } | Decision::Either(a, b) => {
            containers(a, found);
            containers(b, found);
        }
        Decision::Arm { guard: Some((_, no)), .. } => containers(no, found),
        Decision::Arm { .. } | Decision::Fail => {}
    }
}
