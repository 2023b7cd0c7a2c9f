//! The tokens, and their recognition by logos outside of strings.

use std::fmt;
use std::rc::Rc;

use logos::{Lexer, Logos};

/// A name or a piece of text, shared by its users.
pub type Name = Rc<str>;

/// The tokens that logos recognises outside of strings. The lexer reads strings, after logos has
/// found their quotes.
#[derive(Logos, Clone, Copy, Debug, PartialEq)]
#[logos(skip r"[ \t\r\u{feff}]+")]
pub enum Raw {
    #[regex(r"[A-Za-z_][A-Za-z0-9_]*")]
    Word,
    #[token("λ")]
    Lambda,
    #[regex(r"[0-9][0-9_]*", priority = 20)]
    Int,
    #[regex(r"0[xX][0-9a-fA-F_]+", priority = 20)]
    Hex,
    #[regex(r"0[bB][01_]+", priority = 20)]
    Binary,
    #[regex(r"[0-9][0-9_]*\.[0-9][0-9_]*([eE][+-]?[0-9]+)?", priority = 20)]
    #[regex(r"[0-9][0-9_]*[eE][+-]?[0-9]+", priority = 20)]
    Float,
    #[regex(r"[0-9][0-9_]*(\.[0-9]+)?(ns|us|ms|s|m|h|d)", priority = 20)]
    Duration,
    #[regex(r"[0-9][0-9_]*(\.[0-9]+)?[A-Za-z_][A-Za-z0-9_]*", priority = 3)]
    BadNumber,
    #[token("\"\"\"")]
    BlockQuote,
    /// The beginning of a raw string: `r"`, or with number signs `r#"`.
    #[regex(r##"r#*""##)]
    RawQuote,
    #[token("r\"\"\"")]
    RawBlockQuote,
    #[token("\"")]
    Quote,
    #[token("\n")]
    Newline,
    #[regex(r"//[^\n]*")]
    LineComment,
    #[token("/*", block_comment)]
    BlockComment,
    #[regex(r"\|>|\?\?|\?|\|\||&&|==|!=|<=|>=|\+=|-=|\*=|/=|%=|=>|\.\.=|\.\.|\?\.|[<>=+\-*/%!|.,:;(){}\[\]]")]
    Symbol,
}

/// Returns whether a character continues a name, also in a text that is still being written.
pub fn is_of_a_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns the name that a text ends with; empty if there is none.
pub fn last_name(text: &str) -> &str {
    text.rsplit(|c| !is_of_a_name(c)).next().unwrap_or("")
}

/// Reads to the end of a comment, which may contain others; returns false if the text ends first.
fn block_comment(lexer: &mut Lexer<Raw>) -> bool {
    let rest = lexer.remainder().as_bytes();
    let (mut at, mut depth) = (0, 1);
    while at < rest.len() {
        match &rest[at..] {
            [b'*', b'/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    lexer.bump(at);
                    return true;
                }
            }
            [b'/', b'*', ..] => {
                depth += 1;
                at += 2;
            }
            _ => at += 1,
        }
    }
    lexer.bump(rest.len());
    false
}

macro_rules! fixed_tokens {
    ($($text:literal $name:ident),* $(,)?) => {
        /// A token as the grammar sees it.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Token {
            Id(Name),
            Int(u64),
            Float(f64),
            Duration(i64),
            Str(Name),
            /// The text of a string before its first `{`; `StrMid` and `StrEnd` are the texts
            /// between two interpolations and after the last one.
            StrStart(Name),
            StrMid(Name),
            StrEnd(Name),
            /// The format of a value in a string: the text after the `:` of `{price:.2}`.
            Format(Name),
            /// The end of a statement.
            Nl,
            /// `within` before a duration, at the end of a `mock`. Elsewhere the word is a name.
            Within,
            /// `schedule` before a string, at the beginning of a declaration. Elsewhere the word is
            /// a name.
            Schedule,
            /// `at` after a call or its options, in a `start`. Elsewhere the word is a name.
            At,
            $($name),*
        }

        impl Token {
            /// The spellings of all reserved words and symbols.
            pub const SPELLINGS: &[&str] = &[$($text),*];

            /// Returns the reserved word or symbol with this spelling, or `None` if there is none.
            pub fn fixed(text: &str) -> Option<Token> {
                match text { $($text => Some(Token::$name),)* _ => None }
            }

            /// Returns the spelling of a reserved word or a symbol.
            pub fn spelling(&self) -> Option<&'static str> {
                match self { $(Token::$name => Some($text),)* _ => None }
            }
        }
    };
}

fixed_tokens! {
    "activity" Activity, "orchestration" Orchestration, "entity" Entity, "on" On, "state" State, "fn" Fn,
    "let" Let, "var" Var, "const" Const, "import" Import, "as" As, "test" Test, "if" If, "else" Else,
    "match" Match, "for" For, "in" In, "while" While, "break" Break, "continue" Continue, "return" Return,
    "try" Try, "catch" Catch, "finally" Finally, "throw" Throw, "async" Async, "await" Await, "start" Start,
    "signal" Signal, "lock" Lock, "with" With, "after" After, "do" Do, "mock" Mock, "invariant" Invariant,
    "eventually" Eventually, "extern" Extern, "true" True, "false" False, "null" Null,
    "(" LParen, ")" RParen, "[" LBracket, "]" RBracket, "{" LBrace, "}" RBrace, "," Comma, ":" Colon, "." Dot,
    "?." QuestionDot, "?" Question, ".." DotDot, "..=" DotDotEq, "=>" Arrow, "=" Assign, "+=" PlusAssign, "-=" MinusAssign,
    "*=" StarAssign, "/=" SlashAssign, "%=" PercentAssign, "|>" Pipe, "??" Coalesce, "||" Or, "&&" And,
    "==" Equal, "!=" NotEqual, "<" Less, "<=" LessEqual, ">" Greater, ">=" GreaterEqual, "+" Plus, "-" Minus,
    "*" Star, "/" Slash, "%" Percent, "!" Not, "|" Bar, ";" Semicolon,
}

impl Token {
    /// Returns whether the token is a reserved word.
    pub fn is_word(&self) -> bool {
        self.spelling().is_some_and(|text| text.starts_with(|c: char| c.is_ascii_alphabetic()))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Id(name) => write!(f, "`{name}`"),
            Token::Int(_) | Token::Float(_) => f.write_str("a number"),
            Token::Duration(_) => f.write_str("a duration"),
            Token::Str(_) | Token::StrStart(_) => f.write_str("a string"),
            Token::StrMid(_) | Token::StrEnd(_) => f.write_str("the end of `{…}` in a string"),
            Token::Format(_) => f.write_str("a format"),
            Token::Nl => f.write_str("the end of the line"),
            Token::Within => f.write_str("`within`"),
            Token::Schedule => f.write_str("`schedule`"),
            Token::At => f.write_str("`at`"),
            other => write!(f, "`{}`", other.spelling().unwrap_or("?")),
        }
    }
}
