//! The store: the same tests for memory and for sled, and the messages about stores that are
//! damaged, locked, newer, on a full disk or not writable.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{DURABLE, Random, setting};
use durable::kv::conformance::{self, Subject};
use durable::kv::{self, Batch, MemoryStore, MemoryTree, Read, SharedStore, Store, StoreError};
use durable::store::{self, DiskStore, SledTree, Verified};
use tempfile::TempDir;

fn batch(writes: &[(&str, Option<&str>)]) -> Batch {
    let write = |(key, value): &(&str, Option<&str>)| {
        (key.as_bytes().to_vec(), value.map(|value| value.as_bytes().to_vec()))
    };
    Batch::from(Vec::from_iter(writes.iter().map(write)))
}

fn text(pairs: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(String, String)> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    pairs.into_iter().map(|(key, value)| (text(key), text(value))).collect()
}

/// A store in a folder, with the function that opens it.
struct InFolder<S> {
    folder: TempDir,
    open: fn(&Path) -> Result<S, StoreError>,
}

impl<S: Store> Subject for InFolder<S> {
    type Store = S;

    fn open(&mut self) -> Result<S, StoreError> {
        (self.open)(self.folder.path())
    }

    fn is_kept(&self) -> bool {
        true
    }
}

fn in_folder<S>(open: fn(&Path) -> Result<S, StoreError>) -> InFolder<S> {
    InFolder { folder: TempDir::new().expect("a folder"), open }
}

struct InMemory;

impl Subject for InMemory {
    type Store = Verified<MemoryTree>;

    fn open(&mut self) -> Result<Verified<MemoryTree>, StoreError> {
        Verified::open(MemoryTree::default(), None, None)
    }

    fn is_kept(&self) -> bool {
        false
    }
}

/// Every store follows the rules of the port.
#[test]
fn a_local_store_refuses_what_concerns_other_partitions() {
    let folder = TempDir::new().expect("a folder");
    let disk = store::open(folder.path()).expect("a store");
    let stores: [Box<dyn SharedStore>; 2] = [Box::new(disk), Box::new(MemoryStore::default())];
    for mut store in stores {
        let mut sending = batch(&[("i/x", Some("1"))]);
        sending.transit.sends.insert(1, vec![1]);
        let refused = store.commit(&sending);
        assert!(matches!(refused, Err(StoreError::Internal { .. })), "{refused:?}");
        assert_eq!(store.get(b"i/x"), Ok(None));
    }
}

#[test]
fn stores_conform() {
    for seed in 0..setting("STORE_SEEDS", 6) {
        let sled = |folder: &Path| SledTree::open(&folder.join("journal"));
        let proven = |folder: &Path| Verified::open(SledTree::open(&folder.join("journal"))?, None, None);
        let runs = [
            ("memory", conformance::check(&mut InMemory, seed, 300)),
            ("sled", conformance::check(&mut in_folder(sled), seed, 200)),
            ("sled with its proof", conformance::check(&mut in_folder(proven), seed, 200)),
            ("folder", conformance::check(&mut in_folder(store::open), seed, 300)),
        ];
        for (name, result) in runs {
            assert_eq!(result, Ok(()), "{name}, seed {seed}");
        }
    }
}

struct SharedMemory;

impl Subject for SharedMemory {
    type Store = MemoryStore;

    fn open(&mut self) -> Result<MemoryStore, StoreError> {
        Ok(MemoryStore::default())
    }

    fn is_kept(&self) -> bool {
        false
    }
}

/// Stores that a host can run on also follow the rules for readers on other threads.
#[test]
fn shared_stores_conform() {
    assert_eq!(conformance::check(&mut SharedMemory, 3, 300), Ok(()));
    assert_eq!(conformance::check_shared(&mut SharedMemory, 3_000), Ok(()));
    assert_eq!(conformance::check_shared(&mut in_folder(store::open), 300), Ok(()));
}

/// A store in memory whose readers see nothing of later batches.
struct Stale(MemoryTree);

impl Read for Stale {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(key)
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: kv::Visit<'_>) -> Result<(), StoreError> {
        self.0.scan_from(prefix, from, visit)
    }
}

impl Store for Stale {
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.0.commit(batch)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn end(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        0
    }
}

impl SharedStore for Stale {
    fn reader(&self) -> kv::Reader {
        kv::Reader::new(self.0.clone())
    }
}

impl Subject for Stale {
    type Store = Stale;

    fn open(&mut self) -> Result<Stale, StoreError> {
        Ok(Stale(MemoryTree::default()))
    }

    fn is_kept(&self) -> bool {
        false
    }
}

#[test]
fn the_rules_for_readers_can_be_broken() {
    assert_eq!(conformance::check(&mut Stale(MemoryTree::default()), 1, 100), Ok(()));
    assert!(conformance::check_shared(&mut Stale(MemoryTree::default()), 10).is_err());
}

/// A store that loses the last write of each larger batch, and so does not conform.
struct Forgetful(MemoryTree);

impl Read for Forgetful {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(key)
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: kv::Visit<'_>) -> Result<(), StoreError> {
        self.0.scan_from(prefix, from, visit)
    }
}

impl Store for Forgetful {
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let mut batch = batch.clone();
        batch.writes.truncate(6);
        self.0.commit(&batch)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn end(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        0
    }
}

impl Subject for Forgetful {
    type Store = Forgetful;

    fn open(&mut self) -> Result<Forgetful, StoreError> {
        Ok(Forgetful(MemoryTree::default()))
    }

    fn is_kept(&self) -> bool {
        false
    }
}

#[test]
fn a_store_that_loses_writes_does_not_conform() {
    assert!(conformance::check(&mut Forgetful(MemoryTree::default()), 1, 100).is_err());
}

