//! An instance: what each message does to it, and what comes of that.
//!
//! The three models agree in this and differ in what of it lasts. A message is taken by one instance at one moment;
//! evaluation touches nothing else, so it belongs to that moment, and what it brings about is listed as
//! [`Out`], for the model to see to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use crate::machine::options::{self, Policy, policy};
use crate::machine::{Data, EntityId, ErrorData, Value, What, child_id, format};

use super::evaluate::{Eval, Evaluated, Evaluator, Stop, handle};
use super::message::{Answer, Asked, Id, Mail, Message, Name, PlaceOf, Timer, Waiter, answer};
use super::part::{Part, fingerprint};
use super::program::{Mutation, Naming};

/// An instance. `E` is what is kept of its evaluation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Instance<E> {
    pub function: Id,
    pub parent: Option<Id>,
    pub state: State<E>,
    /// Its requests without an answer, by the fiber that waits.
    pub open: BTreeMap<u64, Open>,
    /// The names of withdrawn requests whose answers are still to come.
    stale: BTreeSet<u64>,
    /// The number of the next request.
    next: u64,
    /// How often it began anew.
    pub execution: u32,
    /// How many children it has called or started without naming them.
    children: u64,
    /// Events that nobody has received, by name.
    pub events: BTreeMap<Id, VecDeque<Data>>,
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
}

/// A critical section that is asked for or held.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Section {
    owner: Waiter,
    pub set: Arc<[Arc<EntityId>]>,
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
        due: i64,
        to: Arc<EntityId>,
        mail: Mail,
    },
    /// An activity or an effect is to be done.
    Begin {
        seq: u64,
        task: Task,
    },
    SetTimer {
        due: i64,
        seq: u64,
        timer: Timer,
    },
    /// Timers, tasks and results for that request are no more.
    Clear {
        seq: u64,
    },
    Trouble(Trouble),
}

/// Work for the world: an attempt at an activity, or an effect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Task {
    pub execution: u32,
    pub attempt: u32,
    pub asked: Asked,
    /// Its idempotency key.
    pub key: Id,
}

/// What should not happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
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

/// An instance that takes a step.
struct Step<'s, 'p> {
    evaluator: &'s mut Evaluator<'p>,
    now: i64,
    id: Id,
    me: Instance<Eval>,
    /// Where its evaluation stands; none when it is at its end.
    eval: Option<Eval>,
    /// Answers that it has not evaluated with, each for the request of a fiber.
    ready: VecDeque<(u64, Answer)>,
    out: Vec<Out>,
    asked: Vec<Asked>,
}

/// An instance begins.
pub fn begin(
    evaluator: &mut Evaluator<'_>,
    now: i64,
    id: &Id,
    function: &Id,
    args: &Data,
    parent: Option<Id>,
    waiters: Vec<Waiter>,
) -> Result<Turn, Stop> {
    let evaluated = evaluator.begin(function, args, id)?;
    // What stands in for the state until the first step is noted.
    let eval = Part::new(Vec::new());
    let me = Instance {
        function: function.clone(),
        parent,
        state: State::Running(eval.clone()),
        open: BTreeMap::new(),
        stale: BTreeSet::new(),
        next: 0,
        execution: 0,
        children: 0,
        events: BTreeMap::new(),
        waiters,
        section: None,
        suspended: false,
        held_back: VecDeque::new(),
        custom: None,
        printed: Vec::new(),
        uncertain: BTreeSet::new(),
    };
    let mut step = Step {
        evaluator,
        now,
        id: id.clone(),
        me,
        eval: Some(eval),
        ready: VecDeque::new(),
        out: Vec::new(),
        asked: Vec::new(),
    };
    step.evaluated(&evaluated)?;
    step.go_on()?;
    Ok(step.done())
}

