//! Time and cancellation: each model finds what goes wrong, and finds nothing in correct programs.

use std::path::PathBuf;
use std::sync::Arc;

use durable::code::Code;
use durable::explore::{Limits, RealEngine, search};
use durable::machine::Data;
use durable::model::compute_storage::States;
use durable::model::record_replay::Histories;
use durable::model::{Faults, HighLevel, Model, Program, Storage, Subject};

use super::common::{self, repository};

/// Returns whether some schedule goes wrong. The search must be complete unless it finds one.
fn goes_wrong<M: Model>(model: &M, code: &Arc<Code>, test: usize) -> bool {
    let program = Program::new(code.clone(), Subject::Test(test), Data::null());
    let limits = Limits { jobs: 1, configurations: 400_000, ..Limits::default() };
    let report = search(model, &program, &limits, &|_, _, _| ()).expect("it can be explored");
    assert!(report.found.is_some() || report.bound.is_none(), "{} is not explored whole", model.name());
    report.found.is_some()
}

/// Returns the models in which something goes wrong, without crashes.
fn wrong_in(code: &Arc<Code>, test: usize) -> [bool; 4] {
    let faults = Faults::default();
    [
        goes_wrong(&HighLevel, code, test),
        goes_wrong(&Storage { faults, keep: States }, code, test),
        goes_wrong(&Storage { faults, keep: Histories }, code, test),
        goes_wrong(&RealEngine { crashes: 0 }, code, test),
    ]
}

fn code(path: PathBuf) -> Arc<Code> {
    common::image(&std::fs::read_to_string(&path).expect("a program")).code.clone()
}

#[test]
fn what_comes_of_time_is_found_in_every_model() {
    for name in [
        "a_delay_between_two",
        "a_signal_between_two",
        "given_up_and_booked",
        "not_done_within",
        "terminated_and_charged",
        "timed_out_and_charged",
    ] {
        let code = code(repository("tests/explore/bugs").join(format!("{name}.df")));
        assert_eq!(wrong_in(&code, 0), [true; 4], "{name}");
    }
    for name in ["delays_of_one_turn", "done_within", "given_up_by_key"] {
        let code = code(repository("tests/explore/right").join(format!("{name}.df")));
        for test in 0..code.tests.len() {
            assert_eq!(wrong_in(&code, test), [false; 4], "{name}, test {test}");
        }
    }
}

/// The tests, each with whether it goes wrong.
const TESTS: [(&str, &str, bool); 16] = [
    (
        "a chain is longer than its parts",
        "all([async do { sleep(10s); log += [1] }, async do { w(); sleep(4s); w(); sleep(4s); w(); sleep(4s); log += [2] }]); assert(log == [1, 2])",
        false,
    ),
    (
        "a chain may be shorter",
        "all([async do { sleep(10s); log += [1] }, async do { w(); sleep(4s); w(); sleep(4s); log += [2] }]); assert(log == [2, 1])",
        true,
    ),
    (
        "and may not",
        "all([async do { sleep(10s); log += [1] }, async do { w(); sleep(4s); w(); sleep(4s); log += [2] }]); assert(log == [1, 2])",
        true,
    ),
    (
        "what began later is not over before",
        "sleep(1s); all([async do { sleep(2s); log += [1] }, async do { sleep(3s); log += [2] }]); assert(log == [1, 2])",
        false,
    ),
    (
        "between two others in either order",
        "all([async do { w(); sleep(5s); log += [1] }, async do { w(); sleep(5s); log += [2] }]); assert(log == [1, 2])",
        true,
    ),
    (
        "a time limit and a sleep",
        "let r = race({a: async late(), b: async sleep(6s)}); assert(r != {b: null})",
        false,
    ),
    (
        "a time limit that begins after work",
        "let r = race({a: async do { w(); late() }, b: async sleep(6s)}); assert(r != {b: null})",
        true,
    ),
    (
        "pauses of retries",
        "let r = race({a: async tries(), b: async sleep(2s)}); assert(r != {b: null})",
        true,
    ),
    (
        "pauses that are too long",
        "let r = race({a: async do { tries(); 1 }, b: async sleep(900ms)}); assert(r == {b: null})",
        false,
    ),
    (
        "a child takes time too",
        "all([async child(), async do { sleep(3s); log += [1] }, async do { sleep(4s); log += [2] }]); assert(log == [1, 2])",
        false,
    ),
    (
        "a sleep after a child",
        "all([async do { child(); sleep(2s); log += [0] }, async do { sleep(10s); log += [1] }, async do { sleep(11s); log += [2] }]); assert(log != [1, 0, 2])",
        true,
    ),
    (
        "an answer of an entity takes time",
        "all([async do { E(1).get(); sleep(2s); log += [0] }, async do { sleep(10s); log += [1] }, async do { sleep(11s); log += [2] }]); assert(log != [1, 0, 2])",
        true,
    ),
    ("instants that are told", "let t = now(); sleep(5s); assert(now() - t >= 5s)", false),
    ("instants may be far apart", "let t = now(); w(); assert(now() - t <= 3s)", true),
    (
        "until an instant",
        "let t = now(); all([async do { sleep_until(t + 10s); log += [1] }, async do { w(); sleep(5s); log += [0] }, async do { sleep_until(t + 11s); log += [2] }]); assert(log != [1, 0, 2])",
        true,
    ),
    (
        "until instants, in their order",
        "let t = now(); all([async do { sleep_until(t + 10s); log += [1] }, async do { sleep_until(t + 11s); log += [2] }, async w()]); assert(log == [1, 2])",
        false,
    ),
];

#[test]
fn time_is_what_lies_between() {
    let head = "activity w() => 1\n\
                activity never_done() with {timeout: 5s} => 1\n\
                mock never_done with never\n\
                fn late() { try { never_done() } catch _ { 1 } }\n\
                activity fails() with {retry: {times: 2, first: 1s}} => 1\n\
                mock fails with fn () => throw {kind: \"io\"}\n\
                fn tries() { try { fails() } catch _ { 1 } }\n\
                orchestration child() { sleep(3s); 1 }\n\
                entity E { state 0; on get() => state }\n";
    for (name, text, wrong) in TESTS {
        let code = common::image(&format!("{head}test \"t\" {{\nvar log = []\n{text}\n}}\n")).code.clone();
        // The engine's schedules are among those of the models, so it finds less.
        let found = wrong_in(&code, 0);
        assert_eq!(found[..3], [wrong; 3], "{name}");
        assert!(wrong || !found[3], "{name}");
    }
}
