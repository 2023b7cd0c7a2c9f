//! The debugger on histories that were upgraded, rewound and trimmed, and steps into what a run
//! calls: children, operations of entities, activities.

mod common;

use std::fs;
use std::rc::Rc;

use common::operator::{self, Operator};
use common::place::{Place, admin_token, await_that, debug, http_get};
use common::sim::World;
use common::worlds::{checkpoints, many_program, often};
use common::{Random, image};
use durable::api::Queries;
use durable::debug::{End, Session};
use durable::engine::query::{EntityFilter, InstanceFilter, OperationView};
use durable::engine::{Entry, Status, machine_of_operation};
use durable::machine::{Data, EntityId, ErrorData, Image, Progress};

// ---- histories that were changed

/// An order in rounds. Each text has another argument of the second step of a round, so a new text
/// fits up to there.
fn text(version: u32) -> String {
    format!(
        "activity step(n) {{ if n == 13 {{ throw {{kind: \"unlucky\"}} }}; n + 1 }}\n\
         orchestration order(rounds) {{\n  var sum = 0\n  sum += step(1)\n  sum += step({version})\n  \
         let got = receive(\"go\")\n  sum += got\n  print(\"sum {{sum}}\")\n  \
         if rounds > 1 {{ continue_as_new(rounds - 1) }}\n  sum\n}}\n"
    )
}

/// A change of an instance that waits for `go`.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// An upgrade that fits.
    Fits,
    /// An upgrade that goes back to the second step.
    Back,
    /// The event that the instance waits for.
    Go,
    /// A kill of the server, and a new one.
    Crash,
    Restart,
}

/// Whatever happened to an instance, the debugger repeats the history to its end.
#[test]
fn upgraded_histories_are_repeated_to_their_ends() {
    use Change::*;
    let plans: &[&[Change]] = &[
        &[Fits],
        &[Back],
        &[Back, Back],
        &[Fits, Back, Fits],
        &[Back, Go],
        &[Back, Fits, Go, Back],
        &[Go, Back, Go],
        &[Fits, Go, Fits, Go],
        &[Back, Crash, Back, Go],
        &[Back, Go, Restart, Back],
    ];
    for history in ["all", "latest"] {
        for plan in plans {
            let place = Place::new(&text(2));
            place.ok(&["start", "p.df", "order", "2", "--id", "x"]);
            let server = || place.serve_with(&["--history", history]);
            let waits = || {
                await_that(|| {
                    let shown = place.ok(&["show", "x"]);
                    shown.contains("waits for  receive") || shown.contains("completed")
                })
            };
            let mut running = Some(server());
            let mut version = 2;
            for change in *plan {
                waits();
                match change {
                    Fits => {
                        place.put("new.df", &format!("// {version}\n{}", text(version)));
                        place.ok(&["upgrade", "x", "--to", "new.df"]);
                    }
                    Back => {
                        version += 1;
                        place.put("new.df", &text(version));
                        let entries = place.history("x");
                        let second = entries
                            .iter()
                            .enumerate()
                            .filter(|(_, entry)| entry["activity"] == "step")
                            .nth(1)
                            .map(|(at, _)| (at + 1).to_string());
                        place.ok(&[
                            "upgrade",
                            "x",
                            "--to",
                            "new.df",
                            "--from",
                            &second.expect("a second step"),
                        ]);
                    }
                    Go => drop(place.ok(&["raise", "x", "go", "100"])),
                    Crash => {
                        if let Some(server) = running.take() {
                            server.kill();
                        }
                        running = Some(server());
                    }
                    Restart => {
                        place.ok(&["terminate", "x"]);
                        await_that(|| place.ok(&["show", "x"]).contains("terminated"));
                        place.ok(&["restart", "x", "--id", "x"]);
                    }
                }
            }
            waits();
            drop(running.take());
            is_repeated(&place, &format!("{history} {plan:?}"));
        }
    }
}

