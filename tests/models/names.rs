//! Names that programs can see. If a program may look at the id of a child, the models name
//! requests as the engine does, so that the program computes with these names what it computes in a
//! run.

use std::collections::BTreeMap;
use std::fmt::Write;

use durable::machine::{Data, Value};
use durable::model::compute_storage::States;
use durable::model::{Faults, HighLevel, Model, Naming, Observation, Program, Storage, Subject};

use super::common::{self, Random, setting};
use super::{limits, outcomes};

fn program(text: &str) -> Program {
    let args = Data::encode(&Value::list(vec![Value::list(Vec::new())])).expect("data");
    let mut program = Program::new(common::image(text).code.clone(), Subject::Script, args);
    program.observes = true;
    program
}

/// Returns the set of all outcomes of a program, without the names of instances.
fn seen(program: &Program, model: &impl Model) -> BTreeMap<Vec<String>, ()> {
    let found = outcomes(model, program, &limits(40_000)).expect("nothing of the outside");
    assert_eq!(found.bound, None);
    let plain = |observed: &Observation| {
        let mut all: Vec<String> = observed
            .iter()
            .map(|(name, text)| format!("{} {text}", name.split(':').next().unwrap_or("")))
            .collect();
        all.sort();
        all
    };
    found.outcomes.iter().map(|observed| (plain(observed), ())).collect()
}

fn seen_with(text: &str, naming: Naming) -> BTreeMap<Vec<String>, ()> {
    let mut program = program(text);
    program.naming = naming;
    seen(&program, &HighLevel)
}

