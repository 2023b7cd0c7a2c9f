//! Workers over one database: each partition has an owner, and owners come and go. The environment
//! chooses what becomes of each commit, when a partition is taken over, which owner is stalled and
//! goes on later without knowing better, and when the database goes back to an earlier time.
//!
//! The world checks that no commit of a deposed owner lands. What the programs promise is checked
//! at the end, by the same rules as in every other world.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use durable::engine::{
    Address, Ending, Engine, Event, Gate, Incoming, InstanceRecord, Leaving, Output, Placement, SCRIPT,
    StepId, Unwritten, look_up, read_record, recovery,
};
use durable::kv::{Arrival, Partition, Source};
use durable::machine::{Data, Image, Value};

use super::Random;
use super::database::{Answer, Broken, Commit, Database};
use super::outside;
use super::promises::check_rest;

pub const ID: &str = "sim";
/// The number of steps after which a run counts as endless.
const MOST_STEPS: u64 = 120_000;

/// What the environment may do.
#[derive(Clone, Copy, Debug)]
pub struct Environment {
    /// Whether commits get lost, and land late.
    pub loses: bool,
    /// Whether partitions are taken over while their owners go on.
    pub deposes: bool,
    /// Whether the database goes back to an earlier time.
    pub restores: bool,
    /// Whether partitions are split.
    pub splits: bool,
}

/// What becomes of one request to commit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    /// It does not come there.
    Fails,
    /// It may come there later.
    Late,
    /// It is carried out, and the answer is lost.
    Unheard,
    /// The owner dies, and the request may come there later.
    DiesBefore,
    /// It is carried out, and the owner dies.
    DiesAfter,
    /// Another worker takes the partition over, and the request may come there later.
    DeposedBefore,
    /// It is carried out, and then another worker takes the partition over.
    DeposedAfter,
}

impl Fate {
    pub const ALL: [Fate; 7] = [
        Fate::Fails,
        Fate::Late,
        Fate::Unheard,
        Fate::DiesBefore,
        Fate::DiesAfter,
        Fate::DeposedBefore,
        Fate::DeposedAfter,
    ];
}

/// A commit whose answer has not come.
struct InFlight {
    request: Commit,
    unwritten: Unwritten,
}

/// An owner of a partition, or one that was its owner and does not know better.
struct Owner {
    part: Partition,
    placement: Placement,
    epoch: u64,
    token: u64,
    /// The number of the last commit that was acknowledged.
    number: u64,
    engine: Engine,
    gate: Gate,
    in_flight: Option<InFlight>,
    held: Vec<Output>,
    tasks: Vec<(StepId, Output)>,
    /// The greatest number of an arrival that was seen, which only a broken rule uses.
    cursor: u64,
    /// The owner does nothing before this step.
    stalled: u64,
}

pub struct Cluster {
    pub database: Database,
    pub random: Random,
    environment: Environment,
    owners: Vec<Owner>,
    /// Commits that were sent, and may still land.
    ghosts: Vec<Commit>,
    /// The last acknowledged commit of each partition, as its workers note it beside the database.
    watermarks: BTreeMap<Partition, u64>,
    /// An earlier state of the database.
    backup: Option<Database>,
    images: HashMap<durable::code::ProgramHash, Rc<Image>>,
    image: Rc<Image>,
    now: i64,
    steps: u64,
    tokens: u64,
    serial: u64,
    /// The fates of requests to commit, by their numbers from 1, beside what the environment does.
    pub fates: BTreeMap<u64, Fate>,
    /// The number of requests to commit so far.
    pub requests: u64,
    pub trace: Vec<String>,
    /// The number of each kind of event that has happened.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Cluster {
    pub fn new(
        image: Rc<Image>,
        seed: u64,
        partitions: u16,
        environment: Environment,
        broken: Option<Broken>,
    ) -> Cluster {
        Cluster {
            database: Database::new(partitions, broken),
            random: Random::new(seed),
            environment,
            owners: Vec::new(),
            ghosts: Vec::new(),
            watermarks: BTreeMap::new(),
            backup: None,
            images: HashMap::from([(image.code.hash, image.clone())]),
            image,
            now: 1_700_000_000_000_000_000,
            steps: 0,
            tokens: 0,
            serial: 0,
            fates: BTreeMap::new(),
            requests: 0,
            trace: Vec::new(),
            counts: BTreeMap::new(),
        }
    }

    fn say(&mut self, kind: &'static str, text: impl FnOnce() -> String) {
        *self.counts.entry(kind).or_default() += 1;
        if self.trace.len() < 5_000 {
            self.trace.push(format!("{kind} {}", text()));
        }
    }

