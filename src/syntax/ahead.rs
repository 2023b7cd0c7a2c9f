//! The look ahead from a `{` in a string: whether a value can begin there.

use logos::Logos;

use super::token::Raw;

/// The largest allowed depth of strings within strings.
pub(super) const MAX_STRINGS: usize = 64;

/// A bound on the bytes that are read ahead, so that no text takes more than linear time.
pub(super) struct Ahead {
    left: usize,
}

/// A string whose `{…}` is being read.
struct Frame {
    block: bool,
    braces: usize,
}

impl Ahead {
    /// Returns the bound for a whole text.
    pub fn of(text: &str) -> Ahead {
        const LEAST: usize = 1 << 16;
        Ahead { left: text.len().saturating_mul(8).saturating_add(LEAST) }
    }

    /// Returns false if what follows a `{` at `from` can't be a value: a backslash, or no `}` on the
    /// line. A text that ends within the braces may still become a value.
    pub fn may_be_a_value(&mut self, text: &str, from: usize, block: bool) -> bool {
        let mut open = vec![Frame { block, braces: 0 }];
        let mut at = from;
        loop {
            let Some(frame) = open.last_mut() else { return true };
            let mut raw = Raw::lexer(&text[at..]);
            let Some(next) = raw.next() else { return true };
            let (start, end) = (at + raw.span().start, at + raw.span().end);
            let Some(left) = self.left.checked_sub(end - at) else { return true };
            self.left = left;
            at = end;
            let opened = match next {
                Err(()) => return text.as_bytes().get(start) != Some(&b'\\'),
                Ok(Raw::Newline) if !frame.block => return false,
                // The end of a raw string is found by the lexer.
                Ok(Raw::RawQuote | Raw::RawBlockQuote) => return true,
                Ok(Raw::Quote) => Some(false),
                Ok(Raw::BlockQuote) => Some(true),
                Ok(Raw::Symbol) => match &text[start..end] {
                    "{" => {
                        frame.braces += 1;
                        None
                    }
                    "}" if frame.braces == 0 => {
                        let block = frame.block;
                        open.pop();
                        if open.is_empty() {
                            return true;
                        }
                        Some(block)
                    }
                    "}" => {
                        frame.braces -= 1;
                        None
                    }
                    _ => None,
                },
                Ok(_) => None,
            };
            let Some(block) = opened else { continue };
            match self.after_text(text, at, block) {
                Some((next, true)) => {
                    if open.len() >= MAX_STRINGS {
                        return true;
                    }
                    open.push(Frame { block, braces: 0 });
                    at = next;
                }
                Some((next, false)) => at = next,
                None => return block || self.left == 0,
            }
        }
    }

    /// Returns the offset after the text of a string, and whether a `{` ends that text. Returns
    /// `None` if the string has no end.
    fn after_text(&mut self, text: &str, from: usize, block: bool) -> Option<(usize, bool)> {
        let bytes = text.as_bytes();
        let mut at = from;
        let found = loop {
            match bytes.get(at) {
                Some(b'\\') if bytes[at..].starts_with(b"\\u{") => at += 3,
                Some(b'\\') => at += 2,
                Some(b'{') => break Some((at + 1, true)),
                Some(b'"') if !block => break Some((at + 1, false)),
                Some(b'"') if bytes[at..].starts_with(b"\"\"\"") => break Some((at + 3, false)),
                Some(b'\n') if !block => break None,
                Some(_) => at += 1,
                None => break None,
            }
        };
        self.left = self.left.saturating_sub(at.min(text.len()) - from);
        found
    }
}