/// An instance takes a message. The same instance does the same with the same message: what was seen is remembered.
pub fn take(
    evaluator: &mut Evaluator<'_>,
    now: i64,
    id: &Id,
    me: &Part<Instance<Eval>>,
    mail: &Mail,
) -> Result<Rc<Turn>, Stop> {
    let key = fingerprint(&(id, me, mail, now));
    if let Some(known) = evaluator.turn(key) {
        return Ok(known);
    }
    let turn = Rc::new(take_anew(evaluator, now, id, me, mail)?);
    evaluator.remember_turn(key, turn.clone());
    Ok(turn)
}

fn take_anew(
    evaluator: &mut Evaluator<'_>,
    now: i64,
    id: &Id,
    me: &Instance<Eval>,
    message: &Message,
) -> Result<Turn, Stop> {
    let eval = match &me.state {
        State::Running(eval) => Some(eval.clone()),
        State::Ended { .. } => None,
    };
    let mut step = Step {
        evaluator,
        now,
        id: id.clone(),
        me: me.clone(),
        eval,
        ready: VecDeque::new(),
        out: Vec::new(),
        asked: Vec::new(),
    };
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
    now: i64,
    id: &Id,
    me: &Instance<Eval>,
    messages: &[Mail],
) -> Result<Turn, Stop> {
    let State::Running(eval) = &me.state else { return take_anew(evaluator, now, id, me, &messages[0]) };
    let mut step = Step {
        evaluator,
        now,
        id: id.clone(),
        me: me.clone(),
        eval: Some(eval.clone()),
        ready: VecDeque::new(),
        out: Vec::new(),
        asked: Vec::new(),
    };
    for message in messages {
        step.take(message)?;
    }
    let answers: Vec<(u64, Answer)> = step.ready.drain(..).collect();
    let evaluated = step.evaluator.resume_at_once(eval, &answers)?;
    step.evaluated(&evaluated)?;
    step.go_on()?;
    Ok(step.done())
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
        other => vec![Out::Trouble(Trouble::Lost { what: format!("{other} for {id}"), error })],
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
    /// Whether it has come to its end.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended { .. })
    }

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
            parent: self.parent,
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
        }
    }
}

impl Open {
    fn policy(&self) -> Policy {
        match &self.asked.what {
            What::Activity { options, .. } => policy(&options.decode()).unwrap_or_default(),
            _ => Policy::default(),
        }
    }
}

impl Step<'_, '_> {
    fn done(mut self) -> Turn {
        if let Some(eval) = self.eval {
            self.me.state = State::Running(eval);
        }
        Turn { instance: Part::new(self.me), out: self.out, asked: self.asked }
    }

    fn say(&mut self, to: &str, message: Message) {
        self.out.push(send(Name::Instance(to.into()), message));
    }

    fn tell(&mut self, to: &Arc<EntityId>, message: Message) {
        self.out.push(send(Name::Entity(to.clone()), message));
    }

    fn waiter(&self, name: u64) -> Waiter {
        Waiter { instance: self.id.clone(), execution: self.me.execution, seq: name }
    }

    /// The key of a step.
    fn key(&self, name: u64) -> Id {
        match self.me.execution {
            0 => format!("{}-{name}", self.id).into(),
            execution => format!("{}.{execution}-{name}", self.id).into(),
        }
    }

    /// The id of the child that a request calls or starts, if it does.
    fn child(&mut self, asked: &Asked, name: u64) -> Option<Id> {
        let What::Orchestration { options, .. } = &asked.what else { return None };
        if let Some(own) = options::child(&options.decode()).unwrap_or_default().id {
            return Some(own.into());
        }
        let number = match self.evaluator.program.naming {
            Naming::ByNumber => name,
            Naming::ByPlace => self.me.children,
        };
        self.me.children += 1;
        let id = match self.me.execution {
            0 => child_id(&self.id, number),
            execution => child_id(&format!("{}.{execution}", self.id), number),
        };
        Some(id.into())
    }

    // ---- messages

