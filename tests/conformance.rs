//! The programs of `tests/conformance`, each with its expectations in comments.
//!
//! - `// expect: LINE`: a line of standard output, in order
//! - `// expect last: LINE`: the last line of standard output alone
//! - `// expect log: TEXT`: a part of a line of standard error
//! - `// expect error: TEXT`: an uncaught error whose title contains the text
//! - `// expect mistake: TEXT`, `// expect warning: TEXT`: a diagnostic whose title begins so
//! - `// result: JSON`: the result
//! - `// args: …`, `// input: LINE`, `// file NAME: LINE`: the program's inputs
//! - `// outside:`, `// real time:`, `// slow:`: why the suites that interrupt programs compare
//!   less, or skip the program
//!
//! Each run is then replayed from its store. A second replay saves, drops and restores the machine
//! at every step. Both must end as the run did.

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

        /// Every folder of conformance programs is in the list.
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
