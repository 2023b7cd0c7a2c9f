//! The record-replay model: like the compute-storage model, but storage keeps the history of a
//! running instance instead of its state.
//!
//! A history has the messages that the instance took, in order, one to a turn, each with the
//! requests of that turn. To resume, compute evaluates the program from its beginning and gives it
//! these messages turn by turn. It checks that the program makes the same requests. Messages that
//! the history sent are not sent again: they were sent when it was recorded. Only determinism makes
//! replay lead to the same state.

use std::rc::Rc;
use std::sync::Arc;

use super::compute_storage::{Keep, Storage};
use super::evaluate::{Eval, Evaluator, Stop};
use super::instance::{self, Back, Instance, State, Turn};
use super::lives::Life;
use super::message::{Asked, Id, Mail, Message};
use super::part::Part;
use super::program::Mutation;

pub type RecordReplay = Storage<Histories>;

/// Storage that keeps histories.
#[derive(Clone, Copy, Debug)]
pub struct Histories;

/// The turns of an instance: the last one, and the history before. Histories that lead to the same
/// state are equal.
pub type History = Part<Turns>;

#[derive(Clone, Debug)]
pub struct Turns {
    before: Option<History>,
    took: Took,
    asked: Vec<Asked>,
}

/// The input of a turn.
#[derive(Clone, Debug)]
enum Took {
    /// A message. In the first turn, it is the message that began the instance.
    Mail(Mail),
    /// A rewind of the instance from the state in which it had ended.
    Rewound(Arc<(Instance<Eval>, Back)>),
}

impl History {
    /// Returns the turns from the first one on.
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

/// **replay**: returns the instance as its history leaves it.
fn replay(
    evaluator: &mut Evaluator<'_>,
    id: &Id,
    life: Life,
    history: &History,
) -> Result<Instance<Eval>, Stop> {
    let mut turns = history.turns();
    if evaluator.program.mutation == Mutation::LastTurnIsLost && turns.len() > 1 {
        turns.pop();
    }
    let mut instance = None;
    for turn in &turns {
        let replayed = match (&instance, &turn.took) {
            (None, Took::Mail(mail)) => instance::begin(evaluator, id, life, mail)?,
            (Some(instance), Took::Mail(mail)) => instance::take(evaluator, id, instance, mail)?,
            (_, Took::Rewound(from)) => {
                let turn = instance::rewind(evaluator, id, &from.0, &from.1)?;
                Rc::new(turn.ok_or_else(|| Stop::Fault(format!("{id} does not go back")))?)
            }
        };
        check(id, turn, &replayed)?;
        instance = Some(replayed.instance.clone());
    }
    let instance = instance.map(|instance: Part<Instance<Eval>>| (*instance).clone());
    instance.ok_or_else(|| Stop::Fault("an empty history".into()))
}

/// Checks that replay makes the recorded requests.
fn check(id: &Id, turn: &Turns, replayed: &Turn) -> Result<(), Stop> {
    match turn.asked == replayed.asked {
        true => Ok(()),
        false => Err(Stop::Nondeterminism { id: id.clone() }),
    }
}

/// A mutation: like `replay`, but gives consecutive answers as if they had come at one moment.
fn replay_without_turns(
    evaluator: &mut Evaluator<'_>,
    id: &Id,
    life: Life,
    history: &History,
) -> Result<Instance<Eval>, Stop> {
    let turns = history.turns();
    let mail = |turn: &Turns| match &turn.took {
        Took::Mail(mail) => Ok(mail.clone()),
        Took::Rewound(_) => Err(Stop::Fault("it went back".into())),
    };
    let is_answer = |turn: &&Turns| match &turn.took {
        Took::Mail(mail) => matches!(**mail, Message::Answer { .. }),
        Took::Rewound(_) => false,
    };
    let Some(first) = turns.first() else {
        return Err(Stop::Fault("a history without a beginning".into()));
    };
    let begun = instance::begin(evaluator, id, life, &*mail(first)?)?;
    let mut instance = begun.instance.clone();
    let mut at = 1;
    while let Some(turn) = turns.get(at) {
        let together = turns[at..].iter().take_while(|turn| is_answer(turn)).count().max(1);
        let messages =
            turns[at..at + together].iter().map(|turn| mail(turn)).collect::<Result<Vec<_>, _>>()?;
        instance = match is_answer(turn) {
            true => instance::take_at_once(evaluator, id, &instance, &messages)?.instance,
            false => instance::take(evaluator, id, &instance, &mail(turn)?)?.instance.clone(),
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
        let life = kept.execution.life;
        match &kept.state {
            State::Running(history) if evaluator.program.mutation == Mutation::NoTurnBoundaries => {
                replay_without_turns(evaluator, id, life, history)
            }
            State::Running(history) => replay(evaluator, id, life, history),
            // An ended instance has no evaluation to resume.
            State::Ended { .. } => Ok(kept.clone().with(|_| Part::new(Vec::new()))),
        }
    }

    fn keep(before: Option<&Instance<History>>, mail: &Mail, turn: &Turn) -> Instance<History> {
        let before = before.and_then(|before| match &before.state {
            State::Running(history) => Some(history.clone()),
            State::Ended { .. } => None,
        });
        let instance: Instance<Eval> = (*turn.instance).clone();
        // Histories that lead to the same state have the same future. They count as equal, so that
        // loops come back to where they were.
        instance.with(|state| {
            let turns = Turns { before, took: Took::Mail(mail.clone()), asked: turn.asked.clone() };
            Part::of(turns, &state.mark().to_le_bytes())
        })
    }

    fn keep_rewound(before: Instance<Eval>, back: Back, turn: &Turn) -> Instance<History> {
        let instance: Instance<Eval> = (*turn.instance).clone();
        instance.with(|state| {
            let took = Took::Rewound(Arc::new((before, back)));
            let turns = Turns { before: None, took, asked: turn.asked.clone() };
            Part::of(turns, &state.mark().to_le_bytes())
        })
    }
}
