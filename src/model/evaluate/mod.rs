//! Evaluation: the machine as a function from states to states.
//!
//! A program is deterministic, so its next step depends only on its state and on the answer that it
//! gets. Results of evaluation are remembered by hashes, so that nothing is evaluated twice.

mod outcomes;
mod trials;

use std::collections::HashMap;
use std::rc::Rc;

use crate::builtins::Context;
use crate::machine::{
    Cancellation, Data, ErrorData, Identity, Image, Machine, Progress, Value, instance_handle,
};
use crate::syntax::Place;

use super::instance::{Input, Turn};
use super::message::{Answer, Asked, EntityName, Id, answer, asked};
use super::notices::Notices;
use super::part::{ByHash, Part, fingerprint};
use super::program::{Program, Subject};

pub use outcomes::{Chooser, Nothing};

/// A suspended evaluation: the machine as bytes. Its requests are named by the fibers that wait for
/// them.
pub type Eval = Part<Vec<u8>>;

/// The number of the first request in a step, so that no request has the number of a fiber.
const BASE: u64 = 1 << 40;
/// The fuel of one step, in calls and repetitions.
const FUEL: u64 = 20_000_000;
/// The most results to remember: for operations and properties in entries, for instances in bytes.
const REMEMBERED: usize = 100_000;
const REMEMBERED_BYTES: usize = 96 << 20;

/// The result of one step of an instance's evaluation.
pub struct Evaluated {
    /// The suspended evaluation; `None` at the end.
    pub eval: Option<Eval>,
    /// The new requests: the fiber that waits, the request's number within the step, and the
    /// request.
    pub requests: Vec<(u64, u64, Asked)>,
    /// The number of requests made, including those that never left.
    pub count: u64,
    /// The fibers whose requests nobody waits for any more.
    pub withdrawn: Vec<u64>,
    /// The result at the end.
    pub result: Option<Answer>,
}

/// A possible outcome of a task or of an operation.
#[derive(Clone)]
pub struct Done {
    /// The choices of the environment, for people.
    pub choice: Option<String>,
    /// The result; `None` if the task is never done.
    pub result: Option<Answer>,
    /// The new state of an operation's entity, if it has changed.
    pub state: Option<Option<Part<Data>>>,
    /// The messages sent.
    pub sends: Vec<Asked>,
    /// The operation that is to run on the entity that stands for the world.
    pub world: Option<(EntityName, Id)>,
    /// The instant that the clock showed, if it was read.
    pub read: Option<i64>,
    /// The positions of mocks afterwards; may be empty if no mock was taken in turn.
    pub turns: Turns,
}

/// The positions of those mocks whose outcomes come in turn: the number of outcomes taken of each,
/// up to its last one.
pub type Turns = Vec<u8>;

/// The circumstances of an attempt: the possible readings of a clock, and the positions of mocks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Moment {
    pub clock: Vec<i64>,
    pub turns: Turns,
}

/// The reason why a program can't be explored.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    /// An effect outside for which there is no mock.
    NoMock { request: Asked },
    /// A look at a state by a test. The state differs from schedule to schedule.
    Looks { request: Asked },
    /// A computation without an end.
    Endless,
    /// Instances whose ids come from keys of steps: requests have to be named by their numbers.
    LooksAtNames,
    /// A replay that makes another request than the history has.
    Nondeterminism { id: Id },
    /// A fault of the model.
    Fault(String),
}

/// The machine with one program, and the notices about it. Each thread has its own.
pub struct Evaluator<'a> {
    pub program: &'a Program,
    image: Rc<Image>,
    instances: ByHash<Rc<Evaluated>>,
    bytes: usize,
    turns: ByHash<Rc<Turn>>,
    turns_bytes: usize,
    done: ByHash<Rc<Vec<Done>>>,
    properties: HashMap<(usize, u128), bool>,
    /// The notices about the program.
    pub notices: Notices,
    /// The property that is being evaluated.
    looking: Option<Place>,
}

