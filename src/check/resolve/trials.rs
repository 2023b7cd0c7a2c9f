//! Tests, mocks and properties.
//!
//! Each runs on its own, apart from the script. None of them sees a variable of the script, and a
//! mock or a property sees no variable of the test around it.

use std::mem;

use crate::builtins::{Context, Effect};
use crate::syntax::token::Name;
use crate::syntax::tree::*;
use crate::syntax::{Diagnostic, Place, Span};

use super::super::scope::arity;
use super::super::{GlobalId, GlobalKind, Mocked, Resolved};
use super::Resolver;

/// The tests, properties and mocks so far, of a file or of one test.
#[derive(Default)]
pub(super) struct Tried {
    tests: Vec<(Name, Span)>,
    properties: Vec<(Name, Span)>,
    mocks: Vec<(Mocked, Span)>,
}

impl Resolver<'_> {
    fn trial(&self, name: &Ident) -> Option<GlobalId> {
        self.program.globals.iter().position(|g| g.module == self.module && g.span == name.span)
    }

    pub(super) fn test(&mut self, name: &Ident, body: &Block) {
        if let Some(first) = once(&mut self.tried.tests, &name.name, name.span) {
            self.twice(format!("two tests are named {:?}", &*name.name), name.span, first);
        }
        let of_file = mem::take(&mut self.tried);
        self.isolated(self.trial(name), Some(Context::Orchestration), |me| {
            me.level += 1;
            me.in_test = true;
            me.loop_body(body);
            me.in_test = false;
            me.level -= 1;
        });
        self.tried = of_file;
    }

    /// Reports a second declaration of the same thing. Earlier versions did not report it, so the
    /// error is tolerated in programs that a store has.
    fn twice(&mut self, title: String, span: Span, first: Span) {
        let error = Diagnostic::error(title, self.place(span), "declared again here")
            .and(self.place(first), "declared here first")
            .tolerated();
        self.report(error.hint(match self.in_test {
            true => "a test has one of each; remove one of them",
            false => "give one of them another name, or remove it",
        }));
    }

    pub(super) fn property(&mut self, property: &Property, span: Span) {
        if !self.stands_well(span, "a property") {
            return;
        }
        let name = &property.name;
        if let Some(first) = once(&mut self.tried.properties, &name.name, name.span) {
            self.twice(format!("two properties are named {:?}", &*name.name), name.span, first);
        }
        self.apart(&property.name, |me| me.block(&property.body));
    }

    pub(super) fn mock(&mut self, mock: &Mock, span: Span) {
        if !self.stands_well(span, "a mock") {
            return;
        }
        let path: Vec<&str> = mock.target.iter().map(|name| &*name.name).collect();
        let path = path.join(".");
        let (Some(first), Some(last)) = (mock.target.first(), mock.target.last()) else { return };
        let resolved = match &mock.target[..] {
            [one] => self.name(&one.name, one.span),
            [module, member] => match self.member(&module.name, module.span, member) {
                Some(resolved) => resolved,
                None => {
                    self.unknown_name(&module.name, module.span);
                    None
                }
            },
            _ => None,
        };
        let Some(resolved) = resolved else { return };
        let mocked = match resolved {
            Resolved::Global(global) if self.program.globals[global].kind == GlobalKind::Activity => {
                Some(Mocked::Activity(global))
            }
            _ => Effect::mockable(&path).map(Mocked::Effect),
        };
        match mocked {
            Some(mocked) => {
                self.me().mocked.insert(first.span.start, mocked);
                if let Some(first) = once(&mut self.tried.mocks, &mocked, mock.span) {
                    let error = Diagnostic::error(
                        format!("`{path}` is mocked twice"),
                        self.place(mock.span),
                        "mocked again here",
                    );
                    let error = error.and(self.place(first), "mocked here first");
                    self.report(error.tolerated().hint(format!(
                        "list all outcomes in one: `mock {path} with …, …`, or `mock {path} in turn with …, …`"
                    )));
                }
            }
            None => {
                let hint = match resolved {
                    Resolved::Global(global)
                        if self.program.globals[global].kind == GlobalKind::Orchestration =>
                    {
                        "mock the activities that it calls"
                    }
                    _ => "a mock stands for an activity, or for an effect like `http.request` or `fs.read`",
                };
                let place = self.place(mock.span);
                self.report(
                    Diagnostic::error(format!("`{path}` can't be mocked"), place, "not an activity")
                        .hint(hint),
                );
            }
        }
        for outcome in &mock.outcomes {
            if let (Some(Mocked::Activity(global)), ExprKind::Lambda(lambda)) = (mocked, &outcome.kind) {
                self.fits(global, lambda, outcome.span);
            }
            self.outcome(last, outcome);
        }
    }

    /// Resolves one outcome of a mock.
    fn outcome(&mut self, mock: &Ident, outcome: &Expr) {
        match &outcome.kind {
            ExprKind::Name(name) if &**name == "never" => {}
            ExprKind::Lambda(lambda) => self.apart(mock, |me| me.function(&lambda.params, &lambda.body)),
            ExprKind::Field(entity, operation) => {
                self.apart(mock, |me| {
                    me.level += 1;
                    me.expr(entity);
                    me.level -= 1;
                });
                match self.entity_of(entity) {
                    Some(global) => self.has_operation(global, operation),
                    None => self.no_outcome(outcome.span),
                }
            }
            _ => self.no_outcome(outcome.span),
        }
    }

    /// Checks that a function of a mock requires no more arguments than its activity takes.
    fn fits(&mut self, activity: GlobalId, lambda: &Lambda, span: Span) {
        let global = &self.program.globals[activity];
        let (required, _) = arity(&lambda.params);
        if required <= global.max {
            return;
        }
        let title =
            format!("the mock has {required} parameters, and activity `{}` has {}", global.name, global.max);
        let declared = Place { source: self.program.modules[global.module].source, span: global.span };
        let place = self.place(span);
        self.report(
            Diagnostic::error(title, place, "gets no more arguments than the activity")
                .and(declared, "the activity"),
        );
    }

    fn no_outcome(&mut self, span: Span) {
        let place = self.place(span);
        let error = Diagnostic::error("this can't be the outcome of a mock", place, "not a function")
            .because("a mock lists what can happen: functions of the arguments, operations of entities, or `never`")
            .hint("write `fn(a, b) => value`, `fn(a, b) => throw {…}`, `Entity(key).operation` or `never`");
        self.report(error);
    }

    fn has_operation(&mut self, entity: GlobalId, operation: &Ident) {
        let global = &self.program.globals[entity];
        if global.operations.iter().any(|(name, ..)| *name == operation.name) {
            return;
        }
        let hint = self.did_you_mean(&operation.name, global.operations.iter().map(|(name, ..)| &**name));
        let title = format!("entity `{}` has no operation `{}`", global.name, operation.name);
        let place = self.place(operation.span);
        self.report(Diagnostic::error(title, place, "not an operation").maybe_hint(hint));
    }

    /// Checks that a mock or a property is at the top level of the file or of a test.
    fn stands_well(&mut self, span: Span, what: &str) -> bool {
        let depth = if self.in_test { 2 } else { 1 };
        if self.scopes.len() == depth && self.level == u32::from(self.in_test) {
            return true;
        }
        let place = self.place(span);
        let error = Diagnostic::error(format!("{what} can't stand here"), place, "not here")
            .hint("put it at the top level of the file, for all tests, or at the top level of one test");
        self.report(error);
        false
    }

    /// Walks code that sees nothing of its surroundings.
    fn apart(&mut self, name: &Ident, walk: impl FnOnce(&mut Self)) {
        let owner = self.trial(name).or(self.owner);
        let around = self.scopes.split_off(1);
        let (level, in_test) = (mem::take(&mut self.level), mem::take(&mut self.in_test));
        self.isolated(owner, Some(Context::Trial), |me| {
            me.level = 1;
            walk(me);
        });
        (self.level, self.in_test) = (level, in_test);
        self.scopes.extend(around);
    }
}

/// Notes a declaration, or returns the place of the same declaration before.
fn once<T: Clone + PartialEq>(known: &mut Vec<(T, Span)>, new: &T, span: Span) -> Option<Span> {
    let first = known.iter().find(|(known, _)| known == new).map(|(_, span)| *span);
    if first.is_none() {
        known.push((new.clone(), span));
    }
    first
}