/// A store that fails in the middle of a batch after some commits, with a part of the batch
/// written.
struct Breaking {
    tree: std::rc::Rc<std::cell::RefCell<MemoryTree>>,
    random: Random,
    left: u64,
}

impl Read for Breaking {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.tree.borrow().get(key)
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: kv::Visit<'_>) -> Result<(), StoreError> {
        self.tree.borrow().scan_from(prefix, from, visit)
    }
}

impl Store for Breaking {
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        if self.left > 0 {
            self.left -= 1;
            return self.tree.borrow_mut().commit(batch);
        }
        // Writes happen in order, and a single write is atomic.
        let mut part = batch.clone();
        part.writes.truncate(self.random.below(1 + batch.writes.len() as u64) as usize);
        self.tree.borrow_mut().commit(&part)?;
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        Err(StoreError::of_io("write".into(), full))
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn end(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        0
    }
}

/// An interrupted batch is there as a whole or not at all, even if the undo is interrupted as well.
#[test]
fn a_broken_batch_is_whole_or_not_there() {
    for seed in 0..1_000 {
        let tree = std::rc::Rc::new(std::cell::RefCell::new(MemoryTree::default()));
        let mut random = Random::new(seed);
        let breaking = |random: &mut Random, left: u64| Breaking {
            tree: tree.clone(),
            random: Random::new(random.next()),
            left,
        };
        let left = 2 + random.below(16);
        let mut store =
            Verified::open(breaking(&mut random, left), None, None).expect("an empty store opens");
        let (mut known, mut last) = (Vec::new(), Vec::new());
        for n in 0..20 {
            let writes = (0..1 + random.below(5)).map(|_| {
                let value = (!random.one_in(4)).then(|| format!("{n}").into_bytes());
                (format!("k{}", random.below(8)).into_bytes(), value)
            });
            let mut batch = Batch::from(Vec::from_iter(writes));
            if random.one_in(2) {
                batch.put(b"large".to_vec(), vec![n; 4096]);
            }
            batch.writes.sort();
            batch.writes.dedup_by(|a, b| a.0 == b.0);
            let mut whole = MemoryTree { tree: known.iter().cloned().collect() };
            whole.commit(&batch).expect("memory can be written");
            last = whole.all(b"").expect("a scan");
            if store.commit(&batch).is_err() {
                break;
            }
            known = last.clone();
        }
        // The first opening after the failure is interrupted too.
        let left = random.below(3);
        let _ = Verified::open(breaking(&mut random, left), None, None);
        let store = Verified::open(tree.borrow().clone(), None, None)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let found = store.all(b"").expect("a scan");
        assert!(found == known || found == last, "seed {seed}: {found:?} is neither {known:?} nor {last:?}");
    }
}

#[test]
fn what_was_flushed_is_there_again() {
    let folder = TempDir::new().expect("a folder");
    let mut store = store::open(folder.path()).expect("it opens");
    for n in 0..500 {
        store
            .commit(&batch(&[(&format!("k/{n:04}"), Some("value")), ("last", Some(&n.to_string()))]))
            .expect("a commit");
    }
    store.close().expect("a clean end");
    let store = store::open(folder.path()).expect("it opens again");
    assert_eq!(store.all(b"k/").expect("a scan").len(), 500);
    assert_eq!(store.get(b"last"), Ok(Some(b"499".to_vec())));
}

/// Returns a batch with a value that does not fit the log, so that all of it goes to the database.
fn large(writes: &[(&str, Option<&str>)]) -> Batch {
    let mut batch = batch(writes);
    batch.put(b"large".to_vec(), vec![7; 200_000]);
    batch
}

/// A single value that is changed behind the store's back is noticed.
#[test]
fn a_changed_value_is_noticed() {
    for change in ["changed", "removed", "added"] {
        let folder = TempDir::new().expect("a folder");
        let mut store = store::open(folder.path()).expect("it opens");
        store.commit(&large(&[("a", Some("1")), ("b", Some("2"))])).expect("a commit");
        store.commit(&batch(&[("last", Some("3"))])).expect("a commit");
        store.close().expect("a clean end");
        let mut tree = SledTree::open(&folder.path().join("journal")).expect("sled opens");
        let write = match change {
            "changed" => batch(&[("a", Some("9"))]),
            "removed" => batch(&[("b", None)]),
            _ => batch(&[("c", Some("3"))]),
        };
        tree.commit(&write).expect("a write behind the back");
        tree.end().expect("a clean end");
        let opened = store::open(folder.path());
        assert!(matches!(opened.err(), Some(StoreError::Damaged { .. })), "{change}");
    }
}

/// A kill while sled writes a snapshot leaves an unfinished file, which is no damage.
#[test]
fn an_unfinished_snapshot_is_no_damage() {
    let folder = TempDir::new().expect("a folder");
    let mut store = store::open(folder.path()).expect("it opens");
    store.commit(&large(&[("a", Some("1"))])).expect("a commit");
    store.close().expect("a clean end");
    fs::write(folder.path().join("journal/snap.0000000000FFFFFF.generating"), "").expect("a file");
    let store = store::open(folder.path()).expect("it opens again");
    assert_eq!(store.get(b"a"), Ok(Some(b"1".to_vec())));
}

/// Returns the contents of a store.
fn contents(store: &DiskStore) -> Vec<(Vec<u8>, Vec<u8>)> {
    store.all(b"").expect("a scan")
}

/// Copies a store's folder as a kill leaves it.
fn killed(folder: &Path) -> TempDir {
    let copied = TempDir::new().expect("a folder");
    copy(folder, copied.path());
    copied
}

