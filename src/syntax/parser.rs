//! Tokens to a tree, and the parser's errors said in words.

use std::collections::HashMap;

use lalrpop_util::{ErrorRecovery, ParseError};

use super::cascades::without_cascades;
use super::diagnostic::Diagnostic;
use super::foreign;
use super::grammar::ProgramParser;
use super::layout::lay_out;
use super::lexer::{Spanned, lex};
use super::source::{MAX_SOURCE, Place, Span};
use super::token::{Name, Token};
use super::tree::*;

/// What was read: the tree, and what is wrong with the text. The tree holds `Error` nodes where it was unreadable.
pub struct Parsed {
    pub module: Module,
    pub diagnostics: Vec<Diagnostic>,
    /// Where the first mistake is, when blocks no longer end where they began.
    pub broken: Option<usize>,
    /// The tokens as laid out, for tools that look at the text itself.
    pub tokens: Vec<Spanned>,
    /// What the braces are for, by offset. Those of records and patterns are not here.
    pub braces: HashMap<usize, Brace>,
}

/// What a brace holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brace {
    Block,
    Match,
    Entity,
}

impl Parsed {
    /// Whether the name at an index of the tokens is `{name}` of a record or a pattern.
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
            broken: None,
            tokens,
            braces: HashMap::new(),
        }
    }
}

/// Mistakes of one text that are told, at most.
pub(super) const MOST_MISTAKES: usize = 200;

/// Reads one source text. Its number is used in the places of the diagnostics only.
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
    let mut context =
        Context { source, docs: lexed.docs, diagnostics, tokens, braces: HashMap::new(), too_deep: false };
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
    Parsed { module, diagnostics, broken, tokens: context.tokens, braces: context.braces }
}

/// Whether a text is right so far and goes on: a bracket or a text block is open, or something is missing at its end.
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

/// What the grammar's actions use.
pub struct Context {
    source: u32,
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

    /// The doc comment before the declaration that begins at `at`.
    pub fn doc(&self, at: usize) -> Option<Name> {
        self.docs.get(&at).cloned()
    }

    /// Notes what the brace at an offset is for.
    pub fn brace(&mut self, at: usize, brace: Brace) {
        self.braces.insert(at, brace);
    }

    /// An expression; an error node when the tree would be too deep.
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

    /// An expression as a body.
    pub fn body(&mut self, expr: Expr) -> Block {
        let span = expr.span;
        Block { stmts: vec![Stmt { kind: StmtKind::Expr(expr), span }], span }
    }

    /// The body of an `extern activity`, whose declaration ends at `end`: the process around does it.
    pub fn extern_body(&mut self, name: &Ident, params: &[Param], end: usize) -> Block {
        for param in params {
            if !matches!(param.pattern.kind, PatternKind::Name(_)) {
                let place = self.place(param.pattern.span);
                let error =
                    Diagnostic::error("a pattern in an `extern activity`", place, "a name is wanted here")
                        .because("the function of the process around takes its arguments as they are");
                self.diagnostics.push(error);
            }
        }
        let passed = params.iter().map(|param| param.pattern.span).collect();
        let body = self.expr(name.span.start as usize, ExprKind::Extern(name.name.clone(), passed), end);
        self.body(body)
    }

    /// Notes that the parser skipped tokens, while it was reading `what`.
    pub fn recovered(&mut self, recovery: ErrorRecovery<usize, Token, ()>, what: &str) {
        self.syntax_error(recovery.error, what);
    }

    /// Checks that a pattern binds each name once.
    pub fn pattern(&mut self, pattern: Pattern) -> Pattern {
        let mut seen: Vec<(Name, Span)> = Vec::new();
        let mut twice = None;
        if matches!(pattern.kind, PatternKind::List(..) | PatternKind::Record(..)) {
            pattern.names(&mut |name, span| match seen.iter().find(|(n, _)| n == name) {
                Some((name, first)) => twice = twice.take().or(Some((name.clone(), *first, span))),
                None => seen.push((name.clone(), span)),
            });
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
        let diagnostic = match foreign::habit(&self.tokens, at).filter(|_| token.is_some()) {
            Some(habit) => {
                let place = self.place(Span::new(habit.from, habit.to));
                Diagnostic::error(habit.title, place, habit.label).hint(habit.hint)
            }
            None => Unexpected { context: self, start, token, end, expected, what, previous }.describe(),
        };
        // One mistake is said once, even when recovery stumbles over it twice.
        if !self.diagnostics.iter().any(|d| d.labels[0].place == diagnostic.labels[0].place) {
            self.diagnostics.push(diagnostic);
        }
    }
}

const NAMED_IMPORT: &str = "an import has a name: `import \"lib/mail.df\" as mail`";

struct Unexpected<'a> {
    context: &'a Context,
    start: usize,
    token: Option<Token>,
    end: usize,
    expected: Vec<String>,
    what: &'a str,
    previous: Option<Token>,
}

