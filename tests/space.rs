//! Disk space: removed data gives its space back.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{DURABLE, Random};
use durable::kv::{Batch, Read, SharedStore, Store};
use durable::store::DiskStore;
use tempfile::TempDir;

/// Returns the number of bytes of all files below a folder.
fn on_disk(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => on_disk(&entry.path()),
        _ => entry.metadata().map_or(0, |data| data.len()),
    };
    entries.map(size).sum()
}

fn random(random: &mut Random, bytes: usize) -> Vec<u8> {
    (0..bytes.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).take(bytes).collect()
}

const MIB: u64 = 1 << 20;

/// Makes a store with 32 MiB in values of the given size, and some values that stay.
fn filled(folder: &Path, size: usize) -> DiskStore {
    let mut store = DiskStore::open(folder).expect("a store");
    let mut values = Random::new(7);
    for number in 0..(32 << 20) / size {
        let mut batch = Batch::default();
        batch.put(format!("h/{number}").into_bytes(), random(&mut values, size));
        if number % 16 == 0 {
            batch.put(format!("i/{number}").into_bytes(), random(&mut values, 64));
        }
        store.commit(&batch).expect("a commit");
        store.flush().expect("a flush");
    }
    store
}

fn remove_all(store: &mut DiskStore) {
    let mut batch = Batch::default();
    for (key, _) in store.all(b"h/").expect("a scan") {
        batch.delete(key);
    }
    batch.put(b"i/last".to_vec(), b"here".to_vec());
    store.commit(&batch).expect("a commit");
    store.flush().expect("a flush");
}

#[test]
fn what_is_removed_gives_its_space_back_while_the_store_is_open() {
    for size in [20_000, 700_000] {
        let folder = TempDir::new().expect("a folder");
        let mut store = filled(folder.path(), size);
        assert!(on_disk(folder.path()) > 32 * MIB, "{size}");
        let reader = store.reader();
        let kept = store.all(b"i/").expect("a scan");
        remove_all(&mut store);
        assert!(on_disk(folder.path()) < 4 * MIB, "{size}: {}", on_disk(folder.path()));
        // Open readers and the writer go on.
        assert_eq!(reader.get(b"i/0").expect("read"), Some(kept[0].1.clone()));
        let mut more = Batch::default();
        more.put(b"i/more".to_vec(), vec![1; 300_000]);
        store.commit(&more).expect("a commit");
        store.flush().expect("a flush");
        drop(reader);
        store.close().expect("closed");
        let store = DiskStore::open(folder.path()).expect("it opens");
        store.verify().expect("it is whole");
        assert_eq!(store.all(b"i/").expect("a scan").len(), kept.len() + 2);
        store.close().expect("closed");
    }
}

#[test]
fn a_compaction_that_a_crash_broke_off() {
    let folder = TempDir::new().expect("a folder");
    let at = folder.path();
    let mut store = filled(at, 100_000);
    remove_all(&mut store);
    store.close().expect("closed");
    let contents = |what: &str| {
        let store = DiskStore::open(at).unwrap_or_else(|error| panic!("{what}: {error}"));
        store.verify().expect(what);
        let all = store.all(b"").expect("a scan");
        store.close().expect("closed");
        assert!(!at.join("journal.old").exists() && !at.join("compact").exists(), "{what}");
        all
    };
    let all = contents("as it is");
    // The crash came before the copy was complete.
    fs::create_dir(at.join("compact")).expect("made");
    fs::write(at.join("compact/db"), "half").expect("written");
    fs::write(at.join("compact.unfinished"), "").expect("written");
    assert_eq!(contents("half a copy"), all);
    assert!(!at.join("compact.unfinished").exists());
    // The crash came between the two renames.
    fs::create_dir(at.join("compact")).expect("made");
    fs::rename(at.join("journal"), at.join("journal.old")).expect("renamed");
    assert_eq!(contents("renamed"), all);
    // The crash came before the old folder was removed.
    fs::create_dir(at.join("journal.old")).expect("made");
    fs::write(at.join("journal.old/db"), "old").expect("written");
    assert_eq!(contents("left behind"), all);
}

const PROGRAM: &str = r#"
fn digits(count) => range(0, count).map(fn _ => "{random_int(0, 1000000000000)}").join(" ")
activity large(n) => digits(20000)
activity small(n) => digits(500)
let work = match args { ["large"] => fn n => large(n), _ => fn n => small(n) }
var total = 0
for n in 0..args[1].to_int() { total += work(n).len() }
print(total > 0)
"#;

fn durable(folder: &Path, args: &[&str]) -> String {
    let output = Command::new(DURABLE).current_dir(folder).args(args).stdin(Stdio::null()).output();
    let Output { status, stdout, stderr } = output.expect("durable runs");
    assert!(status.success(), "{args:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8_lossy(&stdout).into_owned()
}

#[test]
fn purge_gives_space_back_with_and_without_a_server() {
    let folder = TempDir::new().expect("a folder");
    let at = folder.path();
    fs::write(at.join("a.df"), PROGRAM).expect("a program");
    let journal = at.join(".durable/journal");
    for serves in [false, true] {
        durable(at, &["run", "a.df", "large", "100"]);
        durable(at, &["run", "a.df", "small", "3000"]);
        assert!(on_disk(&journal) > 16 * MIB, "{}", on_disk(&journal));
        let server = serves.then(|| {
            let server = Command::new(DURABLE).current_dir(at).arg("serve").stderr(Stdio::null()).spawn();
            let began = Instant::now();
            while !at.join(".durable/socket").exists() && began.elapsed() < Duration::from_secs(60) {
                std::thread::sleep(Duration::from_millis(5));
            }
            server.expect("durable runs")
        });
        durable(at, &["purge", "--prefix", "a-"]);
        assert_eq!(durable(at, &["list"]).lines().count(), 1);
        assert!(on_disk(&journal) < 4 * MIB, "{serves}: {}", on_disk(&journal));
        if let Some(mut server) = server {
            server.kill().expect("killed");
            server.wait().expect("ended");
        }
        durable(at, &["store", "verify"]);
    }
}

/// Many small values take many times their size, also in a new database: they are no reason to write
/// the database anew whenever a process ends.
#[test]
fn a_database_of_small_values_is_not_written_anew() {
    let folder = TempDir::new().expect("a folder");
    let mut store = DiskStore::open(folder.path()).expect("a store");
    let mut values = Random::new(3);
    for number in 0..120 {
        let mut batch = Batch::default();
        for key in 0..1_000 {
            batch.put(format!("i/{:016x}", values.next()).into_bytes(), vec![key as u8; 8]);
        }
        batch.put(b"c/number".to_vec(), vec![number]);
        store.commit(&batch).expect("a commit");
        store.flush().expect("a flush");
    }
    store.close().expect("closed");
    let database = folder.path().join("journal/db");
    let file = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&database).expect("a database"));
    let before = file();
    assert!(on_disk(folder.path()) > 16 * MIB, "{}", on_disk(folder.path()));
    for _ in 0..2 {
        let mut store = DiskStore::open(folder.path()).expect("it opens");
        let mut batch = Batch::default();
        batch.put(b"c/more".to_vec(), vec![1]);
        store.commit(&batch).expect("a commit");
        store.close().expect("closed");
        assert_eq!(file(), before, "it was written anew");
    }
}
