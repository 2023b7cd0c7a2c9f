//! Resident code: the parts of this program's file that are in memory because they were executed.
//!
//! For each page that is executed, the kernel maps sixteen pages of the file and leaves them
//! mapped. A later phase of a command needs little of the code of an earlier one: the engine does
//! not need the parser, and a running store does not need the code that opened it. The code of each
//! phase is spread all over a program of this size. So the code is released between phases, which
//! saves a quarter of a small program's memory. Released code that is executed again is mapped
//! again from the page cache.
//!
//! This is the only module with `unsafe` code. The program's `main` has two `unsafe` attributes:
//! for the allocator's settings, and for `pow`.

/// Releases the code that was executed so far, that of the program and of its libraries, on Linux.
/// Does nothing in debug builds, because a debugger's breakpoints are in such pages.
pub fn begin_phase() {
    #[cfg(target_os = "linux")]
    if !cfg!(debug_assertions) {
        code::let_go();
    }
}

/// Makes the threads of the process share one arena of the system's allocator, if that is glibc's.
/// This program has its own allocator, so almost nothing is allocated there. But an arena takes 64
/// MiB of addresses for each thread, which would leave nothing for the database under a limit of
/// addresses (`ulimit -v`).
pub fn share_arena() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: The call sets a number of the allocator. It happens before there is a second thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1)
    };
}

#[cfg(target_os = "linux")]
mod code {
    use std::ptr;
    use std::slice;

    const PAGE: usize = 4096;

    /// Releases the executable pages of all loaded objects.
    pub fn let_go() {
        // SAFETY: The system's linker calls `each` with the description of a loaded object, which
        // is valid during the call.
        unsafe { libc::dl_iterate_phdr(Some(each), ptr::null_mut()) };
    }

    /// Releases the executable segments of a loaded object. Returns 0, so that the next object
    /// follows.
    ///
    /// # Safety
    /// `object` must describe a loaded object, which must stay loaded during the call.
    unsafe extern "C" fn each(
        object: *mut libc::dl_phdr_info,
        _size: libc::size_t,
        _data: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: The caller guarantees that `object` is valid.
        let object = unsafe { &*object };
        if object.dlpi_phdr.is_null() {
            return 0;
        }
        // SAFETY: The program headers of a loaded object are in memory, and `dlpi_phnum` is their
        // number.
        let segments = unsafe { slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()) };
        for segment in segments {
            let is_code = segment.p_flags & libc::PF_X != 0 && segment.p_flags & libc::PF_W == 0;
            if segment.p_type != libc::PT_LOAD || !is_code {
                continue;
            }
            let from = (object.dlpi_addr + segment.p_vaddr) as usize;
            let to = from + segment.p_memsz as usize;
            let from = from & !(PAGE - 1);
            // SAFETY: The segment is mapped from its file and not writable, so it was never
            // written. A released page has the same contents when it is touched again, also by a
            // thread that is executing it. If the kernel refuses, as with locked memory or pages of
            // another size, everything stays as it is.
            unsafe { libc::madvise(from as *mut libc::c_void, to - from, libc::MADV_DONTNEED) };
        }
        0
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    /// Returns the number of pages in memory that are mapped from files.
    fn resident() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        statm.split(' ').nth(2).and_then(|pages| pages.parse().ok()).unwrap_or(0)
    }

    #[test]
    fn code_that_was_let_go_of_runs_on() {
        let stop = AtomicBool::new(false);
        let work = || {
            let mut rounds = 0u64;
            while !stop.load(Ordering::Relaxed) {
                let mut words: Vec<String> = (0..50).rev().map(|n| format!("{n:02}")).collect();
                words.sort();
                assert_eq!(words.concat().parse::<f64>().map(|x| x > 1e90), Ok(true));
                rounds += 1;
            }
            rounds
        };
        thread::scope(|scope| {
            let workers = [scope.spawn(work), scope.spawn(work)];
            let mut fell = false;
            for _ in 0..300 {
                let before = resident();
                super::code::let_go();
                fell |= resident() < before;
            }
            stop.store(true, Ordering::Relaxed);
            assert!(fell, "nothing was let go of");
            for worker in workers {
                assert!(worker.join().is_ok_and(|rounds| rounds > 0));
            }
        });
    }
}
