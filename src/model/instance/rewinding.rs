//! Rewinding: an instance that ended without a result repeats its failed steps, and loses nothing
//! else.
//!
//! The instance is evaluated from its beginning with its past, except for the answers of the
//! repeated steps. An answer is kept, with the numbers of its requests, if it has the same
//! consequences as before. It is also kept if it has no consequences now. The past is cut at the
//! first answer with other consequences. Later answers are taken in again if something waits for
//! them. Messages that came after the end follow.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::builtins::Effect;
use crate::machine::{RequestKind, Value, options};

use super::super::evaluate::{Evaluator, Stop};
use super::super::message::{Answer, Id, Mail, Message, Timer};
use super::super::part::Part;
use super::super::program::Mutation;
use super::super::timers::When;
use super::past::{Given, Input, Past, given};
use super::{Instance, Out, Outcome, State, Step, Turn, first_text};
use crate::model::Eval;

/// The requests of an instance that a rewind repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Back {
    /// The requests that are made again because they have errors.
    pub again: BTreeSet<u64>,
    /// The requests that are answered by instances that are rewound too.
    pub answered: BTreeSet<u64>,
    /// Whether the instance goes on as if it had not been cancelled.
    pub undoes: bool,
}

/// An answer to a request, an event, or a cancellation that is to be taken in again.
enum Later {
    Answer(u64, Answer),
    Message(Message),
}

impl<E> Instance<E> {
    /// Whether the instance has ended in a way that can be rewound: it failed, or was terminated as
    /// a child.
    pub fn goes_back(&self) -> bool {
        match &self.state {
            State::Ended { outcome: Outcome::Failed(_), .. } => true,
            State::Ended { outcome: Outcome::Terminated(_), .. } => self.parent.is_some(),
            _ => false,
        }
    }

    /// Whether the instance has failed.
    pub fn has_failed(&self) -> bool {
        matches!(&self.state, State::Ended { outcome: Outcome::Failed(_), .. })
    }

    /// Returns the answer that came for a request after the end: the first success, or else the
    /// first error.
    pub(super) fn came(&self, seq: u64) -> Option<&Answer> {
        let answers = || {
            self.held_back.iter().filter_map(move |mail| match &**mail {
                Message::Answer { seq: known, result, .. } if *known == seq => Some(result),
                _ => None,
            })
        };
        answers().find(|result| result.is_ok()).or_else(|| answers().next())
    }
}

/// Rewinds an instance. Returns `None` if it would then ask for a critical section or hold one.
pub fn rewind(
    evaluator: &mut Evaluator<'_>,
    id: &Id,
    old: &Instance<Eval>,
    back: &Back,
) -> Result<Option<Turn>, Stop> {
    let past = Past { given: Vec::new(), in_section: false, ..old.past.clone() };
    let (args, attempt) = (old.args_of_execution(), old.attempt);
    let fresh = Instance {
        state: State::Running(Part::new(Vec::new())),
        open: BTreeMap::new(),
        stale: BTreeSet::new(),
        events: Vec::new(),
        held_back: VecDeque::new(),
        printed: Vec::new(),
        section: None,
        custom: None,
        next: 0,
        past,
        ..old.clone()
    };
    let begun = evaluator.begin(&old.function, &args, id, attempt)?;
    let mut step = Step::of(evaluator, id, fresh);
    step.evaluated(&begun)?;
    let later = step.fit(old, back)?;
    let asks_for_section = |asked: &RequestKind| *asked == RequestKind::Effect(Effect::Lock);
    if step.me.section.is_some() || step.me.open.values().any(|open| asks_for_section(&open.asked.what)) {
        return Ok(None);
    }
    // Everything in `out` was sent before the rewind.
    step.out.clear();
    if step.evaluator.program.mutation != Mutation::NumbersAgain {
        step.me.next = old.next;
    }
    // The clean-up has its whole time again.
    if let Some(what) = step.me.cancelled.clone() {
        step.begin_grace(&what);
    }
    let dropped = step.ask_again(old, back, &later)?;
    step.take_in(old, later, &dropped)?;
    Ok(Some(step.done()))
}

