//! Critical sections, starts and signals.

use crate::syntax::Span;
use crate::syntax::tree::*;

use super::super::{Form, Node, Prim};
use super::Lower;

impl Lower<'_, '_> {
    /// Lowers `lock a, b { body }`. The section is declared first. One `try` requests and leaves
    /// it, so there is no moment between its beginning and the guard of its end.
    pub(super) fn lock(&mut self, lock: &Lock, span: Span) -> Node {
        let head = Span { start: span.start, end: lock.body.span.start.max(span.start) };
        let head = match lock.entities.last() {
            Some(last) => Span { start: head.start, end: last.span.end },
            None => head,
        };
        let entities = self.exprs(&lock.entities);
        let list = self.node(Form::Prim(Prim::List(vec![false; entities.len()]), entities), head);
        let options = self.optional(lock.options.as_ref(), head);
        let token = self.fresh("section");
        let begun = self.apply("section", vec![list, options], head);
        let bind = self.node(Form::Bind(token, Box::new(begun)), head);
        let token = self.node(Form::Var(token), head);
        let acquire = self.apply("lock", vec![token.clone()], head);
        let body = self.block(&lock.body);
        let body = self.node(Form::Seq(vec![acquire, body]), span);
        let release = self.apply("unlock", vec![token], head);
        let held = crate::core::Try { body, catch: None, finally: Some(release) };
        let held = self.node(Form::Try(Box::new(held)), span);
        self.node(Form::Seq(vec![bind, held]), span)
    }

    /// Lowers `start f(x) with {…} after 1h`.
    pub(super) fn start(&mut self, start: &Start, span: Span) -> Node {
        let e = &start.call;
        let (call, options) = match &e.kind {
            ExprKind::With(call, options) => (&**call, Some(&**options)),
            _ => (e, None),
        };
        let ExprKind::Call(callee, args) = &call.kind else { return self.null(span) };
        let callee = self.expr(callee);
        let args = self.argument_list(args, span);
        let options = self.optional(options, span);
        let mut all = vec![callee, args, options];
        match &start.begins {
            None => {}
            Some(Begins::After(after)) => all.push(self.expr(after)),
            Some(Begins::At(at)) => {
                all.push(self.null(span));
                all.push(self.expr(at));
            }
        }
        self.apply("start", all, span)
    }

    /// Lowers `signal Entity(key).operation(x) after 1h`.
    pub(super) fn signal(&mut self, signal: &Signal, span: Span) -> Node {
        let ExprKind::Call(callee, args) = &signal.call.kind else { return self.null(span) };
        let ExprKind::Field(entity, operation) = &callee.kind else { return self.null(span) };
        let target = self.expr(entity);
        let operation = self.node(Form::Const(Literal::Str(operation.name.clone())), operation.span);
        let args = self.argument_list(args, span);
        let after = self.optional(signal.after.as_ref(), span);
        self.apply("signal", vec![target, operation, args, after], span)
    }

    pub(super) fn argument_list(&mut self, args: &[Element], span: Span) -> Node {
        let spreads = args.iter().map(|arg| matches!(arg, Element::Spread(_))).collect();
        let args = args.iter().map(|arg| self.expr(arg.expr())).collect();
        self.node(Form::Prim(Prim::List(spreads), args), span)
    }

    fn optional(&mut self, value: Option<&Expr>, span: Span) -> Node {
        match value {
            Some(value) => self.expr(value),
            None => self.null(span),
        }
    }
}
