//! The program `durable`.

use std::process::ExitCode;
use std::thread;

/// The stack of the main thread in bytes. Trees are at most 2,000 levels deep, and every walk that
/// recurses over them fits.
const STACK_BYTES: usize = 512 << 20;

#[cfg(all(feature = "jemalloc", not(target_env = "msvc")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The settings of the allocator, which reads them before `main`. An allocation of more than half a
/// megabyte goes back to the system when it is freed, so a growing list does not leave its earlier
/// sizes behind. Two arenas are enough, since the engine's thread makes nearly all allocations.
#[cfg(all(feature = "jemalloc", not(target_env = "msvc")))]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATION: &[u8] = b"oversize_threshold:524288,narenas:2\0";

/// Returns a power of floats, for tokio's statistics. Nothing else would need the system's
/// mathematics library, which takes a third of a megabyte and slows the start.
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
