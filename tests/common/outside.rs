//! What lies outside of a simulated engine: activities, which run to their ends at once, and
//! effects, whose answers depend on a number alone.

use std::collections::HashMap;
use std::rc::Rc;

use durable::builtins::{Context, Effect};
use durable::code::ProgramHash;
use durable::engine::{Output, StepId};
use durable::machine::{Data, ErrorData, Identity, Image, Machine, Progress, Request, RequestKind, Value};

use super::Random;

/// The result of an effect or an activity, and the activity's messages.
pub type Done = (Result<Data, ErrorData>, Vec<Request>);

/// Answers an effect; the number is that of the request within the activity.
pub type Answers<'a> = &'a mut dyn FnMut(Effect, &Data, u64) -> Result<Data, ErrorData>;

/// Runs an activity to its end.
pub fn activity(
    image: Rc<Image>,
    step: &StepId,
    output: &Output,
    answers: Answers<'_>,
) -> Result<Done, String> {
    let Output::Activity { name, args, key, .. } = output else { return Err("it is no activity".into()) };
    let at = image.code.find_isolated(name).ok_or("an unknown activity")?;
    let body = image.code.isolated[at].body;
    let args = match args.decode() {
        Value::List(args) => args.as_slice().to_vec(),
        _ => Vec::new(),
    };
    let (id, key) = (step.owner.to_string(), key.clone());
    let identity = Identity { id, key, attempt: step.attempt, entity: None };
    let mut machine = Machine::new(image, Context::Activity, body, args, identity);
    loop {
        match machine.run(1_000_000) {
            Progress::OutOfFuel => {}
            Progress::Done(result) => return Ok((result, machine.take_sends())),
            Progress::Waiting => {
                for request in machine.take_requests() {
                    let RequestKind::Effect(effect) = request.what else {
                        return Err("an activity asks for something else than an effect".into());
                    };
                    let result = answers(effect, &request.args, request.seq);
                    machine.answer(request.seq, result);
                }
            }
        }
    }
}

/// Carries out an effect or an activity, with answers from a number.
pub fn carry_out(
    images: &HashMap<ProgramHash, Rc<Image>>,
    step: &StepId,
    output: &Output,
    now: i64,
    number: u64,
) -> Result<Done, String> {
    let mut random = Random::new(number);
    let mut answers = |effect: Effect, args: &Data, _: u64| effect_of(effect, args, now, random.next());
    match output {
        Output::Effect { effect, args, .. } => Ok((answers(*effect, args, 0), Vec::new())),
        Output::Activity { program, .. } => {
            let image = images.get(program).cloned().ok_or("an activity of an unknown program")?;
            activity(image, step, output, &mut answers)
        }
        other => Err(format!("{other:?} can't be carried out")),
    }
}

/// Answers an effect of a world without files, programs and networks.
pub fn effect_of(effect: Effect, args: &Data, now: i64, number: u64) -> Result<Data, ErrorData> {
    let args = match args.decode() {
        Value::List(args) => args.as_slice().to_vec(),
        _ => Vec::new(),
    };
    let value = match (effect, &args[..]) {
        (Effect::Now, _) => Value::Instant(now),
        (Effect::Random, _) => Value::float((number % 1000) as f64 / 1000.0),
        (Effect::RandomInt, [Value::Int(low), Value::Int(high)]) => {
            Value::Int(low + (number % (high.abs_diff(*low) + 1)) as i64)
        }
        (Effect::Uuid, _) => Value::str(format!("{:08x}-0000-4000-8000-000000000000", number as u32)),
        (Effect::TimeZone, [Value::Str(name)]) => durable::machine::zones::named(name.as_str())?,
        (Effect::FsExists, _) => Value::bool(number.is_multiple_of(2)),
        (Effect::Env, _) | (Effect::Print | Effect::Log | Effect::Sleep, _) => Value::Null,
        _ => return Err(ErrorData::new("io_error", format!("`{effect}` is not of this world"))),
    };
    Ok(Data::encode(&value).expect("data"))
}
