//! The threads for I/O, and the limit on the files that the work on them may open.
//!
//! Invariant: work that opens files begins only when the process may open that many more.

use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use crate::machine::ErrorData;

use super::groups::Groups;

/// The number of open files that the host asks the system for.
const MAX_FILES: u64 = 65_536;

/// The threads for I/O, which start when they are first needed, and the programs that they wait
/// for. Dropping this abandons all work in progress. The next process does that work again.
pub(super) struct Threads {
    runtime: Option<Runtime>,
    pub(super) programs: Groups,
    /// The number of files that requests and programs may still open.
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
    /// Runs work on a thread, once it may open so many files. An error says why there is no thread.
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
                // These threads look up names.
                .max_blocking_threads(16)
                .thread_name("io")
                .enable_all()
                .build();
            self.runtime = Some(built.map_err(|error| no_threads(&error.to_string()))?);
            // The store and the terminal keep some files for themselves.
            let limit = rlimit::increase_nofile_limit(MAX_FILES).unwrap_or(256);
            self.open_files.add_permits(usize::try_from(limit.saturating_sub(64).max(32)).unwrap_or(256));
        }
        self.runtime.as_ref().ok_or_else(|| no_threads("there are none"))
    }
}

/// Returns the error of an effect that gets no thread.
pub(super) fn no_threads(reason: &str) -> ErrorData {
    ErrorData::new("io_error", format!("the system gives no threads for I/O: {reason}"))
}
