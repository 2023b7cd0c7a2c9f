//! Arrivals at an instance and their order: the engine alone, with the test's own clock.

mod common;

use std::rc::Rc;

use durable::engine::{
    Address, Engine, Event, InstanceRecord, Leaving, Message, Output, Status, StepId, read_record, recovery,
};
use durable::kv::Store;
use durable::machine::{Data, ErrorData, Image, Value, format};

use common::driver::Driver;

const SECOND: i64 = 1_000_000_000;

/// A driven engine, and the activities that it requested.
struct World {
    driver: Driver,
    image: Rc<Image>,
    sent: u64,
    /// The activities that were begun and not abandoned.
    under_way: Vec<(StepId, String)>,
    abandoned: Vec<StepId>,
}

impl World {
    fn new(text: &str) -> World {
        let image = common::image(text);
        let driver = Driver::new(&image, 1_000 * SECOND);
        World { driver, image, sent: 0, under_way: Vec::new(), abandoned: Vec::new() }
    }

    fn begin(&mut self, id: &str, function: &str, args: Vec<Value>) {
        let args = Data::encode(&Value::list(args)).expect("data");
        let record = InstanceRecord::new(id, self.image.code.hash, "a.df", function, args, self.driver.now);
        self.feed(Event::Begin { record, image: self.image.clone() });
    }

