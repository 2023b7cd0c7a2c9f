//! Random walks from a seed, for schedules beyond the bounds of a search.

use crate::model::observe::{wrong_at_rest, wrong_now};
use crate::model::{Evaluator, Model, Observation, Program, Stop, Violation};

use super::Found;

/// A generator of random numbers from a seed (G. Steele et al., *Fast splittable pseudorandom
/// number generators*, 2014).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Returns a random number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ (z >> 31)) * n as u128) >> 64) as usize
    }
}

/// The result of a walk.
pub struct Walk<S> {
    pub steps: usize,
    /// The observation at the end, if the walk came to rest.
    pub outcome: Option<Observation>,
    pub found: Option<Found<S>>,
}

/// Takes one random schedule of at most `longest` steps.
pub fn walk<M: Model>(
    model: &M,
    program: &Program,
    seed: u64,
    longest: usize,
) -> Result<Walk<M::Step>, Stop> {
    let mut evaluator = Evaluator::new(program)?;
    walk_with(model, &mut evaluator, seed, longest)
}

/// Like `walk`, with an evaluator of the program.
pub fn walk_with<M: Model>(
    model: &M,
    evaluator: &mut Evaluator<'_>,
    seed: u64,
    longest: usize,
) -> Result<Walk<M::Step>, Stop> {
    let mut random = Random::new(seed);
    let mut config = model.initial(evaluator)?;
    let mut schedule = Vec::new();
    for _ in 0..longest {
        if let Some(violation) = wrong_now(model, evaluator, &config)? {
            let found = shorten(model, evaluator, Found { violation, schedule, cycle: Vec::new() })?;
            return Ok(Walk { steps: found.schedule.len(), outcome: None, found: Some(found) });
        }
        let steps = model.enabled(evaluator, &config)?;
        if steps.is_empty() {
            let seen = model.seen(&config);
            let outcome = Some(seen.observe());
            let steps = schedule.len();
            let found = match wrong_at_rest(model, evaluator, &config)? {
                Some(violation) => {
                    Some(shorten(model, evaluator, Found { violation, schedule, cycle: Vec::new() })?)
                }
                None => None,
            };
            return Ok(Walk { steps, outcome, found });
        }
        let step = steps[random.below(steps.len())].clone();
        config = model.apply(evaluator, &config, &step)?;
        schedule.push(step);
    }
    Ok(Walk { steps: schedule.len(), outcome: None, found: None })
}

/// Returns a shorter schedule to a violation of the same kind, by leaving out unneeded steps.
fn shorten<M: Model>(
    model: &M,
    evaluator: &mut Evaluator<'_>,
    found: Found<M::Step>,
) -> Result<Found<M::Step>, Stop> {
    let mut best = found;
    let mut at = 0;
    while at < best.schedule.len() {
        let mut wanted = best.schedule.clone();
        wanted.remove(at);
        match run(model, evaluator, &wanted)? {
            Some((violation, taken))
                if taken.len() < best.schedule.len()
                    && std::mem::discriminant(&violation) == std::mem::discriminant(&best.violation) =>
            {
                best = Found { violation, schedule: taken, cycle: Vec::new() };
            }
            _ => at += 1,
        }
    }
    Ok(best)
}

/// A violation, and the steps that led to it.
type Violated<M> = Option<(Violation, Vec<<M as Model>::Step>)>;

/// Takes the given steps in their order, and skips those that are not possible.
fn run<M: Model>(model: &M, evaluator: &mut Evaluator<'_>, wanted: &[M::Step]) -> Result<Violated<M>, Stop> {
    let mut config = model.initial(evaluator)?;
    let mut taken = Vec::new();
    for step in wanted {
        if let Some(violation) = wrong_now(model, evaluator, &config)? {
            return Ok(Some((violation, taken)));
        }
        if !model.enabled(evaluator, &config)?.contains(step) {
            continue;
        }
        config = model.apply(evaluator, &config, step)?;
        taken.push(step.clone());
    }
    if let Some(violation) = wrong_now(model, evaluator, &config)? {
        return Ok(Some((violation, taken)));
    }
    if model.enabled(evaluator, &config)?.is_empty()
        && let Some(violation) = wrong_at_rest(model, evaluator, &config)?
    {
        return Ok(Some((violation, taken)));
    }
    Ok(None)
}
