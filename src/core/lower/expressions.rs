//! Expressions, errors and handlers.

use std::rc::Rc;

use crate::check::{GlobalId, Resolved};
use crate::syntax::Span;
use crate::syntax::token::Name;
use crate::syntax::tree::{self, *};

use super::super::{Arg, Form, Key, Node, Otherwise, Prim, fold};
use super::Lower;

impl Lower<'_, '_> {
    pub(super) fn condition(&mut self, expr: &Expr) -> Node {
        self.expr(expr)
    }

    pub(super) fn exprs(&mut self, exprs: &[Expr]) -> Vec<Node> {
        exprs.iter().map(|expr| self.expr(expr)).collect()
    }

    pub(super) fn args(&mut self, args: &[Element]) -> Vec<Arg> {
        args.iter()
            .map(|arg| match arg {
                Element::Item(e) => Arg::Item(self.expr(e)),
                Element::Spread(e) => Arg::Spread(self.expr(e)),
            })
            .collect()
    }

    pub(super) fn expr(&mut self, expr: &Expr) -> Node {
        let span = expr.span;
        let constant = |literal| Node { form: Form::Const(literal), span };
        match &expr.kind {
            ExprKind::Null | ExprKind::Error => constant(Literal::Null),
            ExprKind::Bool(b) => constant(Literal::Bool(*b)),
            ExprKind::Int(n) => constant(Literal::Int(*n)),
            ExprKind::IntMin => constant(Literal::Int(i64::MIN)),
            ExprKind::Float(x) => constant(Literal::Float(*x)),
            ExprKind::Duration(d) => constant(Literal::Duration(*d)),
            ExprKind::Str(s) => constant(Literal::Str(s.clone())),
            ExprKind::Interpolated(texts, exprs) => self.interpolated(texts, exprs, span),
            ExprKind::Name(_) => self.name(span.start, span),
            ExprKind::State => self.state(span),
            ExprKind::Extern(name, passed) => self.extern_body(name, passed, span),
            ExprKind::List(items) => {
                let spreads = items.iter().map(|item| matches!(item, Element::Spread(_))).collect();
                let items = items.iter().map(|item| self.expr(item.expr())).collect();
                self.node(Form::Prim(Prim::List(spreads), items), span)
            }
            ExprKind::Record(fields) => self.record(fields, span),
            ExprKind::Lambda(lambda) => {
                let f = self.lambda("fn".into(), &lambda.params, &lambda.body, span);
                self.node(Form::Lambda(Rc::new(f)), span)
            }
            ExprKind::Unary(op, e) => {
                let e = self.expr(e);
                fold::prim(if *op == UnaryOp::Not { Prim::Not } else { Prim::Negate }, vec![e], span)
            }
            ExprKind::Binary(op, a, b) => {
                let (a, b) = (self.expr(a), self.expr(b));
                fold::prim(Prim::Binary(*op), vec![a, b], span)
            }
            ExprKind::And(a, b) => {
                let (a, b) = (self.expr(a), self.expr(b));
                let at = b.span;
                let b = fold::prim(Prim::Bool, vec![b], at);
                self.node(Form::If(Box::new(a), Box::new(b), Box::new(constant(Literal::Bool(false)))), span)
            }
            ExprKind::Or(a, b) => {
                let (a, b) = (self.expr(a), self.expr(b));
                let at = b.span;
                let b = fold::prim(Prim::Bool, vec![b], at);
                self.node(Form::If(Box::new(a), Box::new(constant(Literal::Bool(true))), Box::new(b)), span)
            }
            ExprKind::Coalesce(a, b) => {
                let a = self.expr(a);
                let b = self.expr(b);
                self.unless_null(a, span, |_, value| value, b)
            }
            ExprKind::Pipe(value, f) => {
                let value = self.expr(value);
                match &f.kind {
                    ExprKind::Call(callee, args) => {
                        let args = self.args(args);
                        self.call(callee, Some(value), args, f.span)
                    }
                    _ => self.call(f, Some(value), Vec::new(), span),
                }
            }
            ExprKind::Range(a, b, inclusive) => {
                let (a, b) = (self.expr(a), self.expr(b));
                self.node(Form::Prim(Prim::Range(*inclusive), vec![a, b]), span)
            }
            ExprKind::Call(callee, args) => self.call_in_order(callee, args, span),
            ExprKind::Field(value, name) => {
                if self.program().modules[self.module].uses.contains_key(&name.span.start) {
                    return self.name(name.span.start, span);
                }
                let value = self.expr(value);
                self.node(Form::Prim(Prim::Field(name.name.clone()), vec![value]), value_to(span, name))
            }
            ExprKind::OptionalField(value, name) => {
                let value = self.expr(value);
                self.node(Form::Prim(Prim::OptionalField(name.name.clone()), vec![value]), span)
            }
            ExprKind::Index(value, index) => {
                let (value, index) = (self.expr(value), self.expr(index));
                self.node(Form::Prim(Prim::Index, vec![value, index]), span)
            }
            ExprKind::OptionalIndex(value, index) => {
                let (value, index) = (self.expr(value), self.expr(index));
                let null = self.null(span);
                self.unless_null(
                    value,
                    span,
                    |me, value| me.apply("optional_index", vec![value, index], span),
                    null,
                )
            }
            ExprKind::OptionalCall(f, args) => {
                let f = self.expr(f);
                let args = self.args(args);
                let null = self.null(span);
                self.unless_null(f, span, |me, f| me.node(Form::Call(Box::new(f), args), span), null)
            }
            ExprKind::Formatted(value, spec) => {
                let value = self.expr(value);
                let spec = self.node(Form::Const(Literal::Str(spec.name.clone())), spec.span);
                self.apply("string_format", vec![value, spec], span)
            }
            ExprKind::With(call, options) => self.with(call, options, span),
            ExprKind::If(condition, then, other) => {
                let condition = self.condition(condition);
                let then = self.block(then);
                let other = match other {
                    Some(other) => self.expr(other),
                    None => self.null(span),
                };
                match condition.form {
                    Form::Const(Literal::Bool(true)) => then,
                    Form::Const(Literal::Bool(false)) => other,
                    _ => self.node(Form::If(Box::new(condition), Box::new(then), Box::new(other)), span),
                }
            }
            ExprKind::Match(value, arms) => {
                let subject = self.expr(value);
                let guards: Vec<Option<Node>> =
                    arms.iter().map(|arm| arm.guard.as_ref().map(|g| self.expr(g))).collect();
                let bodies = arms.iter().map(|arm| self.block(&arm.body)).collect();
                let rows: Vec<(&[Pattern], Option<Node>)> =
                    arms.iter().zip(guards).map(|(arm, guard)| (&arm.patterns[..], guard)).collect();
                let head = Span { start: span.start, end: value.span.end };
                self.matching(subject, &rows, bodies, Otherwise::NoArm, head)
            }
            ExprKind::Do(block) => self.block(block),
            ExprKind::Try(t) => self.try_(t, span),
            ExprKind::Lock(lock) => self.lock(lock, span),
            ExprKind::Async(e) => {
                let labels = std::mem::take(&mut self.labels);
                let body = self.expr(e);
                self.labels = labels;
                let task = self.function("async".into(), Vec::new(), 0, body, span);
                let task = self.node(Form::Lambda(Rc::new(task)), span);
                self.apply("async", vec![task], span)
            }
            ExprKind::Await(e) => {
                let e = self.expr(e);
                self.apply("await", vec![e], span)
            }
            ExprKind::Start(start) => self.start(start, span),
            ExprKind::Signal(signal) => self.signal(signal, span),
            ExprKind::Throw(e) => {
                let e = self.expr(e);
                self.node(Form::Throw(Box::new(e)), span)
            }
            ExprKind::Return(value) => {
                let value = match value {
                    Some(value) => self.expr(value),
                    None => self.null(span),
                };
                self.node(Form::Return(Box::new(value)), span)
            }
            ExprKind::Break(name) => self.node(Form::Exit(self.labelled(name.as_ref())), span),
            ExprKind::Continue(name) => self.node(Form::Again(self.labelled(name.as_ref())), span),
        }
    }

