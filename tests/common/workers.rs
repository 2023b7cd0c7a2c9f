//! Workers of a cluster as processes, and a bank that they run.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::Value as Json;

use super::place::{Place, await_that, err, out};
use super::postgres::{Server, server};

pub const BANK: &str = r#"
entity Account {
  state { balance: 100, moves: 0 }
  on take(n) {
    if state.balance < n { throw "too little" }
    state.balance -= n
    state.moves += 1
  }
  on put(n) {
    state.balance += n
    state.moves += 1
  }
  on balance() { state.balance }
}

orchestration transfer(from, to, n) {
  lock Account(from), Account(to) {
    Account(from).take(n)
    sleep(10ms)
    Account(to).put(n)
  }
  "moved"
}

orchestration approval() { receive("approved") }

orchestration fan(n) {
  all((0..n).map(fn k => async child(k))).sum()
}

orchestration child(k) {
  sleep(5ms)
  k
}
"#;

/// A cluster in a new database, and a folder with `p.df`.
pub struct World {
    pub server: &'static Server,
    pub place: Place,
    pub database: String,
    pub url: String,
}

/// A worker's process, which is killed when the test fails.
pub struct Worker(pub Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Worker {
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id() as i32);
        signal::kill(pid, signal).expect("a signal");
    }

    /// Asks the worker to hand over, and waits for its end.
    pub fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.0.wait().expect("it ends");
        assert!(status.success(), "{status}");
    }

    /// Waits for the end of a worker that ends by itself.
    pub fn ends(mut self) -> std::process::ExitStatus {
        self.0.wait().expect("it ends")
    }

    pub fn kill(mut self) {
        self.0.kill().expect("a kill");
        self.0.wait().expect("it ends");
    }
}

pub fn world(text: &str, partitions: u32) -> Option<World> {
    server().map(|server| World::of(text, server, partitions))
}

impl World {
    pub fn of(text: &str, server: &'static Server, partitions: u32) -> World {
        let database = server.database();
        let url = server.url(&database);
        let place = Place::new(text);
        place.ok(&["store", "init", &url, "--partitions", &partitions.to_string()]);
        World { server, place, database, url }
    }

    pub fn worker(&self) -> Worker {
        self.worker_with(&["--lease", "2s"])
    }

    pub fn worker_with(&self, more: &[&str]) -> Worker {
        let log = File::options().create(true).append(true).open(self.place.path().join("workers.log"));
        let mut command = self.command(&[&["serve"], more].concat());
        Worker(command.stderr(log.expect("a log")).stdout(Stdio::null()).spawn().expect("a worker"))
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.place.command(args);
        command.args(["--store", &self.url]).env("HOME", self.place.path()).env_remove("XDG_STATE_HOME");
        command
    }

    /// Runs a command that must succeed, and returns its output.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.command(args).output().expect("it runs");
        assert!(output.status.success(), "{args:?}\n{}{}{}", out(&output), err(&output), self.log());
        out(&output).trim_end().to_string()
    }

    pub fn log(&self) -> String {
        self.place.text("workers.log")
    }

    pub fn cluster(&self) -> Json {
        serde_json::from_str(&self.ok(&["cluster", "--json"])).expect("JSON")
    }

    /// Waits until each partition has an owner that is alive.
    pub fn await_owners(&self, workers: usize) {
        await_that(|| {
            let view = self.cluster();
            let list = |name: &str| view[name].as_array().cloned().unwrap_or_default();
            let alive: Vec<Json> =
                list("workers").into_iter().filter(|worker| worker["alive"] == true).collect();
            let is_owned = |part: &Json| alive.iter().any(|worker| worker["id"] == part["owner"]);
            let (most, least) = (
                alive.iter().filter_map(|worker| worker["partitions"].as_u64()).max(),
                alive.iter().filter_map(|worker| worker["partitions"].as_u64()).min(),
            );
            alive.len() == workers
                && list("partitions").iter().all(is_owned)
                && most.zip(least).is_some_and(|(most, least)| most - least <= 1)
        });
    }
}

/// The sum of all balances, the number of moves, and the entities that are held.
pub fn books(world: &World) -> (i64, i64, String) {
    let (mut balance, mut moves) = (0, 0);
    for line in world.ok(&["entities", "--json"]).lines() {
        let entity: Json = serde_json::from_str(line).expect("JSON");
        if entity["state"]["balance"].is_null() {
            continue;
        }
        balance += entity["state"]["balance"].as_i64().unwrap_or(0) - 100;
        moves += entity["state"]["moves"].as_i64().unwrap_or(0);
    }
    (balance, moves, world.ok(&["locks", "--json"]))
}
