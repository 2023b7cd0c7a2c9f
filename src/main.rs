//! The program `durable`.

use std::process::ExitCode;
use std::thread;

/// Trees are at most 2,000 levels deep, and walks over them recurse; this is room enough for all of them.
const STACK_BYTES: usize = 512 << 20;

#[cfg(all(feature = "jemalloc", not(target_env = "msvc")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How the allocator works, which it reads before `main`. What is larger than half a megabyte goes back to the system
/// when it is freed, so that a list that grew leaves none of its earlier sizes behind. And two arenas are enough, since nearly
/// all is allocated by the engine's thread.
#[cfg(all(feature = "jemalloc", not(target_env = "msvc")))]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATION: &[u8] = b"oversize_threshold:524288,narenas:2\0";

/// The power of floats, which tokio's statistics take: it is all that the system's library of mathematics would be loaded
/// for, at a third of a megabyte and some of the time of a start.
#[cfg(target_os = "linux")]
#[unsafe(no_mangle)]
pub extern "C" fn pow(x: f64, y: f64) -> f64 {
    libm::pow(x, y)
}

fn main() -> ExitCode {
    durable::resident::share_arena();
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