/// Copies a store's folder as a loss of power may leave it: without `lock`, whose note of
/// acknowledged frames is not synced.
fn without_power(folder: &Path) -> TempDir {
    let copied = killed(folder);
    fs::remove_file(copied.path().join("lock")).expect("removed");
    copied
}

/// Batches of any size, flushed or not, with clean ends, and with a kill after any of them. Flushed
/// batches are there, and no batch is there in part. `STORE_SEEDS` (12) is the number of seeds.
#[test]
fn what_was_flushed_survives_a_kill() {
    for seed in 0..setting("STORE_SEEDS", 12) {
        let mut random = Random::new(seed);
        let folder = TempDir::new().expect("a folder");
        let mut store = store::open(folder.path()).expect("it opens");
        let mut known = MemoryTree::default();
        // The contents at the last flush, and those after each batch since.
        let mut may_be = vec![Vec::new()];
        for n in 0..60u64 {
            let writes = (0..1 + random.below(6)).map(|_| {
                let size = [3, 30, 400, 9_000, 40_000][random.below(5) as usize / (1 + n as usize % 3)];
                let value = (!random.one_in(5)).then(|| (0..size).map(|_| random.next() as u8).collect());
                (
                    format!("{}{}", ["h/", "i/", "x"][random.below(3) as usize], random.below(9))
                        .into_bytes(),
                    value,
                )
            });
            let writes: BTreeMap<Vec<u8>, Option<Vec<u8>>> = writes.collect();
            let batch = Batch::from(Vec::from_iter(writes));
            store.commit(&batch).expect("a commit");
            known.commit(&batch).expect("memory can be written");
            let now = known.all(b"").expect("a scan");
            assert!(contents(&store) == now, "seed {seed}: what was written can be read");
            assert!(store.reader().all(b"h/").ok() == known.all(b"h/").ok());
            may_be.push(now);
            if random.one_in(2) {
                store.flush().expect("a flush");
                may_be.drain(..may_be.len() - 1);
            }
            if random.one_in(10) {
                store.close().expect("a clean end");
                store = store::open(folder.path()).expect("it opens again");
                may_be.drain(..may_be.len() - 1);
            }
            if random.one_in(6) {
                let copied = killed(folder.path());
                let copy = store::open(copied.path()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                let found = contents(&copy);
                assert!(may_be.contains(&found), "seed {seed}: it opens with something else");
                let report = copy.verify().expect("it adds up");
                assert_eq!(report.keys, found.len() as u64, "seed {seed}");
                // The copy is closed as it is or after a commit, or killed again before that.
                let goes_on = random.one_in(2);
                let mut copy = copy;
                if goes_on {
                    copy.commit(&batch_of("new")).expect("a commit");
                    copy.flush().expect("a flush");
                }
                let again = random.one_in(2).then(|| killed(copied.path()));
                copy.close().expect("a clean end");
                let again = store::open(again.as_ref().unwrap_or(&copied).path());
                let again = again.unwrap_or_else(|error| panic!("seed {seed}, again: {error}"));
                let mut expected = found;
                if goes_on {
                    expected.push((b"new".to_vec(), b"new".to_vec()));
                    expected.sort();
                }
                assert!(contents(&again) == expected, "seed {seed}");
            }
        }
        let last = contents(&store);
        store.close().expect("a clean end");
        assert!(contents(&store::open(folder.path()).expect("it opens")) == last);
    }
}

fn batch_of(key: &str) -> Batch {
    batch(&[(key, Some(key))])
}

/// A last frame that is torn or changed is left out, and the others stay. A fault before it is
/// damage.
#[test]
fn a_torn_frame_is_left_out_and_a_lost_one_is_damage() {
    let folder = TempDir::new().expect("a folder");
    let mut store = store::open(folder.path()).expect("it opens");
    let mut ends = Vec::new();
    for key in ["one", "two", "three"] {
        store.commit(&batch_of(key)).expect("a commit");
        store.flush().expect("a flush");
        let bytes = fs::read(folder.path().join("wal")).expect("the log");
        ends.push(1 + bytes.iter().rposition(|byte| *byte != 0).expect("a frame"));
    }
    let opened_of = |copied: TempDir, change: &dyn Fn(&mut Vec<u8>)| {
        let path = copied.path().join("wal");
        let mut bytes = fs::read(&path).expect("the log");
        change(&mut bytes);
        fs::write(&path, bytes).expect("a changed log");
        store::open(copied.path()).map(|store| text(contents(&store)).len())
    };
    let opened = |change: &dyn Fn(&mut Vec<u8>)| opened_of(without_power(folder.path()), change);
    let damaged = |result: Result<usize, StoreError>| matches!(result, Err(StoreError::Damaged { .. }));
    assert_eq!(opened(&|_| ()), Ok(3));
    for at in ends[1]..ends[2] {
        assert_eq!(opened(&|bytes| bytes[at..].fill(0)), Ok(2), "torn at {at}");
        assert_eq!(opened(&|bytes| bytes[at] ^= 4), Ok(2), "changed at {at}");
        // After a kill, the last frame is known to be acknowledged.
        let changed = opened_of(killed(folder.path()), &|bytes| bytes[at] ^= 4);
        assert!(damaged(changed), "acknowledged, and changed at {at}");
    }
    for at in 0..ends[1] {
        assert!(damaged(opened(&|bytes| bytes[at] ^= 4)), "changed at {at}");
    }
    assert!(damaged(opened(&|bytes| bytes.truncate(ends[2]))));
    let copied = killed(folder.path());
    fs::remove_file(copied.path().join("wal")).expect("removed");
    assert!(damaged(store::open(copied.path()).map(|_| 0)), "it is missing");
}

/// The same for frames that are compressed: a changed frame may still be decompressed.
#[test]
fn a_changed_frame_is_left_out_though_it_is_compressed() {
    let folder = TempDir::new().expect("a folder");
    let mut store = store::open(folder.path()).expect("it opens");
    let mut random = Random::new(setting("STORE_SEED", 1));
    let mut ends = Vec::new();
    for key in ["one", "two", "three"] {
        let words = (0..200).map(|_| format!("{key} {} ", random.below(4)));
        store.commit(&batch(&[(key, Some(&words.collect::<String>()))])).expect("a commit");
        store.flush().expect("a flush");
        let bytes = fs::read(folder.path().join("wal")).expect("the log");
        ends.push(1 + bytes.iter().rposition(|byte| *byte != 0).expect("a frame"));
    }
    assert!(ends[2] - ends[1] > 100 && ends[2] - ends[1] < 1_000, "it is compressed: {ends:?}");
    let known = contents(&store);
    let bytes = fs::read(folder.path().join("wal")).expect("the log");
    for round in 0..300 {
        // After a loss of power, the last frame may be unacknowledged, but not the one before it.
        let is_last = random.one_in(2);
        let frame = if is_last { ends[1]..ends[2] } else { ends[0]..ends[1] };
        let at = frame.start + random.below(frame.len() as u64) as usize;
        let mut changed = bytes.clone();
        match random.below(3) {
            0 => changed[at] ^= 1 << random.below(8),
            1 => changed[at..frame.end].fill(0),
            _ => (at..frame.end).for_each(|at| changed[at] = random.next() as u8),
        }
        if changed == bytes {
            continue;
        }
        let copied = killed(folder.path());
        fs::write(copied.path().join("wal"), &changed).expect("a changed log");
        let error = store::open(copied.path()).err();
        assert!(matches!(error, Some(StoreError::Damaged { .. })), "round {round}: {error:?}");
        let copied = without_power(folder.path());
        fs::write(copied.path().join("wal"), changed).expect("a changed log");
        match store::open(copied.path()) {
            Ok(store) => assert!(
                is_last
                    && contents(&store)
                        == known[..].iter().filter(|(key, _)| key != b"three").cloned().collect::<Vec<_>>(),
                "round {round}"
            ),
            Err(error) => {
                assert!(!is_last && matches!(error, StoreError::Damaged { .. }), "round {round}: {error}")
            }
        }
    }
}

/// After a clean end the number of frames is known, so a torn frame is damage.
#[test]
fn a_frame_that_is_torn_after_a_clean_end_is_damage() {
    let folder = TempDir::new().expect("a folder");
    for (number, key) in ["one", "two", "three", "four"].into_iter().enumerate() {
        let mut store = store::open(folder.path()).expect("it opens");
        assert_eq!(contents(&store).len(), number);
        store.commit(&batch_of(key)).expect("a commit");
        if number % 2 == 0 {
            store.flush().expect("a flush");
        }
        store.close().expect("a clean end");
        // The watermark alone suffices; `lock` is not needed.
        for copied in [killed(folder.path()), without_power(folder.path())] {
            let path = copied.path().join("wal");
            let mut bytes = fs::read(&path).expect("the log");
            let last = bytes.iter().rposition(|byte| *byte != 0).expect("a frame");
            bytes[last] = 0;
            fs::write(&path, bytes).expect("a torn log");
            let error = store::open(copied.path()).err();
            assert!(matches!(error, Some(StoreError::Damaged { .. })), "after {key}: {error:?}");
        }
    }
}

/// Deletions and changes in the log hide the database's values, for every way of reading.
#[test]
fn the_log_is_above_the_database() {
    let folder = TempDir::new().expect("a folder");
    let mut store = store::open(folder.path()).expect("it opens");
    store.commit(&large(&[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))])).expect("a commit");
    store.commit(&batch(&[("a", None), ("b", Some("2")), ("d", Some("2"))])).expect("a commit");
    store.flush().expect("a flush");
    let check = |store: &DiskStore| {
        let reader = store.reader();
        for (key, value) in [("a", None), ("b", Some("2")), ("c", Some("1")), ("d", Some("2"))] {
            let wanted = value.map(|value| value.as_bytes().to_vec());
            assert_eq!(store.get(key.as_bytes()).expect("a value"), wanted, "{key}");
            assert_eq!(reader.get(key.as_bytes()).expect("a value"), wanted, "{key}");
        }
        let keys: Vec<Vec<u8>> = contents(store).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, [&b"b"[..], b"c", b"d", b"large"]);
    };
    check(&store);
    let copied = killed(folder.path());
    check(&store::open(copied.path()).expect("it opens after a kill"));
    store.close().expect("a clean end");
    check(&store::open(folder.path()).expect("it opens again"));
}