    fn take(&mut self, message: &Message) -> Result<(), Stop> {
        match message {
            Message::Answer { .. } | Message::Due { .. } if self.me.suspended => {
                self.me.held_back.push_back(Part::new(message.clone()));
            }
            Message::Answer { execution, seq, result, sends } => {
                if *execution != self.me.execution {
                    return Ok(());
                }
                match self.me.open_named(*seq) {
                    Some((fiber, _)) => self.answered(fiber, result.clone(), sends)?,
                    None => {
                        self.me.stale.remove(seq);
                    }
                }
            }
            Message::Due { execution, seq, timer } if *execution == self.me.execution => {
                if let Some((fiber, _)) = self.me.open_named(*seq) {
                    self.due(fiber, *timer)?;
                }
            }
            Message::Due { .. } => {}
            Message::Event { name, payload, ack } => {
                self.me.events.entry(name.clone()).or_default().push_back(payload.clone());
                self.out.extend(ack.as_ref().map(|ack| reply(ack, null())));
            }
            Message::Wait(waiter) => self.waits(waiter),
            Message::Begin { function, waiter, started, .. } => {
                if *function != self.me.function {
                    let error = answer(Err(taken(&self.id, &self.me.function)));
                    self.refuse_begin(waiter.as_ref(), started.as_ref(), error);
                    return Ok(());
                }
                if let Some(waiter) = waiter {
                    self.waits(waiter);
                }
                let id = self.id.clone();
                self.out.extend(started.as_ref().map(|started| reply(started, handle(&id))));
            }
            Message::Suspend { ack } => {
                self.me.suspended = true;
                self.out.extend(ack.as_ref().map(|ack| reply(ack, null())));
            }
            Message::Resume { ack } => {
                self.me.suspended = false;
                self.out.extend(ack.as_ref().map(|ack| reply(ack, null())));
                for message in std::mem::take(&mut self.me.held_back) {
                    self.take(&message)?;
                    self.go_on()?;
                    if self.eval.is_none() {
                        break;
                    }
                }
            }
            Message::Terminate { why, children, by, ack } => {
                if by.is_some() && *by != self.me.parent {
                    return Ok(());
                }
                self.finish(Outcome::Terminated(why.clone()), *children);
                self.out.extend(ack.as_ref().map(|ack| reply(ack, null())));
            }
            other => return Err(Stop::Fault(format!("{} was sent {other}", self.id))),
        }
        Ok(())
    }

    fn waits(&mut self, waiter: &Waiter) {
        if !self.me.waiters.contains(waiter) {
            self.me.waiters.push(waiter.clone());
        }
    }

    /// A request has its answer.
    fn answered(&mut self, fiber: u64, result: Answer, sends: &[Asked]) -> Result<(), Stop> {
        let Some(open) = self.me.open.get_mut(&fiber) else { return Ok(()) };
        let policy = open.policy();
        let name = open.name;
        if result.is_err() && open.attempt < policy.times {
            let pause = policy.pause(open.attempt);
            open.attempt += 1;
            let due = self.now.saturating_add(pause);
            self.out.push(Out::Clear { seq: name });
            self.out.push(Out::SetTimer { due, seq: name, timer: Timer::Retry });
            return Ok(());
        }
        self.note_uncertain(fiber, (*result).as_ref().err());
        self.me.open.remove(&fiber);
        self.out.push(Out::Clear { seq: name });
        let key = self.key(name);
        self.send_all(&key, sends)?;
        if let Some(section) =
            self.me.section.as_mut().filter(|section| section.owner.seq == name && !section.held)
        {
            section.held = result.is_ok();
        }
        self.ready.push_back((fiber, result));
        Ok(())
    }

