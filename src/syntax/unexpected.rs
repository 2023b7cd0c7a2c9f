//! The parser's errors in words: what was found, what was expected, and what may have been meant.

use super::cascades::CHOOSE_ANOTHER;
use super::diagnostic::Diagnostic;
use super::habit::ends_value;
use super::lexer::{BRACE_HINT, Spanned};
use super::source::Place;
use super::token::Token;

const VALUE: &str = "a variable has a value from the beginning: `var x = null`";
const NAMED_IMPORT: &str = "an import has a name: `import \"lib/mail.df\" as mail`";

/// A token that the grammar does not take in its place.
pub(super) struct Unexpected<'a> {
    pub tokens: &'a [Spanned],
    pub place: Place,
    /// The token, or `None` at the end of the text.
    pub token: Option<Token>,
    /// The terminals that the grammar takes there.
    pub expected: Vec<String>,
    /// The construct that was being read.
    pub what: &'a str,
    pub previous: Option<Token>,
}

impl Unexpected<'_> {
    fn expects(&self, terminal: &str) -> bool {
        self.expected.iter().any(|e| e.trim_matches('"') == terminal)
    }

    /// Returns the index of the token.
    fn at(&self) -> usize {
        self.tokens.partition_point(|(known, ..)| *known < self.place.span.start as usize)
    }

    /// Returns whether the token is in the `{…}` of a string.
    fn is_in_a_string(&self) -> bool {
        let at = self.at();
        let mut depth = 0;
        for (_, token, _) in self.tokens[..at].iter().rev() {
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

    /// Returns whether the token is in the line of an `extern activity`.
    fn is_in_extern(&self) -> bool {
        let at = self.at();
        self.tokens[..at]
            .iter()
            .rev()
            .take_while(|(_, token, _)| *token != Token::Nl)
            .any(|(_, token, _)| *token == Token::Extern)
    }

    /// Returns the error in words.
    pub fn describe(&self) -> Diagnostic {
        let place = self.place;
        let Some(token) = &self.token else {
            return Diagnostic::error(
                "unexpected end of the file",
                place,
                format!("{} is not complete here", self.what),
            )
            .maybe_hint(self.wanted().map(|wanted| match wanted {
                "`as` and a name" => NAMED_IMPORT.to_string(),
                "`=`" => VALUE.to_string(),
                wanted => format!("{wanted} was expected"),
            }));
        };
        let title = match token {
            Token::Nl => "unexpected end of the line".to_string(),
            Token::StrMid(_) | Token::StrEnd(_) => "incomplete `{…}` in a string".to_string(),
            token => {
                let token = token.to_string();
                format!("unexpected {}", token.strip_prefix("a ").unwrap_or(&token))
            }
        };
        let (text, hint) = self.reason(token);
        Diagnostic::error(title, place, text).maybe_hint(hint)
    }

    /// Returns what would have been right, in a few words.
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
            return Some("a member of the entity: `state`, `on` or `fn`");
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
        if self.expects("in") && self.expects("with") {
            return Some("`with`");
        }
        if only("in") || (self.expects("in") && !self.expects("nl")) {
            return Some("`in`");
        }
        if only("=") || (self.expects("=") && self.expects("as") && self.expects("|")) {
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
        if self.expects(":") && !self.expects("=") {
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
            None => format!("{} can't continue with this", self.what),
        };
        let hint = match (previous, token) {
            _ if self.is_in_a_string() => Some(
                format!("in a string `{{…}}` puts a value in; {BRACE_HINT}"),
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
            (_, Token::Within) => {
                Some("`within` stands at the end: `mock charge with fn () => 1 within 10s`".to_string())
            }
            _ if wanted == Some("`with`") => {
                Some("say what can come of it: `mock charge with fn(amount) => amount`".to_string())
            }
            (_, Token::Id(word)) if &**word == "within" && self.expects("within") => {
                Some("`within` takes a duration: `mock charge with fn () => 1 within 10s`".to_string())
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
            (_, word) if word.is_word() && wanted.is_some_and(|w| w == "a name" || w == "a pattern") => {
                Some(format!("{word} {CHOOSE_ANOTHER}"))
            }
            (_, Token::Const) => {
                Some("`const` stands at the top level of a file; here write `let`".to_string())
            }
            (
                _,
                Token::Activity
                | Token::Extern
                | Token::Orchestration
                | Token::Entity
                | Token::Import
                | Token::Test,
            ) => Some(format!("{token} is a declaration, and stands at the top level of a file")),
            (Some(Token::LBrace | Token::Comma), word)
                if word.is_word() && self.expects("id") && self.expects("..") =>
            {
                let word = word.spelling().unwrap_or("");
                Some(format!("`{word}` is a reserved word; a field of that name is written `{word}: another_name`"))
            }
            (_, Token::Fn | Token::Throw | Token::Return) if self.expects("await") => {
                Some(format!("put it in parentheses: `({} …)`", token.spelling().unwrap_or("")))
            }
            (_, Token::LBrace) if wanted == Some("the end of the statement") => {
                Some("a block as an expression is `do { … }`".to_string())
            }
            _ => construct(previous, token, wanted),
        };
        (text, hint)
    }
}

/// Returns a hint about a construct of another language.
fn construct(previous: Option<&Token>, token: &Token, wanted: Option<&str>) -> Option<String> {
    let hint = match (previous, token) {
        (Some(Token::If | Token::While), Token::Let) => {
            "a pattern is tested by `match value { pattern => … }`"
        }
        (Some(previous), Token::As) if ends_value(previous) => {
            "nothing is cast: `text.to_int()` reads a number, `math.round(x)` makes an int of a float"
        }
        (_, Token::With) if wanted == Some("a statement") => {
            "`with` gives options to a call: `charge(card) with {timeout: 5s}`; `fs.read(path)` reads a file"
        }
        (_, Token::Star) if wanted == Some("an expression") => "there are no pointers; `..xs` spreads a list",
        (_, Token::Nl) if wanted == Some("`=`") => VALUE,
        _ => return None,
    };
    Some(hint.to_string())
}
