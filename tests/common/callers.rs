//! Clients who call and signal an entity beside critical sections that hold it, and ask again after
//! each crash. Each call must happen once, in one of the orders that are allowed, and its answer
//! must stay the same.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use durable::engine::{Address, ClientCall, Event, InstanceRecord, Message, Status, read_call, read_record};
use durable::machine::{Data, EntityId, Image, Value, format};

use super::Random;
use super::sim::{Acted, Outside, World};

/// An entity that keeps what it was told. A section counts what others pay meanwhile, which is
/// nothing.
pub const PROGRAM: &str = r#"
entity Till {
  state {paid: [], told: []}
  on pay(n) { add(n); state.paid.len() }
  on refuses(n) { add(n); throw {kind: "refused", message: "{n} after {state.paid.len()}"} }
  on tell(n) { state.told += [n] }
  on count() => state.paid.len()
  fn add(n) { state.paid += [n] }
}
activity work(n) => n
orchestration section(n) {
  lock Till("t") {
    let before = Till("t").count()
    work(n)
    sleep(1s)
    Till("t").pay(-n) - before
  }
}
"#;

/// A call of a client.
struct Call {
    id: String,
    number: i64,
    refused: bool,
}

pub struct Callers {
    image: Rc<Image>,
    random: Random,
    /// The calls that are not answered yet; the next one is the last.
    calls: Vec<Call>,
    /// The calls that the current process of the entity got.
    asked: BTreeSet<String>,
    /// The sections that are still to begin, and those that have begun.
    sections: Vec<i64>,
    begun: Vec<String>,
    /// The number of the last signal.
    told: i64,
}

/// The number of calls, and of signals.
const CALLS: i64 = 12;

impl Callers {
    pub fn new(image: Rc<Image>, seed: u64) -> Callers {
        let mut random = Random::new(seed);
        let call = |number| Call { id: format!("c{number}"), number, refused: random.one_in(4) };
        let calls = (1..=CALLS).rev().map(call).collect();
        let sections = (1..=1 + random.below(3) as i64).collect();
        let random = Random::new(seed ^ 0x7171);
        Callers { image, random, calls, asked: BTreeSet::new(), sections, begun: Vec::new(), told: 0 }
    }

    /// Makes a call, or asks again for its answer. Nothing of it is durable yet.
    fn ask(&mut self, at: usize, world: &mut World) {
        let Call { id, number, refused } = &self.calls[at];
        world.say(|| format!("client: call {id}"));
        let call = ClientCall {
            entity: till(),
            operation: if *refused { "refuses".into() } else { "pay".into() },
            args: Data::encode(&Value::list(vec![Value::Int(*number)])).expect("data"),
            asked: world.driver.now,
            answer: None,
        };
        let from = format!("client-{id}-{}", world.steps);
        world.hand(Event::Call { id: id.clone(), from, call });
        self.asked.insert(id.clone());
    }

    /// Tells the entity the next number. It is durable when this returns.
    fn tell(&mut self, world: &mut World) {
        self.told += 1;
        let args = Data::encode(&Value::list(vec![Value::Int(self.told)])).expect("data");
        let message = Message::Signal { operation: "tell".into(), args, due: 0 };
        let from = format!("client-tells-{}", self.told);
        world.say(|| "client: signal".into());
        world.accept(Event::Send { to: Address::entity(till()), from, message });
    }

    fn begin(&mut self, number: i64, world: &mut World) {
        let id = format!("section-{number}");
        let args = Data::encode(&Value::list(vec![Value::Int(number)])).expect("data");
        let hash = self.image.code.hash;
        let record = InstanceRecord::new(&id, hash, "sim.df", "section", args, world.driver.now);
        world.accept(Event::Begin { record, image: self.image.clone() });
        self.begun.push(id);
    }
}

pub fn till() -> EntityId {
    EntityId::new("Till", &Value::str("t")).expect("a key")
}

