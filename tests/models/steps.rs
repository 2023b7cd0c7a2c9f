//! The models step by step: each step of a storage model is a step of the high-level model, or
//! changes nothing that the high-level model has.
//!
//! A configuration of a storage model stands for a high-level one: the states of participants (of
//! an instance with a history, the state that its replay leads to), messages sent or arrived, tasks
//! without a recorded result, and timers that were not consumed. A high-level configuration
//! accompanies each storage configuration. It takes the step that the storage model's step stands
//! for, if the rules allow that. Then both must stand for the same.

use std::collections::{BTreeMap, HashSet, VecDeque};

use durable::model::compute_storage::{Config, Keep, Read, StorageStep};
use durable::model::entity::Entity;
use durable::model::high_level::{self, HighLevelStep};
use durable::model::instance::Instance;
use durable::model::message::{EntityName, Id, Message, Name};
use durable::model::part::Part;
use durable::model::{Eval, Evaluator, HighLevel, Interventions, Model, Program, Stop, Storage};

use super::common::Random;

/// The meaning of a configuration: the hash of each part.
#[derive(Debug, Default, PartialEq)]
struct Meaning {
    instances: BTreeMap<Id, u128>,
    entities: BTreeMap<EntityName, u128>,
    tasks: BTreeMap<(Id, u64), u128>,
    mail: BTreeMap<(Name, Name), Vec<u128>>,
    timers: Vec<(Name, u128)>,
    orphans: Vec<u128>,
    left: Interventions,
}

impl Meaning {
    /// Returns the names of the parts that differ.
    fn differs(&self, other: &Meaning) -> String {
        let parts = [
            ("instances", self.instances != other.instances),
            ("entities", self.entities != other.entities),
            ("tasks", self.tasks != other.tasks),
            ("mail", self.mail != other.mail),
            ("timers", self.timers != other.timers),
            ("orphans", self.orphans != other.orphans),
            ("interventions", self.left != other.left),
        ];
        let parts: Vec<&str> = parts.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
        parts.join(", ")
    }
}

fn of_high_level(c: &high_level::Config) -> Meaning {
    let mut timers: Vec<(Name, u128)> = c.timers.told().map(|(to, mail)| (to.clone(), mail.mark())).collect();
    timers.sort();
    Meaning {
        instances: c.instances.iter().map(|(id, known)| (id.clone(), known.mark())).collect(),
        entities: c.entities.iter().map(|(id, known)| (id.clone(), known.mark())).collect(),
        tasks: c.tasks.iter().map(|(of, task)| (of.clone(), task.mark())).collect(),
        mail: c.mail.iter().map(|(way, all)| (way.clone(), all.iter().map(Part::mark).collect())).collect(),
        timers,
        orphans: c.orphans.iter().map(Part::mark).collect(),
        left: c.left,
    }
}

fn of_storage<K: Keep>(evaluator: &mut Evaluator<'_>, c: &Config<K::State>) -> Result<Meaning, Stop> {
    let mut meaning = Meaning::default();
    let mut timers: Vec<(Name, u128)> = c.timers.told().map(|(to, mail)| (to.clone(), mail.mark())).collect();
    let mut come = |meaning: &mut Meaning, to: &Name, inbox: &VecDeque<(Option<Name>, Part<Message>)>| {
        for (from, mail) in inbox {
            match from {
                Some(from) => {
                    meaning.mail.entry((from.clone(), to.clone())).or_default().push(mail.mark());
                }
                None => timers.push((to.clone(), mail.mark())),
            }
        }
    };
    for (id, stored) in c.instances.iter() {
        if let Some(kept) = &stored.state {
            let instance: Instance<Eval> = K::read(evaluator, id, kept)?;
            meaning.instances.insert(id.clone(), Part::new(instance).mark());
        }
        come(&mut meaning, &Name::Instance(id.clone()), &stored.inbox);
    }
    for (id, stored) in c.entities.iter() {
        let touched = stored.state.as_ref().filter(|entity: &&Entity| !entity.is_untouched());
        if let Some(entity) = touched {
            meaning.entities.insert(id.clone(), Part::new(entity.clone()).mark());
        }
        come(&mut meaning, &Name::Entity(id.clone()), &stored.inbox);
    }
    for (way, queue) in c.outbox.iter() {
        // A message with number 0 has arrived: it is in the inbox, or was consumed.
        for (_, mail) in queue.iter().filter(|(number, _)| *number > 0) {
            meaning.mail.entry(way.clone()).or_default().push(mail.mark());
        }
    }
    timers.sort();
    meaning.timers = timers;
    meaning.tasks = c.tasks.iter().map(|(of, task)| (of.clone(), task.mark())).collect();
    meaning.orphans = c.orphans.iter().map(Part::mark).collect();
    meaning.left = c.left;
    Ok(meaning)
}

