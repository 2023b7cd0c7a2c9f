//! Programs: the checker, lowering, the compiler, and the first turns of the compiled code.

use durable::builtins::Context;
use durable::check;
use durable::code::{self, compile};
use durable::core::{self, lower};
use durable::machine::value::memory_used;
use durable::machine::{Identity, Image, Machine, Progress, Value};

use super::source::are_in;

/// The longest text that is checked. Longer texts find nothing more.
const MOST: usize = 8 << 10;
/// The fuel of a turn, in calls and repetitions, and the number of turns.
const FUEL: u64 = 10;
const TURNS: usize = 100;
/// The bytes of values at which a run stops.
const LARGE: usize = 4 << 20;

/// Checks, compiles and runs a text.
///
/// A text is a program or has diagnostics with places within it. Compiling it twice gives the same
/// code. A machine restored from a snapshot has the same snapshot.
pub fn run(bytes: &[u8]) {
    let Some(text) = bytes.get(..bytes.len().min(MOST)).and_then(|bytes| std::str::from_utf8(bytes).ok())
    else {
        return;
    };
    let load = || check::load("x.df", text.to_string(), &|_: &str| Err("no files".to_string()));
    let program = load();
    program.diagnostics.iter().for_each(|diagnostic| are_in(text, diagnostic));
    if !program.is_sound() {
        return;
    }
    let core = lower(&program);
    core::print(&core, &program, false);
    let Ok(code) = compile(&core, &program) else { return };
    let shown = code::print(&code, false);
    // Only some programs are compiled twice, since that takes as long as all the rest.
    if text.len().is_multiple_of(8) {
        let again = load();
        let again = compile(&lower(&again), &again).expect("it was compiled before");
        assert_eq!(shown, code::print(&again, false), "it is compiled otherwise the second time");
    }
    // Constants may take long to compute.
    if !code.consts.is_empty() {
        return;
    }
    let Ok(image) = Image::new(code.into()) else { return };
    let (script, args) = (image.code.script, vec![Value::list(Vec::new())]);
    let mut machine = Machine::new(image.clone(), Context::Orchestration, script, args, Identity::default());
    for turn in 0..TURNS {
        let progress = machine.run(FUEL);
        if memory_used() > LARGE {
            break;
        }
        if turn % 16 == 0 {
            let snapshot = machine.snapshot();
            let restored = Machine::restore(image.clone(), &snapshot).expect("a snapshot is restored");
            assert!(restored.snapshot() == snapshot, "the snapshot of what was restored is another");
            machine = restored;
        }
        if !matches!(progress, Progress::OutOfFuel) {
            break;
        }
    }
}
