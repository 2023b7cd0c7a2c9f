//! The parts of habits from other languages: the habit itself, and the surroundings of a token.

use super::lexer::Spanned;
use super::token::Token;

/// A habit that explains an unexpected token.
pub struct Habit {
    pub title: String,
    /// The bytes of the text to show, from `from` to before `to`.
    pub from: usize,
    pub to: usize,
    pub label: &'static str,
    pub hint: String,
}

/// A program with its tokens, and the unexpected one among them.
#[derive(Clone, Copy)]
pub struct Found<'a> {
    pub text: &'a str,
    pub tokens: &'a [Spanned],
    pub at: usize,
}

impl<'a> Found<'a> {
    /// Returns the token at a distance from the unexpected one.
    pub fn token(&self, distance: isize) -> Option<&'a Token> {
        self.at.checked_add_signed(distance).and_then(|at| self.tokens.get(at)).map(|(_, token, _)| token)
    }

    /// Returns whether a token begins where the one before it ends.
    pub fn is_adjacent(&self, at: usize) -> bool {
        at > 0 && at < self.tokens.len() && self.tokens[at - 1].2 == self.tokens[at].0
    }

    /// Returns the text of the tokens from `from` to before `to`, or `other` if there are none, or if
    /// they are too long to be quoted.
    pub fn quote(&self, from: usize, to: usize, other: &str) -> String {
        const MOST: usize = 40;
        let to = to.min(self.tokens.len());
        if from >= to {
            return other.to_string();
        }
        let quoted = self.text.get(self.tokens[from].0..self.tokens[to - 1].2).unwrap_or("");
        match quoted.is_empty() || quoted.contains(['\n', '`']) || quoted.chars().count() > MOST {
            true => other.to_string(),
            false => quoted.to_string(),
        }
    }

    /// Returns the index after the operand that begins at a token: names, fields, calls and indexes,
    /// a literal, or brackets.
    pub fn operand_end(&self, from: usize) -> usize {
        let mut at = from;
        while let Some((_, token, _)) = self.tokens.get(at) {
            at = match token {
                Token::LParen | Token::LBracket | Token::LBrace | Token::StrStart(_) => {
                    if at > from && !self.is_adjacent(at) {
                        break;
                    }
                    match closer(self.tokens, at) {
                        Some(close) => close + 1,
                        None => break,
                    }
                }
                Token::Dot | Token::QuestionDot if at > from => at + 2,
                token if at == from && super::layout::can_end(token) => at + 1,
                _ => break,
            };
        }
        at
    }

    /// Returns the index of the first token of the operand that ends before a token.
    pub fn operand_begin(&self, to: usize) -> usize {
        let mut at = to;
        while let Some(before) = at.checked_sub(1) {
            match &self.tokens[before].1 {
                Token::RParen | Token::RBracket | Token::RBrace | Token::StrEnd(_) => {
                    match opener(self.tokens, before) {
                        Some(open) => at = open,
                        None => return at,
                    }
                }
                token if super::layout::can_end(token) => at = before,
                _ => return at,
            }
            // A call, an index or a field goes on to the left.
            match at.checked_sub(1).map(|before| &self.tokens[before].1) {
                Some(Token::Dot | Token::QuestionDot) => at -= 1,
                Some(Token::Id(_) | Token::RParen | Token::RBracket)
                    if matches!(self.tokens[at].1, Token::LParen | Token::LBracket)
                        && self.is_adjacent(at) => {}
                _ => return at,
            }
        }
        at
    }

    /// Returns the index after the last token of the statement that contains a token: the next line
    /// end or closing bracket outside of the brackets between.
    pub fn statement_end(&self, from: usize) -> usize {
        let mut depth = 0_usize;
        for (at, (_, token, _)) in self.tokens.iter().enumerate().skip(from) {
            match token {
                Token::LParen | Token::LBracket | Token::LBrace | Token::StrStart(_) => depth += 1,
                Token::RParen | Token::RBracket | Token::RBrace | Token::StrEnd(_) => {
                    if depth == 0 {
                        return at;
                    }
                    depth -= 1;
                }
                Token::Nl | Token::Comma | Token::Semicolon if depth == 0 => return at,
                _ => {}
            }
        }
        self.tokens.len()
    }
}

/// Returns the index of the first token in the statement of a token.
pub fn statement(tokens: &[Spanned], at: usize) -> usize {
    let begins = |token: &Token| matches!(token, Token::Nl | Token::LBrace | Token::RBrace);
    (0..at.min(tokens.len())).rev().find(|before| begins(&tokens[*before].1)).map_or(0, |before| before + 1)
}

/// Returns the innermost bracket around a token, or the beginning of the string whose `{…}`
/// contains the token.
pub fn opener(tokens: &[Spanned], at: usize) -> Option<usize> {
    let mut depth = 0;
    (0..at).rev().find(|before| match tokens[*before].1 {
        Token::RParen | Token::RBracket | Token::RBrace | Token::StrEnd(_) => {
            depth += 1;
            false
        }
        Token::LParen | Token::LBracket | Token::LBrace | Token::StrStart(_) if depth == 0 => true,
        Token::LParen | Token::LBracket | Token::LBrace | Token::StrStart(_) => {
            depth -= 1;
            false
        }
        _ => false,
    })
}

/// Returns the index of the bracket that closes the one at an index.
pub fn closer(tokens: &[Spanned], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    (open..tokens.len()).find(|at| match tokens[*at].1 {
        Token::LParen | Token::LBracket | Token::LBrace | Token::StrStart(_) => {
            depth += 1;
            false
        }
        Token::RParen | Token::RBracket | Token::RBrace | Token::StrEnd(_) => {
            depth = depth.saturating_sub(1);
            depth == 0
        }
        _ => false,
    })
}

/// Returns whether the innermost bracket around a token is `bracket`.
pub fn within(tokens: &[Spanned], at: usize, bracket: &Token) -> bool {
    opener(tokens, at).is_some_and(|open| tokens[open].1 == *bracket)
}

/// Returns whether an expression may end with a token.
pub fn ends_value(token: &Token) -> bool {
    super::layout::can_end(token) && !matches!(token, Token::Return | Token::Break | Token::Continue)
}

/// Returns whether an expression may begin with a token.
pub fn begins_value(token: &Token) -> bool {
    ends_value(token) && !matches!(token, Token::RParen | Token::RBracket | Token::RBrace | Token::StrEnd(_))
        || matches!(token, Token::LParen | Token::LBracket | Token::StrStart(_) | Token::Minus | Token::Not)
        || matches!(token, Token::Fn | Token::Throw | Token::Await | Token::Async | Token::Return)
        || matches!(token, Token::Break | Token::Continue | Token::Match | Token::If)
}

/// Returns the name here of a type of another language.
pub fn kind_here(word: &str) -> Option<&'static str> {
    Some(match word {
        "str" | "String" | "text" | "char" | "Str" => "string",
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" | "usize" | "isize" | "integer"
        | "Int" | "Integer" | "long" | "int64" | "int32" => "int",
        "f32" | "f64" | "double" | "Float" | "float64" | "decimal" => "float",
        "Number" | "num" => "number",
        "boolean" | "Boolean" | "Bool" => "bool",
        "dict" | "object" | "Object" | "map" | "Map" | "HashMap" | "hash" | "Record" => "record",
        "array" | "Array" | "vec" | "Vec" | "List" | "tuple" | "slice" => "list",
        "Function" | "func" | "Callable" => "function",
        _ => return None,
    })
}