/// Returns whether a step of a storage model may stand for a step of the high-level model.
fn stands_for<S: Clone + std::fmt::Debug + Eq + std::hash::Hash>(
    c: &Config<S>,
    step: &StorageStep,
    high: &HighLevelStep,
) -> bool {
    let heeds = |head: Option<&(Option<Name>, Part<Message>)>, who: &Name| match (head, high) {
        (Some((Some(sender), _)), HighLevelStep::Deliver { from, to }) => sender == from && to == who,
        (Some((None, _)), HighLevelStep::Elapse { timer: (to, _) }) => to == who,
        _ => false,
    };
    match step {
        StorageStep::Commit { work, outcome } => {
            match c.work.iter().find(|known| known.mark() == *work).map(|w| &w.read) {
                Some(Read::Instance { id, kept }) => heeds(kept.inbox.front(), &Name::Instance(id.clone())),
                Some(Read::Entity { id, kept, turn: false }) => {
                    heeds(kept.inbox.front(), &Name::Entity(id.clone()))
                }
                Some(Read::Entity { id, .. }) => match high {
                    HighLevelStep::Acquire { entity } => entity == id,
                    HighLevelStep::Operate { entity, outcome: chosen } => entity == id && chosen == outcome,
                    _ => false,
                },
                None => false,
            }
        }
        // The recorded result is the outcome of the task. The absence of a result is never
        // recorded.
        StorageStep::Record { result } => {
            match (c.results.iter().find(|known| known.mark() == *result), high) {
                (Some(known), HighLevelStep::Perform { instance, seq, .. }) => {
                    *instance == known.instance && *seq == known.seq
                }
                _ => false,
            }
        }
        StorageStep::Perform { instance, seq, outcome } => {
            matches!(high, HighLevelStep::Perform { instance: i, seq: s, outcome: o } if i == instance && s == seq && o == outcome)
        }
        StorageStep::Late { orphan, outcome } => {
            matches!(high, HighLevelStep::Late { orphan: other, outcome: o } if other == orphan && o == outcome)
        }
        StorageStep::Intervene(low) => matches!(high, HighLevelStep::Intervene(other) if other == low),
        StorageStep::Lapse { orphan } => {
            matches!(high, HighLevelStep::Lapse { orphan: other } if other == orphan)
        }
        StorageStep::Transfer { .. }
        | StorageStep::Read { .. }
        | StorageStep::Refuse { .. }
        | StorageStep::Elapse { .. }
        | StorageStep::Crash => false,
    }
}

/// A storage model beside the high-level model, with a machine for each, since one of them may have
/// a fault.
struct Beside<'a, K> {
    low: &'a Storage<K>,
    of_low: Evaluator<'a>,
    of_high: Evaluator<'a>,
    main: Id,
}

/// A configuration of a storage model, and the high-level one, once the main instance has begun.
type Pair<K> = (Config<<K as Keep>::State>, Option<high_level::Config>);

impl<'a, K: Keep> Beside<'a, K> {
    fn new(low: &'a Storage<K>, of_low: &'a Program, of_high: &'a Program) -> Result<Self, Stop> {
        let main = of_low.main.clone();
        Ok(Beside { low, of_low: Evaluator::new(of_low)?, of_high: Evaluator::new(of_high)?, main })
    }

    fn initial(&mut self) -> Result<Pair<K>, String> {
        Ok((self.low.initial(&mut self.of_low).map_err(|stop| format!("{stop:?}"))?, None))
    }

    /// Returns the steps from a configuration. Where there are none, the high-level model must have
    /// none.
    fn steps(&mut self, (c, high): &Pair<K>) -> Result<Vec<StorageStep>, String> {
        let steps = self.low.enabled(&mut self.of_low, c).map_err(|stop| format!("{stop:?}"))?;
        if let (true, Some(high)) = (steps.is_empty(), high) {
            let more = HighLevel.enabled(&mut self.of_high, high).map_err(|stop| format!("{stop:?}"))?;
            if let Some(more) = more.first() {
                return Err(format!("it is at rest, where the high-level model goes on with {more:?}"));
            }
        }
        Ok(steps)
    }

