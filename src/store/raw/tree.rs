//! The keys and values of a database's files.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use crate::kv::{Batch, Read, Store, StoreError, Visit, first_of};

use super::super::memtable::Memtable;
use super::layout::{Files, Leaf, Page, Pointer};
use super::messages::{Kind, META_PAGE, head};
use super::page::{Node, Pairs, Within, apart, node, roots};
use super::recover::recover;
use super::{damaged, salvage};

/// The tree in which the first format had everything.
const FIRST_TREE: &[u8] = b"__sled__default";

/// The contents of a database's files, as a store. Its commits stay in memory.
#[derive(Debug)]
pub struct RawTree {
    /// The files, or `None` if there is no database.
    files: Option<Files>,
    /// The leaves by the first key that each may have; their ranges do not overlap.
    leaves: BTreeMap<Vec<u8>, Leaf>,
    /// The writes since the files were opened, and the contents of [`FIRST_TREE`].
    writes: Memtable,
    /// Whether sled would discard whole messages.
    is_torn: bool,
    /// The leaf that was read last, by its first key.
    last: RefCell<Option<(Vec<u8>, Pairs)>>,
}

impl RawTree {
    /// Returns a tree without contents.
    pub fn empty() -> RawTree {
        RawTree {
            files: None,
            leaves: BTreeMap::new(),
            writes: Memtable::default(),
            is_torn: false,
            last: RefCell::new(None),
        }
    }

    /// Reads the database of a folder like sled. Fails where sled would break down, and where data
    /// does not fit its checksum. Leaves are checked here, and again when they are read.
    pub fn open(folder: &Path) -> Result<RawTree, StoreError> {
        let files = Files::open(folder)?;
        files.check_settings()?;
        let recovered = recover(&files)?;
        let mut tree = RawTree { is_torn: recovered.is_torn, ..RawTree::empty() };
        let pages = recovered.pages;
        if pages.is_empty() {
            tree.files = Some(files);
            return Ok(tree);
        }
        let present = |page: u64| match usize::try_from(page).ok().and_then(|page| pages.get(page)) {
            Some(Page::Present { base, links }) => Ok((base, &links[..])),
            _ => Err(damaged("a page of the database is missing")),
        };
        let (base, _) = present(META_PAGE)?;
        let trees = roots(&body(&files, META_PAGE, base)?).ok_or_else(unreadable)?;
        for (name, root) in trees {
            let (mut page, mut seen) = (root, HashSet::new());
            loop {
                if !seen.insert(page) {
                    return Err(damaged("the pages of the database run in a circle"));
                }
                let (base, links) = present(page)?;
                let node = whole_node(&files, page, base, links)?;
                if let Within::Index(below) = &node.within {
                    page = *below.first().ok_or_else(unreadable)?;
                    continue;
                }
                let next = node.next;
                let leaf = Leaf { base: *base, links: links.to_vec(), page, end: None };
                tree.add(&name, leaf, node);
                match next {
                    Some(next) => page = next,
                    None => break,
                }
            }
        }
        tree.files = Some(files);
        Ok(tree)
    }

    /// Reads everything in the database of a folder that fits its checksum, and describes the
    /// losses.
    pub fn salvage(folder: &Path) -> (RawTree, Vec<String>) {
        let mut tree = RawTree::empty();
        let lost = match Files::open(folder) {
            Ok(files) => {
                let (leaves, mut lost) = salvage::leaves(&files);
                for leaf in leaves {
                    match whole_node(&files, leaf.page, &leaf.base, &leaf.links) {
                        Ok(node) if !node.merged => tree.lay_under(leaf, node),
                        Ok(_) => {}
                        Err(error) => lost.push(said(error)),
                    }
                }
                tree.files = Some(files);
                lost
            }
            Err(error) => vec![said(error)],
        };
        (tree, lost)
    }

    /// Returns whether sled would discard whole messages.
    pub fn is_torn(&self) -> bool {
        self.is_torn
    }

    /// Adds the next leaf of a tree.
    fn add(&mut self, tree: &[u8], mut leaf: Leaf, node: Node) {
        match tree {
            [first] => {
                let (from, end) = range(*first, &node);
                leaf.end = end;
                self.leaves.insert(from, leaf);
            }
            FIRST_TREE => self.writes.extend(node.pairs().into_iter().map(|(key, value)| (key, Some(value)))),
            _ => {}
        }
    }

    /// Adds a leaf below the others: for the keys that no other leaf covers.
    fn lay_under(&mut self, leaf: Leaf, node: Node) {
        let bounds = (node.low.clone(), node.high.clone());
        let pairs = node.pairs();
        let Some(first) = pairs.first().and_then(|(key, _)| key.first().copied()) else { return };
        let end = if bounds.1.is_empty() { after(first) } else { Some(bounds.1) };
        let mut from = bounds.0.max(vec![first]);
        loop {
            // The leaf that covers this key, if there is one.
            let before = self.leaves.range(..=from.clone()).next_back().map(|(_, leaf)| leaf.end.clone());
            if let Some(covered) = before.filter(|to| to.as_ref().is_none_or(|to| *to > from)) {
                match covered {
                    Some(to) => from = to,
                    None => return,
                }
                continue;
            }
            if end.as_ref().is_some_and(|end| from >= *end) {
                return;
            }
            let next = self.leaves.range(from.clone()..).next().map(|(next, _)| next.clone());
            let to = match (&end, next) {
                (Some(end), Some(next)) => Some(next.min(end.clone())),
                (end, next) => next.or(end.clone()),
            };
            self.leaves.insert(from, Leaf { end: to.clone(), ..leaf.clone() });
            match to {
                Some(to) => from = to,
                None => return,
            }
        }
    }

