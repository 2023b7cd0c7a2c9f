//! Guests: runs of scripts here whose output appears in other processes.
//!
//! A `durable run` that finds the store in use hands its script to this process and becomes a
//! *guest*. It shows the lines of the script's tree, reads the input and learns of the end. The
//! loop has a [`Guests`], and the threads of clients share its [`GuestDesk`].
//!
//! Invariant: a line counts as out when the guest has confirmed it. Lines that a guest has not
//! confirmed when it goes appear here instead. A slow or silent guest delays its own script alone,
//! and takes a limited part of the memory.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::engine::Line;

use super::outgoing::Writing;
use super::{EffectResult, Ended};

/// The most bytes that wait for one guest.
const MAX_WAITING: usize = 64 << 20;
/// The size in bytes after which a page for a guest is complete.
const PAGE: usize = 1 << 20;

/// Something that a guest shows or does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Shown {
    /// Write a line.
    Line(Line),
    /// Read a line of input, and send it with this ticket.
    Input { ticket: u64, prompt: String },
    /// The script's instance has ended; if it can't go on, for this reason.
    Ended { why: Option<String> },
    /// Leave, since somebody interrupted the guest.
    Interrupted,
    /// Leave: the lines come faster than the guest confirms them.
    TooSlow,
}

impl Shown {
    fn size(&self) -> usize {
        let text = match self {
            Shown::Line(Line::Print(text)) => text.len(),
            Shown::Line(Line::Log { level, text }) => level.len() + text.len(),
            Shown::Input { prompt, .. } => prompt.len(),
            _ => 0,
        };
        text + 64
    }
}

/// A message of a guest to the loop. Each names the guest.
pub(crate) enum FromGuest {
    /// The guest has shown this many more items.
    Confirms { guest: String, count: usize },
    /// A line of input, null at its end, or an error.
    Input { guest: String, ticket: u64, line: EffectResult },
    /// The connection of the guest has ended.
    Gone { guest: String },
}

/// What waits for the guests. Clones share it.
#[derive(Clone, Default)]
pub struct GuestDesk {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    seats: Mutex<HashMap<String, Seat>>,
    changed: Condvar,
    is_over: AtomicBool,
}

/// The items that wait for a guest, and the number of those before them.
#[derive(Default)]
struct Seat {
    waiting: VecDeque<Shown>,
    before: u64,
    bytes: usize,
}

impl GuestDesk {
    fn seats(&self) -> MutexGuard<'_, HashMap<String, Seat>> {
        self.shared.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note that a guest has shown `seen` items in all. Returns the number of those that it
    /// had not confirmed before.
    pub fn confirm(&self, guest: &str, seen: u64) -> usize {
        let mut seats = self.seats();
        let Some(seat) = seats.get_mut(guest) else { return 0 };
        let count = (seen.saturating_sub(seat.before) as usize).min(seat.waiting.len());
        for item in seat.waiting.drain(..count) {
            seat.bytes -= item.size();
        }
        seat.before += count as u64;
        count
    }