    /// Whether an activity that gave no value may have done its work all the same.
    fn note_uncertain(&mut self, fiber: u64, error: Option<&ErrorData>) {
        let Some(open) = self.me.open.get(&fiber) else { return };
        let What::Activity { name, .. } = &open.asked.what else { return };
        let uncertain = match error.map(|error| error.kind().unwrap_or_default()) {
            Some(kind) => {
                ["timeout", "cancelled", "http", "io", "unknown", "interrupted", "lost"].contains(&&*kind)
            }
            None => false,
        };
        if uncertain && self.evaluator.program.is_keyed(name) {
            self.me.uncertain.insert(fingerprint(&(name, &open.asked.args)));
        }
    }

    fn due(&mut self, fiber: u64, timer: Timer) -> Result<(), Stop> {
        let Some(open) = self.me.open.get(&fiber) else { return Ok(()) };
        let (name, asked) = (open.name, open.asked.clone());
        match timer {
            Timer::Sleep => self.answered(fiber, null(), &[]),
            Timer::Retry => {
                self.attempt(fiber);
                Ok(())
            }
            Timer::Timeout => {
                let timeout = |after: Option<i64>| format::duration(after.unwrap_or(0));
                let error = match &asked.what {
                    What::Activity { name, .. } => {
                        let message =
                            format!("`{name}` was not done within {}", timeout(open.policy().timeout));
                        ErrorData::with("timeout", message, [("activity", Value::str(name.as_str()))])
                    }
                    What::Orchestration { name, options, .. } => {
                        let after = options::child(&options.decode()).ok().and_then(|child| child.timeout);
                        let message = format!("`{name}` was not done within {}", timeout(after));
                        ErrorData::with("timeout", message, [("orchestration", Value::str(name.as_str()))])
                    }
                    _ => {
                        let after = lock_timeout(&asked.args);
                        ErrorData::new(
                            "timeout",
                            format!("the entities were not free within {}", timeout(after)),
                        )
                    }
                };
                match &asked.what {
                    What::Orchestration { .. } => {
                        let open = open.clone();
                        self.terminate_child(&open, "its caller did not wait longer");
                        self.me.stale.insert(name);
                    }
                    What::Effect("lock") => {
                        self.leave_section();
                        self.me.stale.insert(name);
                    }
                    _ => {}
                }
                self.answered(fiber, answer(Err(error)), &[])
            }
        }
    }

    /// Evaluates with the answers that have come, until it waits for more or is at its end.
    fn go_on(&mut self) -> Result<(), Stop> {
        while let Some(eval) = self.eval.clone()
            && !self.me.suspended
        {
            let (fiber, result) = match self.ready.pop_front() {
                Some(next) => next,
                None => match self.receive() {
                    Some(next) => next,
                    None => break,
                },
            };
            let evaluated = self.evaluator.resume(&eval, fiber, &result)?;
            self.evaluated(&evaluated)?;
        }
        Ok(())
    }

    /// The next event that one of its requests waits for.
    fn receive(&mut self) -> Option<(u64, Answer)> {
        if self.me.events.is_empty() {
            return None;
        }
        let mut waiting: Vec<(u64, u64, Id)> = Vec::new();
        for (fiber, open) in &self.me.open {
            if open.asked.what == What::Effect("receive") {
                waiting.push((open.name, *fiber, first_text(&open.asked.args).into()));
            }
        }
        waiting.sort();
        for (_, fiber, event) in waiting {
            if let Some(queue) = self.me.events.get_mut(&event) {
                let payload = queue.pop_front();
                if queue.is_empty() {
                    self.me.events.remove(&event);
                }
                if let Some(payload) = payload {
                    self.me.open.remove(&fiber);
                    return Some((fiber, answer(Ok(payload))));
                }
            }
        }
        None
    }

