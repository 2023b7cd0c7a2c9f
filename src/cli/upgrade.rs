//! `durable upgrade`: instances go on with another program.
//!
//! A dry run reads histories and replays them here, beside the process that has the store. An
//! upgrade is judged once more by that process, in the turn that adopts it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::api::{self, Command, Judgement, Queries, Reply, Side, Upgrading};
use crate::code::ProgramHash;
use crate::engine::query::InstanceFilter;
use crate::engine::{Divergence, InstanceRecord, Judge, Lifecycle, SCHEDULES, Verdict};
use crate::machine::Image;
use crate::machine::differences::{Difference, Unpaired};
use crate::permissions::Permissions;
use crate::render::{Shown, short};
use crate::syntax::Place;

use super::access::{self, Access, known};
use super::arguments::Upgrade;
use super::problem::{Problem, note};
use super::verdict::count;
use super::{FAILED, USAGE, print, program};

/// The longest wait for an instance that is under way.
const PATIENCE: Duration = Duration::from_secs(10);

/// The number of instances of one command, which are written together.
const AT_ONCE: usize = 200;

/// The new program.
struct New<'a> {
    file: &'a Path,
    image: Rc<Image>,
    modules: Vec<(String, String)>,
}

/// The programs that instances run with, by their hashes; `None` for one that can't run any more.
#[derive(Default)]
struct Olds {
    images: HashMap<ProgramHash, Option<Rc<Image>>>,
}

impl Olds {
    fn get(&mut self, store: &dyn Queries, hash: ProgramHash) -> Option<Rc<Image>> {
        let load = || {
            let program = crate::engine::load_modules(hash, &store.modules(hash).ok()?).ok()?;
            crate::engine::build_image(&program).ok()
        };
        self.images.entry(hash).or_insert_with(load).clone()
    }
}

/// The verdict on the upgrade of one instance.
struct Judged {
    record: InstanceRecord,
    verdict: Verdict,
    /// The requests that the instance forgets, if it goes back.
    forgotten: Vec<(u64, String)>,
    is_adopted: bool,
}

pub fn upgrade(asked: Upgrade) -> Result<u8, Problem> {
    let checked = program::read_restricted(&asked.to, &Permissions::default())?;
    program::report(&checked, &asked.to)?;
    let code = program::code(&checked, &asked.to)?;
    let modules = code.sources.texts();
    let new = New { file: &asked.to, image: program::image(code, &asked.to)?, modules };
    let mut store = Access::open(&asked.store.store)?;
    let records = match &asked.id {
        Some(id) => vec![one(&store, id)?],
        None => wanted(&store, &asked)?,
    };
    let mut olds = Olds::default();
    let mut judge = Judge::new(&new.image);
    let mut all = Vec::new();
    for record in records {
        // The instance may have gone on since the list was read.
        let Some((record, history)) = store.history(&record.id)? else { continue };
        if record.status.is_ended() {
            continue;
        }
        // The process that has the store plans the return to an entry.
        let verdict = match asked.from {
            Some(_) => Verdict::fits(Vec::new()),
            None => {
                let before = olds.get(&store, record.program);
                judge.verdict(before.as_ref(), &record, &history)
            }
        };
        all.push(Judged { record, verdict, forgotten: Vec::new(), is_adopted: false });
    }
    let accepts = asked.accept_state;
    let is_wanted =
        |judged: &&mut Judged| asked.from.is_some() || (!asked.dry_run && judged.verdict.allows(accepts));
    let mut wanted: Vec<&mut Judged> = all.iter_mut().filter(is_wanted).collect();
    for some in wanted.chunks_mut(AT_ONCE) {
        adopt(&mut store, &new, &asked, some)?;
    }
    let shows = Shows { new: &new, from: asked.from, accepts, dry_run: asked.dry_run };
    let text = match (asked.json, &asked.id) {
        (true, _) => {
            all.iter().map(|judged| format!("{}\n", shows.json(&store, &mut olds, judged))).collect()
        }
        (false, Some(_)) => all.iter().map(|judged| shows.one(&store, &mut olds, judged)).collect(),
        (false, None) => shows.groups(&store, &mut olds, &all),
    };
    print(&text)?;
    store.close()?;
    if asked.dry_run {
        note("nothing was changed");
    }
    Ok(if all.iter().all(|judged| judged.verdict.allows(accepts)) { 0 } else { FAILED })
}

