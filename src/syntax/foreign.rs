//! Habits from other languages: words and signs that are spelled differently there, with their
//! spelling here.

use super::cascades::BLOCK_AS_A_VALUE;
use super::habit::{Found, Habit, ends_value, kind_here, opener, statement, within};
use super::lexer::Spanned;
use super::quoting;
use super::token::Token;

/// Returns the known habit behind an unexpected token, if there is one.
pub fn habit(found: Found<'_>) -> Option<Habit> {
    let Found { tokens, at, .. } = found;
    quoting::habit(found)
        .or_else(|| signs(tokens, at))
        .or_else(|| words(tokens, at))
        .or_else(|| shapes(tokens, at))
}

/// Returns the habit behind a word before a name in a pattern.
pub fn kind(tokens: &[Spanned], at: usize, word: &str) -> Option<Habit> {
    let (from, _, to) = tokens.get(at)?;
    let of = |at: usize| matches!(tokens.get(at), Some((_, Token::Id(word), _)) if &**word == "of");
    let before = at.checked_sub(1).map(|before| &tokens[before].1);
    let habit = |title: String, label, hint: &str| {
        Some(Habit { title, from: *from, to: *to, label, hint: hint.to_string() })
    };
    match before {
        Some(Token::For) if of(at + 1) => {
            return habit(
                "a `for` goes through a list with `in`".into(),
                "not `of`",
                "write `for x in xs { … }`",
            );
        }
        Some(Token::Catch) => {
            return habit(
                "errors have no classes".into(),
                "before a name, a pattern has a kind of values",
                "write `catch e { … }`, or for one kind of error `catch {kind: \"timeout\"} { … }`",
            );
        }
        _ => {}
    }
    let title = || format!("there is no kind `{word}`");
    if let Some(kind) = kind_here(word) {
        return habit(title(), "before a name, a pattern has a kind", &format!("write `{kind} name`"));
    }
    habit(format!("`{word}` is not a keyword of this language"), "known elsewhere", spelled(word)?)
}

/// Recognises signs that are two tokens here.
fn signs(tokens: &[Spanned], at: usize) -> Option<Habit> {
    let (start, token, end) = tokens.get(at)?;
    let (from, before, before_end) = tokens.get(at.checked_sub(1)?)?;
    if before_end != start {
        return None;
    }
    let (sign, hint) = match (before, token) {
        (Token::And, Token::Assign) => ("&&=", "write `a = a && …`"),
        (Token::Or, Token::Assign) => ("||=", "write `a = a || …`"),
        (Token::Coalesce, Token::Assign) => ("??=", "write `a = a ?? …`"),
        (Token::Equal, Token::Assign) => ("===", "`==` compares; nothing is converted"),
        (Token::NotEqual, Token::Assign) => ("!==", "`!=` compares; nothing is converted"),
        (Token::Star, Token::Star) => ("**", "write `math.pow(a, b)`"),
        (Token::Plus, Token::Plus) => ("++", "write `n += 1`; lists and strings are joined by `+`"),
        (Token::Minus, Token::Minus) => ("--", "write `n -= 1`"),
        (Token::Less, Token::Greater) => ("<>", "`!=` compares"),
        (Token::Less, Token::Less) => ("<<", "write `n * math.pow(2, bits)`; `xs += [x]` appends"),
        (Token::Greater, Token::Greater) => (">>", "write `div(n, 2)` for each bit"),
        (Token::Not, Token::Not) => ("!!", "conditions are bools: compare, as in `x != null`"),
        (Token::Minus, Token::Greater) => ("->", "an arm is `pattern => value`"),
        (Token::Less, Token::Minus) => ("<-", "assign with `=`"),
        (Token::Colon, Token::Colon) => ("::", "write `module.name`"),
        (Token::DotDot, Token::Dot) => {
            ("...", "what is spread has two: `[..xs, x]`, `{..record, name: value}`")
        }
        _ => return None,
    };
    Some(Habit {
        title: format!("there is no `{sign}`"),
        from: *from,
        to: *end,
        label: "not an operator",
        hint: hint.to_string(),
    })
}