/// Checks that the debugger comes to the end of the history of `x`, and visits its moments in both
/// directions.
fn is_repeated(place: &Place, what: &str) {
    let store = durable::store::open(&place.path().join(".durable")).expect("it opens");
    let mut session = Session::open(&store, "x").expect("a session");
    comes_to_its_end(&mut session).unwrap_or_else(|reason| panic!("{what}: {reason}"));
    let Some(last) = Some(session.ticks()).filter(|last| *last < 5_000) else { return };
    let mut forward = Vec::new();
    for tick in 0..=last {
        session.visit(tick);
        forward.push((session.position(), session.tasks()));
    }
    for (tick, seen) in forward.iter().enumerate().rev() {
        session.visit(tick as u64);
        assert_eq!((session.position(), session.tasks()), *seen, "{what}: tick {tick}");
    }
}

/// Goes to the end of a run. The error says what end it is, if it does not fit the instance.
fn comes_to_its_end(session: &mut Session) -> Result<(), String> {
    session.seek_end();
    match (session.end(), &session.record.status) {
        (Some(End::Ended), Status::Completed(_) | Status::Failed(_) | Status::Terminated(_)) => Ok(()),
        (Some(End::Terminated), Status::Terminated(_)) => Ok(()),
        (Some(End::Waits | End::NotBegun), status) if !status.is_ended() => Ok(()),
        (end, status) => Err(format!("{} comes to {end:?} where it is {}", session.record.id, status.word())),
    }
}

/// Instances that were rewound, cancelled, terminated, restarted, replaced and continued, with
/// histories whole and trimmed, through crashes.
#[test]
fn operated_histories_are_repeated_to_their_ends() {
    let (mut count, mut rewound) = (0, 0);
    for seed in 1..80 {
        let image = image(operator::PROGRAM);
        let mut world = World::new(image.clone(), seed * 15_485_863);
        world.crash = often(seed);
        world.checkpoints = checkpoints(seed);
        world.is_operated_by(Box::new(Operator::new(image, seed)));
        let _ = world.run_to_the_end();
        let store = &world.driver.store;
        let listed = store.each_instances(&InstanceFilter::default(), &mut |page, _| {
            for record in page {
                let mut session = Session::open(store, &record.id).expect("a session");
                comes_to_its_end(&mut session).unwrap_or_else(|reason| panic!("{seed}: {reason}"));
                count += 1;
                let is_rewind = |entry: &&Entry| matches!(entry, Entry::Rewound { .. });
                rewound += session.history.iter().filter(is_rewind).count();
            }
            true
        });
        listed.expect("instances");
    }
    assert!(count > 300 && rewound > 8, "{count} instances, {rewound} rewinds");
}

// ---- what bounds a request

/// A request to the page is bounded by the work that it repeats, and not by entries alone.
#[test]
fn a_moment_after_much_work_is_refused_by_the_page_and_not_by_the_command() {
    let place = Place::new(
        "orchestration counts(most) {\n  var n = 0\n  while n < most {\n    n += 1\n  }\n  print(\"{n}\")\n  \
         receive(\"go\")\n  n\n}\n\
         orchestration sorts(most) {\n  var all = range(0, 100)\n  for i in 0..most { all = all.sort() }\n  receive(\"go\")\n}\n",
    );
    place.ok(&["deploy", "p.df"]);
    let _server = place.serve_with(&["--http", "127.0.0.1:0"]);
    // The server tells its address after it listens on the store's socket.
    await_that(|| fs::read_to_string(place.path().join(".durable/http")).is_ok_and(|url| !url.is_empty()));
    let address =
        place.text(".durable/http").trim().trim_start_matches("http://").trim_end_matches('/').to_string();
    let token = admin_token(&place.text(".durable/token"));
    let moment =
        |id: &str, more: &str| http_get(&address, &format!("/api/v1/instances/{id}/debug{more}"), &token);
    for (function, most, id) in
        [("counts", "1000", "few"), ("counts", "10000000", "many"), ("sorts", "300000", "library")]
    {
        place.ok(&["start", "p.df", function, most, "--id", id]);
        await_that(|| place.ok(&["show", id]).contains("waits for  receive"));
    }
    assert_eq!(moment("few", "").0, 200);
    for id in ["many", "library"] {
        for more in ["", "?at=1.0", "?at=2.0&step=back", "?at=0.19000000"] {
            let (code, problem) = moment(id, more);
            assert_eq!(code, 412, "{id}{more} {problem}");
            let title = problem["title"].as_str().unwrap_or_default();
            assert!(title.contains("computes for too long up to this moment"), "{problem}");
        }
        // The beginning is near.
        assert_eq!(moment(id, "?at=0.5&step=next").0, 200);
    }
    let said = debug(place.path(), &["many"], "seek 1\nback\nprint n\n");
    assert!(said.ends_with("10000000\n"), "{said}");
}

