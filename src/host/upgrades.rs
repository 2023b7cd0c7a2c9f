//! Upgrades for clients: an instance goes on with another program.
//!
//! Invariant: the verdict and the change see the same history, since nothing happens between them
//! on the engine's thread.

use std::rc::Rc;

use crate::engine::{
    Backward, Branch, Event, InstanceRecord, Judge, Known, SCHEDULES, Upgrade, Verdict, known_id,
    known_image, read_history, read_record, stale_programs,
};
use crate::machine::{IfExists, Image, bad_own_id};

use super::command::{Forking, Judgement, Reply, Upgrading};
use super::serve::{Serving, new_program};

/// What is wanted of each instance.
struct Change<'a> {
    file: &'a str,
    /// The entry to which the instance goes back first.
    entry: Option<u64>,
    accept_state: bool,
    dry_run: bool,
}

impl Serving<'_> {
    /// Judges upgrades, and adopts the program where it fits.
    pub(super) fn upgrade(&mut self, upgrading: Upgrading) -> Result<Reply, String> {
        let Upgrading { ids, file, modules, from, accept_state, dry_run } = upgrading;
        let image = new_program(self.images, &modules);
        let change = Change { file: &file, entry: from, accept_state, dry_run };
        let (image, mut judge) = match image {
            Ok(image) => {
                let judge = Judge::new(&image);
                (image, judge)
            }
            Err(reason) => {
                let unfit = || judged(Verdict::Unfit(reason.clone()), Vec::new(), false);
                return Ok(Reply::Judged(ids.iter().map(|_| unfit()).collect()));
            }
        };
        let mut all = Vec::new();
        for id in ids {
            let judged = self.upgrade_one(&id, (&image, &mut judge), &change);
            all.push(judged.unwrap_or_else(Judgement::Refused));
        }
        Ok(Reply::Judged(all))
    }

    fn upgrade_one(
        &mut self,
        id: &str,
        (image, judge): (&Rc<Image>, &mut Judge),
        change: &Change<'_>,
    ) -> Result<Judgement, String> {
        let Change { file, entry, accept_state, dry_run } = *change;
        let view = self.committer.view();
        let record = match read_record(&view, id)? {
            None => return Ok(Judgement::Unknown),
            Some(record) if record.status.is_ended() => return Ok(Judgement::Ended),
            Some(record) => record,
        };
        if id.starts_with(SCHEDULES) {
            return Err(format!("{id} is a schedule: `durable deploy` changes its program"));
        }
        let history = read_history(&view, &record)?;
        let before = known_image(self.images, record.program, &view).ok();
        let back = match entry {
            Some(entry) => Some(
                Backward::plan((image, before.as_ref()), &record, &history, entry)
                    .map_err(|why| format!("{id} can't go back to entry {entry}: {why}"))?,
            ),
            None => None,
        };
        let forgotten = back.as_ref().map(|back| back.forgotten.clone()).unwrap_or_default();
        let verdict = match &back {
            Some(_) => Verdict::fits(Vec::new()),
            None => judge.verdict(before.as_ref(), &record, &history),
        };
        let is_new = image.code.hash != record.program || back.is_some();
        if dry_run || !is_new || !verdict.allows(accept_state) {
            return Ok(judged(verdict, forgotten, false));
        }
        if !self.engine.can_be_upgraded(id) {
            return Ok(Judgement::Busy);
        }
        let stale = stale_programs(&view, id, &history)?;
        let from = record.program;
        let record = InstanceRecord { program: image.code.hash, file: file.to_string(), ..record };
        let image = image.clone();
        self.feed(Event::Upgrade(Box::new(Upgrade { record, image, history, from, stale, back })));
        self.gather();
        Ok(judged(verdict, forgotten, true))
    }
}

fn judged(verdict: Verdict, forgotten: Vec<(u64, String)>, is_adopted: bool) -> Judgement {
    Judgement::Judged { verdict, forgotten, is_adopted }
}

impl Serving<'_> {
    /// Begins an instance with a part of the history of another one.
    pub(super) fn fork(&mut self, forking: Forking) -> Result<Reply, String> {
        let Forking { id, at, new, file, modules, dry_run } = forking;
        if let Some(reason) = bad_own_id(&new) {
            return Err(format!("`{new}` can't be an id: {reason}"));
        }
        let now = self.now();
        let view = self.committer.view();
        let Some(record) = read_record(&view, &id)? else { return Ok(Reply::Unknown) };
        let image = match file {
            Some(_) => new_program(self.images, &modules)?,
            None => known_image(self.images, record.program, &view)?,
        };
        let history = read_history(&view, &record)?;
        let file = file.unwrap_or_else(|| record.file.clone());
        let branch = Branch::plan(&image, &record, &history, at, (&new, file), now)
            .map_err(|why| format!("{new} can't begin after entry {at} of {id}: {why}"))?;
        if let Some(known) = read_record(&view, &new)? {
            let error = match known_id(&known, &branch.wanted(), IfExists::Fail) {
                Known::Taken(error) => error,
                Known::Joins | Known::Replaces => return Err(format!("{new} exists already")),
            };
            return Ok(Reply::Taken { error, function: known.function });
        }
        let (kept, again) = (branch.kept.clone(), branch.again.clone());
        if !dry_run {
            self.feed(Event::Branch(Box::new(branch)));
            self.gather();
        }
        Ok(Reply::Forked { kept, again })
    }
}
