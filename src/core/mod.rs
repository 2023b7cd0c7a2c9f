//! The core calculus: what is left of a program once sugar is removed.
//!
//! Invariant: every name is a numbered variable or a global, every `match` is a decision tree, every method call,
//! effect and exit is explicit. Some twenty forms and a set of primitive operations; nothing of the surface syntax.

mod decide;
mod fold;
mod lower;
mod print;

use std::rc::Rc;

use crate::builtins::{BuiltinId, Context};
use crate::check::{GlobalId, Mocked};
use crate::syntax::token::Name;
use crate::syntax::tree::{BinaryOp, Literal, PropertyKind};
use crate::syntax::{Place, Span};

pub use lower::lower;
pub use print::print;

/// A variable, unique within its module.
pub type Var = u32;
/// A place that `Exit` leaves or `Again` repeats, unique within its module.
pub type Label = u32;

/// A form and where it comes from.
#[derive(Debug, Clone)]
pub struct Node {
    pub form: Form,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub enum Form {
    Const(Literal),
    Var(Var),
    Global(GlobalId),
    /// A builtin as a value.
    Builtin(BuiltinId),
    /// Evaluates in order; the value is the last one's, or null.
    Seq(Vec<Node>),
    /// Within a `Seq`: makes a variable.
    Bind(Var, Box<Node>),
    /// Gives a `var` a new value, or a new value at a path within.
    Set(Var, Vec<Step>, Box<Node>),
    Lambda(Rc<Function>),
    /// Makes functions that know one another.
    Functions(Vec<(Var, Rc<Function>)>),
    /// Calls a value.
    Call(Box<Node>, Vec<Arg>),
    /// Calls a method of a value.
    Method(Box<Node>, Name, Vec<Arg>),
    Prim(Prim, Vec<Node>),
    If(Box<Node>, Box<Node>, Box<Node>),
    /// A block that `Exit` can leave with a value; the flag says that `Again` repeats it.
    Loop(Loop),
    Exit(Label),
    Again(Label),
    Return(Box<Node>),
    Match(Box<Match>),
    Try(Box<Try>),
    Throw(Box<Node>),
    /// A builtin applied: a native, an effect, or a step of the scheduler.
    Apply(BuiltinId, Vec<Node>),
    /// What an isolated declaration's stub does: its global, arguments, and options or null.
    Invoke(GlobalId, Vec<Node>, Box<Node>),
    /// Makes cells for variables whose values come later.
    Declare(Vec<Var>),
}

impl Node {
    /// Whether evaluating it may give a variable a new value, by code of its own.
    pub fn sets(&self, var: Var) -> bool {
        matches!(self.form, Form::Set(set, ..) if set == var) || self.any_within(&mut |part| part.sets(var))
    }

    /// Whether something holds for a node that this one is made of.
    pub fn any_within(&self, holds: &mut dyn FnMut(&Node) -> bool) -> bool {
        let mut found = false;
        self.each(&mut |part| found = found || holds(part));
        found
    }

    /// Adds the nodes that a node is made of to a list. Functions within are not entered.
    pub fn each_part<'a>(&'a self, parts: &mut Vec<&'a Node>) {
        self.each(&mut |part| parts.push(part));
    }

