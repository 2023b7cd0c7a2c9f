//! Tokens to a tree.

use std::collections::HashMap;

use lalrpop_util::{ErrorRecovery, ParseError};

use super::cascades::without_cascades;
use super::diagnostic::{Diagnostic, MOST_MISTAKES};
use super::division;
use super::foreign;
use super::grammar::ProgramParser;
use super::habit::Found;
use super::layout::lay_out;
use super::lexer::{BRACE_HINT, Spanned, lex};
use super::source::{MAX_SOURCE, Place, Span};
use super::spec::{Spec, UNITS};
use super::token::{Name, Token};
use super::tree::*;
use super::unexpected::Unexpected;

/// The result of parsing: the tree, and the mistakes in the text. The tree has `Error` nodes in
/// unreadable places.
pub struct Parsed {
    pub module: Module,
    pub diagnostics: Vec<Diagnostic>,
    /// What is probably a mistake, although the text can be read.
    pub warnings: Vec<Diagnostic>,
    /// The offset from which blocks no longer end where they began, if there is one.
    pub broken: Option<usize>,
    /// The tokens after layout, for tools that look at the text itself.
    pub tokens: Vec<Spanned>,
    /// The purposes of braces, by offset. Braces of records and patterns are not included.
    pub braces: HashMap<usize, Brace>,
}

/// The limit on the tests of one pattern. What is made of a pattern is nested as deep as it has tests.
const MOST_TESTS: usize = 990;

/// The limit on the combinations of the alternatives within one pattern.
const MOST_COMBINATIONS: usize = 200;

/// The contents of a brace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brace {
    Block,
    Match,
    Entity,
}

impl Parsed {
    /// Returns whether the name at a token index is `{name}` of a record or a pattern.
    pub fn is_short_field(&self, at: usize) -> bool {
        let tokens = &self.tokens;
        let mut depth = 0;
        for (start, token, _) in tokens[..at].iter().rev() {
            match token {
                Token::RBrace | Token::RParen | Token::RBracket => depth += 1,
                Token::LBrace if depth == 0 => {
                    let beside = |at: Option<usize>| at.and_then(|at| tokens.get(at)).map(|token| &token.1);
                    let ends = matches!(beside(Some(at + 1)), Some(Token::Comma | Token::RBrace));
                    let begins = matches!(beside(at.checked_sub(1)), Some(Token::Comma | Token::LBrace));
                    return !self.braces.contains_key(start) && begins && ends;
                }
                Token::LBrace | Token::LParen | Token::LBracket if depth == 0 => return false,
                Token::LBrace | Token::LParen | Token::LBracket => depth -= 1,
                _ => {}
            }
        }
        false
    }

    fn unread(diagnostics: Vec<Diagnostic>, tokens: Vec<Spanned>) -> Parsed {
        Parsed {
            module: Module { items: Vec::new() },
            diagnostics,
            warnings: Vec::new(),
            broken: None,
            tokens,
            braces: HashMap::new(),
        }
    }
}

/// Parses one source text. The number `source` is used only in the places of diagnostics.
pub fn parse(text: &str, source: u32) -> Parsed {
    if text.len() > MAX_SOURCE {
        let place = Place { source, span: Span::new(0, 0) };
        let error = Diagnostic::error("source too large", place, "this file has more than 16 MiB")
            .hint("keep data in files of its own and read it with `fs.read`");
        return Parsed::unread(vec![error], Vec::new());
    }
    let lexed = lex(text, source);
    let mut diagnostics = lexed.diagnostics;
    let (tokens, sane) = lay_out(lexed.tokens, source, &mut diagnostics);
    if !sane {
        return Parsed::unread(diagnostics, tokens);
    }
    let warnings = division::warnings(text, &tokens, &lexed.comments, source);
    division::explain(text, &tokens, &lexed.comments, source, &mut diagnostics);
    let mut context = Context {
        source,
        text: text.into(),
        docs: lexed.docs,
        diagnostics,
        tokens,
        braces: HashMap::new(),
        too_deep: false,
    };
    let stream = context.tokens.clone().into_iter().map(Ok::<Spanned, ()>);
    let module = match ProgramParser::new().parse(&mut context, stream) {
        Ok(module) => module,
        Err(error) => {
            context.syntax_error(error, "the program");
            Module { items: Vec::new() }
        }
    };
    let mut diagnostics = context.diagnostics;
    diagnostics.sort_by_key(|d| d.labels.first().map(|l| l.place.span.start));
    let (diagnostics, broken) = without_cascades(diagnostics, text);
    Parsed { module, diagnostics, warnings, broken, tokens: context.tokens, braces: context.braces }
}

