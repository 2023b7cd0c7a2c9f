//! Calls, pipes and options.

use crate::builtins::{BuiltinId, find};
use crate::check::{GlobalKind, Resolved, STD};
use crate::syntax::Span;
use crate::syntax::tree::*;

use super::super::{Arg, Form, Node, Prim};
use super::Lower;

impl Lower<'_, '_> {
    pub(super) fn call_in_order(&mut self, callee: &Expr, args: &[Element], span: Span) -> Node {
        // The receiver of a method is evaluated before its arguments.
        if let ExprKind::OptionalField(value, name) = &callee.kind {
            let value = self.expr(value);
            let args = self.args(args);
            let null = self.null(span);
            let name = name.name.clone();
            return self.unless_null(
                value,
                span,
                |_, value| Node { form: Form::Method(Box::new(value), name, args), span },
                null,
            );
        }
        if let Some(assertion) = self.assertion(callee, args, span) {
            return assertion;
        }
        let args = self.args(args);
        self.call(callee, None, args, span)
    }

    /// Lowers an `assert` of a comparison, whose error shows both sides.
    fn assertion(&mut self, callee: &Expr, args: &[Element], span: Span) -> Option<Node> {
        let (Element::Item(condition), message) = args.split_first()? else { return None };
        let ExprKind::Binary(operator, left, right) = &condition.kind else { return None };
        if !operator.compares() || !self.is_assert(callee) {
            return None;
        }
        let message = match message {
            [] => self.null(span),
            [Element::Item(message)] => self.expr(message),
            _ => return None,
        };
        let symbol = self.node(Form::Const(Literal::Str(operator.symbol().into())), condition.span);
        // The message comes last: like every argument, it is evaluated after the arguments before
        // it.
        let sides = [symbol, self.expr(left), self.expr(right)];
        let args = sides.into_iter().chain([message]).map(Arg::Item).collect();
        Some(self.builtin(find("assert_compared")?, args, span))
    }

    /// Returns whether a name is the standard library's `assert`.
    fn is_assert(&self, callee: &Expr) -> bool {
        let ExprKind::Name(name) = &callee.kind else { return false };
        let program = self.program();
        let Some(Resolved::Global(global)) = program.modules[self.module].uses.get(&callee.span.start) else {
            return false;
        };
        let global = &program.globals[*global];
        let source = program.modules[global.module].source as usize;
        &**name == "assert" && program.sources.files[source].name.starts_with(STD)
    }

    pub(super) fn call(&mut self, callee: &Expr, first: Option<Node>, rest: Vec<Arg>, span: Span) -> Node {
        let args: Vec<Arg> = first.map(Arg::Item).into_iter().chain(rest).collect();
        let static_at = match &callee.kind {
            ExprKind::Name(_) => Some(callee.span.start),
            ExprKind::Field(_, name) => Some(name.span.start),
            _ => None,
        };
        let resolved = static_at.and_then(|at| self.program().modules[self.module].uses.get(&at).copied());
        match (resolved, &callee.kind) {
            (Some(Resolved::Builtin(id)), _) => self.builtin(id, args, span),
            (Some(Resolved::Global(global)), _) => {
                let callee = self.global(global, callee.span);
                self.node(Form::Call(Box::new(callee), args), span)
            }
            (None, ExprKind::Field(value, name)) => {
                let value = self.expr(value);
                let span = Span { start: span.start, end: span.end };
                self.node(Form::Method(Box::new(value), name.name.clone(), args), span)
            }
            _ => {
                let callee = self.expr(callee);
                self.node(Form::Call(Box::new(callee), args), span)
            }
        }
    }

    pub(super) fn builtin(&mut self, id: BuiltinId, args: Vec<Arg>, span: Span) -> Node {
        if args.iter().any(|arg| matches!(arg, Arg::Spread(_))) {
            let callee = self.node(Form::Builtin(id), span);
            return self.node(Form::Call(Box::new(callee), args), span);
        }
        let args = args.into_iter().map(|arg| match arg {
            Arg::Item(node) | Arg::Spread(node) => node,
        });
        let args: Vec<Node> = args.collect();
        let form = match id.get().name {
            "div" if args.len() == 2 => Form::Prim(Prim::Quotient, args),
            _ => Form::Apply(id, args),
        };
        self.node(form, span)
    }

    pub(super) fn with(&mut self, call: &Expr, options: &Expr, span: Span) -> Node {
        let ExprKind::Call(callee, args) = &call.kind else { return self.expr(call) };
        let at = match &callee.kind {
            ExprKind::Field(_, name) => name.span.start,
            _ => callee.span.start,
        };
        let Some(Resolved::Global(global)) = self.program().modules[self.module].uses.get(&at).copied()
        else {
            return self.expr(call);
        };
        if !matches!(self.program().globals[global].kind, GlobalKind::Activity | GlobalKind::Orchestration) {
            return self.expr(call);
        }
        let mut args = self.args(args);
        while args.len() < self.program().globals[global].max {
            args.push(Arg::Item(self.node(Form::Prim(Prim::Missing, Vec::new()), span)));
        }
        args.push(Arg::Item(self.expr(options)));
        let callee = self.global(global, callee.span);
        self.node(Form::Call(Box::new(callee), args), span)
    }

    /// Lowers to `other` if `value` is null, and otherwise to the result of `make` on `value`.
    pub(super) fn unless_null(
        &mut self,
        value: Node,
        span: Span,
        make: impl FnOnce(&mut Self, Node) -> Node,
        other: Node,
    ) -> Node {
        let temp = self.fresh("value");
        let bind = self.node(Form::Bind(temp, Box::new(value)), span);
        let var = self.node(Form::Var(temp), span);
        let is_null = self.node(Form::Prim(Prim::IsNull, vec![var.clone()]), span);
        let made = make(self, var);
        let choice = self.node(Form::If(Box::new(is_null), Box::new(other), Box::new(made)), span);
        self.node(Form::Seq(vec![bind, choice]), span)
    }
}
