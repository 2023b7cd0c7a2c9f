//! Copies of a session's functions, for declarations that run outside of its script.
//!
//! A name that an entry binds is a variable of the session's script, and so is a function. A
//! declaration runs on its own and cannot use these variables. So it calls copies under marked
//! names at the end of the program, one of the newest version of each function. A declaration has
//! the same length in all programs of a session, so places stay valid.

use std::collections::BTreeSet;

use crate::syntax::token::Token;
use crate::syntax::tree::StmtKind;
use crate::syntax::{Span, parse};

/// The prefix of a copy's name.
pub const MARK: &str = "_fn_";

/// A part of a text, unchanged or with a replacement.
pub struct Piece {
    pub span: Span,
    pub instead: Option<String>,
}

/// Returns the text of a declaration in pieces, with functions' names marked, and the functions
/// that the declaration uses.
pub fn pieces(text: &str, span: Span, functions: &BTreeSet<String>) -> (Vec<Piece>, BTreeSet<String>) {
    let (mut pieces, mut used) = (Vec::new(), BTreeSet::new());
    let own = text.get(span.start as usize..span.end as usize).unwrap_or("");
    let parsed = parse(own, 0);
    let tokens = &parsed.tokens;
    // An entity's own operations and functions hide those of the session.
    let entities = parsed.module.items.iter().filter_map(|item| match &item.kind {
        StmtKind::Entity(entity) => Some(entity),
        _ => None,
    });
    let members: BTreeSet<&str> =
        entities.flat_map(|entity| entity.callables()).map(|f| &*f.name.name).collect();
    let mut from = span.start;
    for (at, (start, token, end)) in tokens.iter().enumerate() {
        let Token::Id(name) = token else { continue };
        let before = at.checked_sub(1).map(|before| &tokens[before].1);
        let after = tokens.get(at + 1).map(|after| &after.1);
        let is_member = matches!(before, Some(Token::Dot | Token::QuestionDot | Token::On));
        let is_declared =
            matches!(before, Some(Token::Activity | Token::Orchestration | Token::Entity | Token::Const));
        let is_hidden = members.contains(&**name);
        if !functions.contains(&**name)
            || is_hidden
            || is_member
            || is_declared
            || after == Some(&Token::Colon)
        {
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
