//! An instance: what each message does to it, and what comes of that.
//!
//! The three models agree in this and differ in what of it lasts. A message is taken by one instance at one moment;
//! evaluation touches nothing else, so it belongs to that moment, and what it brings about is listed as
//! [`Out`], for the model to see to.

mod ends;
mod past;
mod requests;
mod rewinding;
mod sends;
mod taking;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use crate::machine::options::{self, Policy, policy};
use crate::machine::{Data, ErrorData, IfExists, RequestKind, Value, format};

use super::evaluate::{Eval, Evaluator, MAIN_FUNCTION, Stop};
use super::lives::{Execution, Life, LifeId, Owner};
use super::message::{Answer, Asked, EntityName, Id, Mail, Message, Name, Timer, Waiter, answer};
use super::part::{Part, fingerprint};
use super::program::Program;
use super::timers::When;

pub use past::{Past, Target};
pub use rewinding::{Back, rewind};
pub use sends::sent;

/// An instance. `E` is what is kept of its evaluation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Instance<E> {
    pub function: Id,
    /// What it was called or started with.
    args: Data,
    pub parent: Option<LifeId>,
    pub owner: Owner,
    pub state: State<E>,
    /// Its requests without an answer, by the fiber that waits.
    pub open: BTreeMap<u64, Open>,
    /// The names of withdrawn requests whose answers are still to come.
    stale: BTreeSet<u64>,
    /// The number of the next request.
    next: u64,
    /// Which attempt of a call with `retry` it is.
    attempt: u32,
    /// In which of its lives it is, and how often it began anew.
    pub execution: Execution,
    /// How many children it has called or started without naming them.
    children: u64,
    /// Events that nobody has received, in the order in which they came.
    pub events: Vec<(Id, Data)>,
    /// Who is told of its end.
    pub waiters: Vec<Waiter>,
    pub section: Option<Section>,
    pub suspended: bool,
    /// What came while it was held up.
    held_back: VecDeque<Mail>,
    pub custom: Option<Data>,
    /// What it printed, when that is observed.
    pub printed: Vec<Data>,
    /// Activities that may have done their work though they gave none: what was asked.
    uncertain: BTreeSet<u128>,
    /// What a rewinding needs to know.
    past: Past,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State<E> {
    Running(E),
    Ended {
        outcome: Outcome,
        /// Somebody learned of it.
        told: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Completed(Answer),
    Failed(Answer),
    Terminated(Data),
}

/// A request without an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Open {
    /// By what its answer names it.
    pub name: u64,
    pub asked: Asked,
    /// The attempt that is under way, from 1.
    pub attempt: u32,
    /// The child that it calls or starts.
    child: Option<Id>,
    /// The error of the last attempt, while the next is not due.
    failed: Option<Answer>,
    /// Its turn among those that wait for an event of one name.
    turn: u64,
}

/// A critical section that is asked for or held.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Section {
    owner: Waiter,
    pub set: Arc<[EntityName]>,
    pub held: bool,
}

/// What an instance's step brings about.
#[derive(Clone, Debug, PartialEq)]
pub enum Out {
    Send {
        to: Name,
        mail: Mail,
    },
    /// A signal that is sent when it is due.
    Later {
        when: When,
        to: EntityName,
        mail: Mail,
    },
    /// An activity or an effect is to be done.
    Begin {
        seq: u64,
        task: Task,
    },
    SetTimer {
        when: When,
        seq: u64,
        timer: Timer,
    },
    /// Timers, tasks and results for that request are no more; `all` but the limit of all attempts together, when it goes on.
    Clear {
        seq: u64,
        all: bool,
    },
    /// It is not done any more, and what has come for it stays.
    GiveUp {
        seq: u64,
    },
    Anomaly(Anomaly),
}

/// Work for the world: an attempt at an activity, or an effect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Task {
    pub execution: Execution,
    pub attempt: u32,
    pub asked: Asked,
    /// Its idempotency key.
    pub key: Id,
}

/// What should not happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Anomaly {
    /// A message that does nothing: what it was, and the error.
    Lost { what: String, error: Answer },
    /// An activity may have done its work, and is asked to do it again under another key.
    Repeated { by: Id, asked: Asked },
    /// An invariant did not hold at a moment between two configurations.
    Broken { at: usize, why: String },
}

