//! The instances and entities that were running when the process died.
//!
//! A slice is normally short. A long one may kill the process: it may take too much memory, or a
//! supervisor may kill a process that does not react. So a thread watches the current slice. If the
//! slice takes long, the thread notes its owner in the store's folder. The note is removed when the
//! slice ends. So a note that the next process finds names the owner that was running at the death.
//! An owner that was running at three deaths in a row is set aside, and the others go on.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::engine::Address;
use crate::machine::EntityId;

/// The duration after which a slice is noted.
const LONG: Duration = Duration::from_millis(250);
/// The pause between two checks of the current slice.
const OFTEN: Duration = Duration::from_millis(100);
/// The number of deaths after which an owner is set aside.
const DEATHS: u32 = 3;

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Noted {
    /// The owner of the slice that takes long.
    running: Option<String>,
    /// The number of processes in a row that died while the owner was running.
    deaths: BTreeMap<String, u32>,
}

impl Noted {
    fn read(path: &Path) -> Noted {
        // A file that cannot be read accuses no owner.
        fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Writes the file without a sync. The note matters when the process dies, not when the machine
    /// does.
    fn write(&self, path: &Path) -> io::Result<()> {
        if *self == Noted::default() {
            return match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let new = path.with_extension("new");
        let bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
        fs::write(&new, bytes)?;
        let only_owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&new, only_owner)?;
        fs::rename(&new, path)
    }
}

/// The owner of a slice.
enum Whose {
    Instance(Arc<str>),
    Entity(EntityId),
}

impl Whose {
    fn of(address: Address) -> Whose {
        match address {
            Address::Instance(id) => Whose::Instance(id),
            Address::Entity(entity) => Whose::Entity((*entity).clone()),
        }
    }

    fn name(&self) -> String {
        match self {
            Whose::Instance(id) => id.to_string(),
            Whose::Entity(entity) => entity.to_string(),
        }
    }
}

/// The watch over the slices of a host.
pub(crate) struct Suspects {
    shared: Arc<Shared>,
    /// The owners that were running at too many deaths.
    pub set_aside: Vec<String>,
}

struct Shared {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The owner of the current slice, and the time at which the slice began.
    running: Option<(Whose, Instant)>,
    noted: Noted,
    over: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) {
        loop {
            thread::sleep(OFTEN);
            let mut state = self.state();
            if state.over {
                return;
            }
            state.look(&self.path);
        }
    }
}

impl State {
    fn look(&mut self, path: &Path) {
        let long = self.running.as_ref().filter(|(_, since)| since.elapsed() >= LONG);
        let Some((whose, _)) = long else { return };
        if self.noted.running.is_none() {
            self.noted.running = Some(whose.name());
            // Without a note, no owner is set aside.
            let _ = self.noted.write(path);
        }
    }
}

impl Suspects {
    /// Reads the note of the previous process, and starts the watch.
    pub fn open(folder: &Path) -> Suspects {
        let path = folder.join("suspects");
        let mut noted = Noted::read(&path);
        if let Some(running) = noted.running.take() {
            *noted.deaths.entry(running).or_default() += 1;
            let _ = noted.write(&path);
        }
        let enough = |(name, deaths): (&String, &u32)| (*deaths >= DEATHS).then(|| name.clone());
        let set_aside = noted.deaths.iter().filter_map(enough).collect();
        let state = Mutex::new(State { noted, ..State::default() });
        let shared = Arc::new(Shared { path, state });
        let watcher = shared.clone();
        // If the system gives no thread, nothing is noted.
        let _ = thread::Builder::new().name("watch".into()).spawn(move || watcher.watch());
        Suspects { shared, set_aside }
    }

    /// Clears the suspicion of an owner.
    pub fn forget(&mut self, name: &str) {
        self.set_aside.retain(|known| known != name);
        let mut state = self.shared.state();
        if state.noted.deaths.remove(name).is_some() {
            let _ = state.noted.write(&self.shared.path);
        }
    }

    /// Notes the begin of a slice.
    pub fn begins(&self, address: Option<Address>) {
        let running = address.map(|address| (Whose::of(address), Instant::now()));
        self.shared.state().running = running;
    }

    /// Notes the end of the current slice.
    pub fn ends(&self) {
        let mut state = self.shared.state();
        state.running = None;
        if let Some(name) = state.noted.running.take() {
            // The process survived the slice.
            state.noted.deaths.remove(&name);
            let _ = state.noted.write(&self.shared.path);
        }
    }
}

impl Drop for Suspects {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.over = true;
        // A panic within a slice counts as a death.
        if let (true, Some((whose, _))) = (thread::panicking(), &state.running) {
            state.noted.running = Some(whose.name());
            let _ = state.noted.write(&self.shared.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Whose {
        Whose::Instance(name.into())
    }

    /// Acts like a process that dies this long after a slice has begun.
    fn dies_in(folder: &Path, name: &str, after: Duration) -> Vec<String> {
        let suspects = Suspects::open(folder);
        let known = suspects.set_aside.clone();
        let began = Instant::now().checked_sub(after).expect("a time");
        suspects.shared.state().running = Some((of(name), began));
        suspects.shared.state().look(&suspects.shared.path);
        known
    }

    #[test]
    fn who_was_running_at_three_deaths_in_a_row_is_set_aside() {
        let folder = tempfile::tempdir().expect("a folder");
        for _ in 0..3 {
            assert!(dies_in(folder.path(), "bad", LONG).is_empty());
        }
        assert_eq!(dies_in(folder.path(), "other", LONG), ["bad"]);
        let mut suspects = Suspects::open(folder.path());
        assert_eq!(suspects.set_aside, ["bad"]);
        suspects.forget("bad");
        drop(suspects);
        assert!(Suspects::open(folder.path()).set_aside.is_empty());
    }

    #[test]
    fn short_slices_and_those_that_end_are_no_suspects() {
        let folder = tempfile::tempdir().expect("a folder");
        for _ in 0..5 {
            assert!(dies_in(folder.path(), "honest", Duration::ZERO).is_empty());
        }
        for _ in 0..2 {
            dies_in(folder.path(), "slow", LONG);
        }
        let suspects = Suspects::open(folder.path());
        suspects.shared.state().running = Some((of("slow"), Instant::now() - LONG));
        suspects.shared.state().look(&suspects.shared.path);
        suspects.ends();
        drop(suspects);
        for _ in 0..2 {
            assert!(dies_in(folder.path(), "slow", LONG).is_empty());
        }
        assert!(!folder.path().join("suspects.new").exists());
    }
}
