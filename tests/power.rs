//! Power cuts and failing disks: the states of the store on the disk at every moment, and its
//! reaction to every error.
//!
//! A process writes to a store while `power/shim.c`, which is loaded before the system's library,
//! records each operation on its files: those of the log, of the watermark and the lock, and all of
//! sled's. From the record, `power/disk.rs` builds the states that a loss of power may leave
//! (Pillai and others 2014, ALICE): each prefix of the operations, with unsynced ones present,
//! gone, reordered or torn. Each state is opened: all acknowledged batches are there, no batch is
//! there in part, and the digest is right.
//!
//! The same library makes one operation fail, or the creation of a thread. Each time, the store
//! reports the error, does not hang, and has what it acknowledged when it is opened again.
//!
//! `POWER_STATES` (1000) is the number of states, `POWER_SEED` (1) selects them, and `POWER_FAULTS`
//! (40) is the number of failing operations for each kind of fault. 20,000 states and every
//! operation: `POWER_STATES=20000 POWER_FAULTS=100000 cargo test --release --test power`.

#![cfg(target_os = "linux")]

mod common;
#[path = "power/disk.rs"]
mod disk;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::{Random, repository, setting};
use disk::{Cut, Disk, Step};
use durable::kv::{Batch, MemoryTree, Read, Store, StoreError};
use durable::store::{self, DiskStore};
use tempfile::TempDir;

/// The contents of a store.
type Contents = Vec<(Vec<u8>, Vec<u8>)>;

/// The number of kinds of work.
const KINDS: u64 = 5;

/// Returns the batches of a piece of work. The kinds are: in the log alone; with large batches;
/// with values in files of their own; with clean ends; with many removals, so that the database is
/// rewritten.
fn batches(seed: u64) -> Vec<Batch> {
    let mut random = Random::new(seed);
    let kind = seed % KINDS;
    let sizes: &[usize] = match kind {
        0 => &[3, 30, 400],
        1 => &[3, 400, 9_000, 40_000],
        2 => &[30, 9_000, 150_000],
        3 => &[3, 400, 40_000],
        _ => &[900_000],
    };
    let count = if kind == 4 { 26 } else { 14 };
    let one = |n: u64, random: &mut Random| {
        let writes = (0..1 + random.below(4)).map(|_| {
            let size = sizes[random.below(sizes.len() as u64) as usize];
            let value = (!random.one_in(5)).then(|| (0..size).map(|_| random.next() as u8).collect());
            (format!("k/{}", random.below(6)).into_bytes(), value)
        });
        let mut writes: BTreeMap<Vec<u8>, Option<Vec<u8>>> = writes.collect();
        if kind == 4 && n + 2 >= count {
            writes = (0..6).map(|key| (format!("k/{key}").into_bytes(), None)).collect();
        }
        writes.insert(b"last".to_vec(), Some(n.to_string().into_bytes()));
        Batch::from(Vec::from_iter(writes))
    };
    (0..count).map(|n| one(n, &mut random)).collect()
}

/// Returns the contents of the store before the first batch and after each.
fn expected(seed: u64) -> Vec<Contents> {
    let mut memory = MemoryTree::default();
    let mut all = vec![Contents::new()];
    for batch in batches(seed) {
        memory.commit(&batch).expect("memory can be written");
        all.push(memory.all(b"").expect("a scan"));
    }
    all
}

/// Does a piece of work. Calls `acknowledge` with the number of durable batches after each flush.
fn work(seed: u64, folder: &Path, acknowledge: &mut dyn FnMut(usize)) -> Result<(), StoreError> {
    let mut random = Random::new(seed ^ 0x5eed);
    let mut store = store::open(folder)?;
    let all = batches(seed);
    for (n, batch) in all.iter().enumerate() {
        store.commit(batch)?;
        if random.one_in(4) && n + 1 < all.len() {
            continue;
        }
        store.flush()?;
        acknowledge(n + 1);
        if seed % KINDS >= 3 && random.one_in(6) {
            store.close()?;
            store = store::open(folder)?;
        }
    }
    store.close()
}

