//! The timeline of an instance: its steps as bars, with the parts of each.
//!
//! The cost of a timeline depends on the history; its size depends on the wanted width. Steps that
//! are thinner than a pixel are merged with their neighbours.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

use serde_json::{Value as Json, json};

use crate::builtins::Effect;
use crate::engine::{Entry, History, InstanceRecord, RecordedRequest};
use crate::machine::{Value, format};
use crate::syntax::Place;

/// A request of an instance, from its beginning to its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub seq: u64,
    pub kind: &'static str,
    /// The request as programs write it.
    pub name: String,
    pub place: Place,
    pub from: i64,
    /// The time of the answer; `None` while the step is open.
    pub to: Option<i64>,
    pub segments: Vec<Segment>,
    pub outcome: Outcome,
    /// The instance that the step called or started.
    pub child: Option<String>,
    pub attempts: u32,
    pub lane: usize,
}

/// A part of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    pub is: Activity,
    pub from: i64,
    /// `None` while the part goes on.
    pub to: Option<i64>,
}

/// What a step does during a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    Run,
    /// Waits for time, an event, a child or an entity.
    Wait,
    /// Waits before the next attempt.
    Backoff,
    /// Waits for a critical section.
    Lock,
}

/// The way in which a step ended, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Done,
    Open,
    Cancelled,
    Failed,
}

impl Activity {
    fn word(self) -> &'static str {
        match self {
            Activity::Run => "run",
            Activity::Wait => "wait",
            Activity::Backoff => "backoff",
            Activity::Lock => "lock",
        }
    }

    fn of(what: &RecordedRequest) -> Activity {
        match what {
            RecordedRequest::Activity(_) => Activity::Run,
            RecordedRequest::Orchestration { .. } | RecordedRequest::Operation { .. } => Activity::Wait,
            RecordedRequest::Effect(_) => match what.effect() {
                Some(Effect::Lock) => Activity::Lock,
                Some(Effect::Receive | Effect::Wait | Effect::Input) => Activity::Wait,
                Some(effect) if effect.is_sleep() => Activity::Wait,
                _ => Activity::Run,
            },
        }
    }
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Open => "open",
            Outcome::Cancelled => "cancelled",
            Outcome::Failed => "failed",
        }
    }
}

/// Returns the steps of an instance in the order of their requests.
pub fn steps(record: &InstanceRecord, history: &History) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut known: HashMap<u64, usize> = HashMap::new();
    for entry in &history.entries {
        if let Entry::Requested { seq, what, place, time, .. } = entry {
            known.insert(*seq, steps.len());
            steps.push(begun(record, *seq, what, *place, *time));
            continue;
        }
        if let Entry::Rewound { seq, .. } = entry {
            known.retain(|known, _| known < seq);
            continue;
        }
        let Some(step) = entry.seq().and_then(|seq| known.get(&seq)).map(|at| &mut steps[*at]) else {
            continue;
        };
        step.go_on(entry);
    }
    if let Some(ended) = record.ended {
        for step in steps.iter_mut().filter(|step| step.to.is_none()) {
            step.close(ended);
            step.outcome = Outcome::Cancelled;
        }
    }
    give_lanes(&mut steps);
    steps
}

fn begun(record: &InstanceRecord, seq: u64, what: &RecordedRequest, place: Place, time: i64) -> Step {
    let child = match what {
        RecordedRequest::Orchestration { .. } => Some(record.child_id(seq)),
        _ => None,
    };
    Step {
        seq,
        kind: what.kind(),
        name: what.shown(),
        place,
        from: time,
        to: None,
        segments: vec![Segment { is: Activity::of(what), from: time, to: None }],
        outcome: Outcome::Open,
        child,
        attempts: 1,
        lane: 0,
    }
}

impl Step {
    fn close(&mut self, time: i64) {
        if let Some(last) = self.segments.last_mut() {
            last.to.get_or_insert(time.max(last.from));
        }
        self.to = Some(time.max(self.from));
    }

    fn begin(&mut self, is: Activity, time: i64) {
        if let Some(last) = self.segments.last_mut() {
            last.to.get_or_insert(time.max(last.from));
        }
        self.segments.push(Segment { is, from: time, to: None });
    }

    /// Takes in a later entry about the step.
    fn go_on(&mut self, entry: &Entry) {
        match entry {
            Entry::Answered { result, time, .. } => {
                self.close(*time);
                self.outcome = if result.is_ok() { Outcome::Done } else { Outcome::Failed };
                if self.kind == "start"
                    && let Ok(handle) = result
                    && let Value::Record(handle) = handle.decode()
                    && let Some(Value::Str(id)) = handle.get_str("id")
                {
                    self.child = Some(id.as_str().to_string());
                }
            }
            Entry::Retried { again, time, .. } => {
                self.begin(Activity::Backoff, *time);
                if let Some(last) = self.segments.last_mut() {
                    last.to = Some((*again).max(*time));
                }
                self.segments.push(Segment { is: Activity::Run, from: (*again).max(*time), to: None });
                self.attempts += 1;
            }
            Entry::Begun { time, .. } => {
                // The attempt began later than it was due.
                if let Some(last) = self.segments.last_mut()
                    && last.is == Activity::Run
                    && last.from < *time
                {
                    last.from = *time;
                }
            }
            Entry::Cancelled { time, .. } => {
                self.close(*time);
                self.outcome = Outcome::Cancelled;
            }
            Entry::Renewed { time, .. } => {
                (self.to, self.outcome) = (None, Outcome::Open);
                self.begin(Activity::Run, *time);
            }
            _ => {}
        }
    }
}

