//! Calls of functions, methods and operations, and the targets of `start` and `signal`.

use crate::builtins::{Contexts, Effect, Kind};
use crate::syntax::tree::*;
use crate::syntax::{Diagnostic, Place, Span};

use super::super::contexts::{Construct, construct_error, effect_error};
use super::super::reference::standard;
use super::super::scope::describe_arity;
use super::super::{GlobalId, GlobalKind, Resolved};
use super::Resolver;

/// Whether `all` is called with a task in the place of its options: `all(f(), g())`.
fn are_tasks(name: &str, args: &[Element]) -> bool {
    let is_task = |arg: &Element| matches!(arg.expr().kind, ExprKind::Call(..) | ExprKind::Async(..));
    name == "all" && args.get(1).is_some_and(is_task)
}

impl Resolver<'_> {
    pub(super) fn field(&mut self, value: &Expr, name: &Ident) {
        if let ExprKind::Name(module) = &value.kind
            && let Some(_found) = self.member(module, value.span, name)
        {
            return;
        }
        self.expr(value);
        self.program.methods.insert(name.name.clone());
    }

    pub(super) fn call(&mut self, callee: &Expr, args: &[Element], extra: usize, span: Span) {
        let resolved = match &callee.kind {
            ExprKind::Name(name) => self.name(name, callee.span),
            ExprKind::Field(value, name) => match &value.kind {
                ExprKind::Name(module) => match self.member(module, value.span, name) {
                    Some(found) => found,
                    None => {
                        self.method(value, name, args);
                        None
                    }
                },
                _ => {
                    self.method(value, name, args);
                    None
                }
            },
            _ => {
                self.expr(callee);
                None
            }
        };
        self.exprs(args.iter().map(Element::expr));
        let given = args.len() + extra;
        if given > 250 {
            let place = self.place(span);
            self.report(Diagnostic::error("too many arguments", place, "more than 250").hint("pass a list"));
        }
        let certain = args.iter().all(|arg| matches!(arg, Element::Item(_)));
        let name = match &callee.kind {
            ExprKind::Name(name) => name.to_string(),
            ExprKind::Field(module, name) if matches!(module.kind, ExprKind::Name(_)) => {
                format!("{}.{}", self.program.sources.snippet(self.place(module.span)), name.name)
            }
            _ => self.program.sources.snippet(self.place(callee.span)).to_string(),
        };
        match resolved {
            Some(Resolved::Builtin(id)) => {
                let builtin = id.get();
                if builtin.effect() == Some(Effect::ContinueAsNew) {
                    self.forbidden(
                        callee.span,
                        "`continue_as_new` in a critical section",
                        "do it after the section",
                    );
                }
                if let Some(error) =
                    effect_error(&name, self.allowed(builtin.contexts), self.context, self.place(callee.span))
                {
                    self.report(error);
                }
                if builtin.effect() == Some(Effect::Sleep) {
                    self.slept(args);
                }
                self.count(&name, given, certain, builtin.min as usize, builtin.max as usize, span, None);
            }
            Some(Resolved::Global(global)) => {
                let g = &self.program.globals[global];
                let (kind, min, max) = (g.kind, g.min, g.max);
                let declared = Place { source: self.program.modules[g.module].source, span: g.span };
                let declared = self.program.modules[g.module].std.is_none().then_some(declared);
                self.construct(Construct::Call(kind), callee.span);
                if kind == GlobalKind::Orchestration {
                    let what = format!("orchestration `{name}` is called in a critical section");
                    self.forbidden(callee.span, &what, "`start` it, or call it after the section");
                }
                if let Some(contexts) = self.wrapped_effect(global)
                    && let Some(error) =
                        effect_error(&name, self.allowed(contexts), self.context, self.place(callee.span))
                {
                    self.report(error);
                }
                if kind != GlobalKind::Const {
                    let max = if declared.is_none() && are_tasks(&name, args) { 1 } else { max };
                    self.count(&name, given, certain, min, max, span, declared);
                }
            }
            Some(Resolved::Local(id)) => {
                let binding = &self.program.modules[self.module].bindings[id as usize];
                if let Some((min, max)) = binding.arity {
                    let declared = self.place(binding.span);
                    let hides = self.hides(id, &binding.name);
                    let before = self.program.diagnostics.len();
                    self.count(&name, given, certain, min, max, span, Some(declared));
                    if hides && let Some(error) = self.program.diagnostics.get_mut(before) {
                        let hint =
                            format!("this `{name}` is the entity's operation; give one of them another name");
                        error.hint = Some(hint);
                    }
                }
            }
            None => {}
        }
    }

    /// Returns the contexts where a builtin is allowed, as seen from here: of all orchestrations,
    /// only tests may look into others.
    fn allowed(&self, contexts: Contexts) -> Contexts {
        if contexts == Contexts::LOOKS && !self.in_test { Contexts::TRIAL } else { contexts }
    }

    /// Returns the contexts of the effect that a function of the standard library wraps.
    pub(super) fn wrapped_effect(&self, global: GlobalId) -> Option<crate::builtins::Contexts> {
        let global = &self.program.globals[global];
        self.program.modules[global.module].std?;
        let StmtKind::Fn(f) = &self.program.modules[global.module].tree.items.get(global.item)?.kind else {
            return None;
        };
        effect_of(&f.body)
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn count(
        &mut self,
        name: &str,
        given: usize,
        certain: bool,
        min: usize,
        max: usize,
        span: Span,
        declared: Option<Place>,
    ) {
        let wrong = if certain { given < min || given > max } else { given > max + 250 };
        if !wrong {
            return;
        }
        let place = self.place(span);
        let mut error = Diagnostic::error(
            format!("`{name}` takes {}", describe_arity(min, max)),
            place,
            format!("{given} {} given", if given == 1 { "is" } else { "are" }),
        );
        match declared {
            Some(declared) => error = error.and(declared, "declared here"),
            None => {
                let known = standard().iter().find(|entry| match entry.module.as_str() {
                    "prelude" => entry.name == name,
                    _ => entry.path() == name,
                });
                if let Some(entry) = known {
                    let call = entry.signature.trim_start_matches("fn ").to_string();
                    let shows = |line: &&String| line.contains(&format!("{}(", entry.name));
                    let example = entry.examples().iter().find(shows).map(|line| line.trim().to_string());
                    let example = example.map_or(String::new(), |line| format!(", as in `{line}`"));
                    error = error.hint(format!("it is `{call}`{example}"));
                }
            }
        }
        self.report(error);
    }

    /// Warns about an expression that names a callable but does not call it.
    pub(super) fn uncalled(&mut self, expr: &Expr, word: &str) {
        let ExprKind::Name(name) = &expr.kind else { return };
        if self.callable_named(expr).is_none() {
            return;
        }
        let place = self.place(expr.span);
        let warning = Diagnostic::warning(format!("`{name}` is not called"), place, "this only names it");
        self.report(warning.hint(format!("write `{word}{name}(…)`")));
    }

    /// Returns the function, activity or orchestration of the program that an expression names.
    pub(super) fn callable_named(&self, expr: &Expr) -> Option<GlobalId> {
        let Some(Resolved::Global(global)) = self.program.modules[self.module].uses.get(&expr.span.start)
        else {
            return None;
        };
        let kind = self.program.globals[*global].kind;
        let own = self.program.modules[self.program.globals[*global].module].std.is_none();
        let callable =
            matches!(kind, GlobalKind::Function | GlobalKind::Activity | GlobalKind::Orchestration);
        (own && callable).then_some(*global)
    }

    /// Resolves `value.name(args)`, where the value is not a module.
    pub(super) fn method(&mut self, value: &Expr, name: &Ident, args: &[Element]) {
        self.expr(value);
        self.program.methods.insert(name.name.clone());
        self.call_of_self(value, name);
        if let Some(entity) = self.entity_of(value) {
            self.entity_call(entity, value.span.to(name.span), name);
            self.section_call(entity, value.span.to(name.span));
            self.operation(entity, name, args);
        }
    }

    /// Reports a call of an entity in a context where it is not allowed.
    fn entity_call(&mut self, entity: GlobalId, span: Span, name: &Ident) {
        let place = self.place(span);
        let Some(mut error) = construct_error(Construct::EntityCall, self.context, place) else { return };
        if self.in_entity && self.owner == Some(entity) && self.is_sibling(&name.name) {
            let name = &name.name;
            error = error.hint(format!("an operation of the same entity is called by its name: `{name}(…)`"));
        }
        self.report(error);
    }

    /// Reports `self.name(…)`, where `name` is an operation or a function of the surrounding entity.
    fn call_of_self(&mut self, value: &Expr, name: &Ident) {
        let is_self = matches!(&value.kind, ExprKind::Name(word) if &**word == "self");
        if !is_self || !self.is_sibling(&name.name) || self.std_member("record", &name.name).is_some() {
            return;
        }
        let (place, name) = (self.place(value.span.to(name.span)), &name.name);
        let error =
            Diagnostic::error(format!("`self` has no `{name}`"), place, "`self` has the id and the key");
        self.report(
            error
                .hint(format!("an operation of the same entity is called by its name: `{name}(…)`"))
                .tolerated(),
        );
    }

    /// Returns whether a name is an operation or a function of the surrounding entity.
    fn is_sibling(&self, name: &str) -> bool {
        let bindings = &self.program.modules[self.module].bindings;
        self.siblings.clone().any(|binding| &*bindings[binding as usize].name == name)
    }

    /// Returns the entity, if an expression is `Entity(key)`.
    pub(super) fn entity_of(&self, value: &Expr) -> Option<GlobalId> {
        let ExprKind::Call(callee, _) = &value.kind else { return None };
        let at = match &callee.kind {
            ExprKind::Name(_) => callee.span.start,
            ExprKind::Field(_, name) => name.span.start,
            _ => return None,
        };
        match self.program.modules[self.module].uses.get(&at) {
            Some(Resolved::Global(global)) if self.program.globals[*global].kind == GlobalKind::Entity => {
                Some(*global)
            }
            _ => None,
        }
    }

    pub(super) fn operation(&mut self, entity: GlobalId, name: &Ident, args: &[Element]) {
        let global = &self.program.globals[entity];
        let (entity_name, operations) = (global.name.clone(), global.operations.clone());
        let place = self.place(name.span);
        match operations.iter().find(|(n, ..)| *n == name.name) {
            Some((_, min, max)) => {
                let certain = args.iter().all(|arg| matches!(arg, Element::Item(_)));
                let title = format!("{entity_name}.{}", name.name);
                self.count(&title, args.len(), certain, *min, *max, name.span, None);
            }
            None if let Some((_, span)) = global.private.iter().find(|(n, _)| *n == name.name) => {
                let declared = Place { source: self.program.modules[global.module].source, span: *span };
                let title = format!("`{}` is private to entity `{entity_name}`", name.name);
                self.report(
                    Diagnostic::error(title, place, "can't be called from here")
                        .and(declared, "declared here")
                        .because("only the operations and functions of the entity can call its functions")
                        .hint(format!("declare it with `on` to make it an operation: `on {}(…)`", name.name)),
                );
            }
            None => {
                let hint = self.did_you_mean(&name.name, operations.iter().map(|(n, ..)| &**n));
                self.report(
                    Diagnostic::error(
                        format!("entity `{entity_name}` has no operation `{}`", name.name),
                        place,
                        "not an operation",
                    )
                    .maybe_hint(hint),
                );
            }
        }
    }

    pub(super) fn with(&mut self, call: &Expr, options: &Expr) {
        let is_call = matches!(call.kind, ExprKind::Call(..));
        self.expr(call);
        self.expr(options);
        let target = match &call.kind {
            ExprKind::Call(callee, _) => self.callee_global(callee),
            _ => None,
        };
        let kind = target.map(|global| self.program.globals[global].kind);
        let fits = matches!(kind, Some(GlobalKind::Activity | GlobalKind::Orchestration));
        if let ExprKind::Call(_, args) = &call.kind
            && let Some(Element::Spread(spread)) = args.iter().find(|arg| matches!(arg, Element::Spread(_)))
        {
            let place = self.place(spread.span);
            self.report(
                Diagnostic::error("`..` in a call with options", place, "can't be spread here")
                    .hint("write the arguments out"),
            );
        }
        if !is_call || !fits {
            let place = self.place(call.span);
            self.report(
                Diagnostic::error(
                    "`with` needs a call of an activity or an orchestration",
                    place,
                    "not such a call",
                )
                .hint("options go with one call: `charge(card, 10) with {timeout: 5s}`"),
            );
        }
        match kind {
            Some(GlobalKind::Activity) => self.option_fields(options, &["retry", "timeout"]),
            Some(GlobalKind::Orchestration) => {
                self.may_retry(options);
                self.option_fields(options, &["id", "if_exists", "timeout", "detached", "retry"]);
            }
            _ => {}
        }
    }

    pub(super) fn callee_global(&self, callee: &Expr) -> Option<GlobalId> {
        let at = match &callee.kind {
            ExprKind::Name(_) => callee.span.start,
            ExprKind::Field(_, name) => name.span.start,
            _ => return None,
        };
        match self.program.modules[self.module].uses.get(&at) {
            Some(Resolved::Global(global)) => Some(*global),
            _ => None,
        }
    }

    pub(super) fn start(&mut self, start: &Start, span: Span) {
        let e = &start.call;
        self.construct(Construct::Start, Span::new(span.start as usize, span.start as usize + 5));
        let (call, options) = match &e.kind {
            ExprKind::With(call, options) => (&**call, Some(&**options)),
            _ => (e, None),
        };
        let ExprKind::Call(callee, args) = &call.kind else {
            self.expr(e);
            let place = self.place(e.span);
            self.report(
                Diagnostic::error("`start` needs a call of an orchestration", place, "not a call")
                    .hint("write `start nightly(day)`"),
            );
            return;
        };
        // Starting is not calling: the contexts of `start` apply.
        let context = self.context.take();
        self.outside_section(|me| me.call(callee, args, 0, call.span));
        self.context = context;
        self.exprs(options);
        if let Some(options) = options {
            self.option_fields(options, &["id", "if_exists"]);
        }
        self.exprs(start.begins.as_ref().map(Begins::expr));
        if let Some(Begins::At(Expr { kind: ExprKind::Duration(_), span, .. })) = &start.begins {
            let place = self.place(*span);
            self.report(
                Diagnostic::error("`at` takes an instant", place, "this is a duration")
                    .hint("write `start f(x) after 1h`"),
            );
        }
        self.startable(callee, call.span);
    }

    /// Reports the target of a `start` that is certainly no orchestration.
    fn startable(&mut self, callee: &Expr, call: Span) {
        let place = self.place(callee.span);
        let title = "`start` takes a call of an orchestration";
        if let ExprKind::Field(target, _) = &callee.kind
            && self.entity_of(target).is_some()
        {
            let call = self.program.sources.snippet(self.place(call)).to_string();
            self.report(
                Diagnostic::error(title, place, "this is an operation of an entity")
                    .hint(format!("to send without waiting: `signal {call}`")),
            );
            return;
        }
        if let Some(global) = self.callee_global(callee)
            && self.program.globals[global].kind != GlobalKind::Orchestration
        {
            let kind = self.program.globals[global].kind.describe();
            self.report(
                Diagnostic::error(
                    title,
                    place,
                    format!("this is {} {kind}", if kind.starts_with(['a', 'e', 'o']) { "an" } else { "a" }),
                )
                .hint("`async` begins any other call as a task"),
            );
        }
    }

    pub(super) fn signal(&mut self, signal: &Signal, span: Span) {
        self.construct(Construct::Signal, Span::new(span.start as usize, span.start as usize + 6));
        let context = self.context.take();
        self.outside_section(|me| me.expr(&signal.call));
        self.context = context;
        if let ExprKind::Call(callee, _) = &signal.call.kind
            && let ExprKind::Field(target, _) = &callee.kind
        {
            self.section_signal(target);
        }
        if let Some(options) = &signal.options {
            self.expr(options);
            let place = self.place(options.span);
            self.report(
                Diagnostic::error("a signal has no options", place, "not here")
                    .hint("`after` delays it: signal Reminder(\"bob\").ring() after 1h"),
            );
        }
        self.exprs(&signal.after);
        let is_operation = matches!(&signal.call.kind, ExprKind::Call(callee, _) if matches!(callee.kind, ExprKind::Field(..)));
        if !is_operation {
            let place = self.place(signal.call.span);
            self.report(
                Diagnostic::error("`signal` needs an operation of an entity", place, "not an operation")
                    .hint("write `signal Account(\"bob\").deposit(5)`"),
            );
        }
    }
}

/// Returns the contexts of the effect that a function's body ends with, whichever way it takes.
fn effect_of(body: &Block) -> Option<Contexts> {
    body.stmts.iter().find_map(|stmt| match &stmt.kind {
        StmtKind::Expr(expr) => effect_at_end(expr),
        _ => None,
    })
}

fn effect_at_end(expr: &Expr) -> Option<Contexts> {
    match &expr.kind {
        ExprKind::If(_, then, _) => effect_of(then),
        ExprKind::Return(Some(value)) => effect_at_end(value),
        ExprKind::Call(callee, _) => {
            let ExprKind::Field(module, name) = &callee.kind else { return None };
            let is_native = matches!(&module.kind, ExprKind::Name(module) if &**module == "native");
            let builtin = is_native.then(|| crate::builtins::find(&name.name)).flatten()?.get();
            (builtin.kind != Kind::Native).then_some(builtin.contexts)
        }
        _ => None,
    }
}
