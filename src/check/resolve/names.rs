//! The meanings of names, and their captures by functions.

use crate::syntax::token::Name;
use crate::syntax::tree::*;
use crate::syntax::{Diagnostic, Span};

use super::super::contexts::effect_error;
use super::super::foreign;
use super::super::scope::Scope;
use super::super::{Binding, BindingId, GlobalId, GlobalKind, Resolved};
use super::{Resolver, captured};

impl Resolver<'_> {
    pub(super) fn bind(&mut self, name: &Name, span: Span, mutable: bool) -> BindingId {
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
            read: false,
            level,
            arity: None,
        });
        module.bound.insert(span.start, id);
        if let Some(scope) = self.scopes.last_mut() {
            scope.entries.push((name.clone(), id, scope.current));
        }
        id
    }

    pub(super) fn bind_pattern(&mut self, pattern: &Pattern) {
        let mut names = Vec::new();
        pattern.names(&mut |name, span| names.push((name.clone(), span)));
        for (name, span) in names {
            self.bind(&name, span, false);
        }
        self.bind_again(pattern);
        self.alternatives(pattern);
    }

    /// Gives the names of further alternatives the bindings of the first, which are in this scope.
    pub(super) fn bind_again(&mut self, pattern: &Pattern) {
        let mut again = Vec::new();
        pattern.names_again(&mut |name, span| again.push((name.clone(), span)));
        for (name, span) in again {
            if let Some(binding) = self.scopes.last().and_then(|scope| scope.find(&name)) {
                self.me().bound.insert(span.start, binding.0);
            }
        }
    }

    /// Reports alternatives within a pattern that bind different names.
    pub(super) fn alternatives(&mut self, pattern: &Pattern) {
        let mut waiting = vec![pattern];
        while let Some(pattern) = waiting.pop() {
            match &pattern.kind {
                PatternKind::List(items, _) => waiting.extend(items),
                PatternKind::Record(fields, _) => waiting.extend(fields.iter().map(|(_, inner)| inner)),
                PatternKind::As(inner, _) => waiting.push(inner),
                PatternKind::Or(all) => {
                    self.bind_alike(all);
                    waiting.extend(all);
                }
                _ => {}
            }
        }
    }

    /// Reports alternatives that bind different names.
    pub(super) fn bind_alike(&mut self, alternatives: &[Pattern]) {
        let names = |pattern: &Pattern| {
            let mut names = Vec::new();
            pattern.names(&mut |name, _| names.push(name.clone()));
            names.sort();
            names
        };
        let all: Vec<Vec<Name>> = alternatives.iter().map(names).collect();
        if let Some(at) = all.iter().position(|set| *set != all[0])
            && !alternatives.iter().any(|p| p.kind == PatternKind::Error)
        {
            let error = Diagnostic::error(
                "alternatives bind different names",
                self.place(alternatives[at].span),
                "binds other names",
            )
            .and(self.place(alternatives[0].span), "than this one")
            .because("the arm uses the names whichever alternative matched");
            self.report(error);
        }
    }

    /// Marks the names of short fields as used. In a pattern that tests, `{late}` alone checks that
    /// the field exists, so its name need not be used.
    pub(super) fn tests(&mut self, pattern: &Pattern) {
        let mut waiting = vec![pattern];
        while let Some(pattern) = waiting.pop() {
            match &pattern.kind {
                PatternKind::List(items, _) | PatternKind::Or(items) => waiting.extend(items),
                PatternKind::As(inner, _) => waiting.push(inner),
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

    pub(super) fn push_scope(&mut self) {
        self.scopes.push(Scope::default());
    }

    /// Leaves a scope, and reports unused bindings in it.
    pub(super) fn pop_scope(&mut self, report_unused: bool) {
        let Some(scope) = self.scopes.pop() else { return };
        if self.program.modules[self.module].std.is_some() || !report_unused {
            return;
        }
        for (name, binding, _) in scope.entries {
            let binding = &self.program.modules[self.module].bindings[binding as usize];
            if binding.mutable && binding.used && !binding.read && !name.starts_with('_') {
                let warning = Diagnostic::warning(
                    format!("`{name}` is set and never read"),
                    self.place(binding.span),
                    "its value is never read",
                );
                self.report(warning.hint(format!("read it, remove it, or name it `_{name}`")));
                continue;
            }
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

    /// Looks up a local name, and notes captures.
    pub(super) fn local(&mut self, name: &str) -> Option<BindingId> {
        let (depth, (binding, declared)) = self
            .scopes
            .iter()
            .enumerate()
            .rev()
            .find_map(|(depth, scope)| scope.find(name).map(|found| (depth, found)))?;
        // A declaration is visible from the beginning of the file, like a function from the
        // beginning of its block. A variable hides the declaration only from the variable's own
        // statement on.
        let is_later = self.scopes[depth].viewpoint.is_some_and(|viewpoint| declared > viewpoint);
        if depth == 0 && is_later && self.program.modules[self.module].globals.contains_key(name) {
            return None;
        }
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
        let reads = !self.assigns;
        let info = &mut self.me().bindings[binding as usize];
        info.used = true;
        info.read |= reads;
        if info.level < level {
            info.captured = true;
        }
        let of_script = info.level == 0 && depth == 0;
        if of_script && let Some(owner) = owner {
            self.facts.captures.push((owner, binding, declared));
        }
        Some(binding)
    }

    pub(super) fn name(&mut self, name: &Name, span: Span) -> Option<Resolved> {
        let resolved = self.lookup(name, span)?;
        self.me().uses.insert(span.start, resolved);
        if let Resolved::Global(global) = resolved {
            self.mention(global, span);
        }
        Some(resolved)
    }

    pub(super) fn lookup(&mut self, name: &Name, span: Span) -> Option<Resolved> {
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
            self.warn_of_hidden(binding, name, span);
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
                    .hint(self.module_hint(name)),
            );
            return None;
        }
        self.unknown_name(name, span);
        None
    }

    pub(super) fn is_script_variable(&self, binding: BindingId) -> bool {
        self.scopes.first().is_some_and(|scope| scope.entries.iter().any(|(_, id, _)| *id == binding))
    }

    pub(super) fn global(&self, global: GlobalId) -> Resolved {
        match self.program.globals[global].alias {
            Some(builtin) => Resolved::Builtin(builtin),
            None => Resolved::Global(global),
        }
    }

    pub(super) fn std_member(&self, module: &str, name: &str) -> Option<GlobalId> {
        self.std.get(module).and_then(|module| self.program.modules[*module].globals.get(name)).copied()
    }

    pub(super) fn mention(&mut self, global: GlobalId, span: Span) {
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

    pub(super) fn unknown_name(&mut self, name: &Name, span: Span) {
        let module = &self.program.modules[self.module];
        let own = || {
            let bindings = self.scopes.iter().flat_map(|scope| scope.entries.iter().map(|entry| &entry.0));
            let names = bindings.chain(module.globals.keys()).chain(module.imports.keys());
            self.did_you_mean(name, names.map(|name| &**name))
        };
        let known = || {
            let prelude =
                self.std.get("prelude").map(|prelude| self.program.modules[*prelude].globals.keys());
            let names = prelude.into_iter().flatten().map(|name| &**name);
            self.did_you_mean(name, self.std.keys().copied().chain(names))
        };
        let kept = self.kept.contains(name).then(|| format!("what the entity keeps is `state.{name}`"));
        let hint = kept
            .or_else(own)
            .or_else(|| foreign::name(name).map(str::to_string))
            .or_else(|| self.method_hint(name))
            .or_else(known);
        let place = self.place(span);
        self.report(
            Diagnostic::error(format!("unknown name `{name}`"), place, "not defined here").maybe_hint(hint),
        );
        // One report in a scope is enough.
        if let Some(scope) = self.scopes.last_mut() {
            let level = self.level;
            let module = &mut self.program.modules[self.module];
            let id = module.bindings.len() as BindingId;
            module.bindings.push(Binding {
                name: name.clone(),
                span,
                mutable: true,
                captured: false,
                early: false,
                used: true,
                read: true,
                level,
                arity: None,
            });
            scope.entries.push((name.clone(), id, 0));
        }
    }

    /// Returns what may be meant by the name of a module where a value is expected.
    fn module_hint(&self, name: &Name) -> String {
        if self.std_member(name, "run").is_some() {
            return format!("write `{name}.run(…)`");
        }
        let method = self.method_hint(name).filter(|_| self.std_member("list", name).is_some());
        match (self.std_member(name, "of").is_some(), method) {
            (true, Some(method)) => format!("{method}; the module has `{name}.of(…)`"),
            (true, None) => format!("write `{name}.of(…)`"),
            _ => format!("name one of its members: `{name}.…`"),
        }
    }

    pub(super) fn method_hint(&self, name: &Name) -> Option<String> {
        ["list", "string", "record", "math"]
            .iter()
            .find(|module| self.std_member(module, name).is_some())
            .map(|module| format!("it is a method: `value.{name}(…)`, or `{module}.{name}(value, …)`"))
    }

    /// Resolves `module.member`; returns `None` if the name before the dot is not a module, and
    /// `Some(None)` if the module has no such member.
    pub(super) fn member(
        &mut self,
        module: &Name,
        module_span: Span,
        member: &Ident,
    ) -> Option<Option<Resolved>> {
        // A function has no members, so an operation hides no module.
        let hides = |(binding, _): &(BindingId, usize)| !self.siblings.contains(binding);
        let local = self.scopes.iter().rev().find_map(|scope| scope.find(module).filter(hides));
        // `args` is the arguments of a script, and a module too.
        let is_the_arguments = local
            .is_some_and(|(binding, _)| binding == self.program.modules[self.module].args)
            && self.std_member(module, &member.name).is_some();
        if local.is_some() && !is_the_arguments
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
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        let is_standard = self.program.modules[target].std.is_some();
        let counterpart = foreign::member(module, &member.name).filter(|_| is_standard).map(str::to_string);
        let near = || {
            self.nearest(&member.name, names.iter().copied())
                .map(|near| format!("did you mean `{module}.{near}`?"))
        };
        let hint = counterpart.or_else(near).or_else(|| foreign::listed(module, names.clone()));
        let place = self.place(member.span);
        self.report(
            Diagnostic::error(format!("module `{module}` has no `{}`", member.name), place, "not a member")
                .maybe_hint(hint),
        );
        Some(None)
    }
}
