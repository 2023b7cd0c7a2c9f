//! Critical sections: the violations of their rules that are certain.
//!
//! Only code in a section itself is certain; a function or a task within it may run after the
//! section.

use crate::syntax::tree::*;
use crate::syntax::{Diagnostic, Span};

use super::super::patterns::same_number;
use super::super::{GlobalId, Resolved};
use super::Resolver;

/// The surrounding critical section.
pub(super) struct Section {
    span: Span,
    /// The locked entities, each as `Entity(key)` and as a declaration; `None` if there may be
    /// others.
    locked: Option<Vec<(Expr, GlobalId)>>,
}

impl Resolver<'_> {
    /// Resolves `lock a, b with {…} { … }`. The caller has checked that a `lock` may be here.
    pub(super) fn lock(&mut self, lock: &Lock, span: Span) {
        let keyword = Span::new(span.start as usize, span.start as usize + 4);
        self.forbidden(keyword, "a critical section within a critical section", "nest no `lock`");
        self.exprs(&lock.entities);
        self.exprs(&lock.options);
        if let Some(options) = &lock.options {
            self.option_fields(options, &["timeout"]);
        }
        let locked =
            lock.entities.iter().map(|entity| self.entity_of(entity).map(|global| (entity.clone(), global)));
        let locked = locked.collect();
        let outer = self.section.replace(Section { span: keyword, locked });
        self.block(&lock.body);
        self.section = outer;
    }

    /// Walks code that runs at another time, and so outside of the section.
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

    /// Reports a call of an entity that the section certainly does not hold.
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

    /// Reports a signal to an entity that the section certainly holds.
    pub(super) fn section_signal(&mut self, target: &Expr) {
        let Some(Section { locked: Some(locked), .. }) = &self.section else { return };
        let Some(entity) = self.entity_of(target) else { return };
        if locked.iter().any(|(known, global)| *global == entity && self.is_same_entity(known, target)) {
            let name = self.program.globals[entity].name.clone();
            self.forbidden(
                target.span,
                &format!("entity `{name}` is signalled in the critical section that holds it"),
                "call it",
            );
            // Earlier versions did not report this: programs in a store fail when they run.
            if let Some(said) = self.program.diagnostics.last_mut() {
                said.tolerated = true;
            }
        }
    }

    /// Returns whether two `Entity(key)` certainly have the same key.
    fn is_same_entity(&self, a: &Expr, b: &Expr) -> bool {
        match (&a.kind, &b.kind) {
            (ExprKind::Call(_, a), ExprKind::Call(_, b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| self.is_same_key(a.expr(), b.expr()))
            }
            _ => false,
        }
    }

    /// Returns whether two keys are certainly equal: literals, names that do not change, and lists
    /// and records of these.
    fn is_same_key(&self, a: &Expr, b: &Expr) -> bool {
        match (&a.kind, &b.kind) {
            (ExprKind::Name(_), ExprKind::Name(_)) => {
                let module = &self.program.modules[self.module];
                let meaning = |name: &Expr| module.uses.get(&name.span.start);
                let stays = !matches!(meaning(a), Some(Resolved::Local(binding)) if module.bindings[*binding as usize].mutable);
                stays && meaning(a).is_some() && meaning(a) == meaning(b)
            }
            (ExprKind::List(a), ExprKind::List(b)) => {
                a.len() == b.len()
                    && a.iter().zip(b).all(|items| match items {
                        (Element::Item(a), Element::Item(b)) => self.is_same_key(a, b),
                        _ => false,
                    })
            }
            (ExprKind::Record(a), ExprKind::Record(b)) => {
                let same = |field: &Field| {
                    match field {
                    Field::Named(name, value) => b.iter().any(|other| {
                        matches!(other, Field::Named(known, other) if known.name == name.name && self.is_same_key(value, other))
                    }),
                    _ => false,
                }
                };
                a.len() == b.len() && a.iter().all(same)
            }
            (ExprKind::Int(a), ExprKind::Float(b)) | (ExprKind::Float(b), ExprKind::Int(a)) => {
                same_number(*a, *b)
            }
            (ExprKind::Str(_) | ExprKind::Int(_) | ExprKind::Float(_), _) => a.kind == b.kind,
            (ExprKind::Duration(_) | ExprKind::Bool(_) | ExprKind::Null, _) => a.kind == b.kind,
            _ => false,
        }
    }
}
