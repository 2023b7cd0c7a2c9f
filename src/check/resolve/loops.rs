//! Loops, and the ways out of them.

use crate::syntax::tree::*;
use crate::syntax::{Diagnostic, Span};

use super::Resolver;

/// A loop around the code.
pub(super) struct Loop {
    label: Option<Ident>,
    /// Whether a `break` or `continue` names the label.
    used: bool,
}

impl Resolver<'_> {
    /// Walks the body of a loop.
    pub(super) fn looped(&mut self, label: Option<&Ident>, body: &Block) {
        if let Some(label) = label
            && let Some(outer) = self
                .loops
                .iter()
                .find_map(|outer| outer.label.as_ref().filter(|outer| outer.name == label.name))
        {
            let error = Diagnostic::error(
                format!("two loops around one another are named `{}`", label.name),
                self.place(label.span),
                "named again here",
            )
            .and(self.place(outer.span), "named here first");
            self.report(error.hint("give one of them another name"));
        }
        self.loops.push(Loop { label: label.cloned(), used: false });
        self.loop_body(body);
        if let Some(Loop { label: Some(label), used: false }) = self.loops.pop() {
            let name = &label.name;
            let warning = Diagnostic::warning(
                format!("unused label `{name}`"),
                self.place(label.span),
                "no `break` or `continue` names it",
            );
            self.report(warning.hint(format!("remove it, or write `break {name}` in a loop within")));
        }
    }

    /// Resolves a `break` or a `continue`.
    pub(super) fn leave(&mut self, word: &str, label: Option<&Ident>, span: Span) {
        let because = "a function within a loop is not part of the loop";
        let Some(label) = label else {
            if self.loops.is_empty() {
                let title = format!("`{word}` outside of a loop");
                let error = Diagnostic::error(title, self.place(span), "no loop around this");
                self.report(error.because(because));
            }
            return;
        };
        let is_named = |outer: &Loop| outer.label.as_ref().is_some_and(|own| own.name == label.name);
        if let Some(outer) = self.loops.iter_mut().rev().find(|outer| is_named(outer)) {
            outer.used = true;
            return;
        }
        let labels = self.loops.iter().filter_map(|outer| outer.label.as_ref());
        let near = self.nearest(&label.name, labels.map(|label| &*label.name));
        let hint = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "a loop is named where it begins: `{name}: for x in xs {{ … }}`; a loop has no value to give",
                name = label.name
            ),
        };
        let title = format!("no loop around this is named `{}`", label.name);
        let error = Diagnostic::error(title, self.place(label.span), "not the name of a loop");
        self.report(error.because(because).hint(hint));
    }
}
