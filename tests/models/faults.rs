//! A model with a fault in one of its rules is rejected: its outcomes differ from those of the
//! high-level model, or one of its steps is not allowed.

use durable::explore::Report;
use durable::machine::{Data, Value};
use durable::model::compute_storage::{Keep, States};
use durable::model::record_replay::Histories;
use durable::model::{Faults, HighLevel, Interventions, Mutation, Naming, Program, Stop, Storage, Subject};

use super::common;
use super::operator::{FRAGILE, ONCE};
use super::{limits, outcomes, steps};

/// Programs that together use each rule.
const PROGRAMS: [(&str, &str); 13] = [
    (
        "cancelled",
        "entity Log { state []; on add(n) { state += [n] } }\n\
         orchestration slow(n) { try { receive(\"never\") } finally { sleep(2s); Log(1).add(n) } }\n\
         let h = start slow(1)\n\
         cancel(h, {grace: 1s})\n\
         print(try { wait(h) } catch {kind} { kind })\n",
    ),
    (
        "given up",
        "entity Log { state []; on add(n) { state += [n] } }\n\
         orchestration tidy(n) { try { receive(\"never\") } finally { Log(1).add(n) } }\n\
         race([async tidy(1), async sleep(1s)])\n",
    ),
    (
        "two signals",
        "entity Log { state []; on add(n) { state += [n] } }\nsignal Log(1).add(1)\nsignal Log(1).add(2)\n",
    ),
    (
        "two sections",
        "entity Box { state 0; on add(n) { state += n } }\n\
         orchestration move(a, b) { lock Box(a), Box(b) { Box(a).add(1) } }\n\
         all([async move(\"x\", \"y\"), async move(\"y\", \"x\")])\n",
    ),
    (
        "an update in a section",
        "entity Box { state 0; on get() => state; on put(n) { state = n } }\n\
         orchestration adds() { lock Box(1) { Box(1).put(Box(1).get() + 1) } }\n\
         all([async adds(), async adds()])\n",
    ),
    (
        "a race",
        "activity one(n) => n\n\
         fn slow(n) { let got = one(n); one(got) }\n\
         let first = race({a: async slow(1), b: async slow(2)})\n\
         print(first)\n",
    ),
    ("two delays", "all([async do { sleep(5s); print(1) }, async do { sleep(6s); print(2) }])\n"),
    (
        "a delay after work",
        "activity work() => 1\n\
         all([async do { work(); sleep(5s); print(1) }, async do { sleep(10s); print(2) }, async do { sleep(11s); print(3) }])\n",
    ),
    (
        "begun twice",
        "orchestration o(n) { receive(\"e\") }\n\
         start o(1) with {id: \"k\"}\n\
         raise(\"k\", \"e\", 1)\n\
         start o(1) with {id: \"k\"}\n\
         print(wait(\"k\"))\n",
    ),
    (
        "two events",
        "orchestration o() { [receive(\"e\"), receive(\"e\")] }\nlet h = start o()\nraise(h, \"e\", 1)\nraise(h, \"e\", 2)\nprint(wait(h))\n",
    ),
    (
        "the world",
        "entity Bank {\n\
         state {charged: 0, refunded: 0}\n\
         on charge() { state.charged += 1 }\n\
         on refund() { state = {charged: 0, refunded: state.charged} }\n\
         }\n\
         activity charge() => 1\n\
         activity refund() => 1\n\
         mock charge with Bank(\"world\").charge\n\
         mock refund with Bank(\"world\").refund\n\
         race({done: async charge(), late: async sleep(5s)})\n\
         refund()\n",
    ),
    (
        "replaced with a child",
        "orchestration leaf(n) => n\n\
         orchestration f(n) { [n, leaf(n)] }\n\
         print(f(1) with {id: \"x\"})\n\
         print(f(2) with {id: \"x\", if_exists: \"replace\"})\n",
    ),
    (
        "replaced before an answer",
        "entity Box { state 0; on add(n) { state += n; state } }\n\
         activity work(n) => n\n\
         orchestration f(n) { if n == 1 { race([async Box(1).add(5), async work(1)]) } else { Box(2).add(n) } }\n\
         f(1) with {id: \"x\"}\n\
         print(f(2) with {id: \"x\", if_exists: \"replace\"})\n",
    ),
];

/// Programs that are rewound.
const REWOUND: [(&str, &str); 4] = [
    ("rewound beside a success", "let t = async fragile(1)\nTill(1).pay(2)\nawait t\n"),
    ("rewound after another step", "try { fragile(1) } catch e { kid(2); throw e }\nkid(3)\n"),
    ("rewound before an answer", "all([async fragile(1), async Till(1).pay(2)])\n"),
    ("rewound with a child", "all([async fragile(1), async kid(2)])\n"),
];