/// Recognises a word that begins a construct in another language: the token before, the token
/// itself, or the first of its statement.
fn words(tokens: &[Spanned], at: usize) -> Option<Habit> {
    let first = statement(tokens, at);
    let word = |at: usize| match &tokens.get(at)?.1 {
        // Most words are names like others, unless a statement begins with them.
        Token::Id(word) if at == first || ANYWHERE.contains(&&**word) => {
            Some((at, word.clone(), spelled(word)?))
        }
        _ => None,
    };
    let found = at.checked_sub(1).and_then(word).or_else(|| word(at)).or_else(|| word(first));
    let (found, word, hint) = found?;
    let (from, _, to) = &tokens[found];
    Some(Habit {
        title: format!("`{word}` is not a keyword of this language"),
        from: *from,
        to: *to,
        label: "known elsewhere",
        hint: hint.to_string(),
    })
}

/// The words that are recognised anywhere in a statement.
const ANYWHERE: &[&str] = &["and", "function", "is", "lambda", "mut", "new", "not", "or", "then"];

/// Returns how the construct is written here.
fn spelled(word: &str) -> Option<&'static str> {
    Some(match word {
        "function" | "def" | "func" | "fun" | "sub" => "functions are declared with `fn`",
        "lambda" => "an anonymous function is `fn x => …`",
        "elif" | "elsif" | "elseif" | "elf" => "write `else if`",
        "switch" | "when" => "choices are written `match value { pattern => … }`",
        "case" => "an arm of a `match` is `pattern => value`, without a word before it",
        "go" | "spawn" => "`async f()` begins a task, whose value `await` gives",
        "defer" | "ensure" => "what has to happen at the end stands in `try { … } finally { … }`",
        "class" | "struct" | "type" | "interface" | "enum" | "trait" | "impl" => {
            "there are no types: use records, and `entity` for state that lasts"
        }
        "not" => "the logical not is `!`",
        "and" => "the logical and is `&&`",
        "or" => "the logical or is `||`",
        "is" => "equality is `==`",
        "then" => "the branch of an `if` is a block: `if c { … }`",
        "use" | "require" | "from" | "include" => "a file is imported with `import \"file.df\" as name`",
        "mut" => "a variable that changes is declared with `var`",
        "critical" | "synchronized" | "atomic" | "transaction" => {
            "a critical section is `lock Account(1), Account(2) { … }`"
        }
        "loop" | "until" => "loops are `while` and `for`",
        "unless" => "write `if !(…)`",
        "except" | "rescue" => "errors are caught with `catch`",
        "raise" => "errors are thrown with `throw`",
        "new" => "there is no `new`: an entity is `Name(key)`, a record `{ … }`",
        "pub" | "export" | "public" | "private" | "static" => {
            "all top-level declarations of a file can be used by those who import it"
        }
        "pass" => "an empty block is `{}`",
        "yield" => "there are no generators; use lists, or tasks with `async`",
        "del" | "delete" => "`record.remove(name)` gives a record without a field",
        _ => return None,
    })
}

