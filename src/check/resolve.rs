//! Walks every module, gives each name its meaning, and reports what may not be.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::mem;

use crate::builtins::{Context, Kind};
use crate::syntax::token::Name;
use crate::syntax::tree::*;
use crate::syntax::{Diagnostic, Place, Span};

use super::contexts::{Construct, construct_error, effect_error};
use super::scope::{Scope, arity, describe_arity};
use super::{Binding, BindingId, GlobalId, GlobalKind, Module, ModuleId, Program, Resolved, closest, patterns};

/// Resolves all modules of a program.
pub fn resolve(program: &mut Program) {
    let std: HashMap<&'static str, ModuleId> =
        program.modules.iter().enumerate().filter_map(|(id, module)| module.std.map(|name| (name, id))).collect();
    let mut facts = Facts::default();
    for module in 0..program.modules.len() {
        let items = mem::take(&mut program.modules[module].tree.items);
        let mut resolver = Resolver {
            program,
            std: &std,
            module,
            facts: &mut facts,
            scopes: Vec::new(),
            level: 0,
            context: Some(Context::Orchestration),
            owner: None,
            in_loop: false,
            in_entity: false,
            first_uses: HashMap::new(),
        };
        resolver.module(&items);
        program.modules[module].tree.items = items;
    }
    bind_to_scripts(program, facts);
}

/// What is only understood once all modules are read.
#[derive(Default)]
struct Facts {
    /// A top-level function that uses a variable of its script.
    captures: Vec<(GlobalId, BindingId, usize)>,
    /// A top-level function or isolated declaration that mentions a top-level function.
    mentions: Vec<(GlobalId, GlobalId, Place)>,
    /// A mention of a top-level function from another module.
    foreign: Vec<(GlobalId, Place)>,
    /// The first statement of a script that mentions a function.
    first_uses: HashMap<GlobalId, usize>,
}