    /// Takes in what a step of evaluation came to.
    fn evaluated(&mut self, evaluated: &Rc<Evaluated>) -> Result<(), Stop> {
        self.eval = evaluated.eval.clone();
        for fiber in &evaluated.withdrawn {
            self.note_uncertain(*fiber, Some(&ErrorData::new("cancelled", "")));
            if let Some(open) = self.me.open.remove(fiber) {
                self.withdraw(&open, true);
            }
        }
        let first = self.me.next;
        if self.evaluator.program.naming == Naming::ByNumber {
            self.me.next += evaluated.count;
        }
        for (fiber, offset, asked) in &evaluated.requests {
            let name = match self.evaluator.program.naming {
                Naming::ByNumber => first + offset,
                Naming::ByPlace => self.free_name(),
            };
            self.asked.push(asked.clone());
            let child = self.child(asked, name);
            self.me.open.insert(*fiber, Open { name, asked: asked.clone(), attempt: 1, child });
            if !self.dispatch(*fiber, name, asked)? {
                return Ok(());
            }
        }
        if let Some(result) = &evaluated.result {
            let outcome = match &**result {
                Ok(_) => Outcome::Completed(result.clone()),
                Err(_) => Outcome::Failed(result.clone()),
            };
            self.finish(outcome, true);
        }
        Ok(())
    }

    fn free_name(&self) -> u64 {
        let used =
            |name: u64| self.me.stale.contains(&name) || self.me.open.values().any(|open| open.name == name);
        (0..).find(|name| !used(*name)).unwrap_or(u64::MAX)
    }

    /// Sees to a request; false when the instance has begun anew.
    fn dispatch(&mut self, fiber: u64, name: u64, asked: &Asked) -> Result<bool, Stop> {
        let args = &asked.args;
        let now = self.now;
        match &asked.what {
            What::Effect("sleep" | "sleep_until") => {
                let due = match args.items().first() {
                    Some(Value::Duration(duration)) => now.saturating_add(*duration),
                    Some(Value::Instant(instant)) => *instant,
                    _ => now,
                };
                self.out.push(Out::SetTimer { due, seq: name, timer: Timer::Sleep });
            }
            What::Effect("receive") => {}
            What::Effect("wait") => self.say(&first_text(args), Message::Wait(self.waiter(name))),
            What::Effect("raise" | "terminate" | "suspend" | "resume") => {
                if let What::Effect(effect) = &asked.what
                    && let Some((to, message)) = told(effect, args, Some(self.waiter(name)))
                {
                    self.say(&to, message);
                }
            }
            What::Effect("set_status") => {
                self.me.custom = args.items().first().and_then(|value| Data::encode(value).ok());
                self.immediate(fiber);
            }
            What::Effect("continue_as_new") => {
                self.continue_as_new(args.clone())?;
                return Ok(false);
            }
            What::Effect("lock") => self.lock(fiber, name, args),
            What::Effect("unlock") => {
                self.leave_section();
                self.immediate(fiber);
            }
            What::Effect(effect) => {
                if *effect == "print" && self.evaluator.program.observes {
                    self.me.printed.push(args.clone());
                }
                self.attempt(fiber);
            }
            What::Activity { name: activity, .. } => {
                if self.me.uncertain.contains(&fingerprint(&(activity, args))) {
                    let trouble = Trouble::Repeated { by: self.id.clone(), asked: asked.clone() };
                    self.out.push(Out::Trouble(trouble));
                }
                self.attempt(fiber);
            }
            What::Orchestration { name: function, options, start } => {
                let child = options::child(&options.decode()).unwrap_or_default();
                let id = self.me.open.get(&fiber).and_then(|open| open.child.clone()).unwrap_or_default();
                let waiter = self.waiter(name);
                let function: Id = function.as_str().into();
                let message = match start {
                    true => Message::Begin {
                        function,
                        args: args.clone(),
                        parent: None,
                        waiter: None,
                        started: Some(waiter),
                    },
                    false => Message::Begin {
                        function,
                        args: args.clone(),
                        parent: Some(self.id.clone()),
                        waiter: Some(waiter),
                        started: None,
                    },
                };
                self.say(&id, message);
                if let (false, Some(timeout)) = (*start, child.timeout) {
                    let due = now.saturating_add(timeout);
                    self.out.push(Out::SetTimer { due, seq: name, timer: Timer::Timeout });
                }
            }
            What::Operation { entity, operation, signal: None } => {
                let entity = Arc::new(entity.clone());
                let within = self
                    .me
                    .section
                    .as_ref()
                    .is_some_and(|section| section.held && section.set.contains(&entity));
                let message = Message::Call {
                    caller: self.waiter(name),
                    operation: operation.as_str().into(),
                    args: args.clone(),
                    key: self.key(name),
                    within,
                    place: PlaceOf(asked.place),
                };
                self.tell(&entity, message);
            }
            What::Operation { entity, operation, signal: Some(after) } => {
                self.immediate(fiber);
                let message = Message::Signal {
                    operation: operation.as_str().into(),
                    args: args.clone(),
                    key: self.key(name),
                    place: PlaceOf(asked.place),
                };
                self.out.push(signal(Arc::new(entity.clone()), message, after, now));
            }
        }
        Ok(true)
    }

