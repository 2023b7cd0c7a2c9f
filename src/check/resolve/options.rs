//! The options of declarations and calls, as far as they are certain before the program runs.

use crate::syntax::Diagnostic;
use crate::syntax::tree::*;

use super::Resolver;

/// The fields of `retry`.
const RETRY: &[&str] = &["times", "first", "factor", "max", "except", "when", "jitter", "within"];

/// A value that is written as a literal.
enum Literal {
    Int(i64),
    Float(f64),
    Duration(i64),
    Other,
}

fn literal(value: &Expr) -> Option<Literal> {
    Some(match &value.kind {
        ExprKind::Int(n) => Literal::Int(*n),
        ExprKind::Float(x) => Literal::Float(*x),
        ExprKind::Duration(n) => Literal::Duration(*n),
        ExprKind::Bool(_) | ExprKind::Str(_) | ExprKind::Interpolated(..) => Literal::Other,
        ExprKind::List(_) | ExprKind::Record(_) | ExprKind::Lambda(_) => Literal::Other,
        ExprKind::Unary(UnaryOp::Negate, inner) => match literal(inner)? {
            Literal::Int(n) => Literal::Int(n.wrapping_neg()),
            Literal::Float(x) => Literal::Float(-x),
            Literal::Duration(n) => Literal::Duration(n.wrapping_neg()),
            Literal::Other => return None,
        },
        _ => return None,
    })
}

/// Returns whether an id can be chosen for an instance.
fn can_be_chosen(id: &str) -> bool {
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || c == ':';
    !id.is_empty() && id.len() <= 200 && !id.contains(is_odd)
}

/// Returns what an option must be, if its literal value is not that.
fn unfit(name: &str, value: &Expr) -> Option<&'static str> {
    let found = literal(value)?;
    match name {
        "times" => (!matches!(found, Literal::Int(1..))).then_some("an int from 1 on"),
        "factor" => {
            let fits = matches!(found, Literal::Int(1..))
                || matches!(found, Literal::Float(x) if x >= 1.0 && x.is_finite());
            (!fits).then_some("a number from 1 on")
        }
        "jitter" => {
            let fits = matches!(found, Literal::Int(0 | 1))
                || matches!(found, Literal::Float(x) if (0.0..=1.0).contains(&x));
            (!fits).then_some("a number from 0 to 1")
        }
        "first" | "max" | "within" | "timeout" => match found {
            Literal::Duration(0..) => None,
            Literal::Duration(_) => Some("a duration that is not negative"),
            _ => Some("a duration, like 5s"),
        },
        "id" => match &value.kind {
            ExprKind::Str(text) if !can_be_chosen(text) => {
                Some("text of 1 to 200 bytes, without spaces and without `:`")
            }
            ExprKind::Str(_) | ExprKind::Interpolated(..) => None,
            _ => Some("a string"),
        },
        "if_exists" => match &value.kind {
            ExprKind::Str(text) if matches!(&**text, "join" | "fail" | "replace") => None,
            ExprKind::Interpolated(..) => None,
            _ => Some("\"join\", \"fail\" or \"replace\""),
        },
        "except" => match &value.kind {
            ExprKind::List(_) => None,
            _ => Some("a list of kinds of errors, like [\"declined\"]"),
        },
        "when" => match &value.kind {
            ExprKind::Lambda(_) => None,
            _ => Some("a function of an error"),
        },
        _ => None,
    }
}

impl Resolver<'_> {
    /// Reports unknown fields of a `with`, and values that every run would refuse.
    pub(super) fn option_fields(&mut self, options: &Expr, known: &[&str]) {
        let ExprKind::Record(fields) = &options.kind else { return };
        for field in fields {
            match field {
                Field::Named(name, _) | Field::Short(name) if !known.contains(&&*name.name) => {
                    self.unknown_option(name, known);
                }
                Field::Named(name, value) if &*name.name == "retry" => self.retry(value),
                Field::Named(name, value) => {
                    if let Some(wanted) = unfit(&name.name, value) {
                        let place = self.place(value.span);
                        let title = format!("option `{}` is {wanted}", name.name);
                        let with_unit = match (literal(value), wanted.starts_with("a duration")) {
                            (Some(Literal::Int(n)), true) => Some(format!("a duration has a unit: `{n}s`")),
                            _ => None,
                        };
                        self.report(Diagnostic::error(title, place, "this is not").maybe_hint(with_unit));
                    }
                    self.no_time(&name.name, value);
                }
                _ => {}
            }
        }
    }

    /// Reports a `retry` that is no record, and its fields.
    fn retry(&mut self, value: &Expr) {
        let hint = match (literal(value), &value.kind) {
            (_, ExprKind::Record(_)) => return self.option_fields(value, RETRY),
            (Some(Literal::Int(n @ 1..)), _) => format!("write `retry: {{times: {n}}}`"),
            (Some(_), _) | (None, ExprKind::Bool(_)) => "write `retry: {times: 3, first: 1s}`".to_string(),
            (None, _) => return,
        };
        let place = self.place(value.span);
        let title = "option `retry` is a record, like {times: 3, first: 1s}";
        self.report(Diagnostic::error(title, place, "this is not").hint(hint));
    }

    /// Warns about a time limit that leaves no time.
    fn no_time(&mut self, name: &str, value: &Expr) {
        if matches!(name, "timeout" | "within") && matches!(literal(value), Some(Literal::Duration(0))) {
            let place = self.place(value.span);
            let title = format!("option `{name}` leaves no time");
            let warning = Diagnostic::warning(title, place, "everything takes longer than this");
            self.report(warning.hint("without the option there is no limit"));
        }
    }

    /// Warns about a `sleep` that never waits.
    pub(super) fn slept(&mut self, args: &[Element]) {
        let [Element::Item(duration)] = args else { return };
        let hint = match literal(duration) {
            Some(Literal::Duration(..0)) => "a pause before now is over at once".to_string(),
            Some(Literal::Int(n)) => {
                let place = self.place(duration.span);
                let error = Diagnostic::error("`sleep` takes a duration, like 5s", place, "this is not one");
                self.report(error.hint(format!("a duration has a unit: `{n}s`")));
                return;
            }
            _ => return,
        };
        let place = self.place(duration.span);
        self.report(Diagnostic::warning("this `sleep` does not wait", place, "negative").hint(hint));
    }

    /// Notes that an orchestration is called with these options, if they may have `retry`.
    pub(super) fn may_retry(&mut self, options: &Expr) {
        self.program.retries_children |= match &options.kind {
            ExprKind::Record(fields) => fields.iter().any(|field| match field {
                Field::Named(name, _) | Field::Short(name) => &*name.name == "retry",
                Field::Computed(..) | Field::Spread(_) => true,
            }),
            _ => true,
        };
    }

    fn unknown_option(&mut self, name: &Ident, known: &[&str]) {
        let near = self.did_you_mean(&name.name, known.iter().copied());
        let place = self.place(name.span);
        self.report(
            Diagnostic::error(format!("unknown option `{}`", name.name), place, "not an option")
                .because(format!("the options here are {}", known.join(", ")))
                .maybe_hint(near),
        );
    }
}
