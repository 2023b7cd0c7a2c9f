//! The kinds of a document's tokens, from which the editor colours names by meaning.

use serde_json::{Value, json};

use crate::check::{GlobalKind, Resolved};
use crate::syntax::lexer::lex;
use crate::syntax::token::Token;

use super::document::Document;

/// The kinds of tokens that the editor is told of.
pub const TOKEN_TYPES: [&str; 7] =
    ["keyword", "string", "number", "comment", "function", "variable", "class"];

impl Document {
    pub fn semantic_tokens(&self) -> Value {
        let lexed = lex(&self.text, 0);
        let mut marks: Vec<(usize, usize, usize)> =
            lexed.comments.iter().map(|(start, end)| (*start, *end, 3)).collect();
        let module = &self.program.modules[0];
        for (at, (start, token, end)) in lexed.tokens.iter().enumerate() {
            let next = lexed.tokens.get(at + 1).map(|(_, token, _)| token);
            let kind = match token {
                Token::Id(name) if &**name == "migrate" && next == Some(&Token::State) => 0,
                Token::Str(_)
                | Token::StrStart(_)
                | Token::StrMid(_)
                | Token::StrEnd(_)
                | Token::Format(_) => 1,
                Token::Int(_) | Token::Float(_) | Token::Duration(_) => 2,
                Token::Id(_) => match module.uses.get(&(*start as u32)) {
                    Some(Resolved::Global(global)) => match self.program.globals[*global].kind {
                        GlobalKind::Entity => 6,
                        _ => 4,
                    },
                    Some(Resolved::Builtin(_)) => 4,
                    Some(Resolved::Local(_)) => 5,
                    None => continue,
                },
                token if token.is_word() => 0,
                _ => continue,
            };
            marks.push((*start, *end, kind));
        }
        marks.sort_unstable();
        let mut data: Vec<usize> = Vec::new();
        let (mut last_line, mut last_column) = (0, 0);
        let (mut line, mut line_start, mut seen) = (0, 0, 0);
        for (start, end, kind) in marks {
            // A token of several lines is cut at the end of its first line.
            let end = self.text[start..end].find('\n').map_or(end, |at| start + at);
            let between = &self.text[seen..start];
            line += between.matches('\n').count();
            if let Some(at) = between.rfind('\n') {
                line_start = seen + at + 1;
            }
            seen = start;
            let units = |text: &str| text.chars().map(char::len_utf16).sum::<usize>();
            let column = units(&self.text[line_start..start]);
            let from = if line == last_line { last_column } else { 0 };
            data.extend([line - last_line, column - from, units(&self.text[start..end]), kind, 0]);
            (last_line, last_column) = (line, column);
        }
        json!({"data": data})
    }
}