/// Returns the record of the instance to upgrade.
fn one(store: &Access, id: &str) -> Result<InstanceRecord, Problem> {
    let record = known(store, id)?;
    if record.status.is_ended() {
        return Err(Problem::new(FAILED, format!("{id} has ended: it is {}", record.status.word()))
            .hint("`durable restart` begins it anew; `durable fork` tries its history with another text"));
    }
    if id.starts_with(SCHEDULES) {
        return Err(
            Problem::new(FAILED, format!("{id} is a schedule")).hint("`durable deploy` changes its program")
        );
    }
    Ok(record)
}

/// Returns the unfinished instances of a program, or of a function.
fn wanted(store: &Access, asked: &Upgrade) -> Result<Vec<InstanceRecord>, Problem> {
    let lifecycles = vec![Lifecycle::Running, Lifecycle::Suspended, Lifecycle::Scheduled];
    let filter = InstanceFilter { lifecycles, function: asked.function.clone(), ..InstanceFilter::default() };
    let mut records = access::instances(store, &filter)?;
    records.retain(|record| !record.id.starts_with(SCHEDULES));
    if let Some(hash) = &asked.program {
        let mut found = Vec::new();
        for view in store.programs()? {
            if hex::encode(view.hash.0).starts_with(hash.as_str()) {
                found.push(view.hash);
            }
        }
        let [program] = found[..] else {
            let title = match found.len() {
                0 => format!("there is no program `{hash}`"),
                n => format!("{n} programs begin with `{hash}`"),
            };
            return Err(Problem::new(USAGE, title).hint("`durable programs` shows those that there are"));
        };
        records.retain(|record| record.program == program);
    }
    if records.is_empty() {
        note("no instance of it is unfinished");
    }
    Ok(records)
}

/// Has the process that has the store judge and adopt upgrades. Waits for instances that are under
/// way.
fn adopt(store: &mut Access, new: &New<'_>, asked: &Upgrade, all: &mut [&mut Judged]) -> Result<(), Problem> {
    let (file, modules) = (new.file.display().to_string(), &new.modules);
    let Upgrade { from, accept_state, dry_run, .. } = *asked;
    let mut left: Vec<&mut Judged> = all.iter_mut().map(|judged| &mut **judged).collect();
    let began = Instant::now();
    while !left.is_empty() {
        let ids = left.iter().map(|judged| judged.record.id.clone()).collect();
        let (file, modules) = (file.clone(), modules.clone());
        let upgrading = Upgrading { ids, file, modules, from, accept_state, dry_run };
        let outcomes = match store.ask(Command::Upgrade(Box::new(upgrading)))? {
            Reply::Judged(outcomes) if outcomes.len() == left.len() => outcomes,
            _ => return Err(Problem::new(FAILED, "the instances could not be upgraded")),
        };
        let mut busy = Vec::new();
        for (judged, outcome) in left.into_iter().zip(outcomes) {
            let unfit = |why: &str| Verdict::Unfit(why.to_string());
            judged.verdict = match outcome {
                Judgement::Judged { verdict, forgotten, is_adopted } => {
                    (judged.forgotten, judged.is_adopted) = (forgotten, is_adopted);
                    verdict
                }
                Judgement::Busy if began.elapsed() < PATIENCE => {
                    busy.push(judged);
                    continue;
                }
                Judgement::Busy => unfit("it is under way all the time; suspend it, and upgrade it then"),
                Judgement::Ended | Judgement::Unknown => unfit("it has ended meanwhile"),
                Judgement::Refused(reason) if from.is_some() => return Err(Problem::new(FAILED, reason)),
                Judgement::Refused(reason) => Verdict::Unfit(reason),
            };
        }
        if !busy.is_empty() {
            std::thread::sleep(Duration::from_millis(10));
        }
        left = busy;
    }
    Ok(())
}