/// Returns whether a text has no mistake but is unfinished: a bracket, a text block or a comment is
/// open, or something is missing at the end.
pub fn is_unfinished(text: &str) -> bool {
    let lexed = lex(text, 0);
    let block = |d: &Diagnostic| {
        d.title == "unclosed string" && d.reason.as_deref().is_some_and(|r| r.contains("\"\"\""))
    };
    if !lexed.diagnostics.is_empty() {
        return lexed.diagnostics.iter().all(|d| block(d) || d.title == "unclosed comment");
    }
    let mut diagnostics = Vec::new();
    let (tokens, _) = lay_out(lexed.tokens, 0, &mut diagnostics);
    if !diagnostics.is_empty() {
        return diagnostics.iter().all(|d| d.title.starts_with("unclosed"));
    }
    let end = tokens.last().map_or(0, |last| last.2);
    let parsed = parse(text, 0);
    let at_end =
        |d: &Diagnostic| d.labels.first().is_some_and(|label| label.place.span.start as usize >= end);
    !parsed.diagnostics.is_empty() && parsed.diagnostics.iter().all(at_end)
}

/// The state that the grammar's actions share.
pub struct Context {
    source: u32,
    text: Box<str>,
    docs: HashMap<usize, Name>,
    diagnostics: Vec<Diagnostic>,
    tokens: Vec<Spanned>,
    braces: HashMap<usize, Brace>,
    too_deep: bool,
}

impl Context {
    fn place(&self, span: Span) -> Place {
        Place { source: self.source, span }
    }

    /// Returns the doc comment before the declaration that begins at `at`.
    pub fn doc(&self, at: usize) -> Option<Name> {
        self.docs.get(&at).cloned()
    }

    /// Notes the purpose of the brace at an offset.
    pub fn brace(&mut self, at: usize, brace: Brace) {
        self.braces.insert(at, brace);
    }

    /// Returns an expression, or an error node if the tree would be too deep.
    pub fn expr(&mut self, start: usize, kind: ExprKind, end: usize) -> Expr {
        let span = Span::new(start, end);
        let depth = kind.children_depth() + 1;
        if depth > MAX_DEPTH {
            if !self.too_deep {
                self.too_deep = true;
                let place = self.place(Span::new(start, start + 1));
                self.diagnostics.push(
                    Diagnostic::error(
                        "nested too deeply",
                        place,
                        "an expression of more than 2,000 levels begins here",
                    )
                    .hint("give the inner parts names with `let`"),
                );
            }
            return Expr { kind: ExprKind::Error, span, depth: 1 };
        }
        Expr { kind, span, depth }
    }

    /// Returns an expression as a body.
    pub fn body(&mut self, expr: Expr) -> Block {
        let span = expr.span;
        Block { stmts: vec![Stmt { kind: StmtKind::Expr(expr), span }], span }
    }

    /// Returns the body of an `extern activity`, whose declaration ends at `end`. The embedding
    /// process carries the activity out.
    pub fn extern_body(&mut self, name: &Ident, params: &[Param], end: usize) -> Block {
        for param in params {
            if !matches!(param.pattern.kind, PatternKind::Name(_)) {
                let place = self.place(param.pattern.span);
                let error =
                    Diagnostic::error("a pattern in an `extern activity`", place, "a name was expected here")
                        .because("the function of the process around takes its arguments as they are");
                self.diagnostics.push(error);
            }
        }
        let passed = params.iter().map(|param| param.pattern.span).collect();
        let body = self.expr(name.span.start as usize, ExprKind::Extern(name.name.clone(), passed), end);
        self.body(body)
    }