/// What an instance's step came to.
pub struct Turn {
    pub instance: Part<Instance<Eval>>,
    pub out: Vec<Out>,
    /// What it newly asked for, for a history.
    pub asked: Vec<Asked>,
}

/// An answer for the request of a fiber.
struct Ready {
    fiber: u64,
    seq: u64,
    result: Answer,
}

/// An instance that takes a step.
struct Step<'s, 'p> {
    evaluator: &'s mut Evaluator<'p>,
    id: Id,
    me: Instance<Eval>,
    /// Where its evaluation stands; none when it is at its end.
    eval: Option<Eval>,
    /// Requests for lines, which are answered before anything else, by fiber and number.
    lines: VecDeque<(u64, u64)>,
    /// Answers that it has not evaluated with.
    ready: VecDeque<Ready>,
    out: Vec<Out>,
    asked: Vec<Asked>,
}

/// What begins the main instance of a program.
pub fn beginning(program: &Program) -> Message {
    Message::Begin {
        function: MAIN_FUNCTION.into(),
        args: program.args.clone(),
        if_exists: IfExists::Join,
        parent: None,
        owner: Owner::default(),
        waiter: None,
        started: None,
        attempt: 1,
    }
}

/// An instance begins, in a life of its id.
pub fn begin(
    evaluator: &mut Evaluator<'_>,
    id: &Id,
    life: Life,
    message: &Message,
) -> Result<Rc<Turn>, Stop> {
    let Message::Begin { function, args, parent, owner, waiter, attempt, .. } = message else {
        return Err(Stop::Fault(format!("{id} begins with {message}")));
    };
    let key = fingerprint(&(id, function, args, parent, waiter, attempt, life));
    if let Some(known) = evaluator.turn(key) {
        return Ok(known);
    }
    let evaluated = evaluator.begin(function, args, id, *attempt)?;
    let me = Instance {
        function: function.clone(),
        args: args.clone(),
        parent: parent.clone(),
        owner: owner.clone(),
        attempt: *attempt,
        // What stands in for the state until the first step is noted.
        state: State::Running(Part::new(Vec::new())),
        open: BTreeMap::new(),
        stale: BTreeSet::new(),
        next: 0,
        execution: Execution { number: 0, life },
        children: 0,
        events: Vec::new(),
        waiters: waiter.iter().cloned().collect(),
        section: None,
        suspended: false,
        held_back: VecDeque::new(),
        custom: None,
        printed: Vec::new(),
        uncertain: BTreeSet::new(),
        past: Past::default(),
    };
    let mut step = Step::of(evaluator, id, me);
    step.evaluated(&evaluated)?;
    step.go_on()?;
    let turn = Rc::new(step.done());
    evaluator.remember_turn(key, turn.clone());
    Ok(turn)
}

/// An instance takes a message. The same instance does the same with the same message: what was seen is remembered.
pub fn take(
    evaluator: &mut Evaluator<'_>,
    id: &Id,
    me: &Part<Instance<Eval>>,
    mail: &Mail,
) -> Result<Rc<Turn>, Stop> {
    let key = fingerprint(&(id, me, mail));
    if let Some(known) = evaluator.turn(key) {
        return Ok(known);
    }
    let turn = Rc::new(take_anew(evaluator, id, me, mail)?);
    evaluator.remember_turn(key, turn.clone());
    Ok(turn)
}

fn take_anew(
    evaluator: &mut Evaluator<'_>,
    id: &Id,
    me: &Instance<Eval>,
    message: &Message,
) -> Result<Turn, Stop> {
    let mut step = Step::of(evaluator, id, me.clone());
    match step.eval {
        Some(_) => {
            step.take(message)?;
            step.go_on()?;
        }
        None => step.refuse(message),
    }
    Ok(step.done())
}

