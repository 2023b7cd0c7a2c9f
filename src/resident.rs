//! Code that is resident: what of this program's file lies in its memory because it was executed.
//!
//! The kernel maps sixteen pages of a file around each that is executed, and leaves them mapped. What a command executes
//! to begin is of no use to it later: the parser's code to the engine, or that which opens a store to what runs on it; and what
//! is used of a program of this size lies all over it. So between phases the code is let go of: a quarter of a small
//! program's memory. What is executed again is mapped again from the page cache.
//!
//! This is the only module with `unsafe` code. The program's `main` has two attributes besides, by which it gives the
//! allocator its settings and itself a `pow`.

/// Lets go of the code that was executed up to now, the program's own and the libraries', where the system is Linux. Not in
/// builds for debugging: a debugger's breakpoints lie in such pages.
pub fn begin_phase() {
    #[cfg(target_os = "linux")]
    if !cfg!(debug_assertions) {
        code::let_go();
    }
}

/// Lets the threads of the process share one arena of the system's allocator, where that is glibc's. This program's own
/// allocator is another, so next to nothing is allocated there; but each thread would take 64 MiB of addresses for it, and
/// under a limit of those (`ulimit -v`) nothing would be left for the database.
pub fn share_arena() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it sets a number of the allocator. It is called before there is a second thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1)
    };
}

#[cfg(target_os = "linux")]
mod code {
    use std::ptr;
    use std::slice;

    const PAGE: usize = 4096;

    /// Lets go of the executable pages of all loaded objects.
    pub fn let_go() {
        // SAFETY: the system's linker calls `each` with the description of a loaded object, for as long as the call takes.
        unsafe { libc::dl_iterate_phdr(Some(each), ptr::null_mut()) };
    }

    /// Lets go of the executable segments of a loaded object. Gives 0, so that the next one follows.
    ///
    /// # Safety
    /// `object` describes an object that is loaded, and stays so during the call.
    unsafe extern "C" fn each(
        object: *mut libc::dl_phdr_info,
        _size: libc::size_t,
        _data: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: it is valid, as said above.
        let object = unsafe { &*object };
        if object.dlpi_phdr.is_null() {
            return 0;
        }
        // SAFETY: the program headers of a loaded object are in memory, as many as it says.
        let segments = unsafe { slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()) };
        for segment in segments {
            let is_code = segment.p_flags & libc::PF_X != 0 && segment.p_flags & libc::PF_W == 0;
            if segment.p_type != libc::PT_LOAD || !is_code {
                continue;
            }
            let from = (object.dlpi_addr + segment.p_vaddr) as usize;
            let to = from + segment.p_memsz as usize;
            let from = from & !(PAGE - 1);
            // SAFETY: the segment is mapped from its file and was never written, since it can't be. So the pages that
            // are let go of come back as they were when they are touched, also by a thread that is in the midst of them. Where
            // the kernel refuses, as it does with locked memory or pages of another size, all stays as it is.
            unsafe { libc::madvise(from as *mut libc::c_void, to - from, libc::MADV_DONTNEED) };
        }
        0
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    /// Pages of files that are mapped and in memory.
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
