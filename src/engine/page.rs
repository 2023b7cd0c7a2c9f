//! Pages: the parts of a long answer. The cost of a page depends on its size only.

use serde::{Deserialize, Serialize};

/// The most keys that are scanned for one page.
pub(super) const SCANNED: usize = 10_000;
/// The bytes of values after which a page ends.
pub(super) const PAGE_BYTES: usize = 4 << 20;

/// The place where the next page begins. Its bytes mean nothing outside of this layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cursor(pub(super) Vec<u8>);

/// The place and the size of a page that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Paging {
    /// The cursor of the page before.
    pub from: Option<Cursor>,
    /// The most items. A page may have fewer also when more pages follow.
    pub limit: u32,
}

impl Paging {
    /// Returns the first page, of at most `limit` items.
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
    /// The cursor of the next page; `None` at the end.
    pub next: Option<Cursor>,
}