/// Several answers at one moment, as a replay that knows of no turns has them.
pub fn take_at_once(
    evaluator: &mut Evaluator<'_>,
    id: &Id,
    me: &Instance<Eval>,
    messages: &[Mail],
) -> Result<Turn, Stop> {
    let State::Running(eval) = &me.state else { return take_anew(evaluator, id, me, &messages[0]) };
    let mut step = Step::of(evaluator, id, me.clone());
    for message in messages {
        step.take(message)?;
    }
    let ready = step.ready.drain(..);
    let answers: Vec<(u64, Answer)> = ready.map(|ready| (ready.fiber, ready.result)).collect();
    let evaluated = step.evaluator.resume_at_once(eval, &answers)?;
    step.evaluated(&evaluated)?;
    step.go_on()?;
    Ok(step.done())
}

/// An instance that has ended is not replaced, since one that goes with it has not ended.
pub fn not_replaced(
    evaluator: &mut Evaluator<'_>,
    id: &Id,
    me: &Instance<Eval>,
    message: &Message,
    running: &Id,
) -> Turn {
    let mut step = Step::of(evaluator, id, me.clone());
    step.is_not_replaced(message, running);
    step.done()
}

/// Whether a message begins another life of an instance that has ended.
pub fn replaces<E>(me: &Instance<E>, message: &Message) -> bool {
    me.has_ended() && matches!(message, Message::Begin { if_exists: IfExists::Replace, .. })
}

/// A message for an instance that does not exist; a `Begin` is none of these.
pub fn absent(id: &Id, message: &Message) -> Vec<Out> {
    let error = answer(Err(ErrorData::with(
        "unknown_instance",
        format!("there is no instance `{id}`"),
        [("id", Value::str(&**id))],
    )));
    match message {
        Message::Wait(waiter) => vec![reply(waiter, error)],
        Message::Event { ack: Some(ack), .. }
        | Message::Terminate { ack: Some(ack), .. }
        | Message::Suspend { ack: Some(ack) }
        | Message::Resume { ack: Some(ack) } => vec![reply(ack, error)],
        Message::Answer { .. } | Message::Due { .. } | Message::Terminate { by: Some(_), .. } => Vec::new(),
        other => vec![Out::Anomaly(Anomaly::Lost { what: format!("{other} for {id}"), error })],
    }
}

/// A message that is sent.
pub fn send(to: Name, message: Message) -> Out {
    Out::Send { to, mail: Part::new(message) }
}

/// An answer to somebody.
pub fn reply(to: &Waiter, result: Answer) -> Out {
    let message = Message::Answer { execution: to.execution, seq: to.seq, result, sends: Vec::new() };
    send(Name::Instance(to.instance.clone()), message)
}

fn null() -> Answer {
    answer(Ok(Data::null()))
}

impl<E> Instance<E> {
    /// The result of one that has ended.
    pub fn result(&self, id: &str) -> Option<Answer> {
        let State::Ended { outcome, .. } = &self.state else { return None };
        Some(match outcome {
            Outcome::Completed(result) | Outcome::Failed(result) => result.clone(),
            Outcome::Terminated(why) => {
                let why = why.decode();
                let message = match &why {
                    Value::Null => format!("{id} was terminated"),
                    why => format!("{id} was terminated: {}", format::display(why)),
                };
                answer(Err(ErrorData::with("terminated", message, [("why", why)])))
            }
        })
    }

