//! Programs: the checker, the lowering, the compiler, and the first steps of what they make.

use durable::builtins::Context;
use durable::check;
use durable::code::{self, compile};
use durable::core::{self, lower};
use durable::machine::value::memory_used;
use durable::machine::{Identity, Image, Machine, Progress, Value};

use super::source::are_in;

/// Longer texts find nothing that shorter ones don't.
const MOST: usize = 8 << 10;
/// What a program may do at once, in calls and repetitions, and how often.
const FUEL: u64 = 10;
const TURNS: usize = 100;
/// Bytes of values with which a program has gone far enough.
const LARGE: usize = 4 << 20;

/// A text is a program or has mistakes, with places that are in it. A program is compiled, and the same each time; a machine that
/// has run for a while is the same as one that is restored from its snapshot.
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
    // Of some programs, since it takes as long as all the rest.
    if text.len().is_multiple_of(8) {
        let again = load();
        let again = compile(&lower(&again), &again).expect("it was compiled before");
        assert_eq!(shown, code::print(&again, false), "it is compiled otherwise the second time");
    }
    // Constants may compute for long.
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
