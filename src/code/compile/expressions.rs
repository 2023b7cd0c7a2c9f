//! The compilation of expressions into registers.

use std::collections::HashMap;
use std::rc::Rc;

use crate::check::GlobalId;
use crate::core::{Decision, Form, Key, Node, Otherwise, Prim, Var};
use crate::syntax::Span;
use crate::syntax::tree::{BinaryOp, Literal};

use super::conditions::comparison;
use super::{
    Captures, Compiler, Constant, FunctionId, Group, Leave, Op, Reg, Surroundings, Target, constant,
};

impl Compiler<'_, '_> {
    /// Compiles a node, and returns the register of its value: `to` if that is given, else any
    /// register, which may be a variable's own.
    pub(super) fn expr(&mut self, node: &Node, to: Option<Reg>) -> Reg {
        let span = node.span;
        if let Form::Var(var) = &node.form {
            return self.read(*var, to, span);
        }
        let Some(to) = to else { return self.fresh(node) };
        let mark = self.mark();
        self.into(node, to);
        self.release(mark);
        to
    }

    /// Compiles a node into a register that nothing else uses. For a call, this is the register
    /// where the call leaves its result.
    fn fresh(&mut self, node: &Node) -> Reg {
        let reg = match self.left_in(node) {
            Some(reg) => reg,
            None => {
                let to = self.alloc();
                self.into(node, to);
                to
            }
        };
        self.release(u32::from(reg) + 1);
        reg
    }

    /// Compiles a node into the next register.
    pub(super) fn place(&mut self, node: &Node) -> Reg {
        if let Form::Var(_) = node.form {
            let reg = self.alloc();
            return self.expr(node, Some(reg));
        }
        let next = self.mark().min(u32::from(u16::MAX)) as Reg;
        let reg = self.fresh(node);
        self.move_to(reg, next, node.span);
        self.release(u32::from(next) + 1);
        next
    }

    /// Compiles a node whose value arrives in a temporary of its own: a call's first register, or
    /// the register of the container from which a part is read. The part overwrites the container,
    /// so the container is no longer held. Returns `None` for other nodes.
    fn left_in(&mut self, node: &Node) -> Option<Reg> {
        let span = node.span;
        let part_of = |container: &Node| !matches!(container.form, Form::Var(_));
        if let Some(reg) = self.taken(node) {
            return Some(reg);
        }
        match &node.form {
            Form::Call(f, args) => Some(self.call_at(f, args, false, span)),
            Form::Method(value, name, args) => Some(self.method(value, name, args, false, span)),
            Form::Apply(id, args) => {
                let base = self.consecutive(args);
                let (builtin, count) = (id.0, args.len() as u8);
                self.emit(Op::Apply { count, base, builtin }, span);
                Some(base)
            }
            Form::Invoke(global, args, options) => {
                // The options follow the arguments.
                let base = self.consecutive(args.iter().chain([&**options]));
                let index = match self.unit.globals.get(global) {
                    Some(Target::Isolated(index)) => *index as u16,
                    _ => 0,
                };
                self.emit(Op::Invoke { count: args.len() as u8, base, global: index }, span);
                Some(base)
            }
            Form::Prim(Prim::Field(name), args) if let Some((list, index)) = self.element(&args[0]) => {
                let name = self.unit.name(name);
                let to = self.alloc();
                self.emit(Op::FieldOfElement { to, a: list, index, name }, span);
                Some(to)
            }
            Form::Prim(Prim::Index, args)
                if let Some((list, index)) = self.element(&args[0])
                    && let Some(second) = self.local(&args[1]) =>
            {
                let to = self.alloc();
                self.emit(Op::ElementOfElement { to, a: list, index, second }, span);
                Some(to)
            }
            Form::Prim(Prim::Field(name), args) if part_of(&args[0]) => {
                let a = self.fresh(&args[0]);
                let name = self.unit.name(name);
                self.emit(Op::Field { to: a, a, name }, span);
                Some(a)
            }
            Form::Prim(Prim::Index, args) if part_of(&args[0]) => {
                let a = self.fresh(&args[0]);
                let index = self.expr(&args[1], None);
                self.emit(Op::Index { to: a, a, index }, span);
                Some(a)
            }
            _ => None,
        }
    }

