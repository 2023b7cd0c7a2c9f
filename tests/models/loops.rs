//! Loops that return to an earlier state end in every model: only the past tells one round from the
//! next.

use durable::explore::{Limits, search};
use durable::machine::Data;
use durable::model::compute_storage::States;
use durable::model::record_replay::Histories;
use durable::model::{Faults, HighLevel, Model, Program, Storage, Subject};

use super::common;

const HEAD: &str = "entity Flag { state 0; on get() => state; on set() { state = 1 } }
entity Ball { state 0; on hit(other) { signal Ball(other).hit(self.key) } }
activity ready() => random_int(0, 1) == 1
activity fails() with {retry: {times: 2}} => throw \"always\"
orchestration sets() { Flag(1).set() }
orchestration polls() { if !ready() { sleep(1s); continue_as_new() } }
";

const LOOPS: [(&str, &str); 8] = [
    ("until another sets it", "start sets() with {id: \"s\"}; while Flag(1).get() == 0 { }"),
    ("with pauses", "start sets() with {id: \"s\"}; while Flag(1).get() == 0 { sleep(1s) }"),
    ("of an activity", "while !ready() { sleep(1s) }"),
    ("that begins anew", "polls() with {id: \"p\"}"),
    ("of signals", "signal Ball(1).hit(2)"),
    ("of failures", "while true { try { fails() } catch _ { null } }"),
    ("in a section", "while !ready() { lock Flag(1) { Flag(1).set() } }"),
    (
        "beside another",
        "all([async do { while !ready() { sleep(2s) } }, async do { while !ready() { sleep(3s) } }])",
    ),
];

fn ends<M: Model>(model: &M, program: &Program) -> u64 {
    let limits = Limits { jobs: 1, configurations: 150_000, collect: true, ..Limits::default() };
    let report = search(model, program, &limits, &|_, _, _| ()).expect("it can be explored");
    assert_eq!(report.bound, None, "{}: {} and more", model.name(), report.configurations);
    report.configurations
}

#[test]
fn loops_come_back_in_every_model() {
    for (name, text) in LOOPS {
        let code = common::image(&format!("{HEAD}test \"t\" {{ {text} }}\n")).code.clone();
        let program = Program::new(code, Subject::Test(0), Data::null());
        let faults = Faults { crashes: 1, ..Faults::default() };
        let high = ends(&HighLevel, &program);
        let compute = ends(&Storage { faults, keep: States }, &program);
        let record = ends(&Storage { faults, keep: Histories }, &program);
        println!("{name}: {high}, {compute}, {record}");
        // Histories that lead to the same state count as one.
        assert_eq!(compute, record, "{name}");
    }
}
