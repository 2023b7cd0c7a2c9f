//! The threads for I/O, and what the work on them may take of the system.
//!
//! Invariant: work that opens files waits until the process may have so many more of them open.

use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use crate::machine::ErrorData;

use super::groups::Groups;

/// Open files that are asked of the system.
const MAX_FILES: u64 = 65_536;

/// The threads for I/O, started when first needed, and the programs that they wait for. What is still under way when this
/// goes is abandoned; it is done again when its instance is resumed.
pub(super) struct Threads {
    runtime: Option<Runtime>,
    pub(super) programs: Groups,
    /// How many requests and programs may have files open at once; others wait for their turn.
    open_files: Arc<Semaphore>,
}

impl Default for Threads {
    fn default() -> Threads {
        Threads { runtime: None, programs: Groups::default(), open_files: Arc::new(Semaphore::new(0)) }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.programs.end_all();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Threads {
    /// Lets work go on beside, once it may open so many files. An error says why there is no thread for it.
    pub(super) fn spawn(
        &mut self,
        files: u32,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Result<AbortHandle, ErrorData> {
        let open_files = self.open_files.clone();
        let task = self.runtime()?.spawn(async move {
            // The semaphore is never closed.
            let _turn = open_files.acquire_many(files).await;
            work.await;
        });
        Ok(task.abort_handle())
    }

    fn runtime(&mut self) -> Result<&Runtime, ErrorData> {
        if self.runtime.is_none() {
            let built = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                // They look up names.
                .max_blocking_threads(16)
                .thread_name("io")
                .enable_all()
                .build();
            self.runtime = Some(built.map_err(|error| no_threads(&error.to_string()))?);
            // What the store and the terminal need is left out.
            let limit = rlimit::increase_nofile_limit(MAX_FILES).unwrap_or(256);
            self.open_files.add_permits(usize::try_from(limit.saturating_sub(64).max(32)).unwrap_or(256));
        }
        self.runtime.as_ref().ok_or_else(|| no_threads("there are none"))
    }
}

/// The error of an effect that gets no thread.
pub(super) fn no_threads(reason: &str) -> ErrorData {
    ErrorData::new("io_error", format!("the system gives no threads for I/O: {reason}"))
}
