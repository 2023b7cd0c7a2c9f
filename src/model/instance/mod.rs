//! Instances: the effect of each message on them, and its consequences.
//!
//! The three models share this code, and differ in which of its results last. An instance takes one
//! message at one moment. Evaluation touches nothing else, so it belongs to the same moment. Its
//! consequences are listed as [`Out`], and the model applies them.

mod ends;
mod past;
mod requests;
mod rewinding;
mod sends;
mod taking;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use crate::machine::options::{self, Later, Policy};
use crate::machine::{Cancellation, Data, ErrorData, IfExists, RequestKind, Value, format};

use super::evaluate::{Eval, Evaluator, MAIN_FUNCTION, Stop};
use super::lives::{Execution, Life, LifeId, Owner};
use super::message::{Answer, Asked, EntityName, Id, Mail, Message, Name, Timer, Waiter, answer};
use super::part::{Part, fingerprint};
use super::program::Program;
use super::timers::When;

pub use past::{Input, Past, Target};
pub use rewinding::{Back, rewind};
pub use sends::sent;

/// An instance. `E` is the kept form of its evaluation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Instance<E> {
    pub function: Id,
    /// The arguments of its call or start.
    args: Data,
    pub parent: Option<LifeId>,
    pub owner: Owner,
    pub state: State<E>,
    /// The requests without an answer, by the fiber that waits.
    pub open: BTreeMap<u64, Open>,
    /// The names of withdrawn requests whose answers are still to come.
    stale: BTreeSet<u64>,
    /// The number of the next request.
    next: u64,
    /// The number of the attempt, for a call with `retry`.
    attempt: u32,
    /// The life, and how often the instance has begun anew.
    pub execution: Execution,
    /// The number of children that it has called or started without naming them.
    children: u64,
    /// The events that nothing has received, in the order of arrival.
    pub events: Vec<(Id, Data)>,
    /// The requests that are told of its end.
    pub waiters: Vec<Waiter>,
    pub section: Option<Section>,
    pub suspended: bool,
    /// The cancellation whose clean-up runs.
    pub cancelled: Option<Part<Cancellation>>,
    /// Whether the instance was started for a later time, and has not begun.
    pub scheduled: bool,
    /// The messages that came while it was suspended, or after an end that may be rewound.
    held_back: VecDeque<Mail>,
    pub custom: Option<Data>,
    /// The printed values, if they are observed.
    pub printed: Vec<Data>,
    /// The activities that may have done their work without a result, as hashes of name and
    /// arguments.
    uncertain: BTreeSet<u128>,
    /// The past that a rewind needs.
    past: Past,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State<E> {
    Running(E),
    Ended {
        outcome: Outcome,
        /// Whether somebody was told of the end.
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
    /// The name by which its answer refers to it.
    pub name: u64,
    pub asked: Asked,
    /// The number of the attempt under way, from 1.
    pub attempt: u32,
    /// The child that it calls or starts.
    child: Option<Id>,
    /// The error of the last attempt, until the next attempt is due.
    failed: Option<Answer>,
    /// The position among the requests that wait for an event of the same name.
    turn: u64,
}

/// A critical section that is requested or held.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Section {
    owner: Waiter,
    pub set: Arc<[EntityName]>,
    pub held: bool,
}

/// A consequence of an instance's step.
#[derive(Clone, Debug, PartialEq)]
pub enum Out {
    Send {
        to: Name,
        mail: Mail,
    },
    /// A signal to be sent when it is due.
    Later {
        when: When,
        to: EntityName,
        mail: Mail,
    },
    /// An activity or an effect to be performed.
    Begin {
        seq: u64,
        task: Task,
    },
    SetTimer {
        when: When,
        seq: u64,
        timer: Timer,
    },
    /// Removes the timers, the task and the results of a request. Without `all`, the limit of all
    /// attempts stays, because another attempt follows.
    Clear {
        seq: u64,
        all: bool,
    },
    /// Gives up the task and the timers of a request. Results that have come for it stay.
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
    /// The idempotency key.
    pub key: Id,
}

/// Something that should not happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Anomaly {
    /// A message that does nothing, described, with the error.
    Lost { what: String, error: Answer },
    /// An activity that may have done its work, and is asked to do it again under another key.
    Repeated { by: Id, asked: Asked },
    /// An invariant that did not hold at a moment between two configurations.
    Broken { at: usize, why: String },
}

/// The result of an instance's step.
pub struct Turn {
    pub instance: Part<Instance<Eval>>,
    pub out: Vec<Out>,
    /// The new requests, for a history.
    pub asked: Vec<Asked>,
}

/// An answer for the request of a fiber.
struct Ready {
    fiber: u64,
    seq: u64,
    result: Answer,
}

/// An instance while it takes a step.
struct Step<'s, 'p> {
    evaluator: &'s mut Evaluator<'p>,
    id: Id,
    me: Instance<Eval>,
    /// The evaluation so far; `None` at its end.
    eval: Option<Eval>,
    /// The requests for lines, by fiber and number. They are answered before anything else.
    lines: VecDeque<(u64, u64)>,
    /// The answers that are not yet evaluated with.
    ready: VecDeque<Ready>,
    out: Vec<Out>,
    asked: Vec<Asked>,
}

/// The number of a timer that is of no request. An instance that has not begun has no requests.
const NO_REQUEST: u64 = 0;

/// Returns the message that begins the main instance of a program.
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
        later: None,
    }
}

