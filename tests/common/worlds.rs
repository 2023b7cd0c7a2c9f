//! Random programs for the simulator.

use std::collections::BTreeMap;

use durable::engine::Checkpoints;

use super::Random;
use super::sim::Crash;

/// Returns the settings of a run. Half of the runs write a checkpoint with each chunk of a history.
pub fn checkpoints(seed: u64) -> Checkpoints {
    match seed % 4 {
        0 | 1 => Checkpoints { after: 0, ..Checkpoints::default() },
        _ => Checkpoints::default(),
    }
}

/// Returns how often a run crashes. A third of the runs never crash.
pub fn often(seed: u64) -> Crash {
    [Crash::Never, Crash::OneIn(10), Crash::OneIn(40)][(seed % 3) as usize]
}

/// Returns a program of random statements. Every form of waiting occurs.
pub fn program(random: &mut Random) -> String {
    let mut text = String::from(
        "activity work(n) => n\n\
         activity stubborn(n) with {retry: {times: 3, first: 1s, factor: 2.0}} => n\n\
         activity hasty(n) with {timeout: 2s, retry: {times: 2, first: 100ms}} => n\n\
         activity long(n) => range(0, n).map(fn i => to_string(i * 7919 % 1000)).join(\"\")\n\
         orchestration child(n) { sleep(n * 1ms); work(n) }\n\
         orchestration parent(n) { all([async child(n), async child(n + 1)]) }\n\
         orchestration tidy(n) { try { sleep(n * 2ms); child(n) } finally { sleep(n * 1ms); work(n) } }\n\
         var seen = []\n\
         fn safely(f) => try { f() } catch {kind} { seen += [kind]; -1 }\n\
         fn slow(d, n) { sleep(d); work(n) }\n\
         fn never(n) { receive(\"never\"); n }\n",
    );
    let count = 2 + random.below(8);
    for _ in 0..count {
        statement(random, &mut text, 0);
    }
    text.push_str("print(seen)\nseen\n");
    text
}

fn statement(random: &mut Random, text: &mut String, depth: u32) {
    let n = random.below(100);
    let line = match random.below(if depth < 2 { 21 } else { 17 }) {
        0 => format!("seen += [safely(fn () => work({n}))]"),
        1 => format!("seen += [safely(fn () => stubborn({n}))]"),
        2 => format!("seen += [safely(fn () => hasty({n}))]"),
        3 => format!("sleep({}ms)", n * 10),
        4 => format!("print(\"step {n} \" + to_string(seen.len()))"),
        5 => "if random() < 0.5 { seen += [1] } else { seen += [fs.exists(\"x\")] }".to_string(),
        6 => {
            format!("seen += [safely(fn () => all(range(0, {}).map(fn i => async slow(1ms, i))))]", 1 + n % 5)
        }
        7 => format!(
            "seen += [safely(fn () => race({{a: async slow({n}ms, 1), b: async slow({}ms, 2)}}))]",
            100 - n
        ),
        // Results from one byte to several chunks of a history.
        8 => {
            format!("seen += [safely(fn () => long({})).len()]", [1, 20, 900, 6_000, 13_000][n as usize % 5])
        }
        9 => format!("seen += [safely(fn () => child({n}) with {{timeout: {}ms}})]", 100 - n),
        10 => format!("seen += [safely(fn () => parent({n}))]"),
        // Tasks within tasks, with time limits around them.
        11 => format!(
            "seen += [safely(fn () => task.timeout({}ms, fn () => all([async slow({n}ms, 1), async hasty(2), async child(3)])))]",
            1 + n * n % 150
        ),
        12 => format!(
            "seen += [safely(fn () => race([async race([async never(1), async slow({n}ms, 2)]), async slow({}ms, 3)]))]",
            100 - n
        ),
        13 => format!(
            "seen += [safely(fn () => task.timeout({n}ms, fn () => task.timeout({}ms, fn () => never(4))))]",
            100 - n
        ),
        14 => format!(
            "seen += [safely(fn () => race([async try {{ never(1) }} finally {{ seen += [work({n})] }}, async sleep({n}ms)]))]"
        ),
        // Children that clean up when they are given up, and instances that are cancelled.
        15 => format!("seen += [safely(fn () => tidy({n}) with {{timeout: {}ms}})]", 150 - n),
        16 => format!(
            "do {{ let h = start tidy({n})\n sleep({}ms)\n cancel(h, {{grace: {}ms}})\n seen += [safely(fn () => wait(h))] }}",
            n * n % 120,
            n * n % 70
        ),
        17 => {
            text.push_str(&format!("for i in 0..{} {{\n seen += [i]\n", 1 + n % 4));
            statement(random, text, depth + 1);
            "}".to_string()
        }
        18 => {
            text.push_str("try {\n");
            statement(random, text, depth + 1);
            text.push_str(&format!("seen += [work({n})]\n"));
            "} catch e { seen += [e.kind] } finally { seen += [\"f\"] }".to_string()
        }
        19 => {
            text.push_str("do {\nfn task() {\n");
            statement(random, text, depth + 1);
            format!(
                "{n}\n}}\nlet t = async task()\nseen += [safely(fn () => work(1))]\nseen += [safely(fn () => await t)]\n}}"
            )
        }
        _ => format!("do {{ let t = async slow(1s, {n}); seen += [safely(fn () => work(2))]; cancel(t) }}"),
    };
    text.push_str(&line);
    text.push('\n');
}