    /// A request that is answered as soon as it is made.
    fn immediate(&mut self, fiber: u64) {
        self.me.open.remove(&fiber);
        self.ready.push_back((fiber, null()));
    }

    /// An attempt at an activity or an effect begins.
    fn attempt(&mut self, fiber: u64) {
        let Some(open) = self.me.open.get(&fiber) else { return };
        let (seq, timeout) = (open.name, open.policy().timeout);
        let (execution, attempt, asked) = (self.me.execution, open.attempt, open.asked.clone());
        let task = Task { execution, attempt, asked, key: self.key(seq) };
        self.out.push(Out::Begin { seq, task });
        if let Some(timeout) = timeout {
            let due = self.now.saturating_add(timeout);
            self.out.push(Out::SetTimer { due, seq, timer: Timer::Timeout });
        }
    }

    /// A request that nobody waits for any more.
    fn withdraw(&mut self, open: &Open, children: bool) {
        self.out.push(Out::Clear { seq: open.name });
        match &open.asked.what {
            What::Effect("lock") => {
                self.leave_section();
                self.me.stale.insert(open.name);
            }
            What::Effect("wait" | "raise" | "terminate" | "suspend" | "resume") | What::Operation { .. } => {
                self.me.stale.insert(open.name);
            }
            What::Orchestration { start, .. } => {
                self.me.stale.insert(open.name);
                if !start && children {
                    self.terminate_child(open, "its caller gave up");
                }
            }
            _ => {}
        }
    }

    /// A child whose caller waits no more ends too, unless it was called otherwise.
    fn terminate_child(&mut self, open: &Open, why: &str) {
        let What::Orchestration { options, .. } = &open.asked.what else { return };
        let detached = options::child(&options.decode()).unwrap_or_default().detached;
        if let Some(child) = open.child.clone().filter(|_| !detached) {
            let why = Data::encode(&Value::str(why)).unwrap_or_else(|_| Data::null());
            let message = Message::Terminate { why, children: true, by: Some(self.id.clone()), ack: None };
            self.say(&child, message);
        }
    }

    // ---- critical sections

    fn lock(&mut self, fiber: u64, name: u64, args: &Data) {
        let mut set = Vec::new();
        if let Some(Value::List(entities)) = args.items().first() {
            for entity in entities.as_slice() {
                if let Value::Entity(entity) = entity
                    && let Ok(entity) = EntityId::of(entity)
                {
                    set.push(Arc::new(entity));
                }
            }
        }
        if self.evaluator.program.mutation == Mutation::UnsortedLocks && self.id.ends_with(['1', '3', '5']) {
            set.reverse();
        }
        let owner = self.waiter(name);
        let Some(first) = set.first().cloned() else {
            self.immediate(fiber);
            return;
        };
        let set: Arc<[Arc<EntityId>]> = set.into();
        self.me.section = Some(Section { owner: owner.clone(), set: set.clone(), held: false });
        if let Some(timeout) = lock_timeout(args) {
            let due = self.now.saturating_add(timeout);
            self.out.push(Out::SetTimer { due, seq: name, timer: Timer::Timeout });
        }
        self.tell(&first, Message::Lock { owner, set, at: 0 });
    }