    /// Runs until nothing is left to do, and checks what is left.
    pub fn run(&mut self) -> Result<InstanceRecord, String> {
        while !self.is_over()? {
            self.steps += 1;
            if self.steps > MOST_STEPS {
                let waits: Vec<String> = self.owners.iter().map(|owner| owner.engine.describe()).collect();
                return Err(format!("it takes more than {MOST_STEPS} steps\n{}", waits.join("\n")));
            }
            self.step()?;
        }
        if !self.database.transit.is_empty() {
            return Err("something is still on its way at the end".into());
        }
        check_rest(&self.database.tree, self.now)?;
        self.record()?.ok_or_else(|| "there is no instance".into())
    }

    fn record(&self) -> Result<Option<InstanceRecord>, String> {
        Ok(read_record(&self.database.tree, ID)?)
    }

    fn rests(owner: &Owner) -> bool {
        let engine = &owner.engine;
        let rests = !engine.is_ready() && !engine.has_writes() && owner.in_flight.is_none();
        rests && owner.held.is_empty() && owner.tasks.is_empty()
    }

    /// Whether the owner has its partition by the database.
    fn is_owner(&self, owner: &Owner) -> bool {
        let part = &self.database.parts[&owner.part];
        (part.epoch, part.token) == (owner.epoch, owner.token)
    }

    fn is_over(&mut self) -> Result<bool, String> {
        if !self.record()?.is_some_and(|record| record.status.is_ended()) {
            return Ok(false);
        }
        let owners: Vec<&Owner> = self.owners.iter().filter(|owner| self.is_owner(owner)).collect();
        let all_owned = self.database.parts.keys().all(|part| owners.iter().any(|owner| owner.part == *part));
        Ok(all_owned
            && self.ghosts.is_empty()
            && self.database.transit.is_empty()
            && owners.iter().all(|owner| Self::rests(owner) && owner.engine.is_quiet()))
    }

    // ---- steps

    fn step(&mut self) -> Result<(), String> {
        self.now += self.random.below(200_000) as i64;
        if self.random.one_in(40) && !self.ghosts.is_empty() {
            return self.ghost_lands();
        }
        if self.random.one_in(60) {
            self.environment_acts()?;
        }
        let parts: Vec<Partition> = self.database.parts.keys().copied().collect();
        for part in parts {
            if !self.owners.iter().any(|owner| owner.part == part && self.is_owner(owner)) {
                self.take_over(part)?;
            }
        }
        if self.owners.iter().all(|owner| Self::rests(owner) || !self.is_owner(owner))
            && self.database.transit.is_empty()
        {
            let due = self.owners.iter().filter_map(|owner| owner.engine.next_due()).min();
            self.now = self.now.max(due.unwrap_or(self.now));
        }
        let at = self.random.below(self.owners.len() as u64) as usize;
        if self.owners[at].stalled > self.steps {
            return Ok(());
        }
        self.works(at)
    }

