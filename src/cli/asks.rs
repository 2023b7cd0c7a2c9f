//! The permissions that a program needs, as far as its text shows: `durable check --permissions`.
//!
//! The analysis follows each use of an effect from the functions of the standard library back to
//! the program's own calls. An argument that is constant is listed. An argument that is computed
//! stands for everything of its kind.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use reqwest::Url;

use crate::builtins::{BuiltinId, Effect};
use crate::check::{GlobalId, Program};
use crate::core::{Arg, Core, Form, Function, Item, Node, Prim, Var};
use crate::permissions::{Capability, Target};
use crate::syntax::Place;
use crate::syntax::tree::Literal;

/// A capability, with its target if the text shows the target; `None` means the whole capability.
pub type Asked = (Capability, Option<String>);

/// Returns the places of a program that need a permission, by permission.
pub fn asked(program: &Program, core: &Core) -> BTreeMap<Asked, Vec<Place>> {
    let mut analysis = Analysis::new(program, core);
    // The passes follow functions that hand a parameter on, until none is new.
    while analysis.pass() {}
    analysis
        .found
        .into_iter()
        .map(|(asked, places)| (asked, places.into_iter().map(place).collect()))
        .collect()
}

/// A function that can be called: the declaration, or the body behind its stub.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Callee {
    Declared(GlobalId),
    Isolated(GlobalId),
}

/// A place that can be ordered: source, start, end.
type At = (u32, u32, u32);

fn place((source, start, end): At) -> Place {
    Place { source, span: crate::syntax::Span { start, end } }
}

struct Analysis<'a> {
    program: &'a Program,
    core: &'a Core,
    /// The parameters that functions hand on to an effect as its target.
    handed_on: HashMap<Callee, BTreeSet<(Capability, usize)>>,
    found: BTreeMap<Asked, BTreeSet<At>>,
    changed: bool,
}

/// The function that is being analysed, with the variables that have one known value.
struct Within<'a> {
    own: Option<Callee>,
    params: &'a [Var],
    source: u32,
    bound: HashMap<Var, &'a Node>,
    is_library: bool,
}

/// The knowledge of an argument.
enum Known {
    Text(String),
    /// A text with this beginning and a computed rest.
    Beginning(String),
    Parameter(usize),
    Computed,
}

