//! Text to tokens: logos outside of strings, and a stack of modes for strings with `{…}` in them.

use std::collections::HashMap;

use logos::Logos;

use super::ahead::{Ahead, MAX_STRINGS};
use super::diagnostic::{Diagnostic, MOST_MISTAKES};
use super::source::{Place, Span};
use super::token::{Name, Raw, Token, is_of_a_name};

/// A token with its first byte and the byte after its end.
pub type Spanned = (usize, Token, usize);

/// The result of lexing: tokens including newlines, doc comments by the offset of the token after
/// them, and the places of all comments.
#[derive(Default)]
pub struct Lexed {
    pub tokens: Vec<Spanned>,
    pub docs: HashMap<usize, Name>,
    pub comments: Vec<(usize, usize)>,
    pub diagnostics: Vec<Diagnostic>,
}

/// A string whose `{…}` is being read.
struct Open {
    block: bool,
    start: usize,
    /// The number of open braces within the interpolation.
    braces: usize,
    /// The number of open parentheses and brackets within the interpolation.
    nested: usize,
    /// The first `{` that can't begin a value. From there on, braces are text.
    plain: Option<usize>,
    /// The pieces of its text: the index of the piece's token, the raw text, and the text's offset.
    pieces: Vec<(usize, String, usize)>,
}

struct Lexer<'a> {
    text: &'a str,
    source: u32,
    at: usize,
    open: Vec<Open>,
    out: Lexed,
    doc: Option<String>,
    ahead: Ahead,
}

/// The hint for a `{` in a string that was meant as text.
pub(super) const BRACE_HINT: &str =
    "write `\\{` for a brace that is text, or a raw string `r\"…\"`, in which `{` means nothing";

/// Lexes a whole text.
pub fn lex(text: &str, source: u32) -> Lexed {
    let (out, ahead) = (Lexed::default(), Ahead::of(text));
    let mut lexer = Lexer { text, source, at: 0, open: Vec::new(), out, doc: None, ahead };
    if text.starts_with("#!") {
        lexer.at = text.find('\n').unwrap_or(text.len());
    }
    lexer.run();
    lexer.out
}