/// Recognises shapes of statements and expressions.
fn shapes(tokens: &[Spanned], at: usize) -> Option<Habit> {
    let (start, token, end) = tokens.get(at)?;
    let before = at.checked_sub(1).map(|before| &tokens[before].1);
    let first = statement(tokens, at);
    let head: Vec<&Token> = tokens[first..=at].iter().map(|(_, token, _)| token).collect();
    let habit = |title: &str, from: usize, label, hint: &str| {
        Some(Habit { title: title.to_string(), from, to: *end, label, hint: hint.to_string() })
    };
    match (before, token) {
        (Some(Token::Id(_)), Token::Str(_) | Token::StrStart(_)) if tokens[at - 1].2 == *start => habit(
            "strings have no prefix",
            tokens[at - 1].0,
            "not a string of a special kind",
            "every string takes values: \"{x}\"",
        ),
        (Some(before), Token::Id(word)) if ends_value(before) && matches!(&**word, "div" | "mod") => habit(
            "a division of ints is a function",
            *start,
            "not an operator",
            "write `div(a, b)`; the remainder is `a % b`",
        ),
        (Some(Token::Id(_)), Token::Comma) if at >= 2 && matches!(tokens[at - 2].1, Token::Fn) => habit(
            "several parameters stand in parentheses",
            *start,
            "not without them",
            "write `fn (a, b) => …`",
        ),
        (Some(Token::Id(_)), Token::LParen) if matches!(head[..], [Token::Entity, _, _]) => habit(
            "an entity has no parameters",
            *start,
            "not here",
            "declare it as `entity Name { state 0 … }`; its key is given where it is called: `Name(key).operation()`",
        ),
        (Some(Token::State), Token::Assign) => {
            habit("a state is declared without `=`", *start, "not here", "write `state {n: 0}`")
        }
        (Some(Token::For), Token::LParen) => habit(
            "a `for` has no parentheses",
            *start,
            "not here",
            "write `for i in 0..3 { … }`, or `while` with a `var`",
        ),
        (Some(Token::Id(_)), Token::Comma)
            if matches!(head[..], [Token::For, Token::Id(_), Token::Comma]) =>
        {
            habit(
                "a `for` takes one pattern",
                *start,
                "not here",
                "with the index: `for [i, x] in xs.enumerate() { … }`; over a record: `for {key, value} in r { … }`",
            )
        }
        (Some(Token::LBrace), _)
            if at >= 2
                && matches!(tokens[at - 2].1, Token::Async | Token::Assign | Token::Arrow)
                && !matches!(token, Token::Id(_) | Token::Str(_) | Token::RBrace) =>
        {
            habit(
                BLOCK_AS_A_VALUE,
                tokens[at - 1].0,
                "a record would begin here",
                match tokens[at - 2].1 {
                    Token::Arrow => "leave out the `=>` before a block; as a value it is `do { … }`",
                    _ => "write `do { … }`; as a task it is `async do { … }`",
                },
            )
        }
        (Some(Token::Id(_)), _) if begins_a_block(tokens, at) => {
            let hint = match tokens[at - 3].1 {
                Token::Arrow => "leave out the `=>` before a block; as a value it is `do { … }`",
                _ => "write `do { … }`",
            };
            habit(BLOCK_AS_A_VALUE, tokens[at - 2].0, "a record would begin here", hint)
        }
        (Some(Token::Var), Token::LBracket | Token::LBrace) => habit(
            "a `var` has one name",
            *start,
            "not a pattern",
            "take the value apart with `let`: `let [a, b] = pair`, then `var x = a`",
        ),
        (_, Token::Arrow) if head.windows(2).any(|pair| matches!(pair, [Token::Async, Token::Fn])) => habit(
            "functions are not marked `async`",
            *start,
            "`async` makes a task of a call",
            "write `fn () => …`, and `async f()` where it is called to go on meanwhile",
        ),
        (Some(Token::LParen | Token::Comma), Token::Id(_)) | (Some(Token::Id(_)), Token::Comma)
            if is_arrow_function(tokens, at) =>
        {
            habit(
                "an anonymous function begins with `fn`",
                *start,
                "not without it",
                "write `fn (a, b) => …`",
            )
        }
        (Some(Token::Id(_)), Token::Assign | Token::Colon) if is_argument(tokens, at) => habit(
            "arguments have no names",
            *start,
            "not in a call",
            "they come in order; options are a record at the end, as in `http.get(url, {timeout: 5s})`",
        ),
        (Some(Token::Catch), Token::LParen) => habit(
            "a `catch` has no parentheses",
            *start,
            "not here",
            "write `catch e { … }`, or with a pattern `catch {kind: \"timeout\"} { … }`",
        ),
        (_, Token::Comma)
            if matches!(head[..], [Token::Let | Token::Var, Token::Id(_), Token::Assign, ..])
                && ![Token::LParen, Token::LBracket, Token::LBrace]
                    .iter()
                    .any(|bracket| within(tokens, at, bracket)) =>
        {
            habit(
                "one name to a `let`",
                *start,
                "not here",
                "write another `let` on the next line, or take a list apart: `let [a, b] = [1, 2]`",
            )
        }
        (_, Token::Var | Token::Let | Token::Id(_)) if begins_a_member(tokens, at) => habit(
            "an entity keeps one value",
            *start,
            "not a member of an entity",
            "declare it with `state {n: 0}`; operations read and change it as `state.n`",
        ),
        (Some(before), Token::On | Token::State) if ends_value(before) => habit(
            "each member of an entity has its own line",
            *start,
            "this begins another one",
            "begin a new line before it, or write `;` between them",
        ),
        (
            Some(Token::RBrace),
            Token::Return | Token::Let | Token::Var | Token::If | Token::For | Token::While,
        )
        | (Some(Token::RBrace), Token::Throw | Token::Break | Token::Continue | Token::Match) => habit(
            "each statement has its own line",
            *start,
            "this begins another one",
            "begin a new line before it, or write `;` between them",
        ),
        (Some(Token::Id(_)), Token::Arrow)
            if matches!(tokens[..at], [.., (_, Token::Pipe, _), (_, Token::Fn, _), _]) =>
        {
            habit(
                "a function after `|>` stands in parentheses",
                tokens[at - 2].0,
                "this one",
                "write `value |> (fn x => …)`, or give it a name",
            )
        }
        (Some(Token::Id(name)), Token::Str(_) | Token::StrStart(_) | Token::Int(_) | Token::Float(_))
            if matches!(&**name, "print" | "println" | "echo" | "puts") =>
        {
            habit(
                "the arguments of a call stand in parentheses",
                *start,
                "outside of them",
                "write `print(\"hello\")`",
            )
        }
        (Some(Token::Import), Token::Id(_)) => habit(
            "an import names a file",
            *start,
            "a path in quotes was expected",
            "modules of the standard library need no import; a file is `import \"lib/mail.df\" as mail`",
        ),
        (Some(before), Token::For) if ends_value(before) && within(tokens, at, &Token::LBracket) => habit(
            "there are no comprehensions",
            *start,
            "not within a list",
            "write `xs.map(fn x => …)`, with `.filter(fn x => …)` before it for a condition",
        ),
        (Some(before), Token::If) if ends_value(before) => habit(
            "`if` comes first",
            *start,
            "not after a value",
            "`if c { a } else { b }` is an expression; its value is that of the block",
        ),
        (_, Token::Colon)
            if matches!(head.first(), Some(Token::If | Token::For | Token::While | Token::Else)) =>
        {
            habit("a block is in braces", *start, "not a colon", "write `{ … }`; indentation means nothing")
        }
        (_, Token::Colon) if within(tokens, at, &Token::LBracket) => habit(
            "there are no slices by `:`",
            *start,
            "not within brackets",
            "a part of a list or string is `xs.slice(from, to)`; `xs.take(n)` and `xs.drop(n)` are its ends",
        ),
        (_, Token::LParen) if matches!(head[..], [Token::Async, Token::Fn, ..]) => habit(
            "functions are not marked `async`",
            tokens[first].0,
            "`async` makes a task of a call",
            "declare it with `fn`, and write `async f()` where it is called to go on meanwhile",
        ),
        _ => None,
    }
}

