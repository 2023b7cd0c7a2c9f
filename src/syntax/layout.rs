//! The newline rule and the balance of brackets, as a pass over the tokens.
//!
//! In the output, one [`Token::Nl`] separates two statements, never two together and never beside a
//! brace. Every bracket is closed by its own kind. So the grammar need not deal with either.

use super::diagnostic::{Diagnostic, MOST_MISTAKES};
use super::lexer::Spanned;
use super::source::{Place, Span};
use super::token::Token;

/// The largest allowed depth of brackets.
pub const MAX_BRACKETS: usize = 1_000;

/// Lays out the tokens. The flag is false if brackets nest so deeply that parsing makes no sense.
pub fn lay_out(tokens: Vec<Spanned>, source: u32, diagnostics: &mut Vec<Diagnostic>) -> (Vec<Spanned>, bool) {
    let mut layout = Layout {
        source,
        out: Vec::with_capacity(tokens.len() + 1),
        open: Vec::new(),
        pending: None,
        diagnostics,
    };
    let sane = layout.run(soften(tokens));
    (layout.out, sane)
}

/// Decides what words are by their neighbours. A reserved word after a `.` or before a `:` is a
/// name. `within` before a duration, `schedule` before a string, and `at` after a bracket are tokens of
/// their own, since no names can be there.
pub fn soften(mut tokens: Vec<Spanned>) -> Vec<Spanned> {
    for at in 0..tokens.len() {
        if matches!(&tokens[at].1, Token::Id(name) if &**name == "within")
            && matches!(tokens.get(at + 1), Some((_, Token::Duration(_), _)))
        {
            tokens[at].1 = Token::Within;
        }
        let is_member = at > 0 && matches!(tokens[at - 1].1, Token::Dot | Token::QuestionDot);
        if matches!(&tokens[at].1, Token::Id(name) if &**name == "schedule")
            && matches!(tokens.get(at + 1), Some((_, Token::Str(_), _)))
            && !is_member
        {
            tokens[at].1 = Token::Schedule;
        }
        if at > 0
            && matches!(&tokens[at].1, Token::Id(name) if &**name == "at")
            && matches!(tokens[at - 1].1, Token::RParen | Token::RBrace)
        {
            tokens[at].1 = Token::At;
        }
        let field = at > 0 && matches!(tokens[at - 1].1, Token::Dot | Token::QuestionDot);
        let key = tokens.get(at + 1).is_some_and(|next| next.1 == Token::Colon);
        if (field || key)
            && tokens[at].1.is_word()
            && let Some(text) = tokens[at].1.spelling()
        {
            tokens[at].1 = Token::Id(text.into());
        }
    }
    tokens
}

