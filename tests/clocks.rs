//! Time never goes back, even if the wall clock is set back, within a process or between two.

mod common;

use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use durable::engine::{Ending, InstanceRecord, SCRIPT, read_history, read_record, read_time};
use durable::host::{self, Clock, Host, Settings};
use durable::machine::{Data, Image, Value, format};
use durable::store;
use tempfile::TempDir;

const HOUR: i64 = 3_600_000_000_000;

/// Returns a clock whose wall clock is ahead of the system's, and the offset, which can be changed.
fn later(by: i64) -> (Clock, Arc<AtomicI64>) {
    let offset = Arc::new(AtomicI64::new(by));
    let shown = offset.clone();
    (Clock::with_wall(move || host::now() + shown.load(Ordering::SeqCst)), offset)
}

fn open(folder: &Path, clock: Clock, image: &Rc<Image>) -> Host {
    let settings = Settings { clock, ..Settings::default() };
    let mut host = Host::new(Box::new(store::open(folder).expect("a store")), settings);
    host.recover(None).expect("it can be read");
    host.add_program(image.clone());
    host
}

fn begin(host: &mut Host, id: &str, image: &Rc<Image>) {
    let args = Data::encode(&Value::list(vec![Value::list(Vec::new())])).expect("data");
    host.begin(InstanceRecord::new(id, image.code.hash, "a.df", SCRIPT, args, host::now()));
}

fn result(host: &Host, id: &str) -> String {
    match host.outcome(id) {
        Some(Ending::Completed(_)) => "completed".into(),
        Some(Ending::Failed(error)) => error.title(),
        other => format!("{other:?}"),
    }
}

/// Returns the times of an instance's history, which must not decrease.
fn times(host: &Host, id: &str) -> Vec<i64> {
    let record = read_record(host.store(), id).expect("read").expect("it is there");
    let history = read_history(host.store(), &record).expect("read");
    let times: Vec<i64> = history.entries.iter().map(|entry| entry.time()).collect();
    assert!(record.created <= times[0] && times.is_sorted(), "{times:?}");
    times
}

const PROGRAM: &str = r#"
activity fails() with {retry: {times: 2, first: 150ms}} { throw {kind: "odd"} }
activity slow() with {timeout: 150ms} { sleep(1h) }
activity naps() { let before = now(); sleep(50ms); now() >= before + 50ms }
let before = now()
let got = all([
  async do { sleep(150ms); 1 },
  async do { try { fails() } catch e { e.kind } },
  async do { try { slow() } catch e { e.kind } },
  async naps(),
])
sleep(1ms)
assert(got == [1, "odd", "timeout", true])
assert(now() - before > 150ms)
assert(now() - before < 30m)
"#;

fn image() -> Rc<Image> {
    common::image(PROGRAM)
}

#[test]
fn a_clock_set_back_stops_nothing() {
    let folder = TempDir::new().expect("a folder");
    let image = image();
    let (clock, offset) = later(0);
    let mut host = open(folder.path(), clock, &image);
    begin(&mut host, "a", &image);
    let set_back = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(60));
        offset.store(-HOUR, Ordering::SeqCst);
    });
    host.run().expect("it runs");
    set_back.join().expect("it was set");
    assert_eq!(result(&host, "a"), "completed");
    times(&host, "a");
}

#[test]
fn a_clock_set_back_between_two_processes_stops_nothing() {
    let folder = TempDir::new().expect("a folder");
    let image = image();
    // The clock is an hour ahead while the instance waits.
    let mut host = open(folder.path(), later(HOUR).0, &image);
    begin(&mut host, "a", &image);
    host.run_until(&mut |engine| engine.next_due().is_some()).expect("it runs");
    host.into_store().end().expect("closed");
    let mut host = open(folder.path(), later(0).0, &image);
    host.watch("a");
    host.run().expect("it runs");
    assert_eq!(result(&host, "a"), "completed");
    let last = *times(&host, "a").last().expect("an entry");
    assert!(last > host::now() + HOUR / 2);
    host.into_store().end().expect("closed");
    // The store keeps the time of purged instances.
    let mut host = open(folder.path(), later(0).0, &image);
    let purge = host::Command::Purge { ids: vec!["a".into()], force: false };
    assert!(matches!(host.ask(purge), Ok(host::Reply::Removed(1))));
    host.into_store().end().expect("closed");
    let mut host = open(folder.path(), later(0).0, &image);
    assert!(host.now() > last);
    begin(&mut host, "b", &image);
    host.run().expect("it runs");
    assert_eq!(result(&host, "b"), "completed");
    assert!(times(&host, "b")[0] > last);
    let time = read_time(host.store()).expect("read");
    assert!(time > last, "{}", format::instant(time));
    host.into_store().end().expect("closed");
}

#[test]
fn a_store_that_is_ahead_goes_on_and_says_so_once() {
    let folder = TempDir::new().expect("a folder");
    let durable = |args: &[&str]| {
        let output = Command::new(common::DURABLE).current_dir(folder.path()).args(args).output();
        let output = output.expect("durable runs");
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {err}");
        (String::from_utf8_lossy(&output.stdout).into_owned(), err)
    };
    let ahead = format::instant(host::now() + 2 * HOUR);
    std::fs::write(folder.path().join("time"), format!("{{\"type\": \"time\", \"time\": \"{ahead}\"}}\n"))
        .expect("written");
    durable(&["store", "import", "time"]);
    let program = "let before = now()\nsleep(20ms)\nprint(before)\nprint(now() - before > 10ms)\n";
    std::fs::write(folder.path().join("a.df"), program).expect("written");
    for _ in 0..2 {
        let (out, err) = durable(&["run", "a.df"]);
        let lines: Vec<&str> = out.lines().collect();
        assert!(*lines[0] > *ahead && lines[1] == "true", "{out}");
        assert_eq!(err.matches("behind the time of the store").count(), 1, "{err}");
        assert!(err.contains("is 2h behind"), "{err}");
    }
    let (exported, _) = durable(&["store", "export"]);
    let time = exported.lines().find(|line| line.contains(r#""type":"time""#)).expect("a time");
    let time: serde_json::Value = serde_json::from_str(time).expect("JSON");
    assert!(time["time"].as_str().is_some_and(|time| time[..19] >= ahead[..19]), "{time}");
}