/// Returns a program in which several workers call, signal, lock, begin children and raise events.
///
/// Workers number what they send to the entity `Log`. So a check can tell that each number arrives
/// once and in order. Money is only moved.
pub fn many_program(random: &mut Random) -> String {
    let workers = 2 + random.below(4);
    let accounts = 2 + random.below(3);
    let mut text = String::from(
        "entity Account {\n state {balance: 100}\n on add(n) { state.balance += n; state.balance }\n on balance() => state.balance\n \
         on fail(n) { state.balance += n; throw {kind: \"declined\"} }\n on clear() { delete_state() }\n}\n\
         entity Log {\n state {seen: []}\n on note(n) { state.seen += [n] }\n on seen() => state.seen\n \
         on relay(to, n) { state.seen += [n]; signal Log(to).note(n) }\n}\n\
         activity work(n) => n\n\
         activity telling(key, n) { signal Log(key).note(n); n }\n\
         orchestration child(n) { print(n)\n if n % 3 == 0 { sleep(1s) }\n work(n) }\n\
         orchestration looping(n, key) { log.info(n)\n signal Log(key).note(n)\n if n > 0 { continue_as_new(n - 1, key) }\n n }\n\
         orchestration waiter(n) { var got = []\n for i in 0..n { got += [receive(\"go\")] }\n got }\n\
         orchestration transfer(a, b, n) {\n lock Account(a), Account(b) {\n let before = Account(a).balance()\n Account(a).add(-n)\n \
         Account(b).add(n)\n assert(Account(a).balance() == before - n, \"torn\")\n if n == 7 { throw {kind: \"unlucky\"} }\n }\n}\n\
         orchestration looking(a, b, n) { lock Account(a), Account(b) { sleep(5ms)\n Account(b).balance()\n sleep(n * 1ms) } }\n\
         orchestration cut(key) { try { receive(\"never\") } finally { Log(key).note(1)\n sleep(1h)\n Log(key).note(2) } }\n\
         orchestration loses(n, key) { try { receive(\"never\") } finally { Log(key).note(1)\n sleep(n * 1ms)\n Log(key).note(2) } }\n\
         // Moves money when it is cancelled.\n\
         orchestration tidy(a, b, n, key) {\n try { receive(\"never\") } finally { Log(key).note(1)\n Account(a).add(n)\n sleep(n * 1ms)\n Account(b).add(-n)\n Log(key).note(2) }\n}\n\
         orchestration holder(a, b) { lock Account(a), Account(b) { sleep(1h) } }\n\
         // Leaves tasks, children and answers under way behind at each of its continuations.\n\
         orchestration leaving(n, key) {\n signal Log(key).note(n)\n if n == 0 { return 0 }\n let _sleeps = async sleep(n * 1ms)\n \
         let _child = async endless(key)\n let _work = async work(n)\n let _never = async receive(\"never\")\n if n % 2 == 0 { sleep(1ms) }\n continue_as_new(n - 1, key)\n}\n\
         orchestration endless(key) { while true { sleep(500ms) } }\n\
         // Which of two events came, and in what order.\n\
         orchestration sorter(n) {\n var got = []\n for _ in 0..n { match race({b: async receive(\"b\"), a: async receive(\"a\")}) { {a} => do { got += [a] }, {b} => do { got += [b] } } }\n got\n}\n\
         // An event after receives that were given up.\n\
         orchestration patient(n) {\n try { task.timeout(n * 1ms, fn () => task.timeout(n * 2ms, fn () => all([async receive(\"go\"), async sleep(1h)]))) } catch {kind} { null }\n \
         race([async race([async receive(\"go\"), async sleep(n * 3ms)]), async sleep(n * 1ms)])\n set_status(\"ready\")\n receive(\"go\")\n}\n\
         // A critical section in a task that loses.\n\
         orchestration losing(a, b, n) {\n race([async do { lock Account(a), Account(b) { sleep(1h) } }, async sleep(n * 1ms)])\n lock Account(a), Account(b) { Account(a).balance() }\n}\n",
    );
    for worker in 0..workers {
        text.push_str(&format!("orchestration worker_{worker}() {{\n var seen = []\n"));
        let mut told = 0;
        for number in 0..3 + random.below(6) {
            let (a, b) = (random.below(accounts), random.below(accounts));
            let b = if a == b { (a + 1) % accounts } else { b };
            let (a, b) = (key(random, a), key(random, b));
            let n = 1 + random.below(9);
            let line = match random.below(28) {
                0 | 1 => format!("try {{ transfer({a}, {b}, {n}) }} catch {{kind}} {{ seen += [kind] }}"),
                2 => {
                    told += 1;
                    format!("signal Log(\"log-{worker}\").note({told})")
                }
                3 => {
                    told += 1;
                    format!("Log(\"log-{worker}\").note({told})")
                }
                4 => format!("try {{ Account({a}).fail({n}) }} catch {{kind}} {{ seen += [kind] }}"),
                5 => format!("seen += [child({n})]"),
                6 => format!("seen += [all(range(0, {n}).map(fn i => async child(i)))]"),
                7 if n.is_multiple_of(2) => {
                    format!("do {{ let h = start child({n}) after {n}ms\n seen += [wait(h)] }}")
                }
                7 => format!("do {{ let h = start child({n})\n seen += [wait(h)] }}"),
                8 => {
                    told += 1;
                    format!("telling(\"told-{worker}-{number}\", {told})")
                }
                9 => format!("looping({n}, \"loop-{worker}-{number}\")"),
                10 => format!(
                    "do {{ let h = start waiter({n})\n for i in 0..{n} {{ raise(h, \"go\", i) }}\n assert(wait(h) == range(0, {n}), \"events\") }}"
                ),
                11 => format!(
                    "seen += [race({{a: async looking({a}, {b}, {n}), b: async sleep({n}ms)}}).keys().len()]"
                ),
                12 => {
                    let later = if n.is_multiple_of(3) { " after 4ms" } else { "" };
                    format!(
                        "do {{ let h = start holder({a}, {b}){later}\n if {n} > 4 {{ sleep({n}ms) }}\n terminate(h, \"enough\")\n try {{ wait(h) }} catch {{kind}} {{ seen += [kind] }} }}"
                    )
                }
                13 => format!(
                    "try {{ lock Account({a}), Account({b}) with {{timeout: {n}ms}} {{ Account({a}).add(1)\n Account({b}).add(-1) }} }} catch {{kind}} {{ seen += [kind] }}"
                ),
                15 => format!("start looping({n}, \"loop-{worker}-{number}\")"),
                16 => format!("seen += [leaving({n}, \"loop-left-{worker}-{number}\")]"),
                17 => {
                    let events: Vec<String> = (0..n)
                        .map(|i| format!("raise(h, \"{}\", {i})", if random.one_in(2) { "a" } else { "b" }))
                        .collect();
                    format!(
                        "do {{ let h = start sorter({n})\n {}\n assert(wait(h) == range(0, {n}), \"order of events\") }}",
                        events.join("\n ")
                    )
                }
                18 => format!(
                    "do {{ let h = start patient({n})\n while status(h).custom != \"ready\" {{ sleep(5ms) }}\n raise(h, \"go\", {n})\n assert(wait(h) == {n}, \"the event\") }}"
                ),
                19 => format!("losing({a}, {b}, {n})"),
                20 => format!("assert(child({n}) with {{id: \"own-{n}\"}} == {n}, \"a known id\")"),
                21 => format!(
                    "try {{ child({n}) with {{timeout: {}ms}} }} catch {{kind}} {{ seen += [kind] }}",
                    n * 100
                ),
                22 => format!(
                    "try {{ task.timeout({n}ms, fn () => all([async child({n}), async work({n}), async child({n} + 1)])) }} catch {{kind}} {{ seen += [kind] }}"
                ),
                23 => format!(
                    "seen += [(child({n}) with {{id: \"alone-{worker}-{number}\", detached: true}}) == {n}]"
                ),
                24 => format!(
                    "do {{ let h = start tidy({a}, {b}, {n}, \"tidy-{worker}-{number}\")\n if {n} > 4 {{ sleep({n}ms) }}\n cancel(h, {{reason: {n}, grace: 1h}})\n \
                     assert(try {{ wait(h) }} catch {{kind, why}} {{ [kind, why] }} == [\"terminated\", {n}], \"a cancellation\")\n \
                     assert(Log(\"tidy-{worker}-{number}\").seen() == [1, 2], \"a clean-up\") }}"
                ),
                25 => format!(
                    "do {{ let h = start cut(\"tidy-{worker}-{number}\")\n cancel(h, {{grace: {n}ms}})\n cancel(h, {{grace: 10h}})\n \
                     assert(try {{ wait(h) }} catch {{kind}} {{ kind }} == \"terminated\", \"a cancellation\")\n \
                     assert(Log(\"tidy-{worker}-{number}\").seen() == [1], \"a clean-up that is cut short\") }}"
                ),
                26 => format!(
                    "do {{ let key = \"tidy-{worker}-{number}\"\n seen += [race({{a: async (loses({n}, key) with {{id: key}}), b: async sleep({n}ms)}}).keys().len()]\n \
                     assert(try {{ wait(key) }} catch {{kind}} {{ kind }} == \"terminated\", \"a cancellation\")\n \
                     assert([[1], [1, 2]].contains(Log(key).seen()), \"a clean-up, unless it took long\") }}"
                ),
                14 => format!(
                    "do {{ signal Account(\"gone-{worker}-{number}\").add(1)\n Account(\"gone-{worker}-{number}\").clear() }}"
                ),
                _ => {
                    let later = if n.is_multiple_of(2) { "" } else { " at (now() + 500ms)" };
                    format!(
                        "do {{ set_status({n})\n let h = start child({n}){later}\n suspend(h)\n resume(h)\n wait(h) }}"
                    )
                }
            };
            text.push_str(&format!(" {line}\n"));
        }
        text.push_str(&format!(
            " assert(Log(\"log-{worker}\").seen() == range(1, {told} + 1).filter(fn n => Log(\"log-{worker}\").seen().contains(n)), \"order\")\n {{told: {told}, seen}}\n}}\n"
        ));
    }
    let names: Vec<String> = (0..workers).map(|worker| format!("async worker_{worker}()")).collect();
    text.push_str(&format!(
        "let results = all([{}])\nlet balances = range(0, {accounts}).map(fn i => Account(if i % 3 == 1 {{ {{shop: i, item: [1, 0]}} }} else {{ i }}).balance())\n\
         assert(sum(balances) == {}, \"money\")\nresults\n",
        names.join(", "),
        accounts * 100
    ));
    text
}

