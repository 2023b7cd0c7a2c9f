//! Modules and declarations.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::ops::Range;

use crate::builtins::Context;
use crate::syntax::token::Name;
use crate::syntax::tree::*;
use crate::syntax::{Diagnostic, Span};

use super::super::scope::arity;
use super::super::{Binding, BindingId, GlobalId, GlobalKind};
use super::Resolver;
use super::idle::Last;

impl Resolver<'_> {
    pub(super) fn module(&mut self, items: &[Stmt]) {
        self.push_scope();
        let args = self.bind(&"args".into(), Span::new(u32::MAX as usize, u32::MAX as usize), false);
        self.me().args = args;
        self.me().bindings[args as usize].used = true;
        for id in 0..self.program.globals.len() {
            if self.program.globals[id].module == self.module
                && self.program.globals[id].kind == GlobalKind::Function
            {
                let (name, span) = (self.program.globals[id].name.clone(), self.program.globals[id].span);
                let module = self.me();
                let binding = module.bindings.len() as BindingId;
                module.bindings.push(Binding {
                    name,
                    span,
                    mutable: false,
                    captured: true,
                    early: false,
                    used: true,
                    read: true,
                    level: 0,
                    arity: None,
                });
                self.program.globals[id].binding = binding;
            }
        }
        for (index, item) in items.iter().enumerate() {
            if let Some(scope) = self.scopes.last_mut() {
                scope.current = index;
            }
            if !matches!(
                item.kind,
                StmtKind::Fn(_) | StmtKind::Activity(_) | StmtKind::Orchestration(_) | StmtKind::Entity(_)
            ) {
                self.last = if index + 1 == items.len() { Last::OfScript } else { Last::Nothing };
                self.statement(item);
                if let StmtKind::Expr(expr) = &item.kind {
                    self.uncalled(expr, "");
                }
            }
        }
        self.idle_statements(items, Last::OfScript);
        for (index, item) in items.iter().enumerate() {
            if let Some(scope) = self.scopes.last_mut() {
                scope.viewpoint = Some(index);
            }
            self.declaration(item);
        }
        if let Some(scope) = self.scopes.last_mut() {
            scope.viewpoint = None;
        }
        self.pop_scope(true);
        self.idle_main(items);
        self.imports_beside_declarations();
        let unused: Vec<(Name, Span)> = self
            .me()
            .imports
            .iter()
            .filter(|(_, i)| !i.used)
            .map(|(name, i)| (name.clone(), i.span))
            .collect();
        for (name, span) in unused {
            let place = self.place(span);
            self.report(
                Diagnostic::warning(format!("unused import `{name}`"), place, "never used")
                    .hint("remove the import"),
            );
        }
    }

    /// Reports imports that are hidden by a declaration of the same name in the file.
    fn imports_beside_declarations(&mut self) {
        let module = &self.program.modules[self.module];
        let both = module.imports.iter().filter_map(|(name, import)| {
            let global = &self.program.globals[*module.globals.get(name)?];
            Some((name.clone(), import.span, global.span))
        });
        let both: Vec<(Name, Span, Span)> = both.collect();
        for (name, import, declared) in both {
            let title = format!("an import and a declaration are named `{name}`");
            let error = Diagnostic::error(title, self.place(declared), "this hides the import")
                .and(self.place(import), "the import")
                .tolerated();
            self.report(error.hint("give the import another name after `as`"));
        }
    }

    pub(super) fn declaration(&mut self, item: &Stmt) {
        let find = |me: &Self, name: &Ident| {
            me.program.globals.iter().position(|g| g.module == me.module && g.span == name.span)
        };
        match &item.kind {
            StmtKind::Fn(f) => self.isolated(find(self, &f.name), None, |me| me.callable(f)),
            StmtKind::Activity(f) => {
                self.options(f, find(self, &f.name), &["retry", "timeout"]);
                self.isolated(find(self, &f.name), Some(Context::Activity), |me| me.callable(f));
            }
            StmtKind::Orchestration(f) => {
                f.options.iter().for_each(|options| self.may_retry(options));
                self.options(f, find(self, &f.name), &["timeout", "detached", "retry"]);
                self.isolated(find(self, &f.name), Some(Context::Orchestration), |me| me.callable(f));
            }
            StmtKind::Entity(entity) => self.entity(entity, find(self, &entity.name)),
            _ => {}
        }
    }

    pub(super) fn isolated(
        &mut self,
        owner: Option<GlobalId>,
        context: Option<Context>,
        walk: impl FnOnce(&mut Self),
    ) {
        let saved = (self.owner, self.context, mem::take(&mut self.loops));
        self.owner = owner;
        self.context = context;
        walk(self);
        (self.owner, self.context, self.loops) = saved;
    }

    pub(super) fn options(&mut self, f: &Callable, owner: Option<GlobalId>, known: &[&str]) {
        if let Some(options) = &f.options {
            self.isolated(owner, Some(Context::Pure), |me| {
                me.level += 1;
                me.expr(options);
                me.level -= 1;
            });
            self.option_fields(options, known);
        }
    }

    pub(super) fn entity(&mut self, entity: &Entity, owner: Option<GlobalId>) {
        let mut state: Option<Span> = None;
        let initial = entity.members.iter().find_map(|member| match member {
            Member::State(Expr { kind: ExprKind::Record(fields), .. }, _) => Some(fields),
            _ => None,
        });
        let field = |field: &Field| match field {
            Field::Short(name) | Field::Named(name, _) => Some(name.name.clone()),
            _ => None,
        };
        let kept: Vec<Name> = initial.into_iter().flatten().filter_map(field).collect();
        for member in &entity.members {
            let Member::State(value, span) = member else { continue };
            if let Some(first) = state.replace(*span) {
                let error =
                    Diagnostic::error("two states in one entity", self.place(*span), "declared again here")
                        .and(self.place(first), "declared here first")
                        .hint("an entity has one state; make it a record");
                self.report(error);
            }
            self.isolated(owner, Some(Context::Pure), |me| {
                me.level += 1;
                me.expr(value);
                me.level -= 1;
            });
        }
        for member in &entity.members {
            let Member::Migration(function, _) = member else { continue };
            self.migration(function, owner);
        }
        self.level += 1;
        self.push_scope();
        self.siblings = self.members(entity);
        (self.in_entity, self.kept) = (true, kept);
        for f in entity.callables() {
            self.isolated(owner, Some(Context::Operation), |me| me.callable(f));
        }
        (self.in_entity, self.kept, self.siblings) = (false, Vec::new(), 0..0);
        self.pop_scope(true);
        self.level -= 1;
    }

    /// Resolves a migration, which is a function of the state before and has no effects.
    fn migration(&mut self, function: &Expr, owner: Option<GlobalId>) {
        if let ExprKind::Lambda(lambda) = &function.kind
            && !(lambda.params.len() == 1 && lambda.params[0].default.is_none())
        {
            let error = Diagnostic::error(
                "a migration takes the state before",
                self.place(function.span),
                "a function of one parameter was expected here",
            );
            self.report(error.hint("`migrate state with fn old => {balance: old}`"));
        }
        self.isolated(owner, Some(Context::Pure), |me| {
            me.level += 1;
            me.expr(function);
            me.level -= 1;
        });
    }

    /// Binds the names of an entity's operations and private functions, which see one another.
    /// Returns the bindings.
    fn members(&mut self, entity: &Entity) -> Range<BindingId> {
        let mut names: HashMap<Name, (Span, bool)> = HashMap::new();
        let first = self.me().bindings.len() as BindingId;
        for member in &entity.members {
            let (f, is_private) = match member {
                Member::Operation(f) => (f, false),
                Member::Function(f) => (f, true),
                Member::State(..) | Member::Migration(..) | Member::Error => continue,
            };
            if let Some((first, was_private)) = names.insert(f.name.name.clone(), (f.name.span, is_private)) {
                let what = match (was_private, is_private) {
                    (false, false) => "operation ",
                    (true, true) => "function ",
                    _ => "",
                };
                let title = format!("{what}`{}` is declared twice", f.name.name);
                let error = Diagnostic::error(title, self.place(f.name.span), "declared again here");
                self.report(error.and(self.place(first), "declared here first"));
            }
            if self.has_siblings || is_private {
                let binding = self.bind(&f.name.name, f.name.span, false);
                let binding = &mut self.me().bindings[binding as usize];
                binding.arity = Some(arity(&f.params));
                // Others can call an operation.
                binding.used = !is_private;
            }
        }
        first..self.me().bindings.len() as BindingId
    }

    /// Returns whether a binding is an operation of the surrounding entity whose name means
    /// something else outside of the entity.
    pub(super) fn hides(&self, binding: BindingId, name: &Name) -> bool {
        let is_operation = self
            .owner
            .is_some_and(|owner| self.program.globals[owner].operations.iter().any(|(n, ..)| n == name));
        let outside = self.program.modules[self.module].globals.contains_key(name)
            || self.std_member("prelude", name).is_some();
        self.siblings.contains(&binding) && is_operation && outside
    }

    /// Warns about a name that means an operation of the surrounding entity, if it would mean
    /// something else outside of the entity.
    pub(super) fn warn_of_hidden(&mut self, binding: BindingId, name: &Name, span: Span) {
        if !self.hides(binding, name) {
            return;
        }
        let warning = Diagnostic::warning(
            format!("`{name}` means the operation of this entity here"),
            self.place(span),
            format!("not the `{name}` outside of the entity"),
        );
        let declared = self.place(self.program.modules[self.module].bindings[binding as usize].span);
        self.report(warning.and(declared, "this operation").hint("give one of them another name"));
    }

    pub(super) fn callable(&mut self, f: &Callable) {
        self.outside_section(|me| me.function(&f.params, &f.body));
    }

    /// Walks the parameters and the body of any function.
    pub(super) fn function(&mut self, params: &[Param], body: &Block) {
        let (loops, in_try) = (mem::take(&mut self.loops), mem::take(&mut self.in_try));
        self.level += 1;
        self.push_scope();
        let mut seen: HashSet<Name> = HashSet::new();
        for param in params {
            if let Some(default) = &param.default {
                self.expr(default);
            }
            let mut twice = None;
            param.pattern.names(&mut |name, span| {
                if &**name != "_" && !seen.insert(name.clone()) {
                    twice = Some((name.clone(), span));
                }
            });
            if let Some((name, span)) = twice {
                let place = self.place(span);
                self.report(Diagnostic::error(
                    format!("two parameters are named `{name}`"),
                    place,
                    "named again here",
                ));
            }
            self.bind_pattern(&param.pattern);
        }
        let optional = params.iter().position(|param| param.default.is_some());
        if let Some(first) = optional
            && let Some(later) = params[first..].iter().find(|param| param.default.is_none())
        {
            let error = Diagnostic::error(
                "a parameter without a default after one with",
                self.place(later.pattern.span),
                "needs a default",
            )
            .and(self.place(params[first].pattern.span), "this one has a default");
            self.report(error);
        }
        if params.len() > 250 {
            let place = self.place(params[250].pattern.span);
            self.report(
                Diagnostic::error("too many parameters", place, "more than 250")
                    .hint("take a list or a record"),
            );
        }
        self.block_inside(body);
        self.pop_scope(false);
        self.level -= 1;
        (self.loops, self.in_try) = (loops, in_try);
    }
}

#[cfg(test)]
mod tests {
    use crate::check::{STD, load_stored, std_sources};

    /// Programs in stores keep the meaning that their names had.
    #[test]
    fn operations_of_an_older_library_see_no_siblings() {
        let text = "entity Cart {\n  state [2]\n  on sum() => sum(state)\n}\nCart(1).sum()\n";
        let load = |rule: &str| {
            let std = std_sources().iter();
            let std = std.map(|(name, text)| (format!("{STD}{name}.df"), text.replace(rule, "\n")));
            let modules: Vec<(String, String)> =
                std::iter::once(("a.df".to_string(), text.to_string())).chain(std).collect();
            load_stored(&modules).expect("it has modules")
        };
        assert!(load("\n// Entities: siblings.\n").is_sound());
        assert!(!load("no such line").is_sound());
    }
}
