//! Following a history: an instance runs along it, with its own program or with another one.

use std::rc::Rc;

use crate::machine::Image;

use super::evaluation::{Advance, Mismatch};
use super::functions::takes;
use super::history::History;
use super::instance::Instance;
use super::record::InstanceRecord;

/// The fuel between two entries of a replay, in calls and repetitions. A program that takes more
/// does not fit.
pub(super) const BETWEEN: u64 = 50_000_000;
pub(super) const SLICE: u64 = 1_000_000;

/// The result of following a history.
pub(super) enum Followed {
    /// The instance has made all entries.
    Live(Box<Instance>),
    /// The instance does not make the entry after so many.
    Differs { after: usize, sides: Mismatch },
}

/// Runs an instance along a history. The error says what its program lacks.
pub(super) fn follow(
    image: &Rc<Image>,
    record: &InstanceRecord,
    history: &History,
) -> Result<Followed, String> {
    takes_args(image, record)?;
    let mut instance = Instance::new(image, record.clone(), history.clone())?;
    let (mut seen, mut left) = (0, BETWEEN);
    while !instance.is_live() {
        let before = seen;
        let advance = instance.advance(SLICE, 0, true, &mut |_, _| seen += 1);
        if seen > before {
            left = BETWEEN;
        }
        match advance {
            Advance::More => {}
            Advance::OutOfFuel => {
                left = left
                    .checked_sub(SLICE)
                    .ok_or_else(|| format!("it computes without an end in sight after entry {seen}"))?;
            }
            Advance::Nondeterminism(sides) => return Ok(Followed::Differs { after: seen, sides }),
            Advance::Waiting | Advance::Ending | Advance::Ended | Advance::GraceIsOver(_) => {
                return Err("its history has an end".into());
            }
        }
    }
    Ok(Followed::Live(Box::new(instance)))
}

/// Checks that the instance's function takes its arguments.
pub(super) fn takes_args(image: &Image, record: &InstanceRecord) -> Result<(), String> {
    let code = &image.code;
    let Some(item) = code.find_isolated(&record.function) else { return Ok(()) };
    let function = &code.functions[code.isolated[item].body as usize];
    let arity = (u32::from(function.required), u32::from(function.params));
    takes(&record.function, arity, record.args.items().len())
}