impl Lexer<'_> {
    fn place(&self, start: usize, end: usize) -> Place {
        Place { source: self.source, span: Span::new(start, end) }
    }

    fn error(&mut self, diagnostic: Diagnostic) {
        if self.out.diagnostics.len() < MOST_MISTAKES {
            self.out.diagnostics.push(diagnostic);
        }
    }

    fn push(&mut self, start: usize, token: Token, end: usize) {
        // A separator declares nothing, and the formatter leaves it out.
        if !matches!(token, Token::Nl | Token::Semicolon)
            && let Some(doc) = self.doc.take()
        {
            self.out.docs.insert(start, doc.into());
        }
        self.out.tokens.push((start, token, end));
    }

    fn run(&mut self) {
        while self.at < self.text.len() {
            let mut raw = Raw::lexer(&self.text[self.at..]);
            let Some(next) = raw.next() else { break };
            let (start, end) = (self.at + raw.span().start, self.at + raw.span().end);
            self.at = end;
            match next {
                Ok(kind) => self.token(kind, start, end),
                Err(()) => self.unknown(start, end),
            }
        }
        while let Some(open) = self.open.pop() {
            let place = self.place(open.start, open.start + 1);
            self.error(
                Diagnostic::error("unclosed `{` in a string", place, "this string's `{…}` is never closed")
                    .hint(BRACE_HINT),
            );
            self.finish_string(open, self.text.len());
        }
    }

    fn token(&mut self, kind: Raw, start: usize, end: usize) {
        let text = &self.text[start..end];
        match kind {
            Raw::Word => {
                let token = Token::fixed(text).unwrap_or_else(|| Token::Id(text.into()));
                self.push(start, token, end);
            }
            Raw::Lambda => self.push(start, Token::Fn, end),
            Raw::Int => self.int(text, 10, start, end),
            Raw::Hex => self.int(&text[2..], 16, start, end),
            Raw::Binary => self.int(&text[2..], 2, start, end),
            Raw::Float => {
                let value = text.replace('_', "").parse::<f64>().unwrap_or(f64::INFINITY);
                if value.is_infinite() {
                    let place = self.place(start, end);
                    self.error(
                        Diagnostic::error("number out of range", place, "too large for a float")
                            .because("floats are 64-bit: up to about 1.8e308"),
                    );
                }
                self.push(start, Token::Float(value), end);
            }
            Raw::Duration => self.duration(text, start, end),
            Raw::BadNumber => {
                let place = self.place(start, end);
                self.error(
                    Diagnostic::error("malformed number", place, "not a number, and not a duration")
                        .hint("numbers are like 42, 0xff, 0b1010, 4.2 and 1e-9; durations end in ns, us, ms, s, m, h or d"),
                );
                self.push(start, Token::Int(0), end);
            }
            Raw::BlockQuote => self.string(true, start, end),
            Raw::Quote => self.string(false, start, end),
            Raw::RawBlockQuote => self.raw_string(true, start, end),
            Raw::RawQuote => self.raw_string(false, start, end),
            Raw::Newline => self.newline(start, end),
            Raw::LineComment => {
                self.out.comments.push((start, end));
                if let Some(doc) = text.strip_prefix("///").filter(|rest| !rest.starts_with('/')) {
                    let doc = doc.trim_end().strip_prefix(' ').unwrap_or(doc.trim_end());
                    match &mut self.doc {
                        Some(all) => {
                            all.push('\n');
                            all.push_str(doc);
                        }
                        None => self.doc = Some(doc.to_string()),
                    }
                }
            }
            Raw::BlockComment => self.out.comments.push((start, end)),
            Raw::Symbol => self.symbol(text, start, end),
        }
    }

    fn symbol(&mut self, text: &str, start: usize, end: usize) {
        // A single `?` is part of `?[` and `?(`.
        if text == "?" && !self.text[end..].starts_with(['[', '(']) {
            return self.unknown(start, end);
        }
        let rest = &self.text[end..];
        if let Some(open) = self.open.last_mut() {
            match text {
                ":" if open.braces == 0 && open.nested == 0 && !rest.starts_with([':', '=']) => {
                    let stop = rest.find(['}', '{', '"', '\n']).map_or(self.text.len(), |at| end + at);
                    self.push(start, Token::Format(self.text[end..stop].into()), stop);
                    self.at = stop;
                    return;
                }
                "(" | "[" => open.nested += 1,
                ")" | "]" => open.nested = open.nested.saturating_sub(1),
                "{" => open.braces += 1,
                "}" if open.braces == 0 => {
                    if let Some(open) = self.open.pop() {
                        self.string_text(open, start, end);
                    }
                    return;
                }
                "}" => open.braces -= 1,
                _ => {}
            }
        }
        if let Some(token) = Token::fixed(text) {
            self.push(start, token, end);
        }
    }

    fn newline(&mut self, start: usize, end: usize) {
        if self.open.last().is_some_and(|open| !open.block)
            && let Some(open) = self.open.pop()
        {
            let place = self.place(open.start, start);
            self.error(
                Diagnostic::error("unclosed `{` in a string", place, "the line ends within `{…}`")
                    .because("a string in single quotes marks ends on the line where it begins")
                    .hint(
                        "write `\\{` for a brace that is text, or a text block `\"\"\"` over several lines",
                    ),
            );
            self.finish_string(open, start);
        }
        self.push(start, Token::Nl, end);
    }

    fn int(&mut self, digits: &str, radix: u32, start: usize, end: usize) {
        let digits = digits.replace('_', "");
        let value = u64::from_str_radix(&digits, radix).ok().filter(|n| *n <= 1 << 63);
        if value.is_none() {
            let place = self.place(start, end);
            let (title, text) = if digits.is_empty() {
                ("malformed number", "digits are missing")
            } else {
                ("number out of range", "too large for an int")
            };
            self.error(
                Diagnostic::error(title, place, text)
                    .because("ints have 64 bits: -9223372036854775808 to 9223372036854775807"),
            );
        }
        self.push(start, Token::Int(value.unwrap_or(0)), end);
    }

    fn duration(&mut self, text: &str, start: usize, end: usize) {
        let value = parse_duration(&text.replace('_', ""));
        if value.is_none() {
            let place = self.place(start, end);
            self.error(
                Diagnostic::error("duration out of range", place, "too long, or finer than a nanosecond")
                    .because("durations are whole nanoseconds, up to about 106,751 days"),
            );
        }
        self.push(start, Token::Duration(value.unwrap_or(0)), end);
    }

    fn string(&mut self, block: bool, start: usize, end: usize) {
        if self.open.len() >= MAX_STRINGS {
            let place = self.place(start, end);
            self.error(Diagnostic::error(
                "strings nested too deeply",
                place,
                "strings within strings, 64 deep",
            ));
            self.at = self.text.len();
            return;
        }
        let open = Open { block, start, braces: 0, nested: 0, plain: None, pieces: Vec::new() };
        self.string_text(open, start, end);
    }

    /// Reads a raw string, whose text begins at `from`.
    fn raw_string(&mut self, block: bool, start: usize, from: usize) {
        let close = match block {
            true => "\"\"\"".to_string(),
            false => format!("\"{}", "#".repeat(from - start - 2)),
        };
        let rest = &self.text[from..];
        // The search stops at the end of the string, so that many strings on a line cost one pass.
        let ends = |(at, mark): &(usize, &str)| match *mark {
            "\n" => !block,
            _ => rest[*at..].starts_with(&close),
        };
        let (stop, end) = match rest.match_indices(['"', '\n']).find(ends) {
            Some((at, "\"")) => (from + at, from + at + close.len()),
            other => {
                let place = self.place(start, from);
                let (reason, hint) = if block {
                    ("a raw text block ends with `\"\"\"`", "close it with `\"\"\"`".to_string())
                } else {
                    (
                        "a raw string ends on the line where it begins",
                        format!("close it with `{close}`, or use a raw text block `r\"\"\"`"),
                    )
                };
                self.error(
                    Diagnostic::error("unclosed string", place, "this raw string has no end")
                        .because(reason)
                        .hint(hint),
                );
                let at = from + other.map_or(rest.len(), |(at, _)| at);
                (at, at)
            }
        };
        let mut pieces = [(0, self.text[from..stop].replace('\r', ""), from)];
        if block {
            strip_indentation(&mut pieces);
        }
        let [(_, text, _)] = pieces;
        self.at = end;
        self.push(start, Token::Str(text.into()), end);
    }

    /// Reads text from `from` up to the next `{` or the end of the string. `token_start` is the
    /// beginning of the text's token.
    fn string_text(&mut self, mut open: Open, token_start: usize, from: usize) {
        let bytes = self.text.as_bytes();
        let mut at = from;
        loop {
            match bytes.get(at) {
                // The brace of `\u{…}` is part of the escape.
                Some(b'\\') if bytes[at..].starts_with(b"\\u{") => at += 3,
                Some(b'\\') => at += 1 + usize::from(at + 1 < bytes.len()),
                Some(b'{') if open.plain.is_some() => at += 1,
                Some(b'{') if !self.ahead.may_be_a_value(self.text, at + 1, open.block) => {
                    open.plain = Some(at);
                    at += 1;
                }
                Some(b'{') => {
                    open.pieces.push((self.out.tokens.len(), self.text[from..at].to_string(), from));
                    self.push(token_start, Token::StrMid("".into()), at + 1);
                    self.at = at + 1;
                    open.nested = 0;
                    self.open.push(open);
                    return;
                }
                Some(b'"') if !open.block || bytes[at..].starts_with(b"\"\"\"") => {
                    let end = at + if open.block { 3 } else { 1 };
                    open.pieces.push((self.out.tokens.len(), self.text[from..at].to_string(), from));
                    self.push(token_start, Token::StrEnd("".into()), end);
                    self.at = end;
                    if let Some(brace) = open.plain {
                        let place = self.place(brace, brace + 1);
                        let title = "`{` in a string begins a value";
                        self.error(Diagnostic::error(title, place, "no value follows").hint(BRACE_HINT));
                    }
                    self.settle_string(open);
                    return;
                }
                Some(b'\n') if !open.block => break,
                Some(_) => at += 1,
                None => break,
            }
            // An escape may have stepped into the middle of a character.
            while at < bytes.len() && !self.text.is_char_boundary(at) {
                at += 1;
            }
        }
        let place = self.place(open.start, at);
        let (reason, hint) = if open.block {
            ("a text block ends with `\"\"\"`", "close it with `\"\"\"`")
        } else {
            ("a string ends on the line where it begins", "close it with `\"`, or use a text block `\"\"\"`")
        };
        self.error(
            Diagnostic::error("unclosed string", place, "this string has no end").because(reason).hint(hint),
        );
        open.pieces.push((self.out.tokens.len(), self.text[from..at].to_string(), from));
        self.push(token_start, Token::StrEnd("".into()), at);
        self.at = at;
        self.settle_string(open);
    }

    /// Ends a string whose interpolation was cut off at `end`.
    fn finish_string(&mut self, mut open: Open, end: usize) {
        open.pieces.push((self.out.tokens.len(), String::new(), end));
        self.push(end, Token::StrEnd("".into()), end);
        self.settle_string(open);
    }

    /// Puts the text of a complete string into its tokens, without indentation and with escapes
    /// decoded.
    fn settle_string(&mut self, mut open: Open) {
        if open.block {
            // Without the indentation, the offsets are no longer those of the source.
            for (_, raw, offset) in &open.pieces {
                unescape(raw, &mut |at, len, hint| self.bad_escape(offset + at, len, hint));
            }
            strip_indentation(&mut open.pieces);
        }
        let last = open.pieces.len() - 1;
        for (number, (token, raw, offset)) in open.pieces.iter().enumerate() {
            let mut bad = |at, len, hint: &str| {
                if !open.block {
                    self.bad_escape(offset + at, len, hint);
                }
            };
            let text: Name = unescape(raw, &mut bad).into();
            self.out.tokens[*token].1 = match number {
                0 if last == 0 => Token::Str(text),
                0 => Token::StrStart(text),
                n if n == last => Token::StrEnd(text),
                _ => Token::StrMid(text),
            };
        }
    }

    fn bad_escape(&mut self, start: usize, len: usize, hint: &str) {
        let end = (start + len).min(self.text.len());
        let place = self.place(start, end);
        self.error(
            Diagnostic::error("unknown escape in a string", place, "not an escape").hint(format!(
                "{hint}; a backslash itself is `\\\\`, and a raw string `r\"…\"` has no escapes"
            )),
        );
    }

    fn unknown(&mut self, start: usize, end: usize) {
        let end =
            (start.max(end)..=self.text.len()).find(|at| self.text.is_char_boundary(*at)).unwrap_or(end);
        self.at = end.max(start + 1);
        let text = &self.text[start..end];
        let place = self.place(start, end);
        if text.starts_with("/*") {
            self.error(
                Diagnostic::error(
                    "unclosed comment",
                    self.place(start, start + 2),
                    "this comment has no end",
                )
                .because("comments nest: each `/*` needs its own `*/`"),
            );
            return;
        }
        let hint = match text.chars().next() {
            Some('\'') => Some("strings are written with double quotes: \"…\""),
            Some('`') => Some("strings are written with double quotes; \"{x}\" puts a value in"),
            Some('#') => Some("comments begin with `//`"),
            Some('&') => Some("the logical and is `&&`; there are no references and no bit operators"),
            Some('?') => Some(
                "`?.`, `?[…]` and `?(…)` go on where there is a value, `??` gives a default; a choice is `if c { a } else { b }`",
            ),
            Some('@') if self.text[..start].ends_with(is_of_a_name) => {
                Some("an entity in a program is its name and its key: `Account(\"ada\")`")
            }
            Some('@') => Some("there are no annotations: `activity`, `orchestration` and `entity` declare"),
            Some('^' | '~') => Some("there are no bit operators; a power is `math.pow(a, b)`"),
            Some('$') => Some("in a string a value is put as \"{x}\""),
            Some('\u{201c}' | '\u{201d}') => Some("these are typographic quotes; write plain \"…\""),
            _ => None,
        };
        self.error(
            Diagnostic::error(
                match text {
                    "`" => "unexpected backtick".to_string(),
                    text => format!("unexpected character `{}`", shown(text)),
                },
                place,
                "not part of the language",
            )
            .maybe_hint(hint.map(str::to_string)),
        );
        // A stray quote would make nonsense of the rest of its line.
        if text.starts_with('\'') || text.starts_with('`') {
            let quote = &text[..1];
            let line_end = self.text[self.at..].find('\n').map_or(self.text.len(), |n| self.at + n);
            if let Some(close) = self.text[self.at..line_end].find(quote) {
                let inner: Name = self.text[self.at..self.at + close].into();
                self.at += close + 1;
                self.push(start, Token::Str(inner), self.at);
            }
        }
    }
}

