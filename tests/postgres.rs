//! The store in PostgreSQL, on a private server: the rules of every store, the fence of commits,
//! messages between partitions, leases, and lost connections.

mod common;

use std::path::Path;
use std::thread;
use std::time::Duration;

use common::postgres::{Cut, Proxy, Server, server};
use durable::kv::conformance::{self, Subject};
use durable::kv::{Arrival, Batch, Partition, Read, Receipt, Source, Store, StoreError};
use durable::store::postgres::{
    Cluster, Init, Layout, Ownership, PartitionStore, Patience, SLOTS, Scope, Slots, Url,
};
use tempfile::TempDir;

/// Some keys of the conformance suite are in the queue: a part of them in slots, a part the
/// partition's own.
const LAYOUT: Layout = Layout { queue: &[b"a/", b"h/x", b"o/", b"s/"], slot_of, numbered: &[b"o/"] };

fn slot_of(key: &[u8]) -> Option<u32> {
    key.starts_with(b"a/").then(|| key.iter().fold(7, |sum, byte| sum * 31 + u32::from(*byte)) % SLOTS)
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
    assert_eq!(client.send(number, 77, b"start"), Ok(false), "there is no such partition");
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
    let (low, high) = (key_of_slot(|slot| slot < SLOTS / 2), key_of_slot(|slot| slot >= SLOTS / 2));
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
