//! The text between two pieces on one line.

use crate::syntax::token::Token;

use super::pieces::{Bracket, Kind, Piece};

/// Returns nothing, a space, two spaces before a comment at the end of a line, or `; ` between two
/// statements on a line.
pub fn between(before: &Piece<'_>, piece: &Piece<'_>) -> &'static str {
    if piece.separated && !before.is_opener() && !piece.is_closer() && !piece.ends_line {
        return "; ";
    }
    match piece.kind {
        Kind::LineComment => return "  ",
        Kind::BlockComment if before.is_opener() => return if is_block(before.opens) { " " } else { "" },
        Kind::BlockComment => return " ",
        Kind::Token | Kind::Text => {}
    }
    if before.kind == Kind::BlockComment {
        let closes = piece.is_closer() && !is_block(piece.within);
        return if closes || piece.is(&Token::Comma) { "" } else { " " };
    }
    if is_tight(before, piece) { "" } else { " " }
}

fn is_block(bracket: Option<Bracket>) -> bool {
    matches!(bracket, Some(Bracket::Braces(_)))
}

/// Whether nothing separates two tokens.
fn is_tight(before: &Piece<'_>, piece: &Piece<'_>) -> bool {
    if piece.is_closer() && before.is_opener() {
        return true;
    }
    if before.is_opener() {
        return !is_block(before.opens);
    }
    if piece.is_closer() {
        return !is_block(piece.within);
    }
    if let Some(token) = piece.token.as_ref().filter(|_| piece.kind == Kind::Token) {
        match token {
            Token::Comma | Token::Colon | Token::Dot | Token::QuestionDot | Token::Question => return true,
            Token::DotDot | Token::DotDotEq if piece.after_operand => return true,
            Token::LParen | Token::LBracket if piece.after_operand => return true,
            _ => {}
        }
    }
    match before.token.as_ref().filter(|_| before.kind == Kind::Token) {
        Some(Token::Dot | Token::QuestionDot | Token::DotDot | Token::DotDotEq | Token::Not) => true,
        Some(Token::Minus) => !before.after_operand,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::format;

    fn formatted(text: &str) -> String {
        format(text, 0).expect("a text without mistakes")
    }

    #[test]
    fn spaces_follow_what_a_token_is_here() {
        let cases = [
            ("let x=-a- -b", "let x = -a - -b\n"),
            ("f ( a,b )[ 0 ] . c", "f(a, b)[0].c\n"),
            ("f ?( a,b )?[ 0 ] ?. c", "f?(a, b)?[0]?.c\n"),
            ("a:for x in r\"{ \"{break  a}", "a: for x in r\"{ \" { break a }\n"),
            (
                "match x{1 ..=9|-1=>1;{ a:1|2 } as b=>2}",
                "match x { 1..=9 | -1 => 1; {a: 1 | 2} as b => 2 }\n",
            ),
            ("for i in 0 .. n{print( i )}", "for i in 0..n { print(i) }\n"),
            ("let {a,..r}={ b:1,.. c }", "let {a, ..r} = {b: 1, ..c}\n"),
            ("fn(x)=>!x", "fn (x) => !x\n"),
            ("start f(x)  at(now() + 1h)", "start f(x) at (now() + 1h)\n"),
            ("at(1)", "at(1)\n"),
            ("schedule  \"@daily\" in \"UTC\" start f( )", "schedule \"@daily\" in \"UTC\" start f()\n"),
            ("entity C{state{n:0};on get()=>state}", "entity C { state {n: 0}; on get() => state }\n"),
            (
                "entity C {\nstate [1]\non get(i)=>state [i]\n}",
                "entity C {\n  state [1]\n  on get(i) => state[i]\n}\n",
            ),
        ];
        for (text, style) in cases {
            assert_eq!(formatted(text), style);
        }
    }
}