struct Layout<'a> {
    source: u32,
    out: Vec<Spanned>,
    open: Vec<(Token, Span)>,
    /// The offset of a line end or `;` that ends a statement if the next token begins one, and
    /// whether a `;` was among them.
    pending: Option<(usize, bool)>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Layout<'_> {
    fn run(&mut self, tokens: Vec<Spanned>) -> bool {
        for (start, token, end) in tokens {
            match token {
                Token::Nl | Token::Semicolon => {
                    let hard = token == Token::Semicolon;
                    let was_hard = self.pending.is_some_and(|(_, hard)| hard);
                    let at = self.pending.map_or(start, |(at, _)| at);
                    self.pending = Some((at, hard || was_hard));
                    continue;
                }
                _ => {}
            }
            let pending = self.pending.take();
            if pending.is_some() && begins_only_a_statement(&token) {
                self.close_parentheses(start);
            }
            if let Some((at, hard)) = pending {
                self.line_end(at, hard, &token);
            }
            match &token {
                Token::LParen | Token::LBracket | Token::LBrace | Token::StrStart(_) => {
                    if self.open.len() >= MAX_BRACKETS {
                        let place = self.place(start, end);
                        self.diagnostics.push(
                            Diagnostic::error("nested too deeply", place, "brackets 1,000 deep")
                                .hint("give the inner parts names with `let`"),
                        );
                        return false;
                    }
                    self.open.push((token.clone(), Span::new(start, end)));
                }
                Token::RParen | Token::RBracket | Token::RBrace | Token::StrEnd(_)
                    if !self.close(&token, start, end) =>
                {
                    continue;
                }
                _ => {}
            }
            self.out.push((start, token, end));
        }
        let end = self.out.last().map_or(0, |last| last.2);
        while let Some((opener, span)) = self.open.pop() {
            self.unclosed(&opener, span);
            self.out.push((end, closer(&opener), end));
        }
        true
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        if self.diagnostics.len() < MOST_MISTAKES {
            self.diagnostics.push(diagnostic);
        }
    }

    fn place(&self, start: usize, end: usize) -> Place {
        Place { source: self.source, span: Span::new(start, end) }
    }

    /// Decides whether a line end or a `;` separates the token before it from `next`.
    fn line_end(&mut self, at: usize, hard: bool, next: &Token) {
        let within =
            matches!(self.open.last(), Some((Token::LParen | Token::LBracket | Token::StrStart(_), _)));
        let Some((_, previous, _)) = self.out.last() else { return };
        if *previous == Token::LBrace || *next == Token::RBrace || (within && !hard) {
            return;
        }
        if hard || (can_end(previous) && !continues(next)) {
            self.out.push((at, Token::Nl, at));
        }
    }

    /// Checks a closing bracket against the open brackets; returns false if the bracket must be
    /// left out.
    fn close(&mut self, token: &Token, start: usize, end: usize) -> bool {
        let fits = |opener: &Token| match token {
            Token::StrEnd(_) => matches!(opener, Token::StrStart(_)),
            _ => closer(opener) == *token,
        };
        let Some(depth) = self.open.iter().rposition(|(opener, _)| fits(opener)) else {
            let place = self.place(start, end);
            self.report(
                Diagnostic::error(format!("unmatched {token}"), place, "this closes nothing")
                    .hint("remove it, or open its bracket before"),
            );
            return false;
        };
        // A bracket inside `{…}` of a string can't close one outside.
        if let Some(string) = self.open.iter().rposition(|(opener, _)| matches!(opener, Token::StrStart(_)))
            && depth < string
        {
            let place = self.place(start, end);
            self.report(Diagnostic::error(format!("unmatched {token}"), place, "this closes nothing"));
            return false;
        }
        while self.open.len() > depth + 1 {
            if let Some((opener, span)) = self.open.pop() {
                self.unclosed(&opener, span);
                self.out.push((start, closer(&opener), start));
            }
        }
        self.open.pop();
        true
    }

    /// Closes open parentheses and brackets, because a statement can't begin within them.
    fn close_parentheses(&mut self, at: usize) {
        while matches!(self.open.last(), Some((Token::LParen | Token::LBracket, _))) {
            if let Some((opener, span)) = self.open.pop() {
                self.unclosed(&opener, span);
                self.out.push((at, closer(&opener), at));
            }
        }
    }

    fn unclosed(&mut self, opener: &Token, span: Span) {
        if matches!(opener, Token::StrStart(_)) {
            return; // the lexer has reported it
        }
        let place = Place { source: self.source, span };
        let close = closer(opener);
        self.report(
            Diagnostic::error(format!("unclosed {opener}"), place, "this is never closed")
                .hint(format!("add {close}")),
        );
    }
}

fn closer(opener: &Token) -> Token {
    match opener {
        Token::LParen => Token::RParen,
        Token::LBracket => Token::RBracket,
        Token::StrStart(_) => Token::StrEnd("".into()),
        _ => Token::RBrace,
    }
}

fn begins_only_a_statement(token: &Token) -> bool {
    use Token::*;
    matches!(
        token,
        Let | Var
            | Const
            | Import
            | Test
            | Mock
            | Invariant
            | Eventually
            | Extern
            | Activity
            | Orchestration
            | Entity
            | For
            | While
    )
}

/// Returns whether a statement may end with this token.
pub fn can_end(token: &Token) -> bool {
    use Token::*;
    matches!(
        token,
        Id(_)
            | Int(_)
            | Float(_)
            | Duration(_)
            | Str(_)
            | StrEnd(_)
            | RParen
            | RBracket
            | RBrace
            | Break
            | Continue
            | Return
            | True
            | False
            | Null
            | State
    )
}

/// Returns whether this token continues the statement of the line before.
pub fn continues(token: &Token) -> bool {
    use Token::*;
    matches!(
        token,
        Dot | QuestionDot
            | Question
            | Else
            | Catch
            | Finally
            | With
            | After
            | Pipe
            | Coalesce
            | Or
            | And
            | Equal
            | NotEqual
            | Less
            | LessEqual
            | Greater
            | GreaterEqual
            | Plus
            | Star
            | Slash
            | Percent
            | DotDot
            | DotDotEq
            | RParen
            | RBracket
            | RBrace
            | Comma
            | Arrow
            | Assign
            | PlusAssign
            | MinusAssign
            | StarAssign
            | SlashAssign
            | PercentAssign
            | Bar
            | Colon
            | In
            | As
            | Within
            | StrMid(_)
            | StrEnd(_)
    )
}
