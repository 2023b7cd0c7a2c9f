//! The program `durable`.

use std::process::ExitCode;
use std::thread;

/// Trees are at most 2,000 levels deep, and walks over them recurse; this is room enough for all of them.
const STACK_BYTES: usize = 512 << 20;

#[cfg(all(feature = "jemalloc", not(target_env = "msvc")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let work = thread::Builder::new().name("main".into()).stack_size(STACK_BYTES).spawn(durable::cli::main);
    match work.map(thread::JoinHandle::join) {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(_)) => {
            eprintln!("Error: durable itself broke down; what was acknowledged is in the store");
            ExitCode::from(durable::cli::INTERNAL)
        }
        Err(error) => {
            eprintln!("Error: the system gives no thread: {error}");
            ExitCode::from(durable::cli::INTERNAL)
        }
    }
}
