//! Schedules: what they start and when, over downtime, kills, pauses and deployments. The engine
//! alone, with the test's own clock; and the command line.

mod common;

use std::rc::Rc;

use durable::engine::query::{InstanceFilter, Paging, instances};
use durable::engine::{
    Address, Engine, Event, InstanceRecord, Leaving, Message, Output, SCHEDULES, deployment, read_record,
};
use durable::machine::{Data, Image, Value, format};

use common::driver::Driver;
use common::place::Place;

const MINUTE: i64 = 60_000_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// 2026-03-28T00:00:00Z, a Saturday. The clocks of Berlin are set forward on the next day.
const SATURDAY: i64 = 1_774_656_000 * 1_000_000_000;

struct World {
    driver: Driver,
    sent: u64,
    logged: Vec<String>,
}

impl World {
    fn new() -> World {
        let driver = Driver::new(&common::image("0"), SATURDAY);
        World { driver, sent: 0, logged: Vec::new() }
    }

    /// Deploys a program, as the host does with the start of an instance.
    fn deploy(&mut self, text: &str) -> Rc<Image> {
        let image = common::image(text);
        self.driver.add(&image);
        self.sent += 1;
        let id = format!("main-{}", self.sent);
        let args = data(Value::list(vec![Value::list(Vec::new())]));
        let main = InstanceRecord::new(&id, image.code.hash, "a.df", "script", args, self.driver.now);
        self.feed(Event::Begin { record: main.clone(), image: image.clone() });
        let known = self.all(SCHEDULES);
        for (to, message) in deployment(&image.code, &main, &known) {
            self.send(to, message);
        }
        image
    }

    fn send(&mut self, to: Address, message: Message) {
        self.sent += 1;
        let from = format!("client-{}", self.sent);
        self.feed(Event::Send { to, from, message });
    }