/// Programs in which an operator intervenes.
const OPERATED: [(&str, &str, Interventions); 2] = [
    (
        "held up",
        "activity work(n) => n\nprint(work(1))\n",
        Interventions { purges: 0, rewinds: 0, suspensions: 1, cancellations: 0 },
    ),
    (
        "purged with a child",
        "activity work(n) => n\norchestration leaf(n) => n\nprint(leaf(work(1)))\n",
        Interventions { purges: 1, rewinds: 0, suspensions: 0, cancellations: 0 },
    ),
];

/// Returns all programs, with their interventions.
fn all_programs() -> impl Iterator<Item = (&'static str, String, Interventions)> {
    let alone = PROGRAMS.into_iter().map(|(name, text)| (name, text.to_string(), Interventions::default()));
    let operated = OPERATED.into_iter().map(|(name, text, all)| (name, text.to_string(), all));
    let rewinds = Interventions { rewinds: 1, ..Interventions::default() };
    let rewound =
        REWOUND.into_iter().map(move |(name, text)| (name, format!("{FRAGILE}{ONCE}{text}"), rewinds));
    alone.chain(operated).chain(rewound)
}

fn program(text: &str, interventions: Interventions, mutation: Mutation) -> Program {
    let args = Data::encode(&Value::list(vec![Value::list(Vec::new())])).expect("data");
    let mut program = Program::new(common::image(text).code.clone(), Subject::Script, args);
    (program.observes, program.naming, program.mutation) = (true, Naming::ByNumber, mutation);
    program.interventions = interventions;
    program
}

/// Returns whether the outcomes differ from those of the model without a fault. A search that is
/// incomplete must only find some of them.
fn differs<S>(found: &Result<Report<S>, Stop>, right: &Report<impl Sized>) -> bool {
    match found {
        Err(_) => true,
        Ok(found) => {
            !found.outcomes.is_subset(&right.outcomes)
                || found.bound.is_none() && found.outcomes != right.outcomes
        }
    }
}

/// Returns the reason why a storage model is rejected, or `None`.
fn rejected_storage<K: Keep>(
    keep: K,
    faulty: &Program,
    right: &Program,
    of: &Report<impl Sized>,
) -> Option<String> {
    let faults = Faults { crashes: 1, slow: 1, duplicates: 1 };
    if right.facts.has_world {
        // An effect on the world happens before its record, which is a step that the high-level
        // model does not have. A crash between the two lets the effect happen again.
        let found = outcomes(&Storage { faults: Faults::default(), keep }, faulty, &limits(20_000));
        return differs(&found, of).then(|| "other outcomes".to_string());
    }
    steps::compare(&Storage { faults, keep }, faulty, right, 1_500).err()
}

#[test]
fn faulty_models_are_rejected() {
    let mutations = [
        Mutation::None,
        Mutation::UnsortedLocks,
        Mutation::NoHolder,
        Mutation::BeginsAgain,
        Mutation::NewestFirst,
        Mutation::OperationStays,
        Mutation::TaskStays,
        Mutation::NoOrderOfTimers,
        Mutation::NoWork,
        Mutation::NoOrphans,
        Mutation::NoLapse,
        Mutation::ReadsNewest,
        Mutation::ReleaseBeforeCommit,
        Mutation::MessageStays,
        Mutation::NoRefusal,
        Mutation::RefusedIsLost,
        Mutation::NoDedupe,
        Mutation::RecordsAgain,
        Mutation::RemovedBeforeRecord,
        Mutation::CrashLosesInbox,
        Mutation::ReplaceKeeps,
        Mutation::PurgeLeavesChildren,
        Mutation::NoLives,
        Mutation::SuspensionForgets,
        Mutation::RewindCutsSuccesses,
        Mutation::NumbersAgain,
        Mutation::FailedDrops,
        Mutation::ChildrenStayEnded,
        Mutation::NoGrace,
        Mutation::ChildrenDoNotCleanUp,
        Mutation::NoTurnBoundaries,
        Mutation::LastTurnIsLost,
    ];
    for mutation in mutations {
        let mut rejected = Vec::new();
        for (name, text, interventions) in all_programs() {
            let right = program(&text, interventions, Mutation::None);
            let faulty = program(&text, interventions, mutation);
            let of_right = outcomes(&HighLevel, &right, &limits(20_000)).expect("the high-level model");
            assert_eq!(of_right.bound, None, "{name}");
            // The reduction may hide a fault of a rule.
            let whole = durable::explore::Limits { reduced: false, ..limits(20_000) };
            if differs(&outcomes(&HighLevel, &faulty, &whole), &of_right) {
                rejected.push(format!("{name}: the high-level model"));
            }
            if let Some(reason) = rejected_storage(States, &faulty, &right, &of_right) {
                rejected.push(format!("{name}: compute-storage: {}", &reason[..reason.len().min(90)]));
            }
            if let Some(reason) = rejected_storage(Histories, &faulty, &right, &of_right) {
                rejected.push(format!("{name}: record-replay: {}", &reason[..reason.len().min(90)]));
            }
        }
        println!("{mutation:?}: {rejected:#?}");
        assert_eq!(rejected.is_empty(), mutation == Mutation::None, "{mutation:?}: {rejected:#?}");
    }
}
