//! A cluster on a private PostgreSQL: commits of `pgbench` beside steps of instances, many instances
//! at once, and the time until another worker goes on with the partitions of one that is gone.

#[path = "../../tests/common/postgres.rs"]
#[allow(dead_code)]
mod postgres;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use postgres::Server;

use super::{DURABLE, median, program};

/// The number of steps one after another.
const STEPS: usize = 2_000;
/// The number of instances with five steps each.
const MANY: usize = 1_000;
/// The number of instances that wait.
const PARKED: usize = 100_000;
/// The lease of the workers.
const LEASE: Duration = Duration::from_secs(2);
/// The number of runs of a measurement.
const RUNS: usize = 3;

struct Bench {
    server: Server,
    database: String,
    folder: std::path::PathBuf,
}

struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Bench {
    fn url(&self) -> String {
        self.server.url(&self.database)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(DURABLE);
        command.args(args).args(["--store", &self.url()]).current_dir(&self.folder);
        command.env("HOME", &self.folder).env_remove("XDG_STATE_HOME");
        command
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.command(args).output().expect("durable runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {said}");
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    }

    fn worker(&self) -> Worker {
        let lease = format!("{}s", LEASE.as_secs());
        let mut serve = self.command(&["serve", "--lease", &lease]);
        Worker(serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("durable runs"))
    }

    /// Starts an orchestration and waits for its end.
    fn run(&self, call: &[&str]) -> Duration {
        let began = Instant::now();
        self.ok(&[&["start", "--wait", "clustered.df"], call].concat());
        began.elapsed()
    }

    fn sql(&self, sql: &str) -> String {
        self.server.sql(&self.database, sql)
    }

    /// Returns how many partitions an alive worker owns.
    fn owned(&self) -> u32 {
        let sql = "select count(*) from durable.part p join durable.worker w on w.id = p.owner
            where w.until > clock_timestamp()";
        self.sql(sql).parse().unwrap_or(0)
    }

    fn await_owned(&self, count: u32) {
        while self.owned() < count {
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns the commits a second of `pgbench`, or `None` if it is not installed.
    fn pgbench(&self) -> Option<f64> {
        let script = self.folder.join("commit.sql");
        std::fs::write(&script, "insert into one (v) values ('a row of some forty bytes, as a step has');\n")
            .expect("a file");
        let mut command = self.server.program("pgbench");
        let host = self.server.socket();
        command.args(["-n", "-U", "admin", "-c", "1", "-T", "3", "-f"]).arg(&script);
        command.arg("-h").arg(host.parent()?).args(["-p", &self.server.port.to_string()]).arg(&self.database);
        let output = command.output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.starts_with("tps = "))?;
        line.split(' ').nth(2)?.parse().ok()
    }
}

pub fn cluster(folder: &Path) {
    let Some(server) = Server::start("max_wal_size = 2GB") else {
        println!("cluster: left out, since PostgreSQL is not installed");
        return;
    };
    let database = server.database();
    let folder = folder.join("cluster");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::copy(program("clustered.df"), folder.join("clustered.df")).expect("a copy");
    let bench = Bench { server, database, folder };
    let init = Command::new(DURABLE).args(["store", "init", &bench.url(), "--partitions", "8"]).output();
    assert!(init.expect("durable runs").status.success());
    bench.sql("create table one (id bigserial primary key, v text)");
    steps(&bench);
    takeovers(&bench);
}

fn steps(bench: &Bench) {
    let _worker = bench.worker();
    bench.await_owned(8);
    bench.run(&["lone", "10"]);
    let (mut commits, mut lone, mut many, mut calls) = (vec![], vec![], vec![], vec![]);
    for run in 0..RUNS {
        commits.extend(bench.pgbench());
        lone.push(STEPS as f64 / bench.run(&["lone", &STEPS.to_string()]).as_secs_f64());
        many.push(5.0 * MANY as f64 / bench.run(&["many", &MANY.to_string()]).as_secs_f64());
        let name = format!("c{run}");
        calls.push(STEPS as f64 / bench.run(&["calls", &name, &STEPS.to_string()]).as_secs_f64());
    }
    let lone = median(lone);
    println!("cluster                                     per second");
    if !commits.is_empty() {
        let commits = median(commits);
        println!("pgbench, commits of one row, one client     {commits:10.0}");
        println!("steps one after another, of that            {:10.2}", lone / commits);
    }
    println!("steps one after another                     {lone:10.0}");
    println!("1,000 instances of 5 steps                  {:10.0}", median(many));
    println!("calls of an entity one after another        {:10.0}", median(calls));
    let bytes: f64 = bench
        .sql(
            "select sum(pg_total_relation_size(c.oid)) from pg_class c join pg_namespace n \
        on n.oid = c.relnamespace where n.nspname = 'durable' and c.relkind = 'r'",
        )
        .parse()
        .unwrap_or(0.0);
    let steps = (RUNS * (STEPS + 5 * MANY + STEPS)) as f64;
    println!("bytes in the database for each step         {:10.0}", bytes / steps);
}

fn takeovers(bench: &Bench) {
    let first = bench.worker();
    bench.await_owned(8);
    // One root may have fewer than this under way.
    for _ in 0..2 {
        bench.run(&["park", &(PARKED / 2).to_string()]);
    }
    let taken = |how: Signal, mut one: Worker, all: u32| {
        let other = bench.worker();
        // The shares are even before one of the two goes.
        while bench.sql("select count(distinct owner) from durable.part where owner is not null") != "2" {
            thread::sleep(Duration::from_millis(20));
        }
        thread::sleep(LEASE);
        let began = Instant::now();
        kill(Pid::from_raw(one.0.id() as i32), how).expect("a signal");
        let _ = one.0.wait();
        while bench.sql("select count(distinct owner) from durable.part where owner is not null") != "1" {
            thread::sleep(Duration::from_millis(10));
        }
        bench.await_owned(all);
        (began.elapsed(), other)
    };
    let (killed, second) = taken(Signal::SIGKILL, first, 8);
    let (stopped, _third) = taken(Signal::SIGTERM, second, 8);
    println!("takeover of 50,000 parked instances");
    println!(
        "  after SIGKILL, beyond the lease of {} s     {:10.2} s",
        LEASE.as_secs(),
        killed.as_secs_f64() - LEASE.as_secs_f64()
    );
    println!("  after SIGTERM                             {:10.2} s", stopped.as_secs_f64());
}
