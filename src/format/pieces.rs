//! The pieces of a text (tokens and comments), each with the surroundings that the style depends
//! on.

use std::collections::HashMap;

use crate::syntax::layout::{can_end, continues, soften};
use crate::syntax::lexer::lex;
use crate::syntax::parser::Brace;
use crate::syntax::token::Token;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Token,
    /// A whole string, including everything inside its `{…}`.
    Text,
    LineComment,
    BlockComment,
}

/// The content of a bracket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bracket {
    /// Arguments, parameters, elements or fields, separated by commas.
    Items,
    /// A record or a record's pattern.
    Record,
    /// One expression: in parentheses, or an index.
    One,
    Braces(Brace),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    None,
    Line,
    Blank,
}

pub struct Piece<'a> {
    pub kind: Kind,
    /// The token; `None` for a comment. For a string with parts, the token that ends the string.
    pub token: Option<Token>,
    pub text: &'a str,
    start: usize,
    /// The line break before the piece.
    pub line_break: Break,
    /// Whether a `;` stands before the piece.
    pub separated: bool,
    /// Whether the piece is a comment after which no statement follows on the same line.
    pub ends_line: bool,
    /// The innermost bracket around the piece; for a closing bracket, the bracket that it closes.
    pub within: Option<Bracket>,
    /// The bracket that the piece opens, if any.
    pub opens: Option<Bracket>,
    /// Whether the piece continues the construct that an earlier line began.
    pub continues: bool,
    /// Whether the token before belongs to the same expression and ends an operand.
    pub after_operand: bool,
    /// Whether the formatter adds a comma after the piece.
    pub wants_comma: bool,
    /// Whether the piece is an unneeded comma.
    pub is_left_out: bool,
    /// The index of the opening bracket, for a closing one.
    opener: Option<usize>,
    /// The indices of the nearest tokens before and after the piece.
    token_before: Option<usize>,
    token_after: Option<usize>,
    /// The numbers of line breaks and of `;` up to the piece.
    line_breaks: usize,
    separators: usize,
}

pub struct Pieces<'a> {
    /// The line `#!…` at the beginning.
    pub first_line: Option<&'a str>,
    all: Vec<Piece<'a>>,
}

impl Piece<'_> {
    pub fn is(&self, token: &Token) -> bool {
        self.kind == Kind::Token && self.token.as_ref() == Some(token)
    }

    pub fn is_comment(&self) -> bool {
        matches!(self.kind, Kind::LineComment | Kind::BlockComment)
    }

    pub fn is_opener(&self) -> bool {
        self.opens.is_some()
    }

    pub fn is_closer(&self) -> bool {
        self.opener.is_some()
    }

    /// Whether an operand may end with this piece.
    fn ends_operand(&self) -> bool {
        match &self.token {
            _ if self.kind == Kind::Text => true,
            Some(Token::Break | Token::Continue | Token::Return) | None => false,
            Some(token) => can_end(token),
        }
    }
}

impl<'a> Pieces<'a> {
    /// Returns the pieces of a text without mistakes. `braces` has the kinds of its braces.
    pub fn of(text: &'a str, braces: &HashMap<usize, Brace>) -> Pieces<'a> {
        let mut all = split(text);
        let opened = brackets(&mut all, braces);
        surroundings(&mut all, &opened);
        line_breaks(&mut all, &opened);
        commas(&mut all);
        let first_line = text.starts_with("#!").then(|| text.lines().next().unwrap_or(""));
        Pieces { first_line, all }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Piece<'a>> {
        self.all.iter()
    }

    /// Returns the pieces that formatting must keep: all except commas before closing brackets and
    /// between arms.
    pub fn essence(&self) -> impl Iterator<Item = &str> {
        let all = &self.all;
        let needed = move |at: usize| {
            let piece = &all[at];
            let last = all[at].token_after.is_none_or(|next| all[next].is_closer());
            !piece.is(&Token::Comma) || !(last || is_between_arms(all, at))
        };
        (0..all.len()).filter(move |at| needed(*at)).map(|at| all[at].text.trim_end())
    }
}

/// Cuts a text into pieces.
fn split(text: &str) -> Vec<Piece<'_>> {
    let lexed = lex(text, 0);
    let mut comments = lexed.comments.into_iter().peekable();
    let mut all: Vec<Piece<'_>> = Vec::new();
    let mut end_before = if text.starts_with("#!") { text.find('\n').unwrap_or(text.len()) } else { 0 };
    let mut separated = false;
    let mut strings: Vec<usize> = Vec::new();
    let mut add = |kind, token: Option<Token>, start: usize, end: usize, separated: bool| {
        let lines = text[end_before..start].matches('\n').count();
        end_before = end;
        all.push(Piece {
            kind,
            token,
            text: &text[start..end],
            start,
            line_break: [Break::None, Break::Line, Break::Blank][lines.min(2)],
            separated,
            ends_line: false,
            within: None,
            opens: None,
            continues: false,
            after_operand: false,
            wants_comma: false,
            is_left_out: false,
            opener: None,
            token_before: None,
            token_after: None,
            line_breaks: 0,
            separators: 0,
        });
    };
    let comment_kind = |start: usize| match text[start..].starts_with("//") {
        true => Kind::LineComment,
        false => Kind::BlockComment,
    };
    for (start, token, end) in soften(lexed.tokens) {
        while let Some((from, to)) = comments.next_if(|(from, _)| *from < start) {
            if strings.is_empty() {
                add(comment_kind(from), None, from, to, std::mem::take(&mut separated));
            }
        }
        match token {
            Token::StrStart(_) => strings.push(start),
            Token::StrEnd(_) => {
                if let Some(begun) = strings.pop()
                    && strings.is_empty()
                {
                    add(Kind::Text, Some(token), begun, end, std::mem::take(&mut separated));
                }
            }
            _ if !strings.is_empty() => {}
            Token::Nl => {}
            Token::Semicolon => separated = true,
            Token::Str(_) => add(Kind::Text, Some(token), start, end, std::mem::take(&mut separated)),
            _ => add(Kind::Token, Some(token), start, end, std::mem::take(&mut separated)),
        }
    }
    for (from, to) in comments {
        add(comment_kind(from), None, from, to, std::mem::take(&mut separated));
    }
    neighbours(&mut all);
    all
}