/// Returns the text that escapes stand for. `bad` takes the offset and the length of each part that
/// is not an escape, and a hint.
fn unescape(raw: &str, bad: &mut dyn FnMut(usize, usize, &str)) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    loop {
        let at = raw.len() - chars.as_str().len();
        let Some(c) = chars.next() else { break };
        if c != '\\' {
            if c != '\r' {
                out.push(c);
            }
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('0') => out.push('\0'),
            Some(c @ ('\\' | '"' | '{' | '}' | '$')) => out.push(c),
            Some('u') => match code_point(chars.as_str()) {
                Some((code, rest)) => {
                    out.push(code);
                    chars = rest.chars();
                }
                None => bad(at, 2, "`\\u` wants a code point, like `\\u{1F600}`"),
            },
            other => {
                // A line break is not shown as a part of it.
                let len = other.filter(|c| !c.is_control()).map_or(1, |c| 1 + c.len_utf8());
                bad(at, len, "the escapes are \\n \\t \\r \\0 \\\\ \\\" \\{ \\} \\$ \\u{…}");
            }
        }
    }
    out
}

/// Reads `{1F600}` at the beginning of a text. Returns the character, and the text after the brace.
fn code_point(text: &str) -> Option<(char, &str)> {
    let digits = text.strip_prefix('{')?;
    let count = digits.bytes().take_while(u8::is_ascii_hexdigit).take(8).count();
    let code = u32::from_str_radix(&digits[..count], 16).ok().and_then(char::from_u32)?;
    Some((code, digits[count..].strip_prefix('}')?))
}