/// Returns whether a token is the second token in braces where a value begins.
fn begins_a_block(tokens: &[Spanned], at: usize) -> bool {
    let begins = |token: &Token| matches!(token, Token::Assign | Token::Arrow);
    matches!(tokens[..at], [.., (_, ref before, _), (_, Token::LBrace, _), _] if begins(before))
}

/// Returns whether a token is in the parentheses of a call, and not in a list of parameters.
fn is_argument(tokens: &[Spanned], at: usize) -> bool {
    let Some(open) = opener(tokens, at).filter(|open| tokens[*open].1 == Token::LParen) else { return false };
    match &tokens[..open] {
        [
            ..,
            (_, Token::Fn | Token::Activity | Token::Orchestration | Token::On, _),
            (_, Token::Id(_), _),
        ] => false,
        [.., (_, Token::Id(_), _)] => true,
        _ => false,
    }
}

/// Returns whether a token is in parentheses with `=>` after them and no `fn` before them.
fn is_arrow_function(tokens: &[Spanned], at: usize) -> bool {
    let Some(open) = opener(tokens, at).filter(|open| tokens[*open].1 == Token::LParen) else { return false };
    let before = open.checked_sub(1).map(|before| &tokens[before].1);
    let declares = matches!(before, Some(Token::Fn | Token::Id(_)));
    let names = |token: &Token| matches!(token, Token::Id(_) | Token::Comma);
    let close = tokens[at..].iter().position(|(_, token, _)| !names(token)).map(|ahead| at + ahead);
    !declares
        && close.is_some_and(|close| {
            tokens[close].1 == Token::RParen && matches!(tokens.get(close + 1), Some((_, Token::Arrow, _)))
        })
}

/// Returns whether a member of an entity would begin here.
fn begins_a_member(tokens: &[Spanned], at: usize) -> bool {
    let open = tokens[..at].iter().rposition(|(_, token, _)| *token == Token::LBrace);
    let inside = |open: usize| {
        matches!(tokens[..open], [.., (_, Token::Entity, _), (_, Token::Id(_), _)])
            && tokens[open + 1..at].iter().all(|(_, token, _)| *token == Token::Nl)
    };
    open.is_some_and(inside)
}
