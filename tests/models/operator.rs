//! The models agree on programs in which an operator intervenes, and the engine's outcomes are
//! among theirs. Instances are suspended, resumed and cancelled at any time, over crashes. Ended instances are
//! purged, so that ids are reused, and failed ones are rewound.

use durable::model::Interventions;

use super::common::program::programs;
use super::common::{self, Random, setting};
use super::{Script, limits, random_program, row};

/// The areas of programs in which the operator intervenes.
const AREAS: [&str; 4] = ["lives", "suspension", "children", "clients"];
/// The largest number of configurations of a state space.
const CONFIGURATIONS: u64 = 2_500;
/// The largest number of crash points of a program at which the engine is interrupted.
const CRASH_POINTS: u64 = 12;

/// The interventions in a run.
const INTERVENTIONS: [Interventions; 3] = [
    Interventions { purges: 1, rewinds: 0, suspensions: 0, cancellations: 0 },
    Interventions { purges: 0, rewinds: 0, suspensions: 1, cancellations: 0 },
    Interventions { purges: 0, rewinds: 0, suspensions: 0, cancellations: 1 },
];

/// The interventions in a run of a program that fails.
const REWINDINGS: [Interventions; 5] = [
    Interventions { purges: 0, rewinds: 1, suspensions: 0, cancellations: 0 },
    Interventions { purges: 0, rewinds: 2, suspensions: 0, cancellations: 0 },
    Interventions { purges: 1, rewinds: 1, suspensions: 0, cancellations: 0 },
    Interventions { purges: 0, rewinds: 1, suspensions: 1, cancellations: 0 },
    Interventions { purges: 0, rewinds: 1, suspensions: 0, cancellations: 1 },
];

/// Programs whose ids show the lives. The models count lives by id, the engine by purge.
const SHOW_LIVES: [&str; 2] = ["children/start_from_an_operation", "children/start_from_an_activity"];

/// Programs whose main instance lets others go on. When it is cancelled, they wait for ever.
const LETS_OTHERS_GO_ON: [&str; 3] = [
    "suspension/in_a_critical_section",
    "children/termination_reaches_children",
    "children/termination_that_leaves_children",
];

/// The mocks of `fragile`, which fails until it is repaired. If it is called once, the first
/// attempt fails and the next succeeds. Otherwise any attempt may fail.
pub const ONCE: &str = "mock fragile in turn with \
    fn n => throw {kind: \"broken\", message: \"it does not work yet\"}, fn n => n\n";
const ANY: &str =
    "mock fragile with fn n => throw {kind: \"broken\", message: \"it does not work yet\"}, fn n => n\n";

/// The declarations that the rewound programs share.
pub const FRAGILE: &str = "activity fragile(n) => n\n\
    activity work(n) => n\n\
    entity Till { state []; on pay(n) { state += [n]; state.len() } }\n\
    orchestration kid(n) { [n, work(n)] }\n\
    orchestration frail(n) { Till(n).pay(n); fragile(n) }\n\
    orchestration tidy(n) { try { kid(n) } finally { Till(n).pay(n) } }\n";

/// Programs that fail and are rewound.
const REWOUND: [(&str, &str); 15] = [
    ("a step", "print(fragile(1))\nprint(2)\n"),
    ("a step after others", "print(work(1))\nTill(1).pay(1)\nprint(fragile(2))\nprint(Till(1).pay(2))\n"),
    ("a success beside it", "print(all([async fragile(1), async do { Till(1).pay(2); work(3) }]))\n"),
    ("awaited later", "let t = async fragile(1)\nprint(Till(1).pay(1))\nprint(await t)\n"),
    ("thrown again", "try { fragile(1) } catch e { kid(2); throw e }\nprint(kid(3))\n"),
    ("its own error", "throw {kind: \"own\", message: \"no step\"}\n"),
    ("a child", "print(frail(1))\n"),
    ("a child of a child", "orchestration outer(n) { [frail(n), work(n)] }\nprint(outer(1))\n"),
    ("a child that ended with it", "print(all([async fragile(1), async kid(2)]))\n"),
    (
        "events",
        "orchestration o() { let e = receive(\"e\"); fragile(e); [e, receive(\"e\")] }\n\
         let h = start o()\nraise(h, \"e\", 1)\nraise(h, \"e\", 2)\nprint(wait(h))\n",
    ),
    ("a sleep", "print(all([async fragile(1), async do { sleep(1s); work(2) }]))\n"),
    (
        "two that wait for it",
        "let h = start frail(1)\nprint(all([async wait(h), async try { wait(h) } catch {kind} { kind }]))\n",
    ),
    ("a child that cleaned up with it", "print(all([async fragile(1), async tidy(2)]))\n"),
    ("a clean-up", "try { kid(1) } catch e { print(fragile(2)) }\nprint(3)\n"),
    ("a detached child", "print(all([async fragile(1), async (kid(2) with {detached: true})]))\n"),
];

