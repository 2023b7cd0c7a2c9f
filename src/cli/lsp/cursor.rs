//! The kind of text at a place: code, a string or a comment.

use crate::syntax::lexer::lex;
use crate::syntax::token::Token;

/// The kind of text at the end of an unfinished program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cursor {
    /// Code, with the offset of its beginning: that of the innermost `{…}` of a string, otherwise
    /// 0.
    Code(usize),
    /// The text of a string.
    Text,
    Comment,
}

/// Returns the kind of text that follows a text.
pub fn after(text: &str) -> Cursor {
    let lexed = lex(text, 0);
    // Returns the end of the last unclosed construct, found by the title of its diagnostic.
    let end_of = |title: &str| {
        let found = lexed.diagnostics.iter().filter(|found| found.title == title);
        found.filter_map(|found| Some(found.labels.first()?.place.span.end as usize)).max()
    };
    let line_comment =
        lexed.comments.last().is_some_and(|(from, to)| *to == text.len() && text[*from..].starts_with("//"));
    let shebang = text.starts_with("#!") && !text.contains('\n');
    if line_comment || shebang || end_of("unclosed comment").is_some() {
        return Cursor::Comment;
    }
    if end_of("unclosed string") == Some(text.len()) {
        return Cursor::Text;
    }
    let mut open = Vec::new();
    for (start, token, end) in &lexed.tokens {
        match token {
            Token::StrStart(_) => open.push(*end),
            Token::StrMid(_) => {
                open.pop();
                open.push(*end);
            }
            // The lexer closes an unclosed string with an empty token at the end of the text.
            Token::StrEnd(_) if start < end || *end < text.len() => {
                open.pop();
            }
            _ => {}
        }
    }
    Cursor::Code(open.last().copied().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::{Cursor, after};

    #[test]
    fn a_cursor_is_in_code_in_text_or_in_a_comment() {
        let cases = [
            ("let a = pri", Cursor::Code(0)),
            ("// pri", Cursor::Comment),
            ("// pri\n", Cursor::Code(0)),
            ("/// docs", Cursor::Comment),
            ("a /* pri", Cursor::Comment),
            ("a /* /* b */ pri", Cursor::Comment),
            ("a /* b */ pri", Cursor::Code(0)),
            ("\"pri", Cursor::Text),
            ("\"", Cursor::Text),
            ("\"// pri", Cursor::Text),
            ("\"a\" + pri", Cursor::Code(0)),
            ("\"a\\\" pri", Cursor::Text),
            ("\"a {pri", Cursor::Code(4)),
            ("\"a {", Cursor::Code(4)),
            ("\"a {b} pri", Cursor::Text),
            ("\"a {b} {pri", Cursor::Code(8)),
            // Without a `}` the brace is text, so the second quote ends the string.
            ("\"a {f(\"pri", Cursor::Code(0)),
            ("\"a {f(\"x\", pri", Cursor::Code(4)),
            ("\"a {f(\"x {pri", Cursor::Code(10)),
            ("\"\"\"\na\n  pri", Cursor::Text),
            ("\"\"\"\na {b.\n  pri", Cursor::Code(7)),
            ("\"never closed\npri", Cursor::Code(0)),
            ("\"a {b}\"\npri", Cursor::Code(0)),
            ("\"a \\{ pri", Cursor::Text),
        ];
        for (text, cursor) in cases {
            assert_eq!(after(text), cursor, "{text}");
        }
    }
}
