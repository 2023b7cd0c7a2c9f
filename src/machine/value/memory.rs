//! The account of the memory that values take, and a drop without deep recursion.

use std::cell::{Cell, RefCell};

use super::Value;

thread_local! {
    static MEMORY: Cell<usize> = const { Cell::new(0) };
    static DROPS: Cell<u32> = const { Cell::new(0) };
    static LATER: RefCell<Vec<Vec<Value>>> = const { RefCell::new(Vec::new()) };
}

/// Returns the approximate number of bytes that this thread's values take.
pub fn memory_used() -> usize {
    MEMORY.with(Cell::get)
}

pub(super) fn charge(bytes: usize) {
    MEMORY.with(|memory| memory.set(memory.get().wrapping_add(bytes)));
}

pub(super) fn discharge(bytes: usize) {
    let _ = MEMORY.try_with(|memory| memory.set(memory.get().saturating_sub(bytes)));
}

/// A charge for memory outside of values. Dropping the charge discharges the bytes.
#[derive(Debug, Default)]
pub struct Charge(usize);

impl Charge {
    pub fn new(bytes: usize) -> Charge {
        charge(bytes);
        Charge(bytes)
    }

    /// Sets the number of bytes, and returns the number before.
    pub fn set(&mut self, bytes: usize) -> usize {
        let before = std::mem::replace(&mut self.0, bytes);
        charge(bytes);
        discharge(before);
        before
    }

    pub fn get(&self) -> usize {
        self.0
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        discharge(self.0);
    }
}

/// Drops values with a bounded depth of recursion, whatever they hold.
pub(super) fn drop_values(items: Vec<Value>) {
    const DEPTH: u32 = 100;
    let depth = DROPS.try_with(Cell::get).unwrap_or(0);
    if depth >= DEPTH && LATER.try_with(|later| later.borrow_mut().push(Vec::new())).is_ok() {
        let _ = LATER.try_with(|later| {
            if let Some(last) = later.borrow_mut().last_mut() {
                *last = items;
            }
        });
        return;
    }
    let _ = DROPS.try_with(|drops| drops.set(depth + 1));
    drop(items);
    if depth == 0 {
        while let Some(items) = LATER.try_with(|later| later.borrow_mut().pop()).ok().flatten() {
            drop(items);
        }
    }
    let _ = DROPS.try_with(|drops| drops.set(depth));
}