/// A store on a machine that loses what was not flushed, and whose disk may refuse to flush.
#[derive(Clone, Default)]
struct Machine {
    memory: std::rc::Rc<std::cell::RefCell<MemoryTree>>,
    disk: std::rc::Rc<std::cell::RefCell<MemoryTree>>,
    refuses: std::rc::Rc<std::cell::Cell<bool>>,
}

impl Machine {
    /// Returns the machine after a loss of power.
    fn again(&self) -> Machine {
        let tree = self.disk.borrow().tree.clone();
        let of = |tree| std::rc::Rc::new(std::cell::RefCell::new(MemoryTree { tree }));
        Machine { memory: of(tree.clone()), disk: of(tree), refuses: Default::default() }
    }
}

impl Read for Machine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.memory.borrow().get(key)
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: kv::Visit<'_>) -> Result<(), StoreError> {
        self.memory.borrow().scan_from(prefix, from, visit)
    }
}

impl Store for Machine {
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.memory.borrow_mut().commit(batch)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if self.refuses.get() {
            return Err(StoreError::of_io("flush".into(), std::io::Error::other("input/output error")));
        }
        self.disk.borrow_mut().tree = self.memory.borrow().tree.clone();
        Ok(())
    }

    fn end(&mut self) -> Result<(), StoreError> {
        self.flush()
    }

    fn size_bytes(&self) -> u64 {
        0
    }
}

