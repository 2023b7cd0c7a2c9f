//! Pages: parts of an answer, each of which costs what it holds.

use serde::{Deserialize, Serialize};

/// The most keys that one page looks at.
pub(super) const SCANNED: usize = 10_000;
/// The bytes of values after which a page ends.
pub(super) const PAGE_BYTES: usize = 4 << 20;

/// Where the next page begins. Its bytes mean nothing to anybody else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cursor(pub(super) Vec<u8>);

/// How much is wanted, and from where.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Paging {
    /// The cursor of the page before.
    pub from: Option<Cursor>,
    /// The most items; a page may have fewer, and more may follow all the same.
    pub limit: u32,
}

impl Paging {
    /// The first page, of at most `limit` items.
    pub fn first(limit: u32) -> Paging {
        Paging { from: None, limit }
    }

    pub(super) fn begin<'a>(&'a self, prefix: &'a [u8]) -> &'a [u8] {
        self.from.as_ref().map_or(prefix, |cursor| &cursor.0)
    }

    pub(super) fn limit(&self) -> usize {
        (self.limit as usize).clamp(1, SCANNED)
    }
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Cursor>,
}
