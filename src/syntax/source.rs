//! Source texts and places in them.

use serde::{Deserialize, Serialize};

/// A range of bytes in one source text, `start` included, `end` not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    /// A span from byte offsets; texts are limited to [`MAX_SOURCE`] bytes, so offsets fit.
    pub fn new(start: usize, end: usize) -> Span {
        Span { start: start as u32, end: end as u32 }
    }

    /// The smallest span that holds both.
    pub fn to(self, other: Span) -> Span {
        Span { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// The largest source text that is read, in bytes.
pub const MAX_SOURCE: usize = 16 << 20;

/// A span in one of a program's sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Index into [`Sources`].
    pub source: u32,
    pub span: Span,
}

/// One source text with the name it is shown under.
#[derive(Clone, Debug)]
pub struct Source {
    /// A path, or `std:list.df` for a module of the standard library.
    pub name: String,
    pub text: String,
}

/// All the source texts of a program, by number.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub files: Vec<Source>,
}

impl Sources {
    /// Adds a text and gives its number.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> u32 {
        self.files.push(Source { name: name.into(), text: text.into() });
        (self.files.len() - 1) as u32
    }

    /// The text under a span, or nothing when the span lies outside.
    pub fn snippet(&self, place: Place) -> &str {
        self.files
            .get(place.source as usize)
            .and_then(|file| file.text.get(place.span.start as usize..place.span.end as usize))
            .unwrap_or("")
    }

    /// Line and column, both from 1, of the start of a place; columns count characters.
    pub fn line_column(&self, place: Place) -> (usize, usize) {
        let Some(file) = self.files.get(place.source as usize) else { return (0, 0) };
        let upto = file.text.get(..place.span.start as usize).unwrap_or(&file.text);
        let line_start = upto.rfind('\n').map_or(0, |at| at + 1);
        (upto.matches('\n').count() + 1, upto[line_start..].chars().count() + 1)
    }

    /// `name:line:column` of the start of a place.
    pub fn locate(&self, place: Place) -> String {
        let (line, column) = self.line_column(place);
        let name = self.files.get(place.source as usize).map_or("?", |file| file.name.as_str());
        format!("{name}:{line}:{column}")
    }
}
