//! Strings and bytes.

use std::cell::Cell;
use std::rc::Rc;

use compact_str::CompactString;

use super::memory::{charge, discharge};

/// A string, stored in place when it is short. Its characters are counted on first use.
#[derive(Debug)]
pub struct Text {
    text: CompactString,
    chars: Cell<u32>,
    /// The bytes that were charged for the string.
    charged: u32,
}

impl Text {
    pub fn new(text: impl Into<CompactString>) -> Rc<Text> {
        Text::counted(text.into(), u32::MAX)
    }

    /// Makes a string whose number of characters is known.
    pub fn counted(text: CompactString, chars: u32) -> Rc<Text> {
        let charged = Text::size(&text);
        charge(charged as usize);
        Rc::new(Text { text, chars: Cell::new(chars), charged })
    }

    /// Returns the concatenation of two strings.
    pub fn joined(first: &Text, second: &Text) -> Rc<Text> {
        let mut text = CompactString::with_capacity(first.text.len() + second.text.len());
        text.push_str(&first.text);
        text.push_str(&second.text);
        let known = first.chars.get() != u32::MAX && second.chars.get() != u32::MAX;
        let chars = if known { first.chars.get() + second.chars.get() } else { u32::MAX };
        Text::counted(text, chars)
    }

    fn size(text: &CompactString) -> u32 {
        48 + if text.is_heap_allocated() { text.capacity() as u32 } else { 0 }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the number of characters.
    pub fn chars(&self) -> usize {
        if self.chars.get() == u32::MAX {
            self.chars.set(self.text.chars().count() as u32);
        }
        self.chars.get() as usize
    }

    /// Returns whether each character is one byte.
    pub fn is_ascii(&self) -> bool {
        self.chars() == self.text.len()
    }

    /// Appends a string in place.
    pub fn push_str(&mut self, more: &Text) {
        // A known count is updated, so that a growing string is not counted anew for each piece.
        if self.chars.get() != u32::MAX {
            self.chars.set(self.chars.get() + more.chars() as u32);
        }
        self.text.push_str(&more.text);
        let charged = Text::size(&self.text);
        if charged != self.charged {
            charge((charged as usize).wrapping_sub(self.charged as usize));
            self.charged = charged;
        }
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        discharge(self.charged as usize);
    }
}

/// Bytes.
#[derive(Debug)]
pub struct Blob {
    pub bytes: Vec<u8>,
    charged: usize,
}

impl Blob {
    pub fn new(bytes: Vec<u8>) -> Blob {
        let charged = bytes.capacity() + 40;
        charge(charged);
        Blob { bytes, charged }
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        discharge(self.charged);
    }
}
