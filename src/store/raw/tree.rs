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

/// The name of the tree in which the first format had everything.
const FIRST_TREE: &[u8] = b"__sled__default";

/// What a database's files hold, as a store. Its commits stay in memory.
#[derive(Debug)]
pub struct RawTree {
    /// None as long as there is no database.
    files: Option<Files>,
    /// By the first key that may be theirs; they share none.
    leaves: BTreeMap<Vec<u8>, Leaf>,
    /// What was written since.
    writes: Memtable,
    /// sled would throw something away that is whole.
    is_torn: bool,
    /// The leaf that was read last, by its first key.
    last: RefCell<Option<(Vec<u8>, Pairs)>>,
}

impl RawTree {
    /// One without anything in it.
    pub fn empty() -> RawTree {
        RawTree {
            files: None,
            leaves: BTreeMap::new(),
            writes: Memtable::default(),
            is_torn: false,
            last: RefCell::new(None),
        }
    }

    /// Reads the database of a folder as sled would. Errors: there is something in it that sled would break down at or
    /// that does not fit its checksum. Leaves are checked when they are read.
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

    /// Reads all that fits its checksum of the database of a folder, and says what does not.
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

    /// Whether sled would throw whole messages away.
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

    /// Adds a leaf where there is none yet, beneath those that are there.
    fn lay_under(&mut self, leaf: Leaf, node: Node) {
        let bounds = (node.low.clone(), node.high.clone());
        let pairs = node.pairs();
        let Some(first) = pairs.first().and_then(|(key, _)| key.first().copied()) else { return };
        let end = if bounds.1.is_empty() { after(first) } else { Some(bounds.1) };
        let mut from = bounds.0.max(vec![first]);
        loop {
            // What covers this key already, and where the next that covers one begins.
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

/// What is wrong, without the words that it is damage.
fn said(error: StoreError) -> String {
    match error {
        StoreError::Damaged { what } => what,
        other => other.to_string(),
    }
}

/// The keys that are a leaf's.
fn range(first: u8, node: &Node) -> (Vec<u8>, Option<Vec<u8>>) {
    let end = if node.high.is_empty() { after(first) } else { Some(node.high.clone()) };
    let from = if node.low.is_empty() && first > 0 { vec![first] } else { node.low.clone() };
    (from, end)
}

/// The first key that does not begin with a byte, nor with one before it.
fn after(first: u8) -> Option<Vec<u8>> {
    first.checked_add(1).map(|next| vec![next])
}

fn unreadable() -> StoreError {
    damaged("a page of the database is not readable")
}

/// The body of a message of a page.
fn body(files: &Files, page: u64, pointer: &Pointer) -> Result<Vec<u8>, StoreError> {
    /// Most messages take no more, with their heads.
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

/// A node with the changes that were made to it.
fn whole_node(files: &Files, page: u64, base: &Pointer, links: &[Pointer]) -> Result<Node, StoreError> {
    let mut found = node(&body(files, page, base)?).ok_or_else(unreadable)?;
    for link in links {
        found.change(&body(files, page, link)?).ok_or_else(unreadable)?;
    }
    Ok(found)
}

impl RawTree {
    /// The value that the files have.
    fn get_stored(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some((from, leaf)) = self.leaves.range(..=key.to_vec()).next_back() else { return Ok(None) };
        self.with_leaf(from, leaf, |pairs| {
            let at = pairs.binary_search_by(|(known, _)| known.as_slice().cmp(key)).ok()?;
            Some(pairs[at].1.clone())
        })
    }

    /// Visits the keys with a prefix that the files have, in order.
    fn scan_stored(&self, prefix: &[u8], first: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        let begin = self.leaves.range(..=first.to_vec()).next_back().map_or(first, |(from, _)| from);
        for (from, leaf) in self.leaves.range(begin.to_vec()..) {
            if from.as_slice() > prefix && !from.starts_with(prefix) {
                break;
            }
            // The function may read this store as well.
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
