//! From trees to a resolved program: the declaration that each name means, and everything that is
//! wrong with the program.
//!
//! Invariant: a program without errors here can be lowered and compiled without further questions.
//! Every name is resolved, and every construct is in an allowed place. Nothing here runs anything.

mod contexts;
pub mod declared;
mod foreign;
mod load;
mod needed;
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

pub use load::{
    Loader, STD, load, load_beside, load_beside_with_all, load_permitted, load_stored, load_with_all,
    std_sources,
};
pub use needed::METHOD_MODULES;
pub use patterns::whole;
pub use scope::arity;
pub use suggest::closest;

pub type ModuleId = usize;
pub type GlobalId = usize;
pub type BindingId = u32;

/// A program with every name resolved; the user's modules come first.
pub struct Program {
    pub sources: Sources,
    pub modules: Vec<Module>,
    pub globals: Vec<Global>,
    /// The names used as `value.name` anywhere: methods that the standard library must provide.
    pub methods: HashSet<Name>,
    /// Whether an orchestration may be called with `retry`.
    pub retries_children: bool,
    pub diagnostics: Vec<Diagnostic>,
}

impl Program {
    /// Returns whether the program may run.
    pub fn is_sound(&self) -> bool {
        self.diagnostics.iter().all(|d| d.severity != Severity::Error)
    }

    /// Returns whether the operations of an entity see one another. In programs whose stored
    /// standard library predates this rule, their names mean what they meant before.
    fn has_siblings(&self) -> bool {
        let mut modules = self.modules.iter().filter(|module| module.std == Some("prelude"));
        modules.any(|module| {
            self.sources.files[module.source as usize].text.contains("\n// Entities: siblings.\n")
        })
    }

    /// Returns the names of the `extern activity`s, and the places of their declarations.
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

/// A source text with its declarations and the meanings of its names.
pub struct Module {
    /// The path under which the module is shown. `source` is its number in [`Sources`].
    pub name: String,
    pub source: u32,
    /// The name of the module, if it belongs to the standard library.
    pub std: Option<&'static str>,
    pub tree: tree::Module,
    pub imports: HashMap<Name, Import>,
    pub globals: HashMap<Name, GlobalId>,
    /// The meaning of each name, by the offset of the name.
    pub uses: HashMap<u32, Resolved>,
    pub bindings: Vec<Binding>,
    /// The binding made at each offset.
    pub bound: HashMap<u32, BindingId>,
    /// The statement before which the local functions of a block are made, by the offset of the
    /// block.
    pub function_places: HashMap<u32, usize>,
    /// The activity or effect of each `mock`, by the offset of its target.
    pub mocked: HashMap<u32, Mocked>,
    /// The binding of the script's `args`.
    pub args: BindingId,
}

pub struct Import {
    pub module: ModuleId,
    pub span: Span,
    pub used: bool,
}

/// The meaning of a name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Resolved {
    Local(BindingId),
    Global(GlobalId),
    Builtin(BuiltinId),
}

/// The activity or effect that a `mock` stands for.
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
    /// Whether the variable is declared by `var`.
    pub mutable: bool,
    /// Whether an inner function uses the variable.
    pub captured: bool,
    /// Whether a local function that is made before the variable has its value captures the
    /// variable.
    pub early: bool,
    pub used: bool,
    /// Whether the variable is read, and not only assigned to.
    pub read: bool,
    /// The number of functions around the variable; 0 is the script.
    pub level: u32,
    /// The least and greatest number of arguments of a local function.
    pub arity: Option<(usize, usize)>,
}

/// A declaration at the top level of a module.
#[derive(Debug)]
pub struct Global {
    pub module: ModuleId,
    pub name: Name,
    pub kind: GlobalKind,
    /// The index into the module's items.
    pub item: usize,
    pub span: Span,
    pub min: usize,
    pub max: usize,
    /// One of the script's variables that a function uses. Such a function belongs to its script.
    pub script_bound: Option<Name>,
    /// The builtin that a function of the standard library calls with just its own parameters.
    pub alias: Option<BuiltinId>,
    /// The operations of an entity, with the least and greatest number of their arguments.
    pub operations: Vec<(Name, usize, usize)>,
    /// The names of an entity's private functions.
    pub private: Vec<(Name, Span)>,
    /// The variable that holds the function, if it is bound to the script.
    pub binding: BindingId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlobalKind {
    Function,
    Const,
    Activity,
    Orchestration,
    Entity,
    // Declarations for tests. No name can mean them.
    Test,
    Mock,
    Property,
    // A declaration that no name can mean either.
    Schedule,
}

impl GlobalKind {
    /// Returns whether no name can mean such a declaration.
    pub fn has_no_name(self) -> bool {
        matches!(self, GlobalKind::Test | GlobalKind::Mock | GlobalKind::Property | GlobalKind::Schedule)
    }

    /// Returns the word for it in messages.
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
            GlobalKind::Schedule => "schedule",
        }
    }
}
