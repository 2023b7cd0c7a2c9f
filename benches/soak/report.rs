//! The report: the measurements, and which of them grow.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::client::Counts;
use crate::{Asked, Shared, server};

/// The measurements of a server at one time.
#[derive(Clone, Default)]
pub struct Sample {
    /// The time of the sample, in seconds since the beginning.
    pub time: f64,
    pub server: usize,
    /// The resident memory, in MB.
    pub memory: f64,
    pub descriptors: u64,
    pub threads: u64,
    /// The size of the store on the disk, in MB.
    pub bytes: f64,
    pub files: u64,
    /// The number of instances in the store.
    pub stored: u64,
}

impl fmt::Display for Sample {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sample { memory, descriptors, threads, bytes, files, stored, .. } = self;
        write!(
            out,
            "{memory:6.1} MB, {descriptors:3} descriptors, {threads:3} threads, store {bytes:6.1} MB in {files:3} files, \
             {stored:5} instances"
        )
    }
}

/// One life of the server that is ended again and again.
pub struct Life {
    pub in_order: bool,
    pub lasted: f64,
    /// Milliseconds from the start of this life until the first answer; 0 for the first life.
    pub ready: f64,
    /// The last sample of this life.
    pub last: Sample,
}

/// The growth of a figure that is allowed between the first third and the last: `first * factor +
/// more`.
struct Tolerance {
    factor: f64,
    more: f64,
}

const fn tolerance(factor: f64, more: f64) -> Tolerance {
    Tolerance { factor, more }
}

/// The memory that an allocator keeps varies by some megabytes.
const MEMORY: Tolerance = tolerance(1.1, 4.0);
/// Clients, commands and requests come and go.
const FEW: Tolerance = tolerance(1.0, 4.0);
/// A store is rewritten when it takes more than 16 MB and four times its content, so its size
/// varies by that much.
const STORE: Tolerance = tolerance(1.25, 16.0);
/// After a kill, the file of a large value stays until the store is rewritten. 128 such files, of
/// more than 128 KiB each, make up 16 MB.
const FILES: Tolerance = tolerance(1.0, 128.0);
const STORED: Tolerance = tolerance(1.25, 50.0);
/// Other load on the machine delays answers, so the median says more than the slowest answer.
const MEDIAN: Tolerance = tolerance(1.5, 1.0);
const SLOW: Tolerance = tolerance(3.0, 20.0);

struct Table {
    wrong: Vec<String>,
}

impl Table {
    fn row(&mut self, of: &str, what: &str, first: f64, last: f64, tolerance: &Tolerance) {
        // A short run may have no figures in one of its thirds.
        if first == 0.0 {
            return;
        }
        let most = first * tolerance.factor + tolerance.more;
        let grows = last > most;
        println!("  {what:<38} {first:10.2} {last:10.2} {most:10.2}  {}", if grows { "GROWS" } else { "" });
        if grows {
            self.wrong.push(format!("{of}, {what}: {first:.2} in the first third and {last:.2} in the last"));
        }
    }
}

fn part(mut values: Vec<f64>, of: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = ((values.len() as f64 * of) as usize).min(values.len().saturating_sub(1));
    values.get(at).copied().unwrap_or(0.0)
}

fn most(values: Vec<f64>) -> f64 {
    values.into_iter().fold(0.0, f64::max)
}

