//! Damaged stores, and stores whose files are removed or put back by others. No loss goes
//! unnoticed, reading changes nothing, and undamaged data can be saved.

mod common;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{DURABLE, Random, setting};
use durable::kv::{Batch, Read, Store, StoreError};
use durable::store::{self, DiskStore};
use tempfile::TempDir;

fn durable(folder: &Path, args: &[&str]) -> Output {
    Command::new(DURABLE).current_dir(folder).args(args).stdin(Stdio::null()).output().expect("durable runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Files by their paths within a folder.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Returns all files below a folder.
fn files(folder: &Path) -> Files {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                // Sockets are not files.
                false if !path.is_file() => {}
                false => {
                    let bytes = fs::read(&path).expect("a file");
                    found.insert(path.strip_prefix(folder).expect("within").to_path_buf(), bytes);
                }
            }
        }
    }
    found
}

fn lay_out(files: &Files, folder: &Path) {
    for (path, bytes) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }
}

/// Returns a store of killed instances, with data in the database and in the log.
fn instances() -> Files {
    let folder = TempDir::new().expect("a folder");
    let script = "activity f(n) => range(0, 300).map(fn _ => random_int(0, 1_000_000_000))\n\
                  for i in 0..args[0].to_int() { f(i) }\nprint(\"done\")\nsleep(1h)\n";
    fs::write(folder.path().join("s.df"), script).expect("a script");
    for (id, steps) in [("one", "120"), ("two", "60"), ("three", "3")] {
        let mut child = Command::new(DURABLE)
            .current_dir(folder.path())
            .args(["run", "s.df", steps, "--id", id])
            .stdout(Stdio::piped())
            .spawn()
            .expect("durable runs");
        let mut line = String::new();
        let mut out = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
        std::io::BufRead::read_line(&mut out, &mut line).expect("a line");
        assert_eq!(line, "done\n", "{id}");
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
    // A small write, which stays in the log.
    let raised = durable(folder.path(), &["raise", "one", "go"]);
    assert_eq!(raised.status.code(), Some(0), "{}", stderr(&raised));
    let all = files(&folder.path().join(".durable"));
    let names: Vec<&PathBuf> = all.keys().collect();
    assert!(["journal/db", "wal"].iter().all(|name| all.contains_key(Path::new(name))), "{names:?}");
    all
}

/// Damages a file at a random place within its data.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
    let at = random.below(end as u64) as usize;
    match random.below(4) {
        0 => bytes.truncate(at),
        1 => bytes[at] ^= 1 << random.below(8),
        2 => {
            let to = (at + 4096).min(bytes.len());
            bytes[at..to].fill(0);
        }
        _ => {
            for _ in 0..20 {
                let at = random.below(end as u64) as usize;
                bytes[at] = random.next() as u8;
            }
        }
    }
}

/// Commands leave a damaged store as it is, byte by byte, whether they read or try to write.
/// `DAMAGE_ROUNDS` (40) and `DAMAGE_SEED` set the number of rounds and the seed.
#[test]
fn looking_at_a_damaged_store_changes_nothing() {
    let whole = instances();
    let mut random = Random::new(setting("DAMAGE_SEED", 11));
    let mut refused = 0;
    for round in 0..setting("DAMAGE_ROUNDS", 40) {
        let mut damaged = whole.clone();
        let names: Vec<PathBuf> =
            damaged.iter().filter(|(_, bytes)| bytes.len() > 1).map(|(p, _)| p.clone()).collect();
        let name = match random.below(3) {
            0 => names[random.below(names.len() as u64) as usize].clone(),
            1 => PathBuf::from("wal"),
            _ => PathBuf::from("journal/db"),
        };
        damage(damaged.get_mut(&name).expect("a file"), &mut random);
        let folder = TempDir::new().expect("a folder");
        lay_out(&damaged, &folder.path().join(".durable"));
        let looks: [&[&str]; 3] =
            [&["store", "verify"], &["store", "export", "x"], &["store", "export", "--damaged", "y"]];
        for args in looks {
            let run = durable(folder.path(), args);
            assert!(matches!(run.status.code(), Some(0 | 4)), "round {round}, {args:?}: {}", stderr(&run));
            assert!(
                files(&folder.path().join(".durable")) == damaged,
                "round {round}, {name:?}: {args:?} changed it"
            );
        }
        if durable(folder.path(), &["store", "verify"]).status.code() == Some(0) {
            continue;
        }
        refused += 1;
        let writes: [&[&str]; 4] =
            [&["list"], &["raise", "one", "go"], &["resume", "three"], &["store", "import", "y"]];
        for args in writes {
            let run = durable(folder.path(), args);
            assert_ne!(run.status.code(), Some(0), "round {round}, {name:?}: {args:?}");
            assert!(
                files(&folder.path().join(".durable")) == damaged,
                "round {round}, {name:?}: {args:?} changed it"
            );
        }
    }
    assert!(refused > 10, "only {refused} were damaged");
}