    /// Checks that the word after the `in` of a mock is `turn`.
    pub fn turn(&mut self, word: &str, span: Span) {
        if word == "turn" {
            return;
        }
        let place = self.place(span);
        let error = Diagnostic::error(format!("unexpected `{word}`"), place, "`turn` was expected")
            .hint("`mock charge in turn with …` takes the outcomes one after the other");
        self.diagnostics.push(error);
    }

    /// Returns a migration of an entity's state. The word before `state` must be `migrate`, which is
    /// a name everywhere else.
    pub fn migration(&mut self, word: Ident, function: Expr, span: Span) -> Member {
        if &*word.name != "migrate" {
            let place = self.place(word.span);
            let error = Diagnostic::error(
                format!("unexpected `{}`", word.name),
                place,
                "`migrate` was expected here",
            )
            .hint("a state is migrated by `migrate state with fn old => …`");
            self.diagnostics.push(error);
            return Member::Error;
        }
        Member::Migration(function, span)
    }

    /// Notes that the parser skipped tokens while it was reading `what`.
    pub fn recovered(&mut self, recovery: ErrorRecovery<usize, Token, ()>, what: &str) {
        self.syntax_error(recovery.error, what);
    }

    /// Checks that a pattern is not too large, and that it binds each name once.
    pub fn pattern(&mut self, pattern: Pattern) -> Pattern {
        if pattern.has_more_tests_than(MOST_TESTS) {
            self.too_large(
                pattern.span,
                format!("a pattern has at most {MOST_TESTS} literals, fields, lists and records"),
            );
            return pattern;
        }
        if tops(&pattern).iter().any(|one| one.combinations() > MOST_COMBINATIONS) {
            let reason = format!("the alternatives in it make more than {MOST_COMBINATIONS} combinations");
            self.too_large(pattern.span, reason);
            return Pattern { kind: PatternKind::Error, span: pattern.span };
        }
        let mut twice = None;
        for one in tops(&pattern) {
            let mut seen: Vec<(Name, Span)> = Vec::new();
            let mut visit = |name: &Name, span| match seen.iter().find(|(n, _)| n == name) {
                Some((name, first)) => twice = twice.take().or(Some((name.clone(), *first, span))),
                None => seen.push((name.clone(), span)),
            };
            one.names(&mut visit);
            if let PatternKind::As(_, name) = &pattern.kind {
                visit(&name.name, name.span);
            }
        }
        if let Some((name, first, second)) = twice
            && !self.diagnostics.iter().any(|d| d.labels[0].place.span == second)
        {
            let error = Diagnostic::error(
                format!("`{name}` is bound twice in one pattern"),
                self.place(second),
                "bound again here",
            );
            self.diagnostics.push(
                error
                    .and(self.place(first), "bound here first")
                    .hint("use two names, and compare them in a guard: `if a == b`"),
            );
        }
        pattern
    }

    fn too_large(&mut self, span: Span, reason: String) {
        const TITLE: &str = "pattern too large";
        // A pattern around a large one is large as well, and is not reported again.
        let is_within = |inner: Span| span.start <= inner.start && inner.end <= span.end;
        if self.diagnostics.iter().any(|d| d.title == TITLE && is_within(d.labels[0].place.span)) {
            return;
        }
        let error = Diagnostic::error(TITLE, self.place(span), "this pattern")
            .because(reason)
            .hint("bind a part of the value to a name, and match that part in the arm");
        self.diagnostics.push(error);
    }

    /// Returns a value with a format, which has to be one.
    pub fn formatted(&mut self, value: Expr, text: Name, span: Span) -> ExprKind {
        let text_span = Span::new(span.start as usize + 1, span.end as usize);
        // A mistake within the braces is often what made this a format.
        let known = self.diagnostics.iter().any(|d| {
            let at = d.labels[0].place.span.start;
            value.span.start <= at && at <= span.end
        });
        if let Err(reason) = Spec::parse(&text)
            && !known
        {
            let error = Diagnostic::error("not a format", self.place(span), reason)
                .because(
                    "in a string, `{value:format}` writes a value in a format, like `{price:.2}` or `{n:>8}`",
                )
                .hint(BRACE_HINT);
            self.diagnostics.push(error);
        }
        ExprKind::Formatted(Box::new(value), Ident { name: text, span: text_span })
    }

