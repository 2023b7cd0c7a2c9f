//! Assignments to variables and to parts of variables.

use crate::core::{Arg, Form, Key, Node, Prim, Step, Var};
use crate::syntax::Span;
use crate::syntax::tree::{BinaryOp, Literal};

use super::expressions::{any_within, calls, sets};
use super::{Compiler, Op, PathStep, Reg};

impl Compiler<'_, '_> {
    /// Assigns to a variable, or to the part of it at the given steps.
    pub(super) fn set(&mut self, var: Var, steps: &[Step], value: &Node, span: Span) {
        let cell = self.variables.vars[var as usize].cell;
        let mark = self.mark();
        if steps.is_empty() {
            match cell {
                true => self.set_cell(var, value, span),
                false => self.set_register(var, value, span),
            }
            self.release(mark);
            return;
        }
        let info = &self.variables.vars[var as usize];
        if !info.early
            && let Some((other, more)) = entry_added(var, steps, value)
            && !(cell && calls(more))
        {
            self.add_entry(var, steps, other, more, value, span);
        } else {
            self.set_path(var, steps, value, span);
        }
        self.release(mark);
    }

    /// Assigns to a part of a variable.
    fn set_path(&mut self, var: Var, steps: &[Step], value: &Node, span: Span) {
        let mark = self.mark();
        let info = &self.variables.vars[var as usize];
        let cell = info.cell;
        if let Some((known, more)) = added(var, steps, value)
            && !info.early
            && !(cell && calls(more))
        {
            let a = self.load(var, None, span);
            let (base, path) = self.steps(steps);
            if !self.is_certain(more) {
                // A missing part must fail before `more` is evaluated.
                self.emit(Op::CheckPath { a, base, path }, known.span);
            }
            self.place(more);
            self.emit(Op::AddPath { a, base, path }, value.span);
        } else if cell || !(self.set_taken(var, steps, value, span) || self.set_part(var, steps, value, span))
        {
            let (base, path) = self.path(steps, value);
            let place = self.load(var, None, span);
            self.emit(Op::SetPath { a: place, base, path }, span);
        }
        self.release(mark);
    }

    /// Whether evaluating a node can neither fail nor have effects.
    fn is_certain(&self, node: &Node) -> bool {
        match &node.form {
            Form::Const(_) | Form::Builtin(_) | Form::Lambda(_) => true,
            Form::Var(var) => !self.variables.vars[*var as usize].early,
            Form::Prim(Prim::List(spreads), items) => {
                !spreads.contains(&true) && items.iter().all(|item| self.is_certain(item))
            }
            Form::Prim(Prim::Record(keys), values) => {
                keys.iter().all(|key| matches!(key, Key::Named(_)))
                    && values.iter().all(|value| self.is_certain(value))
            }
            _ => false,
        }
    }

    /// Compiles `x[key] = (x.get(key) ?? other) + more`.
    fn add_entry(&mut self, var: Var, steps: &[Step], other: &Node, more: &Node, value: &Node, span: Span) {
        let mark = self.mark();
        let Ok(a) = u8::try_from(self.load(var, None, span)) else {
            self.release(mark);
            return self.set_path(var, steps, value, span);
        };
        let (base, path) = self.steps(steps);
        let is = self.alloc();
        self.emit(Op::IsEntry { a, to: is, base, path }, span);
        self.emit(Op::TestTrue { want: true, a: is }, span);
        let no = self.jump(span);
        self.release(is.into());
        self.place(other);
        self.place(more);
        self.emit(Op::AddEntry { a: a.into(), base, path }, value.span);
        self.release(mark);
        let end = self.jump(span);
        self.patch_here(vec![no]);
        self.set_path(var, steps, value, span);
        self.patch_here(vec![end]);
    }

    fn set_cell(&mut self, var: Var, value: &Node, span: Span) {
        if let Some((known, more)) = summands(value)
            && matches!(known.form, Form::Var(left) if left == var)
            && !self.variables.vars[var as usize].early
            && !sets(more, var)
            && !calls(more)
        {
            let b = self.expr(more, None);
            let cell = self.load(var, None, span);
            self.emit(Op::AddCell { cell, b }, value.span);
        } else {
            let value = self.expr(value, None);
            let cell = self.load(var, None, span);
            self.emit(Op::SetCell { cell, from: value }, span);
        }
    }

