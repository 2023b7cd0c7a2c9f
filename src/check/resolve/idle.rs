//! Warnings about statements that do nothing, and about statements that are never reached.
//!
//! Each warning is certain: the value of the statement is unused and its evaluation makes no
//! request, or the statement comes after the end of its block.

use crate::syntax::lexer::lex;
use crate::syntax::token::Token;
use crate::syntax::tree::*;
use crate::syntax::{Diagnostic, Span};

use super::Resolver;

/// The use of the value of a block's last statement.
#[derive(Clone, Copy, Default, PartialEq)]
pub(super) enum Last {
    /// The value of the block.
    #[default]
    Value,
    /// The value of a script, which is rarely used.
    OfScript,
    /// No use.
    Nothing,
}

const TITLE: &str = "this statement does nothing";

impl Resolver<'_> {
    /// Warns about statements of a block that do nothing or are never reached.
    pub(super) fn idle_statements(&mut self, stmts: &[Stmt], last: Last) {
        if self.program.modules[self.module].std.is_some() {
            return;
        }
        for at in 0..stmts.len() {
            let is_last = at + 1 == stmts.len();
            self.idle(stmts, at, if is_last { last } else { Last::Nothing }, is_last);
        }
        if let Some(end) = stmts.iter().position(diverges)
            && let Some(next) = stmts[end + 1..].iter().find(|stmt| is_executed(stmt))
        {
            let mut warning = Diagnostic::warning("never reached", self.place(next.span), "unreachable")
                .and(self.place(stmts[end].span), "execution ends here");
            let returns =
                matches!(&stmts[end].kind, StmtKind::Expr(Expr { kind: ExprKind::Return(None), .. }));
            if returns && matches!(next.kind, StmtKind::Expr(_)) {
                warning = warning
                    .because("a newline ends a statement: what `return` gives stands on its line")
                    .hint("write both on one line");
            }
            self.report(warning);
        }
    }

    fn idle(&mut self, stmts: &[Stmt], at: usize, last: Last, is_last: bool) {
        let StmtKind::Expr(expr) = &stmts[at].kind else { return };
        let goes_on = at.checked_sub(1).and_then(|before| self.goes_on(&stmts[before], expr));
        let idle = is_pure(expr) && !(self.in_try && may_fail(expr));
        let found = match (last, &goes_on) {
            // The value of a block is suspicious only if its line is indented like a continuation.
            (Last::Value, Some(how)) => how.is_deeper && is_operation(expr),
            (Last::Value, None) => false,
            // A list of several elements is more likely the script's value than an index.
            (Last::OfScript, Some(_)) => {
                is_operation(expr) && !matches!(&expr.kind, ExprKind::List(items) if items.len() != 1)
            }
            (Last::OfScript, None) => false,
            (Last::Nothing, Some(_)) => idle || is_operation(expr),
            (Last::Nothing, None) if is_last => idle && computes(expr),
            (Last::Nothing, None) => idle && !self.names_a_callable(expr),
        };
        if !found {
            return;
        }
        let label = match last {
            Last::Nothing => "its value is not used",
            _ => "this is a statement of its own",
        };
        let warning = Diagnostic::warning(TITLE, self.place(expr.span), label);
        let compares = matches!(&expr.kind, ExprKind::Binary(op, ..) if op.compares());
        let warning = match goes_on {
            Some(how) => warning
                .and(self.place(stmts[at - 1].span), "the statement before ends with its line")
                .because(format!("a line that begins with `{}` begins a statement", how.begins))
                .hint("to go on with the line before, join the two lines, or put both into parentheses"),
            None if compares && self.in_test => warning.hint("write `assert(…)` for what has to hold"),
            None => warning.hint("use its value, or remove it"),
        };
        self.report(warning);
    }

    /// Returns how a statement seems to continue the line before, or `None` if it does not.
    fn goes_on(&self, before: &Stmt, expr: &Expr) -> Option<GoesOn> {
        let has_value = match &before.kind {
            StmtKind::Let(..) | StmtKind::Var(..) | StmtKind::Const(..) | StmtKind::Assign(..) => true,
            StmtKind::Expr(expr) => !matches!(
                expr.kind,
                ExprKind::If(..)
                    | ExprKind::Match(..)
                    | ExprKind::Do(_)
                    | ExprKind::Try(_)
                    | ExprKind::Lock(_)
                    | ExprKind::Break(_)
                    | ExprKind::Continue(_)
                    | ExprKind::Return(None)
            ),
            _ => false,
        };
        let source = self.program.modules[self.module].source;
        let text = &*self.program.sources.files.get(source as usize)?.text;
        let begins = text.get(expr.span.start as usize..)?.chars().next()?;
        if !has_value || !matches!(begins, '-' | '[' | '(') {
            return None;
        }
        let between = lex(text.get(before.span.end as usize..expr.span.start as usize)?, source).tokens;
        let is_line = between.iter().all(|(_, token, _)| *token == Token::Nl) && !between.is_empty();
        let column = |span: Span| {
            let line = text[..span.start as usize].rfind('\n').map_or(0, |at| at + 1);
            let indent = text[line..].find(|c: char| c != ' ' && c != '\t');
            indent.unwrap_or(0)
        };
        is_line.then(|| GoesOn { begins, is_deeper: column(expr.span) > column(before.span) })
    }

    /// Warns about a file with a function `main` that nothing calls, and with no script.
    pub(super) fn idle_main(&mut self, items: &[Stmt]) {
        if self.module != 0 || items.iter().any(is_executed) {
            return;
        }
        let tests = |item: &Stmt| matches!(item.kind, StmtKind::Test(..));
        let main = items.iter().find_map(|item| match &item.kind {
            StmtKind::Fn(f) if &*f.name.name == "main" => Some(f),
            _ => None,
        });
        let Some(main) = main.filter(|_| !items.iter().any(tests)) else { return };
        let call = if main.params.is_empty() { "main()" } else { "main(…)" };
        let warning =
            Diagnostic::warning("nothing runs", self.place(main.name.span), "`main` is never called")
                .because("a program is the statements of its file; no function is called by itself");
        self.report(warning.hint(format!("write `{call}` at the end of the file")));
    }

    /// Returns whether an expression only names a callable, about which there is another warning.
    fn names_a_callable(&self, expr: &Expr) -> bool {
        matches!(expr.kind, ExprKind::Name(_)) && self.callable_named(expr).is_some()
    }
}

