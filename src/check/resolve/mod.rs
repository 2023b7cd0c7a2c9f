//! The walk over every module, which gives each name its meaning and reports mistakes.

mod calls;
mod declarations;
mod expressions;
mod idle;
mod loops;
mod names;
mod options;
mod schedules;
mod sections;
mod statements;
mod strings;
mod trials;

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::ops::Range;

use crate::builtins::Context;
use crate::syntax::token::Name;
use crate::syntax::{Diagnostic, Place, Span};

use super::scope::Scope;
use super::{BindingId, GlobalId, GlobalKind, Module, ModuleId, Program, closest};

/// Resolves all modules of a program.
pub fn resolve(program: &mut Program) {
    let std: HashMap<&'static str, ModuleId> = program
        .modules
        .iter()
        .enumerate()
        .filter_map(|(id, module)| module.std.map(|name| (name, id)))
        .collect();
    let mut facts = Facts::default();
    let has_siblings = program.has_siblings();
    for module in 0..program.modules.len() {
        let items = mem::take(&mut program.modules[module].tree.items);
        let mut resolver = Resolver {
            program,
            std: &std,
            module,
            facts: &mut facts,
            scopes: Vec::new(),
            level: 0,
            context: Some(Context::Orchestration),
            owner: None,
            loops: Vec::new(),
            in_entity: false,
            kept: Vec::new(),
            siblings: 0..0,
            has_siblings,
            in_test: false,
            in_try: false,
            last: idle::Last::default(),
            assigns: false,
            tried: trials::Tried::default(),
            section: None,
            first_uses: HashMap::new(),
        };
        resolver.module(&items);
        program.modules[module].tree.items = items;
    }
    bind_to_scripts(program, facts);
}

/// The greatest number of names that are compared with unknown ones, about a second's work.
const MOST_COMPARED: usize = 500_000;

/// Findings that can be judged only after all modules are read.
#[derive(Default)]
struct Facts {
    /// How many names were compared with unknown ones.
    compared: Cell<usize>,
    /// Uses of script variables: the top-level function, the variable, and the statement that
    /// declares the variable.
    captures: Vec<(GlobalId, BindingId, usize)>,
    /// Mentions of one top-level declaration in another: the declaration around, the mentioned
    /// declaration, and the place.
    mentions: Vec<(GlobalId, GlobalId, Place)>,
    /// Mentions of top-level declarations of other modules.
    foreign: Vec<(GlobalId, Place)>,
    /// The first statement of a script that mentions a declaration.
    first_uses: HashMap<GlobalId, usize>,
}