    /// Returns the duration of several units, which have to come from the largest to the smallest.
    pub fn duration(&mut self, first: i64, last: i64, span: Span) -> i64 {
        let text = self.text.get(span.start as usize..span.end as usize).unwrap_or("");
        let unit = |word: &str| {
            let unit = word.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
            UNITS.iter().position(|(name, _)| *name == unit)
        };
        let units: Vec<Option<usize>> = text.split_whitespace().map(unit).collect();
        let error = if !units.is_sorted_by(|a, b| a < b) {
            let place = self.place(span);
            Diagnostic::error(
                "not one duration",
                place,
                "units from the largest to the smallest were expected",
            )
            .hint("a duration is like `1h 30m`; between two of them stands a comma or an operator")
        } else {
            match first.checked_add(last) {
                Some(sum) => return sum,
                None => Diagnostic::error("duration out of range", self.place(span), "too long")
                    .because("durations are whole nanoseconds, up to about 106,751 days"),
            }
        };
        self.diagnostics.push(error);
        first
    }

    /// Returns the pattern `int n`, or a name if there is no such kind.
    pub fn kind_pattern(&mut self, word: Name, span: Span, name: Pattern) -> PatternKind {
        if let Some(kind) = Kind::of(&word) {
            return PatternKind::Kind(kind, Box::new(name));
        }
        let at = self.tokens.partition_point(|(known, ..)| *known < span.start as usize);
        let error = match foreign::kind(&self.tokens, at, &word) {
            Some(habit) => {
                let place = self.place(Span::new(habit.from, habit.to));
                Diagnostic::error(habit.title, place, habit.label).hint(habit.hint)
            }
            None => {
                let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
                let title = format!("there is no kind `{word}`");
                Diagnostic::error(title, self.place(span), "before a name, a pattern has a kind")
                    .because(format!("the kinds are {}", names.join(", ")))
                    .hint("`int n` takes an int and names it; a name alone takes every value")
            }
        };
        self.diagnostics.push(error);
        name.kind
    }

    /// Returns the pattern of the ints from `low` to `high`.
    pub fn range_pattern(&mut self, low: Literal, high: Literal, inclusive: bool, span: Span) -> PatternKind {
        let (Literal::Int(low), Literal::Int(high)) = (low, high) else { return PatternKind::Error };
        let last = if inclusive { Some(high) } else { high.checked_sub(1) };
        match last.filter(|last| low <= *last) {
            Some(last) => PatternKind::Range(low, last),
            None => {
                let error = Diagnostic::error("an empty range", self.place(span), "no int is in it")
                    .hint("write the smaller int first: `1..=9`");
                self.diagnostics.push(error);
                PatternKind::Error
            }
        }
    }

    pub fn int_literal(&mut self, value: u64, negative: bool) -> Literal {
        Literal::Int(if negative {
            (value as i64).wrapping_neg()
        } else {
            i64::try_from(value).unwrap_or(i64::MAX)
        })
    }

    fn rest_twice(&mut self, first: Span, second: Span) {
        let error = Diagnostic::error("two `..` in one pattern", self.place(second), "a second `..`")
            .and(self.place(first), "the first is here")
            .because("with two of them it would be open which takes what");
        self.diagnostics.push(error);
    }

    pub fn list_pattern(&mut self, items: Vec<PatternItem>) -> PatternKind {
        let (mut patterns, mut rest): (Vec<Pattern>, Option<(usize, Rest)>) = (Vec::new(), None);
        for item in items {
            match item {
                PatternItem::Item(_, pattern) => patterns.push(pattern),
                PatternItem::Rest(new) => match &rest {
                    Some((_, old)) => self.rest_twice(old.span, new.span),
                    None => rest = Some((patterns.len(), new)),
                },
            }
        }
        PatternKind::List(patterns, rest)
    }

    pub fn record_pattern(&mut self, items: Vec<PatternItem>) -> PatternKind {
        let (mut fields, mut rest): (Vec<(Ident, Pattern)>, Option<Rest>) = (Vec::new(), None);
        for item in items {
            match item {
                PatternItem::Item(Some(name), pattern) => fields.push((name, pattern)),
                PatternItem::Item(None, _) => {}
                PatternItem::Rest(new) => match &rest {
                    Some(old) => self.rest_twice(old.span, new.span),
                    None => rest = Some(new),
                },
            }
        }
        PatternKind::Record(fields, rest)
    }