/// The watermark never counts more than is durable. A failed flush acknowledges nothing, at
/// whichever flush the watermark is written.
#[test]
fn a_watermark_is_never_ahead_of_the_disk() {
    for fails_at in [1, 2, 3, 255, 256, 257, 258, 300, 512, 513, 514] {
        let folder = TempDir::new().expect("a folder");
        let watermark = folder.path().join("watermark");
        let machine = Machine::default();
        let open = |machine: &Machine| Verified::open(machine.clone(), Some(watermark.clone()), None);
        let mut store = open(&machine).expect("an empty store opens");
        for n in 1..=fails_at {
            store.commit(&batch(&[("key", Some(&n.to_string()))])).expect("a commit");
            machine.refuses.set(n == fails_at);
            assert_eq!(store.flush().is_err(), n == fails_at);
        }
        drop(store);
        let store = open(&machine.again()).unwrap_or_else(|error| panic!("flush {fails_at} fails: {error}"));
        assert_eq!(store.commits(), fails_at - 1);
        // The watermark counts what was flushed: a disk that loses it is noticed.
        if fails_at > 2 {
            let lost = Machine::default();
            assert!(matches!(open(&lost), Err(StoreError::Damaged { .. })));
        }
    }
}

/// The watermark may be older than the database. Its number of frames is then of an earlier
/// generation, even if a killed store is only read.
#[test]
fn a_watermark_of_before_says_nothing_of_the_log() {
    let folder = TempDir::new().expect("a folder");
    let mut store = store::open(folder.path()).expect("it opens");
    store.commit(&large(&[])).expect("a commit");
    for key in ["one", "two", "three"] {
        store.commit(&batch_of(key)).expect("a commit");
        store.flush().expect("a flush");
    }
    store.close().expect("a clean end");
    let mut store = store::open(folder.path()).expect("it opens");
    store.commit(&large(&[])).expect("a commit");
    store.commit(&batch_of("four")).expect("a commit");
    store.flush().expect("a flush");
    let copied = killed(folder.path());
    for _ in 0..3 {
        let store = store::open(copied.path()).expect("it opens");
        assert_eq!(contents(&store).len(), 5);
        store.close().expect("a clean end");
    }
}

/// The watermark need not be durable when the log is created. Without it the log counts, and
/// reading leaves the log as it is.
#[test]
fn a_log_without_a_watermark_stays() {
    let folder = TempDir::new().expect("a folder");
    let mut store = store::open(folder.path()).expect("it opens");
    store.commit(&batch_of("one")).expect("a commit");
    store.flush().expect("a flush");
    let copied = killed(folder.path());
    fs::remove_file(copied.path().join("watermark")).expect("removed");
    for _ in 0..3 {
        let store = store::open(copied.path()).expect("it opens");
        assert_eq!(contents(&store).len(), 1);
        store.close().expect("a clean end");
    }
}

/// A database that is older than its log is damaged.
#[test]
fn a_database_behind_its_log_is_noticed() {
    let folder = TempDir::new().expect("a folder");
    let mut store = store::open(folder.path()).expect("it opens");
    store.commit(&large(&[("one", Some("1"))])).expect("a commit");
    store.flush().expect("a flush");
    let before = killed(folder.path());
    store.commit(&large(&[])).expect("a commit");
    store.commit(&batch_of("two")).expect("a commit");
    store.flush().expect("a flush");
    let after = killed(folder.path());
    fs::remove_dir_all(after.path().join("journal")).expect("removed");
    copy(&before.path().join("journal"), &after.path().join("journal"));
    let error = store::open(after.path()).err();
    assert!(matches!(error, Some(StoreError::Damaged { .. })), "{error:?}");
}

/// A log that was being created when the power was lost holds nothing acknowledged, so it is
/// created anew.
#[test]
fn a_log_that_was_being_made_is_made_anew() {
    let folder = TempDir::new().expect("a folder");
    store::open(folder.path()).expect("it opens").close().expect("a clean end");
    fs::write(folder.path().join("wal"), "df-").expect("a file");
    let mut store = store::open(folder.path()).expect("it opens");
    store.commit(&batch_of("one")).expect("a commit");
    store.flush().expect("a flush");
    let copied = killed(folder.path());
    assert_eq!(contents(&store::open(copied.path()).expect("it opens")).len(), 1);
}

/// A kill while a store is created leaves files that sled can't open. Nothing in them was
/// acknowledged, so the store is created anew.
#[test]
fn a_store_that_was_killed_while_it_was_made_is_made_anew() {
    let folder = TempDir::new().expect("a folder");
    let mark = folder.path().join("journal.unfinished");
    fs::create_dir_all(folder.path().join("journal/blobs")).expect("a folder");
    fs::write(folder.path().join("journal/conf"), "segment_size: 524288\nuse_comp").expect("a file");
    assert!(store::open(folder.path()).is_err(), "without the file it is damage");
    fs::write(&mark, "").expect("a file");
    let mut store = store::open(folder.path()).expect("it opens");
    assert_eq!(store.all(b""), Ok(Vec::new()));
    assert!(mark.exists(), "nothing is durable yet");
    store.commit(&large(&[("a", Some("1"))])).expect("a commit");
    store.flush().expect("a flush");
    assert!(!mark.exists());
    store.close().expect("a clean end");
    // The file may come back after a loss of power, on a disk that does not sync folders. The data
    // stays.
    fs::write(&mark, "").expect("a file");
    let store = store::open(folder.path()).expect("it opens again");
    assert_eq!(store.get(b"a"), Ok(Some(b"1".to_vec())));
    store.close().expect("a clean end");
    assert!(!mark.exists());
}