const HEAD: &str = "entity Box { state null; on put(x) { state = x }; on get() => state }
activity work(n) => n
orchestration echo(n) { n }
orchestration own() { self.id }
orchestration nested(n) { let h = start echo(n); wait(h) }
orchestration told() { receive(\"go\") }
orchestration handed() { start echo(0) }
fn id_of(x) => match x { {id} => id; _ => \"none\" }
fn hold(h) => wait(h)
var seen = []
var h = null
work(0)
";

/// Writes a statement that may look at a name, in one of many ways.
fn statement(random: &mut Random, text: &mut String) {
    let literal = format!("\"main:{}\"", random.below(6));
    let n = random.below(3);
    let line = match random.below(34) {
        0 => "work(1)".to_string(),
        1 => format!("h = start echo({n})"),
        2 => "if h != null { seen += [wait(h)] }".into(),
        3 => format!("let g = start echo({n}); seen += [wait(g)]"),
        4 => format!("let g = start echo({n}); seen += [g.id]"),
        5 => format!("let g = start echo({n}); print(g)"),
        6 => format!("let g = start echo({n}); print(\"{{g}}\")"),
        7 => format!("let g = start echo({n}); seen += [g.id == {literal}]"),
        8 => format!("let g = start echo({n}); seen += [g == {{id: {literal}}}]"),
        9 => format!("let g = start echo({n}); Box(1).put(g)"),
        10 => "seen += [own()]".into(),
        11 => "seen += [wait(start own())]".into(),
        12 => format!("seen += [try {{ wait({literal}) }} catch error {{ error.kind }}]"),
        13 => format!("seen += [try {{ wait(\"main:\" + \"{n}\") }} catch error {{ error.kind }}]"),
        14 => format!("seen += [nested({n})]"),
        15 => "let g = start told(); raise(g, \"go\", 5); seen += [wait(g)]".into(),
        16 => "let g = start told(); raise(g, \"go\", g); seen += [wait(g)]".into(),
        17 => "let g = start told(); terminate(g, 1); seen += [try { wait(g) } catch e { e.message }]".into(),
        18 => format!("let g = start echo({n}); let f = fn () => wait(g); seen += [f()]"),
        19 => format!("let g = start echo({n}); let f = fn () => g; seen += [f().id]"),
        20 => format!("let gs = [start echo({n}), start echo(2)]; for g in gs {{ seen += [wait(g)] }}"),
        21 => "let gs = [0, 1].map(fn i => start echo(i)); seen += [gs.map(fn g => g.id)]".to_string(),
        22 => format!("let g = start echo({n}); seen += [id_of(g)]"),
        23 => format!("let g = start echo({n}); seen += [hold(g)]"),
        24 => format!("let g = start echo({n}); seen += [status(g).id]"),
        25 => "let {id} = start echo(1); seen += [id]".into(),
        26 => format!("let g = start echo({n}); seen += [all([async wait(g), async work(1)])]"),
        27 => "seen += [await async start echo(1)]".into(),
        28 => "seen += [handed()]".into(),
        29 => "let s = start echo(7); let kept = fn () => s; seen += [kept().id]".into(),
        30 => {
            "var s = start echo(7); let kept = fn () => wait(s); s = start echo(8); seen += [kept()]".into()
        }
        31 => format!("let g = try {{ start echo({n}) }} catch e {{ e }}; seen += [{{..g, more: 1}}]"),
        32 => "work(2); if h != null { seen += [[h].contains(h)] }".into(),
        _ => "if h != null { seen += [h.id.len()] }".into(),
    };
    let _ = writeln!(text, "do {{ {line} }}");
}

/// With the naming that the models choose, a program has the same outcomes as with numbered
/// requests. `NAMES_SEED` is the first seed, `NAMES_PROGRAMS` (300) the number of programs.
#[test]
fn names_that_are_seen_are_those_of_the_engine() {
    let (first, count): (u64, u64) = (setting("NAMES_SEED", 1), setting("NAMES_PROGRAMS", 300));
    let (mut by_place, mut needed) = (0, 0);
    for seed in first..first + count {
        let mut random = Random::new(seed);
        let mut text = String::from(HEAD);
        for _ in 0..1 + random.below(3) {
            statement(&mut random, &mut text);
        }
        text.push_str("print(seen)\n");
        let chosen = program(&text);
        let right = seen_with(&text, Naming::ByNumber);
        let place = seen_with(&text, Naming::ByPlace);
        by_place += u64::from(chosen.naming == Naming::ByPlace);
        needed += u64::from(place != right);
        assert!(chosen.naming == Naming::ByNumber || place == right, "{text}\n{right:#?}\n{place:#?}");
    }
    println!("{by_place} of {count} named by place, {needed} may not be");
    // Many programs depend on names, and many of the others are recognised as independent.
    assert!(needed * 4 > count && by_place * 20 > count, "{needed} {by_place} of {count}");
}

/// The receive that waits longest gets an event first, however requests are named.
#[test]
fn events_come_to_who_waits_longest() {
    let text = "activity w(n) => n
        fn gets(me, n) { for i in 0..n { w(i) }; [me, receive(\"x\")] }
        orchestration tells() { raise(\"main\", \"x\", 1); raise(\"main\", \"x\", 2) }
        let other = async do { w(7); w(8); w(9) }
        let all_of_it = async all([async gets(\"a\", 1), async gets(\"b\", 2)])
        start tells() with {id: \"t\"}
        print([await other, await all_of_it])
        ";
    assert_eq!(program(text).naming, Naming::ByPlace);
    assert_eq!(seen_with(text, Naming::ByPlace), seen_with(text, Naming::ByNumber));
}

/// Common uses of handles do not look at names.
#[test]
fn handles_that_only_name_are_not_looked_at() {
    for line in [
        "let g = start echo(1); wait(g)",
        "let g = start told(); raise(g, \"go\", 1); wait(g)",
        "let g = start told(); suspend(g); resume(g)",
        "let g = start echo(1); all([async wait(g), async work(1)])",
        "let g = start echo(1) with {id: \"mine\"}; wait(\"mine\"); wait(g)",
        "let g = start echo(1); hold(g)",
        "var g = start echo(1); for i in 0..2 { wait(g); g = start echo(i) }",
    ] {
        let text = format!("{HEAD}{line}\n");
        assert_eq!(program(&text).naming, Naming::ByPlace, "{text}");
    }
}

/// A wrong literal id fails in the high-level and the compute-storage model, and the engine's id
/// holds.
#[test]
fn a_literal_id_is_what_the_engine_gives() {
    let text = |id: &str| {
        format!(
            "orchestration c() {{ self.id }}\nactivity w() => 1\n\
             test \"t\" {{ w(); assert(wait(start c()) == \"{id}\") }}\n"
        )
    };
    for (id, holds) in [("main:0", false), ("main:1", true)] {
        let image = common::image(&text(id));
        let program = Program::new(image.code.clone(), Subject::Test(0), Data::null());
        let faults = Faults { crashes: 1, ..Faults::default() };
        let failed = |found: &Observation| found["main"].starts_with("failed");
        let high = outcomes(&HighLevel, &program, &limits(10_000)).expect("it can be explored");
        let storage = Storage { faults, keep: States };
        let storage = outcomes(&storage, &program, &limits(10_000)).expect("it can be explored");
        for found in [&high.outcomes, &storage.outcomes] {
            assert!(found.iter().all(|observed| failed(observed) != holds), "{id}: {found:?}");
        }
    }
}
