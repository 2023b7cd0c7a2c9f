//! Process groups. Each program of `exec` leads one, so that it can be ended with everything that
//! it started.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// The time between the request to end, SIGTERM, and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// The pause between two looks at the groups that were asked to end.
const PAUSE: Duration = Duration::from_millis(10);

/// The process groups of a host.
#[derive(Clone, Default)]
pub struct Groups(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The active groups by their leaders. A group that was asked to end has the time of its
    /// SIGKILL.
    groups: BTreeMap<Pid, Option<Instant>>,
    /// Whether a thread watches the groups that were asked to end.
    is_watched: bool,
    /// Whether the host has ended, so that no program may begin.
    is_closed: bool,
}

/// An active process group. Dropping this ends the group.
pub(crate) struct Group {
    leader: Pid,
    groups: Groups,
    has_ended: bool,
}

impl Groups {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers the group of a leader that was just started.
    pub(crate) fn begin(&self, leader: u32) -> Option<Group> {
        let leader = Pid::from_raw(i32::try_from(leader).ok()?);
        let mut state = self.lock();
        if state.is_closed {
            signal(leader, Signal::SIGKILL);
        }
        state.groups.insert(leader, None);
        Some(Group { leader, groups: self.clone(), has_ended: false })
    }

    /// Asks all groups to end, and returns when all have ended or were killed. No group can begin
    /// afterwards.
    pub(crate) fn end_all(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let leaders: Vec<Pid> = state.groups.keys().copied().collect();
        leaders.into_iter().for_each(|leader| state.ask(leader));
        drop(state);
        while !self.look() {
            thread::sleep(PAUSE);
        }
    }

    /// Kills all groups.
    pub fn kill_all(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        for leader in state.groups.keys() {
            signal(*leader, Signal::SIGKILL);
        }
    }

    /// Asks a group to end, and has a thread watch it.
    fn end(&self, leader: Pid) {
        let mut state = self.lock();
        state.ask(leader);
        if state.is_watched || state.is_closed {
            return;
        }
        let groups = self.clone();
        let watch = move || {
            while !groups.look() {
                thread::sleep(PAUSE);
            }
        };
        state.is_watched = thread::Builder::new().name("programs".into()).spawn(watch).is_ok();
        if !state.is_watched {
            // Without a thread, nothing would kill the group after the grace period.
            signal(leader, Signal::SIGKILL);
        }
    }

    /// Checks the groups that were asked to end; returns whether none is left.
    fn look(&self) -> bool {
        let mut state = self.lock();
        let now = Instant::now();
        state.groups.retain(|leader, killed| killed.is_none_or(|killed| !is_over(*leader, killed <= now)));
        let is_done = state.groups.values().all(Option::is_none);
        if is_done {
            state.is_watched = false;
        }
        is_done
    }

    fn has(&self, leader: Pid) -> bool {
        self.lock().groups.contains_key(&leader)
    }
}

impl State {
    fn ask(&mut self, leader: Pid) {
        if let Some(killed @ None) = self.groups.get_mut(&leader) {
            *killed = Some(Instant::now() + GRACE);
            signal(leader, Signal::SIGTERM);
            // A stopped process must continue to end.
            signal(leader, Signal::SIGCONT);
        }
    }
}

impl Group {
    /// Releases the group of a leader that has ended by itself. The processes that it left behind
    /// go on.
    pub(crate) fn leave(mut self) {
        self.has_ended = true;
        self.groups.lock().groups.remove(&self.leader);
    }

    /// Ends the group; returns when it has ended or was killed.
    pub(crate) async fn end(self) {
        let (groups, leader) = (self.groups.clone(), self.leader);
        drop(self);
        while groups.has(leader) {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.has_ended {
            self.groups.end(self.leader);
        }
    }
}

/// Returns whether nothing is left of a group that was asked to end, or kills the group if its time
/// is over.
fn is_over(leader: Pid, had_its_time: bool) -> bool {
    // A leader counts as a process until it is waited for.
    let _ = waitpid(leader, Some(WaitPidFlag::WNOHANG));
    if killpg(leader, None::<Signal>) == Err(Errno::ESRCH) || is_dead(leader).unwrap_or(false) {
        return true;
    }
    if had_its_time {
        signal(leader, Signal::SIGKILL);
    }
    had_its_time
}

/// Returns whether all processes of a group are dead, even if some were not waited for. Orphans go
/// to process 1, which in a container may never wait for them. Returns `None` if the system does
/// not tell.
fn is_dead(leader: Pid) -> Option<bool> {
    for process in fs::read_dir("/proc").ok()? {
        let name = process.ok()?.file_name();
        if !name.as_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        // The process has ended meanwhile.
        let Ok(stat) = fs::read_to_string(Path::new("/proc").join(&name).join("stat")) else { continue };
        // After the name, which may contain any character: state, parent, group.
        let mut fields = stat.rsplit(')').next()?.split_whitespace();
        let (state, group) = (fields.next()?, fields.nth(1)?);
        if group.parse() == Ok(leader.as_raw()) && !matches!(state, "Z" | "X") {
            return Some(false);
        }
    }
    Some(true)
}

/// Sends a signal to a group. A group that is gone needs no signal.
fn signal(leader: Pid, signal: Signal) {
    let _ = killpg(leader, signal);
}
