//! Code in readable form: `durable check --dump code`.

use std::fmt::Write;

use crate::builtins::BuiltinId;

use super::{Code, Role};

/// Prints the user's functions, and those of the standard library if `all` is set.
pub fn print(code: &Code, all: bool) -> String {
    let mut out = String::new();
    for (id, f) in code.functions.iter().enumerate() {
        let source = &code.sources.files[f.place.source as usize];
        if source.name.starts_with(crate::check::STD) && !all {
            continue;
        }
        let place = code.sources.locate(f.place);
        let _ = writeln!(
            out,
            "function {id} {} ({} parameters, {} registers) at {place}",
            f.name, f.params, f.registers
        );
        for (at, op) in f.ops.iter().enumerate() {
            let mut note = String::new();
            op.roles(&mut |role| {
                let what = match role {
                    Role::Constant(index) => format!("{:?}", code.constants[index as usize]),
                    Role::Name(index) => format!(".{}", code.names[index as usize]),
                    Role::Function(index) => code.functions[index as usize].name.clone(),
                    Role::Builtin(index) => BuiltinId(index).get().name.to_string(),
                    Role::Global(index) => code.isolated[index as usize].name.clone(),
                    Role::Goto(by) | Role::Loops(by) => format!("to {}", at as i64 + 1 + i64::from(by)),
                    _ => return,
                };
                note = format!("  ; {what}");
            });
            let text = format!("{op:?}").replace(['{', '}', ':', ','], "");
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let _ = writeln!(out, "  {at:4}  {text}{note}");
        }
    }
    out
}