impl<'a> Evaluator<'a> {
    /// Returns an evaluator of a program. An error is that of a `const` of the program.
    pub fn new(program: &'a Program) -> Result<Evaluator<'a>, Stop> {
        let image = Image::new(program.code.clone())
            .map_err(|(name, error)| Stop::Fault(format!("const {name}: {}", error.title())))?;
        Ok(Evaluator {
            program,
            image,
            instances: ByHash::default(),
            bytes: 0,
            turns: ByHash::default(),
            turns_bytes: 0,
            done: ByHash::default(),
            properties: HashMap::new(),
            notices: Notices::default(),
            looking: None,
        })
    }

    /// Returns the program, ready to run.
    pub fn image(&self) -> Rc<Image> {
        self.image.clone()
    }

    // ---- instances

    /// Evaluates an instance from its beginning up to its first requests.
    pub fn begin(
        &mut self,
        function: &str,
        args: &Data,
        id: &str,
        attempt: u32,
    ) -> Result<Rc<Evaluated>, Stop> {
        let key = fingerprint(&("begin", function, args, id, attempt));
        if let Some(known) = self.instances.get(&key) {
            return Ok(known.clone());
        }
        let machine = self.machine(function, args, id, attempt)?;
        self.remember(key, machine, 0)
    }

    /// Evaluates an instance with these inputs. Each comes with the number that the next request has
    /// at that time. Returns the machine afterwards,
    /// with the provenance of its errors.
    pub fn run_through<'r>(
        &mut self,
        function: &str,
        args: &Data,
        id: &str,
        attempt: u32,
        given: impl Iterator<Item = (u64, &'r Input)>,
    ) -> Result<Machine, Stop> {
        let mut machine = self.machine(function, args, id, attempt)?;
        let run = |machine: &mut Machine| match machine.run(FUEL) {
            Progress::OutOfFuel => Err(Stop::Endless),
            _ => {
                machine.take_requests();
                machine.take_withdrawn();
                Ok(())
            }
        };
        run(&mut machine)?;
        for (first, input) in given {
            machine.number_from(first);
            match input {
                Input::Answer(seq, result) => machine.answer(*seq, (**result).clone()),
                Input::Cancel(what) => machine.cancel_instance(what),
            }
            run(&mut machine)?;
        }
        Ok(machine)
    }

    /// Returns the machine of an instance at its beginning.
    fn machine(&self, function: &str, args: &Data, id: &str, attempt: u32) -> Result<Machine, Stop> {
        let code = &self.image.code;
        let body = match function == MAIN_FUNCTION {
            true => self.program.function(),
            false => {
                let found = code.isolated.iter().find(|item| item.name == function);
                let found = found.filter(|item| item.context == Some(Context::Orchestration));
                found.ok_or_else(|| Stop::Fault(format!("no orchestration `{function}`")))?.body
            }
        };
        let args = match (function == MAIN_FUNCTION, self.program.subject) {
            (true, Subject::Test(_)) => Vec::new(),
            _ => args.items(),
        };
        let identity = Identity { id: id.to_string(), attempt, ..Identity::default() };
        Ok(Machine::new(self.image.clone(), Context::Orchestration, body, args, identity))
    }

    /// Resumes with an answer to the request of a fiber.
    pub fn resume(&mut self, eval: &Eval, fiber: u64, with: &Answer) -> Result<Rc<Evaluated>, Stop> {
        let key = fingerprint(&(eval.mark(), fiber, with.mark()));
        if let Some(known) = self.instances.get(&key) {
            return Ok(known.clone());
        }
        let mut machine = self.restore(eval)?;
        machine.answer(fiber, (**with).clone());
        self.remember(key, machine, BASE)
    }

    /// Resumes with the cancellation of the instance.
    pub fn cancel(&mut self, eval: &Eval, what: &Part<Cancellation>) -> Result<Rc<Evaluated>, Stop> {
        let key = fingerprint(&(eval.mark(), "cancel", what.mark()));
        if let Some(known) = self.instances.get(&key) {
            return Ok(known.clone());
        }
        let mut machine = self.restore(eval)?;
        machine.cancel_instance(what);
        self.remember(key, machine, BASE)
    }

    /// Resumes as if these answers had come at one moment, like a replay without turns.
    pub fn resume_at_once(&mut self, eval: &Eval, with: &[(u64, Answer)]) -> Result<Rc<Evaluated>, Stop> {
        let mut machine = self.restore(eval)?;
        for (fiber, answer) in with {
            machine.answer(*fiber, (**answer).clone());
        }
        Ok(Rc::new(step(machine, BASE)?))
    }

    /// Whether the program wants another attempt after an error of a fiber's request. The inner
    /// error is one that the program throws while it decides.
    pub fn judge(
        &mut self,
        eval: &Eval,
        fiber: u64,
        error: &Answer,
    ) -> Result<Result<bool, ErrorData>, Stop> {
        let mut machine = self.restore(eval)?;
        Ok(match &**error {
            Ok(_) => Ok(false),
            Err(error) => machine.judge(fiber, error),
        })
    }

    fn restore(&self, eval: &Eval) -> Result<Machine, Stop> {
        let machine = Machine::restore(self.image.clone(), eval);
        let machine = machine.map(Machine::without_provenance);
        machine.ok_or_else(|| Stop::Fault("a machine can't be restored".into()))
    }

    fn remember(&mut self, key: u128, machine: Machine, base: u64) -> Result<Rc<Evaluated>, Stop> {
        let evaluated = Rc::new(step(machine, base)?);
        evaluated.requests.iter().for_each(|(_, _, asked)| self.notices.asks(asked));
        self.bytes += 400 + evaluated.eval.as_ref().map_or(0, |eval| eval.len());
        if self.bytes > REMEMBERED_BYTES {
            self.instances.clear();
            self.bytes = 0;
        }
        self.instances.insert(key, evaluated.clone());
        Ok(evaluated)
    }

    /// Returns a turn that is remembered.
    pub fn turn(&self, key: u128) -> Option<Rc<Turn>> {
        self.turns.get(&key).cloned()
    }

    pub fn remember_turn(&mut self, key: u128, turn: Rc<Turn>) {
        self.turns_bytes += 1000 + turn.instance.eval_bytes();
        if self.turns_bytes > REMEMBERED_BYTES {
            self.turns.clear();
            self.turns_bytes = 0;
        }
        self.turns.insert(key, turn);
    }
}

/// The name of the main instance's function in messages.
pub const MAIN_FUNCTION: &str = "script";

impl Done {
    /// Returns the outcome of a mock that is an operation, after the operation has run.
    pub fn then(self, ran: Done) -> Done {
        let turns = if ran.turns.is_empty() { self.turns } else { ran.turns };
        Done { world: self.world, choice: self.choice, turns, ..ran }
    }

