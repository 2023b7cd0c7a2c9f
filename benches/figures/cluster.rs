//! A cluster on a private PostgreSQL: commits of `pgbench` and steps of DBOS beside steps of instances,
//! calls of an entity beside those of a local store, the queries of a worker without work, and the time
//! until another worker goes on with the partitions of one that is gone.
//!
//! DBOS is measured if a Python that has it is there: `python3`, or the one that `DBOS_PYTHON` names.

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

use super::{DURABLE, fresh, median, program};

/// The number of steps one after another.
const STEPS: usize = 2_000;
/// The number of instances with five steps each.
const MANY: usize = 1_000;
/// The number of calls of one entity.
const CALLS: usize = 200_000;
/// The number of steps and of workflows of DBOS, which is slower.
const DBOS: [usize; 2] = [500, 200];
/// The number of instances that wait.
const PARKED: usize = 100_000;
/// The time for which a worker without work is watched.
const IDLE: Duration = Duration::from_secs(20);
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
        self.command_at(&self.url(), args)
    }

    fn command_at(&self, store: &str, args: &[&str]) -> Command {
        let mut command = Command::new(DURABLE);
        command.args(args).args(["--store", store]).current_dir(&self.folder);
        command.env("HOME", &self.folder).env_remove("XDG_STATE_HOME");
        command
    }

    fn ok_at(&self, store: &str, args: &[&str]) -> String {
        let output = self.command_at(store, args).output().expect("durable runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {said}");
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    }

    fn worker(&self) -> Worker {
        let lease = format!("{}s", LEASE.as_secs());
        self.server_at(&self.url(), &["serve", "--lease", &lease])
    }

    fn server_at(&self, store: &str, args: &[&str]) -> Worker {
        let mut serve = self.command_at(store, args);
        Worker(serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("durable runs"))
    }

    /// Starts an orchestration and waits for its end.
    fn run(&self, call: &[&str]) -> Duration {
        self.run_at(&self.url(), call)
    }

    fn run_at(&self, store: &str, call: &[&str]) -> Duration {
        let began = Instant::now();
        self.ok_at(store, &[&["start", "--wait", "clustered.df"], call].concat());
        began.elapsed()
    }

    /// Makes a store in a new database.
    fn new_store(&self, partitions: &str) -> (String, String) {
        let database = self.server.database();
        let url = self.server.url(&database);
        let init = Command::new(DURABLE).args(["store", "init", &url, "--partitions", partitions]).output();
        assert!(init.expect("durable runs").status.success());
        (database, url)
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
    let folder = folder.join("cluster");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::copy(program("clustered.df"), folder.join("clustered.df")).expect("a copy");
    let mut bench = Bench { server, database: String::new(), folder };
    (bench.database, _) = bench.new_store("8");
    bench.sql("create table one (id bigserial primary key, v text)");
    println!("cluster                                     per second");
    idle(&bench.folder);
    steps(&bench);
    dbos(&bench);
    calls(&bench);
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
    if !commits.is_empty() {
        let commits = median(commits);
        println!("pgbench, commits of one row, one client     {commits:10.0}");
        println!("steps one after another, of that            {:10.2}", lone / commits);
    }
    println!("steps one after another                     {lone:10.0}");
    println!("1,000 instances of 5 steps                  {:10.0}", median(many));
    // The slowest are those of an entity in another partition than the caller.
    let elsewhere = calls.into_iter().fold(f64::INFINITY, f64::min);
    println!("calls of an entity in another partition     {elsewhere:10.0}");
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

/// Steps of DBOS on the same server.
fn dbos(bench: &Bench) {
    let python = std::env::var("DBOS_PYTHON").unwrap_or_else(|_| "python3".into());
    let has_it = Command::new(&python).args(["-c", "import dbos"]).stderr(Stdio::null()).status();
    if !has_it.is_ok_and(|status| status.success()) {
        return println!("DBOS: left out, since {python} does not have it");
    }
    let url = bench.server.url(&bench.server.database()).replacen("postgres", "postgresql", 1);
    let counts = DBOS.map(|count| count.to_string());
    let (mut lone, mut many) = (vec![], vec![]);
    for _ in 0..RUNS {
        let mut run = Command::new(&python);
        run.arg(program("dbos_steps.py")).arg(&url).args(&counts).stderr(Stdio::null());
        let output = run.output().expect("python runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let figures: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [one, other] = figures[..] else { return println!("DBOS: no figures: {text}") };
        lone.push(one);
        many.push(other);
    }
    println!("DBOS: steps one after another               {:10.0}", median(lone));
    println!("DBOS: {} workflows of 5 steps              {:10.0}", DBOS[1], median(many));
}

/// Calls of an entity in the caller's partition, in a store of one partition and in a folder.
fn calls(bench: &Bench) {
    let (database, url) = bench.new_store("1");
    let worker = bench.server_at(&url, &["serve", "--lease", "2s"]);
    while bench.server.sql(&database, "select count(*) from durable.part where owner is not null") != "1" {
        thread::sleep(Duration::from_millis(20));
    }
    let local = fresh(&bench.folder).display().to_string();
    let server = bench.server_at(&local, &["serve"]);
    while !bench.command_at(&local, &["list"]).output().expect("durable runs").status.success() {
        thread::sleep(Duration::from_millis(20));
    }
    let (mut here, mut there) = (vec![], vec![]);
    for run in 0..RUNS {
        let name = format!("c{run}");
        let call = ["calls", &name, &CALLS.to_string()];
        here.push(CALLS as f64 / bench.run_at(&url, &call).as_secs_f64());
        there.push(CALLS as f64 / bench.run_at(&local, &call).as_secs_f64());
    }
    drop((worker, server));
    let (here, there) = (median(here), median(there));
    println!("calls of an entity in the same partition    {here:10.0}");
    println!("the same in a folder                        {there:10.0}");
}

/// Transactions that a worker without work makes.
fn idle(folder: &Path) {
    // The database's own transactions are in the same statistics.
    let Some(server) = Server::start("autovacuum = off") else { return };
    let mut bench = Bench { server, database: String::new(), folder: folder.to_path_buf() };
    (bench.database, _) = bench.new_store("8");
    let _worker = bench.server_at(&bench.url(), &["serve"]);
    bench.await_owned(8);
    // What the start asked may be counted late.
    thread::sleep(IDLE);
    // The statistics are up to a second late, and this query is among them.
    let sql = "select xact_commit + xact_rollback from pg_stat_database where datname = current_database()";
    let count = || {
        thread::sleep(Duration::from_millis(1_500));
        bench.sql(sql).parse::<f64>().unwrap_or(0.0)
    };
    let began = count();
    let since = Instant::now();
    thread::sleep(IDLE);
    let made = count() - began - 1.0;
    println!("transactions of a worker without work       {:10.1}", made / since.elapsed().as_secs_f64());
}

/// The time from a worker's end until another one has all partitions, and until each of them goes on.
fn takeovers(bench: &Bench) {
    let first = bench.worker();
    bench.await_owned(8);
    // One root may have fewer than this under way.
    for _ in 0..2 {
        bench.run(&["park", &(PARKED / 2).to_string()]);
    }
    let owners = "select count(distinct owner) from durable.part where owner is not null";
    // Some instances in each partition are told to end, which shows that the partition goes on.
    let mut told = 0;
    let mut go_on = || {
        let mut waits = Vec::new();
        for _ in 0..24 {
            told += 1;
            let id = format!("t{told}");
            let start =
                bench.command(&["start", "--wait", "--id", &id, "clustered.df", "lone", "1"]).output();
            waits.push(start.expect("durable runs").status.success());
        }
        assert!(waits.iter().all(|ended| *ended), "all partitions go on");
    };
    let mut taken = |how: Signal, mut one: Worker| {
        let other = bench.worker();
        // The shares are even before one of the two goes.
        while bench.sql(owners) != "2" {
            thread::sleep(Duration::from_millis(20));
        }
        thread::sleep(LEASE);
        let began = Instant::now();
        kill(Pid::from_raw(one.0.id() as i32), how).expect("a signal");
        let _ = one.0.wait();
        while bench.sql(owners) != "1" {
            thread::sleep(Duration::from_millis(10));
        }
        bench.await_owned(8);
        let owned = began.elapsed();
        go_on();
        (owned, began.elapsed(), other)
    };
    let (killed, killed_goes_on, second) = taken(Signal::SIGKILL, first);
    let (stopped, stopped_goes_on, mut third) = taken(Signal::SIGTERM, second);
    println!("takeover of half of 100,000 parked instances      owned, goes on");
    let line = |what: &str, owned: Duration, goes_on: Duration| {
        println!("  {what:40} {:10.2} s, {:.2} s", owned.as_secs_f64(), goes_on.as_secs_f64());
    };
    let beyond = |time: Duration| time.saturating_sub(LEASE);
    let what = format!("after SIGKILL, beyond the lease of {} s", LEASE.as_secs());
    line(&what, beyond(killed), beyond(killed_goes_on));
    line("after SIGTERM", stopped, stopped_goes_on);
    kill(Pid::from_raw(third.0.id() as i32), Signal::SIGTERM).expect("a signal");
    let _ = third.0.wait();
    let began = Instant::now();
    let _fourth = bench.worker();
    bench.await_owned(8);
    let owned = began.elapsed();
    go_on();
    line("all 100,000, by a worker that starts", owned, began.elapsed());
}
