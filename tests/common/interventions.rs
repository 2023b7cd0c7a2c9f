//! An operator who suspends, resumes, cancels, purges, repairs and rewinds instances of a script, as often
//! as the models allow theirs.

use std::rc::Rc;

use durable::engine::{Address, Event, InstanceRecord, Message, SCRIPT, Status, read_record};
use durable::machine::options::GRACE;
use durable::machine::{Data, Image};
use durable::model::Interventions;

use super::Random;
use super::operator::{cancellation, purge, rewind};
use super::sim::{Acted, ID, Outside, World};

/// An operator who intervenes in the run of a script.
pub struct Intervening {
    image: Rc<Image>,
    args: Data,
    left: Interventions,
    random: Random,
    held_up: Vec<String>,
    sent: u64,
}

impl Intervening {
    pub fn new(image: Rc<Image>, args: Data, left: Interventions, seed: u64) -> Intervening {
        Intervening { image, args, left, random: Random::new(seed), held_up: Vec::new(), sent: 0 }
    }

    fn send(&mut self, id: &str, message: Message, world: &mut World) {
        world.say(|| format!("operator: {} {id}", message.word()));
        self.sent += 1;
        let from = format!("operator-{}", self.sent);
        world.accept(Event::Send { to: Address::instance(id), from, message });
    }

    /// Returns the id of a random instance for which a condition holds.
    fn one(&mut self, world: &World, of: impl Fn(&InstanceRecord) -> bool) -> Option<String> {
        let all: Vec<InstanceRecord> = world.records().into_iter().filter(of).collect();
        let at = self.random.below(all.len().max(1) as u64) as usize;
        all.get(at).map(|record| record.id.clone())
    }

    /// Starts the main instance, for the first time or after a purge.
    fn begin(&self, world: &mut World) {
        world.say(|| format!("operator: start {ID}"));
        let (hash, args) = (self.image.code.hash, self.args.clone());
        let record = InstanceRecord::new(ID, hash, "sim.df", SCRIPT, args, world.driver.now);
        world.accept(Event::Begin { record, image: self.image.clone() });
    }
}

impl Outside for Intervening {
    fn act(&mut self, world: &mut World, rests: bool) -> Result<Acted, String> {
        if read_record(&world.durable, ID)?.is_none() {
            self.begin(world);
            return Ok(Acted::Something);
        }
        if self.left.suspensions > 0
            && self.random.one_in(4)
            && let Some(id) = self.one(world, |record| record.status == Status::Running)
        {
            self.left.suspensions -= 1;
            self.send(&id, Message::Suspend, world);
            self.held_up.push(id);
            return Ok(Acted::Something);
        }
        if self.left.cancellations > 0
            && self.random.one_in(4)
            && let Some(id) = self.one(world, |record| !record.status.is_ended())
        {
            self.left.cancellations -= 1;
            self.send(&id, cancellation(Data::null(), GRACE), world);
            return Ok(Acted::Something);
        }
        if self.left.rewinds > 0
            && self.random.one_in(3)
            && let Some(id) = self.one(world, |record| matches!(record.status, Status::Failed(_)))
        {
            world.broken.clear();
            let rewound = rewind(world, &id);
            world.say(|| format!("operator: rewind {id}: {rewound:?}"));
            self.left.rewinds -= u32::from(rewound.is_ok());
            return Ok(if rewound.is_ok() { Acted::Something } else { Acted::Nothing });
        }
        if self.left.purges > 0
            && self.random.one_in(4)
            && let Some(id) = self.one(world, |record| record.status.is_ended())
            && purge(world, &id)?
        {
            world.say(|| format!("operator: purge {id}"));
            self.left.purges -= 1;
            return Ok(Acted::Something);
        }
        if (rests || self.random.one_in(4))
            && let Some(id) = self.held_up.pop()
        {
            self.send(&id, Message::Resume, world);
            return Ok(Acted::Something);
        }
        Ok(Acted::Nothing)
    }

    fn arrive(&mut self, _: &mut World) -> Result<(), String> {
        Ok(())
    }

    /// Returns whether nothing is suspended. The operator need not do more at rest.
    fn is_done(&self) -> bool {
        self.held_up.is_empty()
    }
}
