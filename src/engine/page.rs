//! Pages: the parts of a long answer. The cost of a page depends on its size alone.

use serde::{Deserialize, Serialize};

/// The maximum number of keys that are scanned for one page.
pub(super) const SCANNED: usize = 10_000;
/// The number of bytes of values after which a page ends.
pub(super) const PAGE_BYTES: usize = 4 << 20;

/// The place where the next page begins. The bytes have a meaning within this layer only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cursor(pub(super) Vec<u8>);

impl Cursor {
    /// Returns the cursor as text for clients, who do not look into it.
    pub fn text(&self) -> String {
        hex::encode(&self.0)
    }

    /// Reads a cursor that [`Cursor::text`] wrote.
    pub fn parse(text: &str) -> Option<Cursor> {
        hex::decode(text).ok().map(Cursor)
    }
}

/// The place and the size of a requested page.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Paging {
    /// The cursor of the page before.
    pub from: Option<Cursor>,
    /// The maximum number of items. A page may have fewer even when more pages follow.
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
