//! Blocks, statements, and the targets of assignments.

use std::mem;

use crate::builtins::Context;
use crate::syntax::Diagnostic;
use crate::syntax::tree::*;

use super::super::Resolved;
use super::super::scope::arity;
use super::Resolver;
use super::idle::Last;

impl Resolver<'_> {
    pub(super) fn block(&mut self, block: &Block) {
        self.push_scope();
        self.statements(block);
        self.pop_scope(true);
    }

    /// Walks a function's body, which has a scope of its own, so that it may shadow parameters.
    pub(super) fn block_inside(&mut self, block: &Block) {
        self.block(block);
    }

    /// Walks a block whose value is unused.
    pub(super) fn loop_body(&mut self, block: &Block) {
        self.last = Last::Nothing;
        self.block(block);
    }

    pub(super) fn statements(&mut self, block: &Block) {
        let last = mem::take(&mut self.last);
        for (index, stmt) in block.stmts.iter().enumerate() {
            if let StmtKind::Fn(f) = &stmt.kind {
                if let Some(scope) = self.scopes.last_mut() {
                    scope.current = index;
                    if let Some((_, first, _)) = scope.entries.iter().find(|(name, ..)| *name == f.name.name)
                    {
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
                self.last = if index + 1 == block.stmts.len() { last } else { Last::Nothing };
                self.statement(stmt);
                if let StmtKind::Expr(expr) = &stmt.kind
                    && index + 1 < block.stmts.len()
                {
                    self.uncalled(expr, "");
                }
            }
        }
        self.idle_statements(&block.stmts, last);
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

    pub(super) fn statement(&mut self, stmt: &Stmt) {
        let last = mem::take(&mut self.last);
        match &stmt.kind {
            StmtKind::Let(pattern, value) => {
                self.expr(value);
                self.bind_pattern(pattern);
            }
            StmtKind::Var(name, value) => {
                self.expr(value);
                self.bind(&name.name, name.span, true);
            }
            StmtKind::Expr(expr) => {
                self.last = last;
                self.expr(expr);
            }
            StmtKind::Assign(target, _, value) => {
                self.expr(value);
                self.target(target);
            }
            StmtKind::For(label, pattern, list, body) => {
                self.expr(list);
                self.push_scope();
                self.bind_pattern(pattern);
                self.looped(label.as_ref(), body);
                self.pop_scope(true);
            }
            StmtKind::While(label, condition, body) => {
                self.expr(condition);
                self.looped(label.as_ref(), body);
            }
            StmtKind::Const(name, value, _) => {
                let owner = self.program.modules[self.module].globals.get(&name.name).copied();
                self.isolated(owner, Some(Context::Pure), |me| {
                    me.level += 1;
                    me.expr(value);
                    me.level -= 1;
                });
            }
            StmtKind::Test(name, body) => self.test(name, body),
            StmtKind::Mock(mock) => self.mock(mock, stmt.span),
            StmtKind::Property(property) => self.property(property, stmt.span),
            StmtKind::Schedule(schedule) => self.schedule(schedule, stmt.span),
            StmtKind::Fn(_) | StmtKind::Activity(_) | StmtKind::Orchestration(_) | StmtKind::Entity(_) => {}
            StmtKind::Import { .. } | StmtKind::Error => {}
        }
    }

    pub(super) fn target(&mut self, target: &Expr) {
        match &target.kind {
            ExprKind::Name(name) => {
                let known = self.program.diagnostics.len();
                self.assigns = true;
                let resolved = self.name(name, target.span);
                self.assigns = false;
                let unknown = format!("unknown name `{name}`");
                if let Some(said) = self.program.diagnostics[known..].iter_mut().find(|d| d.title == unknown)
                {
                    said.hint.get_or_insert(format!(
                        "declare it: `var {name} = …`, or `let` if it stays as it is"
                    ));
                }
                let Some(resolved) = resolved else { return };
                let place = self.place(target.span);
                let Resolved::Local(binding) = resolved else {
                    self.report(
                        Diagnostic::error(
                            format!("`{name}` can't be assigned"),
                            place,
                            "a declaration, not a variable",
                        )
                        .hint(match &**name {
                            "self" => "an operation's own state is `state`, as in `state.n = 1`",
                            _ => "declare a variable with `var`",
                        }),
                    );
                    return;
                };
                let info = self.program.modules[self.module].bindings[binding as usize].clone();
                if !info.mutable {
                    let declared = self.place(info.span);
                    let how = if info.span.start == u32::MAX {
                        "not a `var`"
                    } else {
                        "bound here; a `let` can't be assigned"
                    };
                    let mut error =
                        Diagnostic::error(format!("`{name}` is not a `var`"), place, "can't be assigned");
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
}