    /// Waits for items for a guest, and returns a page of them, which is empty after `patience`.
    /// `None` means that there is no such guest.
    pub fn next(&self, guest: &str, patience: Duration) -> Result<Option<Vec<Shown>>, Ended> {
        let until = Instant::now() + patience;
        let mut seats = self.seats();
        loop {
            if self.shared.is_over.load(Ordering::SeqCst) {
                return Err(Ended);
            }
            let Some(seat) = seats.get(guest) else { return Ok(None) };
            let left = until.saturating_duration_since(Instant::now());
            if !seat.waiting.is_empty() || left.is_zero() {
                let mut bytes = 0;
                let fits = |item: &&Shown| {
                    let is_first = bytes == 0;
                    bytes += item.size();
                    is_first || bytes <= PAGE
                };
                return Ok(Some(seat.waiting.iter().take_while(fits).cloned().collect()));
            }
            seats = self.shared.changed.wait_timeout(seats, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Asks a guest to leave.
    pub fn interrupt(&self, guest: &str) {
        if let Some(seat) = self.seats().get_mut(guest) {
            seat.add(Shown::Interrupted);
        }
        self.shared.changed.notify_all();
    }

    /// Ends all waits, since the host ends.
    pub(super) fn end(&self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.shared.changed.notify_all();
    }

    fn enter(&self, guest: &str) {
        self.seats().insert(guest.to_string(), Seat::default());
    }

    /// Adds an item for a guest. Returns whether too much waits for it.
    fn add(&self, guest: &str, item: Shown) -> bool {
        let mut seats = self.seats();
        let Some(seat) = seats.get_mut(guest) else { return false };
        seat.add(item);
        let is_too_much = seat.bytes > MAX_WAITING;
        self.shared.changed.notify_all();
        is_too_much
    }

    /// Removes and returns everything that waits for a guest, which gets `last` instead.
    fn take(&self, guest: &str, last: Option<Shown>) -> Vec<Shown> {
        let mut seats = self.seats();
        let Some(mut seat) = seats.remove(guest) else { return Vec::new() };
        let taken = seat.waiting.drain(..).collect();
        if let Some(last) = last {
            seat.bytes = 0;
            seat.add(last);
            seats.insert(guest.to_string(), seat);
        }
        self.shared.changed.notify_all();
        taken
    }
}

impl Seat {
    fn add(&mut self, item: Shown) {
        self.bytes += item.size();
        self.waiting.push_back(item);
    }
}

/// The guests, as the loop knows them.
#[derive(Default)]
pub(super) struct Guests {
    desk: GuestDesk,
    by_root: HashMap<String, Guest>,
}

struct Guest {
    name: String,
    /// For each item that the guest has not confirmed, the party that waits for it.
    writings: VecDeque<Option<Writing>>,
    /// The prompts of the reads of input under way, by ticket.
    inputs: HashMap<u64, String>,
    /// Lines that were read for effects that were broken off meanwhile.
    spare: VecDeque<EffectResult>,
}

/// What a guest leaves when it goes.
#[derive(Default)]
pub(super) struct Left {
    /// The parties that waited for lines that it has shown.
    pub(super) shown: Vec<Writing>,
    /// The lines that it has not shown, with the parties that wait for them.
    pub(super) lines: Vec<(Writing, Line)>,
    /// The reads of input that it has not answered: their tickets and prompts.
    pub(super) inputs: Vec<(u64, String)>,
}

impl Guests {
    /// Returns the desk, for the threads of clients.
    pub(super) fn desk(&self) -> GuestDesk {
        self.desk.clone()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_root.is_empty()
    }

    /// Lets a guest show the output of a root, unless another one does. Returns whether it does.
    pub(super) fn enter(&mut self, guest: &str, root: &str) -> bool {
        if self.by_root.contains_key(root) {
            return false;
        }
        self.desk.enter(guest);
        let guest = Guest {
            name: guest.to_string(),
            writings: VecDeque::new(),
            inputs: HashMap::new(),
            spare: VecDeque::new(),
        };
        self.by_root.insert(root.to_string(), guest);
        true
    }

    /// Returns whether a guest shows the output of a root.
    pub(super) fn has(&self, root: &str) -> bool {
        self.by_root.contains_key(root)
    }

    /// Gives a line to the guest of a root. Returns what is to appear here instead, if too much
    /// waits for the guest.
    pub(super) fn show(&mut self, root: &str, writing: Writing, line: Line) -> Option<Left> {
        let guest = self.by_root.get_mut(root)?;
        guest.writings.push_back(Some(writing));
        let is_too_much = self.desk.add(&guest.name, Shown::Line(line));
        is_too_much.then(|| self.leave(root, Some(Shown::TooSlow)))
    }

    /// Has the guest of a root read a line of input. Returns a line that was read before.
    pub(super) fn input(&mut self, root: &str, ticket: u64, prompt: String) -> Option<EffectResult> {
        let guest = self.by_root.get_mut(root)?;
        if let Some(line) = guest.spare.pop_front() {
            return Some(line);
        }
        guest.inputs.insert(ticket, prompt.clone());
        guest.writings.push_back(None);
        self.desk.add(&guest.name, Shown::Input { ticket, prompt });
        None
    }

    /// Tells the guest of a root that the root has ended, or why it can't go on. Returns whether
    /// there is a guest.
    pub(super) fn end(&mut self, root: &str, why: Option<String>) -> bool {
        let Some(guest) = self.by_root.get_mut(root) else { return false };
        guest.writings.push_back(None);
        self.desk.add(&guest.name, Shown::Ended { why });
        true
    }

    fn root_of(&self, guest: &str) -> Option<String> {
        let found = self.by_root.iter().find(|(_, known)| known.name == guest);
        found.map(|(root, _)| root.clone())
    }

    /// Removes and returns the parties that waited for items that a guest has shown.
    pub(super) fn confirmed(&mut self, guest: &str, count: usize) -> Vec<Writing> {
        let root = self.root_of(guest);
        let Some(guest) = root.and_then(|root| self.by_root.get_mut(&root)) else { return Vec::new() };
        let count = count.min(guest.writings.len());
        guest.writings.drain(..count).flatten().collect()
    }

    /// Takes a line of input that a guest has read.
    pub(super) fn has_read(&mut self, guest: &str, ticket: u64) {
        let root = self.root_of(guest);
        if let Some(guest) = root.and_then(|root| self.by_root.get_mut(&root)) {
            guest.inputs.remove(&ticket);
        }
    }

    /// Keeps a line of input whose effect was broken off, for the next read of that guest.
    pub(super) fn keep(&mut self, guest: &str, line: EffectResult) {
        let root = self.root_of(guest);
        if let Some(guest) = root.and_then(|root| self.by_root.get_mut(&root)) {
            guest.spare.push_back(line);
        }
    }

    /// Removes a guest whose connection has ended. Returns what it leaves.
    pub(super) fn gone(&mut self, guest: &str) -> Left {
        match self.root_of(guest) {
            Some(root) => self.leave(&root, None),
            // A guest that was too slow has left before.
            None => {
                self.desk.take(guest, None);
                Left::default()
            }
        }
    }

    fn leave(&mut self, root: &str, last: Option<Shown>) -> Left {
        let Some(guest) = self.by_root.remove(root) else { return Left::default() };
        let mut waiting = self.desk.take(&guest.name, last);
        waiting.retain(|item| *item != Shown::Interrupted);
        let mut writings = guest.writings;
        // The loop has not heard yet of what was confirmed last.
        let confirmed = writings.len().saturating_sub(waiting.len());
        let shown = writings.drain(..confirmed).flatten().collect();
        let mut lines = Vec::new();
        for item in writings.into_iter().zip(waiting) {
            if let (Some(writing), Shown::Line(line)) = item {
                lines.push((writing, line));
            }
        }
        Left { shown, lines, inputs: guest.inputs.into_iter().collect() }
    }
}