/// Prints the last third beside the first, and returns the figures that grow.
pub fn compare(
    seconds: f64,
    samples: &[Sample],
    lives: &[Life],
    lives_on: &Arc<Shared>,
    ends: &Arc<Shared>,
) -> Vec<String> {
    let warm = seconds / 10.0;
    let third = (seconds - warm) / 3.0;
    let thirds = [(warm, warm + third), (seconds - third, seconds)];
    let within = |time: f64, (from, to): (f64, f64)| (from..to).contains(&time);
    let mut table = Table { wrong: Vec::new() };
    println!("\n  {:<38} {:>10} {:>10} {:>10}", "", "first", "last", "allowed");

    let of = "the server that lives on";
    println!("{of}");
    let figures = |third, figure: &dyn Fn(&Sample) -> f64| -> Vec<f64> {
        samples.iter().filter(|s| s.server == 0 && within(s.time, third)).map(figure).collect()
    };
    type Row = (&'static str, fn(&Sample) -> f64, fn(Vec<f64>) -> f64, &'static Tolerance);
    let median = |values| part(values, 0.5);
    let rows: [Row; 7] = [
        ("memory, MB, median", |s| s.memory, median, &MEMORY),
        ("memory, MB, most", |s| s.memory, most, &MEMORY),
        ("descriptors, most", |s| s.descriptors as f64, most, &FEW),
        ("threads, most", |s| s.threads as f64, most, &FEW),
        ("store, MB, most", |s| s.bytes, most, &STORE),
        ("files of the store, most", |s| s.files as f64, most, &FILES),
        ("instances in the store, median", |s| s.stored as f64, median, &STORED),
    ];
    for (what, figure, of_all, tolerance) in &rows {
        let [first, last] = thirds.map(|third| of_all(figures(third, figure)));
        table.row(of, what, first, last, tolerance);
    }
    answers(&mut table, of, thirds, lives_on);

    let of = "the server that is ended, at the ends of its lives";
    println!("{of}");
    let ended = |third, figure: &dyn Fn(&Life) -> f64| -> Vec<f64> {
        lives.iter().filter(|life| within(life.last.time, third) && life.ready > 0.0).map(figure).collect()
    };
    for (what, figure, of_all, tolerance) in &rows {
        let [first, last] = thirds.map(|third| of_all(ended(third, &|life| figure(&life.last))));
        table.row(of, what, first, last, tolerance);
    }
    let [first, last] = thirds.map(|third| median(ended(third, &|life| life.ready)));
    table.row(of, "ms until it answers again, median", first, last, &SLOW);
    answers(&mut table, of, thirds, ends);
    let killed = lives.iter().filter(|life| !life.in_order).count();
    let lasted = lives.iter().map(|life| life.lasted).sum::<f64>() / lives.len().max(1) as f64;
    println!(
        "  {} lives, {killed} ended by SIGKILL, {} by SIGTERM, {lasted:.0} s each; {:.0} ms at most until it answers again",
        lives.len() + 1,
        lives.len() - killed,
        most(lives.iter().map(|life| life.ready).collect()),
    );
    table.wrong
}

fn answers(table: &mut Table, of: &str, thirds: [(f64, f64); 2], shared: &Arc<Shared>) {
    let answers = shared.answers.lock().expect("nobody failed");
    for (asked, what) in [(Asked::Question, "a question"), (Asked::Start, "a start"), (Asked::List, "a list")]
    {
        let took = thirds.map(|(from, to)| -> Vec<f64> {
            let those = answers.iter().filter(|(time, of, _)| *of == asked && (from..to).contains(time));
            those.map(|(_, _, took)| *took).collect()
        });
        let [first, last] = took.clone().map(|took| part(took, 0.5));
        table.row(of, &format!("{what}, ms, median"), first, last, &MEDIAN);
        if asked != Asked::List {
            let [first, last] = took.map(|took| part(took, 0.99));
            table.row(of, &format!("{what}, ms, 99 of 100"), first, last, &SLOW);
        }
    }
}

/// Prints the work that was done, and its cost.
pub fn work(counts: &[Counts], shared: &[&Arc<Shared>; 2], used: [f64; 2], seconds: f64) {
    let sum = |of: &dyn Fn(&Counts) -> i64| counts.iter().map(of).sum::<i64>();
    let removed: u64 = shared.iter().map(|shared| shared.removed.load(Ordering::Relaxed)).sum();
    println!(
        "{} instances begun by clients, {} waited for, {removed} removed with their children",
        counts.iter().map(|counts| counts.started).sum::<u64>(),
        counts.iter().map(|counts| counts.answers).sum::<u64>(),
    );
    println!(
        "{} signals acknowledged, {} put off; {} without an answer",
        sum(&|counts| counts.told.sure),
        sum(&|counts| counts.later.sure),
        sum(&|counts| counts.told.unsure + counts.later.unsure),
    );
    let own = server::used(std::process::id());
    println!(
        "processor: {:.1} % of a core for the server that lives on, {:.1} % for the other one, {:.1} % for clients",
        used[0] / seconds * 100.0,
        used[1] / seconds * 100.0,
        own / seconds * 100.0,
    );
}