impl Judged {
    /// Whether the instance has had the new program before.
    fn is_there(&self, new: &New<'_>) -> bool {
        self.record.program == new.image.code.hash
    }
}

/// The way in which verdicts are shown.
struct Shows<'a> {
    new: &'a New<'a>,
    /// The entry to which an instance goes back.
    from: Option<u64>,
    /// Whether other values of variables are accepted.
    accepts: bool,
    dry_run: bool,
}

impl Shows<'_> {
    /// Returns both sides of a divergence: the history's and the new program's.
    fn sides(
        &self,
        store: &dyn Queries,
        olds: &mut Olds,
        record: &InstanceRecord,
        of: &Divergence,
    ) -> (Side, Side) {
        let old = olds.get(store, of.made_with);
        let old = old.as_ref().map(|image| Shown::new(&image.code.sources, Path::new(&record.file)));
        let new = Shown::new(&self.new.image.code.sources, self.new.file);
        (Side::recorded(old.as_ref(), &of.sides.recorded), Side::found(Some(&new), &of.sides.found))
    }

    /// Returns the verdict on one instance, for people.
    fn one(&self, store: &dyn Queries, olds: &mut Olds, judged: &Judged) -> String {
        let id = &judged.record.id;
        match &judged.verdict {
            Verdict::Fits { .. } if let Some(entry) = self.from => self.back(judged, entry),
            Verdict::Fits { .. } if judged.is_there(self.new) && !judged.is_adopted => {
                format!("{id} has this program already\n")
            }
            Verdict::Fits { asks, unpaired } => {
                let will = if judged.is_adopted { "goes on with" } else { "fits" };
                let out = format!("{id} {will} {}\n", self.new.file.display());
                out + &self.asks(asks) + &only(unpaired)
            }
            Verdict::StateDiffers { asks, differences } => {
                let will = if judged.is_adopted { "goes on with" } else { "fits" };
                let mut out = format!("{id} {will} {}, state differs\n", self.new.file.display());
                out.extend(differences.differ.iter().map(difference));
                out.push_str(&only(&differences.unpaired));
                out.push_str(&self.asks(asks));
                if !self.accepts {
                    out.push_str("  `--accept-state` goes on with the values of the new text\n");
                }
                out
            }
            Verdict::Diverges(of) => {
                let (recorded, found) = self.sides(store, olds, &judged.record, of);
                let common = match of.entry - 1 {
                    0 => "no entry is common".to_string(),
                    1 => "the one entry before it is common".to_string(),
                    n => format!("the {n} entries before it are common"),
                };
                let mut out = format!("{id} diverges at entry {} of {}; {common}\n", of.entry, of.of);
                for (who, side) in [("the history holds", recorded), ("the new text does", found)] {
                    out.push_str(&format!("  {who}: {}\n", side.text));
                    if let Some((at, line)) = side.place {
                        out.push_str(&format!("    {at}: {line}\n"));
                    }
                }
                let n = of.entry;
                out.push_str(&format!("  `--from {n}` goes back to entry {n}, and on with the new text\n"));
                out
            }
            Verdict::Unfit(why) => format!("{id} is unfit: {why}\n"),
        }
    }

    /// Returns the requests that the new text makes at once.
    fn asks(&self, asks: &[(String, Place)]) -> String {
        let shown = Shown::new(&self.new.image.code.sources, self.new.file);
        let line = |(what, place): &(String, Place)| {
            let (at, line) = (shown.locate(*place), shown.line(*place));
            format!("  asks at once: {}\n    {at}: {line}\n", short(what, 120))
        };
        asks.iter().map(line).collect()
    }

    /// Returns the consequences of going back to an entry, for people.
    fn back(&self, judged: &Judged, entry: u64) -> String {
        let goes = if judged.is_adopted { "goes" } else { "can go" };
        let file = self.new.file.display();
        let mut out = format!("{} {goes} back to entry {entry}, and on with {file}\n", judged.record.id);
        for (seq, what) in &judged.forgotten {
            out.push_str(&format!("  forgets: {} #{seq}\n", short(what, 120)));
        }
        out
    }

    /// Returns the verdict on one instance, as JSON.
    fn json(&self, store: &dyn Queries, olds: &mut Olds, judged: &Judged) -> Json {
        let Judged { record, verdict, forgotten, is_adopted } = judged;
        let (id, from, is_adopted) = (&record.id, self.from, *is_adopted);
        api::Judged { id, verdict, from, forgotten, is_adopted }.json(|| match verdict {
            Verdict::Diverges(of) => self.sides(store, olds, record, of),
            _ => (Side::recorded(None, &None), Side::found(None, &None)),
        })
    }

    /// Returns the verdicts on many instances, grouped by verdict and place.
    fn groups(&self, store: &dyn Queries, olds: &mut Olds, all: &[Judged]) -> String {
        let mut groups: BTreeMap<(u8, String), Vec<&str>> = BTreeMap::new();
        for judged in all {
            let key = match &judged.verdict {
                Verdict::Fits { .. } if judged.is_there(self.new) && !judged.is_adopted => {
                    (2, "have this program already".to_string())
                }
                Verdict::Fits { .. } if self.dry_run => (0, "fit".to_string()),
                Verdict::Fits { .. } => (0, format!("go on with {}", self.new.file.display())),
                Verdict::StateDiffers { differences, .. } => {
                    let differ = differences.differ.iter();
                    let names: BTreeSet<String> =
                        differ.map(|of| format!("{} in {}", of.name, of.function)).collect();
                    let names = names.into_iter().collect::<Vec<_>>().join(", ");
                    let does = match judged.is_adopted {
                        true => format!("go on with {}", self.new.file.display()),
                        false => "fit".to_string(),
                    };
                    (1, format!("{does}, state differs\n    {names}"))
                }
                Verdict::Diverges(of) => {
                    let (recorded, found) = self.sides(store, olds, &judged.record, of);
                    let at = |side: &Side| match &side.place {
                        Some((at, line)) => format!("{at}: {line}"),
                        None => side.text.clone(),
                    };
                    let (recorded, found) = (at(&recorded), at(&found));
                    (
                        3,
                        format!(
                            "diverge\n    the history is from  {recorded}\n    the new text comes to {found}"
                        ),
                    )
                }
                Verdict::Unfit(why) => (4, format!("unfit: {why}")),
            };
            groups.entry(key).or_default().push(&judged.record.id);
        }
        let mut out = String::new();
        for ((_, what), ids) in groups {
            const SOME: usize = 5;
            let shown = ids.iter().take(SOME).copied().collect::<Vec<_>>().join(", ");
            let more = if ids.len() > SOME { ", …" } else { "" };
            out.push_str(&format!("{}: {what}\n    {shown}{more}\n", count(ids.len(), "instance")));
        }
        out
    }
}

/// Describes a variable that differs.
fn difference(of: &Difference) -> String {
    let Difference { function, part, before, now, .. } = of;
    format!("  {part} in {function}: {before}, and {now} with the new text\n")
}

/// Describes the variables that only one text has.
fn only(unpaired: &[Unpaired]) -> String {
    let line = |of: &Unpaired| {
        let text = if of.is_new { "the new text" } else { "the text before" };
        format!("  only {text} has {} in {}: {}\n", of.name, of.function, of.value)
    };
    unpaired.iter().map(line).collect()
}
