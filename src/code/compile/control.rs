//! Loops, and the exits from loops and from `try`.

use crate::core::{self, Head, Node, Var};
use crate::syntax::Span;

use super::{Compiler, FinallyState, Leave, LoopState, Op, Reg, TryState};

impl Compiler<'_, '_> {
    pub(super) fn looping(&mut self, l: &core::Loop, span: Span) {
        let tries = self.state().tries.len();
        let mark = self.mark();
        // Loops over ranges and lists get the next item at the end of the body, so they first jump
        // there.
        let (start, mut ends, next) = match &l.head {
            Head::While(condition) => {
                let start = self.here();
                (start, self.condition(condition, false), Op::Repeat { by: 0 })
            }
            Head::Range(var, low, high, inclusive) => {
                let base = self.alloc();
                self.expr(low, Some(base));
                let end = self.alloc();
                self.expr(high, Some(end));
                let item = self.alloc();
                self.emit(Op::RangeStart { base, inclusive: *inclusive }, low.span.to(high.span));
                self.state().locals.insert(*var, item);
                self.show_looped(*var, item, base);
                (self.jump(span), Vec::new(), Op::RangeNext { base, by: 0 })
            }
            Head::Each(var, list) => {
                let base = self.alloc();
                self.expr(list, Some(base));
                self.alloc();
                let item = self.alloc();
                self.emit(Op::EachStart { base }, list.span);
                self.state().locals.insert(*var, item);
                self.show_looped(*var, item, base);
                (self.jump(span), Vec::new(), Op::EachNext { base, by: 0 })
            }
        };
        self.state().loops.push(LoopState { label: l.label, exits: Vec::new(), agains: Vec::new(), tries });
        let body = self.mark();
        self.effect(&l.body);
        self.release(body);
        let state = self.state().loops.pop();
        let here = self.here();
        if let Some(state) = state {
            for again in state.agains {
                self.patch(again, here);
            }
            ends.extend(state.exits);
        }
        let back = self.emit(next, span);
        if let Op::Repeat { .. } = next {
            self.patch(back, start);
        } else {
            self.patch(start, back);
            self.patch(back, start + 1);
        }
        self.patch_here(ends);
        self.release(mark);
    }

    /// Leaves the enclosing constructs, through the `finally` blocks on the way.
    pub(super) fn leave(&mut self, leave: Leave, value: Option<Reg>, span: Span) {
        let target = match leave {
            Leave::Return => 0,
            Leave::Exit(label) | Leave::Again(label) => {
                self.state().loops.iter().find(|l| l.label == label).map_or(0, |l| l.tries)
            }
        };
        let mut at = self.state().tries.len();
        while at > target {
            at -= 1;
            self.emit(Op::EndTry, span);
            let state = self.state();
            if let Some(finally) = &mut state.tries[at].finally {
                let number = finally.exits.iter().position(|exit| *exit == leave).unwrap_or_else(|| {
                    finally.exits.push(leave);
                    finally.exits.len() - 1
                });
                let (kind, keep) = (finally.kind, finally.value);
                if let Some(value) = value {
                    self.emit(Op::Move { to: keep, from: value }, span);
                }
                self.emit(Op::Int { to: kind, value: number as i32 + 2 }, span);
                let jump = self.jump(span);
                if let Some(finally) = &mut self.state().tries[at].finally {
                    finally.jumps.push(jump);
                }
                return;
            }
        }
        match leave {
            Leave::Return => {
                self.emit(Op::Return { from: value.unwrap_or(0) }, span);
            }
            Leave::Exit(label) | Leave::Again(label) => {
                let jump = self.jump(span);
                if let Some(state) = self.state().loops.iter_mut().find(|l| l.label == label) {
                    match leave {
                        Leave::Exit(_) => state.exits.push(jump),
                        _ => state.agains.push(jump),
                    }
                }
            }
        }
    }

    pub(super) fn try_(&mut self, t: &core::Try, to: Reg, span: Span) {
        let Some(finally) = &t.finally else {
            self.try_catch(&t.body, t.catch.as_ref(), to, span);
            return;
        };
        // The kind of exit: 0 for normal, 1 for an error, then the other exits.
        let kind = self.alloc();
        let value = self.alloc();
        self.alloc();
        let handler = self.emit(Op::Try { error: value, by: 0 }, span);
        let state = FinallyState { kind, value, exits: Vec::new(), jumps: Vec::new() };
        self.state().tries.push(TryState { finally: Some(state) });
        self.try_catch(&t.body, t.catch.as_ref(), to, span);
        self.emit(Op::EndTry, span);
        self.emit(Op::Int { to: kind, value: 0 }, span);
        let normal = self.jump(span);
        self.patch_here(vec![handler]);
        self.emit(Op::Int { to: kind, value: 1 }, span);
        let state = self.state().tries.pop().and_then(|state| state.finally);
        let Some(state) = state else { return };
        self.patch_here(vec![normal]);
        self.patch_here(state.jumps);
        self.effect(finally);
        self.emit(Op::TestEqualInt { want: true, a: kind, value: 1 }, span);
        let no = self.jump(span);
        self.emit(Op::Rethrow { error: value }, span);
        self.patch_here(vec![no]);
        for (number, exit) in state.exits.iter().enumerate() {
            self.emit(Op::TestEqualInt { want: true, a: kind, value: number as i32 + 2 }, span);
            let no = self.jump(span);
            self.leave(*exit, Some(value), span);
            self.patch_here(vec![no]);
        }
    }

    pub(super) fn try_catch(&mut self, body: &Node, catch: Option<&(Var, Node)>, to: Reg, span: Span) {
        let Some((var, handler)) = catch else {
            self.expr(body, Some(to));
            return;
        };
        let error = self.alloc();
        self.alloc();
        let start = self.emit(Op::Try { error, by: 0 }, span);
        self.state().tries.push(TryState { finally: None });
        self.expr(body, Some(to));
        self.state().tries.pop();
        self.emit(Op::EndTry, span);
        let end = self.jump(span);
        self.patch_here(vec![start]);
        self.state().locals.insert(*var, error);
        self.state().catches.push(error);
        self.expr(handler, Some(to));
        self.state().catches.pop();
        self.patch_here(vec![end]);
    }
}
