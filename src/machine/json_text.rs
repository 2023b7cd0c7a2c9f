//! A reader of JSON without recursion, so that only memory limits the nesting.

use std::borrow::Cow;
use std::rc::Rc;

use super::MAX_ITEMS;
use super::error::{Fail, fail_with};
use super::value::{Name, Shapes, Value, intern};

/// The treatment of an int that does not fit in 64 bits.
#[derive(Clone, Copy, Default, PartialEq)]
pub enum Big {
    #[default]
    Error,
    Text,
    Float,
}

/// Reads JSON.
pub fn read(text: &str, big: Big) -> Result<Value, Fail> {
    Reader { text, bytes: text.as_bytes(), at: 0, big }.document()
}

struct Reader<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    big: Big,
}

/// A list or an object that is being read.
enum Open {
    List(Vec<Value>),
    /// The place of the object's first field, and the name of the field whose value is being read.
    Record(usize, Name),
}

/// The next step of the reader.
enum Next {
    Value,
    /// A value has been read.
    Done(Value),
}

impl<'t> Reader<'t> {
    fn document(mut self) -> Result<Value, Fail> {
        let mut shapes = Shapes::default();
        let mut open: Vec<Open> = Vec::new();
        let mut next = Next::Value;
        loop {
            next = match next {
                Next::Value => self.value(&mut open, &mut shapes)?,
                Next::Done(value) => match open.last_mut() {
                    None => {
                        self.space();
                        return match self.at < self.bytes.len() {
                            true => Err(self.error("trailing characters")),
                            false => Ok(value),
                        };
                    }
                    Some(Open::List(items)) => {
                        if items.len() >= MAX_ITEMS {
                            return Err(self.error("too many elements"));
                        }
                        items.push(value);
                        match self.after_part(b']', "a list", "expected `,` or `]`")? {
                            true => Next::Value,
                            false => Next::Done(close(&mut open, &mut shapes)),
                        }
                    }
                    Some(Open::Record(_, name)) => {
                        shapes.field(name.clone(), value);
                        match self.after_part(b'}', "an object", "expected `,` or `}`")? {
                            true => {
                                *name = self.name()?;
                                Next::Value
                            }
                            false => Next::Done(close(&mut open, &mut shapes)),
                        }
                    }
                },
            };
        }
    }