    /// Visits the nodes that a node is made of. Functions within are not entered.
    pub fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a Node)) {
        match &self.form {
            Form::Const(_)
            | Form::Var(_)
            | Form::Global(_)
            | Form::Builtin(_)
            | Form::Lambda(_)
            | Form::Functions(_)
            | Form::Exit(_)
            | Form::Again(_)
            | Form::Declare(_) => {}
            Form::Bind(_, a) | Form::Return(a) | Form::Throw(a) => visit(a),
            Form::Seq(nodes) | Form::Prim(_, nodes) | Form::Apply(_, nodes) => nodes.iter().for_each(visit),
            Form::Set(_, steps, value) => {
                for step in steps {
                    if let Step::Index(index) = step {
                        visit(index);
                    }
                }
                visit(value);
            }
            Form::Call(a, args) | Form::Method(a, _, args) => {
                visit(a);
                for Arg::Item(arg) | Arg::Spread(arg) in args {
                    visit(arg);
                }
            }
            Form::If(condition, then, other) => [condition, then, other].into_iter().for_each(|a| visit(a)),
            Form::Loop(l) => {
                match &l.head {
                    Head::While(a) | Head::Each(_, a) => visit(a),
                    Head::Range(_, a, b, _) => [a, b].into_iter().for_each(|a| visit(a)),
                }
                visit(&l.body);
            }
            Form::Match(m) => {
                visit(&m.subject);
                m.tree.each_guard(visit);
                m.arms.iter().for_each(visit);
            }
            Form::Try(t) => {
                visit(&t.body);
                t.catch.iter().map(|(_, node)| node).chain(&t.finally).for_each(visit);
            }
            Form::Invoke(_, args, options) => {
                args.iter().for_each(&mut *visit);
                visit(options);
            }
        }
    }
}

#[derive(Debug, Clone)]
pub enum Arg {
    Item(Node),
    Spread(Node),
}

/// A step of a path that is assigned to.
#[derive(Debug, Clone)]
pub enum Step {
    Field(Name, Span),
    Index(Node),
}

#[derive(Debug, Clone)]
pub struct Loop {
    pub label: Label,
    pub head: Head,
    pub body: Box<Node>,
}

/// What makes a loop go on.
#[derive(Debug, Clone)]
pub enum Head {
    While(Box<Node>),
    /// Each of a range of ints; the flag says that the end is included.
    Range(Var, Box<Node>, Box<Node>, bool),
    /// Each element of a list, entry of a record, character of a string.
    Each(Var, Box<Node>),
}

#[derive(Debug, Clone)]
pub struct Try {
    pub body: Node,
    /// The error and what is done with it; arms that don't match throw it again.
    pub catch: Option<(Var, Node)>,
    pub finally: Option<Node>,
}

/// A `match`: the subject, the tests in the best order, and the arms that the tree's leaves name.
#[derive(Debug, Clone)]
pub struct Match {
    pub subject: Node,
    pub subject_var: Var,
    pub tree: Decision,
    pub arms: Vec<Node>,
    pub otherwise: Otherwise,
}

/// What happens when no arm matches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Otherwise {
    /// A `match` without a fitting arm: an error.
    NoArm,
    /// A `let`, a parameter or a `for` whose pattern doesn't fit: an error.
    NoMatch,
    /// A `catch`: the error goes on, as if it had not been caught.
    Rethrow,
}

#[derive(Debug, Clone)]
pub enum Decision {
    /// Reads a part of a value into a variable.
    Read {
        into: Var,
        from: Var,
        part: Part,
        then: Box<Decision>,
    },
    Test {
        var: Var,
        test: Test,
        yes: Box<Decision>,
        no: Box<Decision>,
    },
    /// Binds variables and takes an arm, if its guard says so.
    Arm {
        binds: Vec<(Var, Var)>,
        guard: Option<(Node, Box<Decision>)>,
        arm: usize,
    },
    /// Tries one tree, then another.
    Either(Box<Decision>, Box<Decision>),
    Fail,
}