impl<'a> Analysis<'a> {
    fn new(program: &'a Program, core: &'a Core) -> Analysis<'a> {
        Analysis { program, core, handed_on: HashMap::new(), found: BTreeMap::new(), changed: false }
    }

    /// Analyses all functions once; returns whether more parameters were found that are handed on.
    fn pass(&mut self) -> bool {
        self.changed = false;
        self.found.clear();
        let core = self.core;
        self.function(None, &core.script);
        for (global, item) in &core.items {
            match item {
                Item::Function(function) | Item::Const(function) => {
                    self.function(Some(Callee::Declared(*global)), function)
                }
                Item::Isolated { stub, body, .. } => {
                    self.function(Some(Callee::Declared(*global)), stub);
                    self.function(Some(Callee::Isolated(*global)), body);
                }
                Item::Entity { initial, migrations, operations, members, .. } => {
                    let members = members.iter().map(|(_, function)| function);
                    let operations = operations.iter().map(|(_, function)| function);
                    let all = initial.iter().chain(migrations).chain(operations).chain(members);
                    all.for_each(|function| self.function(None, function));
                }
                Item::Test { .. } | Item::Trials(_) => {}
            }
        }
        self.changed
    }

    fn function(&mut self, own: Option<Callee>, function: &'a Function) {
        let source = function.place.source;
        let is_library =
            self.program.modules.iter().any(|module| module.source == source && module.std.is_some());
        let mut within = Within { own, params: &function.params, source, bound: HashMap::new(), is_library };
        bindings(&function.body, &mut within.bound);
        self.node(&within, &function.body);
    }

    fn node(&mut self, within: &Within<'a>, node: &'a Node) {
        match &node.form {
            Form::Apply(builtin, args) => {
                for (capability, at) in about(*builtin) {
                    self.use_of(within, node, *capability, args.get(*at));
                }
            }
            Form::Call(callee, args) if let Form::Global(global) = callee.form => {
                let is_spread = args.iter().any(|arg| matches!(arg, Arg::Spread(_)));
                let args: Vec<&Node> = args.iter().map(|(Arg::Item(arg) | Arg::Spread(arg))| arg).collect();
                self.call(within, node, Callee::Declared(global), &args, is_spread);
                // The callee itself is not a value that goes elsewhere.
                args.into_iter().for_each(|arg| self.node(within, arg));
                return;
            }
            Form::Invoke(global, args, _) => {
                let args: Vec<&Node> = args.iter().collect();
                self.call(within, node, Callee::Isolated(*global), &args, false);
            }
            // The receiver of this function may call it with any arguments.
            Form::Global(global) => self.call(within, node, Callee::Declared(*global), &[], true),
            Form::Builtin(builtin) => {
                for (capability, _) in about(*builtin) {
                    self.use_of(within, node, *capability, None);
                }
            }
            Form::Lambda(function) => self.function(None, function),
            Form::Functions(functions) => {
                functions.iter().for_each(|(_, function)| self.function(None, function))
            }
            _ => {}
        }
        let mut parts: Vec<&'a Node> = Vec::new();
        node.each_part(&mut parts);
        parts.into_iter().for_each(|part| self.node(within, part));
    }

    fn call(
        &mut self,
        within: &Within<'a>,
        node: &'a Node,
        callee: Callee,
        args: &[&'a Node],
        is_spread: bool,
    ) {
        let Some(handed_on) = self.handed_on.get(&callee).cloned() else { return };
        for (capability, at) in handed_on {
            let arg = if is_spread { None } else { args.get(at).copied() };
            self.use_of(within, node, capability, arg);
        }
    }

    fn use_of(&mut self, within: &Within<'a>, node: &Node, capability: Capability, arg: Option<&'a Node>) {
        let what = match arg.map_or(Known::Computed, |arg| self.known(within, arg, 0)) {
            Known::Parameter(at) if within.own.is_some() => {
                let own = within.own.into_iter();
                for own in own {
                    self.changed |= self.handed_on.entry(own).or_default().insert((capability, at));
                }
                return;
            }
            Known::Text(text) => named(capability, &text, true),
            Known::Beginning(text) => named(capability, &text, false),
            Known::Parameter(_) | Known::Computed => None,
        };
        // An effect of the library with a parameter as its target is reported where the library is
        // called.
        if within.is_library && what.is_none() {
            return;
        }
        let at = (within.source, node.span.start, node.span.end);
        // A database in a file is read and written.
        let file = what.as_deref().and_then(|what| what.strip_prefix(FILE)).map(str::to_string);
        let asked = match (capability, file) {
            (Capability::Net, Some(file)) => {
                vec![(Capability::Read, Some(file.clone())), (Capability::Write, Some(file))]
            }
            _ => vec![(capability, what)],
        };
        for asked in asked {
            self.found.entry(asked).or_default().insert(at);
        }
    }

    fn known(&self, within: &Within<'a>, node: &'a Node, depth: usize) -> Known {
        const MOST: usize = 32;
        if depth > MOST {
            return Known::Computed;
        }
        match &node.form {
            Form::Const(Literal::Str(text)) => Known::Text(text.to_string()),
            Form::Var(var) => match within.params.iter().position(|param| param == var) {
                Some(at) => Known::Parameter(at),
                None => match within.bound.get(var) {
                    Some(bound) => self.known(within, bound, depth + 1),
                    None => Known::Computed,
                },
            },
            Form::Global(global) => {
                let constant = self.core.items.iter().find(|(known, _)| known == global);
                match constant {
                    Some((_, Item::Const(function))) => self.constant(&function.body, depth + 1),
                    _ => Known::Computed,
                }
            }
            Form::Prim(Prim::Concat, parts) => {
                let mut text = String::new();
                for part in parts {
                    match self.known(within, part, depth + 1) {
                        Known::Text(more) => text.push_str(&more),
                        Known::Beginning(more) => return Known::Beginning(text + &more),
                        _ => return Known::Beginning(text),
                    }
                }
                Known::Text(text)
            }
            Form::Seq(nodes) => {
                nodes.last().map_or(Known::Computed, |last| self.known(within, last, depth + 1))
            }
            _ => Known::Computed,
        }
    }

    fn constant(&self, node: &'a Node, depth: usize) -> Known {
        let within = Within { own: None, params: &[], source: 0, bound: HashMap::new(), is_library: false };
        match &node.form {
            Form::Return(value) => self.known(&within, value, depth),
            _ => self.known(&within, node, depth),
        }
    }
}

