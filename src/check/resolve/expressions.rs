//! Expressions.

use std::collections::HashMap;
use std::mem;

use crate::builtins::Context;
use crate::syntax::token::Name;
use crate::syntax::tree::*;
use crate::syntax::{Diagnostic, Span};

use super::super::contexts::{Construct, construct_error};
use super::super::patterns;
use super::Resolver;
use super::idle::Last;

impl Resolver<'_> {
    pub(super) fn exprs<'e>(&mut self, exprs: impl IntoIterator<Item = &'e Expr>) {
        exprs.into_iter().for_each(|expr| self.expr(expr));
    }

    pub(super) fn construct(&mut self, construct: Construct, span: Span) {
        if let Some(error) = construct_error(construct, self.context, self.place(span)) {
            self.report(error);
        }
    }

    pub(super) fn expr(&mut self, expr: &Expr) {
        let last = mem::take(&mut self.last);
        match &expr.kind {
            ExprKind::Null
            | ExprKind::Bool(_)
            | ExprKind::Int(_)
            | ExprKind::Float(_)
            | ExprKind::Duration(_) => {}
            ExprKind::Str(_) | ExprKind::Extern(..) | ExprKind::Error => {}
            ExprKind::IntMin => {
                let place = self.place(expr.span);
                self.report(
                    Diagnostic::error("number out of range", place, "too large for an int")
                        .because("ints have 64 bits: -9223372036854775808 to 9223372036854775807"),
                );
            }
            ExprKind::Interpolated(_, exprs) => {
                self.exprs(exprs);
                self.doubtful_braces(exprs);
            }
            ExprKind::Formatted(value, _) => self.expr(value),
            ExprKind::Name(name) => {
                self.name(name, expr.span);
            }
            ExprKind::State => {
                if !self.in_entity {
                    let place = self.place(expr.span);
                    self.report(
                        Diagnostic::error(
                            "`state` outside of an entity's operation",
                            place,
                            "there is no state here",
                        )
                        .hint("`state` is what an `entity` keeps; call one of its operations instead"),
                    );
                }
            }
            ExprKind::List(items) => self.exprs(items.iter().map(Element::expr)),
            ExprKind::Record(fields) => self.record(fields),
            ExprKind::Lambda(lambda) => {
                let context = self.context;
                if context == Some(Context::Pure) {
                    self.context = None;
                }
                self.outside_section(|me| me.function(&lambda.params, &lambda.body));
                self.context = context;
            }
            ExprKind::Unary(_, e) => self.expr(e),
            ExprKind::Binary(_, a, b)
            | ExprKind::And(a, b)
            | ExprKind::Or(a, b)
            | ExprKind::Coalesce(a, b) => {
                self.expr(a);
                self.expr(b);
            }
            ExprKind::Range(a, b, _) | ExprKind::Index(a, b) | ExprKind::OptionalIndex(a, b) => {
                self.expr(a);
                self.expr(b);
            }
            ExprKind::OptionalCall(f, args) => {
                self.expr(f);
                self.exprs(args.iter().map(Element::expr));
            }
            ExprKind::Pipe(value, f) => {
                self.expr(value);
                match &f.kind {
                    ExprKind::Call(callee, args) => self.call(callee, args, 1, f.span),
                    _ => self.call(f, &[], 1, f.span),
                }
            }
            ExprKind::Call(callee, args) => self.call(callee, args, 0, expr.span),
            ExprKind::Field(value, name) => self.field(value, name),
            ExprKind::OptionalField(value, name) => {
                self.expr(value);
                self.program.methods.insert(name.name.clone());
            }
            ExprKind::With(call, options) => self.with(call, options),
            ExprKind::If(condition, then, other) => {
                self.expr(condition);
                self.block_for(last, then);
                if let Some(other) = other {
                    self.last = last;
                    self.expr(other);
                }
            }
            ExprKind::Match(value, arms) => self.match_(value, arms, expr.span, last),
            ExprKind::Do(block) => self.block_for(last, block),
            ExprKind::Try(t) => self.try_(t, expr.span, last),
            ExprKind::Lock(lock) => {
                self.construct(
                    Construct::Lock,
                    Span::new(expr.span.start as usize, expr.span.start as usize + 4),
                );
                self.lock(lock, expr.span);
            }
            ExprKind::Async(e) => {
                self.construct(
                    Construct::Async,
                    Span::new(expr.span.start as usize, expr.span.start as usize + 5),
                );
                // The task is a function of its own.
                let loops = mem::take(&mut self.loops);
                self.level += 1;
                self.outside_section(|me| me.expr(e));
                self.uncalled(e, "async ");
                self.level -= 1;
                self.loops = loops;
            }
            ExprKind::Await(e) => {
                self.construct(
                    Construct::Await,
                    Span::new(expr.span.start as usize, expr.span.start as usize + 5),
                );
                self.expr(e);
            }
            ExprKind::Start(start) => self.start(start, expr.span),
            ExprKind::Signal(signal) => self.signal(signal, expr.span),
            ExprKind::Throw(e) => self.expr(e),
            ExprKind::Return(value) => self.exprs(value.as_deref()),
            ExprKind::Break(label) => self.leave("break", label.as_ref(), expr.span),
            ExprKind::Continue(label) => self.leave("continue", label.as_ref(), expr.span),
        }
    }

    /// Walks a block whose value is the value of the expression around it.
    fn block_for(&mut self, last: Last, block: &Block) {
        self.last = if last == Last::OfScript { Last::Value } else { last };
        self.block(block);
    }

    pub(super) fn record(&mut self, fields: &[Field]) {
        let mut seen: HashMap<Name, Span> = HashMap::new();
        for field in fields {
            match field {
                Field::Short(name) if &*name.name == "state" => {
                    self.expr(&Expr { kind: ExprKind::State, span: name.span, depth: 1 });
                }
                Field::Short(name) => {
                    self.name(&name.name, name.span);
                }
                Field::Named(_, value) | Field::Spread(value) => self.expr(value),
                Field::Computed(key, value) => {
                    self.expr(key);
                    self.expr(value);
                }
            }
            match field {
                Field::Short(name) | Field::Named(name, _) => {
                    if let Some(first) = seen.insert(name.name.clone(), name.span) {
                        let error = Diagnostic::error(
                            format!("field `{}` is given twice", name.name),
                            self.place(name.span),
                            "given again here",
                        );
                        let error =
                            error.and(self.place(first), "given here first").hint("remove one of them");
                        self.report(error);
                    }
                }
                Field::Spread(_) | Field::Computed(..) => seen.clear(),
            }
        }
    }

    pub(super) fn match_(&mut self, value: &Expr, arms: &[Arm], span: Span, last: Last) {
        self.expr(value);
        if arms.is_empty() {
            let place = self.place(span);
            self.report(
                Diagnostic::error("this `match` has no arms", place, "nothing can match")
                    .hint("add `pattern => value`"),
            );
        }
        for arm in arms {
            self.push_scope();
            for (number, pattern) in arm.patterns.iter().enumerate() {
                let mut found = Vec::new();
                pattern.names(&mut |name, span| found.push((name.clone(), span)));
                for (name, span) in found {
                    if number == 0 {
                        self.bind(&name, span, false);
                    } else if let Some(binding) = self.scopes.last().and_then(|scope| scope.find(&name)) {
                        self.me().bound.insert(span.start, binding.0);
                    }
                }
                self.bind_again(pattern);
                self.alternatives(pattern);
                self.tests(pattern);
            }
            self.bind_alike(&arm.patterns);
            self.exprs(&arm.guard);
            self.block_for(last, &arm.body);
            self.pop_scope(true);
        }
        self.unreachable(arms);
    }

    /// Reports arms and alternatives that can never match.
    fn unreachable(&mut self, arms: &[Arm]) {
        for found in patterns::unreachable(arms) {
            let patterns = &arms[found.arm].patterns;
            let whole = |arm: &Arm| arm.patterns[0].span.to(arm.patterns[arm.patterns.len() - 1].span);
            let (number, alternative) = found.taker;
            let taker = arms[number].patterns[alternative].span;
            let said = match found.alternative {
                None if found.same => {
                    let span = whole(&arms[found.arm]);
                    Diagnostic::error("unreachable arm", self.place(span), "can never match")
                        .and(self.place(whole(&arms[number])), "this arm takes all such values")
                }
                // Only a warning, since programs in a store may have such arms.
                None => {
                    let span = whole(&arms[found.arm]);
                    Diagnostic::warning("unreachable arm", self.place(span), "can never match")
                        .and(self.place(taker), "this takes all such values")
                        .because("an int and a float that are the same number are equal: `1 == 1.0`")
                }
                Some(at) => {
                    let span = patterns[at].span;
                    Diagnostic::warning("unreachable alternative", self.place(span), "can never match")
                        .and(self.place(taker), "this takes all such values")
                }
            };
            let hint = match found.alternative {
                None => match &arms[number].patterns[alternative].kind {
                    PatternKind::Name(name) if Kind::of(name).is_some() => {
                        let name = name.clone();
                        self.report(said.hint(format!(
                            "`{name}` alone is a name that takes every value; `{name} value` takes those of the kind"
                        )));
                        continue;
                    }
                    _ => "put the special case first, or remove it",
                },
                Some(_) => "remove it",
            };
            self.report(said.hint(hint));
        }
    }

    pub(super) fn try_(&mut self, t: &Try, span: Span, last: Last) {
        if t.catches.is_empty() && t.finally.is_none() {
            let place = self.place(Span::new(span.start as usize, span.start as usize + 3));
            self.report(
                Diagnostic::error(
                    "this `try` has neither `catch` nor `finally`",
                    place,
                    "nothing handles an error",
                )
                .hint("add `catch e { … }`"),
            );
        }
        let in_try = mem::replace(&mut self.in_try, true);
        self.block_for(last, &t.body);
        self.in_try = in_try;
        for (pattern, body) in &t.catches {
            self.push_scope();
            self.bind_pattern(pattern);
            self.tests(pattern);
            self.block_for(last, body);
            self.pop_scope(true);
        }
        if let Some(finally) = &t.finally {
            self.loop_body(finally);
        }
        let patterns: Vec<&Pattern> = t.catches.iter().map(|(pattern, _)| pattern).collect();
        for (at, taker) in patterns::unreachable_catches(&patterns) {
            let place = self.place(patterns[at].span);
            let warning = Diagnostic::warning("unreachable `catch`", place, "can never match")
                .and(self.place(patterns[taker].span), "this takes all such errors");
            self.report(warning.hint("put the special case first, or remove it"));
        }
    }
}
