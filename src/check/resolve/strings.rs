//! Braces in strings that were probably meant as text.

use crate::syntax::Diagnostic;
use crate::syntax::tree::*;

use super::Resolver;

impl Resolver<'_> {
    /// Warns about values in a string that look like parts of a regular expression, or like the
    /// `${name}` of other languages.
    pub(super) fn doubtful_braces(&mut self, exprs: &[Expr]) {
        for expr in exprs {
            let source = self.program.modules[self.module].source as usize;
            let Some(file) = self.program.sources.files.get(source) else { return };
            let before = file.text.get(..expr.span.start as usize).unwrap_or("").trim_end();
            let Some(before) = before.strip_suffix('{') else { continue };
            let is_dollar = before.strip_suffix('$').is_some_and(|before| !before.ends_with('\\'));
            let place = self.place(expr.span);
            if let ExprKind::Int(n) = &expr.kind
                && before.ends_with([']', ')', '.'])
            {
                let warning =
                    Diagnostic::warning(format!("`{{{n}}}` in a string is the number {n}"), place, "a value");
                self.report(warning.hint(format!(
                    "in a raw string, as in `r\"[0-9]{{{n}}}\"`, braces are text; elsewhere write `\\{{{n}\\}}`"
                )));
            } else if is_dollar {
                let warning =
                    Diagnostic::warning("the `$` before `{…}` is part of the text", place, "a value");
                self.report(
                    warning.hint("a value is put in as `{name}`; a `$` that is meant is written `\\$`"),
                );
            }
        }
    }
}