// ---- operations of entities

/// Repeats a kept operation. Returns its result, and the new state if the state changed.
fn repeated(
    image: &Rc<Image>,
    entity: &EntityId,
    view: &OperationView,
) -> (Result<Data, ErrorData>, Option<Option<Data>>) {
    let mut machine = machine_of_operation(image, entity, view).expect("a machine");
    let mut answers = view.operation.entries.iter().filter_map(|entry| match entry {
        Entry::Answered { seq, result, .. } => Some((*seq, result.clone())),
        _ => None,
    });
    loop {
        match machine.run(1_000_000) {
            Progress::OutOfFuel => {}
            Progress::Waiting => {
                assert_eq!(machine.take_requests().len(), 1, "an operation asks for one thing at a time");
                let (seq, result) = answers.next().expect("an answer");
                machine.answer(seq, result);
            }
            Progress::Done(result) => {
                let state = machine.take_state().expect("a state");
                let after = state.filter(|_| result.is_ok()).map(|state| state.map(|(_, data)| data));
                return (result, after);
            }
        }
    }
}

/// Every kept operation of every entity comes to its end again, with its result and its new state,
/// and the debugger comes to the end as well.
#[test]
fn kept_operations_are_repeated_exactly() {
    let (mut count, mut changed, mut failed) = (0, 0, 0);
    for seed in 1..15 {
        let mut random = Random::new(seed * 32_452_843);
        let image = image(&many_program(&mut random));
        let mut world = World::new(image.clone(), random.next());
        world.crash = often(seed);
        world.keep_operations = Some(true);
        let _ = world.run_to_the_end();
        let store = &world.driver.store;
        let mut entities: Vec<EntityId> = Vec::new();
        let listed = store.each_entities(&EntityFilter::default(), &mut |page| {
            entities.extend(page.into_iter().map(|view| view.entity));
            true
        });
        listed.expect("entities");
        for entity in entities {
            let mut all = Vec::new();
            let read = store.each_operations(&entity, 1, &mut |page| {
                all.extend(page);
                true
            });
            read.expect("operations");
            for view in all {
                let what = format!("{seed}: {entity} {}", view.number);
                let (result, after) = repeated(&image, &entity, &view);
                assert_eq!((&result, &after), (&view.operation.result, &view.operation.after), "{what}");
                (count, changed) = (count + 1, changed + u32::from(after.is_some()));
                failed += u32::from(result.is_err());
                if view.number % 10 == 1 {
                    let number = Some(view.number);
                    let mut session = Session::open_operation(store, &entity, number).expect("a session");
                    session.seek_end();
                    assert_eq!(session.end(), Some(&End::Ended), "{what}");
                }
            }
        }
    }
    assert!(
        count > 500 && changed > 200 && failed > 5,
        "{count} operations, {changed} changes, {failed} errors"
    );
}

const BANK: &str = r#"activity fee(n) {
  n % 10 + 5
}
entity Account {
  state {balance: 0}
  on add(n) {
    let before = state.balance
    state.balance += n
    state.balance - before
  }
  on lucky(most) {
    let drawn = random_int(1, most)
    state.balance += drawn
    drawn
  }
  on close() {
    delete_state()
    state
  }
}
orchestration pay(who, n) {
  let cost = fee(n)
  let added = Account(who).add(n - cost)
  let drawn = Account(who).lucky(6)
  let gone = Account(who).close()
  {cost, added, drawn, gone}
}
"#;

fn paid(more: &[&str]) -> Place {
    let place = Place::new(&format!("{BANK}pay(\"ada\", 50)\n"));
    place.ok(&[&["run", "p.df", "--id", "x"], more].concat());
    place
}

