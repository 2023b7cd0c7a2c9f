//! Functions, closures and calls.

use std::collections::HashMap;
use std::rc::Rc;

use crate::check::{GlobalId, GlobalKind};
use crate::core::{self, Arg, Form, Node, Prim, Var};
use crate::syntax::Span;

use super::expressions::{any_within, sets};
use super::{Captures, Compiler, FunctionId, Group, Op, Reg, Surroundings, Target};

impl Compiler<'_, '_> {
    /// Puts the environment with the captured variables into `to`.
    pub(super) fn environment(&mut self, captures: &Captures, to: Reg, span: Span) {
        let captured = captures.borrow().clone();
        let mark = self.mark();
        let base = self.mark().min(u16::MAX as u32) as Reg;
        for var in &captured {
            let reg = self.alloc();
            self.load(*var, Some(reg), span);
        }
        if captured.is_empty() {
            self.emit(Op::Null { to }, span);
        } else {
            self.emit(Op::Environment { to, base, count: captured.len() as Reg }, span);
        }
        self.release(mark);
    }

    pub(super) fn group(&mut self, group: &[(Var, Rc<core::Function>)], span: Span) {
        let captures: Captures = Rc::default();
        let siblings: HashMap<Var, FunctionId> =
            group.iter().map(|(var, _)| (*var, self.unit.reserve())).collect();
        for (var, f) in group {
            let group = Group { captures: captures.clone(), siblings: siblings.clone() };
            self.function(f, siblings[var], Surroundings::Group(group));
        }
        let env = self.alloc();
        self.environment(&captures, env, span);
        for (var, _) in group {
            let reg = self.alloc();
            self.emit(Op::Closure { to: reg, env, function: siblings[var] as u16 }, span);
            self.state().locals.insert(*var, reg);
            self.show(*var, reg, true);
        }
    }

    pub(super) fn plain(args: &[Arg]) -> Option<Vec<&Node>> {
        args.iter()
            .map(|arg| match arg {
                Arg::Item(node) => Some(node),
                Arg::Spread(_) => None,
            })
            .collect()
    }

    pub(super) fn spread_list(&mut self, args: &[Arg], to: Reg, span: Span) {
        let spreads: Vec<bool> = args.iter().map(|arg| matches!(arg, Arg::Spread(_))).collect();
        let nodes: Vec<Node> = args
            .iter()
            .map(|arg| match arg {
                Arg::Item(node) | Arg::Spread(node) => node.clone(),
            })
            .collect();
        self.list(&spreads, &nodes, to, span);
    }

    /// Emits a call. Returns the register of its result.
    pub(super) fn call_at(&mut self, f: &Node, args: &[Arg], tail: bool, span: Span) -> Reg {
        let Some(plain) = Self::plain(args) else {
            let base = self.place(f);
            let list = self.alloc();
            self.spread_list(args, list, span);
            self.emit(if tail { Op::TailSpread { base } } else { Op::CallSpread { base } }, span);
            return base;
        };
        let count = plain.len().min(255) as u8;
        if let Form::Global(global) = &f.form
            && let Some(id) = self.direct(*global, plain.len())
        {
            let base = self.consecutive(plain.iter().copied());
            let op = match tail {
                true => Op::TailFunction { count, base, function: id },
                false => Op::CallFunction { count, base, function: id },
            };
            self.emit(op, span);
            return base;
        }
        if let Form::Var(var) = &f.form
            && !self.state().locals.contains_key(var)
            && let Some(id) = self.state().siblings.get(var).copied()
        {
            let base = self.consecutive(plain.iter().copied());
            let function = id as u16;
            let op = match tail {
                true => Op::TailSibling { count, base, function },
                false => Op::CallSibling { count, base, function },
            };
            self.emit(op, span);
            return base;
        }
        let f = match &f.form {
            Form::Var(var) if !plain.iter().any(|arg| sets(arg, *var)) => self.expr(f, None),
            _ => self.place(f),
        };
        let base = self.consecutive(plain.iter().copied());
        self.emit(if tail { Op::TailCall { count, base, f } } else { Op::Call { count, base, f } }, span);
        base
    }