/// The same for stores without a database, with and without `lock`.
#[test]
fn opening_a_damaged_log_changes_nothing() {
    let folder = TempDir::new().expect("a folder");
    let store = logged(folder.path(), 30);
    let whole = files(folder.path());
    let known = store.all(b"").expect("a scan");
    drop(store);
    let mut random = Random::new(setting("DAMAGE_SEED", 5));
    let mut refused = 0;
    for round in 0..setting("DAMAGE_ROUNDS", 200) {
        let mut damaged = whole.clone();
        let name = ["wal", "wal", "watermark", "lock"][random.below(4) as usize];
        damage(damaged.get_mut(Path::new(name)).expect("a file"), &mut random);
        if random.one_in(4) {
            damaged.remove(Path::new("lock"));
        }
        let copied = TempDir::new().expect("a folder");
        lay_out(&damaged, copied.path());
        match store::open(copied.path()) {
            Ok(store) => {
                let found = store.all(b"").expect("a scan");
                let is_whole = found == known;
                // Without `lock`, the last frame may count as one that was being written.
                assert!(
                    is_whole || !damaged.contains_key(Path::new("lock")) || name == "lock",
                    "round {round}, {name}"
                );
            }
            Err(StoreError::Damaged { .. }) => {
                refused += 1;
                assert!(files(copied.path()) == damaged, "round {round}: {name} changed");
            }
            Err(error) => panic!("round {round}, {name}: {error}"),
        }
    }
    assert!(refused > 50, "only {refused} were damaged");
}

/// A flipped bit anywhere loses less than a fifth of a store, and nothing is saved that was never
/// written.
#[test]
fn a_flipped_bit_costs_less_than_a_fifth() {
    let folder = TempDir::new().expect("a folder");
    let mut store = store::open(folder.path()).expect("it opens");
    let mut random = Random::new(3);
    let mut written: HashMap<Vec<u8>, HashSet<Vec<u8>>> = HashMap::new();
    for n in 0..240u64 {
        let mut batch = Batch::default();
        let size = if n < 200 { 3_000 } else { 200 };
        for key in 0..if n < 200 { 12 } else { 2 } {
            let key = format!("h/{}", n * 12 + key).into_bytes();
            let value: Vec<u8> = (0..size).map(|_| random.next() as u8).collect();
            written.entry(key.clone()).or_default().insert(value.clone());
            batch.put(key, value);
        }
        let value = n.to_string().into_bytes();
        written.entry(b"s/last".to_vec()).or_default().insert(value.clone());
        batch.put(b"s/last".to_vec(), value);
        store.commit(&batch).expect("a commit");
        store.flush().expect("a flush");
    }
    let whole = files(folder.path());
    drop(store);
    let total = written.len();
    let mut worst = total;
    for round in 0..setting("DAMAGE_ROUNDS", 40) {
        let mut damaged = whole.clone();
        let names: Vec<&PathBuf> =
            whole.iter().filter(|(_, bytes)| !bytes.is_empty()).map(|(path, _)| path).collect();
        let name = match random.below(3) {
            0 => names[random.below(names.len() as u64) as usize].clone(),
            1 => PathBuf::from("wal"),
            _ => PathBuf::from("journal/db"),
        };
        let bytes = damaged.get_mut(&name).expect("a file");
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
        let at = random.below(end as u64) as usize;
        bytes[at] ^= 1 << random.below(8);
        let copied = TempDir::new().expect("a folder");
        lay_out(&damaged, copied.path());
        let (store, _) = DiskStore::salvage(copied.path()).expect("it can be looked at");
        let found = store.all(b"").expect("a scan");
        for (key, value) in &found {
            let known = written.get(key).is_some_and(|values| values.contains(value));
            assert!(known, "round {round}: {name:?} at {at}: {} was never so", String::from_utf8_lossy(key));
        }
        worst = worst.min(found.len());
        assert!(found.len() * 10 > total * 8, "round {round}: {name:?} at {at}: {} of {total}", found.len());
    }
    println!("at least {worst} of {total} were saved");
}

