//! An operator who starts instances under reused ids, suspends, cancels and terminates them, lets the
//! process die, repairs failures and rewinds. The end of each life must be the required one, and
//! must come from that life alone.

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use durable::engine::{
    Address, Entry, Event, InstanceRecord, Message, Status, Tree, read_history, read_record,
};
use durable::machine::{Cancellation, Canceller, Data, Image, Value, format};

use super::Random;
use super::sim::{Acted, Outside, World};

/// The orchestrations that the operator starts. Each takes a number that no other life has, and
/// returns it in its results. `fragile` fails until it is repaired.
pub const PROGRAM: &str = r#"
entity Till { state []; on pay(n) { state += [n]; state.len() } }
activity fragile(stamp) => stamp
activity work(n) => n
activity slow(n) { sleep(300ms); n }
activity hasty(stamp) with {timeout: 6s} => stamp
orchestration kid(n) { sleep(400ms); n * 10 }
orchestration frail(n) { work(n); fragile(n) }

orchestration steady(stamp) {
  let h = start kid(stamp)
  let own = async kid(stamp + 1) with {detached: true}
  let known = async kid(stamp + 2) with {id: "kid-{stamp}", detached: true}
  Till(stamp).pay(1)
  [stamp, kid(stamp), await own, await known, work(stamp), wait(h)]
}

orchestration waiting(stamp) {
  // It answers when this life may be over, and another one has its id.
  let _late = async kid(stamp + 5) with {id: "late-{stamp}", detached: true}
  var got = []
  for _ in 0..4 { got += [receive("go")]; work(stamp) }
  [stamp, got]
}

orchestration racing(stamp) {
  let _late = async kid(stamp + 5) with {id: "late-{stamp}", detached: true}
  match race({late: async sleep(2s), go: async receive("go")}) {
    {late} => [stamp, "late"]
    other  => [stamp, "go"]
  }
}

orchestration limited(stamp) {
  let _late = async kid(stamp + 5) with {id: "late-{stamp}", detached: true}
  try { [stamp, task.timeout(2s, fn () => do { receive("go"); "go" })] } catch {kind} { [stamp, "late"] }
}

orchestration sorting(stamp) {
  var got = []
  for _ in 0..4 {
    match race({b: async receive("b"), a: async receive("a")}) { {a} => do { got += [a] }, {b} => do { got += [b] } }
  }
  [stamp, got]
}

orchestration failing(stamp) {
  Till(stamp).pay(1)
  slow(stamp)
  Till(stamp).pay(2)
  let later = async do { kid(stamp); Till(stamp).pay(3); receive("go") }
  let values = all([async fragile(stamp), async slow(stamp + 1), async kid(stamp + 2)])
  Till(stamp).pay(4)
  let child = frail(stamp)
  let last = fragile(stamp)
  [stamp, values, child, last, await later]
}

orchestration hurried(stamp) {
  Till(stamp).pay(1)
  [stamp, task.timeout(7s, fn () => hasty(stamp)), kid(stamp) with {timeout: 1h}]
}

orchestration undoing(stamp) {
  try { fragile(stamp) } catch e {
    let _known = async kid(stamp + 7) with {id: "undo-{stamp}", detached: true}
    slow(stamp + 8)
    throw e
  }
  [stamp, slow(stamp + 1), work(stamp + 2), kid(stamp)]
}

orchestration tidy(n) { try { receive("never") } finally { Till(n).pay(1); sleep(200ms); Till(n).pay(2) } }

orchestration tidying(stamp) {
  let child = async tidy(stamp + 1)
  try { receive("go"); receive("go") } catch e { Till(stamp).pay(1); work(stamp); Till(stamp).pay(2); throw e }
  cancel(child)
  stamp
}

orchestration patient(stamp) {
  let t = async fragile(stamp)
  let first = receive("go")
  slow(stamp)
  Till(stamp).pay(1)
  let answer = await t
  let second = receive("go")
  [stamp, first, answer, second]
}
"#;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Template {
    Steady,
    Waiting,
    Racing,
    Limited,
    Sorting,
    Failing,
    Patient,
    Hurried,
    Undoing,
    Tidying,
}