/// **begin**: begins an instance, in a life of its id. One that is started for a later time is
/// evaluated when that time has come.
pub fn begin(
    evaluator: &mut Evaluator<'_>,
    id: &Id,
    life: Life,
    message: &Message,
) -> Result<Rc<Turn>, Stop> {
    let Message::Begin { function, args, parent, owner, waiter, attempt, later, .. } = message else {
        return Err(Stop::Fault(format!("{id} begins with {message}")));
    };
    let later = later.filter(|later| !matches!(later, Later::After(..=0)));
    let key = fingerprint(&(id, function, args, parent, waiter, (attempt, later), life));
    if let Some(known) = evaluator.turn(key) {
        return Ok(known);
    }
    let me = Instance {
        function: function.clone(),
        args: args.clone(),
        parent: parent.clone(),
        owner: owner.clone(),
        attempt: *attempt,
        // A placeholder, until the first step is done.
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
        cancelled: None,
        scheduled: later.is_some(),
        held_back: VecDeque::new(),
        custom: None,
        printed: Vec::new(),
        uncertain: BTreeSet::new(),
        past: Past::default(),
    };
    let mut step = Step::of(evaluator, id, me);
    match later {
        Some(later) => {
            step.out.push(Out::SetTimer { when: When::of(later), seq: NO_REQUEST, timer: Timer::Begin });
        }
        None => step.begin()?,
    }
    let turn = Rc::new(step.done());
    evaluator.remember_turn(key, turn.clone());
    Ok(turn)
}

/// Lets an instance take a message. The same instance always does the same with the same message,
/// so the turn is remembered.
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

/// Lets an instance take several answers at one moment, like a replay without turns.
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
    if step.me.scheduled {
        return Ok(step.done());
    }
    let ready = step.ready.drain(..);
    let answers: Vec<(u64, Answer)> = ready.map(|ready| (ready.fiber, ready.result)).collect();
    let evaluated = step.evaluator.resume_at_once(eval, &answers)?;
    step.evaluated(&evaluated)?;
    step.go_on()?;
    Ok(step.done())
}

/// Refuses to replace an ended instance, because `running` in its tree has not ended.
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

/// Handles a message for an instance that does not exist. The message is not a `Begin`.
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
        | Message::Cancel { ack: Some(ack), .. }
        | Message::Suspend { ack: Some(ack) }
        | Message::Resume { ack: Some(ack) } => vec![reply(ack, error)],
        Message::Answer { .. }
        | Message::Due { .. }
        | Message::Terminate { by: Some(_), .. }
        | Message::Cancel { of: Some(_), .. } => Vec::new(),
        other => vec![Out::Anomaly(Anomaly::Lost { what: format!("{other} for {id}"), error })],
    }
}

/// Returns the output that sends a message.
pub fn send(to: Name, message: Message) -> Out {
    Out::Send { to, mail: Part::new(message) }
}

/// Returns the output that answers a waiting request.
pub fn reply(to: &Waiter, result: Answer) -> Out {
    let message = Message::Answer { execution: to.execution, seq: to.seq, result, sends: Vec::new() };
    send(Name::Instance(to.instance.clone()), message)
}

fn null() -> Answer {
    answer(Ok(Data::null()))
}

impl<E> Instance<E> {
    /// Returns the result of an instance that has ended.
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

    /// Whether the instance has ended.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended { .. })
    }

    /// Returns the error of an instance that has failed.
    pub fn failure(&self) -> Option<ErrorData> {
        match &self.state {
            State::Ended { outcome, .. } => outcome.error(),
            State::Running(_) => None,
        }
    }

    /// Returns the status in one word.
    pub fn word(&self) -> &'static str {
        match &self.state {
            State::Running(_) if self.suspended => "suspended",
            State::Running(_) if self.scheduled => "scheduled",
            State::Running(_) => "running",
            State::Ended { outcome: Outcome::Completed(_), .. } => "completed",
            State::Ended { outcome: Outcome::Failed(_), .. } => "failed",
            State::Ended { outcome: Outcome::Terminated(_), .. } => "terminated",
        }
    }

    /// Whether the instance sets no other timer while it has one.
    pub fn sets_one_timer(&self) -> bool {
        self.open.len() <= 1
            && self.cancelled.is_none()
            && !(self.has_ended() && self.past != Past::default())
    }

    /// Returns the id with the present life.
    pub fn life_id(&self, id: &Id) -> LifeId {
        LifeId { id: id.clone(), life: self.execution.life }
    }

    /// Returns the request with this name, and its fiber.
    pub fn open_named(&self, name: u64) -> Option<(u64, &Open)> {
        self.open.iter().find(|(_, open)| open.name == name).map(|(fiber, open)| (*fiber, open))
    }

    /// Whether an answer may come that nobody waits for.
    pub fn has_stale(&self) -> bool {
        !self.stale.is_empty()
    }

    /// Returns the instance with another form of its evaluation.
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
            cancelled: self.cancelled,
            scheduled: self.scheduled,
            held_back: self.held_back,
            custom: self.custom,
            printed: self.printed,
            uncertain: self.uncertain,
            past: self.past,
        }
    }
}

impl Outcome {
    /// Returns the error of a failure.
    pub fn error(&self) -> Option<ErrorData> {
        match self {
            Outcome::Failed(result) => (**result).as_ref().err().cloned(),
            _ => None,
        }
    }
}

/// The outcome, described for people.
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
    /// Returns the size of the evaluation, in bytes.
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
            RequestKind::Activity { options, .. } => options::recorded_policy(options),
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

    /// Returns the key of a step.
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
