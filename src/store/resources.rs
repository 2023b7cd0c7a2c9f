//! What sled takes from the system without asking whether it is there: threads and memory.
//!
//! It waits for ever for a thread that it did not get, and writes to memory that it did not get. So both are tried before it
//! is opened for the first time.

use crate::kv::StoreError;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;

/// The threads that sled starts at once, and one to spare.
const THREADS: usize = 8;
/// What must be free of the process's memory once those threads were there, in bytes: sled's cache, its buffers, the table of
/// its pages, and what is written meanwhile.
const MEMORY_BYTES: u64 = 64 << 20;

/// Checks that the system gives the threads and the memory that sled needs.
pub(super) fn check() -> Result<(), StoreError> {
    static ARE_THERE: AtomicBool = AtomicBool::new(false);
    if ARE_THERE.load(Ordering::Relaxed) {
        return Ok(());
    }
    // A process that is out of memory can't start threads either, so this is looked at before and after.
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
                result = Err(StoreError::Scarce { what });
                break;
            }
        }
    }
    for (end, handle) in started {
        drop(end);
        // It does nothing that can fail.
        let _ = handle.join();
    }
    result
}

/// Looks at what is free of the memory that the process may have, where there is a limit.
fn check_memory() -> Result<(), StoreError> {
    let Some(free) = free_memory().filter(|free| *free < MEMORY_BYTES) else { return Ok(()) };
    let (needed, free) = (MEMORY_BYTES >> 20, free >> 20);
    let what =
        format!("it needs {needed} MiB of memory, and {free} MiB are left of what the process may have");
    Err(StoreError::Scarce { what })
}

/// The bytes that the process may still take; none when there is no limit, or none that is known.
fn free_memory() -> Option<u64> {
    let limit = rlimit::Resource::AS.get_soft().ok().filter(|limit| *limit < rlimit::INFINITY)?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let taken = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    let taken: u64 = taken.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(limit.saturating_sub(taken * 1024))
}