/// Binds functions to their script if they use its variables, themselves or through other such
/// functions. Reports those that can't be bound.
fn bind_to_scripts(program: &mut Program, facts: Facts) {
    for (global, binding, _) in &facts.captures {
        let module = program.globals[*global].module;
        let name = program.modules[module].bindings[*binding as usize].name.clone();
        program.globals[*global].script_bound.get_or_insert(name);
    }
    loop {
        let mut changed = false;
        for (from, to, _) in &facts.mentions {
            if program.globals[*from].kind == GlobalKind::Function
                && program.globals[*from].script_bound.is_none()
                && program.globals[*from].module == program.globals[*to].module
                && let Some(name) = program.globals[*to].script_bound.clone()
            {
                program.globals[*from].script_bound = Some(name);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    for (from, to, place) in &facts.mentions {
        let (from, to) = (&program.globals[*from], &program.globals[*to]);
        if let Some(variable) = &to.script_bound
            && from.kind != GlobalKind::Function
        {
            program.diagnostics.push(captured(from.kind, &from.name, variable, *place, Some(&to.name)));
        }
    }
    for (global, place) in &facts.foreign {
        let global = &program.globals[*global];
        if let Some(variable) = &global.script_bound {
            program.diagnostics.push(
                Diagnostic::error(
                    format!("`{}` belongs to another file's script", global.name),
                    *place,
                    "can't be used from here",
                )
                .because(format!(
                    "it uses the script variable `{variable}`, and the scripts of imported files don't run"
                ))
                .hint(format!("give it `{variable}` as a parameter, or make that a `const`")),
            );
        }
    }
    // The statement before which a script's functions are made, and the variables that have no
    // value by then.
    for module in 0..program.modules.len() {
        let bound = |global: &GlobalId| {
            program.globals[*global].module == module && program.globals[*global].script_bound.is_some()
        };
        let place = facts.first_uses.iter().filter(|(global, _)| bound(global)).map(|(_, at)| *at).min();
        let place = place.unwrap_or(usize::MAX);
        let early: BTreeSet<BindingId> = facts
            .captures
            .iter()
            .filter(|(global, _, declared)| program.globals[*global].module == module && *declared >= place)
            .map(|(_, binding, _)| *binding)
            .collect();
        let module = &mut program.modules[module];
        module.function_places.insert(u32::MAX, place);
        for binding in early {
            module.bindings[binding as usize].early = true;
        }
    }
}

fn captured(
    kind: GlobalKind,
    owner: &str,
    variable: &str,
    place: Place,
    through: Option<&str>,
) -> Diagnostic {
    let text = match through {
        Some(function) => format!("`{function}` uses the script variable `{variable}`"),
        None => "a variable of the script".to_string(),
    };
    let title = format!("{} `{owner}` uses the script variable `{variable}`", kind.describe());
    let error = Diagnostic::error(title, place, text);
    if kind.has_no_name() {
        return error
            .because("tests, mocks and properties are tried out without the script")
            .hint(format!("make `{variable}` a `const`"));
    }
    error
        .because("activities, orchestrations and entities run on their own, perhaps elsewhere and later")
        .hint(format!("give it `{variable}` as a parameter, or make that a `const`"))
}

struct Resolver<'a> {
    program: &'a mut Program,
    std: &'a HashMap<&'static str, ModuleId>,
    module: ModuleId,
    facts: &'a mut Facts,
    scopes: Vec<Scope>,
    level: u32,
    /// The context in which the code runs, if it is certain.
    context: Option<Context>,
    /// The surrounding top-level declaration.
    owner: Option<GlobalId>,
    /// The loops around the code within its function.
    loops: Vec<loops::Loop>,
    in_entity: bool,
    /// The fields of the initial state of the surrounding entity.
    kept: Vec<Name>,
    /// The bindings of the surrounding entity's operations and private functions.
    siblings: Range<BindingId>,
    /// Whether the operations of an entity see one another.
    has_siblings: bool,
    in_test: bool,
    /// Whether the code is in the body of a `try` of the same function.
    in_try: bool,
    /// The use of the value of the expression or block that is walked next.
    last: idle::Last,
    /// Whether the name that is being looked up is assigned to.
    assigns: bool,
    /// The tests, mocks and properties so far, of the file or of the surrounding test.
    tried: trials::Tried,
    /// The surrounding critical section, if it is certain.
    section: Option<sections::Section>,
    first_uses: HashMap<GlobalId, usize>,
}

impl Resolver<'_> {
    fn me(&mut self) -> &mut Module {
        &mut self.program.modules[self.module]
    }

    fn place(&self, span: Span) -> Place {
        Place { source: self.program.modules[self.module].source, span }
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        self.program.diagnostics.push(diagnostic);
    }

    /// Returns the name that is near enough to be meant. A program with very many unknown names gets
    /// an answer for the first of them.
    fn nearest<'n>(&self, wanted: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
        let compared = &self.facts.compared;
        let may_compare = |_: &&str| compared.replace(compared.get() + 1) < MOST_COMPARED;
        closest(wanted, names.into_iter().take_while(may_compare))
    }

    fn did_you_mean<'n>(&self, wanted: &str, names: impl IntoIterator<Item = &'n str>) -> Option<String> {
        self.nearest(wanted, names).map(|near| format!("did you mean `{near}`?"))
    }
}