/// A read without sled sees the same store as sled does.
#[test]
fn a_look_sees_what_the_store_has() {
    for seed in 0..setting("STORE_SEEDS", 6) {
        let mut random = Random::new(seed);
        let folder = TempDir::new().expect("a folder");
        let mut store = store::open(folder.path()).expect("it opens");
        for n in 0..40u64 {
            let mut batch = BTreeMap::new();
            for _ in 0..1 + random.below(40) {
                let size =
                    [3, 30, 400, 9_000, 150_000][random.below(if seed % 2 == 0 { 4 } else { 5 }) as usize];
                let value =
                    (!random.one_in(5)).then(|| (0..size).map(|_| random.next() as u8).collect::<Vec<u8>>());
                batch.insert(
                    format!("{}{}", ["h/", "i/", "x"][random.below(3) as usize], random.below(300))
                        .into_bytes(),
                    value,
                );
            }
            store.commit(&Batch::from(Vec::from_iter(batch))).expect("a commit");
            store.flush().expect("a flush");
            if random.one_in(8) {
                let whole = files(folder.path());
                let copied = TempDir::new().expect("a folder");
                lay_out(&whole, copied.path());
                let look = DiskStore::look(copied.path())
                    .unwrap_or_else(|error| panic!("seed {seed}, {n}: {error}"));
                for prefix in [&b""[..], b"h/", b"h/1", b"x29", b"z"] {
                    assert!(look.all(prefix) == store.all(prefix), "seed {seed}, {n}: {prefix:?}");
                }
                assert_eq!(look.verify(), store.verify());
                let (saved, lost) = DiskStore::salvage(copied.path()).expect("it can be looked at");
                assert!(saved.all(b"") == store.all(b""), "seed {seed}, {n}: {lost:?}");
                assert_eq!(lost, [""; 0]);
                assert!(files(copied.path()) == whole);
                assert!(matches!(
                    { look }.commit(&Batch::from(vec![(b"k".to_vec(), None)])),
                    Err(StoreError::ReadOnly { .. })
                ));
            }
            if random.one_in(10) {
                store.close().expect("a clean end");
                store = store::open(folder.path()).expect("it opens again");
            }
        }
        store.close().expect("a clean end");
    }
}

fn batch(key: &str) -> Batch {
    Batch::from(vec![(key.as_bytes().to_vec(), Some(key.as_bytes().to_vec()))])
}

/// Returns a store with acknowledged batches, each in a frame of its own in the log.
fn logged(folder: &Path, batches: usize) -> DiskStore {
    let mut store = store::open(folder).expect("it opens");
    for n in 0..batches {
        store.commit(&batch(&format!("k{n}"))).expect("a commit");
        store.flush().expect("a flush");
    }
    store
}

fn is_damaged(opened: Result<DiskStore, StoreError>) -> bool {
    matches!(opened, Err(StoreError::Damaged { .. }))
}