/// Gives each step the lowest lane that is free during the step.
fn give_lanes(steps: &mut [Step]) {
    let mut free: BTreeSet<usize> = BTreeSet::new();
    // The lanes in use, the one that is free next first.
    let mut used: BinaryHeap<Reverse<(i64, usize)>> = BinaryHeap::new();
    let mut lanes = 0;
    for step in steps {
        while let Some(Reverse((until, lane))) = used.peek().copied()
            && until <= step.from
        {
            used.pop();
            free.insert(lane);
        }
        step.lane = free.pop_first().unwrap_or_else(|| {
            lanes += 1;
            lanes - 1
        });
        used.push(Reverse((step.to.unwrap_or(i64::MAX), step.lane)));
    }
}

/// The wanted part of a timeline.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub from: i64,
    pub to: i64,
    /// The width of the drawing.
    pub pixels: u32,
}

/// A bar of a drawing: a step, or several that are thinner than a pixel.
enum Bar<'a> {
    One(&'a Step),
    Many { first: &'a Step, count: u64, to: i64, worst: Outcome },
}

/// The shortest idle part that the page folds, in nanoseconds.
const FOLDED: i64 = 1_000_000_000;

/// Returns the length of a view without its long idle parts, which the page folds: those in which
/// no step begins, ends or runs. So seconds of work keep their width before days of waiting.
fn busy(steps: &[Step], view: View) -> i64 {
    let long = (view.to.saturating_sub(view.from) / 5).max(FOLDED);
    let segments = || steps.iter().flat_map(|step| &step.segments);
    let mut edges: Vec<i64> = segments().flat_map(|part| [Some(part.from), part.to]).flatten().collect();
    edges.extend([view.from, view.to]);
    edges.retain(|edge| (view.from..=view.to).contains(edge));
    edges.sort_unstable();
    let runs = |low: i64, high: i64| {
        segments()
            .any(|part| part.is == Activity::Run && part.from <= low && part.to.is_none_or(|to| to >= high))
    };
    let pieces = edges.iter().zip(edges.iter().skip(1)).map(|(low, high)| (*low, *high));
    let folded = pieces.filter(|(low, high)| high.saturating_sub(*low) > long && !runs(*low, *high));
    let folded: i64 = folded.map(|(low, high)| high.saturating_sub(low)).sum();
    view.to.saturating_sub(view.from).saturating_sub(folded)
}

/// Returns the bars of a part of a timeline. `place` returns the file and the line of a place.
pub fn bars(steps: &[Step], view: View, place: &dyn Fn(Place) -> Json) -> Vec<Json> {
    let pixel = (busy(steps, view) / i64::from(view.pixels.max(1))).max(1);
    let mut bars: Vec<Bar> = Vec::new();
    // The last bar of each lane.
    let mut last: HashMap<usize, usize> = HashMap::new();
    for step in steps {
        let to = step.to.unwrap_or(i64::MAX);
        if to < view.from || step.from > view.to {
            continue;
        }
        let is_thin = to.saturating_sub(step.from) < pixel;
        let before = last.get(&step.lane).map(|at| &mut bars[*at]).filter(|_| is_thin);
        if let Some(bar) = before
            && bar.merge(step, to, pixel)
        {
            continue;
        }
        last.insert(step.lane, bars.len());
        bars.push(Bar::One(step));
    }
    bars.iter().map(|bar| bar.json(place)).collect()
}

impl<'a> Bar<'a> {
    /// Merges a thin step into the bar, if the bar ends within a pixel of it and is thin itself.
    fn merge(&mut self, step: &'a Step, to: i64, pixel: i64) -> bool {
        match self {
            Bar::One(one) => {
                let end = one.to.unwrap_or(i64::MAX);
                let fits = end.saturating_sub(one.from) < pixel && step.from.saturating_sub(end) < pixel;
                if fits {
                    let worst = one.outcome.max(step.outcome);
                    *self = Bar::Many { first: one, count: 2, to, worst };
                }
                fits
            }
            Bar::Many { first, count, to: end, worst } => {
                // A merged bar stays narrow, so that a click finds few steps.
                let fits = step.from.saturating_sub(*end) < pixel
                    && step.from.saturating_sub(first.from) < pixel.saturating_mul(4);
                if fits {
                    (*count, *end, *worst) = (*count + 1, to, (*worst).max(step.outcome));
                }
                fits
            }
        }
    }

    fn json(&self, place: &dyn Fn(Place) -> Json) -> Json {
        let instant = format::instant;
        match self {
            Bar::One(step) => {
                let segment = |segment: &Segment| {
                    json!({
                        "is": segment.is.word(), "from": instant(segment.from),
                        "to": segment.to.map(instant),
                    })
                };
                json!({
                    "seq": step.seq, "kind": step.kind, "name": step.name, "lane": step.lane,
                    "from": instant(step.from), "to": step.to.map(instant),
                    "segments": step.segments.iter().map(segment).collect::<Vec<_>>(),
                    "outcome": step.outcome.word(), "at": place(step.place),
                    "child": step.child, "attempts": step.attempts,
                })
            }
            Bar::Many { first, count, to, worst } => json!({
                "seq": first.seq, "count": count, "lane": first.lane, "worst": worst.word(),
                "from": instant(first.from), "to": instant(*to),
            }),
        }
    }
}

/// Returns the steps in the trace format of Chrome, which Perfetto reads. Times are microseconds.
pub fn trace(record: &InstanceRecord, steps: &[Step], now: i64) -> Json {
    let micros = |nanos: i64| nanos as f64 / 1e3;
    let mut events = vec![json!({
        "ph": "M", "name": "process_name", "pid": 1, "args": {"name": record.id},
    })];
    for step in steps {
        for segment in &step.segments {
            let to = segment.to.unwrap_or(now);
            events.push(json!({
                "ph": "X", "pid": 1, "tid": step.lane + 1, "name": step.name,
                "cat": segment.is.word(), "ts": micros(segment.from),
                "dur": micros(to.saturating_sub(segment.from).max(0)),
                "args": {"seq": step.seq, "kind": step.kind, "outcome": step.outcome.word()},
            }));
        }
    }
    json!({"traceEvents": events, "displayTimeUnit": "ms"})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::ProgramHash;
    use crate::engine::Args;
    use crate::machine::{Data, ErrorData};

    fn record() -> InstanceRecord {
        InstanceRecord::new("a", ProgramHash::default(), "a.df", "f", Data::null(), 0)
    }

    fn requested(seq: u64, time: i64, what: RecordedRequest) -> Entry {
        Entry::Requested { seq, what, args: Args::of(&Data::null()), place: Place::default(), time }
    }

    fn activity(seq: u64, time: i64) -> Entry {
        requested(seq, time, RecordedRequest::Activity("work".into()))
    }

    fn answered(seq: u64, time: i64) -> Entry {
        Entry::Answered { seq, result: Ok(Data::null()), time, came: None }
    }

    fn of(entries: Vec<Entry>) -> Vec<Step> {
        steps(&record(), &History { entries, ..History::default() })
    }

    #[test]
    fn attempts_and_pauses_are_told_apart() {
        let error = ErrorData::new("timeout", "y".to_string());
        let steps = of(vec![
            activity(0, 10),
            Entry::Retried { seq: 0, error, again: 50, time: 20 },
            Entry::Begun { seq: 0, time: 55 },
            answered(0, 60),
        ]);
        let parts: Vec<_> = steps[0].segments.iter().map(|s| (s.is, s.from, s.to)).collect();
        let wanted =
            [(Activity::Run, 10, Some(20)), (Activity::Backoff, 20, Some(50)), (Activity::Run, 55, Some(60))];
        assert_eq!(parts, wanted);
        assert_eq!((steps[0].outcome, steps[0].attempts), (Outcome::Done, 2));
    }

    #[test]
    fn steps_at_the_same_time_have_lanes_of_their_own() {
        let steps = of(vec![activity(0, 0), activity(1, 1), answered(0, 5), activity(2, 6), answered(1, 9)]);
        let lanes: Vec<_> = steps.iter().map(|step| step.lane).collect();
        assert_eq!(lanes, [0, 1, 0]);
        assert_eq!(steps[2].outcome, Outcome::Open);
    }

    #[test]
    fn a_long_wait_does_not_crush_the_rest() {
        const TENTH: i64 = 100_000_000;
        let entries =
            (0..10).flat_map(|n| [activity(n, n as i64 * TENTH), answered(n, n as i64 * TENTH + 9)]);
        let steps = of(entries.collect());
        let day = 86_400_000_000_000;
        let bars = bars(&steps, View { from: 0, to: day, pixels: 1_000 }, &|_| Json::Null);
        assert_eq!(bars.len(), 10);
    }

    #[test]
    fn thin_steps_are_merged_and_none_is_lost() {
        let entries = (0..1_000).flat_map(|n| [activity(n, n as i64 * 10), answered(n, n as i64 * 10 + 9)]);
        let steps = of(entries.collect());
        let nowhere = |_: Place| Json::Null;
        let bars = bars(&steps, View { from: 0, to: 10_000, pixels: 100 }, &nowhere);
        assert!(bars.len() <= 100, "{}", bars.len());
        let count: u64 = bars.iter().map(|bar| bar["count"].as_u64().unwrap_or(1)).sum();
        assert_eq!(count, 1_000);
        let all = super::bars(&steps, View { from: 0, to: 10_000, pixels: 100_000 }, &nowhere);
        assert_eq!(all.len(), 1_000);
    }
}
