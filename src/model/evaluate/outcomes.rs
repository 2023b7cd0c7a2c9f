//! The outcomes of activities, operations and effects, under each choice of the environment.

use std::rc::Rc;

use crate::builtins::{Context, Effect, databases, engine, files, lines, looks, messages, outside, programs};
use crate::code::{FunctionId, Mock, Outcome};
use crate::machine::{
    Data, EntityId, ErrorData, Identity, Image, Machine, Progress, RequestKind, Value, find_operation, zones,
};

use super::super::START;
use super::super::message::{Asked, EntityName, answer, asked, shown};
use super::super::part::{Part, fingerprint};
use super::super::view::View;
use super::{Done, Evaluator, FUEL, Moment, REMEMBERED, Stop, Turns, data};

/// The most outcomes of one task.
const MOST_OUTCOMES: usize = 64;

/// The source of the environment's choices where not all of them are explored.
pub trait Chooser {
    /// Chooses one of the outcomes of the mock of this activity or effect.
    fn outcome(&mut self, mock: &str, count: usize) -> usize;
    /// Returns any 64 bits.
    fn bits(&mut self) -> u64;
}

/// A path through the choices of the environment.
#[derive(Default)]
struct Choices<'c> {
    /// The source of choices; `None` to explore all paths.
    chooser: Option<&'c mut dyn Chooser>,
    path: Vec<(usize, usize)>,
    at: usize,
    names: Vec<String>,
    /// The instant that the clock showed.
    read: Option<i64>,
    /// The positions of mocks.
    turns: Turns,
}

impl Choices<'_> {
    fn of(now: &Moment) -> Choices<'static> {
        Choices { turns: now.turns.clone(), ..Choices::default() }
    }

    /// Chooses one of the outcomes of a mock. If these come in turn, `turn` is the mock's number
    /// among such mocks.
    fn outcome(&mut self, mock: &Mock, turn: Option<usize>) -> usize {
        let count = mock.outcomes.len();
        match (&mut self.chooser, turn.and_then(|turn| self.turns.get_mut(turn))) {
            (Some(chooser), _) => chooser.outcome(&mock.target, count).min(count - 1),
            (None, Some(turn)) => {
                let at = usize::from(*turn).min(count - 1);
                *turn = turn.saturating_add(1).min(count.min(255) as u8 - 1);
                at
            }
            (None, None) => self.choose(count),
        }
    }

    /// Returns a result of `random`.
    fn fraction(&mut self) -> f64 {
        match &mut self.chooser {
            Some(chooser) => (chooser.bits() >> 11) as f64 / (1u64 << 53) as f64,
            None => [0.0, 0.5][self.choose(2)],
        }
    }

    /// Returns a result of `random_int`.
    fn int(&mut self, low: i64, high: i64) -> i64 {
        let span = high.saturating_sub(low);
        match (&mut self.chooser, span) {
            (Some(chooser), _) => {
                let count = (i128::from(high) - i128::from(low) + 1).max(1);
                (i128::from(low) + i128::from(chooser.bits()) % count) as i64
            }
            (None, 0..16) => low + self.choose(span as usize + 1) as i64,
            (None, _) => [low, low + span / 2, high][self.choose(3)],
        }
    }

    /// Returns the instant that the clock shows. It is the same throughout one attempt.
    fn instant(&mut self, clock: &[i64]) -> i64 {
        let shown = match self.read {
            Some(shown) => shown,
            None if self.chooser.is_none() && clock.len() > 1 => clock[self.choose(clock.len())],
            None => clock.first().copied().unwrap_or(START),
        };
        self.read = Some(shown);
        shown
    }

    /// Chooses a number below `count`.
    fn choose(&mut self, count: usize) -> usize {
        if self.at == self.path.len() {
            self.path.push((0, count));
        }
        self.at += 1;
        self.path[self.at - 1].0
    }

    /// Moves to the next path. Returns false if there is none.
    fn next(&mut self, now: &Moment) -> bool {
        self.turns.clone_from(&now.turns);
        self.at = 0;
        self.names.clear();
        self.read = None;
        while let Some((chosen, count)) = self.path.pop() {
            if chosen + 1 < count {
                self.path.push((chosen + 1, count));
                return true;
            }
        }
        false
    }
}