/// After a kill, each acknowledged frame is known, so a cut log is noticed.
#[test]
fn a_lost_end_of_the_log_is_noticed() {
    let folder = TempDir::new().expect("a folder");
    let store = logged(folder.path(), 62);
    let whole = files(folder.path());
    drop(store);
    let log = &whole[Path::new("wal")];
    let last = log.iter().rposition(|byte| *byte != 0).expect("frames");
    for at in [last, last - 20, last / 2, 30] {
        let mut damaged = whole.clone();
        damaged.get_mut(Path::new("wal")).expect("the log")[at..].fill(0);
        let copied = TempDir::new().expect("a folder");
        lay_out(&damaged, copied.path());
        assert!(is_damaged(store::open(copied.path())), "from {at}");
        assert!(files(copied.path()) == damaged, "from {at}: it was changed");
    }
}

/// Lost logs and watermarks, and older ones that are put back, are noticed: `lock` knows how far
/// they reached.
#[test]
fn files_that_are_removed_or_put_back_are_noticed() {
    for in_database in [false, true] {
        let folder = TempDir::new().expect("a folder");
        let mut store = logged(folder.path(), 3);
        if in_database {
            let writes = vec![(b"large".to_vec(), Some(vec![7; 200_000]))];
            store.commit(&Batch::from(writes)).expect("a commit");
            store.commit(&batch("more")).expect("a commit");
            store.flush().expect("a flush");
        }
        let before = files(folder.path());
        for n in 0..5 {
            store.commit(&batch(&format!("later{n}"))).expect("a commit");
            store.flush().expect("a flush");
        }
        let after = files(folder.path());
        drop(store);
        let opened = |change: &dyn Fn(&mut Files)| {
            let mut changed = after.clone();
            change(&mut changed);
            let copied = TempDir::new().expect("a folder");
            lay_out(&changed, copied.path());
            store::open(copied.path())
        };
        let remove = |names: &'static [&'static str]| {
            move |files: &mut Files| {
                files.retain(|path, _| !names.iter().any(|name| path.starts_with(name)));
            }
        };
        assert!(opened(&|_| ()).is_ok());
        assert!(is_damaged(opened(&remove(&["wal"]))), "{in_database}");
        assert!(is_damaged(opened(&remove(&["wal", "watermark"]))), "{in_database}");
        assert!(is_damaged(opened(&remove(&["wal", "watermark", "journal"]))), "{in_database}");
        let older = |files: &mut Files| {
            files.insert("wal".into(), before[Path::new("wal")].clone());
        };
        assert!(is_damaged(opened(&older)), "{in_database}: an older log");
        let older_with_mark = |files: &mut Files| {
            for name in ["wal", "watermark"] {
                files.insert(name.into(), before[Path::new(name)].clone());
            }
        };
        assert!(is_damaged(opened(&older_with_mark)), "{in_database}: an older log and watermark");
    }
}

/// Commits and flushes until one fails, at most 16 times. Returns the first error.
fn flushed(store: &mut DiskStore) -> Result<(), StoreError> {
    (0..16).try_for_each(|n| {
        store.commit(&batch(&format!("more{n}")))?;
        store.flush()
    })
}

/// A store whose `lock` was removed still has one owner, and the owner notices.
#[test]
fn a_store_without_its_lock_has_one_owner() {
    for large in [false, true] {
        let folder = TempDir::new().expect("a folder");
        let mut store = logged(folder.path(), 2);
        if large {
            let writes = vec![(b"large".to_vec(), Some(vec![7; 200_000]))];
            store.commit(&Batch::from(writes)).expect("a commit");
            store.flush().expect("a flush");
        }
        fs::remove_file(folder.path().join("lock")).expect("removed");
        let second = store::open(folder.path()).err();
        assert!(matches!(second, Some(StoreError::InUse { .. })), "{second:?}");
        assert!(!folder.path().join("lock").exists(), "one who may not have it leaves nothing");
        assert!(matches!(DiskStore::look(folder.path()).err(), Some(StoreError::InUse { .. })));
        let flushed = flushed(&mut store);
        assert!(matches!(flushed, Err(StoreError::Replaced { .. })), "{flushed:?}");
    }
}