    /// Feeds an event to the engine, and runs the engine until it rests.
    fn feed(&mut self, event: Event) {
        self.driver.handle(event);
        let (mut gates, mut idle) = (Vec::new(), 0);
        for _ in 0..100_000 {
            if self.driver.engine.is_ready() {
                self.driver.handle(Event::Run);
            }
            for output in self.driver.outputs().expect("read") {
                match output {
                    Output::Gated(gated) => gates.push(gated),
                    Output::Effect { step, .. } => {
                        let result = Ok(data(Value::Instant(self.driver.now)));
                        self.driver.handle(Event::Answer { step, result, sends: Vec::new() });
                    }
                    _ => {}
                }
            }
            self.driver.commit().expect("written");
            for gated in std::mem::take(&mut gates) {
                match self.driver.open(gated).expect("durable") {
                    Leaving::Line { run, line } => {
                        self.logged.push(format!("{line:?}"));
                        self.driver.handle(Event::LinesOut { run, count: 1 });
                    }
                    Leaving::Lost { what, error } => panic!("{what} is lost: {}", error.title()),
                    _ => {}
                }
            }
            let rests = !self.driver.engine.is_ready() && !self.driver.engine.has_writes();
            idle = if rests { idle + 1 } else { 0 };
            // What is durable now may have made outputs.
            if idle == 2 {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    /// Lets time pass, from one timer to the next.
    fn pass(&mut self, time: i64) {
        let end = self.driver.now + time;
        while let Some(due) = self.driver.engine.next_due().filter(|due| *due <= end) {
            self.driver.now = self.driver.now.max(due);
            self.feed(Event::Tick);
        }
        self.driver.now = end;
        self.feed(Event::Tick);
    }

    /// Kills the process, and restarts it after a time.
    fn restart_after(&mut self, time: i64) {
        self.driver.now += time;
        self.driver.restart(Engine::new(), |_| true).expect("read");
        self.feed(Event::Tick);
    }

    fn all(&self, prefix: &str) -> Vec<InstanceRecord> {
        let filter = InstanceFilter { prefix: prefix.into(), ..InstanceFilter::default() };
        instances(&self.driver.store, &filter, &Paging::first(10_000)).expect("read").items
    }

    /// Returns when a schedule's runs were to begin.
    fn runs(&self, name: &str) -> Vec<String> {
        let of = format!("{name}@");
        self.all(&of).iter().map(|record| record.id[of.len()..].to_string()).collect()
    }

    fn record(&self, id: &str) -> InstanceRecord {
        read_record(&self.driver.store, id).expect("read").expect("it is there")
    }

    fn word(&self, id: &str) -> &'static str {
        self.record(id).status.word()
    }

    fn raise(&mut self, id: &str) {
        let message = Message::Event { name: "end".into(), payload: Data::null() };
        self.send(Address::instance(id), message);
    }
}

fn data(value: Value) -> Data {
    Data::encode(&value).expect("data")
}

fn scheduled(options: &str) -> String {
    format!(
        "orchestration nightly(n) {{ n }}\n\
         schedule \"30 2 * * *\" in \"Europe/Berlin\" with {{{options}}} start nightly(7)\n"
    )
}

#[test]
fn it_starts_by_the_clock_of_its_zone() {
    let mut world = World::new();
    world.deploy(&scheduled(""));
    assert_eq!(world.word("schedule/nightly"), "running");
    world.pass(HOUR);
    assert!(world.runs("nightly").is_empty());
    world.pass(2 * DAY + 12 * HOUR);
    // On Sunday the clock goes from 02:00 to 03:00, at 01:00 UTC.
    assert_eq!(world.runs("nightly"), ["20260328T013000Z", "20260329T010000Z", "20260330T003000Z"]);
    let run = world.record("nightly@20260329T010000Z");
    assert_eq!((run.status.word(), run.root.as_str()), ("completed", "nightly@20260329T010000Z"));
    let says = format::display(&world.record("schedule/nightly").custom.expect("a status").decode());
    assert!(says.contains("next: 2026-03-31T00:30:00Z") && says.contains("queued: 0"), "{says}");
    // The history is that of the present execution.
    assert_eq!(world.record("schedule/nightly").execution, 4);
}

#[test]
fn a_kill_at_any_time_loses_nothing_and_doubles_nothing() {
    for step in [7 * MINUTE, HOUR, 11 * HOUR] {
        let mut world = World::new();
        world.deploy(&scheduled("catch_up: \"all\""));
        while world.driver.now < SATURDAY + 4 * DAY {
            world.pass(step);
            world.restart_after(step / 3);
        }
        let runs = world.runs("nightly");
        assert_eq!(
            runs[..4],
            ["20260328T013000Z", "20260329T010000Z", "20260330T003000Z", "20260331T003000Z"]
        );
        assert!(world.all("nightly@").iter().all(|run| run.status.word() == "completed"));
    }
}

#[test]
fn what_was_missed_is_caught_up_as_declared() {
    for (options, expected) in [
        ("", &["20260328T013000Z", "20260331T003000Z"][..]),
        ("catch_up: \"last\"", &["20260328T013000Z", "20260331T003000Z"][..]),
        ("catch_up: \"skip\"", &["20260328T013000Z"][..]),
        (
            "catch_up: \"all\", overlap: \"allow\"",
            &["20260328T013000Z", "20260329T010000Z", "20260330T003000Z", "20260331T003000Z"][..],
        ),
    ] {
        let mut world = World::new();
        world.deploy(&scheduled(options));
        world.pass(2 * HOUR);
        world.restart_after(3 * DAY);
        assert_eq!(world.runs("nightly"), expected, "{options}");
        // What follows comes in time.
        world.pass(DAY);
        assert_eq!(world.runs("nightly").last().map(String::as_str), Some("20260401T003000Z"), "{options}");
    }
    // A little late is in time.
    let mut world = World::new();
    world.deploy(&scheduled("catch_up: \"skip\""));
    world.pass(90 * MINUTE - 1);
    world.restart_after(MINUTE);
    assert_eq!(world.runs("nightly"), ["20260328T013000Z"]);
}

#[test]
fn thousands_of_missed_ones_are_caught_up_in_parts() {
    let mut world = World::new();
    world.deploy(
        "orchestration often() { 1 }\n\
         schedule \"* * * * *\" with {catch_up: \"all\", overlap: \"allow\"} start often()",
    );
    world.restart_after(DAY);
    assert_eq!(world.runs("often").len(), 24 * 60);
}

#[test]
fn overlapping_runs_are_skipped_queued_or_allowed() {
    let program = |overlap: &str| {
        format!(
            "orchestration slow() {{ receive(\"end\") }}\n\
             schedule \"0 * * * *\" with {{overlap: \"{overlap}\"}} start slow()"
        )
    };
    let mut world = World::new();
    world.deploy(&program("skip"));
    world.pass(3 * HOUR + MINUTE);
    assert_eq!(world.runs("slow"), ["20260328T010000Z"]);
    assert!(
        world.logged.iter().filter(|line| line.contains("is skipped")).count() == 2,
        "{:?}",
        world.logged
    );
    world.raise("slow@20260328T010000Z");
    world.pass(HOUR);
    assert_eq!(world.runs("slow"), ["20260328T010000Z", "20260328T040000Z"]);

    let mut world = World::new();
    world.deploy(&program("queue"));
    world.pass(3 * HOUR + MINUTE);
    assert_eq!(world.runs("slow"), ["20260328T010000Z"]);
    world.restart_after(0);
    world.raise("slow@20260328T010000Z");
    assert_eq!(world.runs("slow"), ["20260328T010000Z", "20260328T020000Z"]);
    world.raise("slow@20260328T020000Z");
    world.raise("slow@20260328T030000Z");
    world.pass(HOUR);
    assert_eq!(world.runs("slow").len(), 4);

    let mut world = World::new();
    world.deploy(&program("allow"));
    world.pass(3 * HOUR + MINUTE);
    assert_eq!(world.runs("slow").len(), 3);
}

#[test]
fn a_paused_schedule_starts_nothing() {
    let mut world = World::new();
    world.deploy(&scheduled("catch_up: \"skip\""));
    world.send(Address::instance("schedule/nightly"), Message::Suspend);
    assert_eq!(world.word("schedule/nightly"), "suspended");
    world.pass(2 * DAY);
    world.restart_after(HOUR);
    // A newer program leaves it paused.
    world.deploy(&format!("{}// changed\n", scheduled("catch_up: \"skip\"")));
    assert_eq!(world.word("schedule/nightly"), "suspended");
    world.pass(DAY);
    assert!(world.runs("nightly").is_empty());
    world.send(Address::instance("schedule/nightly"), Message::Resume);
    world.pass(DAY);
    assert_eq!(world.runs("nightly"), ["20260401T003000Z"]);
}

#[test]
fn a_newer_program_takes_over_and_the_same_one_changes_nothing() {
    let mut world = World::new();
    let first = world.deploy(&scheduled("catch_up: \"all\""));
    world.pass(2 * HOUR);
    let life = world.record("schedule/nightly").life;
    world.deploy(&scheduled("catch_up: \"all\""));
    assert_eq!(world.record("schedule/nightly").life, life);
    // Nobody runs the store for two occurrences, and then a newer program comes first.
    world.driver.now += 2 * DAY;
    world.driver.restart(Engine::for_clients(), |_| true).expect("read");
    let second = world.deploy(&scheduled("catch_up: \"all\", overlap: \"allow\""));
    world.restart_after(0);
    let record = world.record("schedule/nightly");
    assert!(record.program == second.code.hash && record.program != first.code.hash && record.life > life);
    assert_eq!(world.runs("nightly"), ["20260328T013000Z", "20260329T010000Z", "20260330T003000Z"]);
    assert_eq!(world.record("nightly@20260330T003000Z").program, second.code.hash);
    // A changed expression counts from its deployment on.
    world.deploy(&scheduled("").replace("30 2", "0 12"));
    world.pass(DAY);
    assert_eq!(world.runs("nightly").last().map(String::as_str), Some("20260330T100000Z"));
}

#[test]
fn a_schedule_ends_with_its_declaration() {
    let mut world = World::new();
    world.deploy(&scheduled(""));
    world.deploy("orchestration nightly(n) { n }\nprint(1)\n");
    assert_eq!(world.word("schedule/nightly"), "terminated");
    world.pass(DAY);
    assert!(world.runs("nightly").is_empty());
    // It comes back with the declaration.
    world.deploy(&scheduled(""));
    assert_eq!(world.word("schedule/nightly"), "running");
    world.pass(DAY);
    assert_eq!(world.runs("nightly"), ["20260329T010000Z", "20260330T003000Z"][..1]);
}

#[test]
fn arguments_are_those_of_each_occurrence_and_their_errors_stop_nothing() {
    let mut world = World::new();
    world.deploy(
        "orchestration job(at) { at }\n\
         fn odd() => if time.parts(now()).hour % 2 == 0 { now() } else { throw {kind: \"odd\"} }\n\
         schedule \"0 * * * *\" start job(odd())",
    );
    world.pass(4 * HOUR + MINUTE);
    assert_eq!(world.runs("job"), ["20260328T020000Z", "20260328T040000Z"]);
    assert_eq!(world.logged.iter().filter(|line| line.contains("could not be started")).count(), 2);
}

#[test]
fn the_command_line_shows_pauses_and_removes_schedules() {
    let place = Place::new("0");
    place.put("jobs.df", "orchestration nightly() { 1 }\nschedule \"0 2 * * *\" in \"Europe/Berlin\" start nightly()\nprint(\"ran\")\n");
    assert_eq!(place.ok(&["run", "jobs.df"]), "ran");
    let list = place.ok(&["list"]);
    assert!(list.contains("schedule/nightly") && list.contains("running"), "{list}");
    assert!(place.ok(&["show", "schedule/nightly"]).contains("next"));
    place.ok(&["suspend", "schedule/nightly"]);
    place.put(
        "jobs.df",
        "orchestration nightly() { 2 }\nschedule \"0 3 * * *\" start nightly()\nprint(\"again\")\n",
    );
    assert_eq!(place.ok(&["run", "jobs.df"]), "again");
    assert!(place.ok(&["list", "--status", "suspended"]).contains("schedule/nightly"));
    place.ok(&["unsuspend", "schedule/nightly"]);
    place.put("jobs.df", "print(\"no more\")\n");
    assert_eq!(place.ok(&["run", "jobs.df"]), "no more");
    assert!(place.ok(&["list", "--status", "terminated"]).contains("schedule/nightly"));
    place.put("jobs.df", "orchestration nightly() { 2 }\n");
    place.ok(&["start", "jobs.df", "nightly", "--after", "1h", "--id", "later"]);
    assert_eq!(place.ok(&["status", "later"]), "scheduled");
    assert!(place.ok(&["list", "--status", "scheduled"]).contains("later"));
    place.ok(&["terminate", "later"]);
    place.ok(&["purge", "later"]);
    assert_eq!(place.ok(&["start", "jobs.df", "nightly", "--after", "50ms", "--wait"]), "2");
    place.put("bad.df", "orchestration o() { 1 }\nstart o() with {id: \"schedule/o\"}\n");
    assert!(place.refused(1, &["run", "bad.df"]).contains("begins the ids of schedules"));
}