    /// Feeds an event to the engine, and runs the engine until it rests.
    fn feed(&mut self, event: Event) {
        self.driver.handle(event);
        let mut gates = Vec::new();
        for _ in 0..10_000 {
            if self.driver.engine.is_ready() {
                self.driver.handle(Event::Run);
            }
            for output in self.driver.outputs().expect("read") {
                match output {
                    Output::Activity { step, name, .. } => self.under_way.push((step, name)),
                    Output::Abandon { step } => {
                        self.under_way.retain(|(known, _)| *known != step);
                        self.abandoned.push(step);
                    }
                    Output::Gated(gated) => gates.push(gated),
                    _ => {}
                }
            }
            self.driver.commit().expect("written");
            for gated in std::mem::take(&mut gates) {
                if let Leaving::Line { run, .. } = self.driver.open(gated).expect("durable") {
                    self.driver.handle(Event::LinesOut { run, count: 1 });
                }
            }
            if !self.driver.engine.is_ready() && !self.driver.engine.has_writes() {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    /// Lets time pass.
    fn pass(&mut self, seconds: i64) {
        self.driver.now += seconds * SECOND;
        self.feed(Event::Tick);
    }

    /// Kills the process, and restarts it after a time.
    fn restart_after(&mut self, seconds: i64) {
        self.under_way.clear();
        self.driver.now += seconds * SECOND;
        self.driver.restart(Engine::new(), |_| true).expect("read");
        self.feed(Event::Tick);
    }

    /// Sends a client's message to an engine that serves clients only.
    fn send_while_down(&mut self, id: &str, message: Message) {
        self.driver.restart(Engine::for_clients(), |_| true).expect("read");
        self.send(id, message);
    }

    fn send(&mut self, id: &str, message: Message) {
        self.sent += 1;
        let from = format!("client-{}", self.sent);
        self.feed(Event::Send { to: Address::instance(id), from, message });
    }

    fn raise(&mut self, id: &str, name: &str, payload: i64) {
        self.send(id, event(name, payload));
    }

    fn answer(&mut self, step: StepId, value: &str) {
        self.feed(Event::Answer { step, result: Ok(data(Value::str(value))), sends: Vec::new() });
    }

    fn result(&self, id: &str) -> String {
        let record = read_record(&self.driver.store, id).expect("read").expect("it is there");
        match record.status {
            Status::Completed(value) => format::display(&value.decode()),
            Status::Failed(error) => error.title(),
            other => other.word().to_string(),
        }
    }
}

fn data(value: Value) -> Data {
    Data::encode(&value).expect("data")
}

fn event(name: &str, payload: i64) -> Message {
    Message::Event { name: name.to_string(), payload: data(Value::Int(payload)) }
}

const RACES: &str = r#"
activity work() with {timeout: 10s, retry: {times: 2, first: 1s}} => 1
orchestration waits() {
  match race({b: async receive("b"), a: async receive("a"), late: async sleep(10s)}) { {a} => "a{a}", {b} => "b{b}", {late} => "late" }
}
orchestration works() { try { work() } catch e { e.kind } }
orchestration child() { receive("end"); "done" }
orchestration calls(id) { try { child() with {id, timeout: 10s} } catch e { e.kind } }
entity Box { state 0; on get() => state }
orchestration holds() { lock Box(1) { receive("free") } }
orchestration locks() { try { lock Box(1) with {timeout: 10s} { "held" } } catch e { e.kind } }
orchestration again(n) {
  if n > 0 { let _a = async sleep(5s); let _b = async work(); sleep(1s); continue_as_new(n - 1) }
  let first = work()
  [first, work()]
}
"#;

#[test]
fn an_event_beats_a_deadline_that_it_came_before_and_no_other() {
    for (after, wanted) in [(9, "a1"), (10, "late"), (11, "late")] {
        for downtime in [false, true] {
            for others in [false, true] {
                let mut world = World::new(RACES);
                world.begin("w", "waits", Vec::new());
                if others {
                    world.send("w", Message::Suspend);
                }
                if downtime {
                    world.driver.now += after * SECOND;
                    world.send_while_down("w", event("a", 1));
                    world.restart_after(20);
                } else {
                    world.driver.now += after * SECOND;
                    world.raise("w", "a", 1);
                    world.pass(20);
                }
                if others {
                    world.send("w", Message::Resume);
                }
                assert_eq!(world.result("w"), wanted, "{after} {downtime} {others}");
            }
        }
    }
}

#[test]
fn events_of_different_names_come_in_their_order() {
    for (names, wanted) in [(["a", "b"], "a1"), (["b", "a"], "b1")] {
        for suspended in [false, true] {
            for restarts in [false, true] {
                let mut world = World::new(RACES);
                world.begin("w", "waits", Vec::new());
                if suspended {
                    world.send("w", Message::Suspend);
                }
                if restarts {
                    names.iter().zip(1..).for_each(|(name, n)| world.send_while_down("w", event(name, n)));
                    world.restart_after(1);
                } else {
                    // Both events come before the instance runs again.
                    for (name, n) in names.iter().zip(1..) {
                        let from = format!("client-{name}");
                        let to = Address::instance("w");
                        world
                            .driver
                            .engine
                            .handle(Event::Send { to, from, message: event(name, n) }, world.driver.now);
                    }
                    world.feed(Event::Tick);
                }
                if suspended {
                    world.send("w", Message::Resume);
                }
                assert_eq!(world.result("w"), wanted, "{names:?} {suspended} {restarts}");
            }
        }
    }
}

#[test]
fn an_answer_of_a_child_or_a_lock_counts_if_it_came_in_time() {
    for (after, wanted) in [(9, ["done", "held"]), (11, ["timeout", "timeout"])] {
        for restarts in [false, true] {
            let mut world = World::new(RACES);
            world.begin("holder", "holds", Vec::new());
            world.begin("caller", "calls", vec![Value::str("kid")]);
            world.begin("locker", "locks", Vec::new());
            world.send("caller", Message::Suspend);
            world.send("locker", Message::Suspend);
            // The suspended instances are in memory when their deadlines pass, or they are not.
            if restarts {
                world.restart_after(0);
            }
            world.driver.now += after * SECOND;
            world.raise("kid", "end", 1);
            world.raise("holder", "free", 1);
            if restarts {
                world.restart_after(20);
            } else {
                world.pass(20);
            }
            world.send("caller", Message::Resume);
            world.send("locker", Message::Resume);
            let results = [world.result("caller"), world.result("locker")];
            assert_eq!(results, wanted, "{after} {restarts}");
        }
    }
}

#[test]
fn an_attempt_that_was_given_up_does_not_answer_for_the_next() {
    let mut world = World::new(RACES);
    world.begin("w", "works", Vec::new());
    let first = world.under_way[0].0.clone();
    world.pass(10);
    assert_eq!(world.abandoned, std::slice::from_ref(&first));
    // The late answer comes between the attempts, and while the next one is under way.
    world.answer(first.clone(), "late");
    world.pass(1);
    let second = world.under_way[0].0.clone();
    assert_eq!((first.attempt, second.attempt), (1, 2));
    world.answer(first.clone(), "late");
    assert_eq!(world.result("w"), "running");
    world.feed(Event::Answer { step: first, result: Err(ErrorData::new("late", "late")), sends: Vec::new() });
    assert_eq!(world.result("w"), "running");
    world.answer(second, "second");
    assert_eq!(world.result("w"), "second");
}

#[test]
fn an_answer_after_the_deadline_is_too_late_though_nobody_has_looked() {
    let mut world = World::new(RACES);
    world.begin("w", "works", Vec::new());
    let first = world.under_way[0].0.clone();
    world.driver.now += 11 * SECOND;
    world.answer(first, "late");
    world.pass(1);
    let second = world.under_way[0].0.clone();
    world.answer(second, "second");
    assert_eq!(world.result("w"), "second");
}

#[test]
fn what_an_execution_left_behind_does_not_answer_the_next() {
    for restarts in [false, true] {
        let mut world = World::new(RACES);
        world.begin("w", "again", vec![Value::Int(1)]);
        let left = world.under_way[0].0.clone();
        world.pass(1);
        // The next execution uses the same request numbers.
        let first = world.under_way[0].0.clone();
        assert_eq!((left.execution, first.execution), (0, 1));
        assert!(world.abandoned.contains(&left));
        if restarts {
            world.restart_after(0);
        }
        world.answer(left.clone(), "left");
        // The sleep of the execution before would have ended by now.
        world.pass(5);
        assert_eq!(world.result("w"), "running");
        let first = world.under_way[0].0.clone();
        world.answer(first, "one");
        world.answer(left, "left");
        let second = world.under_way.last().expect("under way").0.clone();
        assert_eq!(second.seq, 1);
        world.answer(second, "two");
        assert_eq!(world.result("w"), r#"["one", "two"]"#);
    }
}

#[test]
fn what_ends_an_instance_overtakes_nothing_of_before() {
    // If the event came before the end, it is consumed, and its consequences happen.
    let text = r#"
        orchestration w() { let e = receive("e"); raise("other", "got", e); receive("never") }
        orchestration other() { receive("got") }
    "#;
    for ends_first in [false, true] {
        let mut world = World::new(text);
        world.begin("other", "other", Vec::new());
        world.begin("w", "w", Vec::new());
        let end = Message::Terminate { why: Data::null(), children: true, by: None };
        let mut all = [event("e", 7), end];
        if ends_first {
            all.reverse();
        }
        for (number, message) in all.into_iter().enumerate() {
            let from = format!("client-{number}");
            world.driver.now += 1;
            world
                .driver
                .engine
                .handle(Event::Send { to: Address::instance("w"), from, message }, world.driver.now);
        }
        world.feed(Event::Tick);
        assert_eq!(world.result("w"), "terminated");
        assert_eq!(world.result("other"), if ends_first { "running" } else { "7" });
    }
}

#[test]
fn what_a_turn_asks_of_others_happens_though_the_next_turn_gives_it_up() {
    // Both answers come before the instance runs again. The first turn makes the request, and the
    // second cancels the task.
    let asks = [
        ("Log(1).add(7); receive(\"never\")", "7"),
        ("signal Log(1).add(7); receive(\"never\")", "7"),
        ("adds(7) with {detached: true}; receive(\"never\")", "7"),
        ("start adds(7); receive(\"never\")", "7"),
        ("raise(\"other\", \"got\", 7); receive(\"never\")", "7"),
        ("adds(7); receive(\"never\")", "null"),
    ];
    for (asked, wanted) in asks {
        let text = format!(
            "entity Log {{ state null; on add(n) {{ state = n }}; on get() => state }}
             activity first() => 1
             activity second() => 2
             orchestration adds(n) {{ sleep(1s); Log(1).add(n) }}
             orchestration other() {{ Log(1).add(receive(\"got\")) }}
             orchestration reads() {{ Log(1).get() }}
             orchestration w() {{ race([async do {{ first(); {asked} }}, async second()]) }}"
        );
        let mut world = World::new(&text);
        world.begin("other", "other", Vec::new());
        world.begin("w", "w", Vec::new());
        for (step, _) in world.under_way.clone() {
            let event = Event::Answer { step, result: Ok(data(Value::Int(2))), sends: Vec::new() };
            world.driver.now += 1;
            world.driver.engine.handle(event, world.driver.now);
        }
        world.feed(Event::Tick);
        assert_eq!(world.result("w"), "2");
        world.pass(2);
        world.begin("r", "reads", Vec::new());
        assert_eq!(world.result("r"), wanted, "{asked}");
    }
}

#[test]
fn what_was_given_up_before_a_rewind_does_not_answer_after_it() {
    let text = r#"
        activity fails() => 1
        activity works() => 2
        orchestration w() { all([async fails(), async works()]) }
    "#;
    let mut world = World::new(text);
    world.begin("w", "w", Vec::new());
    let before: Vec<StepId> = world.under_way.iter().map(|(step, _)| step.clone()).collect();
    let broken = Err(ErrorData::new("broken", "it does not work yet"));
    world.feed(Event::Answer { step: before[0].clone(), result: broken, sends: Vec::new() });
    assert!(world.abandoned.contains(&before[1]));
    world.under_way.clear();
    let image = world.image.clone();
    let rewinding =
        durable::engine::rewind(&world.driver.store, &mut |_| Ok(image.clone()), "w", world.driver.now)
            .expect("a plan");
    world.feed(Event::Rewind(rewinding));
    // The rewound instance is read after its writes are taken.
    world.feed(Event::Tick);
    let after: Vec<StepId> = world.under_way.iter().map(|(step, _)| step.clone()).collect();
    assert_eq!(after.len(), 2);
    for step in before {
        world.answer(step, "late");
    }
    assert_eq!(world.result("w"), "running");
    for step in after {
        world.answer(step, "again");
    }
    assert_eq!(world.result("w"), r#"["again", "again"]"#);
}

/// An operation that an instance called within its critical section, and that had not run when the
/// section ended, runs before messages that others sent meanwhile.
#[test]
fn what_was_called_within_a_section_comes_first_after_it() {
    let text = r#"
        entity Log { state []; on add(n) { state += [n] }; on get() => state }
        orchestration holds() {
          var begun = null
          lock Log(1) {
            receive("over")
            begun = async Log(1).add("own")
          }
          await begun
        }
        orchestration sends() { signal Log(1).add("other") }
        orchestration reads() { Log(1).get() }
    "#;
    let mut world = World::new(text);
    world.begin("h", "holds", Vec::new());
    world.begin("o", "sends", Vec::new());
    let message = event("over", 1);
    world.feed(Event::Send { to: Address::instance("h"), from: "client".into(), message });
    world.begin("r", "reads", Vec::new());
    assert_eq!(world.result("r"), r#"["own", "other"]"#);
}

#[test]
fn a_delayed_signal_whose_time_passed_comes_before_what_was_sent_after() {
    let text = r#"
        entity Log { state []; on add(n) { state += [n] }; on get() => state }
        orchestration adds(n) { signal Log(1).add(n) }
        orchestration delays() { signal Log(1).add("delayed") after 5s }
        orchestration reads() { Log(1).get() }
    "#;
    let mut world = World::new(text);
    world.begin("d", "delays", Vec::new());
    world.driver.now += 6 * SECOND;
    let message = Message::Signal {
        operation: "add".into(),
        args: data(Value::list(vec![Value::str("later")])),
        due: 0,
    };
    world.driver.engine = Engine::for_clients();
    let events = recovery(&world.driver.store, None).expect("read");
    // The last event of this engine comes before the signal is due.
    let log = durable::machine::EntityId::parse("Log@1").and_then(Result::ok).expect("an entity");
    let mut mail = world.engine_without(events);
    mail.handle(Event::Send { to: Address::entity(log), from: "client".into(), message }, world.driver.now);
    let batch = mail.take_writes();
    world.driver.store.commit(&batch.batch).expect("written");
    world.restart_after(1);
    world.begin("r", "reads", Vec::new());
    assert_eq!(world.result("r"), r#"["delayed", "later"]"#);
}

impl World {
    /// Returns an engine that serves clients alone, after these events.
    fn engine_without(&self, events: Vec<Event>) -> Engine {
        let mut engine = Engine::for_clients();
        for event in events {
            engine.handle(event, self.driver.now - 2 * SECOND);
        }
        engine
    }
}
