//! From trees to a resolved program: which declaration each name means, and everything that is wrong with it.
//!
//! Invariant: a program without errors here can be lowered and compiled without asking further questions:
//! every name is resolved, every construct is where it may be. Nothing here runs anything.

mod contexts;
mod load;
mod patterns;
pub mod reference;
mod resolve;
mod scope;
mod suggest;

use std::collections::{HashMap, HashSet};

use crate::builtins::{BuiltinId, Effect};
use crate::syntax::token::Name;
use crate::syntax::tree::{self, Expr, ExprKind, Stmt, StmtKind};
use crate::syntax::{Diagnostic, Place, Severity, Sources, Span};

pub use load::{Loader, STD, load, load_beside, load_permitted, load_stored, std_sources};
pub use scope::arity;
pub use suggest::closest;

pub type ModuleId = usize;
pub type GlobalId = usize;
pub type BindingId = u32;

/// A program: its modules, the user's first, with every name resolved.
pub struct Program {
    pub sources: Sources,
    pub modules: Vec<Module>,
    pub globals: Vec<Global>,
    /// Names used as `value.name` somewhere: methods that the standard library must provide.
    pub methods: HashSet<Name>,
    /// Whether an orchestration may be called with `retry`.
    pub retries_children: bool,
    pub diagnostics: Vec<Diagnostic>,
}

impl Program {
    /// Whether it may run.
    pub fn is_sound(&self) -> bool {
        self.diagnostics.iter().all(|d| d.severity != Severity::Error)
    }

    /// The names of its `extern activity`s, and where they are declared.
    pub fn externs(&self) -> impl Iterator<Item = (&str, Place)> {
        self.globals.iter().filter_map(|global| {
            let module = &self.modules[global.module];
            let StmtKind::Activity(activity) = &module.tree.items[global.item].kind else { return None };
            let [Stmt { kind: StmtKind::Expr(Expr { kind: ExprKind::Extern(name, _), .. }), .. }] =
                &activity.body.stmts[..]
            else {
                return None;
            };
            Some((&**name, Place { source: module.source, span: global.span }))
        })
    }
}

/// A source text with its declarations and the meaning of its names.
pub struct Module {
    /// The path it is shown under, and of which its number in [`Sources`] is `source`.
    pub name: String,
    pub source: u32,
    /// The name under which a module of the standard library is known.
    pub std: Option<&'static str>,
    pub tree: tree::Module,
    pub imports: HashMap<Name, Import>,
    pub globals: HashMap<Name, GlobalId>,
    /// The meaning of each name, by the offset where it is written.
    pub uses: HashMap<u32, Resolved>,
    pub bindings: Vec<Binding>,
    /// The binding made at each offset.
    pub bound: HashMap<u32, BindingId>,
    /// For a block, by its offset: the statement before which its local functions are made.
    pub function_places: HashMap<u32, usize>,
    /// What each `mock` stands for, by the offset of its target.
    pub mocked: HashMap<u32, Mocked>,
    /// The script's `args`.
    pub args: BindingId,
}

pub struct Import {
    pub module: ModuleId,
    pub span: Span,
    pub used: bool,
}

/// What a name means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Resolved {
    Local(BindingId),
    Global(GlobalId),
    Builtin(BuiltinId),
}

/// What a `mock` stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mocked {
    Activity(GlobalId),
    Effect(Effect),
}

/// A variable of a function.
#[derive(Clone, Debug)]
pub struct Binding {
    pub name: Name,
    pub span: Span,
    /// Declared by `var`.
    pub mutable: bool,
    /// Used in a function within the one that declares it.
    pub captured: bool,
    /// Captured by a local function that is made before it has its value.
    pub early: bool,
    pub used: bool,
    /// Read, and not only assigned to.
    pub read: bool,
    /// How many functions are around it; 0 is the script.
    pub level: u32,
    /// For a local function: how many arguments it takes.
    pub arity: Option<(usize, usize)>,
}

/// A declaration at the top level of a module.
#[derive(Debug)]
pub struct Global {
    pub module: ModuleId,
    pub name: Name,
    pub kind: GlobalKind,
    /// Index into the module's items.
    pub item: usize,
    pub span: Span,
    pub min: usize,
    pub max: usize,
    /// A function that uses its script's variables, so belongs to the script; with one such variable.
    pub script_bound: Option<Name>,
    /// A function of the standard library that only calls this builtin with its own parameters.
    pub alias: Option<BuiltinId>,
    /// An entity's operations with the least and greatest number of their arguments.
    pub operations: Vec<(Name, usize, usize)>,
    /// The variable that holds it, when it is bound to the script.
    pub binding: BindingId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlobalKind {
    Function,
    Const,
    Activity,
    Orchestration,
    Entity,
    // What a file says about how it is tried out. No name means these.
    Test,
    Mock,
    Property,
}

impl GlobalKind {
    /// Whether no name can mean it.
    pub fn has_no_name(self) -> bool {
        matches!(self, GlobalKind::Test | GlobalKind::Mock | GlobalKind::Property)
    }

    /// As it is called in messages.
    pub fn describe(self) -> &'static str {
        match self {
            GlobalKind::Function => "function",
            GlobalKind::Const => "const",
            GlobalKind::Activity => "activity",
            GlobalKind::Orchestration => "orchestration",
            GlobalKind::Entity => "entity",
            GlobalKind::Test => "test",
            GlobalKind::Mock => "the mock of",
            GlobalKind::Property => "property",
        }
    }
}
