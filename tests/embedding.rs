//! Durable programs within a Rust program: the promises of `durable::Runtime`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use durable::{Error, Failure, Lifecycle, Runtime, StoreError, idempotency_key};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("store");
    (folder, store)
}

/// Opens a store without activities in Rust.
fn plain() -> (TempDir, Runtime) {
    let (folder, store) = folder();
    let runtime = Runtime::open(store).expect("it opens");
    (folder, runtime)
}

fn failure<T: std::fmt::Debug>(result: Result<T, Error>) -> Failure {
    match result {
        Err(Error::Failed(failure)) => failure,
        other => panic!("a failure was expected, and not {other:?}"),
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    int: i64,
    float: f64,
    text: String,
    list: Vec<u8>,
    map: BTreeMap<String, bool>,
    pair: (i32, char),
    some: Option<i64>,
    none: Option<i64>,
    kind: Kind,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Kind {
    Card { number: String },
    Cash,
}

fn everything() -> Everything {
    Everything {
        int: i64::MIN,
        float: 0.1,
        text: "Ä {\"q\"}\n".into(),
        list: vec![1, 2, 255],
        map: BTreeMap::from([("a".into(), true), ("b c".into(), false)]),
        pair: (-1, 'ß'),
        some: Some(1),
        none: None,
        kind: Kind::Card { number: "42".into() },
    }
}

#[test]
fn values_of_serde_cross_both_ways() {
    let (_folder, store) = folder();
    let runtime = Runtime::builder()
        .activity("echo", |value: Everything| -> Result<Everything, Failure> {
            assert_eq!(value, everything());
            Ok(value)
        })
        .activity("none", || -> Result<(), Failure> { Ok(()) })
        .activity("sum", |a: i64, b: i64, c: Option<i64>| -> Result<i64, Failure> {
            Ok(a + b + c.unwrap_or(0))
        })
        .open(store)
        .expect("it opens");
    let program = runtime
        .compile(
            "p.df",
            "extern activity echo(value)\nextern activity none()\nextern activity sum(a, b, c = null)\n\
             orchestration all_of(value, cash) => [echo(value), none(), sum(1, 2), sum(1, 2, 3), cash.kind]\n",
        )
        .expect("it compiles");
    let all: (Everything, (), i64, i64, String) = runtime
        .start(&program, "all_of", (everything(), Kind::Cash))
        .expect("it starts")
        .wait()
        .expect("it ends");
    assert_eq!(all, (everything(), (), 3, 6, "Cash".into()));
}

#[test]
fn errors_are_values_on_both_sides() {
    let (_folder, store) = folder();
    let runtime = Runtime::builder()
        .activity("declined", || -> Result<(), Failure> {
            Err(Failure::new("declined", "no funds").with("missing", 5))
        })
        .activity("from_rust", || -> Result<i64, std::num::ParseIntError> { "x".parse() })
        .activity("panics", || -> Result<i64, Failure> { panic!("no such luck") })
        .async_activity("panics_later", || async { panic!("nor here") as Result<i64, Failure> })
        .activity("typed", |n: u8| -> Result<u8, Failure> { Ok(n) })
        .open(store)
        .expect("it opens");
    let text = "extern activity declined()\nextern activity from_rust()\nextern activity panics()\n\
        extern activity panics_later()\nextern activity typed(n)\n\
        orchestration caught() => try { declined() } catch {kind: \"declined\", missing} { missing }\n\
        orchestration kinds() {\n  let kind = fn (f) => try { f() } catch e { [e.kind, e.message] }\n  \
        [kind(fn () => from_rust()), kind(fn () => panics()), kind(fn () => panics_later()), kind(fn () => typed(300)), kind(fn () => typed(\"x\"))]\n}\n\
        orchestration uncaught() {\n  let x = 1\n  declined()\n}\n\
        orchestration thrown() => throw [1, 2]\n";
    let program = runtime.compile("p.df", text).expect("it compiles");
    let start = |name: &str| runtime.start(&program, name, ()).expect("it starts");
    assert_eq!(start("caught").wait::<i64>().expect("it ends"), 5);
    let kinds: Vec<(String, String)> = start("kinds").wait().expect("it ends");
    let kinds: Vec<String> = kinds.into_iter().map(|(kind, message)| format!("{kind}: {message}")).collect();
    assert_eq!(
        kinds,
        [
            "extern_error: invalid digit found in string",
            "extern_error: `panics` panicked: no such luck",
            "extern_error: `panics_later` panicked: nor here",
            "type_error: argument 1: 300 is no `u8`: invalid value: integer `300`, expected u8 at line 1 column 3",
            "type_error: argument 1: \"x\" is no `u8`: invalid type: string \"x\", expected u8 at line 1 column 3",
        ]
    );
    let failure = failure(start("uncaught").wait::<Json>());
    assert_eq!((failure.kind(), failure.message().as_str()), ("declined", "no funds"));
    assert_eq!(failure.get("missing"), Some(&json!(5)));
    assert!(
        failure.report().contains("p.df:13:3") && failure.report().contains("declined()"),
        "{}",
        failure.report()
    );
    let thrown = self::failure(start("thrown").wait::<Json>());
    assert_eq!((thrown.kind(), thrown.value()), ("", &json!([1, 2])));
    assert!(matches!(start("caught").wait::<String>(), Err(Error::Conversion(_))));
}

#[test]
fn attempts_share_a_key_and_policies_hold() {
    let (_folder, store) = folder();
    let keys: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = keys.clone();
    let dropped = Arc::new(AtomicUsize::new(0));
    struct Told(Arc<AtomicUsize>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let told = dropped.clone();
    let runtime = Runtime::builder()
        .activity("flaky", move || -> Result<usize, Failure> {
            let mut seen = seen.lock().expect("it is not poisoned");
            seen.push(idempotency_key().expect("an activity has a key"));
            match seen.len() {
                count if count < 3 => Err(Failure::new("busy", "later")),
                count => Ok(count),
            }
        })
        .async_activity("endless", move || {
            let told = Told(told.clone());
            async move {
                let _told = told;
                assert!(idempotency_key().is_some());
                std::future::pending::<()>().await;
                Ok::<(), Failure>(())
            }
        })
        .open(store)
        .expect("it opens");
    let text = "extern activity flaky() with {retry: {times: 5, first: 1ms}}\nextern activity endless()\n\
        orchestration tries() => flaky()\n\
        orchestration waits() => try { endless() with {timeout: 30ms} } catch {kind} { kind }\n";
    let program = runtime.compile("p.df", text).expect("it compiles");
    assert_eq!(runtime.start(&program, "tries", ()).expect("it starts").wait::<usize>().expect("it ends"), 3);
    let keys = keys.lock().expect("it is not poisoned").clone();
    assert!(keys.len() == 3 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_eq!(
        runtime.start(&program, "waits", ()).expect("it starts").wait::<String>().expect("it ends"),
        "timeout"
    );
    runtime.close().expect("it closes");
    assert_eq!(dropped.load(Ordering::SeqCst), 1, "what timed out is broken off");
    assert_eq!(idempotency_key(), None);
}

#[test]
fn what_is_unfinished_goes_on_when_the_store_is_opened_again() {
    let (_folder, store) = folder();
    let count = Arc::new(AtomicUsize::new(0));
    let open = || {
        let count = count.clone();
        let builder = Runtime::builder().activity("once", move |name: String| -> Result<String, Failure> {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(name.to_uppercase())
        });
        builder.open(&store).expect("it opens")
    };
    let text = "extern activity once(name)\n\
        orchestration greet(name) {\n  let a = once(name)\n  set_status(\"waits\")\n  let b = receive(\"more\")\n  [a, once(b)]\n}\n";
    {
        let runtime = open();
        let program = runtime.compile("p.df", text).expect("it compiles");
        let instance = runtime.start_as("g", &program, "greet", ("ada",)).expect("it starts");
        while instance.status().expect("it is there").custom != json!("waits") {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let runtime = open();
    let instance = runtime.instance("g").expect("it is there");
    instance.raise("more", "bob").expect("it waits");
    assert_eq!(instance.wait::<Vec<String>>().expect("it ends"), ["ADA", "BOB"]);
    assert_eq!(count.load(Ordering::SeqCst), 2, "the first call was not done again");
    // An instance that outlives its runtime gets an error, not a hang.
    runtime.close().expect("it closes");
    assert!(matches!(instance.wait::<Json>(), Err(Error::Stopped { .. })));
}

#[test]
fn a_process_that_does_not_provide_an_activity_leaves_it_to_one_that_does() {
    let (_folder, store) = folder();
    let text = "extern activity double(n)\norchestration twice(n) => double(double(n))\n";
    let builder = || Runtime::builder().async_activity("double", async |n: i64| Ok::<_, Failure>(n * 2));
    let id = {
        let runtime = Runtime::open(&store).expect("it opens");
        let Err(Error::Invalid(reason)) = runtime.compile("p.df", text).map(|_| ()) else {
            panic!("it compiled")
        };
        assert_eq!(
            reason,
            "`double`, an `extern activity` at p.df:1:17, is not provided: add `.activity(\"double\", …)` to the builder"
        );
        drop(runtime);
        let runtime = builder().open(&store).expect("it opens");
        let program = runtime.compile("p.df", text).expect("it compiles");
        let instance = runtime.start(&program, "twice", (5,)).expect("it starts");
        // The first instance may have ended already. The second one is raised last and probably has
        // not.
        let waits = "extern activity double(n)\norchestration later() {\n  receive(\"go\")\n  double(4)\n}\n";
        let program = runtime.compile("q.df", waits).expect("it compiles");
        runtime
            .start_as("later", &program, "later", ())
            .expect("it starts")
            .raise("go", ())
            .expect("it runs");
        instance.id().to_string()
    };
    // The command line provides no activities.
    let resumed =
        Command::new(env!("CARGO_BIN_EXE_durable")).arg("resume").arg("--store").arg(&store).output();
    let resumed = resumed.expect("it runs");
    let said = String::from_utf8_lossy(&resumed.stderr).into_owned();
    if !resumed.status.success() {
        assert!(
            said.contains("`double` is an `extern activity`, which this process does not provide"),
            "{said}"
        );
    }
    let runtime = builder().open(&store).expect("it opens");
    assert_eq!(runtime.instance(&id).expect("it is there").wait::<i64>().expect("it ends"), 20);
    assert_eq!(runtime.instance("later").expect("it is there").wait::<i64>().expect("it ends"), 8);
}

#[test]
fn the_command_line_says_what_is_not_provided_and_loses_nothing() {
    let (folder, store) = folder();
    let file = folder.path().join("p.df");
    std::fs::write(
        &file,
        "extern activity double(n)\nlet t = async double(4)\nprint(\"before\")\nprint(await t)\n",
    )
    .expect("it is written");
    let run = || {
        let command = Command::new(env!("CARGO_BIN_EXE_durable"))
            .args(["run", "p.df", "--store", "store", "--id", "p"])
            .current_dir(&folder)
            .output();
        let output = command.expect("it runs");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code(), out.into_owned(), err.into_owned())
    };
    let (code, out, err) = run();
    assert_eq!((code, out.as_str()), (Some(1), "before\n"), "{err}");
    assert!(err.contains("`double` is an `extern activity`, which this process does not provide"), "{err}");
    let (code, out, _) = run();
    assert_eq!((code, out.as_str()), (Some(1), ""), "what was printed is not printed again");
    let runtime = Runtime::builder().activity("double", |n: i64| Ok::<_, Failure>(n * 2)).open(store);
    runtime.expect("it opens").instance("p").expect("it is there").wait::<Json>().expect("it ends");
}

#[test]
fn instances_and_entities_are_reached_by_name() {
    let (_folder, runtime) = plain();
    let text = "entity Counter {\n  state {n: 0}\n  on add(k) { state.n += k }\n}\n\
        orchestration asks(question) {\n  set_status({question})\n  let answer = receive(\"answer\")\n  Counter(\"c\").add(answer)\n  answer\n}\n\
        orchestration fails() {\n  fs.read(\"/there/is/no/such/file\")\n}\n\
        args.len()\n";
    let program = runtime.compile("dir/p.df", text).expect("it compiles");
    assert!(matches!(runtime.signal("Counter", "c", "add", (1,)), Err(Error::Unknown(_))));
    let a = runtime.start_as("a", &program, "asks", ("why?",)).expect("it starts");
    let again = runtime.start_as("a", &program, "asks", ("why?",)).expect("it is that one");
    assert_eq!(again.id(), a.id());
    for (other, args) in [("fails", json!([])), ("asks", json!(["why not?"]))] {
        match runtime.start_as("a", &program, other, args) {
            Err(Error::IdTaken { id, function, message }) => {
                assert_eq!((id.as_str(), function.as_str()), ("a", "asks"));
                assert!(message.contains("`asks(\"why?\")`"), "{message}");
            }
            other => panic!("the id is taken: {:?}", other.map(|instance| instance.id().to_string())),
        }
    }
    assert!(matches!(runtime.start_as("a:0", &program, "fails", ()), Err(Error::Invalid(_))));
    while a.status().expect("it is there").custom != json!({"question": "why?"}) {
        std::thread::sleep(Duration::from_millis(2));
    }
    a.suspend().expect("it runs");
    a.raise("answer", 41).expect("it is there");
    while a.status().expect("it is there").lifecycle != Lifecycle::Suspended {
        std::thread::sleep(Duration::from_millis(2));
    }
    a.resume().expect("it is suspended");
    assert_eq!(a.wait::<i64>().expect("it ends"), 41);
    assert!(matches!(a.raise("answer", 1), Err(Error::Ended(_))));
    runtime.signal("Counter", "c", "add", (1,)).expect("it is declared");
    while runtime.state::<Json>("Counter", "c").expect("it is readable") != Some(json!({"n": 42})) {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(runtime.state::<Json>("Counter", "d").expect("it is readable"), None);
    let b = runtime.start(&program, "asks", ("who?",)).expect("it starts");
    b.terminate("enough").expect("it runs");
    assert!(matches!(b.wait::<Json>(), Err(Error::Terminated { why, .. }) if why == json!("enough")));
    let c = runtime.start(&program, "asks", ("when?",)).expect("it starts");
    c.cancel("too late", Some(Duration::from_secs(1))).expect("it runs");
    assert!(matches!(c.wait::<Json>(), Err(Error::Terminated { why, .. }) if why == json!("too late")));
    let failed = runtime.start(&program, "fails", ()).expect("it starts");
    failure(failed.wait::<Json>());
    failed.rewind().expect("it has failed");
    failure(failed.wait::<Json>());
    assert_eq!(runtime.run(&program, ["x", "y"]).expect("it starts").wait::<i64>().expect("it ends"), 2);
    assert_eq!(runtime.instances("").expect("they are readable").len(), 5);
    b.purge().expect("it has ended");
    assert_eq!(runtime.instances("").expect("they are readable").len(), 4);
    assert!(matches!(runtime.instance("nobody"), Err(Error::Unknown(id)) if id == "nobody"));
}

#[test]
fn entities_answer() {
    let (folder, store) = folder();
    let text = "entity Counter {\n  state {n: 0}\n  on add(k) { state.n += small(k); state.n }\n  \
        fn small(k) { if k > 9 { throw {kind: \"large\", message: \"{k}\"} }; k }\n}\n\
        activity add(k) => Counter(\"c\").add(k)\norchestration adds(k) => add(k)\n";
    {
        let runtime = Runtime::open(&store).expect("it opens");
        let call = |id: &str, k: i64| runtime.call_entity_as::<i64>(id, "Counter", "c", "add", (k,));
        assert!(matches!(call("early", 1), Err(Error::Unknown(_))));
        let program = runtime.compile("p.df", text).expect("it compiles");
        assert_eq!(
            runtime.start(&program, "adds", (1,)).expect("it starts").wait::<i64>().expect("it ends"),
            1
        );
        assert_eq!(runtime.call_entity::<i64>("Counter", "c", "add", (1,)).expect("an answer"), 2);
        assert_eq!((call("x", 5).expect("an answer"), call("x", 5).expect("the same")), (7, 7));
        let Err(Error::IdTaken { function, message, .. }) = call("x", 6) else { panic!("the id is taken") };
        assert_eq!(function, "Counter.add");
        assert!(message.contains("`Counter@c.add(5)`"), "{message}");
        let large = failure(call("y", 10));
        assert_eq!((large.kind(), large.message().as_str()), ("large", "10"));
        assert!(large.report().contains("p.df:4"), "{}", large.report());
        let wrong = runtime.call_entity::<String>("Counter", "c", "add", (1,));
        assert!(matches!(wrong, Err(Error::Conversion(_))));
        assert!(matches!(call("a:b", 1), Err(Error::Refused(_))));
    }
    let runtime = Runtime::open(&store).expect("it opens again");
    assert_eq!(runtime.call_entity_as::<i64>("x", "Counter", "c", "add", (5,)).expect("it is kept"), 7);
    drop(folder);
}

#[test]
fn mistakes_are_told_before_anything_runs() {
    let (folder, runtime) = plain();
    let Err(Error::Invalid(text)) = runtime.compile("p.df", "orchestration f( {").map(|_| ()) else {
        panic!("it compiled")
    };
    assert!(text.contains("p.df:1:"), "{text}");
    let program = runtime.compile("p.df", "orchestration transfer(a, b = 1) => a").expect("it compiles");
    let started = |name: &str, args: Json| match runtime.start(&program, name, args) {
        Err(Error::Invalid(reason) | Error::Conversion(reason)) => reason,
        other => panic!("it started: {}", other.is_ok()),
    };
    assert_eq!(
        started("tranfser", json!([])),
        "p.df has no orchestration `tranfser`; did you mean `transfer`?"
    );
    assert_eq!(started("transfer", json!([])), "`transfer` takes 1 to 2 arguments, 0 given");
    assert_eq!(started("transfer", json!({"a": 1})), "arguments are a tuple or another list, and not {a: 1}");
    assert!(matches!(runtime.load(folder.path().join("none.df")), Err(Error::Invalid(_))));
    let another = Runtime::open(folder.path().join("store")).map(|_| ());
    let Err(Error::Store(error)) = &another else { panic!("{another:?}") };
    assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("it is written");
    let opened = Runtime::open(file).map(|_| ());
    assert!(matches!(opened, Err(Error::Store(StoreError::NoFolder { .. }))), "{opened:?}");
}

/// The runtime needs no folder: the same host runs on a store in memory.
#[test]
fn a_store_in_memory_serves_a_runtime() {
    let runtime = Runtime::builder()
        .activity("double", |n: i64| -> Result<i64, Failure> { Ok(2 * n) })
        .in_memory()
        .expect("it opens");
    let text = "
        extern activity double(n)
        entity Counter {
          state 0
          on add(n) { state += n; state }
        }
        orchestration count(n) {
          let total = Counter(\"c\").add(double(n))
          sleep(1ms)
          {total, event: receive(\"go\")}
        }
    ";
    let program = runtime.compile("p.df", text).expect("it compiles");
    let instance = runtime.start_as("a", &program, "count", (4,)).expect("it starts");
    instance.raise("go", "on").expect("it waits");
    assert_eq!(instance.wait::<Json>().expect("it ends"), json!({"total": 8, "event": "on"}));
    assert_eq!(runtime.state::<i64>("Counter", "c").expect("it is readable"), Some(8));
    runtime.signal("Counter", "c", "add", (1,)).expect("it is declared");
    assert_eq!(runtime.instances("").expect("they are readable").len(), 1);
    instance.purge().expect("it has ended");
    assert!(matches!(runtime.instance("a").map(|_| ()), Err(Error::Unknown(_))));
    runtime.close().expect("it closes");
}

#[test]
fn thousands_wait_at_once() {
    let (_folder, store) = folder();
    let most = Arc::new(AtomicUsize::new(0));
    let now = Arc::new(AtomicUsize::new(0));
    let (seen, under_way) = (most.clone(), now.clone());
    let runtime = Runtime::builder()
        .async_activity("pause", move |n: u64| {
            let (seen, under_way) = (seen.clone(), under_way.clone());
            async move {
                seen.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(300)).await;
                under_way.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, Failure>(n)
            }
        })
        .open(store)
        .expect("it opens");
    let text = "extern activity pause(n)\norchestration many(n) => all(range(0, n).map(fn i => async pause(i))).sum()\n";
    let program = runtime.compile("p.df", text).expect("it compiles");
    let all: Vec<_> = (0..20).map(|_| runtime.start(&program, "many", (100,)).expect("it starts")).collect();
    let waiting = async {
        let mut sum = 0;
        for instance in &all {
            sum += instance.outcome::<u64>().await.expect("it ends");
        }
        sum
    };
    assert_eq!(pollster::block_on(waiting), 20 * 4950);
    assert!(most.load(Ordering::SeqCst) > 100, "{most:?}");
}

#[test]
fn the_shop_is_killed_and_goes_on() {
    let (_folder, store) = folder();
    let mut program = std::env::current_exe().expect("it has a path");
    program.pop();
    program.pop();
    program.push("examples/shop");
    let shop = || {
        let mut command = Command::new(&program);
        command.arg(&store).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    for millis in [150, 250, 400] {
        let mut child = shop().spawn().expect("the example was built with the tests");
        std::thread::sleep(Duration::from_millis(millis));
        // The process gets SIGKILL.
        let _ = child.kill();
        child.wait().expect("it has ended");
    }
    let output = shop().output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        said,
        "order-1: receipt for 2 x lamp, parcel 1004, by ada\n\
         order-2: receipt for 1 x sofa, parcel 1004, by ada\n\
         order-3: declined: too much at once\n\
         lamps left: 8\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