/// A file that is unlinked or replaced is noticed before anything more is acknowledged.
#[test]
fn a_removed_file_is_noticed_by_who_writes() {
    for name in ["lock", "wal", "journal/db", ""] {
        for replaced in [false, true] {
            if name.is_empty() && replaced {
                continue;
            }
            let folder = TempDir::new().expect("a folder");
            let at = folder.path().join("store");
            let mut store = store::open(&at).expect("it opens");
            let writes = vec![(b"large".to_vec(), Some(vec![7; 200_000]))];
            store.commit(&Batch::from(writes)).expect("a commit");
            store.commit(&batch("one")).expect("a commit");
            store.flush().expect("a flush");
            let path = at.join(name);
            match name {
                "" => fs::remove_dir_all(&path).expect("removed"),
                _ => {
                    let bytes = fs::read(&path).expect("a file");
                    fs::remove_file(&path).expect("removed");
                    if replaced {
                        fs::write(&path, bytes).expect("replaced");
                    }
                }
            }
            let flushed = match name {
                // Without a log, no batch can be acknowledged.
                "wal" | "" if !replaced => store.commit(&batch("two")).and_then(|()| store.flush()),
                _ => flushed(&mut store),
            };
            assert!(matches!(flushed, Err(StoreError::Replaced { .. })), "{name} {replaced}: {flushed:?}");
            let writes = vec![(b"large".to_vec(), Some(vec![8; 200_000]))];
            let result = store.commit(&Batch::from(writes)).and_then(|()| store.flush());
            assert!(matches!(result, Err(StoreError::Replaced { .. })), "{name} {replaced}: {result:?}");
        }
    }
}

/// A process whose store is removed says so, and does not claim that nothing is lost.
#[test]
fn a_store_that_is_removed_while_it_runs() {
    let folder = TempDir::new().expect("a folder");
    fs::write(
        folder.path().join("s.df"),
        "activity f(n) => n\nfor i in 0..1_000_000 { f(i)\nprint(i)\nsleep(1ms) }\n",
    )
    .expect("a script");
    let child = Command::new(DURABLE)
        .current_dir(folder.path())
        .args(["run", "s.df"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("durable runs");
    while !folder.path().join(".durable/wal").exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
    let began = Instant::now();
    while fs::remove_dir_all(folder.path().join(".durable")).is_err()
        && began.elapsed() < Duration::from_secs(5)
    {}
    let ended = child.wait_with_output().expect("it ends");
    let words = stderr(&ended);
    assert_eq!(ended.status.code(), Some(4), "{words}");
    assert!(words.contains("was removed or replaced while the store was in use"), "{words}");
    assert!(!words.contains("nothing that was acknowledged is lost"), "{words}");
}

/// Runs a command as a user who may only read, if the tests run as root.
fn as_reader(folder: &Path, args: &[&str]) -> Option<Output> {
    let is_root =
        fs::metadata("/proc/self").is_ok_and(|data| std::os::unix::fs::MetadataExt::uid(&data) == 0);
    let mut command = match is_root {
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(folder.join("durable"));
            command
        }
        false => Command::new(DURABLE),
    };
    command.current_dir(folder).args(args).stdin(Stdio::null()).output().ok()
}

fn set_mode(path: &Path, mode: u32) {
    let rights = std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(path, rights).expect("rights are set");
}

#[test]
fn a_store_that_can_only_be_read_is_listed() {
    let folder = TempDir::new().expect("a folder");
    lay_out(&instances(), &folder.path().join(".durable"));
    fs::copy(DURABLE, folder.path().join("durable")).expect("a copy");
    set_mode(folder.path(), 0o755);
    set_mode(&folder.path().join("durable"), 0o755);
    let mut folders = vec![folder.path().join(".durable")];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { set_mode(&path, 0o444) }
        }
        set_mode(&next, 0o555);
    }
    let before = files(&folder.path().join(".durable"));
    let Some(list) = as_reader(folder.path(), &["list", "--json"]) else { return };
    assert_eq!(list.status.code(), Some(0), "{}", stderr(&list));
    assert_eq!(String::from_utf8_lossy(&list.stdout).lines().count(), 3);
    for args in [&["show", "one"][..], &["history", "two"], &["store", "verify"], &["store", "export"]] {
        let run = as_reader(folder.path(), args).expect("it runs");
        assert_eq!(run.status.code(), Some(0), "{args:?}: {}", stderr(&run));
    }
    for args in [&["raise", "one", "go"][..], &["resume", "three"], &["purge", "one", "--force"]] {
        let run = as_reader(folder.path(), args).expect("it runs");
        assert_eq!(run.status.code(), Some(4), "{args:?}: {}", stderr(&run));
        assert!(stderr(&run).contains("can't be written"), "{args:?}: {}", stderr(&run));
    }
    assert!(files(&folder.path().join(".durable")) == before);
    let mut folders = vec![folder.path().join(".durable")];
    while let Some(next) = folders.pop() {
        set_mode(&next, 0o755);
        folders.extend(
            fs::read_dir(&next)
                .expect("a folder")
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.is_dir()),
        );
    }
}

