//! The store in PostgreSQL, on a private server: the rules of every store, the fence of commits,
//! messages between partitions, leases, and lost connections.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::DURABLE;
use common::postgres::{Cut, Proxy, Server, private_file, server};
use durable::kv::conformance::{self, Subject};
use durable::kv::{Arrival, Batch, Partition, Read, Receipt, Source, Store, StoreError};
use durable::store::postgres::{
    Cluster, Init, Layout, Ownership, PartitionStore, Patience, SLOTS, Scope, Slots, TaskId, Url,
};
use tempfile::TempDir;

/// Some keys of the conformance suite are in the queue: a part of them in slots, a part the
/// partition's own.
const LAYOUT: Layout = Layout { queue: &[b"a/", b"h/x", b"o/", b"s/"], slot_of, numbered: &[b"o/"] };

fn slot_of(key: &[u8]) -> Option<u32> {
    let sum = key.iter().fold(7, |sum: u32, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
    key.starts_with(b"a/").then_some(sum % SLOTS)
}

const LEASE: Duration = Duration::from_secs(60);

fn patience() -> Patience {
    Patience::of(Duration::from_secs(30))
}

fn url(text: &str) -> Url {
    Url::parse(text).expect("a URL")
}

/// A cluster in a new database, with a worker that owns nothing yet.
struct Place {
    server: &'static Server,
    database: String,
    cluster: Cluster,
    worker: String,
}

fn place(partitions: u32) -> Option<Place> {
    let server = server()?;
    let database = server.database();
    let url = url(&server.url(&database));
    let init = Init { partitions: Some(partitions), ..Init::default() };
    Cluster::init(&url, &init, &patience()).expect("a schema");
    let cluster = Cluster::open(&url, LAYOUT, &patience()).expect("a cluster");
    let worker = worker(&cluster, LEASE);
    Some(Place { server, database, cluster, worker })
}

fn worker(cluster: &Cluster, lease: Duration) -> String {
    let worker = cluster.new_worker().expect("an id");
    cluster.enroll(&worker, "test", "127.0.0.1:1", lease).expect("a lease");
    worker
}

impl Place {
    fn take(&self, partition: Partition) -> Ownership {
        self.cluster.take(&self.worker, partition).expect("an answer").expect("the partition")
    }

    fn store(&self, partition: Partition) -> PartitionStore {
        store(&self.cluster, self.take(partition))
    }

    fn sql(&self, sql: &str) -> String {
        self.server.sql(&self.database, sql)
    }

    /// The same cluster, through a proxy.
    fn through(&self, proxy: &Proxy) -> Cluster {
        Cluster::open(&url(&proxy.url(&self.database)), LAYOUT, &patience()).expect("a cluster")
    }
}

fn store(cluster: &Cluster, ownership: Ownership) -> PartitionStore {
    PartitionStore::open(cluster, ownership, None, &patience()).expect("a store")
}

fn put(key: &[u8], value: &[u8]) -> Batch {
    Batch::from(vec![(key.to_vec(), Some(value.to_vec()))])
}

/// Returns a key of the queue in a slot.
fn key_of_slot(wanted: impl Fn(u32) -> bool) -> Vec<u8> {
    let mut keys = (0..u16::MAX).map(|number| format!("a/{number}").into_bytes());
    keys.find(|key| slot_of(key).is_some_and(&wanted)).expect("a key")
}

struct OnePartition(Place);

impl Subject for OnePartition {
    type Store = PartitionStore;

    fn open(&mut self) -> Result<PartitionStore, StoreError> {
        Ok(self.0.store(0))
    }

    fn is_kept(&self) -> bool {
        true
    }
}

#[test]
fn a_partition_has_the_rules_of_every_store() {
    let Some(place) = place(1) else { return };
    conformance::check(&mut OnePartition(place), 1, 200).expect("the rules");
}

#[test]
fn ranges_are_read_with_one_question() {
    let Some(place) = place(1) else { return };
    let mut store = place.store(0);
    // The database believes from now on that the table is empty.
    place.sql("alter table durable.kv set (autovacuum_enabled = off)");
    place.sql("analyze durable.kv");
    let whole_reads =
        || place.sql("select seq_scan from pg_stat_all_tables where relid = 'durable.kv'::regclass");
    let before = whole_reads();
    let mut batch = Batch::default();
    for number in 0..6_u8 {
        batch.put(vec![b'h', b'/', number], vec![number; 10]);
    }
    batch.put(b"i/large".to_vec(), vec![1; 5_000]);
    store.commit(&batch).expect("the owner writes");
    let range = |first: &[u8], after: &[u8]| first.to_vec()..after.to_vec();
    let ranges = [
        range(b"h/\x01", b"h/\x04"),
        range(b"h/", b"h0"),
        range(b"i/large", b"i/large\0"),
        range(b"k/", b"k0"),
        range(b"a/1", b"a/1\0"),
    ];
    let found = store.ranges(&ranges, 5, 4_096).expect("they are read").expect("the store is far away");
    let rows: Vec<_> = (1..4_u8).map(|number| (vec![b'h', b'/', number], vec![number; 10])).collect();
    // Too many rows, too long a value, and keys of the queue are left to later questions.
    assert_eq!(found, [Some(rows), None, None, Some(Vec::new()), None]);
    assert_eq!(store.all(b"h/").map(|all| all.len()), Ok(6));
    // Nothing of this has read the whole table. A connection tells what it did a second later.
    thread::sleep(Duration::from_millis(1_200));
    store.get(b"i/large").expect("it is read");
    assert_eq!(whole_reads(), before);
}

#[test]
fn a_partition_has_the_rules_of_shared_stores() {
    let Some(place) = place(1) else { return };
    conformance::check_shared(&mut OnePartition(place), 60).expect("the rules");
}

#[test]
fn an_owner_that_lost_its_partition_writes_nothing_more() {
    let Some(place) = place(2) else { return };
    let mut old = place.store(0);
    old.commit(&put(b"i/x", b"old")).expect("the owner writes");
    let mut new = place.store(0);
    let fenced = old.commit(&put(b"i/x", b"late"));
    assert_eq!(fenced, Err(StoreError::Fenced { partition: 0 }));
    new.commit(&put(b"i/y", b"new")).expect("the new owner writes");
    assert_eq!(old.commit(&put(b"i/x", b"later")), Err(StoreError::Fenced { partition: 0 }));
    assert_eq!(new.get(b"i/x").expect("a read").as_deref(), Some(&b"old"[..]));
}

#[test]
fn the_same_epoch_with_another_token_is_no_owner() {
    let Some(place) = place(1) else { return };
    let ownership = place.take(0);
    place.sql("update durable.part set token = gen_random_uuid()");
    let mut store = store(&place.cluster, ownership);
    assert_eq!(store.commit(&put(b"i/x", b"1")), Err(StoreError::Fenced { partition: 0 }));
    assert_eq!(store.get(b"i/x"), Ok(None));
}

#[test]
fn a_partition_that_was_given_back_is_not_written() {
    let Some(place) = place(2) else { return };
    let mut store = place.store(1);
    assert_eq!(place.cluster.release(&place.worker, &[0, 1]), Ok(1));
    assert_eq!(store.commit(&put(b"i/x", b"1")), Err(StoreError::Fenced { partition: 1 }));
}

#[test]
fn a_commit_that_lost_its_answer_is_there_once() {
    let Some(place) = place(2) else { return };
    let proxy = Proxy::start(place.server);
    let cluster = place.through(&proxy);
    let mut store = store(&cluster, place.take(0));
    for (round, cut) in
        [Cut::Never, Cut::BeforeRequest, Cut::BeforeAnswer, Cut::AfterAnswer].iter().enumerate()
    {
        for number in 0..3_u64 {
            let before = store.commits();
            proxy.cut(*cut);
            let mut batch = put(format!("i/{round}/{number}").as_bytes(), b"x");
            batch.transit.sends.insert(1, vec![number as u8]);
            store.commit(&batch).unwrap_or_else(|error| panic!("{cut:?}: {error}"));
            assert!(proxy.has_cut(), "{cut:?}");
            assert_eq!(store.commits(), before + 1);
        }
    }
    assert_eq!(place.sql("select count(*), max(n) from durable.commits where part = 0"), "12|12");
    let sent = cluster.arrivals(&[1], &[]).expect("arrivals");
    let numbers: Vec<u64> = sent.iter().map(|(_, arrival)| arrival.receipt.number).collect();
    assert_eq!(numbers, (1..=12).collect::<Vec<_>>());
}

#[test]
fn a_commit_after_a_takeover_that_lost_its_answer_is_refused() {
    let Some(place) = place(1) else { return };
    let proxy = Proxy::start(place.server);
    let cluster = place.through(&proxy);
    let mut old = store(&cluster, place.take(0));
    old.commit(&put(b"i/x", b"1")).expect("the owner writes");
    proxy.cut(Cut::BeforeRequest);
    let mut new = place.store(0);
    new.commit(&put(b"i/x", b"2")).expect("the new owner writes");
    assert_eq!(old.commit(&put(b"i/x", b"3")), Err(StoreError::Fenced { partition: 0 }));
    assert_eq!(new.get(b"i/x").expect("a read").as_deref(), Some(&b"2"[..]));
}

#[test]
fn a_database_that_lacks_commits_is_noticed() {
    let Some(place) = place(1) else { return };
    let mut store = place.store(0);
    for number in 1..=5 {
        store.commit(&put(b"i/x", &[number])).expect("a commit");
    }
    place.sql("delete from durable.commits where n > 3");
    let lost = store.commit(&put(b"i/x", b"6"));
    assert_eq!(lost, Err(StoreError::Restored { partition: 0, found: 3, acknowledged: 5 }));
    assert_eq!(store.get(b"i/x").expect("a read"), Some(vec![5]));
}

#[test]
fn a_watermark_notices_a_restored_database_until_it_is_adopted() {
    let Some(place) = place(1) else { return };
    let folder = TempDir::new().expect("a folder");
    let open = |folder: &Path| PartitionStore::open(&place.cluster, place.take(0), Some(folder), &patience());
    let mut store = open(folder.path()).expect("a store");
    for number in 1..=5 {
        store.commit(&put(b"i/x", &[number])).expect("a commit");
    }
    drop(open(folder.path()).expect("nothing is missing"));
    place.sql("delete from durable.commits where n > 3");
    let restored = Err(StoreError::Restored { partition: 0, found: 3, acknowledged: 5 });
    assert_eq!(open(folder.path()).map(|_| ()), restored);
    assert_eq!(open(folder.path()).map(|_| ()), restored);
    // A machine that knows of no later commit can't tell.
    let other = TempDir::new().expect("a folder");
    drop(open(other.path()).expect("a store"));
    place.cluster.adopt().expect("it is accepted");
    let mut store = open(folder.path()).expect("it is accepted");
    store.commit(&put(b"i/x", b"4")).expect("a commit");
    assert_eq!(store.commits(), 4);
}

#[test]
fn an_arrival_is_consumed_once() {
    let Some(place) = place(3) else { return };
    let mut from = place.store(0);
    for number in 0..3 {
        let mut batch = Batch::default();
        batch.transit.sends.insert(1, vec![number]);
        batch.transit.sends.insert(2, vec![number + 10]);
        from.commit(&batch).expect("a commit");
    }
    let mut to = place.store(1);
    let receipt = |number| Receipt { source: Source::Partition(0), number };
    let arrival = |number, body| (1, Arrival { receipt: receipt(number), body: vec![body] });
    let all = place.cluster.arrivals(&[1], &[]).expect("arrivals");
    assert_eq!(all, [arrival(1, 0), arrival(2, 1), arrival(3, 2)]);
    assert_eq!(place.cluster.arrivals(&[1], &[(1, receipt(1)), (1, receipt(3))]), Ok(vec![arrival(2, 1)]));
    let consuming = |numbers: &[u64]| {
        let mut batch = put(b"i/x", b"consumed");
        batch.transit.consumed = numbers.iter().map(|number| receipt(*number)).collect();
        batch
    };
    to.commit(&consuming(&[1, 2])).expect("they are there");
    assert_eq!(place.cluster.arrivals(&[1], &[]), Ok(vec![arrival(3, 2)]));
    assert_eq!(place.cluster.waiting(), Ok(vec![(1, 1), (2, 3)]));
    let again = to.commit(&consuming(&[2, 3])).expect_err("one of them is gone");
    assert!(matches!(&again, StoreError::Internal { what } if what.contains("only 1 of 2")), "{again}");
    // Nothing of the batch is there.
    assert_eq!(place.cluster.arrivals(&[1], &[]), Ok(vec![arrival(3, 2)]));
    assert_eq!(place.sql("select max(n) from durable.commits where part = 1"), "1");
}

#[test]
fn a_request_of_a_client_is_sent_once_and_answered() {
    let Some(place) = place(2) else { return };
    let proxy = Proxy::start(place.server);
    let client = place.through(&proxy);
    let mut store = place.store(1);
    for cut in [Cut::Never, Cut::BeforeRequest, Cut::BeforeAnswer] {
        let number = client.request_number().expect("a number");
        proxy.cut(cut);
        assert_eq!(client.send(number, 1, b"start"), Ok(true));
        assert_eq!(client.send(number, 1, b"start"), Ok(true));
        let arrivals = place.cluster.arrivals(&[0, 1], &[]).expect("arrivals");
        let receipt = Receipt { source: Source::Client, number };
        assert_eq!(arrivals, [(1, Arrival { receipt, body: b"start".to_vec() })], "{cut:?}");
        assert_eq!(client.answer(number), Ok(None));
        let mut batch = Batch::default();
        batch.transit.consumed.push(receipt);
        batch.transit.answers.push((number, b"started".to_vec()));
        store.commit(&batch).expect("a commit");
        // The number is known, although the request is gone.
        assert_eq!(client.send(number, 1, b"start"), Ok(true));
        assert_eq!(place.cluster.arrivals(&[1], &[]), Ok(Vec::new()));
        assert_eq!(client.answer(number), Ok(Some(b"started".to_vec())));
        client.forget(number).expect("it is forgotten");
        assert_eq!(client.answer(number), Ok(None));
    }
    assert_eq!(place.sql("select count(*) from durable.request"), "0");
    let number = client.request_number().expect("a number");
    assert_eq!(client.send(number, 77, b"start"), Ok(true));
    assert_eq!(place.cluster.slots(77), Ok(Some(Slots::of(77, 0..0))), "a private partition");
}

#[test]
fn a_partition_is_taken_once_the_lease_is_over() {
    let Some(place) = place(2) else { return };
    let short = Duration::from_millis(1500);
    let first = worker(&place.cluster, short);
    let taken = place.cluster.take(&first, 0).expect("an answer").expect("it is free");
    assert_eq!(place.cluster.take(&place.worker, 0), Ok(None), "the owner lives");
    assert_eq!(place.cluster.beat(&first), Ok(true));
    assert!(place.cluster.overview().expect("an overview").is_alive(&first));
    thread::sleep(short + Duration::from_millis(100));
    assert!(!place.cluster.overview().expect("an overview").is_alive(&first));
    assert_eq!(place.cluster.take(&first, 1), Ok(None), "its own lease is over");
    let next = place.take(0);
    assert!(next.epoch > taken.epoch && next.token != taken.token);
    assert_eq!(place.cluster.beat(&first), Ok(true), "it lives again");
    assert_eq!(place.cluster.take(&first, 0), Ok(None));
    let mut late = store(&place.cluster, taken);
    assert_eq!(late.commit(&put(b"i/x", b"late")), Err(StoreError::Fenced { partition: 0 }));
}

#[test]
fn of_many_workers_one_gets_a_partition() {
    let Some(place) = place(8) else { return };
    let workers: Vec<String> = (0..4).map(|_| worker(&place.cluster, LEASE)).collect();
    let taken: Vec<usize> = thread::scope(|scope| {
        let threads: Vec<_> = workers
            .iter()
            .map(|worker| {
                let cluster = &place.cluster;
                scope.spawn(move || {
                    (0..8).filter(|part| cluster.take(worker, *part).expect("an answer").is_some()).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a count")).collect()
    });
    assert_eq!(taken.iter().sum::<usize>(), 8, "{taken:?}");
    let overview = place.cluster.overview().expect("an overview");
    assert!(overview.partitions.iter().all(|part| part.owner.is_some() && part.epoch == 1));
    place.cluster.leave(&workers[0]).expect("it leaves");
    let left = place.cluster.overview().expect("an overview");
    assert_eq!(left.partitions.iter().filter(|part| part.owner.is_none()).count(), taken[0]);
    assert!(left.workers.iter().all(|worker| worker.id != workers[0]));
}

#[test]
fn an_activity_is_claimed_once_and_gives_one_result() {
    let Some(place) = place(2) else { return };
    let cluster = &place.cluster;
    let (epoch, other) = (place.take(0).epoch, worker(cluster, LEASE));
    let task = |number| TaskId { partition: 0, epoch, number };
    let offer = |epoch, numbers: &[u64]| {
        let tasks: Vec<_> = numbers.iter().map(|number| (*number, vec![*number as u8])).collect();
        cluster.offer(0, epoch, 1, &tasks).expect("an offer");
    };
    let claim = |worker: &str, version, room| -> Vec<TaskId> {
        let claimed = cluster.claim(worker, version, room).expect("claims");
        assert!(claimed.iter().all(|(task, body)| *body == [task.number as u8]));
        claimed.into_iter().map(|(task, _)| task).collect()
    };
    let finish = |worker: &str, task| cluster.finish(worker, task, b"result").expect("an answer");
    offer(epoch, &[1, 2, 3]);
    assert_eq!(claim(&other, 2, 9), [], "they have another form");
    assert_eq!(claim(&place.worker, 1, 1), [task(1)]);
    assert_eq!(claim(&other, 1, 9), [task(2), task(3)]);
    assert_eq!(claim(&place.worker, 1, 9), []);
    // A result comes from the worker that has the activity, once.
    assert!(!finish(&other, task(1)) && finish(&place.worker, task(1)) && !finish(&place.worker, task(1)));
    let arrivals = cluster.arrivals(&[0], &[]).expect("arrivals");
    assert_eq!(arrivals.iter().map(|(_, arrival)| arrival.body.as_slice()).collect::<Vec<_>>(), [b"result"]);
    cluster.withdraw(0, epoch, &[2]).expect("an answer");
    assert_eq!(cluster.claimed(&other).expect("claims"), [task(3)]);
    assert!(!finish(&other, task(2)));
    // A worker that is gone has no activities, and gets none.
    cluster.leave(&other).expect("it leaves");
    offer(epoch, &[4]);
    assert_eq!(claim(&other, 1, 9), []);
    assert_eq!(claim(&place.worker, 1, 9), [task(3), task(4)]);
    // Another owner of the partition offers anew.
    assert!(place.take(0).epoch > epoch);
    offer(epoch, &[5]);
    assert_eq!(cluster.claimed(&place.worker).expect("claims"), []);
    assert!(claim(&place.worker, 1, 9).is_empty() && !finish(&place.worker, task(4)));
}

#[test]
fn many_processes_make_one_schema() {
    let Some(server) = server() else { return };
    for _ in 0..3 {
        let url = url(&server.url(&server.database()));
        let was_there: Vec<bool> = thread::scope(|scope| {
            let init = || Cluster::init(&url, &Init::default(), &patience()).expect("a schema").was_there;
            let threads: Vec<_> = (0..6).map(|_| scope.spawn(init)).collect();
            threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
        });
        assert_eq!(was_there.iter().filter(|was_there| !**was_there).count(), 1, "{was_there:?}");
    }
}

#[test]
fn two_owners_by_mistake_write_one_history() {
    let Some(place) = place(1) else { return };
    // Each takes the partition from the other whenever it is fenced.
    thread::scope(|scope| {
        for writer in 0..2_u8 {
            let place = &place;
            scope.spawn(move || {
                let mut store = place.store(0);
                let mut written = 0_u8;
                while written < 25 {
                    let key = [b"i/", &[writer, written][..]].concat();
                    match store.commit(&put(&key, &store.commits().to_be_bytes())) {
                        Ok(()) => written += 1,
                        Err(StoreError::Fenced { .. }) => store = place.store(0),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    let mut after: Vec<u64> = place
        .cluster
        .reader()
        .all(b"i/")
        .expect("the keys")
        .into_iter()
        .map(|(_, value)| u64::from_be_bytes(value.try_into().expect("a number")))
        .collect();
    after.sort_unstable();
    assert_eq!(after, (0..50).collect::<Vec<_>>(), "each commit had a number of its own");
}

#[test]
fn keys_of_other_partitions_are_refused_and_not_shown() {
    let Some(place) = place(2) else { return };
    let half = SLOTS / 2;
    let (low, high) = (key_of_slot(|slot| slot < half), key_of_slot(|slot| slot >= half));
    let (mut first, mut second) = (place.store(0), place.store(1));
    first.commit(&put(&low, b"low")).expect("its own");
    first.commit(&put(b"s/time", b"1")).expect("its own");
    second.commit(&put(&high, b"high")).expect("its own");
    second.commit(&put(b"s/time", b"2")).expect("its own");
    assert_eq!(first.get(b"s/time").expect("a read").as_deref(), Some(&b"1"[..]));
    assert_eq!(first.get(&high), Ok(None));
    assert_eq!(first.all(b"a/"), Ok(vec![(low.clone(), b"low".to_vec())]));
    let refused = first.commit(&put(&high, b"mine")).expect_err("another's");
    assert!(
        matches!(&refused, StoreError::Internal { what } if what.contains("another partition's")),
        "{refused}"
    );
    assert_eq!(second.get(&high).expect("a read").as_deref(), Some(&b"high"[..]));
    let mut both = vec![(low, b"low".to_vec()), (high, b"high".to_vec())];
    both.sort();
    assert_eq!(place.cluster.reader().all(b"a/"), Ok(both));
}

#[test]
fn a_reader_of_the_cluster_shows_what_is_each_partitions_own_once() {
    let Some(place) = place(3) else { return };
    let line = |number: u64| [b"o/", &number.to_be_bytes()[..]].concat();
    for part in 0..3_u8 {
        let mut store = place.store(u32::from(part));
        let mut batch = put(b"s/time", &[part]);
        batch.put(line(5), vec![part, 5]);
        batch.put(line(9), vec![part, 9]);
        store.commit(&batch).expect("a commit");
        assert_eq!(store.get(&line(9)), Ok(Some(vec![part, 9])));
    }
    for reader in [place.cluster.reader(), place.cluster.snapshot().expect("a snapshot")] {
        let all = reader.all(b"").expect("everything");
        let own = all.iter().filter(|(key, _)| key.starts_with(b"o/"));
        assert_eq!(own.map(|(key, _)| key.clone()).collect::<Vec<_>>(), (0..6).map(line).collect::<Vec<_>>());
        assert_eq!(reader.all(b"o/").expect("the lines").len(), 6);
        assert_eq!(
            reader.get(&line(5)),
            Ok(all.iter().find(|(key, _)| *key == line(5)).map(|(_, v)| v.clone()))
        );
        assert_eq!(reader.get(&line(6)), Ok(None));
        assert_eq!(reader.get(b"s/time"), Ok(Some(vec![2])));
        assert_eq!(reader.all(b"s/"), Ok(vec![(b"s/time".to_vec(), vec![2])]));
    }
}

#[test]
fn a_snapshot_shows_one_state() {
    let Some(place) = place(1) else { return };
    let mut store = place.store(0);
    store.commit(&put(b"i/x", b"1")).expect("a commit");
    let snapshot = place.cluster.snapshot().expect("a snapshot");
    assert_eq!(snapshot.get(b"i/x").expect("a read").as_deref(), Some(&b"1"[..]));
    store.commit(&put(b"i/x", b"2")).expect("a commit");
    assert_eq!(snapshot.get(b"i/x").expect("a read").as_deref(), Some(&b"1"[..]));
    assert_eq!(place.cluster.reader().get(b"i/x").expect("a read").as_deref(), Some(&b"2"[..]));
}

#[test]
fn a_scan_of_many_keys_visits_each_once() {
    let Some(place) = place(1) else { return };
    let mut store = place.store(0);
    let key = |number: u32| format!("i/{number:06}").into_bytes();
    let batch = |numbers: std::ops::Range<u32>| {
        Batch::from(numbers.map(|number| (key(number), Some(vec![7; 20]))).collect::<Vec<_>>())
    };
    store.commit(&batch(0..10_000)).expect("a commit");
    store.commit(&Batch::from(vec![(key(500), Some(vec![1; 300_000]))])).expect("a commit");
    let all = store.all(b"i/").expect("all");
    assert!(all.iter().map(|(key, _)| key.clone()).eq((0..10_000).map(key)));
    let mut seen = 0;
    store
        .scan_from(b"i/", &key(9_000), &mut |_, _| {
            seen += 1;
            seen < 300
        })
        .expect("a scan");
    assert_eq!(seen, 300);
}

#[test]
fn a_private_partition_has_a_slot_of_its_own() {
    let Some(place) = place(1) else { return };
    let partition = place.cluster.add_private().expect("a partition");
    let ownership = place.take(partition);
    assert!(ownership.slots.is_empty());
    assert_eq!(place.cluster.slots(partition), Ok(Some(Slots::of(partition, 0..0))));
    let mut store = store(&place.cluster, ownership);
    store.commit(&put(b"s/time", b"1")).expect("its own");
    store.commit(&put(b"o/x", b"line")).expect("its own");
    assert_eq!(place.cluster.remove_private(&place.worker, partition, &[b"s/"]), Ok(false), "a line is left");
    store.commit(&Batch::from(vec![(b"o/x".to_vec(), None)])).expect("its own");
    assert_eq!(place.cluster.remove_private(&place.worker, partition, &[b"s/"]), Ok(true));
    assert_eq!(store.commit(&put(b"s/time", b"2")), Err(StoreError::Fenced { partition }));
    let scope = Scope::Partition(Slots::of(partition, 0..0));
    assert_eq!(place.cluster.reader_of(scope).all(b"s/"), Ok(Vec::new()));
}

/// A private partition that was removed comes back when a partition or a client sends something to
/// it, and the life of its instances goes on.
#[test]
fn a_private_partition_comes_back_when_something_is_sent_to_it() {
    let Some(place) = place(1) else { return };
    let cluster = &place.cluster;
    let idle: &[&[u8]] = &[b"s/"];
    let partition = cluster.add_private().expect("a partition");
    let is_there = || cluster.slots(partition).map(|slots| slots.is_some());
    let mut private = store(cluster, place.take(partition));
    private.commit(&put(b"o/x", b"line")).expect("its own");
    assert_eq!(cluster.resting(&place.worker, idle), Ok(Vec::new()), "a line is left");
    private.commit(&Batch::from(vec![(b"o/x".to_vec(), None)])).expect("its own");
    private.commit(&put(b"s/life", b"7")).expect("its own");
    assert_eq!(cluster.resting(&place.worker, idle), Ok(vec![partition]));
    let remove = || cluster.remove_private(&place.worker, partition, idle);
    assert_eq!((remove(), is_there()), (Ok(true), Ok(false)));
    assert_eq!(cluster.irregularities(), Ok(Vec::new()), "the life has no partition now");
    // A message of a partition.
    let mut sends = Batch::default();
    sends.transit.sends.insert(partition, b"hello".to_vec());
    place.store(0).commit(&sends).expect("a commit");
    assert_eq!(is_there(), Ok(true));
    let mut private = store(cluster, place.take(partition));
    assert_eq!(private.get(b"s/life"), Ok(Some(b"7".to_vec())), "it goes on");
    assert_eq!(cluster.resting(&place.worker, idle), Ok(Vec::new()), "a message waits");
    let arrivals = cluster.arrivals(&[partition], &[]).expect("messages");
    let mut takes = Batch::default();
    takes.transit.consumed.extend(arrivals.iter().map(|(_, arrival)| arrival.receipt));
    private.commit(&takes).expect("a commit");
    // A request of a client.
    assert_eq!((remove(), is_there()), (Ok(true), Ok(false)));
    let number = cluster.request_number().expect("a number");
    assert_eq!((cluster.send(number, partition, b"a request"), is_there()), (Ok(true), Ok(true)));
}

/// While partitions are split, a message waits for one of them. Its parts come to their receivers,
/// and before everything that the new partition sends.
#[test]
fn what_a_partition_sent_before_a_split_comes_first() {
    let Some(place) = place(2) else { return };
    let (mut old, other) = (place.store(0), place.take(1));
    let mut sends = Batch::default();
    sends.transit.sends.insert(1, b"ab".to_vec());
    old.commit(&sends).expect("a commit");
    old.commit(&put(b"s/time", b"5")).expect("a commit");
    // Each letter is for one of the two parts of partition 1.
    let divide = |_: &[_], dest: Partition, arrival: &Arrival| {
        assert_eq!(dest, 1);
        Ok([(1, vec![arrival.body[0]]), (3, vec![arrival.body[1]])].into_iter().collect())
    };
    let raised = place.cluster.raise(4, b"s/", &divide).expect("more partitions");
    assert_eq!((raised.before, raised.now), (2, 4));
    assert_eq!(old.commit(&sends), Err(StoreError::Fenced { partition: 0 }), "its slots are old");
    let owners = place.cluster.overview().expect("an overview").partitions;
    let of: Vec<_> = owners.iter().map(|part| (part.slots.clone(), part.owner.is_some())).collect();
    assert_eq!(of, [(0..1024, true), (2048..3072, true), (1024..2048, true), (3072..4096, true)]);
    let stranger = worker(&place.cluster, LEASE);
    assert_eq!(place.cluster.take(&stranger, 2), Ok(None), "the owner has not given it back");
    // The new partition has the keys of the old one, and sends to both parts.
    let mut new = place.store(2);
    assert_eq!(new.get(b"s/time"), Ok(Some(b"5".to_vec())));
    sends.transit.sends = [(1, b"c".to_vec()), (3, b"d".to_vec())].into_iter().collect();
    new.commit(&sends).expect("a commit");
    let come = |to: Partition| -> Vec<Vec<u8>> {
        let all = place.cluster.arrivals(&[to], &[]).expect("messages");
        all.into_iter().map(|(_, arrival)| arrival.body).collect()
    };
    assert_eq!((come(1), come(3)), (vec![b"a".to_vec(), b"c".to_vec()], vec![b"b".to_vec(), b"d".to_vec()]));
    drop(other);
    let fewer = place.cluster.raise(3, b"s/", &divide);
    assert!(matches!(fewer, Err(StoreError::Refused { .. })), "{fewer:?}");
}

/// Runs the program, without the environment's word on databases.
fn durable(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(DURABLE);
    command.current_dir(folder).args(args).stdin(Stdio::null()).env("HOME", folder);
    for name in ["PGPASSWORD", "PGPASSFILE", "PGHOST", "PGUSER", "PGSSLMODE", "PGSSLROOTCERT"] {
        command.env_remove(name);
    }
    command
}

fn ran(mut command: Command) -> (i32, String) {
    let Output { status, stdout, stderr } = command.output().expect("durable runs");
    let said = [stdout, stderr].concat();
    (status.code().expect("an exit code"), String::from_utf8_lossy(&said).into_owned())
}

/// Expects a refusal with an exit code, some words, and a hint.
fn refused(command: Command, code: i32, words: &[&str]) {
    let shown = format!("{command:?}");
    let (found, said) = ran(command);
    assert_eq!(found, code, "{shown}: {said}");
    assert!(said.contains("Error: ") && said.contains("Hint: "), "{shown}: {said}");
    for word in words {
        assert!(said.contains(word), "{shown}: `{word}` is not in: {said}");
    }
    assert!(!said.contains("secret"), "{said}");
}

#[test]
fn wrong_urls_and_servers_that_are_not_there_have_messages() {
    let folder = TempDir::new().expect("a folder");
    let init = |url: &str| durable(folder.path(), &["store", "init", url]);
    refused(
        init("mysql://ann:secret@h/db"),
        2,
        &["`mysql://ann@h/db` is no URL", "a URL is like postgres://"],
    );
    refused(init("postgres://ann:secret@h:x/db"), 2, &["postgres://ann@h:x/db", "port"]);
    refused(init("shop"), 2, &["`shop` is no URL"]);
    let away = "postgres://ann:secret@127.0.0.1:1/db";
    refused(
        init(away),
        4,
        &["could not connect to postgres://ann@127.0.0.1:1/db", "refused", "check the URL"],
    );
    let unknown = "postgres://ann:secret@no-such-host.invalid/db?sslmode=disable";
    refused(init(unknown), 4, &["no-such-host.invalid", "lookup"]);
    let verify = durable(folder.path(), &["store", "verify", "--store", away]);
    refused(verify, 4, &["could not connect to postgres://ann@127.0.0.1:1/db"]);
    assert!(!folder.path().join("postgres:").exists());
}

#[test]
fn databases_without_a_fitting_schema_have_messages() {
    let Some(server) = server() else { return };
    let folder = TempDir::new().expect("a folder");
    let run = |args: &[&str]| durable(folder.path(), args);
    let missing = server.url("missing");
    refused(
        run(&["store", "init", &missing]),
        4,
        &["database \"missing\" does not exist", "createdb missing"],
    );
    let database = server.database();
    let url = server.url(&database);
    let verify = ["store", "verify", "--store", &url];
    refused(run(&verify), 4, &["there is no store in postgres://admin@/", "durable store init URL"]);
    let (code, said) = ran(run(&["store", "init", &url, "--partitions", "3"]));
    assert_eq!((code, said.starts_with("made a store of 3 partitions in ")), (0, true), "{said}");
    let (code, said) = ran(run(&["store", "init", &url]));
    assert_eq!((code, said.contains("has a store of 3 partitions already")), (0, true), "{said}");
    let fewer = "it has 3 partitions, and they can become more and not fewer";
    refused(run(&["store", "init", &url, "--partitions", "2"]), 4, &[fewer]);
    let (code, said) = ran(run(&verify));
    assert_eq!((code, said.as_str()), (0, "the store is whole: 0 instances, 0 keys, 0 bytes\n"));
    server.sql(&database, "update durable.cluster set format = 99");
    refused(run(&verify), 4, &["the store has format 99; this version", "the newer version"]);
    server.sql(&database, "update durable.cluster set format = 0");
    refused(run(&verify), 4, &["format 0, which is older than the format 1", "export the store"]);
    server.sql(&database, "update durable.cluster set format = 1");
    server.sql(&database, "drop table durable.queue");
    refused(run(&verify), 4, &["durable.queue", "does not exist"]);
}

#[test]
fn a_check_finds_what_is_not_where_its_partition_looks() {
    let Some(place) = place(2) else { return };
    let wrong = key_of_slot(|slot| slot != 3);
    let key: String = wrong.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(place.cluster.irregularities(), Ok(Vec::new()));
    place.sql(&format!("insert into durable.queue values (3, '\\x{key}', '')"));
    place.sql("insert into durable.transit values (9, 0, 1, '')");
    place.sql(
        "insert into durable.commits select 0, n, gen_random_uuid(), now(), 1 from unnest('{1,4}'::int[]) n",
    );
    place.sql("update durable.part set hi = 2000 where part = 0");
    let found = place.cluster.irregularities().expect("a check").join("; ");
    for word in
        ["from 2000 to 2048", "is in slot 3", "1 messages are for partition 9", "2 commits of partition 0"]
    {
        assert!(found.contains(word), "{found}");
    }
}

#[test]
fn passwords_come_from_the_url_the_environment_or_a_file() {
    let Some(server) = server() else { return };
    let database = server.database();
    server.sql(&database, "create role ann login password 'secret'");
    server.sql(&database, &format!("grant create on database {database} to ann"));
    let folder = TempDir::new().expect("a folder");
    let at = |user: &str| format!("postgres://{user}@127.0.0.1:{}/{database}", server.port);
    let init = |url: &str| durable(folder.path(), &["store", "init", url]);
    refused(
        init(&at("ann:wrong-secret")),
        4,
        &["password authentication failed for user \"ann\"", "~/.pgpass"],
    );
    refused(init(&at("ann")), 4, &["password missing", "PGPASSWORD"]);
    assert_eq!(ran(init(&at("ann:secret"))).0, 0);
    let mut by_variable = init(&at("ann"));
    by_variable.env("PGPASSWORD", "secret");
    assert_eq!(ran(by_variable).0, 0);
    let line = format!("127.0.0.1:{}:*:ann:secret\n", server.port);
    private_file(&folder.path().join(".pgpass"), &line).expect("a file");
    assert_eq!(ran(init(&at("ann"))).0, 0, "~/.pgpass");
    let mut elsewhere = init(&at("ann"));
    fs::rename(folder.path().join(".pgpass"), folder.path().join("passwords")).expect("a file");
    elsewhere.env("PGPASSFILE", folder.path().join("passwords"));
    assert_eq!(ran(elsewhere).0, 0);
    fs::rename(folder.path().join("passwords"), folder.path().join(".pgpass")).expect("a file");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(folder.path().join(".pgpass"), mode).expect("a mode");
    refused(init(&at("ann")), 4, &["password missing"]);
}

#[test]
fn roles_have_the_rights_that_they_were_given() {
    let Some(server) = server() else { return };
    let database = server.database();
    let folder = TempDir::new().expect("a folder");
    let socket = server.url(&database);
    let url = |role: &str| socket.replace("admin@", &format!("{role}@"));
    for role in ["wanda", "carl", "\"Rita R\"", "nobody_else"] {
        server.sql(&database, &format!("create role {role} login"));
    }
    let mut args = vec!["store", "init", &socket, "--grant-worker", "wanda", "--grant-client", "carl"];
    args.extend(["--grant-reader", "Rita R", "--partitions", "2"]);
    let (code, said) = ran(durable(folder.path(), &args));
    assert!(code == 0 && said.contains("wanda has the rights of workers"), "{said}");
    refused(
        durable(folder.path(), &["store", "init", &socket, "--grant-worker", "walter"]),
        4,
        &["could not give rights in", "role \"walter\" does not exist", "createuser ROLE"],
    );
    let open = |role: &str| Cluster::open(&Url::parse(&url(role)).expect("a URL"), LAYOUT, &patience());
    let denied = |result: Result<(), StoreError>| {
        assert!(
            matches!(&result, Err(StoreError::Refused { source, hint, .. })
                if source.words().contains("permission denied") && hint.contains("--grant-worker")),
            "{result:?}"
        );
    };
    denied(open("nobody_else").map(|_| ()));
    let (works, asks, reads) = (open("wanda"), open("carl"), open("Rita%20R"));
    let (works, asks, reads) = (works.expect("rights"), asks.expect("rights"), reads.expect("rights"));
    let own = worker(&works, LEASE);
    let mut store = store(&works, works.take(&own, 1).expect("an answer").expect("the partition"));
    store.commit(&put(b"i/x", b"1")).expect("a worker writes");
    let number = asks.request_number().expect("a client asks");
    assert_eq!(asks.send(number, 1, b"start"), Ok(true));
    assert_eq!(works.arrivals(&[1], &[]).map(|all| all.len()), Ok(1));
    for reader in [&asks, &reads] {
        assert_eq!(reader.reader().get(b"i/x"), Ok(Some(b"1".to_vec())));
        assert_eq!(reader.overview().map(|all| all.partitions.len()), Ok(2));
        denied(reader.take(&own, 0).map(|_| ()));
        denied(reader.adopt());
    }
    denied(reads.request_number().map(|_| ()));
    denied(works.adopt());
    let by_hand = server.sql(&database, "select has_table_privilege('wanda', 'durable.kv', 'insert')");
    assert_eq!(by_hand, "f", "a worker writes by functions alone");
}

#[test]
fn servers_that_refuse_writes_have_messages() {
    let Some(place) = place(1) else { return };
    let folder = TempDir::new().expect("a folder");
    let url = place.server.url(&place.database);
    let expect = |result: Result<(), StoreError>, words: &str, advice: &str| {
        let error = result.expect_err(words);
        assert!(
            error.to_string().contains(words) && error.hint().contains(advice),
            "{error}: {}",
            error.hint()
        );
    };
    // A trigger raises what a full disk of the server does.
    let mut store = place.store(0);
    place.sql(
        "create function full_disk() returns trigger language plpgsql as $$
         begin raise exception 'could not extend file: No space left on device' using errcode = '53100'; end $$;
         create trigger full_disk before insert on durable.kv execute function full_disk()",
    );
    let full = store.commit(&put(b"i/x", b"1"));
    assert!(matches!(&full, Err(StoreError::Full { .. })), "{full:?}");
    expect(full, "could not write to postgres://admin@/", "once the disk is in order");
    place.sql("drop trigger full_disk on durable.kv");
    let mut store = place.store(0);
    let database = &place.database;
    place.sql(&format!("alter database {database} set default_transaction_read_only = on"));
    // The setting is for new connections.
    let others = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    place.sql(others);
    expect(store.commit(&put(b"i/x", b"1")), "read-only transaction", "the primary");
    place.server.sql("postgres", &format!("alter database {database} reset default_transaction_read_only"));
    place.sql(&format!("alter database {database} connection limit 0"));
    let init = ["store", "init", &url.replace("admin@", "limited@")];
    place.sql("create role limited login");
    refused(durable(folder.path(), &init), 4, &["too many connections", "max_connections"]);
    place.sql(&format!("alter database {database} connection limit -1"));
    place.sql(&format!("alter database {database} set synchronous_commit = off"));
    let (code, said) = ran(durable(folder.path(), &["store", "verify", "--store", &url]));
    assert!(code == 0 && said.contains("warning: `synchronous_commit` of the server is off"), "{said}");
}

#[test]
fn encrypted_connections_check_the_server() {
    let Some(server) = Server::start("") else { return };
    let folder = TempDir::new().expect("a folder");
    let openssl = |args: &str| {
        let run = Command::new("openssl").args(args.split_whitespace()).current_dir(folder.path()).output();
        let run = run.expect("openssl, which PostgreSQL's packages need");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    };
    openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.crt -subj /CN=authority");
    openssl("req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost");
    fs::write(folder.path().join("names"), "subjectAltName=DNS:localhost\n").expect("a file");
    openssl(
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt",
    );
    openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -keyout other.key -out other.crt -subj /CN=other");
    for name in ["server.crt", "server.key"] {
        server.give(&folder.path().join(name), name);
    }
    let database = server.database();
    server.sql(&database, "create role ann superuser login password 'secret'");
    server.sql(&database, "alter system set ssl = on");
    server.sql(&database, "select pg_reload_conf()");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (ca, other) = (path("ca.crt"), path("other.crt"));
    let init = |host: &str, rest: &str| {
        let url = format!("postgres://ann:secret@{host}:{}/{database}{rest}", server.port);
        durable(folder.path(), &["store", "init", &url])
    };
    for rest in [
        format!("?sslrootcert={ca}"),
        format!("?sslmode=verify-full&sslrootcert={ca}"),
        format!("?sslmode=verify-ca&sslrootcert={ca}"),
        "?sslmode=require".into(),
        "?sslmode=prefer".into(),
        "?sslmode=disable".into(),
    ] {
        let (code, said) = ran(init("localhost", &rest));
        assert_eq!(code, 0, "{rest}: {said}");
    }
    let mut by_variable = init("localhost", "");
    by_variable.env("PGSSLROOTCERT", &ca);
    assert_eq!(ran(by_variable).0, 0);
    let named = |rest: String| init("127.0.0.1", &rest);
    refused(named(format!("?sslrootcert={ca}")), 4, &["not valid for name", "sslrootcert=FILE"]);
    assert_eq!(ran(named(format!("?sslmode=verify-ca&sslrootcert={ca}"))).0, 0);
    refused(init("localhost", &format!("?sslrootcert={other}")), 4, &["invalid peer certificate"]);
    refused(
        init("localhost", &format!("?sslmode=verify-ca&sslrootcert={other}")),
        4,
        &["invalid peer certificate"],
    );
    refused(init("localhost", "?sslmode=verify-full"), 4, &["invalid peer certificate", "UnknownIssuer"]);
    refused(
        init("localhost", "?sslrootcert=missing.crt"),
        4,
        &["the certificates in missing.crt can't be read"],
    );
    server.sql(&database, "alter system set ssl = off");
    server.sql(&database, "select pg_reload_conf()");
    refused(init("localhost", &format!("?sslrootcert={ca}")), 4, &["server does not support TLS"]);
}

#[test]
fn what_was_acknowledged_survives_crashes_of_the_server() {
    let Some(server) = Server::start("") else { return };
    let database = server.database();
    let url = url(&server.url(&database));
    Cluster::init(&url, &Init { partitions: Some(1), ..Init::default() }, &patience()).expect("a schema");
    let cluster = Cluster::open(&url, LAYOUT, &patience()).expect("a cluster");
    let worker = worker(&cluster, LEASE);
    let is_over = AtomicBool::new(false);
    let acknowledged = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let ownership = cluster.take(&worker, 0).expect("an answer").expect("the partition");
            let mut store = store(&cluster, ownership);
            let mut number = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                number += 1;
                let mut batch = put(&[b"i/", &number.to_be_bytes()[..]].concat(), &[7; 100]);
                batch.put(b"h/count".to_vec(), number.to_be_bytes().to_vec());
                batch.transit.sends.insert(0, number.to_be_bytes().to_vec());
                store.commit(&batch).expect("the store waits for the server");
            }
            number
        });
        for _ in 0..4 {
            thread::sleep(Duration::from_millis(400));
            server.stop("immediate");
            server.begin();
        }
        thread::sleep(Duration::from_millis(300));
        is_over.store(true, Ordering::Relaxed);
        writer.join().expect("the writer")
    });
    assert!(acknowledged > 20, "{acknowledged}");
    let all = cluster.reader().all(b"i/").expect("all keys");
    let keys: Vec<Vec<u8>> =
        (1..=acknowledged).map(|number| [b"i/", &number.to_be_bytes()[..]].concat()).collect();
    assert!(all.iter().map(|(key, _)| key).eq(keys.iter()), "{} of {acknowledged} keys", all.len());
    assert_eq!(cluster.reader().get(b"h/count"), Ok(Some(acknowledged.to_be_bytes().to_vec())));
    let sent = cluster.arrivals(&[0], &[]).expect("the messages");
    assert_eq!(sent.len() as u64, acknowledged.min(4096), "each message once");
    assert_eq!(cluster.irregularities(), Ok(Vec::new()));
}

#[test]
fn a_lease_outlives_a_restart_of_the_server() {
    let Some(server) = Server::start("") else { return };
    let database = server.database();
    let url = url(&server.url(&database));
    Cluster::init(&url, &Init { partitions: Some(1), ..Init::default() }, &patience()).expect("a schema");
    let cluster = Cluster::open(&url, LAYOUT, &patience()).expect("a cluster");
    let lease = Duration::from_secs(3);
    let (first, second) = (worker(&cluster, lease), worker(&cluster, LEASE));
    cluster.take(&first, 0).expect("an answer").expect("it is free");
    server.stop("fast");
    thread::sleep(lease);
    server.begin();
    // The lease is over, and its owner had no server to prolong it.
    assert_eq!(cluster.take(&second, 0), Ok(None));
    assert_eq!(cluster.beat(&first), Ok(true));
    thread::sleep(Duration::from_millis(500));
    assert_eq!(cluster.take(&second, 0), Ok(None));
    thread::sleep(lease);
    assert!(cluster.take(&second, 0).expect("an answer").is_some(), "it had a whole lease");
}

#[test]
fn a_store_without_patience_tells_of_a_lost_connection_and_writes_no_more() {
    let Some(place) = place(1) else { return };
    let proxy = Proxy::start(place.server);
    let url = url(&proxy.url(&place.database));
    let short = Patience::of(Duration::ZERO);
    let cluster = Cluster::open(&url, LAYOUT, &short).expect("a cluster");
    let mut store = PartitionStore::open(&cluster, place.take(0), None, &short).expect("a store");
    store.commit(&put(b"i/x", b"1")).expect("a commit");
    proxy.cut(Cut::BeforeAnswer);
    let lost = store.commit(&put(b"i/x", b"2")).expect_err("nobody knows what became of it");
    assert!(matches!(&lost, StoreError::Unreachable { .. }), "{lost}");
    // Another batch under the same number must not count as the one before.
    assert_eq!(store.commit(&put(b"i/x", b"3")), Err(lost));
    let mut next = place.store(0);
    assert_eq!(next.get(b"i/x"), Ok(Some(b"2".to_vec())), "it had reached the database");
    next.commit(&put(b"i/x", b"4")).expect("the next owner goes on");
}

#[test]
fn a_wait_for_the_server_can_be_given_up() {
    let Some(server) = Server::start("") else { return };
    let database = server.database();
    let url = url(&server.url(&database));
    Cluster::init(&url, &Init { partitions: Some(1), ..Init::default() }, &patience()).expect("a schema");
    let endless = Patience::endless();
    let cluster = Cluster::open(&url, LAYOUT, &patience()).expect("a cluster");
    let worker = worker(&cluster, LEASE);
    let ownership = cluster.take(&worker, 0).expect("an answer").expect("the partition");
    let mut store = PartitionStore::open(&cluster, ownership, None, &endless).expect("a store");
    server.stop("immediate");
    thread::scope(|scope| {
        let waits = scope.spawn(|| store.commit(&put(b"i/x", b"1")));
        thread::sleep(Duration::from_millis(300));
        assert!(!waits.is_finished(), "it waits");
        endless.give_up();
        assert!(matches!(waits.join().expect("an answer"), Err(StoreError::Unreachable { .. })));
    });
}

#[test]
fn a_long_transaction_of_another_does_not_hold_commits_up() {
    let Some(place) = place(1) else { return };
    let snapshot = place.cluster.snapshot().expect("a transaction");
    assert_eq!(snapshot.all(b"i/"), Ok(Vec::new()));
    let mut store = place.store(0);
    for number in 0..300_u32 {
        let mut batch = put(b"i/x", &number.to_be_bytes());
        batch.put(b"s/time".to_vec(), number.to_be_bytes().to_vec());
        batch.transit.sends.insert(0, vec![1]);
        if number > 0 {
            batch.transit.consumed.push(Receipt { source: Source::Partition(0), number: u64::from(number) });
        }
        store.commit(&batch).expect("a commit");
    }
    assert_eq!(snapshot.all(b"i/"), Ok(Vec::new()), "its state stays");
    assert_eq!(place.cluster.waiting(), Ok(vec![(0, 1)]));
    // The row of the partition has the versions of its creation and of its owner alone.
    place.sql("create extension if not exists pageinspect");
    let versions = "select count(*) from heap_page_items(get_raw_page('durable.part', 0)) where lp_len > 0";
    assert_eq!(place.sql(versions), "2");
}

#[test]
fn commits_of_different_partitions_that_write_the_same_keys_all_succeed() {
    let Some(place) = place(4) else { return };
    thread::scope(|scope| {
        for partition in 0..4 {
            let place = &place;
            scope.spawn(move || {
                let mut store = place.store(partition);
                for round in 0..20_u32 {
                    let keys = (0..10).map(|key| (format!("t/{key}").into_bytes(), Some(vec![1])));
                    let mut batch = Batch::from(keys.collect::<Vec<_>>());
                    if round % 3 == partition % 3 {
                        batch = Batch::from(
                            (0..10).map(|key| (format!("t/{key}").into_bytes(), None)).collect::<Vec<_>>(),
                        );
                    }
                    store.commit(&batch).expect("a commit");
                }
            });
        }
    });
    assert_eq!(
        place.sql("select part, max(n) from durable.commits group by part order by part"),
        "0|20\n1|20\n2|20\n3|20"
    );
}

#[test]
fn a_takeover_waits_for_the_commit_that_is_under_way() {
    let Some(place) = place(1) else { return };
    place.sql(
        "create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(1); return null; end $$;
         create trigger slow before insert on durable.kv execute function slow()",
    );
    let mut store = place.store(0);
    thread::scope(|scope| {
        let commit = scope.spawn(|| store.commit(&put(b"i/x", b"1")));
        thread::sleep(Duration::from_millis(400));
        let next = place.take(0);
        assert_eq!(next.commits, 1, "it knows the commit");
        assert_eq!(commit.join().expect("an answer"), Ok(()));
    });
}

#[test]
fn a_lease_that_waited_for_a_lock_is_whole() {
    let Some(place) = place(1) else { return };
    let lease = Duration::from_secs(2);
    let waits = worker(&place.cluster, lease);
    thread::scope(|scope| {
        let locked = "begin; select from durable.worker for update; select pg_sleep(1.5); commit";
        scope.spawn(|| place.sql(locked));
        thread::sleep(Duration::from_millis(400));
        assert_eq!(place.cluster.beat(&waits), Ok(true));
    });
    let overview = place.cluster.overview().expect("an overview");
    let rest = overview.workers.iter().find(|known| known.id == waits).and_then(|known| known.rest);
    assert!(rest.is_some_and(|rest| rest > lease / 2), "{rest:?}");
}

/// `cargo test --release --test postgres -- --ignored --nocapture lone` prints the rates of lone
/// commits: of this store, and of `pgbench` with single-row inserts.
#[test]
#[ignore = "a measurement"]
fn lone_commits_beside_pgbench() {
    let Some(place) = place(1) else { return };
    place.sql("create table bench (id bigserial primary key, v bytea)");
    let folder = TempDir::new().expect("a folder");
    let script = folder.path().join("insert.sql");
    fs::write(&script, "insert into bench (v) values ('\\x0102030405060708');\n").expect("a script");
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    let mut store = place.store(0);
    for round in 0..5 {
        let mut pgbench = place.server.program("pgbench");
        pgbench
            .args(["-n", "-c", "1", "-M", "prepared", "-T", "3", "-U", "admin", "-h"])
            .arg(place.server.folder());
        pgbench.args(["-p", &place.server.port.to_string(), "-f"]).arg(&script).arg(&place.database);
        let run = pgbench.output().expect("pgbench runs");
        let said = String::from_utf8_lossy(&run.stdout).into_owned();
        let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")).expect("a rate");
        let rate: f64 = rate.split(' ').next().and_then(|rate| rate.parse().ok()).expect("a rate");
        let (began, first) = (std::time::Instant::now(), store.commits());
        while began.elapsed() < Duration::from_secs(3) {
            let number = store.commits();
            let mut batch = put(format!("i/{}", number % 50).as_bytes(), &[1; 200]);
            batch.put(format!("i/h{number}").into_bytes(), vec![2; 60]);
            batch.put(b"s/time".to_vec(), number.to_be_bytes().to_vec());
            store.commit(&batch).expect("a commit");
        }
        let own = (store.commits() - first) as f64 / began.elapsed().as_secs_f64();
        println!("round {round}: pgbench {rate:.0}, commits {own:.0} a second: {:.2}", own / rate);
    }
}
