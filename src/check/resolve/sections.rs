//! Critical sections: what is certain to break their rules.
//!
//! Only what stands in a section itself is certain; a function or a task within it may run when it is over.

use crate::syntax::tree::*;
use crate::syntax::{Diagnostic, Span};

use super::super::{GlobalId, Resolved};
use super::Resolver;

/// The critical section around.
pub(super) struct Section {
    span: Span,
    /// What is locked, as it is written, with the entity where that is certain; none when there may be others.
    locked: Option<Vec<(String, GlobalId)>>,
}

impl Resolver<'_> {
    /// `lock a, b with {…} { … }`; the construct's place was looked at.
    pub(super) fn lock(&mut self, lock: &Lock, span: Span) {
        let keyword = Span::new(span.start as usize, span.start as usize + 4);
        self.forbidden(keyword, "a critical section within a critical section", "nest no `lock`");
        self.exprs(&lock.entities);
        self.exprs(&lock.options);
        if let Some(options) = &lock.options {
            self.option_fields(options, &["timeout"]);
        }
        let locked = lock.entities.iter().map(|entity| {
            let text = self.program.sources.snippet(self.place(entity.span)).to_string();
            self.entity_of(entity).map(|global| (text, global))
        });
        let locked = locked.collect();
        let outer = self.section.replace(Section { span: keyword, locked });
        self.block(&lock.body);
        self.section = outer;
    }

    /// What runs at another time is not within the section.
    pub(super) fn outside_section(&mut self, walk: impl FnOnce(&mut Self)) {
        let section = self.section.take();
        walk(self);
        self.section = section;
    }

    /// Reports something that no critical section allows.
    pub(super) fn forbidden(&mut self, span: Span, what: &str, hint: &str) {
        let Some(section) = &self.section else { return };
        let around = section.span;
        let error = Diagnostic::error(what.to_string(), self.place(span), "not in here")
            .and(self.place(around), "the critical section")
            .because("a critical section only calls the entities that it holds, and signals others")
            .hint(hint.to_string());
        self.report(error);
    }

    /// A call of an entity that the section is certain not to hold.
    pub(super) fn section_call(&mut self, entity: GlobalId, span: Span) {
        let Some(Section { locked: Some(locked), .. }) = &self.section else { return };
        if locked.iter().all(|(_, held)| *held != entity) {
            let name = self.program.globals[entity].name.clone();
            self.forbidden(
                span,
                &format!("entity `{name}` is called in a critical section that does not hold it"),
                "lock it as well, or signal it",
            );
        }
    }

    /// A signal to an entity that the section is certain to hold.
    pub(super) fn section_signal(&mut self, target: &Expr) {
        let Some(Section { locked: Some(locked), .. }) = &self.section else { return };
        let Some(entity) = self.entity_of(target) else { return };
        let text = self.program.sources.snippet(self.place(target.span));
        let held = locked.iter().any(|(known, global)| *global == entity && known == text);
        if held && self.is_fixed(target) {
            let name = self.program.globals[entity].name.clone();
            self.forbidden(
                target.span,
                &format!("entity `{name}` is signalled in the critical section that holds it"),
                "call it",
            );
        }
    }

    /// Whether `Entity(key)` is the same wherever it is written in a block: the key is a literal, or can't change.
    fn is_fixed(&self, target: &Expr) -> bool {
        let ExprKind::Call(_, args) = &target.kind else { return false };
        args.iter().all(|arg| match &arg.expr().kind {
            ExprKind::Str(_) | ExprKind::Int(_) | ExprKind::Bool(_) | ExprKind::Null => true,
            ExprKind::Name(_) => {
                let module = &self.program.modules[self.module];
                match module.uses.get(&arg.expr().span.start) {
                    Some(Resolved::Local(binding)) => !module.bindings[*binding as usize].mutable,
                    _ => true,
                }
            }
            _ => false,
        })
    }
}