#[test]
fn a_newer_format_is_not_touched() {
    let folder = TempDir::new().expect("a folder");
    store::open(folder.path()).expect("it opens").close().expect("a clean end");
    let mut tree = SledTree::open(&folder.path().join("journal")).expect("sled opens");
    let record = Batch::from(vec![(b"!proof".to_vec(), Some(vec![9, 0, 0, 0, 1, 2, 3]))]);
    tree.commit(&record).expect("a write");
    tree.end().expect("a clean end");
    assert_eq!(store::open(folder.path()).err(), Some(StoreError::Newer { found: 9, known: 5 }));
}

/// A store of the first format, whose record lies among the other keys, can be read and written.
#[test]
fn a_store_of_the_first_format_goes_on() {
    let folder = TempDir::new().expect("a folder");
    store::open(folder.path()).expect("it opens").close().expect("a clean end");
    let body = postcard::to_stdvec(&(5u64, 0u128)).expect("bytes");
    let check = xxhash_rust::xxh3::xxh3_64(&body).to_le_bytes();
    let db = sled::open(folder.path().join("journal")).expect("sled opens");
    db.insert("!proof", [&1u32.to_le_bytes()[..], &check, &body].concat()).expect("a write");
    db.flush().expect("a flush");
    drop(db);
    for commits in [5, 6] {
        let mut store = store::open(folder.path()).expect("it opens");
        assert_eq!(store.commits(), commits);
        store.commit(&large(&[("a", Some(&commits.to_string()))])).expect("a commit");
        store.close().expect("a clean end");
    }
    assert_eq!(store::open(folder.path()).expect("it opens").get(b"a"), Ok(Some(b"6".to_vec())));
}

/// A store of the second format completes its interrupted last batch if the record has the writes,
/// and undoes it if there is an undo record.
#[test]
fn a_store_of_the_second_format_goes_on() {
    type Writes<'a> = &'a [(usize, &'a str, Option<&'a str>)];
    let with_check = |body: &[u8]| [&xxhash_rust::xxh3::xxh3_64(body).to_le_bytes()[..], body].concat();
    let packed = |writes: Writes<'_>| {
        writes.iter().flat_map(|write| postcard::to_stdvec(write).expect("bytes")).collect::<Vec<u8>>()
    };
    let hash = |key: &str, value: &str| {
        let hashed = [&(key.len() as u64).to_le_bytes()[..], key.as_bytes(), value.as_bytes()].concat();
        xxhash_rust::xxh3::xxh3_128(&hashed)
    };
    let sum = hash("k/a", "1").wrapping_add(hash("k/b", "2"));
    for (redone, there) in
        [(true, vec!["k/a"]), (true, vec![]), (false, vec!["k/a", "k/b"]), (false, vec!["k/c"])]
    {
        let mut tree = MemoryTree::default();
        let redo: Writes<'_> = &[(0, "k/a", Some("1")), (2, "b", Some("2"))];
        let undo: Writes<'_> = &[(0, "k/a", Some("1")), (2, "b", Some("2")), (2, "c", None)];
        let body = postcard::to_stdvec(&(1u64, sum)).expect("bytes");
        let body = [body, if redone { packed(redo) } else { Vec::new() }].concat();
        let record = [&2u32.to_le_bytes()[..], &with_check(&body)].concat();
        tree.tree.insert(b"!proof".to_vec(), record);
        if !redone {
            tree.tree.insert(b"!undo".to_vec(), with_check(&packed(undo)));
        }
        for key in there {
            let value = if redone { "1" } else { "9" };
            tree.tree.insert(key.as_bytes().to_vec(), value.as_bytes().to_vec());
        }
        let mut store = Verified::open(tree, None, None).expect("it opens");
        store.verify().expect("it adds up");
        assert_eq!(
            text(store.all(b"k/").expect("a scan")),
            [("k/a".into(), "1".into()), ("k/b".into(), "2".into())]
        );
        store.commit(&batch(&[("k/a", None)])).expect("a commit");
        assert_eq!(store.commits(), 2);
        store.verify().expect("it adds up");
    }
}

fn durable(folder: &Path, args: &[&str]) -> Output {
    Command::new(DURABLE).current_dir(folder).args(args).output().expect("durable runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Returns a store with a completed and a failed instance.
fn example() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    // Random numbers do not compress, so some results fit the log and the others go to the
    // database.
    let script = "activity f(x) => {x, d: 5s, t: now(), b: bytes.of([1]), f: 1.5, n: range(0, 600).map(fn _ => random_int(0, 1_000_000_000))}\n\
                  for i in 0..20 { print(f(i).x) }\nprint(try { fs.read(\"none\") } catch {kind} { kind })\n\
                  race([async sleep(1h), async sleep(1ms)])\nlet line = input(\"\")\nif line == \"bad\" { throw {kind: \"bad\", line} }\n[line, now()]\n";
    fs::write(folder.path().join("s.df"), script).expect("a script");
    for (id, line) in [("one", "a\n"), ("two", "bad\n")] {
        let mut child = Command::new(DURABLE)
            .current_dir(folder.path())
            .args(["run", "s.df", "--id", id])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("durable runs");
        std::io::Write::write_all(&mut child.stdin.take().expect("stdin"), line.as_bytes()).expect("a line");
        child.wait().expect("durable ends");
    }
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            fs::copy(entry.path(), target).map(|_| ()).expect("a copy")
        }
    }
}