impl Unexpected<'_> {
    fn expects(&self, terminal: &str) -> bool {
        self.expected.iter().any(|e| e.trim_matches('"') == terminal)
    }

    /// Whether it stands in the `{…}` of a string.
    fn is_in_a_string(&self) -> bool {
        let tokens = &self.context.tokens;
        let at = tokens.partition_point(|(known, ..)| *known < self.start);
        let mut depth = 0;
        for (_, token, _) in tokens[..at].iter().rev() {
            match token {
                Token::StrEnd(_) => depth += 1,
                Token::StrStart(_) if depth == 0 => return true,
                Token::StrStart(_) => depth -= 1,
                Token::Nl => return false,
                _ => {}
            }
        }
        false
    }

    /// Whether it stands in the line of an `extern activity`.
    fn is_in_extern(&self) -> bool {
        let tokens = &self.context.tokens;
        let at = tokens.partition_point(|(known, ..)| *known < self.start);
        tokens[..at]
            .iter()
            .rev()
            .take_while(|(_, token, _)| *token != Token::Nl)
            .any(|(_, token, _)| *token == Token::Extern)
    }

    fn describe(&self) -> Diagnostic {
        let place = self.context.place(Span::new(self.start, self.end));
        let Some(token) = &self.token else {
            return Diagnostic::error(
                "unexpected end of the file",
                place,
                format!("{} is not complete here", self.what),
            )
            .maybe_hint(self.wanted().map(|wanted| match wanted {
                "`as` and a name" => NAMED_IMPORT.to_string(),
                wanted => format!("{wanted} was expected"),
            }));
        };
        let title = match token {
            Token::Nl => "unexpected end of the line".to_string(),
            Token::StrMid(_) | Token::StrEnd(_) => "incomplete `{…}` in a string".to_string(),
            token => format!("unexpected {token}"),
        };
        let (text, hint) = self.reason(token);
        Diagnostic::error(title, place, text).maybe_hint(hint)
    }

    /// What would have been right, in a few words.
    fn wanted(&self) -> Option<&'static str> {
        let expression = self.expects("int") && self.expects("null");
        if expression && self.expects("let") {
            return Some("a statement");
        }
        if expression && self.expects("match") {
            return Some("an expression");
        }
        if self.expects("int") && self.expects("[") {
            return Some("a pattern");
        }
        if self.expects("on") && !expression {
            return Some("a member of the entity: `state` or `on`");
        }
        let only = |a: &str| self.expected.len() <= 2 && self.expects(a);
        if only("id") {
            return Some("a name");
        }
        if self.expects("=>") && self.expects("{") && !self.expects("+") {
            return Some("`=>` or a block `{ … }`");
        }
        if only("{") || (self.expects("{") && !self.expects("nl")) {
            return Some("a block `{ … }`");
        }
        if only("(") {
            return Some("`(`");
        }
        if only("in") || (self.expects("in") && !self.expects("nl")) {
            return Some("`in`");
        }
        if only("=") {
            return Some("`=`");
        }
        if only("as") {
            return Some("`as` and a name");
        }
        if only("string") {
            return Some("a name in quotes");
        }
        if self.expects("with") && !self.expects("nl") && !self.expects("{") && !self.expects("+") {
            return Some("`with`");
        }
        if self.expects(":") {
            return Some("`:` or the end of the record");
        }
        if self.expects(",") && self.expects(")") {
            return Some("`,` or `)`");
        }
        if self.expects(",") && self.expects("]") {
            return Some("`,` or `]`");
        }
        if self.expects(",") && self.expects("}") {
            return Some("`,` or `}`");
        }
        if self.expects("nl") {
            return Some("the end of the statement");
        }
        None
    }

    fn reason(&self, token: &Token) -> (String, Option<String>) {
        let previous = self.previous.as_ref();
        let wanted = self.wanted();
        let text = match wanted {
            Some(wanted) => format!("{wanted} was expected"),
            None => format!("{} can't go on with this", self.what),
        };
        let hint = match (previous, token) {
            _ if self.is_in_a_string() => Some(
                "in a string `{…}` puts a value in; a brace that is meant as it is is written `\\{`".to_string(),
            ),
            _ if wanted == Some("`as` and a name") => Some(NAMED_IMPORT.to_string()),
            (Some(Token::Extern), _) => Some("only activities are `extern`: `extern activity name(…)`".to_string()),
            (_, Token::LBrace | Token::Arrow) if self.is_in_extern() => Some(
                "an `extern activity` has no body: the Rust program around does it; leave `extern` away for one that has"
                    .to_string(),
            ),
            (Some(word @ (Token::Invariant | Token::Eventually | Token::Test)), _) => {
                let word = word.spelling().unwrap_or("");
                Some(format!("say what it is about: `{word} \"no account is overdrawn\" {{ … }}`"))
            }
            _ if wanted == Some("`with`") => {
                Some("say what can come of it: `mock charge with fn(amount) => amount`".to_string())
            }
            (_, Token::Assign) if !self.expects("=") => {
                Some("`==` compares; `=` assigns, and is a statement".to_string())
            }
            (
                _,
                Token::Equal
                | Token::NotEqual
                | Token::Less
                | Token::LessEqual
                | Token::Greater
                | Token::GreaterEqual,
            ) if wanted.is_none() || self.expects("&&") => {
                Some("comparisons don't chain: write `a < b && b < c`".to_string())
            }
            (_, Token::DotDot | Token::DotDotEq) => {
                Some("a range is `low..high` or `low..=high`".to_string())
            }
            (_, Token::Arrow) if self.expects(",") && self.expects(")") => {
                Some("an anonymous function is `fn x => …` or `fn (x, y) => …`".to_string())
            }
            (_, Token::Arrow) => {
                Some("an anonymous function is `fn x => …`; a block needs no `=>`".to_string())
            }
            (_, Token::Else) => {
                Some("`else` follows the block of an `if`; `match` has the arm `other => …`".to_string())
            }
            (_, Token::Colon) => {
                Some("there are no type annotations; a field is `name: value` within `{ }`".to_string())
            }
            (
                _,
                Token::Activity
                | Token::Extern
                | Token::Orchestration
                | Token::Entity
                | Token::Import
                | Token::Const
                | Token::Test,
            ) => Some(format!("{token} is a declaration, and stands at the top level of a file")),
            (Some(Token::LBrace | Token::Comma), word)
                if word.is_word() && self.expects("id") && self.expects("..") =>
            {
                let word = word.spelling().unwrap_or("");
                Some(format!("`{word}` is a reserved word; a field of that name is written `{word}: another_name`"))
            }
            (_, word) if word.is_word() && wanted.is_some_and(|w| w == "a name" || w == "a pattern") => {
                Some(format!("{word} is a reserved word; choose another name"))
            }
            (_, Token::Fn | Token::Throw | Token::Return) if self.expects("await") => {
                Some(format!("put it in parentheses: `({} …)`", token.spelling().unwrap_or("")))
            }
            (_, Token::LBrace) if wanted == Some("the end of the statement") => {
                Some("a block as an expression is `do { … }`".to_string())
            }
            _ => None,
        };
        (text, hint)
    }
}