    /// Begins a value. A scalar or an empty container is read at once; other containers are opened.
    fn value(&mut self, open: &mut Vec<Open>, shapes: &mut Shapes) -> Result<Next, Fail> {
        let Some(first) = self.peek() else { return Err(self.ended("a value")) };
        Ok(match first {
            b'[' => {
                self.at += 1;
                match self.peek() {
                    None => return Err(self.ended("a list")),
                    Some(b']') => {
                        self.at += 1;
                        Next::Done(Value::list(Vec::new()))
                    }
                    Some(_) => {
                        open.push(Open::List(Vec::new()));
                        Next::Value
                    }
                }
            }
            b'{' => {
                self.at += 1;
                if self.peek() == Some(b'}') {
                    self.at += 1;
                    return Ok(Next::Done(Value::Record(Rc::default())));
                }
                let name = self.name()?;
                open.push(Open::Record(shapes.begin(), name));
                Next::Value
            }
            b'"' => {
                self.at += 1;
                let text = self.string()?;
                Next::Done(Value::text(&text))
            }
            b'-' | b'0'..=b'9' => Next::Done(self.number()?),
            b't' => self.word("true", Value::bool(true))?,
            b'f' => self.word("false", Value::bool(false))?,
            b'n' => self.word("null", Value::Null)?,
            _ => return Err(self.error("expected value")),
        })
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Next, Fail> {
        for byte in word.bytes() {
            match self.bytes.get(self.at) {
                Some(found) if *found == byte => self.at += 1,
                Some(_) => return Err(self.error("expected ident")),
                None => return Err(self.ended("a value")),
            }
        }
        Ok(Next::Done(value))
    }

    /// Reads the separator or the end after a part of a container. Returns whether another part
    /// follows.
    fn after_part(&mut self, end: u8, of: &str, otherwise: &str) -> Result<bool, Fail> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                match self.peek() {
                    Some(next) if next == end => Err(self.error("trailing comma")),
                    None => Err(self.ended(of)),
                    Some(_) => Ok(true),
                }
            }
            Some(byte) if byte == end => {
                self.at += 1;
                Ok(false)
            }
            Some(_) => Err(self.error(otherwise)),
            None => Err(self.ended(of)),
        }
    }

    /// Reads the name of a field and the colon after it.
    fn name(&mut self) -> Result<Name, Fail> {
        match self.peek() {
            Some(b'"') => self.at += 1,
            Some(_) => return Err(self.error("key must be a string")),
            None => return Err(self.ended("an object")),
        }
        let name = intern(&self.string()?);
        match self.peek() {
            Some(b':') => self.at += 1,
            Some(_) => return Err(self.error("expected `:`")),
            None => return Err(self.ended("an object")),
        }
        Ok(name)
    }

    fn number(&mut self) -> Result<Value, Fail> {
        let start = self.at;
        if self.bytes[self.at] == b'-' {
            self.at += 1;
        }
        match self.bytes.get(self.at) {
            Some(b'0') => {
                self.at += 1;
                if self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
                    return Err(self.error("invalid number"));
                }
            }
            Some(b'1'..=b'9') => self.digits(),
            Some(_) => return Err(self.error("invalid number")),
            None => return Err(self.ended("a value")),
        }
        let mut is_int = true;
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            is_int = false;
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            is_int = false;
            if let Some(b'+' | b'-') = self.bytes.get(self.at) {
                self.at += 1;
            }
            self.some_digits()?;
        }
        let written = &self.text[start..self.at];
        if is_int {
            if let Ok(n) = written.parse() {
                return Ok(Value::Int(n));
            }
            match self.big {
                Big::Text => return Ok(Value::str(written)),
                Big::Float => {}
                Big::Error => {
                    self.at = start;
                    return Err(self.error(&format!("{} does not fit in 64 bits", cut(written))));
                }
            }
        }
        match written.parse::<f64>() {
            Ok(x) if x.is_finite() => Ok(Value::float(x)),
            _ => {
                self.at = start;
                Err(self.error("number out of range"))
            }
        }
    }

    fn digits(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self) -> Result<(), Fail> {
        match self.bytes.get(self.at) {
            Some(byte) if byte.is_ascii_digit() => {
                self.digits();
                Ok(())
            }
            Some(_) => Err(self.error("invalid number")),
            None => Err(self.ended("a value")),
        }
    }

    /// Reads the rest of a string, after its opening quote.
    fn string(&mut self) -> Result<Cow<'t, str>, Fail> {
        let start = self.at;
        self.plain();
        if self.bytes.get(self.at) == Some(&b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(&self.text[start..self.at - 1]));
        }
        let mut out = self.text[start..self.at].to_string();
        loop {
            match self.bytes.get(self.at) {
                None => return Err(self.ended("a string")),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(out));
                }
                Some(b'\\') => {
                    self.at += 1;
                    out.push(self.escape()?);
                }
                Some(byte) if *byte < 0x20 => {
                    return Err(
                        self.error("control character (\\u0000-\\u001F) found while parsing a string")
                    );
                }
                Some(_) => {
                    let start = self.at;
                    self.plain();
                    out.push_str(&self.text[start..self.at]);
                }
            }
        }
    }

    /// Skips the characters that stand for themselves in a string.
    fn plain(&mut self) {
        let rest = &self.bytes[self.at..];
        let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
        self.at += plain.unwrap_or(rest.len());
    }

    fn escape(&mut self) -> Result<char, Fail> {
        let Some(byte) = self.bytes.get(self.at) else { return Err(self.ended("a string")) };
        let plain = match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(self.error("invalid escape")),
        };
        self.at += 1;
        Ok(plain)
    }

    /// Reads the character of `\u1234`, or of a surrogate pair.
    fn unicode(&mut self) -> Result<char, Fail> {
        let first = self.hex()?;
        let code = match first {
            0xd800..0xdc00 => {
                if !self.bytes[self.at..].starts_with(b"\\u") {
                    return Err(self.error("lone leading surrogate in hex escape"));
                }
                self.at += 2;
                match self.hex()? {
                    second @ 0xdc00..0xe000 => 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00),
                    _ => return Err(self.error("lone leading surrogate in hex escape")),
                }
            }
            code => code,
        };
        char::from_u32(code).ok_or_else(|| self.error("lone trailing surrogate in hex escape"))
    }

    fn hex(&mut self) -> Result<u32, Fail> {
        let digits = self.bytes.get(self.at..self.at + 4);
        let Some(digits) = digits else {
            self.at = self.bytes.len();
            return Err(self.ended("a string"));
        };
        let mut code = 0;
        for digit in digits {
            let Some(digit) = char::from(*digit).to_digit(16) else {
                return Err(self.error("invalid escape"));
            };
            code = code * 16 + digit;
        }
        self.at += 4;
        Ok(code)
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// Skips white space, and returns the next byte without reading past it.
    fn peek(&mut self) -> Option<u8> {
        self.space();
        self.bytes.get(self.at).copied()
    }

    fn ended(&self, within: &str) -> Fail {
        self.fail(&format!("EOF while parsing {within}"), self.bytes.len(), 0)
    }

    /// Returns an error at the next byte.
    fn error(&self, what: &str) -> Fail {
        self.fail(what, self.at, 1)
    }

    fn fail(&self, what: &str, at: usize, beyond: usize) -> Fail {
        let before = String::from_utf8_lossy(&self.bytes[..at.min(self.bytes.len())]);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + beyond;
        let fields = [("line", Value::Int(line as i64)), ("column", Value::Int(column as i64))];
        fail_with("parse_error", format!("not JSON: {what} at line {line} column {column}"), fields)
    }
}

/// Returns a number, shortened if it is long.
fn cut(written: &str) -> String {
    match written.len() {
        0..=40 => written.to_string(),
        _ => format!("{}…", &written[..40]),
    }
}

/// Closes the innermost container, and returns its value.
fn close(open: &mut Vec<Open>, shapes: &mut Shapes) -> Value {
    match open.pop() {
        Some(Open::List(mut items)) => {
            items.shrink_to_fit();
            Value::list(items)
        }
        Some(Open::Record(from, _)) => Value::Record(Rc::new(shapes.end(from))),
        None => Value::Null,
    }
}