/// The process that works: this test binary, started by the other tests.
#[test]
#[ignore = "it is started by the other tests"]
fn worker() {
    let Ok(folder) = std::env::var("POWER_STORE") else { return };
    let record = PathBuf::from(std::env::var("POWER_ACKNOWLEDGED").expect("a file"));
    let mut record = fs::OpenOptions::new().create(true).append(true).open(record).expect("a file");
    let done = work(setting("POWER_WORK", 0), Path::new(&folder), &mut |batches| {
        record.write_all(format!("A {batches}\n").as_bytes()).expect("written");
    });
    if let Err(error) = done {
        // The test that started this process reads the message.
        println!("REFUSED {error}");
        std::process::exit(4);
    }
}

/// Builds the library that is loaded before the system's, once. Returns its path.
fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("shim-{}.so", std::process::id()));
        let source = repository("tests/power/shim.c");
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&path).arg(source).status();
        assert!(built.expect("the linker's compiler").success());
        path
    })
}

/// Makes a folder, in memory if possible.
fn quick_folder() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).expect("a folder")
}

/// The end of a worker process.
struct Ended {
    code: Option<i32>,
    words: String,
    hung: bool,
}

/// Runs a worker process in a folder, with settings of the library.
fn run_worker(seed: u64, folder: &Path, acknowledged: &Path, settings: &[(&str, String)]) -> Ended {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["worker", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env("POWER_STORE", folder.join("store")).env("POWER_ROOT", folder.join("store"));
    command.env("POWER_WORK", seed.to_string()).env("POWER_ACKNOWLEDGED", acknowledged);
    command.env("LD_PRELOAD", shim()).env_remove("RUST_BACKTRACE");
    command.envs(settings.iter().map(|(name, value)| (*name, value)));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let began = Instant::now();
    let hung = loop {
        match child.try_wait().expect("a process") {
            Some(_) => break false,
            None if began.elapsed() > Duration::from_secs(30) => {
                child.kill().expect("it is killed");
                break true;
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let output = child.wait_with_output().expect("it ended");
    let words = [output.stdout, output.stderr].concat();
    Ended { code: output.status.code(), words: String::from_utf8_lossy(&words).into_owned(), hung }
}

/// Records the operations of a worker process.
fn record(seed: u64) -> Vec<Step> {
    let folder = quick_folder();
    let to = folder.path().join("record");
    let ended = run_worker(seed, folder.path(), &to, &[("POWER_RECORD", to.display().to_string())]);
    assert_eq!(ended.code, Some(0), "seed {seed}: {}", ended.words);
    disk::parse(&fs::read(&to).expect("the record"))
}

/// Opens a store and checks its contents: those after some batch, at or after the last acknowledged
/// one.
fn check(folder: &Path, acknowledged: usize, expected: &[Contents]) -> Result<DiskStore, String> {
    let store = store::open(folder).map_err(|error| format!("it does not open: {error}"))?;
    let found = store.all(b"").map_err(|error| error.to_string())?;
    if !expected[acknowledged..].contains(&found) {
        let shown = |all: &Contents| {
            let last = all.iter().find(|(key, _)| key == b"last");
            last.map_or("nothing".to_string(), |(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        return Err(format!(
            "{acknowledged} batches were acknowledged; it has the last of {}",
            shown(&found)
        ));
    }
    store.verify().map_err(|error| error.to_string())?;
    Ok(store)
}

/// Every state that a loss of power may leave has what was acknowledged.
#[test]
fn every_state_that_a_power_cut_leaves_opens() {
    let wanted = setting("POWER_STATES", 1000usize);
    let first = setting("POWER_SEED", 1u64);
    let mut seen = HashSet::new();
    let mut failures = Vec::new();
    let mut tried = 0;
    let mut seed = first;
    // Pieces of work of every kind are recorded until there are enough states.
    while seen.len() < wanted && tried < 20 * wanted {
        let (steps, expected) = (record(seed), expected(seed));
        let mut random = Random::new(seed);
        let mut disk = Disk::new();
        // The copy of a large store takes long.
        let mut left_of_work = (wanted / 10).max(40);
        let is_large = seed % KINDS == 4;
        for (at, step) in steps.iter().enumerate() {
            disk.step(step);
            if matches!(step, Step::Open | Step::Acknowledge(_)) || (is_large && !random.one_in(12)) {
                continue;
            }
            let cuts = match disk.is_settled() {
                true => &[Cut::All][..],
                false => {
                    &[Cut::All, Cut::Nothing, Cut::Names, Cut::Contents, Cut::Some, Cut::Some, Cut::Some][..]
                }
            };
            for cut in cuts {
                tried += 1;
                let left = disk.cut(*cut, &mut random);
                let mut hasher = DefaultHasher::new();
                left.hash(&mut hasher);
                if left_of_work == 0 || !(wanted > 5000 || random.one_in(2)) || !seen.insert(hasher.finish())
                {
                    continue;
                }
                left_of_work -= 1;
                let folder = quick_folder();
                disk::lay_out(&left, folder.path());
                let checked = check(folder.path(), disk.acknowledged, &expected).and_then(|mut store| {
                    // The store can be used after that.
                    if random.one_in(4) {
                        let writes = vec![(b"more".to_vec(), Some(vec![7; 20_000]))];
                        store.commit(&Batch::from(writes)).map_err(|error| format!("more: {error}"))?;
                    }
                    store.close().map_err(|error| format!("it does not end: {error}"))
                });
                if let Err(reason) = checked {
                    failures.push(format!("POWER_SEED={seed}, step {at} {}, {cut:?}: {reason}", shown(step)));
                }
            }
        }
        seed += 1;
    }
    println!("{} distinct states of {} pieces of work, {} wrong", seen.len(), seed - first, failures.len());
    assert!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        seen.len(),
        failures[..failures.len().min(20)].join("\n")
    );
    assert!(seen.len() >= wanted.min(500), "only {} states", seen.len());
}

fn shown(step: &Step) -> String {
    match step {
        Step::Write { file, at, data } => format!("write of {} at {at} of {file}", data.len()),
        other => format!("{other:?}"),
    }
}

/// Whatever operation fails, the store reports it, does not hang, and has what it acknowledged.
#[test]
fn every_failure_of_an_operation_is_told_and_loses_nothing() {
    let most = setting("POWER_FAULTS", 40u64);
    let mut failures = Vec::new();
    let (mut runs, mut refused) = (0, 0);
    for seed in [5, 6, 7, 8] {
        let expected = expected(seed);
        for how in ["eio", "enospc", "eintr", "short", "thread"] {
            let counted = quick_folder();
            let count = counted.path().join("count");
            let settings = [("POWER_COUNT", count.display().to_string()), ("POWER_HOW", how.to_string())];
            let ended = run_worker(seed, counted.path(), &counted.path().join("acknowledged"), &settings);
            assert_eq!(ended.code, Some(0), "{}", ended.words);
            let operations: u64 =
                fs::read_to_string(&count).expect("a count").trim().parse().expect("a number");
            let stride = (operations * 4).div_ceil(most).max(1);
            for at in (1..=operations).step_by(stride as usize) {
                runs += 1;
                let folder = quick_folder();
                let acknowledged = folder.path().join("acknowledged");
                let settings = [("POWER_FAIL", at.to_string()), ("POWER_HOW", how.to_string())];
                let ended = run_worker(seed, folder.path(), &acknowledged, &settings);
                let mut fail = |reason: String| {
                    failures.push(format!("{how} at {at} of {operations}, work {seed}: {reason}"));
                };
                match ended.code {
                    _ if ended.hung => fail("it hangs".into()),
                    Some(0) => {}
                    Some(4) if ended.words.contains("REFUSED") => refused += 1,
                    code => fail(format!("it ends with {code:?}: {}", ended.words)),
                }
                let lines = fs::read_to_string(&acknowledged).unwrap_or_default();
                let batches = lines.lines().last().and_then(|line| line[2..].parse().ok()).unwrap_or(0);
                if let Err(reason) = check(&folder.path().join("store"), batches, &expected)
                    .and_then(|store| store.close().map_err(|error| error.to_string()))
                {
                    fail(reason);
                }
            }
        }
    }
    println!("{runs} runs, of which {refused} were refused");
    assert!(
        failures.is_empty(),
        "{} of {runs}:\n{}",
        failures.len(),
        failures[..failures.len().min(20)].join("\n")
    );
    assert!(refused > runs / 10, "only {refused} of {runs} were refused");
}