    /// Whether it has come to its end.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended { .. })
    }

    /// The error of one that has failed.
    pub fn failure(&self) -> Option<ErrorData> {
        match &self.state {
            State::Ended { outcome, .. } => outcome.error(),
            State::Running(_) => None,
        }
    }

    /// One word on where it is in its life.
    pub fn word(&self) -> &'static str {
        match &self.state {
            State::Running(_) if self.suspended => "suspended",
            State::Running(_) => "running",
            State::Ended { outcome: Outcome::Completed(_), .. } => "completed",
            State::Ended { outcome: Outcome::Failed(_), .. } => "failed",
            State::Ended { outcome: Outcome::Terminated(_), .. } => "terminated",
        }
    }

    /// Whether it sets no other timer while it has one.
    pub fn sets_one_timer(&self) -> bool {
        self.open.len() <= 1 && !(self.has_ended() && self.past != Past::default())
    }

    /// This life of it.
    pub fn life_id(&self, id: &Id) -> LifeId {
        LifeId { id: id.clone(), life: self.execution.life }
    }

    /// The request of that name.
    pub fn open_named(&self, name: u64) -> Option<(u64, &Open)> {
        self.open.iter().find(|(_, open)| open.name == name).map(|(fiber, open)| (*fiber, open))
    }

    /// Whether an answer may come that nobody waits for.
    pub fn has_stale(&self) -> bool {
        !self.stale.is_empty()
    }

    /// As it is, with another evaluation.
    pub fn with<F>(self, keep: impl FnOnce(E) -> F) -> Instance<F> {
        let state = match self.state {
            State::Running(eval) => State::Running(keep(eval)),
            State::Ended { outcome, told } => State::Ended { outcome, told },
        };
        Instance {
            state,
            function: self.function,
            args: self.args,
            attempt: self.attempt,
            parent: self.parent,
            owner: self.owner,
            open: self.open,
            stale: self.stale,
            next: self.next,
            execution: self.execution,
            children: self.children,
            events: self.events,
            waiters: self.waiters,
            section: self.section,
            suspended: self.suspended,
            held_back: self.held_back,
            custom: self.custom,
            printed: self.printed,
            uncertain: self.uncertain,
            past: self.past,
        }
    }
}

impl Outcome {
    /// The error of a failure.
    pub fn error(&self) -> Option<ErrorData> {
        match self {
            Outcome::Failed(result) => (**result).as_ref().err().cloned(),
            _ => None,
        }
    }
}

/// For people.
impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Completed(result) | Outcome::Failed(result) => match &**result {
                Ok(value) => write!(f, "completed with {}", super::message::shown(value)),
                Err(error) => write!(f, "failed: {}", error.title()),
            },
            Outcome::Terminated(why) => write!(f, "was terminated: {}", super::message::shown(why)),
        }
    }
}

impl Instance<Eval> {
    /// The size of its evaluation, in bytes.
    pub fn eval_bytes(&self) -> usize {
        match &self.state {
            State::Running(eval) => eval.len(),
            State::Ended { .. } => 0,
        }
    }
}

impl Open {
    fn policy(&self) -> Policy {
        match &self.asked.what {
            RequestKind::Activity { options, .. } => policy(&options.decode()).unwrap_or_default(),
            _ => Policy::default(),
        }
    }
}

impl<'s, 'p> Step<'s, 'p> {
    fn of(evaluator: &'s mut Evaluator<'p>, id: &Id, me: Instance<Eval>) -> Step<'s, 'p> {
        let eval = match &me.state {
            State::Running(eval) => Some(eval.clone()),
            State::Ended { .. } => None,
        };
        let (lines, ready, out, asked) = (VecDeque::new(), VecDeque::new(), Vec::new(), Vec::new());
        Step { evaluator, id: id.clone(), me, eval, lines, ready, out, asked }
    }

    fn done(mut self) -> Turn {
        if let Some(eval) = self.eval {
            self.me.state = State::Running(eval);
        }
        Turn { instance: Part::new(self.me), out: self.out, asked: self.asked }
    }

    fn say(&mut self, to: &str, message: Message) {
        self.out.push(send(Name::Instance(to.into()), message));
    }

    fn tell(&mut self, to: &EntityName, message: Message) {
        self.out.push(send(Name::Entity(to.clone()), message));
    }

    fn waiter(&self, name: u64) -> Waiter {
        Waiter { instance: self.id.clone(), execution: self.me.execution, seq: name }
    }

    /// The key of a step.
    fn key(&self, name: u64) -> Id {
        let Execution { number, life } = self.me.execution;
        let id = match life {
            Life(0) => self.id.to_string(),
            Life(life) => format!("{}~{life}", self.id),
        };
        match number {
            0 => format!("{id}-{name}").into(),
            number => format!("{id}.{number}-{name}").into(),
        }
    }
}

fn first_text(args: &Data) -> String {
    args.items().first().map(format::display).unwrap_or_default()
}

fn lock_timeout(args: &Data) -> Option<i64> {
    args.items().get(1).and_then(|options| options::lock(options).ok().flatten())
}
