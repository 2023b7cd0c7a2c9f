//! The order of turns: roots take turns, and within a root the order of arrival counts.
//!
//! So no instance or entity waits longer because another root has begun many or has sent many
//! messages. Between two turns of a root, each other root that wants a turn has one.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use super::fault::{self, Fault};

pub(super) struct Turns<T> {
    /// The instances and entities that want a turn, by their roots.
    of: HashMap<Arc<str>, VecDeque<T>>,
    /// The roots that want a turn, the next one first.
    roots: VecDeque<Arc<str>>,
    count: usize,
}

impl<T> Default for Turns<T> {
    fn default() -> Turns<T> {
        Turns { of: HashMap::new(), roots: VecDeque::new(), count: 0 }
    }
}

impl<T> Turns<T> {
    /// Queues something for a turn.
    pub fn push(&mut self, root: &Arc<str>, who: T) {
        self.count += 1;
        if fault::is_in(Fault::OneRowForAll) {
            return self.join(&Arc::from(""), who);
        }
        self.join(root, who);
    }

    fn join(&mut self, root: &Arc<str>, who: T) {
        match self.of.get_mut(root) {
            Some(row) => row.push_back(who),
            None => {
                self.of.insert(root.clone(), VecDeque::from([who]));
                self.roots.push_back(root.clone());
            }
        }
    }

    /// Takes the next in turn.
    pub fn pop(&mut self) -> Option<T> {
        let root = self.roots.pop_front()?;
        let row = self.of.get_mut(&root)?;
        let who = row.pop_front();
        match row.is_empty() {
            true => {
                self.of.remove(&root);
            }
            false => self.roots.push_back(root),
        }
        self.count -= usize::from(who.is_some());
        who
    }

    /// Returns those that want a turn, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let nth = move |nth| self.roots.iter().filter_map(move |root| self.of.get(root)?.get(nth));
        (0..self.count).flat_map(nth)
    }

    pub fn first(&self) -> Option<&T> {
        self.of.get(self.roots.front()?)?.front()
    }

    /// Lets another one be the next in turn; the number decides which one.
    pub fn prefer(&mut self, nth: usize) {
        if self.roots.is_empty() {
            return;
        }
        let roots = self.roots.len();
        self.roots.swap(0, nth % roots);
        if let Some(row) = self.roots.front().and_then(|root| self.of.get_mut(root)) {
            let within = nth / roots % row.len();
            row.swap(0, within);
        }
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}
