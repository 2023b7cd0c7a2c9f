//! Scaling: the time of each path by the size of its input, over three decades.
//!
//! Prints the slope on logarithmic axes (1 is proportional), and writes a plot to `docs/plots`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::{DURABLE, fresh, last_number, median, plot, program};

/// The measured paths: the title, the argument that chooses the path in `scaling.df`, which prints
/// the seconds, and the sizes.
const PATHS: [(&str, &str, [u32; 4]); 13] = [
    ("computed steps, one after another", "steps", [1_000, 10_000, 100_000, 1_000_000]),
    ("external steps, one after another", "external", [10, 100, 1_000, 10_000]),
    ("external steps at once, joined", "at_once", [100, 1_000, 10_000, 100_000]),
    ("activities at once, joined", "activities", [100, 1_000, 10_000, 100_000]),
    ("children at once, joined", "children", [10, 100, 1_000, 10_000]),
    ("calls of one entity", "one_entity", [100, 1_000, 10_000, 100_000]),
    ("calls of as many entities", "many_entities", [10, 100, 1_000, 10_000]),
    ("instances of five external steps", "instances", [10, 100, 1_000, 10_000]),
    ("a record's fields, put and read", "fields", [1_000, 10_000, 100_000, 1_000_000]),
    ("a queue's elements, added and taken", "queue", [1_000, 10_000, 100_000, 1_000_000]),
    ("a list in a record that a function adds to", "handed_on", [1_000, 10_000, 100_000, 1_000_000]),
    ("two lists in a record that a fold makes anew", "folded", [1_000, 10_000, 100_000, 1_000_000]),
    ("lists in a record by their keys", "grouped", [1_000, 10_000, 100_000, 1_000_000]),
];

pub fn scaling(folder: &Path) {
    let plots = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/plots");
    fs::create_dir_all(&plots).expect("a folder for the plots");
    println!("\nscaling, seconds by size");
    for (what, name, sizes) in PATHS {
        let of = |size: u32| {
            let mut run = Command::new(DURABLE);
            run.arg("run").arg(program("scaling.df")).args([name, &size.to_string()]);
            last_number(run.arg("--store").arg(fresh(folder))).expect("a figure")
        };
        show(&plots, what, name, sizes, of);
    }
    show(
        &plots,
        "going on after a kill, with so many steps behind",
        "resumed",
        [1_000, 10_000, 100_000, 1_000_000],
        |steps| resumed(folder, "aged.df", steps),
    );
    show(
        &plots,
        "so many instances gone on with, and ended",
        "unfinished",
        [10, 100, 1_000, 10_000],
        |instances| resumed(folder, "unfinished.df", instances),
    );
}

/// Measures, prints and plots one path.
fn show(plots: &Path, what: &str, name: &str, sizes: [u32; 4], of: impl Fn(u32) -> f64) {
    let points: Vec<(f64, f64)> =
        sizes.iter().map(|size| (f64::from(*size), median((0..3).map(|_| of(*size)).collect()))).collect();
    let slope = plot::slope(&points);
    print!("{what:<50}");
    points.iter().for_each(|(size, seconds)| print!("  {size:.0}: {seconds:.4}"));
    println!("  slope {slope:.2}");
    let svg = plot::svg(&format!("{what}: slope {slope:.2}"), &points);
    fs::write(plots.join(format!("{name}.svg")), svg).expect("a plot");
}

/// Returns the seconds from the start of a process to the next output of a resumed script. The
/// script was killed after `size` steps, or with `size` instances begun.
fn resumed(folder: &Path, script: &str, size: u32) -> f64 {
    use std::io::{BufRead, BufReader, Write};
    let store = fresh(folder);
    let command = |args: &[&str]| {
        let mut run = Command::new(DURABLE);
        run.args(args).arg("--store").arg(&store);
        run.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        run.spawn().expect("durable runs")
    };
    let program = program(script);
    let mut first = command(&["run", &program.to_string_lossy(), &size.to_string()]);
    let mut line = String::new();
    BufReader::new(first.stdout.take().expect("stdout")).read_line(&mut line).expect("a line");
    std::thread::sleep(std::time::Duration::from_millis(50));
    first.kill().expect("killed");
    first.wait().expect("ended");
    let began = Instant::now();
    let mut second = command(&["resume"]);
    second.stdin.take().expect("stdin").write_all(b"\n").expect("a line");
    let mut line = String::new();
    BufReader::new(second.stdout.take().expect("stdout")).read_line(&mut line).expect("a line");
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(line, "next\n");
    second.wait().expect("ended");
    seconds
}