/// Damaged files: whatever bytes are changed or cut off, the store reports it or has exactly what
/// was written. `DAMAGE_SEED` and `DAMAGE_ROUNDS` (90) set the seed and the number of rounds.
#[test]
fn damaged_files_are_noticed() {
    let folder = example();
    let whole = stdout(&durable(folder.path(), &["store", "export"]));
    assert!(whole.lines().count() > 20);
    let mut random = Random::new(setting("DAMAGE_SEED", 7));
    let (mut refused, mut unharmed) = (0, 0);
    for round in 0..setting("DAMAGE_ROUNDS", 90) as usize {
        let copied = TempDir::new().expect("a folder");
        copy(&folder.path().join(".durable"), &copied.path().join(".durable"));
        let journal = copied.path().join(".durable/journal");
        let mut files: Vec<_> =
            fs::read_dir(&journal).expect("the journal").map(|file| file.expect("a file").path()).collect();
        files.retain(|path| path.is_file());
        files.sort();
        // File and kind of damage are drawn separately, so that each file gets each kind.
        let path = match random.below(6) {
            5 => copied.path().join(".durable/watermark"),
            4 => copied.path().join(".durable/wal"),
            _ => files[random.below(files.len() as u64) as usize].clone(),
        };
        let mut bytes = fs::read(&path).expect("a file");
        match random.below(4) {
            0 => bytes.truncate(random.below(bytes.len() as u64) as usize),
            1 => {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << random.below(8);
            }
            2 => {
                let from = random.below(bytes.len() as u64) as usize;
                let to = (from + 4096).min(bytes.len());
                bytes[from..to].fill(0);
            }
            _ => {
                for _ in 0..20 {
                    // The data is at the beginning: a file of sled is mostly empty.
                    let at = random.below(bytes.len().min(60_000) as u64) as usize;
                    bytes[at] = random.next() as u8;
                }
            }
        }
        fs::write(&path, bytes).expect("a damaged file");
        let run = durable(copied.path(), &["store", "export"]);
        match run.status.code() {
            Some(0) => {
                // The first line counts commits, which may differ. Nothing else does.
                let rest = |text: &str| text.lines().skip(1).map(str::to_string).collect::<Vec<_>>();
                assert_eq!(
                    rest(&stdout(&run)),
                    rest(&whole),
                    "round {round}: something is missing without a word"
                );
                unharmed += 1;
            }
            Some(4) => {
                assert!(stderr(&run).starts_with("Error: "), "round {round}: {}", stderr(&run));
                refused += 1;
            }
            other => panic!("round {round}: exit code {other:?}\n{}", stderr(&run)),
        }
    }
    assert!(refused > 10, "only {refused} refused, {unharmed} unharmed: the damage does not reach the data");
}

#[test]
fn a_lost_folder_is_noticed() {
    let folder = example();
    fs::remove_dir_all(folder.path().join(".durable/journal")).expect("removed");
    let run = durable(folder.path(), &["list"]);
    assert_eq!(run.status.code(), Some(4));
    assert!(stderr(&run).contains("it is empty, but"), "{}", stderr(&run));
}

#[test]
fn a_second_process_is_told_who_has_the_store() {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("wait.df"), "sleep(1h)\n").expect("a script");
    let mut first = Command::new(DURABLE)
        .current_dir(folder.path())
        .args(["run", "wait.df"])
        .spawn()
        .expect("durable runs");
    while !folder.path().join(".durable/wal").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let second = durable(folder.path(), &["serve"]);
    first.kill().expect("killed");
    first.wait().expect("ended");
    assert_eq!(second.status.code(), Some(4));
    let named = format!("in use by process {}, which is `durable run wait.df`", first.id());
    assert!(stderr(&second).contains(&named), "{}", stderr(&second));
    // The kill released the lock.
    assert_eq!(durable(folder.path(), &["list"]).status.code(), Some(0));
}

#[test]
fn export_and_import_lose_nothing() {
    let folder = example();
    let exported = stdout(&durable(folder.path(), &["store", "export"]));
    fs::write(folder.path().join("all.jsonl"), &exported).expect("the export");
    let import = durable(folder.path(), &["store", "import", "all.jsonl", "--store", "other"]);
    assert_eq!(import.status.code(), Some(0), "{}", stderr(&import));
    let again = stdout(&durable(folder.path(), &["store", "export", "--store", "other"]));
    let rest = |text: &str| text.lines().skip(1).map(str::to_string).collect::<Vec<_>>();
    assert_eq!(rest(&again), rest(&exported));
    for id in ["one", "two"] {
        let one = durable(folder.path(), &["replay", id]);
        let other = durable(folder.path(), &["replay", id, "--store", "other"]);
        assert_eq!((stdout(&one), stderr(&one)), (stdout(&other), stderr(&other)));
    }
    let twice = durable(folder.path(), &["store", "import", "all.jsonl", "--store", "other"]);
    assert_eq!(twice.status.code(), Some(2));
    assert!(stderr(&twice).contains("already"), "{}", stderr(&twice));
}

#[test]
fn an_import_of_something_else_changes_nothing() {
    let folder = TempDir::new().expect("a folder");
    for (text, wanted) in [("not json", "it is not JSON"), ("{\"type\": \"cat\"}", "not a line of an export")]
    {
        fs::write(folder.path().join("x.jsonl"), text).expect("a file");
        let run = durable(folder.path(), &["store", "import", "x.jsonl"]);
        assert_eq!(run.status.code(), Some(2));
        assert!(stderr(&run).contains(wanted), "{}", stderr(&run));
    }
    assert_eq!(stdout(&durable(folder.path(), &["list", "--json"])), "");
}