    pub(super) fn interpolated(&mut self, texts: &[Name], exprs: &[Expr], span: Span) -> Node {
        let mut parts = Vec::new();
        for (number, text) in texts.iter().enumerate() {
            if !text.is_empty() {
                parts.push(self.node(Form::Const(Literal::Str(text.clone())), span));
            }
            if let Some(expr) = exprs.get(number) {
                parts.push(self.expr(expr));
            }
        }
        self.node(Form::Prim(Prim::Concat, parts), span)
    }

    pub(super) fn record(&mut self, fields: &[tree::Field], span: Span) -> Node {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for field in fields {
            match field {
                tree::Field::Short(name) => {
                    keys.push(Key::Named(name.name.clone()));
                    let value = match &*name.name {
                        "state" => self.state(name.span),
                        _ => self.name(name.span.start, name.span),
                    };
                    values.push(value);
                }
                tree::Field::Named(name, value) => {
                    keys.push(Key::Named(name.name.clone()));
                    values.push(self.expr(value));
                }
                tree::Field::Computed(key, value) => {
                    keys.push(Key::Computed);
                    values.push(self.expr(key));
                    values.push(self.expr(value));
                }
                tree::Field::Spread(value) => {
                    keys.push(Key::Spread);
                    values.push(self.expr(value));
                }
            }
        }
        self.node(Form::Prim(Prim::Record(keys), values), span)
    }

