//! The memory that a call takes, by the counting allocator of the targets.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// The bytes that are allocated now, and the peak since the last call of `within` began.
    static TAKEN: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(bytes: isize) {
    // A thread that is ending no longer counts.
    let _ = TAKEN.try_with(|taken| {
        let (now, most) = taken.get();
        taken.set((now + bytes, most.max(now + bytes)));
    });
}

/// The system's allocator with a count of each thread's bytes.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: each call goes to the system's allocator unchanged; the count is kept separately.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the same.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.cast_signed() - layout.size().cast_signed());
        // SAFETY: the same.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Calls a function, and checks that it takes at most `most` bytes more than are allocated now.
pub fn within<T>(most: usize, call: impl FnOnce() -> T) -> T {
    let (before, _) = TAKEN.get();
    TAKEN.set((before, before));
    let result = call();
    let took = TAKEN.get().1 - before;
    assert!(took <= most.cast_signed(), "it took {took} bytes, and {most} at most were to be");
    result
}
