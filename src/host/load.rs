//! What the engine needs of the store while it runs: instances, entities and programs.

use std::time::{Duration, Instant};

use crate::code::ProgramHash;
use crate::engine::{Address, Event, Output, fetch, known_image};

use super::run::Host;
use super::settings::HostError;

/// The most instances and entities that are read together.
const TOGETHER: usize = 64;

impl Host {
    /// Reads together what these outputs and the next ones ask for.
    pub(super) fn read_ahead(&mut self, outputs: &[Output]) {
        if self.committer.is_near() {
            return;
        }
        let address = |output: &Output| match output {
            Output::Fetch { address, .. } => Some(address.clone()),
            _ => None,
        };
        let mut wanted: Vec<Address> = outputs.iter().filter_map(address).collect();
        if wanted.iter().all(|address| self.committer.has_ahead(address)) {
            return;
        }
        wanted.extend(self.engine.upcoming_reads(TOGETHER.saturating_sub(wanted.len())));
        self.committer.read_ahead(&wanted);
    }

    /// Reads an instance or an entity from the store. The store or the pending writes have
    /// everything that is not in the engine's memory. With `kept`, the kept operations of an entity
    /// are read, too.
    pub(super) fn load(&mut self, address: &Address, kept: bool) -> Result<(), HostError> {
        let began = Instant::now();
        let view = self.committer.view();
        let images = &mut self.images;
        let mut image = |hash| known_image(images, hash, &view);
        match fetch(&view, address, kept, &mut image) {
            Ok(event) => self.engine.handle(event, self.now()),
            Err(reason) => {
                self.terminal.log("error", &format!("{address} can't go on: {reason}"));
                if let Address::Instance(id) = address {
                    self.serving().purge_after(id, false)?;
                }
                return Ok(());
            }
        }
        if let Address::Instance(id) = address {
            self.replays.read(id, began.elapsed());
        }
        Ok(())
    }

    /// Reads a program from the store.
    pub(super) fn load_program(&mut self, hash: ProgramHash) {
        let view = self.committer.view();
        match known_image(&mut self.images, hash, &view) {
            Ok(image) => self.feed(Event::Program { image }),
            Err(reason) => self.terminal.log("error", &reason.to_string()),
        }
    }

    /// Lets the next instance or entity run for a slice.
    pub(super) fn run_slice(&mut self, now: i64) {
        // The names are needed only while somebody wants them.
        let name = match self.suspects.is_some() || !self.replays.is_empty() {
            true => self.engine.next_to_run(),
            false => None,
        };
        if let Some(suspects) = &self.suspects {
            suspects.begins(name.clone());
        }
        let began = (!self.replays.is_empty()).then(Instant::now);
        self.engine.handle(Event::Run, now);
        if let Some(suspects) = &self.suspects {
            suspects.ends();
        }
        if let (Some(began), Some(Address::Instance(id))) = (began, name) {
            self.replays.ran(&id, began.elapsed(), &self.measures);
        }
    }

    /// Notes by how much the next timer is late.
    pub(super) fn note_lag(&self, due: i64, now: i64) {
        let late = Duration::from_nanos(now.saturating_sub(due).max(0) as u64);
        self.measures.timer_lag.observe(late.as_secs_f64());
    }
}