    /// Takes a step in both models.
    fn take(&mut self, (c, high): &Pair<K>, step: &StorageStep) -> Result<Pair<K>, String> {
        let stopped = |stop: Stop| format!("{step:?}: {stop:?}");
        let next = self.low.apply(&mut self.of_low, c, step).map_err(stopped)?;
        let has_begun =
            |c: &Config<K::State>| c.instances.get(&self.main).is_some_and(|main| main.state.is_some());
        let Some(high) = high else {
            if !has_begun(&next) {
                return Ok((next, None));
            }
            let high = HighLevel.initial(&mut self.of_high).map_err(stopped)?;
            let wanted = of_storage::<K>(&mut self.of_low, &next).map_err(stopped)?;
            return match of_high_level(&high) == wanted {
                true => Ok((next, Some(high))),
                false => Err(format!("{step:?}: the beginning is another: {wanted:?}")),
            };
        };
        let wanted = of_storage::<K>(&mut self.of_low, &next).map_err(stopped)?;
        if of_high_level(high) == wanted {
            return Ok((next, Some(high.clone())));
        }
        for candidate in HighLevel.enabled(&mut self.of_high, high).map_err(stopped)? {
            if stands_for(c, step, &candidate) {
                let reached = HighLevel.apply(&mut self.of_high, high, &candidate).map_err(stopped)?;
                if of_high_level(&reached) == wanted {
                    return Ok((next, Some(reached)));
                }
            }
        }
        let shown = self.low.show(&mut self.of_low, c, step);
        let mut reason = format!("{} {} is no step of the high-level model, ", shown.who, shown.what);
        for candidate in HighLevel.enabled(&mut self.of_high, high).map_err(stopped)? {
            if stands_for(c, step, &candidate) {
                let reached = HighLevel.apply(&mut self.of_high, high, &candidate).map_err(stopped)?;
                reason += &format!("not {candidate:?}, by {} ", of_high_level(&reached).differs(&wanted));
            }
        }
        reason += &format!("{:?}", c.instances.iter().map(|(id, i)| (id, &i.inbox)).collect::<Vec<_>>());
        Err(reason)
    }
}

/// The number of compared steps, and whether they are all.
pub type Compared = (u64, bool);

/// Compares all steps from the first `most` configurations, and those of random schedules if there
/// are more.
pub fn compare<K: Keep>(
    low: &Storage<K>,
    of_low: &Program,
    of_high: &Program,
    most: usize,
) -> Result<Compared, String> {
    let mut beside = Beside::new(low, of_low, of_high).map_err(|stop| format!("{stop:?}"))?;
    let initial = beside.initial()?;
    let mut known: HashSet<u128> = HashSet::from([low.fingerprint(&initial.0)]);
    let mut waiting = VecDeque::from([initial.clone()]);
    let (mut compared, mut expanded) = (0, 0);
    while let Some(pair) = waiting.pop_front() {
        let heavy = pair.0.instances.len() + pair.0.tasks.len() + pair.0.timers.told().count().pow(2);
        if expanded >= most || known.len() * heavy > MOST_WEIGHT {
            waiting.push_back(pair);
            break;
        }
        expanded += 1;
        for step in beside.steps(&pair)? {
            let next = beside.take(&pair, &step)?;
            compared += 1;
            if known.insert(low.fingerprint(&next.0)) {
                waiting.push_back(next);
            }
        }
    }
    if waiting.is_empty() {
        return Ok((compared, true));
    }
    for seed in 0..WALKS {
        let mut random = Random::new(seed);
        let mut pair = initial.clone();
        for _ in 0..STEPS_OF_A_WALK {
            let size = pair.0.instances.len() + pair.0.tasks.len() + pair.0.timers.told().count();
            if size > MOST_SIZE {
                break;
            }
            let steps = beside.steps(&pair)?;
            if steps.is_empty() {
                break;
            }
            let step = &steps[random.below(steps.len() as u64) as usize];
            pair = beside.take(&pair, step)?;
            compared += 1;
        }
    }
    Ok((compared, false))
}

/// The total weight of the configurations, by their contents, and the size above which a random
/// schedule stops.
const MOST_WEIGHT: usize = 20_000;
const MOST_SIZE: usize = 60;
/// The number of random schedules of a program with too many configurations, and their greatest
/// length.
const WALKS: u64 = 2;
const STEPS_OF_A_WALK: u64 = 100;
