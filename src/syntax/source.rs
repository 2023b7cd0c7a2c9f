//! Source texts and places in them.

use serde::{Deserialize, Serialize};

/// A range of bytes in one source text: `start` is included, `end` is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    /// Returns a span of byte offsets. Texts have at most [`MAX_SOURCE`] bytes, so offsets fit.
    pub fn new(start: usize, end: usize) -> Span {
        Span { start: start as u32, end: end as u32 }
    }

    /// Returns the smallest span that contains both spans.
    pub fn to(self, other: Span) -> Span {
        Span { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// The size in bytes of the largest source text that is read.
pub const MAX_SOURCE: usize = 16 << 20;

/// A span in one of a program's sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The index into [`Sources`].
    pub source: u32,
    pub span: Span,
}

/// A source text with the name under which it is shown.
#[derive(Clone, Debug)]
pub struct Source {
    /// A path, or `std:list.df` for a module of the standard library.
    pub name: String,
    pub text: String,
}

/// All source texts of a program, by number.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub files: Vec<Source>,
}

impl Sources {
    /// Adds a text and returns its number.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> u32 {
        self.files.push(Source { name: name.into(), text: text.into() });
        (self.files.len() - 1) as u32
    }

    /// Returns the names and the texts of all files.
    pub fn texts(&self) -> Vec<(String, String)> {
        self.files.iter().map(|file| (file.name.clone(), file.text.clone())).collect()
    }

    /// Returns the text of a place, or an empty text if the place lies outside.
    pub fn snippet(&self, place: Place) -> &str {
        self.files
            .get(place.source as usize)
            .and_then(|file| file.text.get(place.span.start as usize..place.span.end as usize))
            .unwrap_or("")
    }

    /// Returns the line and column of the start of a place, both from 1. Columns count characters.
    pub fn line_column(&self, place: Place) -> (usize, usize) {
        let Some(file) = self.files.get(place.source as usize) else { return (0, 0) };
        let upto = file.text.get(..place.span.start as usize).unwrap_or(&file.text);
        let line_start = upto.rfind('\n').map_or(0, |at| at + 1);
        (upto.matches('\n').count() + 1, upto[line_start..].chars().count() + 1)
    }

    /// Returns `name:line:column` of the start of a place.
    pub fn locate(&self, place: Place) -> String {
        let (line, column) = self.line_column(place);
        let name = self.files.get(place.source as usize).map_or("?", |file| file.name.as_str());
        format!("{name}:{line}:{column}")
    }
}