    /// Returns the registers of a list and an index, if the node is `list[index]` with two
    /// variables.
    fn element(&mut self, node: &Node) -> Option<(u8, u8)> {
        let Form::Prim(Prim::Index, args) = &node.form else { return None };
        Some((self.local(&args[0])?, self.local(&args[1])?))
    }

    /// Returns the register of a plain variable, if its number fits into a byte.
    fn local(&mut self, node: &Node) -> Option<u8> {
        let Form::Var(var) = &node.form else { return None };
        let info = &self.variables.vars[*var as usize];
        if info.cell || info.early {
            return None;
        }
        self.state().locals.get(var).and_then(|reg| u8::try_from(*reg).ok())
    }

    /// Compiles a node for its effects only.
    pub(super) fn effect(&mut self, node: &Node) {
        match &node.form {
            Form::Const(_) | Form::Var(_) | Form::Global(_) | Form::Builtin(_) => {
                // A read of a variable before its declaration fails even if the value isn't used.
                if let Form::Var(var) = &node.form
                    && self.variables.vars[*var as usize].early
                {
                    let mark = self.mark();
                    self.read(*var, None, node.span);
                    self.release(mark);
                }
            }
            Form::Bind(var, value) => self.bind(*var, value, node.span),
            Form::Functions(group) => self.group(group, node.span),
            Form::Declare(vars) => self.declare(vars, node.span),
            Form::Mark => self.statement(node.span),
            Form::Match(m) if m.otherwise == Otherwise::NoMatch => {
                self.prepare(&m.tree);
                let mark = self.mark();
                let to = self.alloc();
                self.matching(m, to, node.span, false);
                self.release(mark);
            }
            Form::Set(var, steps, value) => self.set(*var, steps, value, node.span),
            Form::Loop(l) => self.looping(l, node.span),
            Form::Seq(nodes) => {
                let mark = self.mark();
                for node in nodes {
                    self.effect(node);
                }
                self.release(mark);
            }
            Form::If(condition, then, other) => {
                let mark = self.mark();
                let no = self.condition(condition, false);
                self.effect(then);
                self.release(mark);
                if let Form::Const(_) = other.form {
                    self.patch_here(no);
                    return;
                }
                let end = self.jump(node.span);
                self.patch_here(no);
                self.effect(other);
                self.release(mark);
                self.patch_here(vec![end]);
            }
            _ => {
                let mark = self.mark();
                self.fresh(node);
                self.release(mark);
            }
        }
    }

    /// Allocates the variables of a pattern in the enclosing block, which keeps them.
    pub(super) fn prepare(&mut self, tree: &Decision) {
        match tree {
            Decision::Read { then, .. } => self.prepare(then),
            Decision::Test { yes, no, .. } => {
                self.prepare(yes);
                self.prepare(no);
            }
            Decision::Arm { binds, guard, .. } => {
                for (var, _) in binds {
                    if !self.variables.vars[*var as usize].early && !self.state().locals.contains_key(var) {
                        let reg = self.alloc();
                        self.state().locals.insert(*var, reg);
                    }
                }
                if let Some((_, no)) = guard {
                    self.prepare(no);
                }
            }
            Decision::Either(a, b) => {
                self.prepare(a);
                self.prepare(b);
            }
            Decision::Fail => {}
        }
    }

    pub(super) fn declare(&mut self, vars: &[Var], span: Span) {
        for var in vars {
            let reg = self.alloc();
            self.emit(Op::Missing { to: reg }, span);
            self.emit(Op::NewCell { to: reg, from: reg }, span);
            self.state().locals.insert(*var, reg);
            self.show(*var, reg, false);
        }
    }

