//! The record-replay model: as the compute-storage model, but of a running instance storage keeps its history instead
//! of its state.
//!
//! A history is the messages that the instance took, in the order in which it took them, one to a turn, each with what
//! the instance asked for in that turn. To go on, compute evaluates the program from its beginning, gives it the messages
//! of the history turn by turn, and checks that it asks for the same; what the history sent was sent when it was
//! recorded. That this comes to the same state rests on determinism alone.

use super::compute_storage::{Keep, Storage};
use super::evaluate::{Eval, Evaluator, Stop};
use super::instance::{self, Instance, State, Turn};
use super::message::{Asked, Id, Mail, Message};
use super::part::Part;
use super::program::Mutation;

pub type RecordReplay = Storage<Histories>;

/// Storage keeps the history.
#[derive(Clone, Copy, Debug)]
pub struct Histories;

/// The turns of an instance: the last, and those before it. Histories that lead to one state are equal.
pub type History = Part<Turns>;

#[derive(Clone, Debug)]
pub struct Turns {
    before: Option<History>,
    /// What was taken: at the beginning, what began the instance.
    took: Mail,
    asked: Vec<Asked>,
}

impl History {
    /// The turns from the first on.
    fn turns(&self) -> Vec<&Turns> {
        let mut turns = Vec::new();
        let mut at = Some(self);
        while let Some(history) = at {
            turns.push(&**history);
            at = history.before.as_ref();
        }
        turns.reverse();
        turns
    }
}

/// **replay**: the instance as its history leaves it.
fn replay(evaluator: &mut Evaluator<'_>, id: &Id, history: &History) -> Result<Instance<Eval>, Stop> {
    let mut turns = history.turns();
    if evaluator.program.mutation == Mutation::LastTurnIsLost && turns.len() > 1 {
        turns.pop();
    }
    let mut instance = None;
    for turn in &turns {
        let replayed = match (&instance, &*turn.took) {
            (None, Message::Begin { .. }) => instance::begin(evaluator, id, &turn.took)?,
            (Some(instance), _) => instance::take(evaluator, id, instance, &turn.took)?,
            (None, took) => return Err(Stop::Fault(format!("a history that begins with {took}"))),
        };
        check(id, turn, &replayed)?;
        instance = Some(replayed.instance.clone());
    }
    let instance = instance.map(|instance: Part<Instance<Eval>>| (*instance).clone());
    instance.ok_or_else(|| Stop::Fault("an empty history".into()))
}

/// What is asked for again is what is recorded.
fn check(id: &Id, turn: &Turns, replayed: &Turn) -> Result<(), Stop> {
    match turn.asked == replayed.asked {
        true => Ok(()),
        false => Err(Stop::Nondeterminism { id: id.clone() }),
    }
}

/// A mutation: as `replay`, but answers that follow one another are given as if they had come at one moment.
fn replay_without_turns(
    evaluator: &mut Evaluator<'_>,
    id: &Id,
    history: &History,
) -> Result<Instance<Eval>, Stop> {
    let turns = history.turns();
    let is_answer = |turn: &&Turns| matches!(*turn.took, Message::Answer { .. });
    let Some(first) = turns.first() else {
        return Err(Stop::Fault("a history without a beginning".into()));
    };
    let begun = instance::begin(evaluator, id, &first.took)?;
    let mut instance = begun.instance.clone();
    let mut at = 1;
    while let Some(turn) = turns.get(at) {
        let together = turns[at..].iter().take_while(|turn| is_answer(turn)).count().max(1);
        let messages: Vec<Mail> = turns[at..at + together].iter().map(|turn| turn.took.clone()).collect();
        instance = match is_answer(turn) {
            true => instance::take_at_once(evaluator, id, &instance, &messages)?.instance,
            false => instance::take(evaluator, id, &instance, &turn.took)?.instance.clone(),
        };
        at += together;
    }
    Ok((*instance).clone())
}

impl Keep for Histories {
    type State = History;

    const NAME: &'static str = "record-replay";

    fn read(
        evaluator: &mut Evaluator<'_>,
        id: &Id,
        kept: &Instance<History>,
    ) -> Result<Instance<Eval>, Stop> {
        match &kept.state {
            State::Running(history) if evaluator.program.mutation == Mutation::NoTurnBoundaries => {
                replay_without_turns(evaluator, id, history)
            }
            State::Running(history) => replay(evaluator, id, history),
            // Of one that has ended there is nothing to go on with.
            State::Ended { .. } => Ok(kept.clone().with(|_| Part::new(Vec::new()))),
        }
    }

    fn keep(before: Option<&Instance<History>>, mail: &Mail, turn: &Turn) -> Instance<History> {
        let before = before.and_then(|before| match &before.state {
            State::Running(history) => Some(history.clone()),
            State::Ended { .. } => None,
        });
        let instance: Instance<Eval> = (*turn.instance).clone();
        // What leads to the same state is the same to all that comes: so a loop comes back to where it was.
        instance.with(|state| {
            let turns = Turns { before, took: mail.clone(), asked: turn.asked.clone() };
            Part::of(turns, &state.mark().to_le_bytes())
        })
    }
}