const NEEDS_A_DATABASE: &str = "activity big() => range(0, 1_000).map(fn _ => \"{random_int(0, 1_000_000_000)}\").join(\" \")\n\
     for i in 1..=60 { big(); print(i) }\n";

/// Runs a program that needs a database, first under a limit and then without one.
fn under(limit: &str, run: impl Fn(&Path, &str) -> Option<Output>) -> Option<i32> {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("big.df"), NEEDS_A_DATABASE).expect("a script");
    let limited = run(folder.path(), limit)?;
    match limited.status.code() {
        Some(0) => {}
        Some(4) => {
            let words = stderr(&limited);
            assert!(words.contains("the database can't be opened: it needs"), "{limit}: {words}");
            assert!(words.contains("nothing was changed; raise the limit"), "{limit}: {words}");
        }
        code => panic!("{limit}: {code:?} {}", stderr(&limited)),
    }
    let again = durable(folder.path(), &["run", "big.df", "--id", "big"]);
    assert_eq!(again.status.code(), Some(0), "{limit}: {}", stderr(&again));
    limited.status.code()
}

/// Without enough memory or threads, the database is not opened. The process says so in time, and a
/// later run goes on.
#[cfg(target_os = "linux")]
#[test]
fn a_database_without_memory_or_threads_is_refused() {
    let memory = |folder: &Path, limit: &str| {
        let limited = format!("ulimit -v {limit}; exec timeout 60 {DURABLE} run big.df --id big");
        Command::new("bash").current_dir(folder).args(["-c", &limited]).output().ok()
    };
    assert_eq!(under("600000", memory), Some(4));
    for limit in ["640000", "680000"] {
        under(limit, memory);
    }
    assert_eq!(under("1000000", memory), Some(0));
    // A limit of processes applies only to users without privileges.
    let threads = |folder: &Path, limit: &str| {
        fs::copy(DURABLE, folder.join("durable")).expect("a copy");
        set_mode(folder, 0o777);
        set_mode(&folder.join("durable"), 0o755);
        let limited = format!("ulimit -u {limit}; exec timeout 60 ./durable run big.df --id big");
        let mut command = Command::new("setpriv");
        // A user id that nobody else has.
        command.args(["--reuid=54321", "--regid=54321", "--clear-groups", "bash", "-c", &limited]);
        let run = command.current_dir(folder).output().ok()?;
        // Without the right to change users, this test is skipped.
        (!stderr(&run).contains("setpriv:")).then_some(run)
    };
    if under("8", threads).is_some() {
        assert_eq!(under("8", threads), Some(4));
        under("11", threads);
        assert_eq!(under("40", threads), Some(0));
    }
}