impl Outside for Callers {
    fn act(&mut self, world: &mut World, rests: bool) -> Result<Acted, String> {
        if self.begun.is_empty() {
            // The first section deploys the entity.
            let first = self.sections.pop().ok_or("no section")?;
            self.begin(first, world);
            return Ok(Acted::Something);
        }
        let durable = &world.durable;
        let has_answer = |call: &Call| match read_call(durable, &call.id) {
            Ok(known) => known.is_some_and(|known| known.answer.is_some()),
            Err(_) => false,
        };
        self.calls.retain(|call| !has_answer(call));
        let asks =
            |call: &Call| !self.asked.contains(&call.id) && matches!(read_call(durable, &call.id), Ok(None));
        let next = self.calls.iter().rposition(asks);
        if rests {
            match next {
                Some(at) => self.ask(at, world),
                None => match self.sections.pop() {
                    Some(number) => self.begin(number, world),
                    None => return Ok(Acted::Nothing),
                },
            }
            return Ok(Acted::Something);
        }
        match self.random.below(8) {
            0 if !self.sections.is_empty() => {
                let number = self.sections.pop().unwrap_or_default();
                self.begin(number, world);
            }
            1 if self.told < CALLS => self.tell(world),
            2 if self.random.one_in(3) => {
                let after = self.random.below(2_000_000_000) as i64;
                return Ok(Acted::Restarted { in_order: self.random.one_in(2), after });
            }
            _ => match next {
                Some(at) if self.random.one_in(2) => self.ask(at, world),
                _ => return Ok(Acted::Nothing),
            },
        }
        Ok(Acted::Something)
    }

    fn arrive(&mut self, _: &mut World) -> Result<(), String> {
        self.asked.clear();
        Ok(())
    }

    fn sees_crash(&mut self, world: &World) {
        if world.driver.present() == world.driver.partition_of(&Address::entity(till())) {
            self.asked.clear();
        }
    }

    fn is_done(&self) -> bool {
        self.calls.is_empty() && self.sections.is_empty()
    }
}

/// Checks what the calls, the signals and the sections have left.
pub fn check(world: &World) -> Result<(), String> {
    let states = world.entities();
    let state = states.get("Till@t").ok_or("the till has no state")?;
    let mut paid = Vec::new();
    for number in 1..=CALLS {
        let call = read_call(&world.durable, &format!("c{number}"))?;
        let call = call.ok_or_else(|| format!("call {number} is not kept"))?;
        match call.answer {
            Some(Ok(value)) => paid.push((format::display(&value.decode()), number)),
            Some(Err(error)) if error.kind().as_deref() == Some("refused") => {}
            other => return Err(format!("call {number} has the answer {other:?}")),
        }
    }
    for record in world.records() {
        match &record.status {
            Status::Completed(value) if format::display(&value.decode()) == "1" => {}
            other => return Err(format!("{} came to {other:?}: somebody paid in its section", record.id)),
        }
        if read_record(&world.durable, &record.id)?.is_none() {
            return Err(format!("{} is not durable", record.id));
        }
    }
    // The answer of a call is its place among all that were paid.
    let list = state.split("paid: [").nth(1).and_then(|rest| rest.split(']').next()).unwrap_or_default();
    let found: Vec<i64> = list.split(", ").filter_map(|number| number.parse().ok()).collect();
    let places: BTreeMap<i64, String> =
        found.iter().zip(1..).map(|(number, place)| (*number, i32::to_string(&place))).collect();
    if places.len() != found.len() {
        return Err(format!("something was paid twice: {list}"));
    }
    let by_calls = found.iter().filter(|number| **number > 0).count();
    if by_calls != paid.len() || paid.iter().any(|(answer, number)| places.get(number) != Some(answer)) {
        return Err(format!("the answers {paid:?} are not those of {list}"));
    }
    let told = state.split("told: [").nth(1).and_then(|rest| rest.split(']').next()).unwrap_or_default();
    let told: Vec<i64> = told.split(", ").filter_map(|number| number.parse().ok()).collect();
    match told.is_sorted() && told.windows(2).all(|two| two[0] < two[1]) {
        true => Ok(()),
        false => Err(format!("signals came in the order {told:?}")),
    }
}
