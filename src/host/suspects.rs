//! Who was running when the process died.
//!
//! A slice is over in no time. One that takes long may be the one that the process dies of, by the memory that it takes or
//! by whoever ends a process that is deaf. So a thread looks at the slice that runs, and notes in the store's folder whose
//! it is once it takes long. The note goes when the slice is over. What is noted when the next process begins was running
//! when this one died. Whoever was running at three deaths in a row is set aside, and the others go on.

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

/// A slice that takes so long is noted.
const LONG: Duration = Duration::from_millis(250);
/// How often is looked.
const OFTEN: Duration = Duration::from_millis(100);
/// So many deaths are enough.
const DEATHS: u32 = 3;

/// What is in the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Noted {
    /// Whose slice takes long.
    running: Option<String>,
    /// How many processes in a row have died while it ran.
    deaths: BTreeMap<String, u32>,
}

impl Noted {
    fn read(path: &Path) -> Noted {
        // What can't be read says nothing of anybody.
        fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// It need not be durable: what is noted matters when the process dies, and not when the machine does.
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

/// Whose slice it is.
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
    /// Whoever was running at so many deaths.
    pub set_aside: Vec<String>,
}

struct Shared {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whose slice runs, and since when.
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
            // Without a note nobody is set aside.
            let _ = self.noted.write(path);
        }
    }
}

impl Suspects {
    /// Reads what the process before has noted.
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
        // Where the system gives no thread, nothing is noted.
        let _ = thread::Builder::new().name("watch".into()).spawn(move || watcher.watch());
        Suspects { shared, set_aside }
    }

    /// Somebody is trusted again.
    pub fn forget(&mut self, name: &str) {
        self.set_aside.retain(|known| known != name);
        let mut state = self.shared.state();
        if state.noted.deaths.remove(name).is_some() {
            let _ = state.noted.write(&self.shared.path);
        }
    }

    /// A slice begins.
    pub fn begins(&self, address: Option<Address>) {
        let running = address.map(|address| (Whose::of(address), Instant::now()));
        self.shared.state().running = running;
    }

    /// The slice that runs is over.
    pub fn ends(&self) {
        let mut state = self.shared.state();
        state.running = None;
        if let Some(name) = state.noted.running.take() {
            // It was no death.
            state.noted.deaths.remove(&name);
            let _ = state.noted.write(&self.shared.path);
        }
    }
}

impl Drop for Suspects {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.over = true;
        // A slice in which the process breaks down is one that it dies of.
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

    /// As a process that dies so long after a slice has begun.
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