    /// Returns the function that a global names, if it takes `count` arguments.
    pub(super) fn direct(&mut self, global: GlobalId, count: usize) -> Option<FunctionId> {
        let info = &self.unit.program.globals[global];
        match self.unit.globals.get(&global)? {
            Target::Function(id) if (info.min..=info.max).contains(&count) => Some(*id),
            Target::Isolated(index)
                if (info.min..=info.max + 1).contains(&count) && info.kind != GlobalKind::Entity
                    || count == 1 =>
            {
                Some(self.unit.code.isolated[*index].stub)
            }
            _ => None,
        }
    }

    /// Emits a method call. Returns the register of its result.
    pub(super) fn method(&mut self, value: &Node, name: &str, args: &[Arg], tail: bool, span: Span) -> Reg {
        let name = self.unit.name(name);
        let base = self.place(value);
        match Self::plain(args) {
            Some(plain) => {
                for node in &plain {
                    self.place(node);
                }
                let count = plain.len().min(255) as u8;
                let op = match tail {
                    true => Op::TailMethod { count, base, name },
                    false => Op::CallMethod { count, base, name },
                };
                self.emit(op, span);
            }
            None => {
                let list = self.alloc();
                self.spread_list(args, list, span);
                let op = match tail {
                    true => Op::TailMethodSpread { base, name },
                    false => Op::CallMethodSpread { base, name },
                };
                self.emit(op, span);
            }
        }
        base
    }

    /// Compiles a node whose value the function returns. Returns `None` if the code never falls
    /// through.
    pub(super) fn tail(&mut self, node: &Node) -> Option<Reg> {
        let span = node.span;
        if !self.state().tries.is_empty() {
            return Some(self.expr(node, None));
        }
        match &node.form {
            Form::Seq(nodes) => {
                let (last, rest) = nodes.split_last()?;
                let mark = self.mark();
                for node in rest {
                    self.effect(node);
                }
                let result = self.tail(last);
                if result.is_none() {
                    self.release(mark);
                }
                result
            }
            Form::If(condition, then, other)
                if !matches!(then.form, Form::Const(_)) || !matches!(other.form, Form::Const(_)) =>
            {
                let no = self.condition(condition, false);
                let mark = self.mark();
                self.tail_return(then);
                self.release(mark);
                self.patch_here(no);
                self.tail_return(other);
                self.release(mark);
                None
            }
            Form::Call(f, args) => {
                // A call that waits keeps its caller's frame: errors and histories name the place
                // of the call.
                let waits = matches!(f.form, Form::Global(global) if matches!(self.unit.globals.get(&global), Some(Target::Isolated(_))));
                let tail = !waits && !self.state().keeps_frame;
                let base = self.call_at(f, args, tail, span);
                // A tail call of a builtin's value returns here, like any other call.
                Some(base)
            }
            Form::Method(value, name, args) => {
                let tail = !self.state().keeps_frame;
                Some(self.method(value, name, args, tail, span))
            }
            // The right side of `&&` and `||`: a frame below the current one checks that its value
            // is a bool.
            Form::Prim(Prim::Bool, args) if !self.state().keeps_frame && ends_in_call(&args[0]) => {
                if leaves(&args[0]) {
                    return Some(self.expr(node, None));
                }
                let by = self.unit.bool_checker();
                self.emit(Op::WantBool { by }, span);
                self.tail(&args[0])
            }
            Form::Return(value) => self.tail(value),
            Form::Match(m) => {
                self.prepare(&m.tree);
                let mark = self.mark();
                let to = self.alloc();
                self.matching(m, to, span, true);
                self.release(mark);
                None
            }
            _ => Some(self.expr(node, None)),
        }
    }

    pub(super) fn tail_return(&mut self, node: &Node) {
        if let Some(from) = self.tail(node) {
            self.emit(Op::Return { from }, node.span);
        }
    }
}

/// Whether a node's value may come from a call that replaces the frame.
fn ends_in_call(node: &Node) -> bool {
    match &node.form {
        Form::Call(..) | Form::Method(..) => true,
        Form::Seq(nodes) => nodes.last().is_some_and(ends_in_call),
        Form::If(_, then, other) => ends_in_call(then) || ends_in_call(other),
        Form::Match(m) => m.arms.iter().any(ends_in_call),
        Form::Prim(Prim::Bool, args) => ends_in_call(&args[0]),
        _ => false,
    }
}

/// Whether a node's code may jump out of the node.
fn leaves(node: &Node) -> bool {
    matches!(node.form, Form::Return(_) | Form::Exit(_) | Form::Again(_)) || any_within(node, &mut leaves)
}