    fn set_register(&mut self, var: Var, value: &Node, span: Span) {
        let reg = self.load(var, None, span);
        let Some(items) = appended(var, value) else {
            // `x = x + …` becomes an `Add` whose target is its first operand, so the value grows in
            // place.
            self.expr(value, Some(reg));
            return;
        };
        for item in items {
            let mark = self.mark();
            let item = self.place(item);
            self.emit(Op::Append { list: reg, value: item }, value.span);
            self.release(mark);
        }
    }

    /// Puts the indexes of a path and then a value into registers. Returns the first register and
    /// the path's number.
    fn path(&mut self, steps: &[Step], value: &Node) -> (Reg, u16) {
        let path = self.steps(steps);
        self.place(value);
        path
    }

    /// Puts the indexes of a path into registers. Returns the first register and the path's number.
    pub(super) fn steps(&mut self, steps: &[Step]) -> (Reg, u16) {
        let base = self.mark().min(u16::MAX as u32) as Reg;
        let mut path = Vec::new();
        for step in steps {
            match step {
                Step::Field(name, _) => path.push(PathStep::Field(self.unit.name(name))),
                Step::Index(index) => {
                    path.push(PathStep::Index);
                    self.place(index);
                }
            }
        }
        let paths = &mut self.unit.code.paths;
        let index = paths.iter().position(|p| *p == path).unwrap_or_else(|| {
            paths.push(path);
            paths.len() - 1
        });
        (base, index as u16)
    }

    /// Assigns to a part of a variable by a special instruction. Returns whether there is one.
    fn set_part(&mut self, var: Var, steps: &[Step], value: &Node, span: Span) -> bool {
        // An index is evaluated first, so it is copied if the code of the later nodes may change
        // it.
        let index_of = |this: &mut Self, index: &Node, after: &[&Node]| match index.form {
            Form::Var(read) if !after.iter().any(|node| sets(node, read)) => this.expr(index, None),
            _ => this.place(index),
        };
        match steps {
            [Step::Field(name, _)] => {
                let value = self.place(value);
                let a = self.load(var, None, span);
                let name = self.unit.name(name);
                self.emit(Op::SetField { a, value, name }, span);
            }
            [Step::Index(index)] => {
                let index = index_of(self, index, &[value]);
                let value = self.place(value);
                let a = self.load(var, None, span);
                self.emit(Op::SetElement { a, index, value }, span);
            }
            [Step::Index(index), Step::Field(name, _)] if self.mark() < 200 => {
                let index = index_of(self, index, &[value]);
                let value = self.place(value) as u8;
                let a = self.load(var, None, span) as u8;
                let name = self.unit.name(name);
                self.emit(Op::SetFieldOfElement { a, index, value, name }, span);
            }
            [Step::Index(index), Step::Index(second)] if self.mark() < 200 => {
                let index = index_of(self, index, &[second, value]);
                let second = index_of(self, second, &[value]);
                let value = self.place(value) as u8;
                let a = self.load(var, None, span) as u8;
                self.emit(Op::SetElementOfElement { a, index, second, value }, span);
            }
            _ => return false,
        }
        true
    }
}

/// Returns the operands of a sum.
fn summands(node: &Node) -> Option<(&Node, &Node)> {
    match &node.form {
        Form::Prim(Prim::Binary(BinaryOp::Add), args) => args.first().zip(args.get(1)),
        _ => None,
    }
}

/// Returns the element of `xs += [a]` as a slice, if it can be appended by itself.
fn appended(var: Var, value: &Node) -> Option<&[Node]> {
    let (known, more) = summands(value)?;
    let (Form::Var(left), Form::Prim(Prim::List(spreads), items)) = (&known.form, &more.form) else {
        return None;
    };
    (*left == var && items.len() == 1 && !spreads[0] && !sets(&items[0], var)).then_some(&items[..])
}