impl Evaluator<'_> {
    /// Returns the possible outcomes of an entity's operation, run to its end.
    pub fn operate(
        &mut self,
        entity: &EntityId,
        operation: &str,
        args: &Data,
        state: Option<&Part<Data>>,
        key: &str,
        now: &Moment,
    ) -> Result<Rc<Vec<Done>>, Stop> {
        let seen: &[i64] = if self.program.facts.reads_clock { &now.clock } else { &[] };
        let known = if self.program.facts.reads_keys { key } else { "" };
        let hash = fingerprint(&(
            "operate",
            entity,
            operation,
            args,
            state.map(Part::mark),
            known,
            seen,
            &now.turns,
        ));
        if let Some(known) = self.done.get(&hash) {
            return Ok(known.clone());
        }
        let image = self.image.clone();
        let mut choices = Choices::of(now);
        let mut all = Vec::new();
        loop {
            let value = state.map(|state| state.decode());
            let machine = begin_operation(&image, entity, operation, args, value, key);
            let done = match machine {
                Err(error) => Done::of(Some(answer(Err(error)))),
                Ok(machine) => self.run_to_end(machine, &mut choices, key, now, None)?,
            };
            all.push(done);
            if !choices.next(now) || all.len() >= MOST_OUTCOMES {
                break;
            }
        }
        self.keep(hash, all)
    }

    /// Returns the arguments of a mocked call that an operation takes, as it may have fewer
    /// parameters.
    pub fn fitting(&self, entity: &EntityId, operation: &str, args: &Data) -> Data {
        let declared = self.image.code.find_entity(&entity.name);
        let found = declared.and_then(|known| known.operations.iter().find(|known| known.name == operation));
        let mut items = args.items();
        match found {
            Some(found) if items.len() > found.params => {
                items.truncate(found.params);
                Data::encode(&Value::list(items)).unwrap_or_else(|_| args.clone())
            }
            _ => args.clone(),
        }
    }

    /// Returns the possible outcomes of an attempt at an activity or an effect.
    pub fn perform(
        &mut self,
        task: &Asked,
        key: &str,
        number: u32,
        now: &Moment,
        view: &dyn View,
    ) -> Result<Rc<Vec<Done>>, Stop> {
        let seen: &[i64] = if self.program.facts.reads_clock { &now.clock } else { &[] };
        let known = if self.program.facts.reads_keys { key } else { "" };
        let number = if self.program.facts.reads_attempts { number } else { 1 };
        let hash = fingerprint(&("perform", task.mark(), known, number, seen, &now.turns));
        if let Some(known) = self.done.get(&hash) {
            return Ok(known.clone());
        }
        let mut choices = Choices::of(now);
        let mut all = Vec::new();
        loop {
            all.push(self.attempt(task, &mut choices, (key, number), now, view)?);
            if !choices.next(now) || all.len() >= MOST_OUTCOMES {
                break;
            }
        }
        self.keep(hash, all)
    }

    /// Returns the outcome of an attempt at an activity or an effect, for one choice of the
    /// environment.
    pub fn perform_once(
        &mut self,
        task: &Asked,
        key: &str,
        number: u32,
        now: &Moment,
        view: &dyn View,
        chooser: &mut dyn Chooser,
    ) -> Result<Done, Stop> {
        let mut choices = Choices { chooser: Some(chooser), ..Choices::default() };
        self.attempt(task, &mut choices, (key, number), now, view)
    }

    fn attempt(
        &mut self,
        task: &Asked,
        choices: &mut Choices<'_>,
        (key, attempt): (&str, u32),
        now: &Moment,
        view: &dyn View,
    ) -> Result<Done, Stop> {
        let RequestKind::Activity { name, .. } = &task.what else {
            return self.effect(task, choices, key, now, view);
        };
        if let Some(mock) = self.program.mock(name, true) {
            return self.mocked(&mock.clone(), task, choices, view);
        }
        let code = &self.image.code;
        let body = code.find_isolated(name).map(|at| code.isolated[at].body);
        let body = body.ok_or_else(|| Stop::Fault(format!("no activity `{name}`")))?;
        let identity = Identity { key: key.to_string(), attempt, ..Identity::default() };
        let machine = Machine::new(self.image.clone(), Context::Activity, body, task.args.items(), identity);
        // An activity that calls an entity takes more than one step, so it needs a mock.
        self.run_to_end(machine, choices, key, now, Some(view)).map_err(|stop| match stop {
            Stop::NoMock { request } if !matches!(request.what, RequestKind::Effect(_)) => {
                Stop::NoMock { request: task.clone() }
            }
            stop => stop,
        })
    }

    fn keep(&mut self, hash: u128, mut all: Vec<Done>) -> Result<Rc<Vec<Done>>, Stop> {
        if all.len() == 1 {
            all.iter_mut().for_each(|done| done.choice = None);
        }
        if self.done.len() >= REMEMBERED {
            self.done.clear();
        }
        let all = Rc::new(all);
        self.done.insert(hash, all.clone());
        Ok(all)
    }

    /// Runs an activity or an operation to its end. Its own effects are done at once.
    fn run_to_end(
        &mut self,
        mut machine: Machine,
        choices: &mut Choices<'_>,
        key: &str,
        now: &Moment,
        view: Option<&dyn View>,
    ) -> Result<Done, Stop> {
        loop {
            match machine.run_and_note(FUEL) {
                Progress::OutOfFuel => return Err(Stop::Endless),
                Progress::Waiting => {
                    let requests = machine.take_requests();
                    if requests.is_empty() {
                        return Err(Stop::Fault("it waits for nothing".into()));
                    }
                    for request in requests {
                        let seq = request.seq;
                        let key = format!("{key}.{seq}");
                        let done =
                            self.effect(&asked(request), choices, &key, now, view.unwrap_or(&Nothing))?;
                        let result = done.result.map(|result| (*result).clone());
                        machine.answer(seq, result.unwrap_or_else(|| Ok(Data::null())));
                    }
                }
                Progress::Done(result) => {
                    let mut state = None;
                    let result = result.and_then(|value| {
                        state = machine.take_state()?;
                        Ok(value)
                    });
                    let sends: Vec<Asked> = match &result {
                        Ok(_) => machine.take_sends().into_iter().map(asked).collect(),
                        Err(_) => Vec::new(),
                    };
                    sends.iter().for_each(|send| self.notices.asks(send));
                    let state = state.map(|state| state.map(|(_, data)| Part::new(data)));
                    let choice = (!choices.names.is_empty()).then(|| choices.names.join(", "));
                    let read = choices.read;
                    return Ok(Done {
                        choice,
                        result: Some(answer(result)),
                        state,
                        sends,
                        world: None,
                        read,
                        turns: choices.turns.clone(),
                    });
                }
            }
        }
    }

    /// Returns one of the outcomes of a mock.
    fn mocked(
        &mut self,
        mock: &Mock,
        task: &Asked,
        choices: &mut Choices<'_>,
        view: &dyn View,
    ) -> Result<Done, Stop> {
        self.notices.mocks.insert(mock.place);
        let at = choices.outcome(mock, self.program.turn_of(mock));
        let done = match &mock.outcomes[at] {
            Outcome::Never => Done::of(None),
            Outcome::Function(function) => Done::of(Some(answer(self.mock_function(*function, task, view)?))),
            Outcome::Operation(function, operation) => match self.value(*function, Vec::new(), view)? {
                Ok(Value::Entity(entity)) => match EntityId::of(&entity) {
                    Ok(entity) => Done {
                        world: Some((EntityName::from(entity), operation.as_str().into())),
                        ..Done::of(Some(answer(Ok(Data::null()))))
                    },
                    Err(failure) => Done::of(Some(answer(Err(ErrorData {
                        value: Data::encode(&failure.value).unwrap_or_default(),
                        trace: Default::default(),
                    })))),
                },
                Ok(_) => return Err(Stop::Fault("a mock's entity is none".into())),
                Err(error) => Done::of(Some(answer(Err(error)))),
            },
        };
        let name = match &done.result {
            None => "never".to_string(),
            Some(_) if done.world.is_some() => "done in the world".to_string(),
            Some(result) => match &**result {
                Ok(value) => shown(value),
                Err(error) => format!("error {}", error.title()),
            },
        };
        Ok(Done { choice: Some(name), turns: choices.turns.clone(), ..done })
    }

    /// Calls a mock's function with the arguments. It may have fewer parameters than there are
    /// arguments.
    fn mock_function(
        &mut self,
        function: FunctionId,
        task: &Asked,
        view: &dyn View,
    ) -> Result<Result<Data, ErrorData>, Stop> {
        let params = usize::from(self.image.code.functions[function as usize].params);
        let mut args = task.args.items();
        args.truncate(params);
        let value = self.value(function, args, view)?;
        Ok(value.and_then(|value| {
            Data::encode_named(&value, "the mock's value").map_err(|failure| ErrorData {
                value: Data::encode(&failure.value).unwrap_or_default(),
                trace: Default::default(),
            })
        }))
    }

    /// Performs an effect of an instance, an activity or an operation.
    fn effect(
        &mut self,
        request: &Asked,
        choices: &mut Choices<'_>,
        key: &str,
        now: &Moment,
        view: &dyn View,
    ) -> Result<Done, Stop> {
        let RequestKind::Effect(effect) = request.what else {
            return Err(Stop::NoMock { request: request.clone() });
        };
        if let Some(mock) = self.program.mock(effect.name(), false) {
            let done = self.mocked(&mock.clone(), request, choices, view)?;
            choices.names.extend(done.choice.clone());
            return Ok(done);
        }
        let args = request.args.items();
        let value = match effect {
            lines!() | Effect::Sleep => Value::Null,
            Effect::Now => Value::Instant(choices.instant(&now.clock)),
            Effect::Random => Value::float(choices.fraction()),
            Effect::RandomInt => {
                let (Some(Value::Int(low)), Some(Value::Int(high))) = (args.first(), args.get(1)) else {
                    return Err(Stop::Fault("random_int without bounds".into()));
                };
                Value::Int(choices.int(*low, *high))
            }
            Effect::Uuid => {
                let hash = fingerprint(&("uuid", key));
                Value::str(format!(
                    "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
                    hash as u32,
                    (hash >> 32) as u16,
                    (hash >> 48) as u16 & 0xfff,
                    (hash >> 64) as u16 & 0xfff,
                    (hash >> 80) & 0xffff_ffff_ffff
                ))
            }
            // No server is there. Two steps get two URLs, as with one.
            Effect::CallbackUrl => {
                let Some(Value::Str(event)) = args.first() else {
                    return Err(Stop::Fault("callback_url without an event".into()));
                };
                let hash = fingerprint(&("callback_url", key)) as u64;
                Value::str(format!("http://localhost/callback/{hash:016x}/{}", event.as_str()))
            }
            // The answer is the same in every run of this version.
            Effect::TimeZone => {
                let Some(Value::Str(name)) = args.first() else {
                    return Err(Stop::Fault("time.zone without a name".into()));
                };
                match zones::named(name.as_str()) {
                    Ok(zone) => zone,
                    Err(error) => return Ok(Done::of(Some(answer(Err(error))))),
                }
            }
            looks!() => {
                return Err(Stop::Looks { request: request.clone() });
            }
            Effect::Env
            | Effect::Secret
            | Effect::HashHmac
            | outside!()
            | files!()
            | programs!()
            | databases!() => {
                return Err(Stop::NoMock { request: request.clone() });
            }
            // The models answer these effects themselves, so they never come here.
            engine!() | messages!() => return Err(Stop::NoMock { request: request.clone() }),
        };
        let chosen = matches!(effect, Effect::Random | Effect::RandomInt)
            || effect == Effect::Now && now.clock.len() > 1;
        let name = chosen.then(|| shown(&data(&value)));
        choices.names.extend(name.clone());
        Ok(Done { choice: name, read: choices.read, ..Done::of(Some(answer(Ok(data(&value))))) })
    }
}

/// A view with nothing in it.
pub struct Nothing;

impl View for Nothing {
    fn state(&self, _: &EntityId) -> Option<Data> {
        None
    }

    fn states(&self, _: &str) -> Vec<(Data, Data)> {
        Vec::new()
    }

    fn outcome(&self, _: &str) -> Value {
        Value::Null
    }
}

fn begin_operation(
    image: &Rc<Image>,
    entity: &EntityId,
    operation: &str,
    args: &Data,
    state: Option<Value>,
    key: &str,
) -> Result<Machine, ErrorData> {
    let name = &entity.name;
    let unknown = || ErrorData::new("unknown_entity", format!("no program here declares entity `{name}`"));
    let declared = image.code.find_entity(name).ok_or_else(unknown)?;
    let found = find_operation(declared, name, operation)?;
    let identity =
        Identity { id: String::new(), key: key.to_string(), entity: Some(entity.clone()), attempt: 1 };
    Machine::operation(image.clone(), declared, found, args.items(), state, identity)
}