/// Programs in which more than one step fails.
const FAIL_TWICE: [(&str, &str); 3] = [
    ("two failures", "print(all([async fragile(1), async fragile(2)]))\n"),
    ("handled", "try { fragile(1) } catch {kind} { print(kind) }\nprint(fragile(2))\n"),
    ("a child that failed with it", "print(all([async fragile(1), async frail(2)]))\n"),
];

/// Compares scripts in all models, by two threads. Returns how many state spaces were explored to
/// the end, and how many were larger than the limit.
fn compare(scripts: impl Iterator<Item = Box<dyn FnOnce() -> Script + Send>>) -> (usize, usize) {
    let rows = common::by_two_threads(scripts, |script| {
        let script = script();
        let row = row(&script, &limits(CONFIGURATIONS), CRASH_POINTS)?;
        Some((row.is_larger(), (script.interventions, script.text, row.wrong)))
    });
    let (is_larger, mut wrong): (Vec<bool>, Vec<_>) = rows.into_iter().flatten().unzip();
    wrong.retain(|(_, _, reasons)| !reasons.is_empty());
    for (wanted, text, reasons) in &wrong {
        println!("{wanted:?}\n{text}\n{:#?}", reasons.iter().take(4).collect::<Vec<_>>());
    }
    assert!(wrong.is_empty(), "{} programs", wrong.len());
    let larger = is_larger.iter().filter(|is| **is).count();
    (is_larger.len() - larger, larger)
}

#[test]
fn programs_with_an_operator_agree() {
    let files = AREAS.iter().flat_map(|area| programs(area)).filter(|file| !file.expects_mistake());
    let files = files.filter(|file| !SHOW_LIVES.contains(&file.name.as_str()));
    let scripts = files.flat_map(|file| {
        let file = std::sync::Arc::new(file);
        let leaves = LETS_OTHERS_GO_ON.contains(&file.name.as_str());
        let of = INTERVENTIONS.into_iter().filter(move |of| !leaves || of.cancellations == 0);
        of.map(move |interventions| {
            let file = file.clone();
            Box::new(move || Script { interventions, ..Script::of(&file) })
                as Box<dyn FnOnce() -> Script + Send>
        })
    });
    let (whole, larger) = compare(scripts);
    println!("{whole} programs compared, {larger} larger than the limit");
    assert!(whole > 20, "{whole} {larger}");
}

#[test]
fn programs_that_are_rewound_agree() {
    let once = REWOUND.iter().map(|program| (ONCE, program));
    let all = once.chain(FAIL_TWICE.iter().map(|program| (ANY, program)));
    let scripts = all.flat_map(|(mock, (name, text))| {
        REWINDINGS.iter().map(move |interventions| {
            Box::new(move || {
                // In another life it fails again.
                let mock = if interventions.purges > 0 { ANY } else { mock };
                let text = format!("{FRAGILE}{mock}{text}");
                let image = common::image(&text);
                let script = Script::random(0, text, image);
                Script { interventions: *interventions, name: name.to_string(), ..script }
            }) as Box<dyn FnOnce() -> Script + Send>
        })
    });
    let (whole, larger) = compare(scripts);
    println!("{whole} programs compared, {larger} larger than the limit");
    assert!(whole >= larger, "{whole} {larger}");
}

/// `RANDOM_SEED` is the first seed, `RANDOM_PROGRAMS` the number of programs. A failure prints its
/// program.
#[test]
fn random_programs_with_an_operator_agree() {
    let (first, count): (u64, u64) = (setting("RANDOM_SEED", 1), setting("RANDOM_PROGRAMS", 40));
    let scripts = (first..first + count).map(|seed| {
        Box::new(move || {
            let mut random = Random::new(seed);
            let mut text = random_program(&mut random);
            let mut interventions = INTERVENTIONS[random.below(INTERVENTIONS.len() as u64) as usize];
            // The models don't rewind within a critical section.
            if seed % 2 == 0 && text.contains("work(") && !text.contains("lock ") {
                interventions = Interventions { rewinds: 1, ..Interventions::default() };
                text = format!("{ANY}{}", text.replace("work(", "fragile("));
            }
            let image = common::image(&text);
            Script { interventions, ..Script::random(seed, text, image) }
        }) as Box<dyn FnOnce() -> Script + Send>
    });
    let (whole, larger) = compare(scripts);
    println!("{whole} programs compared, {larger} larger than the limit");
    assert!(whole > 0, "{whole} {larger}");
}
