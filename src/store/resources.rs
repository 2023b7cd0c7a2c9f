//! The resources that sled takes from the system without checking for them: threads and memory.
//!
//! sled waits forever for a thread that it did not get, and writes to memory that it did not get.
//! So both are checked before sled is first opened.

use crate::kv::{Cause, StoreError};

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;

/// The number of threads that sled starts at once, and one to spare.
const THREADS: usize = 8;
/// The bytes that the process must still be able to allocate beside those threads: for sled's
/// cache, its buffers, the table of its pages, and the data being written.
const MEMORY_BYTES: u64 = 64 << 20;

/// Checks that the system has the threads and the memory that sled needs.
pub(super) fn check() -> Result<(), StoreError> {
    static ARE_THERE: AtomicBool = AtomicBool::new(false);
    if ARE_THERE.load(Ordering::Relaxed) {
        return Ok(());
    }
    // A process without memory can't start threads either, so memory is checked before and after.
    check_memory()?;
    check_threads()?;
    check_memory()?;
    ARE_THERE.store(true, Ordering::Relaxed);
    Ok(())
}

/// Starts as many threads as sled will, all at once.
fn check_threads() -> Result<(), StoreError> {
    let mut started = Vec::new();
    let mut result = Ok(());
    for _ in 0..THREADS {
        let (end, wait) = channel::<()>();
        match thread::Builder::new().name("check".into()).spawn(move || {
            let _ = wait.recv();
        }) {
            Ok(handle) => started.push((end, handle)),
            Err(error) => {
                let reason = crate::os::reason(&error);
                let what =
                    format!("it needs {THREADS} threads, and the system gives {}: {reason}", started.len());
                result = Err(StoreError::Transient { what, source: Some(Cause::new(error)) });
                break;
            }
        }
    }
    for (end, handle) in started {
        drop(end);
        // The thread does nothing that can fail.
        let _ = handle.join();
    }
    result
}

/// Checks the free part of the memory that the process may have, if there is a limit.
fn check_memory() -> Result<(), StoreError> {
    let Some(free) = free_memory().filter(|free| *free < MEMORY_BYTES) else { return Ok(()) };
    let (needed, free) = (MEMORY_BYTES >> 20, free >> 20);
    let what =
        format!("it needs {needed} MiB of memory, and {free} MiB are left of what the process may have");
    Err(StoreError::Transient { what, source: None })
}

/// Returns the bytes that the process may still allocate, or `None` if there is no known limit.
fn free_memory() -> Option<u64> {
    let limit = rlimit::Resource::AS.get_soft().ok().filter(|limit| *limit < rlimit::INFINITY)?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let taken = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    let taken: u64 = taken.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(limit.saturating_sub(taken * 1024))
}