impl Step<'_, '_> {
    /// Takes in the answers of the past that still fit. Returns what remains to be taken in.
    fn fit(&mut self, old: &Instance<Eval>, back: &Back) -> Result<Vec<Later>, Stop> {
        let mutation = self.evaluator.program.mutation;
        let (mut later, mut is_cut) = (Vec::new(), false);
        for known in &old.past.given {
            let input = &known.input;
            let fiber = match input {
                Input::Cancel(_) if back.undoes => continue,
                Input::Cancel(_) => None,
                Input::Answer(seq, _) => {
                    let fiber = self.waits_for(*seq);
                    if fiber.is_some() && back.again.contains(seq) {
                        is_cut |= mutation == Mutation::RewindCutsSuccesses;
                        continue;
                    }
                    fiber
                }
            };
            if is_cut || (fiber.is_none() && matches!(input, Input::Answer(..))) {
                self.put_back(old, known, &mut later)?;
                continue;
            }
            let Some(eval) = self.eval.clone() else { break };
            let evaluated = match (input, fiber) {
                (Input::Answer(_, result), Some(fiber)) => self.evaluator.resume(&eval, fiber, result)?,
                (Input::Cancel(what), _) => self.evaluator.cancel(&eval, what)?,
                (Input::Answer(..), None) => continue,
            };
            let first = if known.asked.is_empty() { self.me.next } else { known.first };
            let now = given(&self.me, first, input, &evaluated);
            let is_same = now.asked == known.asked && now.withdrawn == known.withdrawn;
            let is_nothing = now.asked.is_empty() && now.withdrawn.is_empty();
            if evaluated.result.is_some() || !(is_same || is_nothing) {
                is_cut = true;
                self.put_back(old, known, &mut later)?;
                continue;
            }
            match (input, fiber) {
                (Input::Answer(seq, _), Some(fiber)) => {
                    self.lines.retain(|(_, name)| name != seq);
                    self.ready.retain(|ready| ready.seq != *seq);
                    self.me.open.remove(&fiber);
                }
                (Input::Cancel(what), _) => self.me.cancelled = Some(what.clone()),
                (Input::Answer(..), None) => {}
            }
            self.me.next = first;
            self.me.past.given.push(Part::new(now));
            self.evaluated(&evaluated)?;
        }
        Ok(later)
    }

    /// Returns the fiber that waits for the answer to a request.
    fn waits_for(&self, seq: u64) -> Option<u64> {
        let line = self.lines.iter().find(|(_, name)| *name == seq).map(|(fiber, _)| *fiber);
        let ready = || self.ready.iter().find(|ready| ready.seq == seq).map(|ready| ready.fiber);
        line.or_else(ready).or_else(|| self.me.open_named(seq).map(|(fiber, _)| fiber))
    }

    /// Keeps an answer that no longer fits, to be taken in again, if it is of use.
    fn put_back(&mut self, old: &Instance<Eval>, known: &Given, later: &mut Vec<Later>) -> Result<(), Stop> {
        let (seq, result) = match &known.input {
            Input::Answer(seq, result) => (*seq, result),
            Input::Cancel(what) => {
                let cancel = Message::Cancel { what: what.clone(), of: None, ack: None };
                later.push(Later::Message(cancel));
                return Ok(());
            }
        };
        let requests = old.requests(self.evaluator, &self.id)?;
        let Some(asked) = requests.get(&seq) else { return Ok(()) };
        match (&asked.what, &**result) {
            (RequestKind::Effect(Effect::Receive), Ok(payload)) => {
                let name = first_text(&asked.args).into();
                later.push(Later::Message(Message::Event { name, payload: payload.clone(), ack: None }));
            }
            (RequestKind::Effect(Effect::Lock), _) => {}
            _ if self.me.open_named(seq).is_some()
                && self.evaluator.program.mutation != Mutation::RewindCutsSuccesses =>
            {
                later.push(Later::Answer(seq, result.clone()));
            }
            _ => {}
        }
        Ok(())
    }

