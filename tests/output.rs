//! Output of programs: its cost, and that no line is lost when the reader is slow or gone.

mod common;

use std::fmt::Debug;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{DURABLE, Random};
use durable::api::Queries;
use durable::engine::{Entry, InstanceRecord, SCRIPT, Status, read_record};
use durable::host::{self, Host, Reply, Settings};
use durable::kv::MemoryStore;
use durable::machine::{Data, Value};
use durable::store;
use tempfile::TempDir;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// A subscriber that counts durable commits.
#[derive(Clone, Default)]
struct Commits(Arc<AtomicU64>);

struct IsDurable(bool);

impl Visit for IsDurable {
    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0 |= field.name() == "durable" && value;
    }
}

impl Subscriber for Commits {
    fn enabled(&self, of: &Metadata<'_>) -> bool {
        of.target().starts_with("durable") && of.name() == "commit"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut durable = IsDurable(false);
        span.record(&mut durable);
        Id::from_u64(1 + self.0.fetch_add(u64::from(durable.0), Ordering::SeqCst))
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn twenty_thousand_lines_take_few_commits() {
    let commits = Commits::default();
    tracing::subscriber::set_global_default(commits.clone()).expect("there is no other");
    let folder = TempDir::new().expect("a folder");
    let image = common::image("for n in 0..10000 { print(\"line {n}\"); log.debug(n) }");
    let args = Data::encode(&Value::list(vec![Value::list(Vec::new())])).expect("data");
    let mut host = Host::new(Box::new(store::open(folder.path()).expect("a store")), Settings::default());
    host.recover(None).expect("an empty store");
    let hash = image.code.hash;
    host.add_program(image);
    host.begin(InstanceRecord::new("a", hash, "a.df", SCRIPT, args, 0));
    host.run().expect("it runs");
    host.into_store().end().expect("closed");
    // A slice consumes 256 answers, and at most one commit comes between two slices.
    let count = commits.0.load(Ordering::SeqCst);
    assert!((2..=90).contains(&count), "{count} commits");
}

/// A host needs only the storage port. On a store in memory, an instance goes on in a second host
/// where the first one was stopped.
#[test]
fn a_host_runs_on_a_store_in_memory() {
    let store = MemoryStore::default();
    let text = "
        activity double(n) => 2 * n
        let first = double(10)
        print(\"first {first}\")
        let event = receive(\"go\")
        double(event)
    ";
    let image = common::image(text);
    let hash = image.code.hash;
    let args = Data::encode(&Value::list(vec![Value::list(Vec::new())])).expect("data");
    let mut host = Host::new(Box::new(store.clone()), Settings::default());
    host.recover(None).expect("an empty store");
    host.add_program(image);
    host.begin(InstanceRecord::new("a", hash, "a.df", SCRIPT, args, 0));
    host.run_until(&mut |engine| engine.is_waiting("a")).expect("it runs");
    host.into_store().end().expect("it ends");

    let mut host = Host::new(Box::new(store.clone()), Settings::default());
    host.recover(None).expect("what the first host wrote");
    host.watch("a");
    let payload = Data::encode(&Value::Int(6)).expect("data");
    let raise = host::Command::Raise { id: "a".into(), event: "go".into(), payload };
    assert!(matches!(host.ask(raise), Ok(Reply::Done)));
    host.run().expect("it runs to its end");
    let record = read_record(&store, "a").expect("it is readable").expect("it is there");
    assert_eq!(record.status, Status::Completed(Data::encode(&Value::Int(12)).expect("data")));
    let (_, history) = store.history("a").expect("it is readable").expect("it is there");
    let calls = history
        .entries
        .iter()
        .filter(|entry| matches!(entry, Entry::Requested { what, .. } if what.kind() == "activity"));
    assert_eq!(calls.count(), 2, "no step was done again");
    assert!(host.reads().ask(|store| store.get(b"none")).is_ok());
    host.into_store().end().expect("it ends");
}

fn program(text: &str) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("a.df"), text).expect("a program");
    folder
}

fn start(folder: &Path, args: &[&str], stdout: impl Into<Stdio>) -> std::process::Child {
    let mut command = Command::new(DURABLE);
    command.current_dir(folder).args(args).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
    command.spawn().expect("durable runs")
}

#[test]
fn kills_repeat_lines_and_lose_none() {
    let mut random = Random::new(5);
    for round in 0..6 {
        let folder = program(
            r#"
            activity work(n) => n
            for n in 0..3000 {
              print("line {n}")
              if n % 500 == 499 { fs.append("effects", "{n}\n") }
              if n % 100 == 0 { work(n) }
            }
            "#,
        );
        let at = folder.path();
        let mut expected = 0;
        loop {
            let mut run = start(at, &["run", "a.df"], Stdio::piped());
            let mut lines = BufReader::new(run.stdout.take().expect("piped")).lines();
            let most = 1 + random.below(1500) as usize;
            let mut seen = 0;
            let mut last: Option<usize> = None;
            for line in lines.by_ref() {
                let line = line.expect("text");
                let number: usize = line.strip_prefix("line ").expect("a line").parse().expect("a number");
                // Lines come in order. After a kill, some come again.
                assert!(
                    last.map_or(number <= expected, |last| number == last + 1),
                    "{round}: {line} after {last:?}"
                );
                (last, expected) = (Some(number), expected.max(number + 1));
                let effects = fs::read_to_string(at.join("effects")).unwrap_or_default();
                let effects =
                    effects.lines().last().map_or(0, |line| line.parse::<usize>().expect("a number") + 1);
                // The lines before the effect may still be in the pipe.
                assert!(effects <= expected + 3000);
                seen += 1;
                if seen == most {
                    break;
                }
            }
            let ended = seen < most;
            if !ended {
                run.kill().expect("killed");
                // Lines that were written before the kill count.
                for line in lines {
                    let Ok(line) = line else { break };
                    let Some(number) = line.strip_prefix("line ").and_then(|n| n.parse::<usize>().ok())
                    else {
                        break;
                    };
                    assert!(last.is_none_or(|last| number == last + 1));
                    (last, expected) = (Some(number), expected.max(number + 1));
                }
                let effects = fs::read_to_string(at.join("effects")).unwrap_or_default();
                for line in effects.lines() {
                    let number: usize = line.parse().expect("a number");
                    assert!(
                        number < expected,
                        "{round}: the effect after line {number} came before it was out"
                    );
                }
            }
            assert!(ended || run.wait().is_ok());
            if ended {
                assert!(run.wait().expect("it ends").success());
                break;
            }
        }
        assert_eq!(expected, 3000, "{round}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_slow_reader_holds_the_program_up() {
    let folder = program("for n in 0..600000 { print(\"a line of some length with the number {n}\") }");
    let mut run = start(folder.path(), &["run", "a.df", "--durability", "none"], Stdio::piped());
    let memory = |id: u32| -> u64 {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    // The reader waits as long as the program needs to print everything to a fast reader.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let most = memory(run.id());
    assert!((1..120_000).contains(&most), "{most} KiB");
    let mut count = 0;
    for line in BufReader::new(run.stdout.take().expect("piped")).lines() {
        assert!(line.expect("text").ends_with(&format!(" {count}")));
        count += 1;
    }
    assert_eq!(count, 600_000);
    assert!(run.wait().expect("it ends").success());
}

#[test]
#[cfg(target_os = "linux")]
fn output_that_is_full_or_closed_stops_the_run_and_loses_nothing() {
    let folder = program("for n in 0..30000 { print(\"line {n}\") }\nprint(\"last\")");
    let full = fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let mut run = start(folder.path(), &["run", "a.df"], full);
    assert_eq!(run.wait().expect("it ends").code(), Some(4));
    let mut run = start(folder.path(), &["run", "a.df"], Stdio::piped());
    let mut first = [0; 6];
    let mut stdout = run.stdout.take().expect("piped");
    stdout.read_exact(&mut first).expect("a line");
    drop(stdout);
    assert_eq!(run.wait().expect("it ends").code(), Some(4));
    let run = start(folder.path(), &["run", "a.df"], Stdio::piped()).wait_with_output().expect("it ends");
    assert_eq!(run.status.code(), Some(0));
    let text = String::from_utf8(run.stdout).expect("text");
    assert!(text.ends_with("line 29999\nlast\n"), "{}", &text[text.len().saturating_sub(200)..]);
}