/// Strips a text block of its first line break, of the indentation that all lines share, and of its
/// closing line.
fn strip_indentation(pieces: &mut [(usize, String, usize)]) {
    if let Some(first) = pieces.first_mut() {
        let blank = first.1.find('\n').filter(|n| first.1[..*n].trim().is_empty());
        if let Some(newline) = blank {
            first.1 = first.1[newline..].to_string();
        }
    }
    let count = pieces.len();
    let mut common: Option<usize> = None;
    for (number, (_, text, _)) in pieces.iter().enumerate() {
        let last_line = text.matches('\n').count();
        for (line_number, line) in text.split('\n').enumerate().skip(1) {
            let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
            let last_of_piece = line_number == last_line;
            let has_content =
                indent < line.len() && line.trim() != "" || (last_of_piece && number + 1 < count);
            let closing = last_of_piece && number + 1 == count;
            if has_content || closing {
                common = Some(common.map_or(indent, |c| c.min(indent)));
            }
        }
    }
    let common = common.unwrap_or(0);
    for (number, (_, text, _)) in pieces.iter_mut().enumerate() {
        let mut lines = text.split('\n');
        let mut out = lines.next().unwrap_or("").to_string();
        for line in lines {
            out.push('\n');
            let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
            out.push_str(&line[common.min(indent)..]);
        }
        if number == 0
            && let Some(rest) = out.strip_prefix('\n')
        {
            out = rest.to_string();
        }
        *text = out;
    }
    // If the last line has nothing but the closing quotes, the text ends before its line break.
    if let Some((_, text, _)) = pieces.last_mut()
        && let Some(newline) = text.rfind('\n')
        && text[newline..].trim().is_empty()
    {
        text.truncate(newline);
    } else if count == 1
        && let Some((_, text, _)) = pieces.last_mut()
        && text.trim().is_empty()
    {
        text.clear();
    }
}

/// Returns a written duration such as `1.5h` in nanoseconds, or `None` if it does not fit.
pub fn parse_duration(text: &str) -> Option<i64> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_at);
    let scale: i128 = match unit {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut total = whole.parse::<i64>().ok()? as i128 * scale;
    let mut part = scale;
    for digit in fraction.bytes() {
        if !digit.is_ascii_digit() {
            return None;
        }
        if part % 10 != 0 && digit != b'0' {
            return None;
        }
        part /= 10;
        total += (digit - b'0') as i128 * part;
    }
    i64::try_from(total).ok()
}

/// Returns a character as it is, or escaped if it is invisible.
fn shown(text: &str) -> String {
    match text.chars().any(char::is_control) {
        true => text.escape_default().to_string(),
        false => text.to_string(),
    }
}