    /// Repeats the requests that have no answer and none on its way. Returns those for which any
    /// answer that came after the end is of no use.
    fn ask_again(
        &mut self,
        old: &Instance<Eval>,
        back: &Back,
        later: &[Later],
    ) -> Result<BTreeSet<u64>, Stop> {
        let waits: BTreeSet<u64> = later
            .iter()
            .filter_map(|later| match later {
                Later::Answer(seq, _) => Some(*seq),
                Later::Message(_) => None,
            })
            .collect();
        let (mut dropped, mut renewed) = (BTreeSet::new(), Vec::new());
        for (fiber, open) in self.me.open.clone() {
            let (seq, asked) = (open.name, open.asked.clone());
            let was_open = old.open_named(seq).is_some();
            let came = old.came(seq).filter(|_| was_open);
            if waits.contains(&seq) || asked.what == RequestKind::Effect(Effect::Receive) {
                continue;
            }
            if back.answered.contains(&seq) {
                dropped.insert(seq);
                renewed.push(seq);
                if let RequestKind::Orchestration { options, .. } = &asked.what
                    && let Some(limit) = options::child(&options.decode()).unwrap_or_default().timeout
                {
                    self.out.push(Out::SetTimer { when: When::After(limit), seq, timer: Timer::Timeout });
                }
                continue;
            }
            let is_again = back.again.contains(&seq);
            let waits_for_other = old.target(&self.id, seq, &asked).is_some();
            match &asked.what {
                RequestKind::Effect(effect) if effect.is_sleep() && was_open => continue,
                // The remaining time depends on when the sleep was given up.
                RequestKind::Effect(Effect::Sleep) if !is_again => {
                    if let Some(Value::Duration(duration)) = asked.args.items().first() {
                        let when = When::Between(0, *duration);
                        self.out.push(Out::SetTimer { when, seq, timer: Timer::Sleep });
                    }
                    continue;
                }
                _ if came.is_some_and(|came| came.is_ok()) => continue,
                _ if waits_for_other && was_open && !is_again => continue,
                _ if !is_broken_off(&asked.what) && was_open && came.is_none() && !is_again => continue,
                _ => {}
            }
            dropped.insert(seq);
            renewed.push(seq);
            self.dispatch(fiber, seq, &asked)?;
        }
        self.renew_limits(&renewed, &mut dropped)?;
        Ok(dropped)
    }

    /// Restarts the time limits of repeated requests.
    fn renew_limits(&mut self, renewed: &[u64], dropped: &mut BTreeSet<u64>) -> Result<(), Stop> {
        let rivals = self.me.with_numbers(self.evaluator, &self.id)?.rivals(renewed);
        for seq in rivals {
            let Some((fiber, open)) = self.me.open_named(seq) else { continue };
            let asked = open.asked.clone();
            if matches!(asked.what, RequestKind::Effect(Effect::Sleep)) && !renewed.contains(&seq) {
                dropped.insert(seq);
                self.out.push(Out::Clear { seq, all: true });
                self.dispatch(fiber, seq, &asked)?;
            }
        }
        Ok(())
    }

    /// Takes in what remains: first the inputs from before the end, then the messages that came
    /// after it.
    fn take_in(
        &mut self,
        old: &Instance<Eval>,
        later: Vec<Later>,
        dropped: &BTreeSet<u64>,
    ) -> Result<(), Stop> {
        let execution = self.me.execution;
        let again = later.into_iter().map(|later| match later {
            Later::Message(message) => Part::new(message),
            Later::Answer(seq, result) => {
                Part::new(Message::Answer { execution, seq, result, sends: Vec::new() })
            }
        });
        let is_of_use = |mail: &&Mail| match &***mail {
            Message::Answer { seq, result, .. } => {
                !dropped.contains(seq) && old.came(*seq).is_some_and(|came| came == result)
            }
            Message::Due { seq, .. } => !dropped.contains(seq),
            _ => true,
        };
        let waiting: Vec<Mail> = again.chain(old.held_back.iter().filter(is_of_use).cloned()).collect();
        self.go_on()?;
        for (at, mail) in waiting.iter().enumerate() {
            if self.eval.is_none() {
                waiting[at..].iter().for_each(|mail| self.refuse(mail));
                break;
            }
            self.take(mail)?;
            self.go_on()?;
        }
        Ok(())
    }
}

/// Whether the work on a request broke off when the instance ended, so that it begins anew.
fn is_broken_off(what: &RequestKind) -> bool {
    match what {
        RequestKind::Activity { .. } => true,
        RequestKind::Effect(effect) => !super::sends::is_sent(*effect),
        _ => false,
    }
}