    fn syntax_error(&mut self, error: ParseError<usize, Token, ()>, what: &str) {
        if self.diagnostics.len() >= MOST_MISTAKES {
            return;
        }
        let (start, token, end, expected) = match error {
            ParseError::UnrecognizedToken { token: (start, token, end), expected } => {
                (start, Some(token), end, expected)
            }
            ParseError::UnrecognizedEof { location, expected } => (location, None, location, expected),
            ParseError::InvalidToken { location } => (location, None, location, Vec::new()),
            ParseError::ExtraToken { token: (start, token, end) } => (start, Some(token), end, Vec::new()),
            ParseError::User { .. } => return,
        };
        let at = self.tokens.partition_point(|(known, ..)| *known < start);
        let previous = at.checked_sub(1).map(|before| self.tokens[before].1.clone());
        let found = Found { text: &self.text, tokens: &self.tokens, at };
        let diagnostic = match foreign::habit(found).filter(|_| token.is_some()) {
            Some(habit) => {
                let place = self.place(Span::new(habit.from, habit.to));
                Diagnostic::error(habit.title, place, habit.label).hint(habit.hint)
            }
            None => {
                let (tokens, place) = (&self.tokens, self.place(Span::new(start, end)));
                Unexpected { tokens, place, token, expected, what, previous }.describe()
            }
        };
        // A mistake is reported once, even if recovery finds it twice.
        if !self.diagnostics.iter().any(|d| d.labels[0].place == diagnostic.labels[0].place) {
            self.diagnostics.push(diagnostic);
        }
    }
}

/// A part of a list or record pattern, as the grammar reads it.
pub enum PatternItem {
    Item(Option<Ident>, Pattern),
    Rest(Rest),
}

/// Returns the alternatives of a pattern, without the name for the whole.
fn tops(pattern: &Pattern) -> &[Pattern] {
    match &pattern.kind {
        PatternKind::As(inner, _) => tops(inner),
        PatternKind::Or(all) => all,
        _ => std::slice::from_ref(pattern),
    }
}

/// Returns the alternatives of a pattern.
pub fn alternatives(pattern: Pattern) -> Vec<Pattern> {
    match pattern.kind {
        PatternKind::Or(all) => all,
        kind => vec![Pattern { kind, span: pattern.span }],
    }
}

/// Returns a pattern that is a name.
pub fn name_pattern(name: Name, span: Span) -> Pattern {
    let kind = if &*name == "_" { PatternKind::Any } else { PatternKind::Name(name) };
    Pattern { kind, span }
}

/// Returns an unsigned literal.
pub fn int(value: u64) -> ExprKind {
    i64::try_from(value).map_or(ExprKind::IntMin, ExprKind::Int)
}

/// Returns a minus before an expression; a minus before a literal becomes part of the literal.
pub fn negate(expr: Expr) -> ExprKind {
    match expr.kind {
        ExprKind::Int(n) if n != i64::MIN => ExprKind::Int(-n),
        ExprKind::IntMin => ExprKind::Int(i64::MIN),
        ExprKind::Float(x) => ExprKind::Float(-x),
        ExprKind::Duration(d) => ExprKind::Duration(-d),
        _ => ExprKind::Unary(UnaryOp::Negate, Box::new(expr)),
    }
}

/// Returns a string with `{…}` from its parts.
pub fn interpolated(first: Name, expr: Expr, rest: Vec<(Name, Expr)>, last: Name) -> ExprKind {
    let (mut texts, mut exprs) = (vec![first], vec![expr]);
    for (text, expr) in rest {
        texts.push(text);
        exprs.push(expr);
    }
    texts.push(last);
    ExprKind::Interpolated(texts, exprs)
}

/// Returns the node for an arm that could not be read.
pub fn broken_arm(span: Span) -> Arm {
    let error = Stmt { kind: StmtKind::Error, span };
    let pattern = Pattern { kind: PatternKind::Error, span };
    Arm { patterns: vec![pattern], guard: None, body: Block { stmts: vec![error], span }, span }
}
