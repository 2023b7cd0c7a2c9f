//! Messages of the protocol, in and out.
//!
//! A broken message is reported as an error. The reader then searches for the next message.

use std::io::{self, Read, Write};

use serde_json::{Value, json};

/// The result of reading.
pub enum Incoming {
    Message(Value),
    /// Broken input, with the reason.
    Broken(String),
    End,
}

/// The largest size of a message in bytes, and of a line of its head.
const MOST_BYTES: usize = 256 << 20;
const MOST_LINE: usize = 4096;
const LENGTH: &str = "content-length";

/// A reader of messages, which skips broken input between them.
pub struct Reader<R> {
    input: R,
    bytes: Vec<u8>,
    /// The number of bytes that are consumed.
    at: usize,
    /// Whether the next message must be searched for.
    lost: bool,
}

impl<R: Read> Reader<R> {
    pub fn new(input: R) -> Reader<R> {
        Reader { input, bytes: Vec::new(), at: 0, lost: false }
    }

    /// Returns the next message, or the reason why it is broken.
    pub fn next(&mut self) -> io::Result<Incoming> {
        if self.lost && !self.find()? {
            return Ok(Incoming::End);
        }
        self.lost = false;
        let length = match self.head()? {
            None => return Ok(Incoming::End),
            Some(Ok(length)) => length,
            Some(Err(reason)) => {
                self.lost = true;
                return Ok(Incoming::Broken(reason));
            }
        };
        while self.bytes.len() - self.at < length {
            if !self.more()? {
                return Ok(Incoming::End);
            }
        }
        let body = &self.bytes[self.at..self.at + length];
        match serde_json::from_slice(body) {
            Ok(message) => {
                self.at += length;
                Ok(Incoming::Message(message))
            }
            Err(error) => {
                // The length may be wrong, so the next message may begin within this body.
                self.lost = true;
                Ok(Incoming::Broken(format!("this is no JSON: {error}")))
            }
        }
    }

    /// Returns the length in the head of a message, or `None` at the end of the input. An inner
    /// error says why the head is broken.
    fn head(&mut self) -> io::Result<Option<Result<usize, String>>> {
        let mut length = None;
        loop {
            let Some(end) = self.line_end()? else { return Ok(None) };
            let Some(end) = end else {
                self.at += 1;
                return Ok(Some(Err("a line of a head is too long".to_string())));
            };
            let line = String::from_utf8_lossy(&self.bytes[self.at..end]).trim().to_string();
            if line.is_empty() {
                self.at = end + 1;
                match length {
                    Some(length) => return Ok(Some(Ok(length))),
                    None => continue,
                }
            }
            let Some((name, value)) = line.split_once(':').filter(|(name, _)| is_field(name)) else {
                // The next head may begin within this line.
                return Ok(Some(Err(format!("`{line}` is no line of a head"))));
            };
            self.at = end + 1;
            if name.eq_ignore_ascii_case(LENGTH) {
                match value.trim().parse::<usize>() {
                    Ok(bytes) if bytes <= MOST_BYTES => length = Some(bytes),
                    _ => return Ok(Some(Err(format!("`{}` is not the length of a message", value.trim())))),
                }
            }
        }
    }

    /// Returns the offset of the line's end, or `None` at the end of the input. An inner `None`
    /// means that the line is too long.
    fn line_end(&mut self) -> io::Result<Option<Option<usize>>> {
        let mut from = self.at;
        loop {
            if let Some(found) = self.bytes[from..].iter().position(|byte| *byte == b'\n') {
                return Ok(Some(Some(from + found)));
            }
            from = self.bytes.len();
            if from - self.at > MOST_LINE {
                return Ok(Some(None));
            }
            let read = self.at;
            if !self.more()? {
                return Ok(None);
            }
            from -= read - self.at;
        }
    }

    /// Skips to the beginning of the next head; returns false if there is none.
    fn find(&mut self) -> io::Result<bool> {
        loop {
            let rest = &self.bytes[self.at..];
            let begins = |part: &[u8]| {
                part[..LENGTH.len()].eq_ignore_ascii_case(LENGTH.as_bytes()) && part[LENGTH.len()] == b':'
            };
            if let Some(found) = rest.windows(LENGTH.len() + 1).position(begins) {
                self.at += found;
                return Ok(true);
            }
            self.at = self.at.max(self.bytes.len().saturating_sub(LENGTH.len()));
            if !self.more()? {
                return Ok(false);
            }
        }
    }

    /// Reads more bytes; returns false at the end of the input.
    fn more(&mut self) -> io::Result<bool> {
        self.bytes.drain(..self.at);
        self.at = 0;
        let mut chunk = [0; 16 << 10];
        loop {
            match self.input.read(&mut chunk) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.bytes.extend_from_slice(&chunk[..count]);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Returns whether a text can be the name of a field of a head.
fn is_field(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Writes one message.
pub fn write(mut out: impl Write, message: &Value) -> io::Result<()> {
    let text = message.to_string();
    write!(out, "Content-Length: {}\r\n\r\n{text}", text.len())?;
    out.flush()
}

/// Returns the answer to a request.
pub fn answer(id: Value, result: Result<Value, (i32, String)>) -> Value {
    match result {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err((code, message)) => {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
        }
    }
}