    /// It holds nothing any more, and asks for nothing.
    fn leave_section(&mut self) {
        let Some(Section { owner, set, held }) = self.me.section.take() else { return };
        if held {
            for entity in set.iter() {
                self.tell(entity, Message::Release { owner: owner.clone() });
            }
        } else if let Some(first) = set.first().cloned() {
            self.tell(&first, Message::Withdraw { owner, set, at: 0 });
        }
    }

    // ---- ends

    fn finish(&mut self, outcome: Outcome, children: bool) {
        self.eval = None;
        for (_, open) in std::mem::take(&mut self.me.open) {
            self.withdraw(&open, children);
        }
        self.leave_section();
        self.ready.clear();
        self.me.events.clear();
        self.me.stale.clear();
        let waiters = std::mem::take(&mut self.me.waiters);
        self.me.state = State::Ended { outcome, told: !waiters.is_empty() };
        if let Some(result) = self.me.result(&self.id) {
            for waiter in &waiters {
                self.out.push(reply(waiter, result.clone()));
            }
        }
        for message in std::mem::take(&mut self.me.held_back) {
            self.refuse(&message);
        }
    }

    fn continue_as_new(&mut self, args: Data) -> Result<(), Stop> {
        for (_, open) in std::mem::take(&mut self.me.open) {
            self.out.push(Out::Clear { seq: open.name });
            let answered = !matches!(open.asked.what, What::Activity { .. })
                && !matches!(open.asked.what, What::Effect(name) if !is_sent(name));
            if answered {
                self.me.stale.insert(open.name);
            }
        }
        self.ready.clear();
        self.me.printed.clear();
        self.me.uncertain.clear();
        if self.evaluator.program.naming == Naming::ByNumber {
            self.me.execution += 1;
            self.me.next = 0;
            self.me.stale.clear();
        }
        let evaluated = self.evaluator.begin(&self.me.function.clone(), &args, &self.id.clone())?;
        self.evaluated(&evaluated)
    }

    /// A message for an instance that has ended.
    fn refuse(&mut self, message: &Message) {
        match message {
            Message::Begin { function, waiter, started, .. } => {
                let result = match *function == self.me.function {
                    true => self.me.result(&self.id).unwrap_or_else(null),
                    false => answer(Err(taken(&self.id, &self.me.function))),
                };
                self.refuse_begin(waiter.as_ref(), started.as_ref(), result);
            }
            Message::Wait(waiter) => {
                let result = self.me.result(&self.id).unwrap_or_else(null);
                self.learned();
                self.out.push(reply(waiter, result));
            }
            Message::Event { ack: Some(ack), .. }
            | Message::Terminate { ack: Some(ack), .. }
            | Message::Suspend { ack: Some(ack) }
            | Message::Resume { ack: Some(ack) } => self.out.push(reply(ack, null())),
            _ => {}
        }
    }

    fn learned(&mut self) {
        if let State::Ended { told, .. } = &mut self.me.state {
            *told = true;
        }
    }

    /// An instance of that id is there already, and has ended or is another one.
    fn refuse_begin(&mut self, waiter: Option<&Waiter>, started: Option<&Waiter>, result: Answer) {
        if let Some(waiter) = waiter {
            self.learned();
            self.out.push(reply(waiter, result.clone()));
        }
        let is_taken = (*result).as_ref().is_err_and(|error| error.kind().as_deref() == Some("id_taken"));
        match started {
            Some(started) if is_taken => self.out.push(reply(started, result)),
            Some(started) => self.out.push(reply(started, handle(&self.id.clone()))),
            None if waiter.is_none() && result.is_err() => {
                let what = format!("start of {}", self.id);
                self.out.push(Out::Trouble(Trouble::Lost { what, error: result }));
            }
            None => {}
        }
    }

