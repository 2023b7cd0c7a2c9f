//! Functions of a session, for its declarations that run on their own.
//!
//! What an entry binds is a variable of the session's script, functions too, and what runs on its own can't use those. So
//! a declaration calls copies that stand at the end of the program, by marked names: the newest version of each function.
//! A declaration's text is as long in all programs of a session, so that places stay where they are.

use std::collections::BTreeSet;

use crate::syntax::token::Token;
use crate::syntax::{Span, parse};

/// What the name of a copy begins with.
pub const MARK: &str = "_fn_";

/// A part of a text: as it is, or with another one in its place.
pub struct Piece {
    pub span: Span,
    pub instead: Option<String>,
}

/// The text of a declaration in pieces, with the names of functions marked; and which of them it uses.
pub fn pieces(text: &str, span: Span, functions: &BTreeSet<String>) -> (Vec<Piece>, BTreeSet<String>) {
    let (mut pieces, mut used) = (Vec::new(), BTreeSet::new());
    let own = text.get(span.start as usize..span.end as usize).unwrap_or("");
    let parsed = parse(own, 0);
    let tokens = &parsed.tokens;
    let mut from = span.start;
    for (at, (start, token, end)) in tokens.iter().enumerate() {
        let Token::Id(name) = token else { continue };
        let before = at.checked_sub(1).map(|before| &tokens[before].1);
        let after = tokens.get(at + 1).map(|after| &after.1);
        let is_member = matches!(before, Some(Token::Dot | Token::QuestionDot | Token::On));
        let is_declared =
            matches!(before, Some(Token::Activity | Token::Orchestration | Token::Entity | Token::Const));
        if !functions.contains(&**name) || is_member || is_declared || after == Some(&Token::Colon) {
            continue;
        }
        let (start, end) = (span.start + *start as u32, span.start + *end as u32);
        pieces.push(Piece { span: Span { start: from, end: start }, instead: None });
        let instead = match parsed.is_short_field(at) {
            true => format!("{name}: {MARK}{name}"),
            false => format!("{MARK}{name}"),
        };
        pieces.push(Piece { span: Span { start, end }, instead: Some(instead) });
        used.insert(name.to_string());
        from = end;
    }
    pieces.push(Piece { span: Span { start: from, end: span.end }, instead: None });
    (pieces, used)
}