    pub(super) fn into(&mut self, node: &Node, to: Reg) {
        let span = node.span;
        match &node.form {
            Form::Const(literal) => self.literal(literal, to, span),
            Form::Var(var) => {
                self.read(*var, Some(to), span);
            }
            Form::Global(global) => self.global(*global, to, span),
            Form::Builtin(id) => {
                let index = self.unit.constant(Constant::Builtin(id.0));
                self.emit(Op::Constant { to, index }, span);
            }
            Form::Seq(nodes) => self.seq(nodes, to, span),
            Form::Bind(..) | Form::Functions(_) | Form::Declare(_) | Form::Mark => {
                self.effect(node);
                self.emit(Op::Null { to }, span);
            }
            Form::Set(var, steps, value) => {
                self.set(*var, steps, value, span);
                self.emit(Op::Null { to }, span);
            }
            Form::Lambda(f) => {
                let captures: Captures = Rc::default();
                let id = self.unit.reserve();
                let group = Group { captures: captures.clone(), siblings: HashMap::new() };
                self.function(f, id, Surroundings::Group(group));
                if captures.borrow().is_empty() {
                    self.unit.code.functions[id as usize].has_env = false;
                    return self.function_value(id, to, span);
                }
                self.environment(&captures, to, span);
                self.emit(Op::Closure { to, env: to, function: id as u16 }, span);
            }
            Form::Call(..) | Form::Method(..) | Form::Apply(..) | Form::Invoke(..) => {
                let from = self.fresh(node);
                self.move_to(from, to, span);
            }
            Form::Prim(Prim::Field(_) | Prim::Index, args) if !matches!(args[0].form, Form::Var(_)) => {
                let from = self.fresh(node);
                self.move_to(from, to, span);
            }
            Form::Prim(prim, args) => self.prim(prim, args, to, span),
            Form::If(condition, then, other) => {
                let no = self.condition(condition, false);
                self.expr(then, Some(to));
                let end = self.jump(span);
                self.patch_here(no);
                self.expr(other, Some(to));
                self.patch_here(vec![end]);
            }
            Form::Loop(l) => {
                self.looping(l, span);
                self.emit(Op::Null { to }, span);
            }
            Form::Exit(label) => self.leave(Leave::Exit(*label), None, span),
            Form::Again(label) => self.leave(Leave::Again(*label), None, span),
            // Outside of `try`, a `return` is in tail position wherever it stands.
            Form::Return(value) if self.state().tries.is_empty() => self.tail_return(value),
            Form::Return(value) => {
                let value = self.expr(value, None);
                self.leave(Leave::Return, Some(value), span);
            }
            Form::Match(m) => {
                self.prepare(&m.tree);
                self.matching(m, to, span, false);
            }
            Form::Try(t) => self.try_(t, to, span),
            Form::Throw(value) => {
                let from = self.expr(value, None);
                self.emit(Op::Throw { from }, span);
            }
        }
    }

    /// Moves the value of a temporary.
    pub(super) fn move_to(&mut self, from: Reg, to: Reg, span: Span) {
        if from != to {
            self.emit(Op::Take { to, from }, span);
        }
    }

    pub(super) fn literal(&mut self, literal: &Literal, to: Reg, span: Span) {
        let constant = match literal {
            Literal::Null => {
                self.emit(Op::Null { to }, span);
                return;
            }
            Literal::Bool(value) => {
                self.emit(Op::Bool { to, value: *value }, span);
                return;
            }
            Literal::Int(n) => match i32::try_from(*n) {
                Ok(value) => {
                    self.emit(Op::Int { to, value }, span);
                    return;
                }
                Err(_) => Constant::Int(*n),
            },
            other => constant(other),
        };
        let index = self.unit.constant(constant);
        self.emit(Op::Constant { to, index }, span);
    }

    pub(super) fn global(&mut self, global: GlobalId, to: Reg, span: Span) {
        match self.unit.globals.get(&global).copied() {
            Some(Target::Function(id)) => self.function_value(id, to, span),
            Some(Target::Const(index, _)) => {
                self.emit(Op::Global { to, index: index as u32 }, span);
            }
            Some(Target::Isolated(index)) => {
                let stub = self.unit.code.isolated[index].stub;
                self.function_value(stub, to, span);
            }
            None => {
                self.emit(Op::Null { to }, span);
            }
        }
    }

    pub(super) fn function_value(&mut self, id: FunctionId, to: Reg, span: Span) {
        let index = self.unit.constant(Constant::Function(id));
        self.emit(Op::Constant { to, index }, span);
    }

    pub(super) fn seq(&mut self, nodes: &[Node], to: Reg, span: Span) {
        let Some((last, rest)) = nodes.split_last() else {
            self.emit(Op::Null { to }, span);
            return;
        };
        for node in rest {
            self.effect(node);
        }
        self.value_into(last, to);
    }

    pub(super) fn value_into(&mut self, node: &Node, to: Reg) {
        self.expr(node, Some(to));
    }