/// A statement that seems to continue the line before.
struct GoesOn {
    begins: char,
    /// Whether the line is indented deeper than the line before.
    is_deeper: bool,
}

/// Returns whether a statement is executed, and not a declaration.
fn is_executed(stmt: &Stmt) -> bool {
    use StmtKind::*;
    matches!(stmt.kind, Let(..) | Var(..) | Expr(_) | Assign(..) | For(..) | While(..))
}

/// Returns whether the evaluation of an expression makes no request and changes nothing.
fn is_pure(expr: &Expr) -> bool {
    use ExprKind::*;
    match &expr.kind {
        Null | Bool(_) | Int(_) | IntMin | Float(_) | Duration(_) | Str(_) | Name(_) | State | Lambda(_) => {
            true
        }
        Interpolated(_, items) => items.iter().all(is_pure),
        List(items) => items.iter().all(|item| is_pure(item.expr())),
        Record(fields) => fields.iter().all(|field| match field {
            self::Field::Short(_) => true,
            self::Field::Named(_, e) | self::Field::Spread(e) => is_pure(e),
            self::Field::Computed(k, v) => is_pure(k) && is_pure(v),
        }),
        Unary(_, e) | Field(e, _) | OptionalField(e, _) | Formatted(e, _) => is_pure(e),
        Binary(_, a, b) | And(a, b) | Or(a, b) | Coalesce(a, b) | Range(a, b, _) => is_pure(a) && is_pure(b),
        Index(a, b) | OptionalIndex(a, b) => is_pure(a) && is_pure(b),
        _ => false,
    }
}

/// Returns whether a pure expression may throw, which may be its purpose.
fn may_fail(expr: &Expr) -> bool {
    use ExprKind::*;
    match &expr.kind {
        Interpolated(_, items) => items.iter().any(may_fail),
        List(items) => items.iter().any(|item| matches!(item, Element::Spread(_)) || may_fail(item.expr())),
        Record(fields) => fields.iter().any(|field| match field {
            self::Field::Short(_) => false,
            self::Field::Named(_, e) => may_fail(e),
            self::Field::Computed(..) | self::Field::Spread(_) => true,
        }),
        Unary(..) | Binary(..) | And(..) | Or(..) | Range(..) | Field(..) | OptionalField(..) => true,
        Index(..) | OptionalIndex(..) | Formatted(..) => true,
        Coalesce(a, b) => may_fail(a) || may_fail(b),
        _ => false,
    }
}

/// Returns whether an expression computes something from values, so that it can't be meant as a
/// statement.
fn computes(expr: &Expr) -> bool {
    use ExprKind::*;
    matches!(
        expr.kind,
        Binary(..) | And(..) | Or(..) | Coalesce(..) | Range(..) | Index(..) | OptionalIndex(..)
    ) || matches!(&expr.kind, Unary(_, e) if is_pure(e))
}

/// Returns whether the value of an expression is its only purpose, whatever its parts do.
fn is_operation(expr: &Expr) -> bool {
    use ExprKind::*;
    is_pure(expr)
        || matches!(expr.kind, Unary(..) | Binary(..) | Range(..) | List(_) | Index(..) | Interpolated(..))
}

/// Returns whether nothing runs after a statement.
fn diverges(stmt: &Stmt) -> bool {
    match &stmt.kind {
        StmtKind::Expr(e) | StmtKind::Let(_, e) | StmtKind::Var(_, e) | StmtKind::Assign(_, _, e) => ends(e),
        _ => false,
    }
}

fn ends(expr: &Expr) -> bool {
    let block = |block: &Block| block.stmts.iter().any(diverges);
    match &expr.kind {
        ExprKind::Return(_) | ExprKind::Throw(_) | ExprKind::Break(_) | ExprKind::Continue(_) => true,
        ExprKind::If(_, then, Some(other)) => block(then) && ends(other),
        ExprKind::Match(_, arms) => !arms.is_empty() && arms.iter().all(|arm| block(&arm.body)),
        ExprKind::Do(body) => block(body),
        ExprKind::Try(t) => {
            t.finally.as_ref().is_some_and(block)
                || (block(&t.body) && t.catches.iter().all(|(_, body)| block(body)))
        }
        ExprKind::Lock(lock) => block(&lock.body),
        _ => false,
    }
}