/// A full disk, simulated by a limit on file sizes: the run stops with a message, and resumes when
/// there is room.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_stops_the_run_and_loses_nothing() {
    let folder = TempDir::new().expect("a folder");
    // Random numbers, since repeated text is compressed.
    let script = "activity big() => range(0, 7_000).map(fn _ => \"{random_int(0, 1_000_000_000)}\").join(\" \")\n\
                  for i in 1..=40 { big(); print(i) }\n";
    fs::write(folder.path().join("big.df"), script).expect("a script");
    let limited = format!("trap '' XFSZ; ulimit -f 1200; exec {DURABLE} run big.df --id big");
    let first =
        Command::new("bash").current_dir(folder.path()).args(["-c", &limited]).output().expect("bash runs");
    assert_eq!(first.status.code(), Some(4), "{}", stderr(&first));
    assert!(stderr(&first).starts_with("Error: could not write"), "{}", stderr(&first));
    let second = durable(folder.path(), &["run", "big.df", "--id", "big"]);
    assert_eq!(second.status.code(), Some(0), "{}", stderr(&second));
    let numbers = |output: &Output| -> Vec<u32> {
        stdout(output).lines().map(|line| line.parse().expect("a number")).collect()
    };
    let (before, after) = (numbers(&first), numbers(&second));
    let last = before.last().copied().unwrap_or(0);
    assert_eq!(before, (1..=last).collect::<Vec<_>>());
    // Lines that may not have been shown come again; acknowledged ones before them do not.
    assert!(after[0] <= last + 1 && (last < 5 || after[0] > 1), "{last} {after:?}");
    assert_eq!(after, (after[0]..=40).collect::<Vec<_>>());
    assert_eq!(stdout(&durable(folder.path(), &["replay", "big"])).lines().count(), 40);
}

#[test]
fn a_folder_that_can_not_be_written() {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("file"), "in the way").expect("a file");
    fs::write(folder.path().join("s.df"), "print(1)\n").expect("a script");
    let run = durable(folder.path(), &["run", "s.df", "--store", "file/store"]);
    assert_eq!(run.status.code(), Some(4));
    assert!(stderr(&run).starts_with("Error: could not make the folder file/store"), "{}", stderr(&run));
    assert_eq!(stdout(&run), "");
    let proc = durable(folder.path(), &["run", "s.df", "--store", "/proc/durable"]);
    assert_eq!(proc.status.code(), Some(4), "{}", stderr(&proc));
}

#[test]
fn purge_removes_instances_and_their_programs() {
    let folder = example();
    let refused = durable(folder.path(), &["purge", "nobody"]);
    assert_eq!(refused.status.code(), Some(5));
    assert_eq!(durable(folder.path(), &["purge", "--status", "completed"]).status.code(), Some(0));
    assert_eq!(stdout(&durable(folder.path(), &["list", "--json"])).lines().count(), 1);
    assert_eq!(durable(folder.path(), &["purge", "two"]).status.code(), Some(0));
    let left = stdout(&durable(folder.path(), &["store", "export"]));
    let is_of_the_store = |line: &str| {
        ["store", "time", "life"].iter().any(|kind| line.starts_with(&format!(r#"{{"type":"{kind}""#)))
    };
    assert!(left.lines().all(is_of_the_store), "only lines about the store are left: {left}");
    assert_eq!(durable(folder.path(), &["store", "verify"]).status.code(), Some(0));
}

/// A purge removes everything of an instance: a long history, a checkpoint, and a checkpoint
/// without a history before it.
#[test]
fn purge_leaves_nothing_of_an_instance() {
    for history in ["all", "latest"] {
        let folder = TempDir::new().expect("a folder");
        let text = "activity f(x) => {x, text: \"a result of some length\"}\nvar sum = 0\nfor i in 0..6000 { sum += f(i).x }\nprint(sum)\nif args.len() > 0 { receive(\"go\") }\n";
        fs::write(folder.path().join("long.df"), text).expect("a script");
        for more in [&[][..], &["wait"][..]] {
            let id = if more.is_empty() { "purge-me" } else { "purge-me-too" };
            let given = ["run", "long.df", "--id", id, "--history", history];
            let mut child = Command::new(DURABLE)
                .current_dir(folder.path())
                .args([&given[..], more].concat())
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::null())
                .spawn()
                .expect("durable runs");
            let mut line = String::new();
            let mut out = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
            std::io::BufRead::read_line(&mut out, &mut line).expect("a line");
            assert_eq!(line.trim(), "17997000", "{history}");
            if !more.is_empty() {
                child.kill().expect("it is killed");
            }
            child.wait().expect("it ends");
        }
        let keys = |id: &str| -> Vec<String> {
            let store = store::open(&folder.path().join(".durable")).expect("it opens");
            let all = store.all(b"").expect("a scan");
            store.close().expect("a clean end");
            let keys = all.into_iter().map(|(key, _)| String::from_utf8_lossy(&key).into_owned());
            keys.filter(|key| key.contains(id)).collect()
        };
        let had = keys("purge-me");
        assert!(had.iter().any(|key| key.starts_with("c/")), "it has a checkpoint: {had:?}");
        let purged = durable(folder.path(), &["purge", "purge-me"]);
        assert_eq!(purged.status.code(), Some(0), "{}", stderr(&purged));
        assert!(
            keys("purge-me").iter().all(|key| key.contains("purge-me-too")),
            "{history}: {:?}",
            keys("purge-me")
        );
        assert_eq!(durable(folder.path(), &["purge", "purge-me-too", "--force"]).status.code(), Some(0));
        assert_eq!(keys("purge-me"), [""; 0], "{history}");
    }
}