/// A part of a list or record pattern, as the grammar reads it.
pub enum PatternItem {
    Item(Option<Ident>, Pattern),
    Rest(Rest),
}

/// A pattern that is a name.
pub fn name_pattern(name: Name, span: Span) -> Pattern {
    let kind = if &*name == "_" { PatternKind::Any } else { PatternKind::Name(name) };
    Pattern { kind, span }
}

/// An unsigned literal.
pub fn int(value: u64) -> ExprKind {
    i64::try_from(value).map_or(ExprKind::IntMin, ExprKind::Int)
}

/// A minus before an expression; before a literal it belongs to the literal.
pub fn negate(expr: Expr) -> ExprKind {
    match expr.kind {
        ExprKind::Int(n) => ExprKind::Int(-n),
        ExprKind::IntMin => ExprKind::Int(i64::MIN),
        ExprKind::Float(x) => ExprKind::Float(-x),
        ExprKind::Duration(d) => ExprKind::Duration(-d),
        _ => ExprKind::Unary(UnaryOp::Negate, Box::new(expr)),
    }
}

/// The parts of a string with `{…}`.
pub fn interpolated(first: Name, expr: Expr, rest: Vec<(Name, Expr)>, last: Name) -> ExprKind {
    let (mut texts, mut exprs) = (vec![first], vec![expr]);
    for (text, expr) in rest {
        texts.push(text);
        exprs.push(expr);
    }
    texts.push(last);
    ExprKind::Interpolated(texts, exprs)
}

/// What stands for an arm that could not be read.
pub fn broken_arm(span: Span) -> Arm {
    let error = Stmt { kind: StmtKind::Error, span };
    let pattern = Pattern { kind: PatternKind::Error, span };
    Arm { patterns: vec![pattern], guard: None, body: Block { stmts: vec![error], span }, span }
}