    /// Calls a function with the keys and values of a leaf.
    fn with_leaf<R>(&self, from: &[u8], leaf: &Leaf, run: impl FnOnce(&Pairs) -> R) -> Result<R, StoreError> {
        let mut last = self.last.borrow_mut();
        if let Some((known, pairs)) = &*last
            && known == from
        {
            return Ok(run(pairs));
        }
        let files = self.files.as_ref().ok_or_else(unreadable)?;
        let mut pairs = whole_node(files, leaf.page, &leaf.base, &leaf.links)?.pairs();
        pairs.retain(|(key, _)| key.as_slice() >= from && leaf.end.as_ref().is_none_or(|end| key < end));
        let (_, pairs) = last.insert((from.to_vec(), pairs));
        Ok(run(pairs))
    }
}

/// Returns the text of an error, without saying that it is damage.
fn said(error: StoreError) -> String {
    match error {
        StoreError::Damaged { what } => what,
        other => other.to_string(),
    }
}

/// Returns the range of a leaf's keys.
fn range(first: u8, node: &Node) -> (Vec<u8>, Option<Vec<u8>>) {
    let end = if node.high.is_empty() { after(first) } else { Some(node.high.clone()) };
    let from = if node.low.is_empty() && first > 0 { vec![first] } else { node.low.clone() };
    (from, end)
}

/// Returns the first key after all keys that begin with a byte.
fn after(first: u8) -> Option<Vec<u8>> {
    first.checked_add(1).map(|next| vec![next])
}

fn unreadable() -> StoreError {
    damaged("a page of the database is not readable")
}

/// Reads the body of a page's message.
fn body(files: &Files, page: u64, pointer: &Pointer) -> Result<Vec<u8>, StoreError> {
    /// The size in bytes that most messages do not exceed, heads included.
    const USUAL: usize = 16 << 10;
    let not_whole = || damaged(format!("page {page} of the database does not fit its checksum"));
    let segment = (pointer.lsn / super::super::sled::SEGMENT_BYTES as i64) as u64;
    let mut bytes = files.read(pointer.at, USUAL)?;
    if head(&bytes, 0).is_none() {
        bytes = files.read(pointer.at, super::super::sled::SEGMENT_BYTES as usize)?;
    }
    let message = head(&bytes, 0).and_then(|head| head.whole()).ok_or_else(not_whole)?;
    if (message.segment, message.page) != (segment, page) {
        return Err(not_whole());
    }
    if !message.kind.is_apart() {
        return Ok(message.body.to_vec());
    }
    let id = apart(message.body).ok_or_else(not_whole)?;
    let (kind, body) =
        files.apart(id)?.ok_or_else(|| damaged(format!("the value {id} of page {page} is missing")))?;
    if Kind::of(kind) != Some(message.kind) {
        return Err(not_whole());
    }
    Ok(body)
}

/// Reads a node, and applies its changes.
fn whole_node(files: &Files, page: u64, base: &Pointer, links: &[Pointer]) -> Result<Node, StoreError> {
    let mut found = node(&body(files, page, base)?).ok_or_else(unreadable)?;
    for link in links {
        found.change(&body(files, page, link)?).ok_or_else(unreadable)?;
    }
    Ok(found)
}

impl RawTree {
    /// Returns the value in the files.
    fn get_stored(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some((from, leaf)) = self.leaves.range(..=key.to_vec()).next_back() else { return Ok(None) };
        self.with_leaf(from, leaf, |pairs| {
            let at = pairs.binary_search_by(|(known, _)| known.as_slice().cmp(key)).ok()?;
            Some(pairs[at].1.clone())
        })
    }

    /// Visits the keys with a prefix that are in the files, in order.
    fn scan_stored(&self, prefix: &[u8], first: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        let begin = self.leaves.range(..=first.to_vec()).next_back().map_or(first, |(from, _)| from);
        for (from, leaf) in self.leaves.range(begin.to_vec()..) {
            if from.as_slice() > prefix && !from.starts_with(prefix) {
                break;
            }
            // A copy, because the visitor may read this store as well.
            let pairs = self.with_leaf(from, leaf, Pairs::clone)?;
            for (key, value) in
                pairs.iter().filter(|(key, _)| key.as_slice() >= first && key.starts_with(prefix))
            {
                if !visit(key, value) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

impl Read for RawTree {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.writes.get(key, || self.get_stored(key))
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.writes.scan_from(
            prefix,
            from,
            |visit| self.scan_stored(prefix, first_of(prefix, from), visit),
            visit,
        )
    }
}

impl Store for RawTree {
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.writes.extend(batch.writes.iter().cloned());
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn end(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.files.as_ref().map_or(0, |files| files.log_bytes)
    }
}