impl Template {
    /// Returns whether it fails until it is repaired.
    fn fails(self) -> bool {
        matches!(self, Template::Failing | Template::Patient | Template::Hurried | Template::Undoing)
    }
}

const TEMPLATES: [(Template, &str); 10] = [
    (Template::Steady, "steady"),
    (Template::Waiting, "waiting"),
    (Template::Racing, "racing"),
    (Template::Limited, "limited"),
    (Template::Sorting, "sorting"),
    (Template::Failing, "failing"),
    (Template::Patient, "patient"),
    (Template::Hurried, "hurried"),
    (Template::Undoing, "undoing"),
    (Template::Tidying, "tidying"),
];

/// An action of the operator on a life.
#[derive(Clone, Debug, PartialEq)]
enum Move {
    Raise(&'static str, i64),
    Suspend,
    Resume,
    Terminate,
    /// A cancellation, with its grace period in nanoseconds.
    Cancel(i64),
    /// The process is down for `after` nanoseconds. It is stopped or killed.
    Down {
        after: i64,
        in_order: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Absent,
    Under,
    Done,
}

/// The plan for one id.
struct Plan {
    id: String,
    lives: u32,
    stage: Stage,
    template: Template,
    stamp: i64,
    moves: Vec<Move>,
    /// The time at which the first event was accepted.
    raised: Option<i64>,
    terminated: bool,
    /// The grace period of the first cancellation.
    cancelled: Option<i64>,
    suspended: bool,
}

pub struct Operator {
    image: Rc<Image>,
    random: Random,
    plans: Vec<Plan>,
    next_stamp: i64,
    /// Actions that the next process does first: the plan's number and the move.
    arriving: Vec<(usize, Move)>,
}

const SECOND: i64 = 1_000_000_000;
/// A grace period that no clean-up exceeds.
const LONG: i64 = 36_000 * SECOND;
/// The reason of cancellations.
const REASON: &str = "cancelled by the operator";

/// The numbers of cancelled instances whose clean-up was complete, was cut short, and came too late
/// or was not needed.
pub static CANCELLED: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

/// Returns the message of a client that cancels an instance.
pub fn cancellation(reason: Data, grace: i64) -> Message {
    let what = Cancellation { by: Canceller::Client, place: String::new(), reason, grace };
    Message::Cancel { what: Box::new(what), of: None }
}

impl Operator {
    pub fn new(image: Rc<Image>, seed: u64) -> Operator {
        let mut random = Random::new(seed);
        let count = 1 + random.below(3);
        let plan = |number: u64| Plan {
            id: format!("i{number}"),
            lives: 1 + random.below(3) as u32,
            stage: Stage::Absent,
            template: Template::Steady,
            stamp: 0,
            moves: Vec::new(),
            raised: None,
            terminated: false,
            cancelled: None,
            suspended: false,
        };
        let plans = (0..count).map(plan).collect();
        let random = Random::new(seed ^ 0x5151);
        Operator { image, random, plans, next_stamp: 1, arriving: Vec::new() }
    }

    /// Begins a life, and chooses its moves.
    fn begin(&mut self, at: usize, world: &mut World) {
        let (template, function) = TEMPLATES[self.random.below(TEMPLATES.len() as u64) as usize];
        let stamp = self.next_stamp * 100;
        self.next_stamp += 1;
        let mut moves = Vec::new();
        match template {
            Template::Waiting => moves.extend((0..4).map(|n| Move::Raise("go", stamp + n))),
            Template::Racing | Template::Limited => moves.push(Move::Raise("go", stamp)),
            Template::Sorting => {
                for n in 0..4 {
                    moves.push(Move::Raise(if self.random.one_in(2) { "a" } else { "b" }, stamp + n));
                }
            }
            Template::Failing => moves.push(Move::Raise("go", stamp)),
            Template::Patient | Template::Tidying => {
                moves.extend((0..2).map(|n| Move::Raise("go", stamp + n)))
            }
            Template::Steady | Template::Hurried | Template::Undoing => {}
        }
        // Suspensions span events, restarts and deadlines.
        if self.random.one_in(2) {
            let from = self.random.below(moves.len() as u64 + 1) as usize;
            moves.insert(from, Move::Suspend);
            let to = from + 1 + self.random.below((moves.len() - from) as u64) as usize;
            moves.insert(to, Move::Resume);
            if self.random.one_in(2) {
                let down = Move::Down {
                    after: self.random.below(4) as i64 * SECOND,
                    in_order: self.random.one_in(2),
                };
                moves.insert(from + 1 + self.random.below((to - from) as u64) as usize, down);
            }
        }
        if self.random.one_in(3) {
            let down =
                Move::Down { after: self.random.below(4) as i64 * SECOND, in_order: self.random.one_in(2) };
            moves.insert(self.random.below(moves.len() as u64 + 1) as usize, down);
        }
        if self.plans[at].lives > 1 && self.random.one_in(3) {
            moves.insert(self.random.below(moves.len() as u64 + 1) as usize, Move::Terminate);
        }
        // Some instances are cancelled twice.
        while self.random.one_in(if template == Template::Tidying { 2 } else { 6 }) {
            let grace = if self.random.one_in(3) { self.random.below(200_000_000) as i64 } else { LONG };
            moves.insert(self.random.below(moves.len() as u64 + 1) as usize, Move::Cancel(grace));
        }
        if template.fails() {
            world.broken.insert(stamp);
        }
        moves.reverse();
        let plan = &mut self.plans[at];
        (plan.template, plan.stamp, plan.moves, plan.stage) = (template, stamp, moves, Stage::Under);
        (plan.raised, plan.terminated, plan.suspended, plan.cancelled) = (None, false, false, None);
        let args = Data::encode(&Value::list(vec![Value::Int(stamp)])).expect("data");
        let id = plan.id.clone();
        world.say(|| format!("operator: start {id}: {function}({stamp})"));
        let record =
            InstanceRecord::new(&id, self.image.code.hash, "sim.df", function, args, world.driver.now);
        world.accept(Event::Begin { record, image: self.image.clone() });
    }

    fn send(&self, at: usize, world: &mut World, message: Message) {
        let id = self.plans[at].id.clone();
        world.say(|| format!("operator: {} {id}", message.word()));
        let from = format!("operator-{}-{}", world.steps, self.next_stamp);
        world.accept(Event::Send { to: Address::instance(&id), from, message });
    }

    fn make(&mut self, at: usize, next: Move, world: &mut World) {
        match next {
            Move::Raise(name, payload) => {
                let now = world.driver.now;
                self.plans[at].raised.get_or_insert(now);
                let payload = Data::encode(&Value::Int(payload)).expect("data");
                self.send(at, world, Message::Event { name: name.into(), payload });
            }
            Move::Suspend => {
                self.plans[at].suspended = true;
                self.send(at, world, Message::Suspend);
            }
            Move::Resume => {
                self.plans[at].suspended = false;
                self.send(at, world, Message::Resume);
            }
            Move::Terminate => {
                self.plans[at].terminated = true;
                self.plans[at].moves.clear();
                let why = Data::null();
                self.send(at, world, Message::Terminate { why, children: true, by: None });
            }
            Move::Cancel(grace) => {
                self.plans[at].cancelled.get_or_insert(grace);
                let reason = Data::encode(&Value::str(REASON)).expect("data");
                self.send(at, world, cancellation(reason, grace));
            }
            Move::Down { .. } => unreachable!("the process is seen to elsewhere"),
        }
    }

    /// Checks a life that has ended. Returns whether it must be rewound.
    fn look(&mut self, at: usize, world: &World, record: &InstanceRecord) -> Result<bool, String> {
        let plan = &self.plans[at];
        let (id, stamp) = (&plan.id, plan.stamp);
        let wrong = |wanted: &str| {
            Err(format!(
                "{id}: {:?}({stamp}) came to {:?}, and not to {wanted}",
                plan.template, record.status
            ))
        };
        let paid_by = |stamp: i64| {
            let paid = world.entities().get(&format!("Till@{stamp}")).cloned().unwrap_or_default();
            let mut all: Vec<String> = paid.split(['[', ']', ',', ' ']).map(String::from).collect();
            all.retain(|part| !part.is_empty());
            all.sort();
            format!("[{}]", all.join(", "))
        };
        let value = match &record.status {
            Status::Completed(_) if plan.cancelled.is_some() && plan.template == Template::Limited => {
                // It catches the error.
                return Ok(false);
            }
            Status::Completed(value) => format::display(&value.decode()),
            Status::Terminated(why) if !plan.terminated && plan.cancelled.is_some() => {
                if format::display(&why.decode()) != REASON {
                    return wrong("the reason of its cancellation");
                }
                if plan.template == Template::Tidying {
                    let is_clean = paid_by(stamp) == "[1, 2]";
                    CANCELLED[usize::from(!is_clean)].fetch_add(1, Ordering::Relaxed);
                    if !is_clean && plan.cancelled == Some(LONG) {
                        return wrong("the end of its clean-up");
                    }
                }
                return Ok(false);
            }
            Status::Terminated(_) if plan.terminated => return Ok(false),
            Status::Failed(error) if plan.template.fails() && error.kind().as_deref() == Some("broken") => {
                return Ok(true);
            }
            // The timeout may pass while the process is down, for example.
            Status::Failed(error)
                if plan.template == Template::Hurried && error.kind().as_deref() == Some("timeout") =>
            {
                return Ok(true);
            }
            _ => return wrong("its end"),
        };
        if plan.cancelled.is_some() {
            CANCELLED[2].fetch_add(1, Ordering::Relaxed);
        }
        let s = stamp;
        let wanted = match plan.template {
            Template::Steady => {
                format!("[{s}, {}, {}, {}, {s}, {}]", s * 10, (s + 1) * 10, (s + 2) * 10, s * 10)
            }
            Template::Waiting | Template::Sorting => {
                format!("[{s}, [{s}, {}, {}, {}]]", s + 1, s + 2, s + 3)
            }
            Template::Racing | Template::Limited => {
                let history = read_history(&world.durable, record)?;
                let asked = history.entries.iter().find_map(|entry| match entry {
                    Entry::Requested { what, time, .. } if what.name() == "sleep" => Some(*time),
                    _ => None,
                });
                let due = asked.ok_or_else(|| format!("{id} never slept"))? + 2 * SECOND;
                let in_time = plan.raised.is_some_and(|raised| raised < due);
                format!("[{s}, \"{}\"]", if in_time { "go" } else { "late" })
            }
            Template::Failing => format!("[{s}, [{s}, {}, {}], {s}, {s}, {s}]", s + 1, (s + 2) * 10),
            Template::Hurried => format!("[{s}, {s}, {}]", s * 10),
            Template::Undoing => format!("[{s}, {}, {}, {}]", s + 1, s + 2, s * 10),
            Template::Patient => format!("[{s}, {s}, {s}, {}]", s + 1),
            Template::Tidying => s.to_string(),
        };
        if value != wanted {
            return wrong(&wanted);
        }
        // Each payment was made once, whatever failed and was requested again.
        let wanted = match plan.template {
            Template::Steady | Template::Patient | Template::Hurried => "[1]",
            Template::Failing => "[1, 2, 3, 4]",
            _ => "[]",
        };
        match paid_by(s) {
            paid if paid == wanted => Ok(false),
            paid => Err(format!("{id}: {:?}({stamp}) has paid {paid}, and not {wanted}", plan.template)),
        }
    }

    /// Takes one step with an ended instance: repairs and rewinds it, or purges it, so that its id
    /// can be reused. Returns whether it did something.
    fn after_the_end(
        &mut self,
        at: usize,
        world: &mut World,
        record: &InstanceRecord,
    ) -> Result<bool, String> {
        if self.look(at, world, record)? {
            let plan = &mut self.plans[at];
            // The remaining moves stay. They may also be made while the instance is failed.
            world.broken.remove(&plan.stamp);
            // The termination came after the failure, so it is repeated after the rewind.
            if plan.terminated {
                plan.moves = vec![Move::Terminate];
            }
            let id = plan.id.clone();
            world.say(|| format!("operator: rewind {id}"));
            rewind(world, &id)?;
            return Ok(true);
        }
        let plan = &mut self.plans[at];
        if plan.lives == 1 {
            plan.stage = Stage::Done;
            return Ok(true);
        }
        let id = plan.id.clone();
        world.say(|| format!("operator: purge {id}"));
        let is_purged = purge(world, &id)?;
        if is_purged {
            let till = world.entities().get(&format!("Till@{}", plan.stamp + 1)).cloned().unwrap_or_default();
            // The process may have been down for longer than the grace period of the child.
            let is_clean = ["[1]", "[1, 2]"].contains(&till.as_str());
            if plan.template == Template::Tidying && !plan.terminated && !is_clean {
                return Err(format!("{id}: its child was given up, and its clean-up came to {till:?}"));
            }
            (plan.lives, plan.stage) = (plan.lives - 1, Stage::Absent);
        }
        Ok(is_purged)
    }
}

impl Outside for Operator {
    fn act(&mut self, world: &mut World, rests: bool) -> Result<Acted, String> {
        let first = self.random.below(self.plans.len() as u64) as usize;
        for at in (first..self.plans.len()).chain(0..first) {
            match self.plans[at].stage {
                Stage::Done => continue,
                Stage::Absent => {
                    self.begin(at, world);
                    return Ok(Acted::Something);
                }
                Stage::Under => {}
            }
            let record = read_record(&world.durable, &self.plans[at].id)?;
            let record = record.ok_or_else(|| format!("{} is not there any more", self.plans[at].id))?;
            if record.status.is_ended() {
                let says = matches!(record.status, Status::Failed(_)) && !self.plans[at].moves.is_empty();
                // Events may come after the failure and before the rewind.
                if says && self.random.one_in(2) {
                    match self.plans[at].moves.pop() {
                        Some(next @ Move::Raise(..)) => {
                            self.make(at, next, world);
                            return Ok(Acted::Something);
                        }
                        Some(next) => self.plans[at].moves.push(next),
                        None => {}
                    }
                }
                if self.after_the_end(at, world, &record)? {
                    return Ok(Acted::Something);
                }
                continue;
            }
            if !rests && !self.random.one_in(6) {
                continue;
            }
            // At rest, half of the moves wait until the next timer has fired.
            if rests && self.random.one_in(2) {
                continue;
            }
            match self.plans[at].moves.pop() {
                None => {}
                Some(Move::Down { after, in_order }) => {
                    // A command may come while the process is down.
                    if let Some(next @ Move::Raise(..)) = self.plans[at].moves.last().cloned()
                        && self.random.one_in(2)
                    {
                        self.plans[at].moves.pop();
                        self.arriving.push((at, next));
                    }
                    return Ok(Acted::Restarted { in_order, after });
                }
                Some(next) => {
                    self.make(at, next, world);
                    return Ok(Acted::Something);
                }
            }
        }
        // At rest without a timer, only the operator can let a suspended instance go on.
        if rests {
            for at in 0..self.plans.len() {
                let plan = &self.plans[at];
                if plan.stage == Stage::Under
                    && (plan.suspended || !plan.moves.is_empty())
                    && world.driver.engine.next_due().is_none()
                {
                    match self.plans[at].moves.pop() {
                        Some(Move::Down { after, in_order }) => {
                            return Ok(Acted::Restarted { in_order, after });
                        }
                        Some(next) => self.make(at, next, world),
                        None => self.make(at, Move::Resume, world),
                    }
                    return Ok(Acted::Something);
                }
            }
        }
        Ok(Acted::Nothing)
    }

    fn arrive(&mut self, world: &mut World) -> Result<(), String> {
        for (at, next) in std::mem::take(&mut self.arriving) {
            self.make(at, next, world);
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.plans.iter().all(|plan| plan.stage == Stage::Done)
    }
}

/// Rewinds a failed instance.
pub fn rewind(world: &mut World, id: &str) -> Result<(), String> {
    world.settle();
    let image = world.image();
    let rewinding =
        durable::engine::rewind(&world.driver.store, &mut |_| Ok(image.clone()), id, world.driver.now)?;
    for back in &rewinding.instances {
        world.goes_back(&back.steps.id);
    }
    world.accept(Event::Rewind(rewinding));
    Ok(())
}

/// Purges an ended instance. Returns false if an instance that it began has not ended.
pub fn purge(world: &mut World, id: &str) -> Result<bool, String> {
    world.settle();
    let tree = Tree::read(&world.driver.store, &[id.to_string()])?;
    if !world.driver.engine.unfinished(&tree).is_empty() {
        return Ok(false);
    }
    world.accept(Event::Purge { tree });
    Ok(true)
}