    /// Returns the value that the name at an offset means.
    pub(super) fn name(&mut self, offset: u32, span: Span) -> Node {
        let form = match self.program().modules[self.module].uses.get(&offset) {
            Some(Resolved::Local(binding)) => Form::Var(*binding),
            Some(Resolved::Global(global)) => return self.global(*global, span),
            Some(Resolved::Builtin(id)) if id.get().name == "self" => Form::Apply(*id, Vec::new()),
            Some(Resolved::Builtin(id)) => Form::Builtin(*id),
            None => Form::Const(Literal::Null),
        };
        self.node(form, span)
    }

    pub(super) fn global(&mut self, global: GlobalId, span: Span) -> Node {
        let info = &self.program().globals[global];
        if info.script_bound.is_some() {
            return self.node(Form::Var(info.binding), span);
        }
        self.all.want(global);
        if let Some(literal) = self.all.literal(global) {
            return self.node(Form::Const(literal), span);
        }
        self.node(Form::Global(global), span)
    }

    pub(super) fn try_(&mut self, t: &Try, span: Span) -> Node {
        let body = self.block(&t.body);
        let catch = if t.catches.is_empty() {
            None
        } else {
            let error = self.fresh("error");
            let bodies: Vec<Node> = t.catches.iter().map(|(_, body)| self.block(body)).collect();
            let rows: Vec<(&[Pattern], Option<Node>)> =
                t.catches.iter().map(|(pattern, _)| (std::slice::from_ref(pattern), None)).collect();
            let subject = self.node(Form::Var(error), span);
            Some((error, self.matching(subject, &rows, bodies, Otherwise::Rethrow, span)))
        };
        let finally = t.finally.as_ref().map(|block| self.block(block));
        self.node(Form::Try(Box::new(crate::core::Try { body, catch, finally })), span)
    }
}

/// Returns the span of a field access up to its name, where errors about the field are shown.
fn value_to(span: Span, name: &Ident) -> Span {
    Span { start: span.start, end: name.span.end }
}