    fn environment_acts(&mut self) -> Result<(), String> {
        let Environment { deposes, restores, splits, .. } = self.environment;
        let part = self.random.below(self.database.parts.len() as u64) as Partition;
        match self.random.below(12) {
            0..=2 if deposes => {
                // The owner may be dead, or only slow. If it is slow, it goes on later.
                let dies = self.random.one_in(2);
                let until = self.steps + self.random.below(400);
                for owner in self.owners.iter_mut().filter(|owner| owner.part == part) {
                    owner.stalled = until;
                }
                if dies {
                    self.say("dies", || format!("the owner of {part}"));
                    self.owners.retain(|owner| owner.part != part);
                }
                self.take_over(part)?;
            }
            3 if self.random.one_in(2) => self.backup = Some(self.database.clone()),
            4 if restores && self.random.one_in(4) => {
                if let Some(backup) = self.backup.take() {
                    self.say("restore", String::new);
                    // A split is not undone: the number of partitions is the operator's.
                    if backup.parts.len() == self.database.parts.len() {
                        self.database = backup;
                    }
                }
            }
            6 if restores && self.random.one_in(2) => {
                // The database goes back to the moment before a takeover.
                let before = self.database.clone();
                self.take_over(part)?;
                self.say("restore", || format!("before the takeover of {part}"));
                self.database = before;
            }
            5 if splits && self.database.parts.len() < 6 => {
                // Its owner may be dead, or not know yet.
                if self.random.one_in(2) {
                    self.owners.retain(|owner| owner.part != part);
                }
                if let Some(new) = self.database.split(part, &mut self.tokens) {
                    self.say("split", || format!("{part} into itself and {new}"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A worker takes a partition over. It notices a database that was restored.
    fn take_over(&mut self, part: Partition) -> Result<(), String> {
        let last = self.database.parts[&part].last.0;
        if self.watermarks.get(&part).is_some_and(|known| last < *known) {
            self.adopt("a commit is missing when it is taken over");
        }
        self.tokens += 1;
        let token = self.tokens;
        let row = self.database.take_over(part, token);
        self.say("takeover", || format!("{part} epoch {} token {token}", row.epoch));
        let placement = self.database.placement(part);
        let number = row.last.0;
        let mut owner = Owner {
            part,
            placement: placement.clone(),
            epoch: row.epoch,
            token,
            number,
            engine: Engine::new(),
            gate: Gate::default(),
            in_flight: None,
            held: Vec::new(),
            tasks: Vec::new(),
            cursor: 0,
            stalled: 0,
        };
        self.recover(&mut owner)?;
        if self.record()?.is_none() && placement.has(&Address::instance(ID)) {
            let args = Value::list(vec![Value::list(Vec::new())]);
            let args = Data::encode(&args).expect("data");
            let record = InstanceRecord::new(ID, self.image.code.hash, "sim.df", SCRIPT, args, self.now);
            owner.engine.handle(Event::Begin { record, image: self.image.clone() }, self.now);
        }
        self.owners.push(owner);
        // Until it has read what goes on, it does not rest.
        self.outputs(self.owners.len() - 1)
    }

    fn recover(&self, owner: &mut Owner) -> Result<(), String> {
        let mut engine = Engine::new();
        engine.placement = Some(owner.placement.clone());
        (owner.engine, owner.gate) = (engine, Gate::default());
        (owner.held, owner.tasks) = (Vec::new(), Vec::new());
        for event in recovery(&self.database.view(&owner.placement), None)? {
            owner.engine.handle(event, self.now);
        }
        Ok(())
    }

    /// An operator accepts the database as it is. All workers begin anew.
    fn adopt(&mut self, why: &'static str) {
        self.say("adopt", || why.to_string());
        self.owners.clear();
        self.watermarks.clear();
        // Nobody who was connected before can still commit: the tokens of the owners are gone.
        for part in self.database.parts.values_mut() {
            self.tokens += 1;
            (part.epoch, part.token) = (part.epoch + 1, self.tokens);
        }
    }

    // ---- an owner

    fn works(&mut self, at: usize) -> Result<(), String> {
        if self.owners[at].in_flight.is_some() {
            return self.send(at);
        }
        let Owner { part, number, .. } = self.owners[at];
        if self.random.one_in(30)
            && self.is_owner(&self.owners[at])
            && self.database.parts[&part].last.0 < number
        {
            self.adopt("a commit is missing at a heartbeat");
            return Ok(());
        }
        match self.random.below(6) {
            0 => self.reads(at)?,
            1 => self.commits(at)?,
            2 => self.carries_out(at)?,
            _ => {
                let owner = &mut self.owners[at];
                owner.engine.handle(Event::Tick, self.now);
                if self.random.one_in(2) {
                    owner.engine.prefer(self.random.below(100) as usize);
                }
                owner.engine.handle(Event::Run, self.now);
            }
        }
        self.outputs(at)
    }

    fn outputs(&mut self, at: usize) -> Result<(), String> {
        loop {
            // The owner may be gone.
            let Some(owner) = self.owners.get_mut(at) else { return Ok(()) };
            let taken = owner.engine.take_outputs();
            if taken.is_empty() {
                return Ok(());
            }
            for output in taken {
                let view = self.database.view(&owner.placement);
                match look_up(&view, &mut self.images, &output)? {
                    Some(event) => owner.engine.handle(event, self.now),
                    None => owner.held.push(output),
                }
            }
        }
    }

    /// The owner takes in a part of what has come, from each sender in order, some of it again.
    fn reads(&mut self, at: usize) -> Result<(), String> {
        let is_global = self.database.broken == Some(Broken::GlobalSerial);
        let mut arrivals = self.database.arrivals(self.owners[at].part);
        if is_global {
            let cursor = self.owners[at].cursor;
            arrivals.retain(|arrival| arrival.receipt.number > cursor);
            arrivals.sort_by_key(|arrival| arrival.receipt.number);
        }
        let mut left: BTreeMap<Source, bool> = BTreeMap::new();
        let first = self.random.below(arrivals.len() as u64 + 1) as usize;
        let from_one = arrivals.get(first).map(|arrival| arrival.receipt.source);
        let order = arrivals.iter().filter(|arrival| Some(arrival.receipt.source) == from_one);
        let others = arrivals.iter().filter(|arrival| Some(arrival.receipt.source) != from_one);
        let order: Vec<_> = if is_global { arrivals.iter().collect() } else { order.chain(others).collect() };
        let mut taken: Vec<&Arrival> = Vec::new();
        for arrival in order {
            let source = arrival.receipt.source;
            // What must come before this may be left for later, and then this is, too.
            let is_first = |other: &&Arrival| self.database.comes_first(other.receipt.source, source);
            let earlier = arrivals.iter().filter(is_first).count();
            let is_early = earlier > taken.iter().copied().filter(is_first).count();
            let skips = left.entry(source).or_default();
            *skips |= !is_global && (is_early || self.random.one_in(4));
            if *skips {
                continue;
            }
            taken.push(arrival);
            let incoming = Incoming::read(arrival).map_err(|error| error.to_string())?;
            let owner = &mut self.owners[at];
            owner.cursor = owner.cursor.max(arrival.receipt.number);
            owner.engine.handle(Event::Arrive { incoming }, self.now);
        }
        Ok(())
    }

    /// One of the activities under way is done.
    fn carries_out(&mut self, at: usize) -> Result<(), String> {
        let count = self.owners[at].tasks.len() as u64;
        if count == 0 {
            return Ok(());
        }
        let chosen = self.random.below(count) as usize;
        let (step, output) = self.owners[at].tasks.remove(chosen);
        let number = self.random.next();
        let (result, sends) = outside::carry_out(&self.images, &step, &output, self.now, number)?;
        self.owners[at].engine.handle(Event::Answer { step, result, sends }, self.now);
        Ok(())
    }

    // ---- commits

    /// The owner makes its next batch, and sends it.
    fn commits(&mut self, at: usize) -> Result<(), String> {
        self.outputs(at)?;
        self.serial += 1;
        let owner = &mut self.owners[at];
        let writes = owner.engine.take_writes();
        if writes.batch.is_empty() {
            owner.gate.advance(writes.unwritten.written());
            return self.lets_out(at);
        }
        let request = Commit {
            part: owner.part,
            epoch: owner.epoch,
            token: owner.token,
            number: owner.number + 1,
            batch: writes.batch,
            serial: self.serial,
        };
        owner.in_flight = Some(InFlight { request, unwritten: writes.unwritten });
        self.send(at)
    }

    /// The owner sends its batch, for the first time or once more. The environment says what
    /// becomes of it.
    fn send(&mut self, at: usize) -> Result<(), String> {
        let Some(in_flight) = &self.owners[at].in_flight else { return Ok(()) };
        let request = in_flight.request.clone();
        self.requests += 1;
        let fate = match self.fates.get(&self.requests) {
            Some(fate) => Some(*fate),
            None if self.environment.loses => {
                [Fate::Fails, Fate::Late, Fate::Unheard].get(self.random.below(8) as usize).copied()
            }
            None => None,
        };
        match fate {
            Some(Fate::Fails) => {
                self.say("fails", || format!("commit {} of {}", request.number, request.part));
                self.has_no_answer(at)
            }
            Some(Fate::Late) => {
                self.say("late", || format!("commit {} of {}", request.number, request.part));
                if self.database.broken == Some(Broken::FenceWithoutLock)
                    && self.database.fence(&request).is_some()
                {
                    return Ok(());
                }
                self.ghosts.push(request);
                self.has_no_answer(at)
            }
            Some(Fate::DiesBefore) => {
                self.say("dies", || format!("the owner of {}", request.part));
                self.ghosts.push(request);
                self.owners.swap_remove(at);
                Ok(())
            }
            Some(Fate::DiesAfter) => {
                let answer = self.carry_out(&request)?;
                self.say("dies", || format!("the owner of {}: {answer:?}", request.part));
                self.owners.swap_remove(at);
                Ok(())
            }
            Some(Fate::DeposedBefore) => {
                let part = request.part;
                self.ghosts.push(request);
                self.take_over(part)
            }
            Some(Fate::DeposedAfter) => {
                self.carry_out(&request)?;
                self.take_over(request.part)
            }
            Some(Fate::Unheard) => {
                let answer = self.carry_out(&request)?;
                self.say("unheard", || format!("commit {} of {}: {answer:?}", request.number, request.part));
                self.has_no_answer(at)
            }
            None => {
                let answer = self.carry_out(&request)?;
                self.hears(at, answer)
            }
        }
    }

    /// The owner has no answer. It sends the same batch again, unless a broken rule lets it look
    /// and decide.
    fn has_no_answer(&mut self, at: usize) -> Result<(), String> {
        if self.database.broken != Some(Broken::LookThenDecide) {
            return Ok(());
        }
        let owner = &self.owners[at];
        let part = &self.database.parts[&owner.part];
        let Some(in_flight) = &owner.in_flight else { return Ok(()) };
        if part.last == (in_flight.request.number, owner.token) {
            return self.hears(at, Answer::Landed);
        }
        // It is not there, so the owner begins anew from what is there.
        let mut owner = self.owners.swap_remove(at);
        (owner.in_flight, owner.number) = (None, part.last.0);
        self.recover(&mut owner)?;
        self.owners.push(owner);
        Ok(())
    }

    fn ghost_lands(&mut self) -> Result<(), String> {
        let at = self.random.below(self.ghosts.len() as u64) as usize;
        let request = self.ghosts.swap_remove(at);
        if self.database.broken == Some(Broken::FenceWithoutLock) {
            self.say("ghost", || format!("commit {} of {} is written", request.number, request.part));
            return self.lands(&request).map(|()| self.database.write(&request));
        }
        let answer = self.carry_out(&request)?;
        self.say("ghost", || format!("commit {} of {}: {answer:?}", request.number, request.part));
        Ok(())
    }

    fn carry_out(&mut self, request: &Commit) -> Result<Answer, String> {
        let before = self.database.parts[&request.part].clone();
        let answer = self.database.commit(request);
        match answer {
            Answer::Committed if before.token != request.token => Err(deposed(request)),
            Answer::TakenTwice if !self.environment.restores => {
                Err(format!("commit {} takes something twice", request.number))
            }
            answer => Ok(answer),
        }
    }

    /// Checks that a commit that lands is of the owner.
    fn lands(&self, request: &Commit) -> Result<(), String> {
        match self.database.parts[&request.part].token == request.token {
            true => Ok(()),
            false => Err(deposed(request)),
        }
    }

    /// The owner has an answer.
    fn hears(&mut self, at: usize, answer: Answer) -> Result<(), String> {
        let owner = &mut self.owners[at];
        match answer {
            Answer::Committed | Answer::Landed => {
                let Some(InFlight { request, unwritten }) = owner.in_flight.take() else { return Ok(()) };
                owner.number = request.number;
                owner.gate.advance(unwritten.written());
                let mark = self.watermarks.entry(request.part).or_default();
                *mark = (*mark).max(request.number);
                self.lets_out(at)
            }
            // It drops its engine, and releases nothing.
            Answer::Deposed => {
                let part = owner.part;
                self.say("deposed", || format!("{answer:?}: an owner of {part}"));
                self.owners.swap_remove(at);
                Ok(())
            }
            Answer::Lost => {
                self.adopt("a commit does not follow the last one");
                Ok(())
            }
            Answer::TakenTwice if self.environment.restores => {
                self.adopt("something that is taken is not there");
                Ok(())
            }
            Answer::TakenTwice => Err("something is taken twice".into()),
        }
    }

    /// Lets out what is durable.
    fn lets_out(&mut self, at: usize) -> Result<(), String> {
        let owner = &mut self.owners[at];
        for output in std::mem::take(&mut owner.held) {
            match output {
                Output::Effect { ref step, .. } | Output::Activity { ref step, .. } => {
                    owner.tasks.push((step.clone(), output));
                }
                Output::Abandon { step } => owner.tasks.retain(|(other, _)| *other != step),
                Output::Gated(gated) => match owner.gate.open(gated) {
                    Err(early) => owner.held.push(Output::Gated(early)),
                    Ok(Leaving::Line { run, .. }) => {
                        owner.engine.handle(Event::LinesOut { run, count: 1 }, self.now);
                    }
                    Ok(Leaving::Effect { step, effect, args, permissions }) => {
                        let output = Output::Effect { step: step.clone(), effect, args, permissions };
                        owner.tasks.push((step, output));
                    }
                    Ok(Leaving::Ended { instance, outcome, .. }) => match outcome {
                        Ending::Nondeterminism(mismatch) => {
                            return Err(format!("nondeterminism in {instance}: {mismatch:?}"));
                        }
                        Ending::Incompatible(reason) => return Err(reason),
                        _ => {}
                    },
                    Ok(Leaving::Answered { .. } | Leaving::Lost { .. }) => {}
                },
                _ => {}
            }
        }
        Ok(())
    }
}

fn deposed(request: &Commit) -> String {
    format!("commit {} of a deposed owner of partition {} lands", request.number, request.part)
}