    /// Compiles nodes into consecutive registers. Returns the first register.
    pub(super) fn consecutive<'n>(&mut self, nodes: impl IntoIterator<Item = &'n Node>) -> Reg {
        let base = self.mark();
        for node in nodes {
            self.place(node);
        }
        if self.mark() == base {
            return self.alloc();
        }
        base.min(u16::MAX as u32) as Reg
    }

    pub(super) fn operands(&mut self, a: &Node, b: &Node) -> (Reg, Reg) {
        let first = match &a.form {
            Form::Var(var) if sets(b, *var) => {
                let reg = self.alloc();
                self.expr(a, Some(reg))
            }
            _ => self.expr(a, None),
        };
        let second = self.expr(b, None);
        (first, second)
    }

    pub(super) fn prim(&mut self, prim: &Prim, args: &[Node], to: Reg, span: Span) {
        match (prim, args) {
            (Prim::Binary(op), [a, b]) => {
                if let (BinaryOp::Add | BinaryOp::Subtract, Form::Const(Literal::Int(n))) = (op, &b.form)
                    && let Ok(n) = i16::try_from(*n)
                    && n != i16::MIN
                {
                    let a = self.expr(a, None);
                    let value = if *op == BinaryOp::Add { n } else { -n };
                    self.emit(Op::AddInt { to, a, value }, span);
                    return;
                }
                if let (BinaryOp::Multiply | BinaryOp::Remainder, Form::Const(Literal::Int(n))) =
                    (op, &b.form)
                    && let Ok(value) = i16::try_from(*n)
                    && (value > 0 || *op == BinaryOp::Multiply)
                {
                    let a = self.expr(a, None);
                    self.emit(
                        match op {
                            BinaryOp::Multiply => Op::MultiplyInt { to, a, value },
                            _ => Op::RemainderInt { to, a, value },
                        },
                        span,
                    );
                    return;
                }
                let how = comparison(*op);
                if let (Some(how), Form::Const(Literal::Int(n))) = (how, &b.form)
                    && let Ok(value) = i16::try_from(*n)
                {
                    let a = self.expr(a, None);
                    self.emit(Op::CompareInt { how, to, a, value }, span);
                    return;
                }
                let (a, b) = self.operands(a, b);
                if let Some(how) = how {
                    self.emit(Op::Compare { how, to, a, b }, span);
                    return;
                }
                let op = match op {
                    BinaryOp::Add => Op::Add { to, a, b },
                    BinaryOp::Subtract => Op::Subtract { to, a, b },
                    BinaryOp::Multiply => Op::Multiply { to, a, b },
                    BinaryOp::Divide => Op::Divide { to, a, b },
                    _ => Op::Remainder { to, a, b },
                };
                self.emit(op, span);
            }
            (Prim::Quotient, [a, b]) => {
                let (a, b) = self.operands(a, b);
                self.emit(Op::Quotient { to, a, b }, span);
            }
            (Prim::Not, [a]) => {
                let a = self.expr(a, None);
                self.emit(Op::Not { to, a }, span);
            }
            (Prim::Negate, [a]) => {
                let a = self.expr(a, None);
                self.emit(Op::Negate { to, a }, span);
            }
            (Prim::Bool, [a]) => {
                self.expr(a, Some(to));
                self.emit(Op::CheckBool { a: to }, span);
            }
            (Prim::IsNull | Prim::IsMissing, [a]) => {
                let a = self.expr(a, None);
                let want = true;
                self.emit(
                    if *prim == Prim::IsNull {
                        Op::TestNull { want, a }
                    } else {
                        Op::TestMissing { want, a }
                    },
                    span,
                );
                let no = self.jump(span);
                self.emit(Op::Bool { to, value: true }, span);
                let end = self.jump(span);
                self.patch_here(vec![no]);
                self.emit(Op::Bool { to, value: false }, span);
                self.patch_here(vec![end]);
            }
            (Prim::Missing, _) => {
                self.emit(Op::Missing { to }, span);
            }
            (Prim::List(spreads), items) => self.list(spreads, items, to, span),
            (Prim::Record(keys), values) => self.record(keys, values, to, span),
            (Prim::Field(name), [a]) => {
                let a = self.expr(a, None);
                let name = self.unit.name(name);
                self.emit(Op::Field { to, a, name }, span);
            }
            (Prim::OptionalField(name), [a]) => {
                let a = self.expr(a, None);
                let name = self.unit.name(name);
                self.emit(Op::OptionalField { to, a, name }, span);
            }
            (Prim::Index, [a, index]) => {
                let (a, index) = self.operands(a, index);
                self.emit(Op::Index { to, a, index }, span);
            }
            (Prim::Concat, parts) => {
                let base = self.consecutive(parts);
                self.emit(Op::Concat { to, base, count: parts.len() as Reg }, span);
            }
            (Prim::Range(inclusive), args) => {
                let base = self.consecutive(args);
                self.emit(Op::Range { to, base, inclusive: *inclusive }, span);
            }
            _ => {
                self.emit(Op::Null { to }, span);
            }
        }
    }

    pub(super) fn list(&mut self, spreads: &[bool], items: &[Node], to: Reg, span: Span) {
        const AT_ONCE: usize = 64;
        if !spreads.contains(&true) && items.len() <= AT_ONCE {
            let base = self.consecutive(items);
            self.emit(Op::NewList { to, base, count: items.len() as Reg }, span);
            return;
        }
        let list = self.alloc();
        self.emit(Op::NewList { to: list, base: list, count: 0 }, span);
        for (item, spread) in items.iter().zip(spreads) {
            let mark = self.mark();
            let value = self.expr(item, None);
            let op = if *spread { Op::Extend { list, values: value } } else { Op::Push { list, value } };
            self.emit(op, item.span);
            self.release(mark);
        }
        self.move_to(list, to, span);
    }

    pub(super) fn record(&mut self, keys: &[Key], values: &[Node], to: Reg, span: Span) {
        let plain: Option<Vec<u16>> = keys
            .iter()
            .map(|key| match key {
                Key::Named(name) => Some(self.unit.name(name)),
                _ => None,
            })
            .collect();
        if let Some(names) = plain
            && names.len() <= 64
        {
            let base = self.consecutive(values);
            let shape = self.unit.shape(names);
            self.emit(Op::NewRecord { to, base, shape }, span);
            return;
        }
        if self.update(keys, values, to, span) {
            return;
        }
        let record = self.alloc();
        let shape = self.unit.shape(Vec::new());
        self.emit(Op::NewRecord { to: record, base: record, shape }, span);
        let mut values = values.iter();
        for key in keys {
            let mark = self.mark();
            let key_reg = match key {
                Key::Named(name) => {
                    let reg = self.alloc();
                    self.literal(&Literal::Str(name.clone()), reg, span);
                    reg
                }
                Key::Computed => match values.next() {
                    Some(key) => {
                        let reg = self.alloc();
                        self.expr(key, Some(reg))
                    }
                    None => continue,
                },
                Key::Spread => 0,
            };
            let Some(node) = values.next() else { continue };
            let value = self.expr(node, None);
            let op = match key {
                Key::Spread => Op::Merge { record, other: value },
                _ => Op::Put { record, key: key_reg, value },
            };
            self.emit(op, node.span);
            self.release(mark);
        }
        self.move_to(record, to, span);
    }

    /// Compiles `{..given, name: value}`, a copy of a record with some fields set. Returns whether
    /// the keys have this form.
    fn update(&mut self, keys: &[Key], values: &[Node], to: Reg, span: Span) -> bool {
        let ([Key::Spread, keys @ ..], [given, values @ ..]) = (keys, values) else { return false };
        let mut names = Vec::new();
        for key in keys {
            let Key::Named(name) = key else { return false };
            names.push(self.unit.name(name));
        }
        if names.is_empty() || names.len() > 64 {
            return false;
        }
        let a = match given.form {
            Form::Var(var) if values.iter().any(|value| sets(value, var)) => self.place(given),
            _ => self.expr(given, None),
        };
        self.emit(Op::CheckSpread { a }, given.span);
        let base = self.consecutive(values);
        let shape = self.unit.shape(names);
        self.emit(Op::Update { base, a, shape }, span);
        self.move_to(base, to, span);
        true
    }
}

/// Whether evaluating a node may run other code, which could change a cell.
pub(super) fn calls(node: &Node) -> bool {
    match &node.form {
        Form::Call(..) | Form::Method(..) | Form::Apply(..) | Form::Invoke(..) | Form::Loop(_) => true,
        _ => any_within(node, &mut calls),
    }
}

/// Whether a node's own code may set a variable.
pub(super) fn sets(node: &Node, var: Var) -> bool {
    node.sets(var)
}

pub(super) fn any_within(node: &Node, holds: &mut dyn FnMut(&Node) -> bool) -> bool {
    node.any_within(holds)
}