/// The beginning of the URL of a database in a file.
const FILE: &str = "sqlite:";

/// Returns the target that a text names, or `None` if the target is only known when the program
/// runs.
fn named(capability: Capability, text: &str, is_whole: bool) -> Option<String> {
    match capability {
        Capability::Net if text.starts_with(FILE) => {
            let path = text.split('?').next().unwrap_or(text);
            (is_whole && !path.contains(',')).then(|| path.to_string())
        }
        Capability::Net => {
            // The host of an unfinished URL is known if something follows the host.
            let begins_path = text.split_once("://").is_some_and(|(_, rest)| rest.contains(['/', '?', '#']));
            let url = Url::parse(text).ok().filter(|_| is_whole || begins_path)?;
            Target::of(&url).map(|target| target.shown().to_string())
        }
        _ if is_whole && !text.contains(',') => Some(text.to_string()),
        _ => None,
    }
}

/// Returns the capabilities that an effect needs, each with the index of the argument that is the
/// target. No argument names what a pattern or a temporary folder reaches.
fn about(builtin: BuiltinId) -> &'static [(Capability, usize)] {
    const NONE: usize = usize::MAX;
    // A handle is data, so the text shows its database where the handle is made.
    if builtin.get().name == "sql_connect" {
        return &[(Capability::Net, 0)];
    }
    let Some(effect) = builtin.get().effect() else { return &[] };
    match effect {
        Effect::Http => &[(Capability::Net, 1)],
        Effect::HttpDownload => &[(Capability::Net, 0), (Capability::Write, 1)],
        Effect::Exec | Effect::ExecStart => &[(Capability::Exec, 0)],
        Effect::Env | Effect::Secret => &[(Capability::Env, 0)],
        Effect::FsRead
        | Effect::FsReadBytes
        | Effect::FsExists
        | Effect::FsList
        | Effect::FsStat
        | Effect::FsWalk
        | Effect::FsLines => &[(Capability::Read, 0)],
        Effect::FsGlob => &[(Capability::Read, NONE)],
        Effect::FsCopy => &[(Capability::Read, 0), (Capability::Write, 1)],
        Effect::FsRename => &[(Capability::Read, 0), (Capability::Write, 0), (Capability::Write, 1)],
        Effect::FsWrite | Effect::FsAppend | Effect::FsMakeDir | Effect::FsRemove => {
            &[(Capability::Write, 0)]
        }
        Effect::FsTempDir => &[(Capability::Write, NONE)],
        _ => &[],
    }
}

/// Gathers the values of variables that are bound once and never set.
fn bindings<'a>(node: &'a Node, bound: &mut HashMap<Var, &'a Node>) {
    let mut set = BTreeSet::new();
    gather(node, bound, &mut set);
    bound.retain(|var, _| !set.contains(var));
}

fn gather<'a>(node: &'a Node, bound: &mut HashMap<Var, &'a Node>, set: &mut BTreeSet<Var>) {
    match &node.form {
        // A variable that is bound again, in a loop that is written out, has more than one value.
        Form::Bind(var, value) if bound.insert(*var, value).is_none() => {}
        Form::Bind(var, _) | Form::Set(var, ..) => {
            set.insert(*var);
        }
        // A variable that an inner function sets has no known value either.
        Form::Lambda(function) => gather(&function.body, bound, set),
        Form::Functions(functions) => {
            functions.iter().for_each(|(_, function)| gather(&function.body, bound, set));
        }
        _ => {}
    }
    let mut parts = Vec::new();
    node.each_part(&mut parts);
    parts.into_iter().for_each(|part| gather(part, bound, set));
}