impl Decision {
    fn each_guard<'a>(&'a self, visit: &mut dyn FnMut(&'a Node)) {
        match self {
            Decision::Read { then, .. } => then.each_guard(visit),
            Decision::Test { yes: a, no: b, .. } | Decision::Either(a, b) => {
                a.each_guard(visit);
                b.each_guard(visit);
            }
            Decision::Arm { guard, .. } => {
                if let Some((guard, no)) = guard {
                    visit(guard);
                    no.each_guard(visit);
                }
            }
            Decision::Fail => {}
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Part {
    /// A record's field, or the mark of a missing one.
    Field(Name),
    Index(usize),
    /// From the end, 1 the last.
    IndexBack(usize),
    /// All but so many at the beginning and the end.
    Middle(usize, usize),
    /// A record without these fields.
    Without(Vec<Name>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    Equal(Literal),
    IsList,
    IsRecord,
    /// The mark of a missing field was not read.
    Present,
    Length(usize),
    AtLeast(usize),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Prim {
    Binary(BinaryOp),
    /// `div(a, b)`
    Quotient,
    Not,
    Negate,
    /// A bool, or an error.
    Bool,
    IsNull,
    /// The argument was left out.
    IsMissing,
    /// The mark of an argument that is left out.
    Missing,
    /// A list of the arguments; those marked are spread.
    List(Vec<bool>),
    Record(Vec<Key>),
    Field(Name),
    OptionalField(Name),
    Index,
    /// The texts of all arguments, joined.
    Concat,
    /// A list of ints; the flag says that the end is included.
    Range(bool),
}

/// How an argument goes into a record; computed keys are arguments before their value.
#[derive(Debug, Clone, PartialEq)]
pub enum Key {
    Named(Name),
    Computed,
    Spread,
}

/// A function.
#[derive(Debug)]
pub struct Function {
    pub name: String,
    pub params: Vec<Var>,
    /// Arguments that must be given.
    pub required: usize,
    pub body: Node,
    pub place: Place,
}

/// What a variable is.
#[derive(Debug, Clone)]
pub struct VarInfo {
    pub name: Name,
    /// Kept in a cell, because functions share it and it changes, or they are made before it has its value.
    pub cell: bool,
    /// Read before its value is certain to be there.
    pub early: bool,
    /// A parameter whose argument is the cell itself: the state of an entity.
    pub given: bool,
}

/// A lowered declaration.
#[derive(Debug)]
pub enum Item {
    Function(Function),
    Const(Function),
    /// The stub that is called, and the body that does the work.
    Isolated {
        stub: Function,
        body: Function,
        context: Context,
    },
    /// The stub that makes a reference, the initial state, and the operations. Each operation's last parameter is
    /// the cell of the state.
    Entity {
        stub: Function,
        initial: Option<Function>,
        operations: Vec<(Name, Function)>,
    },
    Test {
        name: String,
        body: Function,
        trials: Trials,
    },
    /// What a file says for all of its tests.
    Trials(Trials),
}

/// What is mocked when a program is tried out, and what has to hold.
#[derive(Debug, Default)]
pub struct Trials {
    pub mocks: Vec<Mock>,
    pub properties: Vec<Property>,
}

/// An activity or an effect, and what can come of it.
#[derive(Debug)]
pub struct Mock {
    pub target: Mocked,
    /// Whether the outcomes come one after the other, the last one again and again; else any of them may come.
    pub in_turn: bool,
    pub outcomes: Vec<Outcome>,
    /// The time within which an answer comes, in nanoseconds.
    pub within: Option<i64>,
    pub place: Place,
}

/// One thing that can come of what is mocked.
#[derive(Debug)]
pub enum Outcome {
    /// The value or the error of a function of the arguments.
    Function(Function),
    /// What an operation does to an entity, which stands for the world, and gives. The function gives the entity.
    Operation(Function, String),
    /// It is never done.
    Never,
}

/// A property: a function without parameters that gives a bool.
#[derive(Debug)]
pub struct Property {
    pub kind: PropertyKind,
    pub name: String,
    pub body: Function,
    pub place: Place,
}

/// A module's part: its variables.
#[derive(Debug, Default)]
pub struct Variables {
    pub vars: Vec<VarInfo>,
}

/// A lowered program: what the script and all user declarations reach.
#[derive(Debug)]
pub struct Core {
    pub script: Function,
    pub items: Vec<(GlobalId, Item)>,
    /// By module.
    pub variables: Vec<Variables>,
    /// Methods by name: for each kind's module, the global.
    pub methods: Vec<(Name, Vec<(&'static str, GlobalId)>)>,
}