#[test]
fn a_step_into_a_call_of_an_entity_goes_on_in_the_operation() {
    let place = paid(&["--journal-entities"]);
    let said = debug(
        place.path(),
        &["x:0"],
        "seek start\nbreak 23\ncontinue\ninto\nstep\nvars\nstep\nstep\nvars\nout\nvars\n",
    );
    let lines: Vec<&str> = said.lines().collect();
    let at =
        lines.iter().position(|line| line.contains("Account@ada.add #1")).unwrap_or_else(|| panic!("{said}"));
    assert!(lines[at].contains("p.df:7  let before = state.balance"), "{said}");
    assert!(said.contains("state = {balance: 0}\n") && said.contains("state = {balance: 45}\n"), "{said}");
    assert!(said.contains("before = 0\n"), "{said}");
    // `out` comes back behind the call.
    let back = lines.iter().rposition(|line| line.contains("p.df:24")).unwrap_or_else(|| panic!("{said}"));
    assert!(lines[back..].contains(&"added = 45"), "{said}");
}

/// An operation's random numbers and its deleted state are those that it had, in both directions.
#[test]
fn an_operation_is_visited_in_both_directions() {
    let place = paid(&["--journal-entities"]);
    let kept = place.ok(&["entity", "Account@ada", "--history", "--json"]);
    let drawn: serde_json::Value = serde_json::from_str(kept.lines().nth(1).expect("lucky")).expect("JSON");
    let said = debug(
        place.path(),
        &["Account@ada", "--operation", "2"],
        "seek start\nstep\nstep\nstep\nvars\nseek end\nback\nvars\n",
    );
    assert_eq!(said.matches(&format!("drawn = {}\n", drawn["value"])).count(), 2, "{said}");
    let said =
        debug(place.path(), &["Account@ada"], "seek start\nstep\nvars\nstep\nvars\nback\nvars\nstep\nvars\n");
    assert!(said.starts_with("1.0  the end: completed with {balance: 0}"), "{said}");
    let states: Vec<&str> = said.lines().filter(|line| line.starts_with("state = ")).collect();
    assert_eq!(states.len(), 4, "{said}");
    assert_eq!((states[0], states[2]), (states[2], states[0]));
    assert_eq!((states[1], states[3]), ("state = {balance: 0}", "state = {balance: 0}"), "{said}");
}

#[test]
fn a_step_goes_over_what_is_not_kept_and_says_so() {
    let place = paid(&[]);
    let said = debug(place.path(), &["x:0"], "seek start\nbreak 22\ncontinue\ninto\ninto\n");
    assert!(said.contains("stepped over fee: an activity runs elsewhere"), "{said}");
    assert!(said.contains("stepped over Account@ada: no operations are kept"), "{said}");
    assert!(said.lines().any(|line| line.contains("p.df:24")), "{said}");
    let refused = place.refused(5, &["debug", "Account@ada"]);
    assert!(refused.contains("no operations are kept of Account@ada"), "{refused}");
    let unknown = place.refused(5, &["debug", "Nothing@ada"]);
    assert!(unknown.contains("there is no instance `Nothing@ada`"), "{unknown}");
}

/// An export has what a step into an operation needs.
#[test]
fn operations_of_an_export_can_be_stepped_into() {
    let place = paid(&["--journal-entities"]);
    place.ok(&["store", "export", "all.jsonl"]);
    let commands = "seek start\nbreak 23\ncontinue\ninto\nvars\n";
    assert_eq!(
        debug(place.path(), &["x:0"], commands),
        debug(place.path(), &["x:0", "--store", "all.jsonl"], commands)
    );
}

/// An operation ran with the program of its time, and is repeated with that.
#[test]
fn an_operation_is_repeated_with_the_program_that_it_ran_with() {
    let place = paid(&["--journal-entities"]);
    place.put("q.df", &format!("// Another text.\n\n\n{BANK}pay(\"ada\", 70)\n"));
    place.ok(&["run", "q.df", "--id", "y"]);
    let said = debug(place.path(), &["Account@ada", "--operation", "1"], "seek start\nstep\n");
    assert!(said.contains("p.df:7"), "{said}");
    let said = debug(place.path(), &["Account@ada", "--operation", "4"], "seek start\nstep\n");
    assert!(said.contains("q.df:10"), "{said}");
}