/// Returns a key of an account in one of its forms, which are all equal.
fn key(random: &mut Random, account: u64) -> String {
    match (account % 3, random.below(3)) {
        (0, 0) => format!("{account}.0"),
        (1, 0) => format!("{{shop: {account}, item: [1, -0.0]}}"),
        (1, 1) => format!("{{item: [1.0, 0], shop: {account}.0}}"),
        (1, _) => format!("{{item: [1, 0], shop: {account}}}"),
        _ => account.to_string(),
    }
}

/// Checks that every log has each of its numbers once, and in order.
pub fn check_logs(entities: &BTreeMap<String, String>) -> Result<(), String> {
    for (entity, state) in entities {
        if entity.starts_with("Account@gone") {
            return Err(format!("{entity} is left behind: {state}"));
        }
        let Some(name) = entity.strip_prefix("Log@") else { continue };
        let list = state.split(['[', ']']).nth(1).unwrap_or_default();
        let seen: Vec<i64> = list.split(", ").filter_map(|n| n.parse().ok()).collect();
        let wanted: Vec<i64> = match name.split('-').next() {
            Some("loop") => (0..seen.len() as i64).rev().collect(),
            // Some numbers may be missing, since they went elsewhere. None occurs twice, and they
            // are in order.
            Some("log" | "told") => {
                let mut sorted = seen.clone();
                sorted.sort();
                sorted.dedup();
                sorted
            }
            _ => continue,
        };
        if seen != wanted {
            return Err(format!("{entity} has {seen:?} instead of {wanted:?}"));
        }
    }
    Ok(())
}