/// For `x.a[i] += more`, as it is lowered: returns the node that reads the part, and `more`.
/// Returns `None` if `more` is known to be a number, for which a plain sum is faster, or may set
/// the variable.
fn added<'n>(var: Var, steps: &[Step], value: &'n Node) -> Option<(&'n Node, &'n Node)> {
    let (known, more) = summands(value)?;
    (!is_number(more) && !sets(more, var) && is_part(known, var, steps)).then_some((known, more))
}

/// Whether a node's value is known to be neither a list nor a string.
fn is_number(node: &Node) -> bool {
    match &node.form {
        Form::Const(literal) => !matches!(literal, Literal::Str(_)),
        Form::Prim(Prim::Binary(op), _) => *op != BinaryOp::Add,
        Form::Prim(Prim::Quotient | Prim::Negate, _) => true,
        _ => false,
    }
}

/// For `x[key] = (x.get(key) ?? other) + more`: returns `other` and `more`.
fn entry_added<'n>(var: Var, steps: &[Step], value: &'n Node) -> Option<(&'n Node, &'n Node)> {
    let (known, more) = summands(value)?;
    let other = entry(known, var, steps)?;
    // `more` is compiled twice, so it must be short.
    (is_expression(more) && !is_number(more)).then_some((other, more))
}

/// For `x.get(key) ?? other`, which reads that part of a variable: returns `other` if it is a
/// constant or an empty list or record.
pub(super) fn entry<'n>(node: &'n Node, var: Var, steps: &[Step]) -> Option<&'n Node> {
    let (Step::Index(index), before) = steps.split_last()? else { return None };
    let Form::Seq(nodes) = &node.form else { return None };
    let [Node { form: Form::Bind(bound, got), .. }, Node { form: Form::If(condition, other, got_it), .. }] =
        &nodes[..]
    else {
        return None;
    };
    let is_bound = |node: &Node| matches!(node.form, Form::Var(read) if read == *bound);
    let is_null = matches!(&condition.form, Form::Prim(Prim::IsNull, args) if is_bound(&args[0]));
    let Form::Method(container, name, args) = &got.form else { return None };
    let [Arg::Item(key)] = &args[..] else { return None };
    let is_get = &**name == "get" && is_part(container, var, before) && is_same(key, index);
    (is_null && is_bound(got_it) && is_get && is_fresh(other)).then_some(&**other)
}

/// Whether a node is short code, without statements or functions.
fn is_expression(node: &Node) -> bool {
    match node.form {
        Form::Const(_) | Form::Var(_) | Form::Global(_) | Form::Builtin(_) => true,
        Form::Prim(..) | Form::Call(..) | Form::Method(..) | Form::Apply(..) => {
            !any_within(node, &mut |child| !is_expression(child))
        }
        _ => false,
    }
}

/// Whether a node is a constant, or an empty list or record.
fn is_fresh(node: &Node) -> bool {
    match &node.form {
        Form::Const(_) => true,
        Form::Prim(Prim::List(_) | Prim::Record(_), parts) => parts.is_empty(),
        _ => false,
    }
}

/// Whether two nodes have the same value when one is evaluated right after the other.
fn is_same(a: &Node, b: &Node) -> bool {
    match (&a.form, &b.form) {
        (Form::Var(a), Form::Var(b)) => a == b,
        (Form::Const(a), Form::Const(b)) => a == b,
        (Form::Prim(a, these), Form::Prim(b, those)) => {
            let computes = matches!(a, Prim::Binary(_) | Prim::Quotient | Prim::Negate | Prim::Concat);
            computes
                && a == b
                && these.len() == those.len()
                && these.iter().zip(those).all(|(a, b)| is_same(a, b))
        }
        _ => false,
    }
}

/// Whether a node reads that part of a variable.
pub(super) fn is_part(node: &Node, var: Var, steps: &[Step]) -> bool {
    let Some((last, before)) = steps.split_last() else {
        return matches!(node.form, Form::Var(read) if read == var);
    };
    match (&node.form, last) {
        (Form::Prim(Prim::Field(read), args), Step::Field(name, _)) => {
            read == name && is_part(&args[0], var, before)
        }
        (Form::Prim(Prim::Index, args), Step::Index(index)) => {
            is_same(&args[1], index) && is_part(&args[0], var, before)
        }
        _ => false,
    }
}