/// Finds the tokens next to each piece, and counts what separates the pieces, so that a run of
/// comments is passed over once.
fn neighbours(all: &mut [Piece<'_>]) {
    let (mut token, mut line_breaks, mut separators) = (None, 0, 0);
    for (at, piece) in all.iter_mut().enumerate() {
        line_breaks += usize::from(piece.line_break != Break::None);
        separators += usize::from(piece.separated);
        (piece.token_before, piece.line_breaks, piece.separators) = (token, line_breaks, separators);
        if !piece.is_comment() {
            token = Some(at);
        }
    }
    token = None;
    for (at, piece) in all.iter_mut().enumerate().rev() {
        piece.token_after = token;
        if !piece.is_comment() {
            token = Some(at);
        }
    }
}

/// Pairs the brackets. Returns the index of the enclosing opening bracket for each piece.
fn brackets(all: &mut [Piece<'_>], braces: &HashMap<usize, Brace>) -> Vec<Option<usize>> {
    let mut stack: Vec<usize> = Vec::new();
    let mut around = Vec::with_capacity(all.len());
    let mut last: Option<usize> = None;
    for at in 0..all.len() {
        let outer = stack.last().copied();
        around.push(outer);
        let kind = match &all[at].token {
            Some(Token::LBrace) => {
                Some(braces.get(&all[at].start).map_or(Bracket::Record, |brace| Bracket::Braces(*brace)))
            }
            Some(Token::LParen) => {
                let lambda = last.is_some_and(|last| all[last].is(&Token::Fn));
                let items = lambda || last.is_some_and(|last| is_applied(all, outer, last, at));
                Some(if items { Bracket::Items } else { Bracket::One })
            }
            Some(Token::LBracket) => {
                let index = last.is_some_and(|last| is_applied(all, outer, last, at));
                let record = outer.is_some_and(|outer| all[outer].opens == Some(Bracket::Record));
                let key = record && (last == outer || last.is_some_and(|last| all[last].is(&Token::Comma)));
                Some(if index || key { Bracket::One } else { Bracket::Items })
            }
            _ => None,
        };
        if let Some(kind) = kind {
            all[at].opens = Some(kind);
            stack.push(at);
        }
        if matches!(all[at].token, Some(Token::RParen | Token::RBracket | Token::RBrace))
            && all[at].kind == Kind::Token
        {
            all[at].opener = stack.pop();
        }
        if !all[at].is_comment() {
            last = Some(at);
        }
    }
    around
}

/// Whether the token at `at` belongs to the same expression as the operand that ends at `last`.
fn is_applied(all: &[Piece<'_>], around: Option<usize>, last: usize, at: usize) -> bool {
    if all[last].is(&Token::Question) {
        return true;
    }
    let state = all[last].is(&Token::State) && declares_state(all, around, last);
    all[last].ends_operand() && !state && !ends_statement(all, around, last, at)
}

/// Whether the `state` at `at` declares an entity's state.
fn declares_state(all: &[Piece<'_>], around: Option<usize>, at: usize) -> bool {
    let entity = around.is_some_and(|opener| all[opener].opens == Some(Bracket::Braces(Brace::Entity)));
    let first = all[at]
        .token_before
        .is_none_or(|before| Some(before) == around || ends_statement(all, around, before, at));
    entity && first
}

/// Whether a statement, a member or an arm ends between two neighbouring tokens within the same
/// bracket.
fn ends_statement(all: &[Piece<'_>], around: Option<usize>, before: usize, after: usize) -> bool {
    let statements = around.is_none_or(|opener| matches!(all[opener].opens, Some(Bracket::Braces(_))));
    let lines = all[after].line_breaks > all[before].line_breaks;
    let separated = all[after].separators > all[before].separators;
    let text = all[before].kind == Kind::Text;
    let end = text || all[before].token.as_ref().is_some_and(can_end);
    let next =
        all[after].kind == Kind::Text || all[after].token.as_ref().is_some_and(|next| !continues(next));
    statements && (separated || (lines && end && next))
}

fn is_between_arms(all: &[Piece<'_>], at: usize) -> bool {
    all[at].is(&Token::Comma) && all[at].within == Some(Bracket::Braces(Brace::Match))
}

fn surroundings(all: &mut [Piece<'_>], around: &[Option<usize>]) {
    for at in 0..all.len() {
        all[at].within = match all[at].opener {
            Some(own) => all[own].opens,
            None => around[at].and_then(|opener| all[opener].opens),
        };
    }
    for at in 0..all.len() {
        // A comment is placed like the token after it.
        let token = if all[at].is_comment() { all[at].token_after } else { Some(at) };
        all[at].ends_line = all[at].is_comment()
            && (all[at].kind == Kind::LineComment || token.is_none_or(|next| all[next].is_closer()));
        let before = all[at].token_before;
        let Some(token) = token else { continue };
        let closes = all[token].is_closer();
        let begins = closes
            || match before {
                None => true,
                Some(before) if Some(before) == around[at] => true,
                Some(before) if all[before].is(&Token::Comma) => {
                    !matches!(all[at].within, None | Some(Bracket::Braces(Brace::Block | Brace::Entity)))
                }
                Some(before) => ends_statement(all, around[at], before, token),
            };
        let branch = matches!(all[token].token, Some(Token::Else | Token::Catch | Token::Finally));
        all[at].continues = !begins && !branch;
        all[at].after_operand = before
            .is_some_and(|before| Some(before) != around[at] && is_applied(all, around[at], before, at));
    }
}

fn bracket_of(all: &[Piece<'_>], around: &[Option<usize>], at: usize) -> Option<usize> {
    all[at].opener.or(around[at])
}

/// Returns which brackets break, by the index of their openers. Braces break if any line break is
/// directly within them, other brackets if a line break follows the opener.
fn broken(all: &[Piece<'_>], around: &[Option<usize>]) -> Vec<bool> {
    let mut broken = vec![false; all.len()];
    for at in 0..all.len() {
        if let Some(opener) = bracket_of(all, around, at)
            && all[at].line_break != Break::None
            && (matches!(all[opener].opens, Some(Bracket::Braces(_))) || all[at].token_before == Some(opener))
        {
            broken[opener] = true;
        }
    }
    broken
}

/// Decides where lines break.
fn line_breaks(all: &mut [Piece<'_>], around: &[Option<usize>]) {
    for (at, piece) in all.iter_mut().enumerate().skip(1) {
        if piece.opener == Some(at - 1) {
            piece.line_break = Break::None;
        }
    }
    let lines = broken(all, around);
    // `} else` stays on one line if the block before it spans several lines.
    for at in 1..all.len() {
        if all[at].kind == Kind::Token
            && matches!(all[at].token, Some(Token::Else | Token::Catch | Token::Finally))
            && all[at - 1].opener.is_some_and(|opener| lines[opener])
        {
            all[at].line_break = Break::None;
        }
    }
    let broken = broken(all, around);
    for at in 1..all.len() {
        let bracket = bracket_of(all, around, at);
        let breaks = bracket.is_none_or(|opener| broken[opener]);
        let edge = (bracket == Some(at - 1) || all[at].is_closer()) && all[at].opener != Some(at - 1);
        let trailing = all[at].kind == Kind::LineComment && all[at].line_break == Break::None;
        let statements = matches!(all[at].within, None | Some(Bracket::Braces(_)));
        let next_arm = is_between_arms(all, at - 1);
        let parts = statements && (all[at].separated || next_arm) && !trailing;
        if all[at].line_break == Break::None && breaks && !trailing && (edge || parts) {
            all[at].line_break = Break::Line;
        }
        if all[at].line_break == Break::Blank && edge {
            all[at].line_break = Break::Line;
        }
        if all[at].is_closer() && !breaks {
            all[at].line_break = Break::None;
        }
        if all[at - 1].kind == Kind::LineComment && all[at].line_break == Break::None {
            all[at].line_break = Break::Line;
        }
    }
}

/// Ends items and records with a comma if their closing bracket has a line of its own, and without
/// one otherwise. Removes commas between arms on lines of their own.
fn commas(all: &mut [Piece<'_>]) {
    for at in 0..all.len() {
        if all[at].is_comment() {
            continue;
        }
        let Some(next) = all[at].token_after else { continue };
        let lines = (at + 1..=next).any(|at| all[at].line_break != Break::None);
        let closes = all[next].is_closer();
        if all[at].is(&Token::Comma) {
            let list = matches!(all[at].within, Some(Bracket::Items | Bracket::Record));
            let unneeded = (closes && !(lines && list)) || (lines && is_between_arms(all, at));
            // A comma after a comment stays: without it, the following token would move into the
            // comment's line.
            all[at].is_left_out = unneeded && at > 0 && !all[at - 1].is_comment();
        } else if closes && lines && all[next].opener != Some(at) {
            all[at].wants_comma = matches!(all[next].within, Some(Bracket::Items | Bracket::Record))
                && all[next].line_break != Break::None;
        }
    }
}
