//! Runs the programs of `tests/conformance`, each with its expectation inside.
//!
//! `// expect: LINE` is a line of standard output, in order; `// expect last: LINE` the last one alone;
//! `// expect error: TEXT` an uncaught error whose title holds the text; `// expect mistake: TEXT` and
//! `// expect warning: TEXT` a diagnostic whose title begins with it; `// result: JSON` the result. `// args: …`,
//! `// input: LINE` and `// file NAME: LINE` say what the program finds. `// outside:`, `// real time:` and `// slow:`
//! say why the suites that break programs off compare less, or leave it out.
//!
//! Each run is then replayed from its store, and replayed once more with the machine written down, dropped and
//! restored at every step: both must end as the run did.

mod common;

use common::program::{self, Program};

macro_rules! areas {
    ($($area:ident),*) => {
        $(#[test]
        fn $area() {
            let mut failures = Vec::new();
            let mut count = 0;
            for program in program::programs(stringify!($area)) {
                count += 1;
                if let Err(reason) = check(&program) {
                    failures.push(format!("{}: {reason}", program.name));
                }
            }
            assert!(count > 0, "no programs");
            assert!(failures.is_empty(), "\n{}", failures.join("\n"));
        })*

        /// No folder is left out.
        #[test]
        fn every_area_is_run() {
            let known = [$(stringify!($area)),*];
            for area in common::program::areas() {
                assert!(known.contains(&area.as_str()), "tests/conformance/{area} is not run");
            }
        }
    };
}

areas!(
    lexical,
    expressions,
    library,
    patterns,
    functions,
    errors,
    modules,
    effects,
    tasks,
    timers,
    replay,
    entities,
    lives,
    locks,
    cancellation,
    children,
    events,
    status,
    continue_as_new,
    suspension,
    clients,
    programs,
    deadlines,
    output
);

fn check(program: &Program) -> Result<(), String> {
    let run = program.run();
    program.check(&run)?;
    if program.expects_mistake() {
        return Ok(());
    }
    program.check_replay(&run)
}
