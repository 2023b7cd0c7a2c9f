//! Habits from other languages whose hint quotes the program: the right form of what was written.

use super::habit::{Found, Habit, begins_value, closer, ends_value, kind_here, opener, statement};
use super::spec::UNITS;
use super::token::Token;
use super::tree::Kind;

/// Returns the known habit behind an unexpected token, if there is one.
pub fn habit(found: Found<'_>) -> Option<Habit> {
    const HABITS: [fn(Found<'_>) -> Option<Habit>; 14] = [
        bars, arrows, operators, steps, macros, arms, labels, branches, literals, parameters, bodies, types,
        lists, calls,
    ];
    HABITS.iter().find_map(|habit| habit(found))
}

fn habit_at(
    found: Found<'_>,
    from: usize,
    to: usize,
    title: &str,
    label: &'static str,
    hint: String,
) -> Option<Habit> {
    let (from, to) = (found.tokens.get(from)?.0, found.tokens.get(to)?.2);
    Some(Habit { title: title.to_string(), from, to, label, hint })
}

/// Recognises `|x| x` and `|| x`, the functions of other languages.
fn bars(found: Found<'_>) -> Option<Habit> {
    let at = found.at;
    if found.token(-1).is_some_and(ends_value) {
        return None;
    }
    let (params, body) = match found.token(0)? {
        Token::Or => ("()".to_string(), at + 1),
        Token::Bar => {
            let names = |token: &Token| matches!(token, Token::Id(_) | Token::Comma);
            let close = (at + 1..found.tokens.len()).find(|at| !names(&found.tokens[*at].1))?;
            if found.tokens[close].1 != Token::Bar {
                return None;
            }
            let params = found.quote(at + 1, close, "x");
            (if params.contains(',') { format!("({params})") } else { params }, close + 1)
        }
        _ => return None,
    };
    let body = found.quote(body, found.statement_end(body), "…");
    habit_at(
        found,
        at,
        at,
        "an anonymous function begins with `fn`",
        "not a bar",
        format!("write `fn {params} => {body}`"),
    )
}

/// Recognises `x := 1`, `1 in xs` and `x not in xs`.
fn operators(found: Found<'_>) -> Option<Habit> {
    let at = found.at;
    match (found.token(-1)?, found.token(0)?) {
        (Token::Colon, Token::Assign) if found.is_adjacent(at) => {
            let first = statement(found.tokens, at);
            let name = found.quote(first, at - 1, "name");
            let value = found.quote(at + 1, found.statement_end(at + 1), "value");
            habit_at(
                found,
                at - 1,
                at,
                "there is no `:=`",
                "not an operator",
                format!("write `let {name} = {value}`, or `var` for a variable that changes"),
            )
        }
        (before, Token::In) if ends_value(before) => {
            let begin = match found.token(-1)? {
                Token::Id(word) if &**word == "not" => at - 1,
                _ => at,
            };
            let item = found.quote(found.operand_begin(begin), begin, "x");
            let list = found.quote(at + 1, found.operand_end(at + 1), "xs");
            let not = if begin < at { "!" } else { "" };
            habit_at(
                found,
                begin,
                at,
                "`in` is not an operator",
                "only in `for x in xs`",
                format!("write `{not}{list}.contains({item})`; of a record, `{not}{list}.has({item})`"),
            )
        }
        (before, Token::Id(word))
            if &**word == "not" && ends_value(before) && found.token(1) == Some(&Token::In) =>
        {
            operators(Found { at: at + 1, ..found })
        }
        _ => None,
    }
}

/// Recognises `println!("…")` and its like.
fn macros(found: Found<'_>) -> Option<Habit> {
    let (at, Some(Token::Id(name)), Some(Token::Not)) = (found.at, found.token(-1), found.token(0)) else {
        return None;
    };
    if !found.is_adjacent(at)
        || !matches!(found.token(1), Some(Token::LParen | Token::LBracket | Token::LBrace))
    {
        return None;
    }
    let hint = match &**name {
        "println" | "print" | "eprintln" | "eprint" | "dbg" => {
            "write `print(value)`, with values in strings as \"{x}\""
        }
        "format" | "write" | "writeln" => "values are put into strings as \"{x}\"",
        "vec" => "a list is `[1, 2, 3]`",
        "panic" | "todo" | "unimplemented" | "unreachable" => "write `throw {kind: \"…\", message: \"…\"}`",
        "assert" | "assert_eq" | "assert_ne" | "debug_assert" => "write `assert(a == b)`",
        _ => "a call is `name(…)`",
    };
    habit_at(found, at - 1, at, "there are no macros", "not a function", hint.to_string())
}

/// Recognises `pattern: value` and `pattern -> value` in a `match`.
fn arms(found: Found<'_>) -> Option<Habit> {
    let (tokens, at) = (found.tokens, found.at);
    let token = found.token(0)?;
    let is_thin = is_thin_arrow(found);
    let is_variant = *token == Token::LParen && matches!(found.token(-1), Some(Token::Id(_)));
    if *token != Token::Colon && !is_thin && !is_variant {
        return None;
    }
    let open = opener(tokens, at)?;
    let head = statement(tokens, open);
    if tokens[open].1 != Token::LBrace
        || tokens[head..open].iter().all(|(_, token, _)| *token != Token::Match)
    {
        return None;
    }
    let begins = |token: &Token| matches!(token, Token::Nl | Token::Comma);
    if is_variant {
        let close = closer(tokens, at)?;
        let is_arm = matches!(tokens.get(close + 1), Some((_, Token::Arrow, _)));
        return habit_at(
            found,
            at - 1,
            close,
            "a pattern is no call",
            "there are no variants",
            "what is missing is `null`; one thing of several is a record, as in `{kind: \"circle\", radius}`"
                .to_string(),
        )
        .filter(|_| is_arm);
    }
    let end = at;
    let value = if is_thin { at + 2 } else { at + 1 };
    let first = (open + 1..end).rev().find(|before| begins(&tokens[*before].1)).unwrap_or(open) + 1;
    let pattern = match found.quote(first, end, "pattern") {
        default if default == "default" => "other".to_string(),
        pattern => pattern,
    };
    let value = found.quote(value, found.statement_end(value), "value");
    habit_at(
        found,
        end,
        at,
        "an arm of a `match` has `=>`",
        "not here",
        format!("an arm is `{pattern} => {value}`"),
    )
}

/// The words of other languages that stand between operands.
const WORDS: &[&str] = &["and", "is", "lambda", "new", "not", "or"];

/// Recognises a branch or a body without braces.
fn branches(found: Found<'_>) -> Option<Habit> {
    let (tokens, at) = (found.tokens, found.at);
    let (before, token) = (found.token(-1)?, found.token(0)?);
    let title = "a block was expected";
    if *before == Token::Else && *token != Token::LBrace && begins_value(token) {
        let end = found.statement_end(at);
        let block = tokens[at..end].iter().position(|(_, token, _)| *token == Token::LBrace);
        let hint = match block {
            Some(block) => format!("write `else if {} {{ … }}`", found.quote(at, at + block, "c")),
            None => format!("a branch is a block: `else {{ {} }}`", found.quote(at, end, "value")),
        };
        return habit_at(found, at, at, title, "a branch without braces", hint);
    }
    let then = matches!(token, Token::Id(word) if &**word == "then");
    let is_word = |token: &Token| matches!(token, Token::Id(word) if WORDS.contains(&&**word));
    let wrong = !ends_value(before) || !begins_value(token) || matches!(token, Token::If | Token::LBracket);
    if wrong || is_word(before) || is_word(token) {
        return None;
    }
    let is_head = |token: &Token| matches!(token, Token::If | Token::While | Token::For);
    let ends = |token: &Token| matches!(token, Token::Nl | Token::LBrace | Token::RBrace);
    let head = (0..at).rev().take_while(|at| !ends(&tokens[*at].1)).find(|at| is_head(&tokens[*at].1))?;
    let condition = found.quote(head, at, "…");
    let at = at + usize::from(then);
    let end = found.statement_end(at);
    let other = (at..end).find(|at| tokens[*at].1 == Token::Else);
    let body = found.quote(at, other.unwrap_or(end), "…");
    let condition =
        if condition == "…" { tokens[head].1.spelling()?.to_string() + " …" } else { condition };
    let other = match other {
        Some(other) if matches!(tokens.get(other + 1), Some((_, Token::If | Token::LBrace, _))) => {
            " else …".to_string()
        }
        Some(other) => format!(" else {{ {} }}", found.quote(other + 1, end, "…")),
        None => String::new(),
    };
    let hint = format!("a block is in braces: `{condition} {{ {body} }}{other}`");
    habit_at(found, found.at, found.at, title, "a branch without braces", hint)
}

/// Recognises `500 ms` and `r"{"a": 1}"`.
fn literals(found: Found<'_>) -> Option<Habit> {
    let at = found.at;
    let (before, Some(Token::Id(word))) = (found.token(-1)?, found.token(0)) else { return None };
    let (start, _, end) = &found.tokens[at - 1];
    match before {
        Token::Int(_) | Token::Float(_) => {
            let known = UNITS.iter().map(|(unit, _)| *unit).find(|unit| *unit == &**word);
            let unit = known.or(match &**word {
                "seconds" | "second" | "sec" | "secs" => Some("s"),
                "minutes" | "minute" | "min" | "mins" => Some("m"),
                "hours" | "hour" | "hrs" => Some("h"),
                "days" | "day" => Some("d"),
                "milliseconds" | "millis" => Some("ms"),
                _ => None,
            })?;
            let number = found.quote(at - 1, at, "5");
            let hint = format!("write `{number}{unit}`");
            habit_at(found, at - 1, at, "a duration is one word", "a number and a name", hint)
        }
        // Only a raw string is three characters longer than its text.
        Token::Str(text) if found.is_adjacent(at) && end - start == text.len() + 3 => habit_at(
            found,
            at,
            at,
            "this raw string ends at its first `\"`",
            "after its end",
            "with number signs a raw string may have `\"` in it: `r#\"…\"#`".to_string(),
        ),
        _ => None,
    }
}

/// Recognises `fn {name} => name`, a pattern as a parameter without parentheses.
fn parameters(found: Found<'_>) -> Option<Habit> {
    let at = found.at;
    let (Token::Fn, Token::LBracket | Token::LBrace) = (found.token(-1)?, found.token(0)?) else {
        return None;
    };
    let close = closer(found.tokens, at)?;
    let pattern = found.quote(at, close + 1, "{name}");
    habit_at(
        found,
        at,
        close,
        "a pattern as a parameter stands in parentheses",
        "not without them",
        format!("write `fn ({pattern}) => …`"),
    )
}

/// Returns whether a `->` is at the unexpected token.
fn is_thin_arrow(found: Found<'_>) -> bool {
    found.token(0) == Some(&Token::Minus)
        && found.token(1) == Some(&Token::Greater)
        && found.is_adjacent(found.at + 1)
}

/// Recognises `x => x`, `(a, b) => a` and `fn x -> x`.
fn arrows(found: Found<'_>) -> Option<Habit> {
    let (tokens, at) = (found.tokens, found.at);
    let names = |from: usize, to: usize| {
        tokens[from..to].iter().all(|(_, token, _)| matches!(token, Token::Id(_) | Token::Comma))
    };
    // The parameters, and the index of the arrow.
    let (from, arrow) = match found.token(0)? {
        Token::Arrow => (found.operand_begin(at), at),
        Token::Minus if is_thin_arrow(found) => (found.operand_begin(at), at),
        Token::Greater if found.token(-1) == Some(&Token::Minus) && found.is_adjacent(at) => {
            (found.operand_begin(at - 1), at - 1)
        }
        Token::Comma | Token::Id(_) => {
            let open = opener(tokens, at)?;
            let close = closer(tokens, open)?;
            (open, close + 1)
        }
        _ => return None,
    };
    let length = match tokens.get(arrow)?.1 {
        Token::Arrow => 1,
        Token::Minus if is_thin_arrow(Found { at: arrow, ..found }) => 2,
        _ => return None,
    };
    let begins = tokens.get(from)?.1 == Token::LParen;
    let fits =
        if begins { names(from + 1, arrow.checked_sub(1)?) } else { from + 1 == arrow && names(from, arrow) };
    let before = from.checked_sub(1).map(|before| &tokens[before].1);
    if !fits || matches!(before, Some(Token::Fn | Token::Id(_))) && length == 1 || from >= arrow {
        return None;
    }
    if matches!(before, Some(Token::Id(_))) {
        return None;
    }
    let params = found.quote(from, arrow, "x");
    let (body, end) = (arrow + length, found.statement_end(arrow + length));
    let body = match tokens.get(body)?.1 {
        Token::LBrace => "{ … }".to_string(),
        _ => format!("=> {}", found.quote(body, end, "…")),
    };
    let title = match before {
        Some(Token::Fn) => "the arrow of a function is `=>`",
        _ => "an anonymous function begins with `fn`",
    };
    habit_at(found, arrow, arrow + length - 1, title, "not like this", format!("write `fn {params} {body}`"))
}

/// Recognises `i++`, `++i` and `i--`.
fn steps(found: Found<'_>) -> Option<Habit> {
    let at = found.at;
    let sign = |token: Option<&Token>| match token {
        Some(Token::Plus) => Some('+'),
        Some(Token::Minus) => Some('-'),
        _ => None,
    };
    let ends = |token: Option<&Token>| {
        matches!(token, None | Some(Token::Nl | Token::RBrace | Token::RParen | Token::Semicolon))
    };
    let (first, sign) = match (sign(found.token(-1)), sign(found.token(0))) {
        (Some(a), Some(b)) if a == b && found.is_adjacent(at) => (at - 1, a),
        (Some(a), None) if sign(found.token(-2)) == Some(a) && at >= 2 && found.is_adjacent(at - 1) => {
            (at - 2, a)
        }
        _ => return None,
    };
    let near = Found { at: first, ..found };
    let target = if ends(near.token(2)) {
        found.quote(found.operand_begin(first), first, "n")
    } else if ends(near.token(-1)) || first == 0 {
        found.quote(first + 2, found.operand_end(first + 2), "n")
    } else {
        return None;
    };
    let title = format!("there is no `{sign}{sign}`");
    habit_at(found, first, first + 1, &title, "not an operator", format!("write `{target} {sign}= 1`"))
}

/// Recognises `try:` and other words with a colon in the place of a block, and labels of no loop.
fn labels(found: Found<'_>) -> Option<Habit> {
    let at = found.at;
    let (Some(Token::Id(word)), Some(Token::Colon)) = (found.token(-2), found.token(-1)) else { return None };
    if statement(found.tokens, at) != at - 2 {
        return None;
    }
    if Token::fixed(word).is_some() {
        let hint = format!("write `{word} {{ … }}`; indentation means nothing");
        return habit_at(found, at - 1, at - 1, "a block is in braces", "not a colon", hint);
    }
    let hint =
        format!("a label stands before a loop: `{word}: for x in xs {{ … }}`; a field is within `{{ }}`");
    habit_at(found, at - 2, at - 1, "only a loop has a label", "a label", hint)
}

/// Recognises `fn f(x) = x`, `fn f(x) return x`, `fn f(x) -> int { … }` and declarations without
/// parameters.
fn bodies(found: Found<'_>) -> Option<Habit> {
    let (tokens, at) = (found.tokens, found.at);
    let first = statement(tokens, at);
    let declares =
        matches!(tokens.get(first)?.1, Token::Fn | Token::Activity | Token::Orchestration | Token::On);
    if !declares || first >= at {
        return None;
    }
    if let (Token::Id(_), Token::LBrace | Token::Arrow) = (found.token(-1)?, found.token(0)?)
        && at == first + 2
    {
        let hint = format!("write `{}() …`", found.quote(first, at, "fn f"));
        return habit_at(found, at, at, "the parameters are missing", "`()` was expected", hint);
    }
    if found.token(-1) != Some(&Token::RParen) || opener(tokens, at - 1)? > first + 2 {
        return None;
    }
    let head = found.quote(first, at, "fn f(x)");
    let (body, title) = match found.token(0)? {
        Token::Assign | Token::Return => (at + 1, "a body begins with `=>` or `{`"),
        Token::Colon if found.token(1) == Some(&Token::Nl) => (at + 2, "a block is in braces"),
        Token::Colon => (at + 1, "a body begins with `=>` or `{`"),
        _ if is_thin_arrow(found) => {
            let hint = format!("write `{head} {{ … }}`, without a type");
            return habit_at(found, at, at + 1, "a function has no type", "not here", hint);
        }
        _ => return None,
    };
    let value = found.quote(body, found.statement_end(body), "value");
    let value = value.strip_prefix("return ").unwrap_or(&value).to_string();
    habit_at(found, at, at, title, "not here", format!("write `{head} => {value}`, or `{head} {{ … }}`"))
}

/// Recognises `let x: int = 1` and `fn f(x: int)`.
fn types(found: Found<'_>) -> Option<Habit> {
    let (tokens, at) = (found.tokens, found.at);
    let (Token::Id(name), Token::Colon) = (found.token(-1)?, found.token(0)?) else { return None };
    let declares = matches!(found.token(-2), Some(Token::Let | Token::Var | Token::Const));
    let parameter = opener(tokens, at).is_some_and(|open| {
        let before = |back: usize| open.checked_sub(back).map(|at| &tokens[at].1);
        let callable = |token: Option<&Token>| {
            matches!(token, Some(Token::Fn | Token::Activity | Token::Orchestration | Token::On))
        };
        tokens[open].1 == Token::LParen && (callable(before(1)) || callable(before(2)))
    });
    if !declares && !parameter {
        return None;
    }
    let kind = match found.token(1) {
        Some(Token::Id(word)) => Kind::of(word).map(Kind::name).or_else(|| kind_here(word)),
        _ => None,
    };
    let hint = match (kind, found.token(-2)) {
        (Some(kind), Some(Token::Let)) => {
            format!("write `let {name} = …`, or `let {kind} {name} = …` to take only this kind")
        }
        (Some(kind), _) if parameter => format!("write `{name}`, or `{kind} {name}` to take only this kind"),
        _ => format!("write `{name}` alone"),
    };
    habit_at(found, at, at + 1, "there are no type annotations", "not here", hint)
}

/// Recognises `let (a, b) = pair`, `let a, b = 1, 2`, `(1, 2)`, `{1, 2}`, `{2: x}` and `{a = 1}`.
fn lists(found: Found<'_>) -> Option<Habit> {
    let (tokens, at) = (found.tokens, found.at);
    let (before, token) = (found.token(-1)?, found.token(0)?);
    let tuple = "there are no tuples";
    match (before, token) {
        (Token::Let | Token::For, Token::LParen) => {
            let close = closer(tokens, at)?;
            let word = before.spelling()?;
            let inside = found.quote(at + 1, close, "a, b");
            let next = Found { at: close + 1, ..found }.token(0);
            let fits = matches!(next, Some(Token::Assign | Token::In)) && inside.contains(',');
            habit_at(found, at, close, tuple, "not in parentheses", format!("write `{word} [{inside}] …`"))
                .filter(|_| fits)
        }
        (Token::Id(_), Token::Comma) if matches!(found.token(-2), Some(Token::Let | Token::Var)) => {
            let equals =
                (at..found.tokens.len()).find(|at| matches!(tokens[*at].1, Token::Assign | Token::Nl))?;
            let names = found.quote(at - 1, equals, "a, b");
            let line = |token: &Token| matches!(token, Token::Nl);
            let end = (equals..tokens.len()).find(|at| line(&tokens[*at].1)).unwrap_or(tokens.len());
            let values = found.quote(equals + 1, end, "…");
            let values = if values.contains(',') { format!("[{values}]") } else { values };
            let hint = format!("a list is taken apart by `let [{names}] = {values}`");
            habit_at(found, at, at, "one name to a `let`", "not here", hint)
        }
        (_, Token::Comma) => {
            let open = opener(tokens, at).filter(|open| tokens[*open].1 == Token::LParen)?;
            let callee = open.checked_sub(1).map(|before| &tokens[before].1);
            let is_call = callee
                .is_some_and(|callee| ends_value(callee) || matches!(callee, Token::Fn | Token::Question));
            let inside = found.quote(open + 1, closer(tokens, open)?, "a, b");
            habit_at(found, at, at, tuple, "not in parentheses", format!("a list is `[{inside}]`"))
                .filter(|_| !is_call)
        }
        (Token::LBrace | Token::Comma, Token::Int(_) | Token::Float(_))
            if found.token(1) == Some(&Token::Colon) =>
        {
            let (key, end) = (found.quote(at, at + 1, "1"), found.statement_end(at + 2));
            let hint = format!("write `\"{key}\": {}`", found.quote(at + 2, end, "…"));
            habit_at(found, at, at, "the keys of a record are strings", "not a string", hint)
        }
        (Token::LBrace, token) if begins_value(token) && found.token(1) == Some(&Token::Comma) => {
            let close = closer(tokens, at - 1)?;
            let hint = format!(
                "a list is `[{}]`, and a record has names: `{{name: value}}`",
                found.quote(at, close, "a, b")
            );
            habit_at(found, at, at, "a record has names", "a value without a name", hint)
        }
        (Token::Id(name), Token::Assign) if matches!(found.token(-2), Some(Token::LBrace | Token::Comma)) => {
            let open = opener(tokens, at).filter(|open| tokens[*open].1 == Token::LBrace)?;
            let place = open.checked_sub(1).map(|before| &tokens[before].1);
            let is_value = matches!(
                place,
                Some(
                    Token::Assign
                        | Token::LParen
                        | Token::Comma
                        | Token::Colon
                        | Token::LBracket
                        | Token::Return
                )
            );
            let close = closer(tokens, open)?;
            let one_line = tokens[open..close].iter().all(|(_, token, _)| *token != Token::Nl);
            let hint = format!("write `{name}: {}`", found.quote(at + 1, found.statement_end(at + 1), "…"));
            habit_at(found, at, at, "a field of a record has `:`", "not `=`", hint)
                .filter(|_| is_value && one_line)
        }
        _ => None,
    }
}

/// Recognises `print "hi"`, `"a" "b"`, `Point {x: 1}`, `for x of xs`, `lambda x: x` and `.5`.
fn calls(found: Found<'_>) -> Option<Habit> {
    let (tokens, at) = (found.tokens, found.at);
    let (before, token) = (found.token(-1), found.token(0)?);
    if let (Token::Dot, Some(Token::Int(n))) = (token, found.token(1))
        && !before.is_some_and(ends_value)
    {
        return habit_at(
            found,
            at,
            at + 1,
            "malformed number",
            "a digit is missing",
            format!("write `0.{n}`"),
        );
    }
    match (before?, token) {
        (Token::Str(_) | Token::StrEnd(_), Token::Str(_) | Token::StrStart(_)) => habit_at(
            found,
            at,
            at,
            "two strings without an operator",
            "the second one",
            "`+` joins strings".to_string(),
        ),
        (Token::Id(word), _) if &**word == "lambda" => {
            let colon = (at..tokens.len()).find(|at| matches!(tokens[*at].1, Token::Colon | Token::Nl))?;
            let params = found.quote(at, colon, "x");
            let params = if params.contains(',') { format!("({params})") } else { params };
            let body = found.quote(colon + 1, found.statement_end(colon + 1), "…");
            let title = "an anonymous function begins with `fn`";
            habit_at(found, at - 1, at - 1, title, "not `lambda`", format!("write `fn {params} => {body}`"))
        }
        (Token::Id(word), _) if &**word == "of" && found.token(-3) == Some(&Token::For) => {
            let name = found.quote(at - 2, at - 1, "x");
            let list = found.quote(at, found.operand_end(at), "xs");
            let title = "a `for` goes through a list with `in`";
            habit_at(
                found,
                at - 1,
                at - 1,
                title,
                "not `of`",
                format!("write `for {name} in {list} {{ … }}`"),
            )
        }
        (Token::Id(name), Token::LBrace)
            if name.starts_with(|c: char| c.is_uppercase())
                && !matches!(found.token(-2), Some(Token::Entity)) =>
        {
            let close = closer(tokens, at)?;
            let record = found.quote(at, close + 1, "{…}");
            habit_at(found, at - 1, at - 1, "a record has no name", "not here", format!("write `{record}`"))
        }
        (Token::Id(name), token)
            if begins_value(token)
                && !found.is_adjacent(at)
                && !matches!(token, Token::If | Token::Match) =>
        {
            const CALLED: &[&str] =
                &["print", "len", "assert", "sleep", "input", "typeof", "echo", "puts", "min", "max", "sum"];
            let name = match &**name {
                "typeof" => "kind_of",
                "echo" | "puts" => "print",
                name if CALLED.contains(&name) => name,
                _ => return None,
            };
            let argument = found.quote(at, found.statement_end(at), "value");
            let hint = format!("write `{name}({argument})`");
            habit_at(found, at, at, "a call has parentheses", "not without them", hint)
        }
        _ => None,
    }
}