    pub fn of(result: Option<Answer>) -> Done {
        Done {
            choice: None,
            result,
            state: None,
            sends: Vec::new(),
            world: None,
            read: None,
            turns: Turns::new(),
        }
    }
}

fn data(value: &Value) -> Data {
    Data::encode(value).unwrap_or_else(|_| Data::null())
}

/// Returns the handle of an instance, as an answer.
pub fn handle(id: &str) -> Answer {
    answer(Ok(data(&instance_handle(id))))
}

/// Runs a machine up to its next requests or its end. New requests are numbered from `base`.
fn step(mut machine: Machine, base: u64) -> Result<Evaluated, Stop> {
    let progress = machine.run_and_note(FUEL);
    if matches!(progress, Progress::OutOfFuel) {
        return Err(Stop::Endless);
    }
    let requests = machine.take_requests();
    let withdrawn = machine.take_withdrawn();
    let count = machine.requested_since(base);
    let fibers = machine.renumber(BASE);
    let requests = requests.into_iter().filter_map(|request| {
        let fiber = *fibers.get(&request.seq)?;
        Some((fiber, request.seq - base, asked(request)))
    });
    let requests = requests.collect();
    let (eval, result) = match progress {
        Progress::Done(result) => (None, Some(answer(result))),
        _ => {
            let bytes = machine.snapshot();
            let part = Part::of(bytes.clone(), &bytes);
            (Some(part), None)
        }
    };
    Ok(Evaluated { eval, requests, count, withdrawn, result })
}