    // ---- what activities send

    /// What an activity sent goes out with its result.
    fn send_all(&mut self, key: &Id, sends: &[Asked]) -> Result<(), Stop> {
        let outs = sent(self.evaluator.program.naming, key, sends, self.now)?;
        self.out.extend(outs);
        Ok(())
    }
}

/// What an activity or an operation sent, from the step of that key.
pub fn sent(naming: Naming, key: &Id, sends: &[Asked], now: i64) -> Result<Vec<Out>, Stop> {
    let mut outs = Vec::new();
    for request in sends {
        match &request.what {
            What::Operation { entity, operation, signal: after } => {
                let message = Message::Signal {
                    operation: operation.as_str().into(),
                    args: request.args.clone(),
                    key: format!("{key}.{}", request.seq).into(),
                    place: PlaceOf(request.place),
                };
                let after = after.clone().unwrap_or_else(Data::null);
                outs.push(signal(Arc::new(entity.clone()), message, &after, now));
            }
            What::Orchestration { name, options, .. } => {
                let own = options::child(&options.decode()).unwrap_or_default().id;
                if own.is_none() && naming == Naming::ByPlace {
                    return Err(Stop::LooksAtNames);
                }
                let id = own.unwrap_or_else(|| child_id(key, request.seq));
                let message = Message::Begin {
                    function: name.as_str().into(),
                    args: request.args.clone(),
                    parent: None,
                    waiter: None,
                    started: None,
                };
                outs.push(send(Name::Instance(id.into()), message));
            }
            What::Effect(name) => {
                if let Some((to, message)) = told(name, &request.args, None) {
                    outs.push(send(Name::Instance(to.into()), message));
                }
            }
            What::Activity { .. } => {}
        }
    }
    Ok(outs)
}

/// A signal, now or when it is due.
fn signal(to: Arc<EntityId>, message: Message, after: &Data, now: i64) -> Out {
    let due = match after.decode() {
        Value::Duration(duration) => now.saturating_add(duration),
        Value::Instant(instant) => instant,
        _ => now,
    };
    match due > now {
        true => Out::Later { due, to, mail: Part::new(message) },
        false => send(Name::Entity(to), message),
    }
}

/// The message of an effect that is one, and to whom.
fn told(name: &str, args: &Data, ack: Option<Waiter>) -> Option<(String, Message)> {
    let args = args.items();
    let Value::Str(target) = args.first()? else { return None };
    let data =
        |at: usize| Data::encode(args.get(at).unwrap_or(&Value::Null)).unwrap_or_else(|_| Data::null());
    let message = match name {
        "raise" => Message::Event { name: format::display(args.get(1)?).into(), payload: data(2), ack },
        "terminate" => Message::Terminate {
            why: data(1),
            children: options::terminate(args.get(2)?).unwrap_or(true),
            by: None,
            ack,
        },
        "suspend" => Message::Suspend { ack },
        "resume" => Message::Resume { ack },
        _ => return None,
    };
    Some((target.as_str().to_string(), message))
}

fn is_sent(effect: &str) -> bool {
    matches!(effect, "wait" | "raise" | "terminate" | "suspend" | "resume" | "lock")
}

fn first_text(args: &Data) -> String {
    args.items().first().map(format::display).unwrap_or_default()
}

fn lock_timeout(args: &Data) -> Option<i64> {
    args.items().get(1).and_then(|options| options::lock(options).ok().flatten())
}

/// The error of an id that another one has.
fn taken(id: &str, function: &str) -> ErrorData {
    let message = format!("the id `{id}` is that of an instance of `{function}`");
    ErrorData::with("id_taken", message, [("id", Value::str(id))])
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