/// Functions that use script variables belong to the script, and so do those that use them.
fn bind_to_scripts(program: &mut Program, facts: Facts) {
    for (global, binding, _) in &facts.captures {
        let module = program.globals[*global].module;
        let name = program.modules[module].bindings[*binding as usize].name.clone();
        program.globals[*global].script_bound.get_or_insert(name);
    }
    loop {
        let mut changed = false;
        for (from, to, _) in &facts.mentions {
            if program.globals[*from].kind == GlobalKind::Function
                && program.globals[*from].script_bound.is_none()
                && program.globals[*from].module == program.globals[*to].module
                && let Some(name) = program.globals[*to].script_bound.clone()
            {
                program.globals[*from].script_bound = Some(name);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    for (from, to, place) in &facts.mentions {
        let (from, to) = (&program.globals[*from], &program.globals[*to]);
        if let Some(variable) = &to.script_bound
            && from.kind != GlobalKind::Function
        {
            program.diagnostics.push(captured(from.kind, &from.name, variable, *place, Some(&to.name)));
        }
    }
    for (global, place) in &facts.foreign {
        let global = &program.globals[*global];
        if let Some(variable) = &global.script_bound {
            program.diagnostics.push(
                Diagnostic::error(format!("`{}` belongs to another file's script", global.name), *place, "can't be used from here")
                    .because(format!("it uses the script variable `{variable}`, and the scripts of imported files don't run"))
                    .hint(format!("give it `{variable}` as a parameter, or make that a `const`")),
            );
        }
    }
    // Where a script's functions are made, and which of its variables that is too early for.
    for module in 0..program.modules.len() {
        let bound = |global: &GlobalId| program.globals[*global].module == module && program.globals[*global].script_bound.is_some();
        let place = facts.first_uses.iter().filter(|(global, _)| bound(global)).map(|(_, at)| *at).min();
        let place = place.unwrap_or(usize::MAX);
        let early: BTreeSet<BindingId> = facts
            .captures
            .iter()
            .filter(|(global, _, declared)| program.globals[*global].module == module && *declared >= place)
            .map(|(_, binding, _)| *binding)
            .collect();
        let module = &mut program.modules[module];
        module.function_places.insert(u32::MAX, place);
        for binding in early {
            module.bindings[binding as usize].early = true;
        }
    }
}

fn captured(kind: GlobalKind, owner: &str, variable: &str, place: Place, through: Option<&str>) -> Diagnostic {
    let text = match through {
        Some(function) => format!("`{function}` uses the script variable `{variable}`"),
        None => "a variable of the script".to_string(),
    };
    Diagnostic::error(format!("{} `{owner}` uses the script variable `{variable}`", kind.describe()), place, text)
        .because("activities, orchestrations and entities run on their own, perhaps elsewhere and later")
        .hint(format!("give it `{variable}` as a parameter, or make that a `const`"))
}

struct Resolver<'a> {
    program: &'a mut Program,
    std: &'a HashMap<&'static str, ModuleId>,
    module: ModuleId,
    facts: &'a mut Facts,
    scopes: Vec<Scope>,
    level: u32,
    /// Where the code runs, if that is certain.
    context: Option<Context>,
    /// The top-level declaration around.
    owner: Option<GlobalId>,
    in_loop: bool,
    in_entity: bool,
    first_uses: HashMap<GlobalId, usize>,
}

impl Resolver<'_> {
    fn me(&mut self) -> &mut Module {
        &mut self.program.modules[self.module]
    }

    fn place(&self, span: Span) -> Place {
        Place { source: self.program.modules[self.module].source, span }
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        self.program.diagnostics.push(diagnostic);
    }

    // ---- bindings

    fn bind(&mut self, name: &Name, span: Span, mutable: bool) -> BindingId {
        let level = self.level;
        let module = self.me();
        let id = module.bindings.len() as BindingId;
        module.bindings.push(Binding {
            name: name.clone(),
            span,
            mutable,
            captured: false,
            early: false,
            used: false,
            level,
            arity: None,
        });
        module.bound.insert(span.start, id);
        if let Some(scope) = self.scopes.last_mut() {
            scope.entries.push((name.clone(), id, scope.current));
        }
        id
    }

    fn bind_pattern(&mut self, pattern: &Pattern) {
        let mut names = Vec::new();
        pattern.names(&mut |name, span| names.push((name.clone(), span)));
        for (name, span) in names {
            self.bind(&name, span, false);
        }
    }

    /// In a pattern that tests, `{late}` alone says that there is such a field; its name need not be used.
    fn tests(&mut self, pattern: &Pattern) {
        let mut waiting = vec![pattern];
        while let Some(pattern) = waiting.pop() {
            match &pattern.kind {
                PatternKind::List(items, _) => waiting.extend(items),
                PatternKind::Record(fields, _) => {
                    for (name, inner) in fields {
                        if name.span == inner.span
                            && let Some(binding) = self.me().bound.get(&name.span.start).copied()
                        {
                            self.me().bindings[binding as usize].used = true;
                        }
                        waiting.push(inner);
                    }
                }
                _ => {}
            }
        }
    }

    fn push_scope(&mut self) {
        self.scopes.push(Scope::default());
    }

    /// Leaves a scope; bindings in it that nobody used are reported.
    fn pop_scope(&mut self, report_unused: bool) {
        let Some(scope) = self.scopes.pop() else { return };
        if self.program.modules[self.module].std.is_some() || !report_unused {
            return;
        }
        for (name, binding, _) in scope.entries {
            let binding = &self.program.modules[self.module].bindings[binding as usize];
            if !binding.used && !name.starts_with('_') {
                let what = if binding.arity.is_some() { "function" } else { "binding" };
                let place = self.place(binding.span);
                self.report(
                    Diagnostic::warning(format!("unused {what} `{name}`"), place, "never used")
                        .hint(format!("remove it, or name it `_{name}`")),
                );
            }
        }
    }

    /// Looks a name up among the local ones, and notes who captures what.
    fn local(&mut self, name: &str) -> Option<BindingId> {
        let (depth, (binding, declared)) =
            self.scopes.iter().enumerate().rev().find_map(|(depth, scope)| scope.find(name).map(|found| (depth, found)))?;
        let level = self.level;
        let owner = self.owner;
        let scope = &mut self.scopes[depth];
        if scope.viewpoint.is_some() {
            scope.captures.push((binding, declared));
        }
        let is_function = self.program.modules[self.module].bindings[binding as usize].arity.is_some();
        if is_function && scope.viewpoint.is_none() {
            scope.first_use.get_or_insert(scope.current);
        }
        let info = &mut self.me().bindings[binding as usize];
        info.used = true;
        if info.level < level {
            info.captured = true;
        }
        let of_script = info.level == 0 && depth == 0;
        if of_script && let Some(owner) = owner {
            self.facts.captures.push((owner, binding, declared));
        }
        Some(binding)
    }

    // ---- names

    fn name(&mut self, name: &Name, span: Span) -> Option<Resolved> {
        let resolved = self.lookup(name, span)?;
        self.me().uses.insert(span.start, resolved);
        if let Resolved::Global(global) = resolved {
            self.mention(global, span);
        }
        Some(resolved)
    }

    fn lookup(&mut self, name: &Name, span: Span) -> Option<Resolved> {
        if let Some(binding) = self.local(name) {
            if let Some(owner) = self.owner {
                let info = &self.program.modules[self.module].bindings[binding as usize];
                let kind = self.program.globals[owner].kind;
                if info.level == 0 && kind != GlobalKind::Function && self.is_script_variable(binding) {
                    let owner_name = self.program.globals[owner].name.clone();
                    let error = captured(kind, &owner_name, name, self.place(span), None);
                    self.report(error);
                }
            }
            return Some(Resolved::Local(binding));
        }
        if let Some(global) = self.program.modules[self.module].globals.get(name) {
            return Some(self.global(*global));
        }
        if &**name == "self" {
            let id = crate::builtins::find("self")?;
            if let Some(error) = effect_error("self", id.get().contexts, self.context, self.place(span)) {
                self.report(error);
            }
            return Some(Resolved::Builtin(id));
        }
        if let Some(global) = self.std_member("prelude", name) {
            return Some(self.global(global));
        }
        if self.program.modules[self.module].imports.contains_key(name) || self.std.contains_key(&**name) {
            let place = self.place(span);
            if let Some(import) = self.me().imports.get_mut(name) {
                import.used = true;
            }
            self.report(
                Diagnostic::error(format!("`{name}` is a module, not a value"), place, "a module")
                    .hint(format!("name one of its members: `{name}.…`")),
            );
            return None;
        }
        self.unknown_name(name, span);
        None
    }

    fn is_script_variable(&self, binding: BindingId) -> bool {
        self.scopes.first().is_some_and(|scope| scope.entries.iter().any(|(_, id, _)| *id == binding))
    }

    fn global(&self, global: GlobalId) -> Resolved {
        match self.program.globals[global].alias {
            Some(builtin) => Resolved::Builtin(builtin),
            None => Resolved::Global(global),
        }
    }

    fn std_member(&self, module: &str, name: &str) -> Option<GlobalId> {
        self.std.get(module).and_then(|module| self.program.modules[*module].globals.get(name)).copied()
    }

    fn mention(&mut self, global: GlobalId, span: Span) {
        let place = self.place(span);
        if let Some(owner) = self.owner {
            self.facts.mentions.push((owner, global, place));
        }
        if self.program.globals[global].module != self.module {
            self.facts.foreign.push((global, place));
        } else if self.owner.is_none() {
            let at = self.scopes.first().map_or(0, |scope| scope.current);
            self.facts.first_uses.entry(global).or_insert(at);
            self.first_uses.entry(global).or_insert(at);
        }
    }

    fn unknown_name(&mut self, name: &Name, span: Span) {
        let mut known: Vec<Name> = self.scopes.iter().flat_map(|s| s.entries.iter().map(|e| e.0.clone())).collect();
        known.extend(self.program.modules[self.module].globals.keys().cloned());
        known.extend(self.program.modules[self.module].imports.keys().cloned());
        if let Some(prelude) = self.std.get("prelude") {
            known.extend(self.program.modules[*prelude].globals.keys().cloned());
        }
        known.extend(self.std.keys().map(|name| Name::from(*name)));
        let near = || closest(name, known.iter().map(|n| &**n)).map(|near| format!("did you mean `{near}`?"));
        let hint = self.method_hint(name).or_else(near).or_else(|| foreign_name(name));
        let place = self.place(span);
        self.report(Diagnostic::error(format!("unknown name `{name}`"), place, "not defined here").maybe_hint(hint));
        // Said once in a scope is enough.
        if let Some(scope) = self.scopes.last_mut() {
            let level = self.level;
            let module = &mut self.program.modules[self.module];
            let id = module.bindings.len() as BindingId;
            module.bindings.push(Binding {
                name: name.clone(), span, mutable: true, captured: false, early: false, used: true, level, arity: None,
            });
            scope.entries.push((name.clone(), id, 0));
        }
    }

    fn method_hint(&self, name: &Name) -> Option<String> {
        ["list", "string", "record", "math"]
            .iter()
            .find(|module| self.std_member(module, name).is_some())
            .map(|module| format!("it is a method: `value.{name}(…)`, or `{module}.{name}(value, …)`"))
    }

    /// `module.member`, when the name before the dot is a module.
    fn member(&mut self, module: &Name, module_span: Span, member: &Ident) -> Option<Option<Resolved>> {
        if self.scopes.iter().any(|scope| scope.find(module).is_some())
            || self.program.modules[self.module].globals.contains_key(module)
        {
            return None;
        }
        if &**module == "native" && self.program.modules[self.module].std.is_some() {
            let builtin = crate::builtins::find(&member.name);
            let place = self.place(member.span);
            match builtin {
                Some(id) => {
                    self.me().uses.insert(member.span.start, Resolved::Builtin(id));
                }
                None => self.report(Diagnostic::error("unknown native", place, "not in the table")),
            }
            return Some(builtin.map(Resolved::Builtin));
        }
        let target = match self.me().imports.get_mut(module) {
            Some(import) => {
                import.used = true;
                import.module
            }
            None => *self.std.get(&**module)?,
        };
        if let Some(global) = self.program.modules[target].globals.get(&member.name).copied() {
            let resolved = self.global(global);
            self.me().uses.insert(member.span.start, resolved);
            if let Resolved::Global(global) = resolved {
                self.mention(global, module_span.to(member.span));
            }
            return Some(Some(resolved));
        }
        let names: Vec<Name> = self.program.modules[target].globals.keys().cloned().collect();
        let near = closest(&member.name, names.iter().map(|n| &**n)).map(|near| format!("did you mean `{module}.{near}`?"));
        let place = self.place(member.span);
        self.report(
            Diagnostic::error(format!("module `{module}` has no `{}`", member.name), place, "not a member")
                .maybe_hint(near),
        );
        Some(None)
    }

    // ---- modules and declarations

    fn module(&mut self, items: &[Stmt]) {
        self.push_scope();
        let args = self.bind(&"args".into(), Span::new(u32::MAX as usize, u32::MAX as usize), false);
        self.me().args = args;
        self.me().bindings[args as usize].used = true;
        for id in 0..self.program.globals.len() {
            if self.program.globals[id].module == self.module && self.program.globals[id].kind == GlobalKind::Function {
                let (name, span) = (self.program.globals[id].name.clone(), self.program.globals[id].span);
                let module = self.me();
                let binding = module.bindings.len() as BindingId;
                module.bindings.push(Binding {
                    name, span, mutable: false, captured: true, early: false, used: true, level: 0, arity: None,
                });
                self.program.globals[id].binding = binding;
            }
        }
        for (index, item) in items.iter().enumerate() {
            if let Some(scope) = self.scopes.last_mut() {
                scope.current = index;
            }
            if !matches!(item.kind, StmtKind::Fn(_) | StmtKind::Activity(_) | StmtKind::Orchestration(_) | StmtKind::Entity(_)) {
                self.statement(item);
            }
        }
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
        let unused: Vec<(Name, Span)> =
            self.me().imports.iter().filter(|(_, i)| !i.used).map(|(name, i)| (name.clone(), i.span)).collect();
        for (name, span) in unused {
            let place = self.place(span);
            self.report(Diagnostic::warning(format!("unused import `{name}`"), place, "never used").hint("remove the import"));
        }
    }

    fn declaration(&mut self, item: &Stmt) {
        let find = |me: &Self, name: &Ident| {
            me.program.globals.iter().position(|g| g.module == me.module && g.span == name.span)
        };
        match &item.kind {
            StmtKind::Fn(f) => self.isolated(find(self, &f.name), None, |me| me.callable(f)),
            StmtKind::Activity(f) => {
                self.options(f, find(self, &f.name));
                self.isolated(find(self, &f.name), Some(Context::Activity), |me| me.callable(f));
            }
            StmtKind::Orchestration(f) => {
                self.options(f, find(self, &f.name));
                self.isolated(find(self, &f.name), Some(Context::Orchestration), |me| me.callable(f));
            }
            StmtKind::Entity(entity) => self.entity(entity, find(self, &entity.name)),
            _ => {}
        }
    }

    fn isolated(&mut self, owner: Option<GlobalId>, context: Option<Context>, walk: impl FnOnce(&mut Self)) {
        let saved = (self.owner, self.context, self.in_loop);
        self.owner = owner;
        self.context = context;
        self.in_loop = false;
        walk(self);
        (self.owner, self.context, self.in_loop) = saved;
    }

    fn options(&mut self, f: &Callable, owner: Option<GlobalId>) {
        if let Some(options) = &f.options {
            self.isolated(owner, Some(Context::Pure), |me| {
                me.level += 1;
                me.expr(options);
                me.level -= 1;
            });
            self.option_fields(options, &["retry", "timeout"]);
        }
    }

    /// Reports fields of a `with` that nobody reads.
    fn option_fields(&mut self, options: &Expr, known: &[&str]) {
        let ExprKind::Record(fields) = &options.kind else { return };
        for field in fields {
            if let Field::Named(name, value) = field {
                if !known.contains(&&*name.name) {
                    self.unknown_option(name, known);
                } else if &*name.name == "retry" {
                    self.option_fields(value, &["times", "first", "factor", "max"]);
                }
            }
        }
    }

    fn unknown_option(&mut self, name: &Ident, known: &[&str]) {
        let near = closest(&name.name, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        let place = self.place(name.span);
        self.report(
            Diagnostic::error(format!("unknown option `{}`", name.name), place, "not an option")
                .because(format!("the options here are {}", known.join(", ")))
                .maybe_hint(near),
        );
    }

    fn entity(&mut self, entity: &Entity, owner: Option<GlobalId>) {
        let mut names: HashMap<Name, Span> = HashMap::new();
        let mut state: Option<Span> = None;
        for member in &entity.members {
            match member {
                Member::State(value, span) => {
                    if let Some(first) = state.replace(*span) {
                        let error = Diagnostic::error("two states in one entity", self.place(*span), "declared again here")
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
                Member::Operation(f) => {
                    if let Some(first) = names.insert(f.name.name.clone(), f.name.span) {
                        let error = Diagnostic::error(
                            format!("operation `{}` is declared twice", f.name.name),
                            self.place(f.name.span),
                            "declared again here",
                        );
                        let error = error.and(self.place(first), "declared here first");
                        self.report(error);
                    }
                    self.in_entity = true;
                    self.isolated(owner, Some(Context::Operation), |me| me.callable(f));
                    self.in_entity = false;
                }
                Member::Error => {}
            }
        }
    }

    fn callable(&mut self, f: &Callable) {
        self.function(&f.params, &f.body);
    }

    /// Parameters and body of any function.
    fn function(&mut self, params: &[Param], body: &Block) {
        let in_loop = mem::take(&mut self.in_loop);
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
                self.report(Diagnostic::error(format!("two parameters are named `{name}`"), place, "named again here"));
            }
            self.bind_pattern(&param.pattern);
        }
        let optional = params.iter().position(|param| param.default.is_some());
        if let Some(first) = optional
            && let Some(later) = params[first..].iter().find(|param| param.default.is_none())
        {
            let error = Diagnostic::error("a parameter without a default after one with", self.place(later.pattern.span), "needs a default")
                .and(self.place(params[first].pattern.span), "this one has a default");
            self.report(error);
        }
        if params.len() > 250 {
            let place = self.place(params[250].pattern.span);
            self.report(Diagnostic::error("too many parameters", place, "more than 250").hint("take a list or a record"));
        }
        self.block_inside(body);
        self.pop_scope(false);
        self.level -= 1;
        self.in_loop = in_loop;
    }

    // ---- blocks and statements

    fn block(&mut self, block: &Block) {
        self.push_scope();
        self.statements(block);
        self.pop_scope(true);
    }

    /// A function's body: a scope of its own, so that it may shadow parameters.
    fn block_inside(&mut self, block: &Block) {
        self.block(block);
    }

    fn statements(&mut self, block: &Block) {
        for (index, stmt) in block.stmts.iter().enumerate() {
            if let StmtKind::Fn(f) = &stmt.kind {
                if let Some(scope) = self.scopes.last_mut() {
                    scope.current = index;
                    if let Some((_, first, _)) = scope.entries.iter().find(|(name, ..)| *name == f.name.name) {
                        let first = self.program.modules[self.module].bindings[*first as usize].span;
                        let error = Diagnostic::error(
                            format!("`{}` is declared twice", f.name.name),
                            self.place(f.name.span),
                            "declared again here",
                        );
                        let error = error.and(self.place(first), "declared here first");
                        self.report(error);
                    }
                }
                let id = self.bind(&f.name.name, f.name.span, false);
                self.me().bindings[id as usize].arity = Some(arity(&f.params));
            }
        }
        for (index, stmt) in block.stmts.iter().enumerate() {
            if let Some(scope) = self.scopes.last_mut() {
                scope.current = index;
            }
            if !matches!(stmt.kind, StmtKind::Fn(_)) {
                self.statement(stmt);
            }
        }
        for (index, stmt) in block.stmts.iter().enumerate() {
            if let StmtKind::Fn(f) = &stmt.kind {
                if let Some(scope) = self.scopes.last_mut() {
                    scope.viewpoint = Some(index);
                }
                self.callable(f);
            }
        }
        if let Some(scope) = self.scopes.last_mut() {
            scope.viewpoint = None;
            let place = scope.first_use.unwrap_or(usize::MAX);
            let captures = mem::take(&mut scope.captures);
            let module = &mut self.program.modules[self.module];
            module.function_places.insert(block.span.start, place);
            for (binding, declared) in captures {
                if declared >= place && module.bindings[binding as usize].arity.is_none() {
                    module.bindings[binding as usize].early = true;
                }
            }
        }
    }

    fn statement(&mut self, stmt: &Stmt) {
        match &stmt.kind {
            StmtKind::Let(pattern, value) => {
                self.expr(value);
                self.bind_pattern(pattern);
            }
            StmtKind::Var(name, value) => {
                self.expr(value);
                self.bind(&name.name, name.span, true);
            }
            StmtKind::Expr(expr) => self.expr(expr),
            StmtKind::Assign(target, _, value) => {
                self.expr(value);
                self.target(target);
            }
            StmtKind::For(pattern, list, body) => {
                self.expr(list);
                self.push_scope();
                self.bind_pattern(pattern);
                let in_loop = mem::replace(&mut self.in_loop, true);
                self.block(body);
                self.in_loop = in_loop;
                self.pop_scope(true);
            }
            StmtKind::While(condition, body) => {
                self.expr(condition);
                let in_loop = mem::replace(&mut self.in_loop, true);
                self.block(body);
                self.in_loop = in_loop;
            }
            StmtKind::Const(name, value, _) => {
                let owner = self.program.modules[self.module].globals.get(&name.name).copied();
                self.isolated(owner, Some(Context::Pure), |me| {
                    me.level += 1;
                    me.expr(value);
                    me.level -= 1;
                });
            }
            StmtKind::Test(_, body) => self.isolated(None, Some(Context::Orchestration), |me| {
                me.level += 1;
                me.block(body);
                me.level -= 1;
            }),
            StmtKind::Fn(_) | StmtKind::Activity(_) | StmtKind::Orchestration(_) | StmtKind::Entity(_) => {}
            StmtKind::Import { .. } | StmtKind::Error => {}
        }
    }

    fn target(&mut self, target: &Expr) {
        match &target.kind {
            ExprKind::Name(name) => {
                let Some(resolved) = self.name(name, target.span) else { return };
                let place = self.place(target.span);
                let Resolved::Local(binding) = resolved else {
                    self.report(
                        Diagnostic::error(format!("`{name}` can't be assigned"), place, "a declaration, not a variable")
                            .hint("declare a variable with `var`"),
                    );
                    return;
                };
                let info = self.program.modules[self.module].bindings[binding as usize].clone();
                if !info.mutable {
                    let declared = self.place(info.span);
                    let how = if info.span.start == u32::MAX { "not a `var`" } else { "bound here, once and for all" };
                    let mut error = Diagnostic::error(format!("`{name}` is not a `var`"), place, "can't be assigned");
                    if info.span.start != u32::MAX {
                        error = error.and(declared, how);
                    }
                    self.report(error.hint(format!("declare it with `var {name} = …`")));
                }
            }
            ExprKind::State => self.expr(target),
            ExprKind::Field(inner, _) => self.target(inner),
            ExprKind::Index(inner, index) => {
                self.expr(index);
                self.target(inner);
            }
            ExprKind::Error => {}
            _ => {
                self.expr(target);
                let place = self.place(target.span);
                self.report(
                    Diagnostic::error("this can't be assigned", place, "not a variable or a path of one")
                        .hint("`=` assigns to `name`, `name.field` or `name[index]`; `==` compares"),
                );
            }
        }
    }

    // ---- expressions

    fn exprs<'e>(&mut self, exprs: impl IntoIterator<Item = &'e Expr>) {
        exprs.into_iter().for_each(|expr| self.expr(expr));
    }

    fn construct(&mut self, construct: Construct, span: Span) {
        if let Some(error) = construct_error(construct, self.context, self.place(span)) {
            self.report(error);
        }
    }

    fn expr(&mut self, expr: &Expr) {
        match &expr.kind {
            ExprKind::Null | ExprKind::Bool(_) | ExprKind::Int(_) | ExprKind::Float(_) | ExprKind::Duration(_) => {}
            ExprKind::Str(_) | ExprKind::Error => {}
            ExprKind::IntMin => {
                let place = self.place(expr.span);
                self.report(
                    Diagnostic::error("number out of range", place, "too large for an int")
                        .because("ints have 64 bits: -9223372036854775808 to 9223372036854775807"),
                );
            }
            ExprKind::Interpolated(_, exprs) => self.exprs(exprs),
            ExprKind::Name(name) => {
                self.name(name, expr.span);
            }
            ExprKind::State => {
                if !self.in_entity {
                    let place = self.place(expr.span);
                    self.report(
                        Diagnostic::error("`state` outside of an entity's operation", place, "there is no state here")
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
                self.function(&lambda.params, &lambda.body);
                self.context = context;
            }
            ExprKind::Unary(_, e) => self.expr(e),
            ExprKind::Binary(_, a, b) | ExprKind::And(a, b) | ExprKind::Or(a, b) | ExprKind::Coalesce(a, b) => {
                self.expr(a);
                self.expr(b);
            }
            ExprKind::Range(a, b, _) | ExprKind::Index(a, b) => {
                self.expr(a);
                self.expr(b);
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
                self.block(then);
                self.exprs(other.as_deref());
            }
            ExprKind::Match(value, arms) => self.match_(value, arms, expr.span),
            ExprKind::Do(block) => self.block(block),
            ExprKind::Try(t) => self.try_(t, expr.span),
            ExprKind::Lock(lock) => {
                self.construct(Construct::Lock, Span::new(expr.span.start as usize, expr.span.start as usize + 4));
                self.exprs(&lock.entities);
                self.exprs(&lock.options);
                self.block(&lock.body);
            }
            ExprKind::Async(e) => {
                self.construct(Construct::Async, Span::new(expr.span.start as usize, expr.span.start as usize + 5));
                // The task is a function of its own.
                let in_loop = mem::take(&mut self.in_loop);
                self.level += 1;
                self.expr(e);
                self.level -= 1;
                self.in_loop = in_loop;
            }
            ExprKind::Await(e) => {
                self.construct(Construct::Await, Span::new(expr.span.start as usize, expr.span.start as usize + 5));
                self.expr(e);
            }
            ExprKind::Start(e) => self.start(e, expr.span),
            ExprKind::Signal(signal) => self.signal(signal, expr.span),
            ExprKind::Throw(e) => self.expr(e),
            ExprKind::Return(value) => self.exprs(value.as_deref()),
            ExprKind::Break | ExprKind::Continue => {
                if !self.in_loop {
                    let word = if expr.kind == ExprKind::Break { "break" } else { "continue" };
                    let place = self.place(expr.span);
                    self.report(
                        Diagnostic::error(format!("`{word}` outside of a loop"), place, "no loop around this")
                            .because("a function within a loop is not part of the loop"),
                    );
                }
            }
        }
    }

    fn record(&mut self, fields: &[Field]) {
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
                        let error = error.and(self.place(first), "given here first").hint("remove one of them");
                        self.report(error);
                    }
                }
                Field::Spread(_) | Field::Computed(..) => seen.clear(),
            }
        }
    }

    fn field(&mut self, value: &Expr, name: &Ident) {
        if let ExprKind::Name(module) = &value.kind
            && let Some(_found) = self.member(module, value.span, name)
        {
            return;
        }
        self.expr(value);
        self.program.methods.insert(name.name.clone());
    }

    fn call(&mut self, callee: &Expr, args: &[Element], extra: usize, span: Span) {
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
        let name = self.program.sources.snippet(self.place(callee.span)).to_string();
        match resolved {
            Some(Resolved::Builtin(id)) => {
                let builtin = id.get();
                if let Some(error) = effect_error(&name, builtin.contexts, self.context, self.place(callee.span)) {
                    self.report(error);
                }
                let _ = matches!(builtin.kind, Kind::Native);
                self.count(&name, given, certain, builtin.min as usize, builtin.max as usize, span, None);
            }
            Some(Resolved::Global(global)) => {
                let g = &self.program.globals[global];
                let (kind, min, max) = (g.kind, g.min, g.max);
                let declared = Place { source: self.program.modules[g.module].source, span: g.span };
                let declared = self.program.modules[g.module].std.is_none().then_some(declared);
                self.construct(Construct::Call(kind), callee.span);
                if let Some(contexts) = self.wrapped_effect(global)
                    && let Some(error) = effect_error(&name, contexts, self.context, self.place(callee.span))
                {
                    self.report(error);
                }
                if kind != GlobalKind::Const {
                    self.count(&name, given, certain, min, max, span, declared);
                }
            }
            Some(Resolved::Local(binding)) => {
                let binding = &self.program.modules[self.module].bindings[binding as usize];
                if let Some((min, max)) = binding.arity {
                    let declared = self.place(binding.span);
                    self.count(&name, given, certain, min, max, span, Some(declared));
                }
            }
            None => {}
        }
    }

    /// The contexts of the effect that a function of the standard library is a wrapper of.
    fn wrapped_effect(&self, global: GlobalId) -> Option<crate::builtins::Contexts> {
        let global = &self.program.globals[global];
        self.program.modules[global.module].std?;
        let StmtKind::Fn(f) = &self.program.modules[global.module].tree.items.get(global.item)?.kind else { return None };
        let [Stmt { kind: StmtKind::Expr(body), .. }] = &f.body.stmts[..] else { return None };
        let ExprKind::Call(callee, _) = &body.kind else { return None };
        let ExprKind::Field(module, name) = &callee.kind else { return None };
        match &module.kind {
            ExprKind::Name(module) if &**module == "native" => {
                crate::builtins::find(&name.name).map(|id| id.get().contexts)
            }
            _ => None,
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn count(&mut self, name: &str, given: usize, certain: bool, min: usize, max: usize, span: Span, declared: Option<Place>) {
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
        if let Some(declared) = declared {
            error = error.and(declared, "declared here");
        }
        self.report(error);
    }

    /// `value.name(args)`, where the value isn't a module.
    fn method(&mut self, value: &Expr, name: &Ident, args: &[Element]) {
        self.expr(value);
        self.program.methods.insert(name.name.clone());
        if let Some(entity) = self.entity_of(value) {
            self.construct(Construct::EntityCall, value.span.to(name.span));
            self.operation(entity, name, args);
        }
    }

    /// The entity, when an expression is `Entity(key)`.
    fn entity_of(&self, value: &Expr) -> Option<GlobalId> {
        let ExprKind::Call(callee, _) = &value.kind else { return None };
        let at = match &callee.kind {
            ExprKind::Name(_) => callee.span.start,
            ExprKind::Field(_, name) => name.span.start,
            _ => return None,
        };
        match self.program.modules[self.module].uses.get(&at) {
            Some(Resolved::Global(global)) if self.program.globals[*global].kind == GlobalKind::Entity => Some(*global),
            _ => None,
        }
    }

    fn operation(&mut self, entity: GlobalId, name: &Ident, args: &[Element]) {
        let global = &self.program.globals[entity];
        let (entity_name, operations) = (global.name.clone(), global.operations.clone());
        let place = self.place(name.span);
        match operations.iter().find(|(n, ..)| *n == name.name) {
            Some((_, min, max)) => {
                let certain = args.iter().all(|arg| matches!(arg, Element::Item(_)));
                let title = format!("{entity_name}.{}", name.name);
                self.count(&title, args.len(), certain, *min, *max, name.span, None);
            }
            None => {
                let near = closest(&name.name, operations.iter().map(|(n, ..)| &**n));
                self.report(
                    Diagnostic::error(format!("entity `{entity_name}` has no operation `{}`", name.name), place, "not an operation")
                        .maybe_hint(near.map(|near| format!("did you mean `{near}`?"))),
                );
            }
        }
    }

    fn with(&mut self, call: &Expr, options: &Expr) {
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
            self.report(Diagnostic::error("`..` in a call with options", place, "can't be spread here").hint("write the arguments out"));
        }
        if !is_call || !fits {
            let place = self.place(call.span);
            self.report(
                Diagnostic::error("`with` needs a call of an activity or an orchestration", place, "not such a call")
                    .hint("options go with one call: `charge(card, 10) with {timeout: 5s}`"),
            );
        }
        match kind {
            Some(GlobalKind::Activity) => self.option_fields(options, &["retry", "timeout"]),
            Some(GlobalKind::Orchestration) => self.option_fields(options, &["id"]),
            _ => {}
        }
    }

    fn callee_global(&self, callee: &Expr) -> Option<GlobalId> {
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

    fn start(&mut self, e: &Expr, span: Span) {
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
        // Starting is not calling: the contexts are those of `start`.
        let context = mem::replace(&mut self.context, None);
        self.call(callee, args, 0, call.span);
        self.context = context;
        self.exprs(options);
        if let Some(global) = self.callee_global(callee)
            && self.program.globals[global].kind != GlobalKind::Orchestration
        {
            let place = self.place(callee.span);
            let kind = self.program.globals[global].kind.describe();
            self.report(
                Diagnostic::error("`start` needs a call of an orchestration", place, format!("this is a {kind}"))
                    .hint("`async` begins any other call as a task"),
            );
        }
    }

    fn signal(&mut self, signal: &Signal, span: Span) {
        self.construct(Construct::Signal, Span::new(span.start as usize, span.start as usize + 6));
        let context = mem::replace(&mut self.context, None);
        self.expr(&signal.call);
        self.context = context;
        self.exprs(&signal.options);
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

    fn match_(&mut self, value: &Expr, arms: &[Arm], span: Span) {
        self.expr(value);
        if arms.is_empty() {
            let place = self.place(span);
            self.report(Diagnostic::error("this `match` has no arms", place, "nothing can match").hint("add `pattern => value`"));
        }
        for arm in arms {
            self.push_scope();
            let mut names: Vec<BTreeSet<Name>> = Vec::new();
            for (number, pattern) in arm.patterns.iter().enumerate() {
                let mut of_pattern = BTreeSet::new();
                let mut found = Vec::new();
                pattern.names(&mut |name, span| {
                    of_pattern.insert(name.clone());
                    found.push((name.clone(), span));
                });
                for (name, span) in found {
                    if number == 0 {
                        self.bind(&name, span, false);
                    } else if let Some(binding) = self.scopes.last().and_then(|scope| scope.find(&name)) {
                        self.me().bound.insert(span.start, binding.0);
                    }
                }
                names.push(of_pattern);
                self.tests(pattern);
            }
            if let Some(at) = names.iter().position(|set| *set != names[0])
                && !arm.patterns.iter().any(|p| p.kind == PatternKind::Error)
            {
                let error = Diagnostic::error("alternatives bind different names", self.place(arm.patterns[at].span), "binds other names")
                    .and(self.place(arm.patterns[0].span), "than this one")
                    .because("the arm uses the names whichever alternative matched");
                self.report(error);
            }
            self.exprs(&arm.guard);
            self.block(&arm.body);
            self.pop_scope(true);
        }
        for (arm, taker) in patterns::unreachable_arms(arms) {
            let span = |arm: &Arm| arm.patterns[0].span.to(arm.patterns[arm.patterns.len() - 1].span);
            let error = Diagnostic::error("unreachable arm", self.place(span(&arms[arm])), "can never match")
                .and(self.place(span(&arms[taker])), "this arm takes all such values")
                .hint("put the special case first, or remove it");
            self.report(error);
        }
    }

    fn try_(&mut self, t: &Try, span: Span) {
        if t.catches.is_empty() && t.finally.is_none() {
            let place = self.place(Span::new(span.start as usize, span.start as usize + 3));
            self.report(
                Diagnostic::error("this `try` has neither `catch` nor `finally`", place, "nothing handles an error")
                    .hint("add `catch e { … }`"),
            );
        }
        self.block(&t.body);
        for (pattern, body) in &t.catches {
            self.push_scope();
            self.bind_pattern(pattern);
            self.tests(pattern);
            self.block(body);
            self.pop_scope(true);
        }
        if let Some(finally) = &t.finally {
            self.block(finally);
        }
    }
}

/// Names that other languages have, and what they are here.
fn foreign_name(name: &str) -> Option<String> {
    let hint = match name {
        "None" | "nil" | "undefined" | "NULL" => "the empty value is `null`",
        "True" => "write `true`",
        "False" => "write `false`",
        "println" | "puts" | "echo" | "printf" | "console" => "write `print(value)`",
        "length" | "size" | "count" => "the number of elements is `len(value)`",
        "str" | "String" | "toString" => "write `to_string(value)`",
        "typeof" | "type" => "write `kind_of(value)`",
        "this" => "an operation's own state is `state`; its id and key are `self.id` and `self.key`",
        "exit" => "a script ends with its last statement; `return` at its top level ends it early",
        "setTimeout" => "write `sleep(5s)`",
        "Promise" => "tasks are made by `async` and joined by `all([…])`",
        _ => return None,
    };
    Some(hint.to_string())
}
