//! The core calculus: a program without syntactic sugar.
//!
//! Invariant: every name is a numbered variable or a global, every `match` is a decision tree, and
//! every method call, effect and exit is explicit. There are some twenty forms and a set of
//! primitive operations. Nothing of the surface syntax is left.

mod decide;
mod fold;
mod lower;
mod print;

use std::rc::Rc;

use crate::builtins::{BuiltinId, Context};
use crate::check::{GlobalId, Mocked};
use crate::syntax::token::Name;
use crate::syntax::tree::{BinaryOp, Kind, Literal, PropertyKind};
use crate::syntax::{Place, Span};

pub use lower::{lower, lower_for_debugging};
pub use print::print;

/// A variable, unique within its module.
pub type Var = u32;
/// The label of a loop, which `Exit` leaves and `Again` repeats. It is unique within the program.
pub type Label = u32;

/// A form with its source.
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
    /// Evaluates nodes in order. The value is that of the last node, or null.
    Seq(Vec<Node>),
    /// Makes a variable, within a `Seq`.
    Bind(Var, Box<Node>),
    /// Assigns a variable, or a place at a path within it.
    Set(Var, Vec<Step>, Box<Node>),
    Lambda(Rc<Function>),
    /// Makes a group of functions that can call one another.
    Functions(Vec<(Var, Rc<Function>)>),
    /// Calls a value.
    Call(Box<Node>, Vec<Arg>),
    /// Calls a method of a value.
    Method(Box<Node>, Name, Vec<Arg>),
    Prim(Prim, Vec<Node>),
    If(Box<Node>, Box<Node>, Box<Node>),
    /// A loop. `Exit` leaves it, and `Again` begins its next round.
    Loop(Loop),
    Exit(Label),
    Again(Label),
    Return(Box<Node>),
    Match(Box<Match>),
    Try(Box<Try>),
    Throw(Box<Node>),
    /// A call of a builtin: a native, an effect, or a step of the scheduler.
    Apply(BuiltinId, Vec<Node>),
    /// The call of an isolated declaration by its stub: the global, the arguments, and options or
    /// null.
    Invoke(GlobalId, Vec<Node>, Box<Node>),
    /// Makes cells for variables that get their values later.
    Declare(Vec<Var>),
    /// The beginning of a statement, whose span is the node's. Only code for the debugger has these.
    Mark,
}

impl Node {
    /// Returns whether the node's own code may assign a variable.
    pub fn sets(&self, var: Var) -> bool {
        matches!(self.form, Form::Set(set, ..) if set == var) || self.any_within(&mut |part| part.sets(var))
    }

    /// Returns whether something holds for a direct part of the node.
    pub fn any_within(&self, holds: &mut dyn FnMut(&Node) -> bool) -> bool {
        let mut found = false;
        self.each(&mut |part| found = found || holds(part));
        found
    }

    /// Adds the direct parts of the node to a list. Functions are not entered.
    pub fn each_part<'a>(&'a self, parts: &mut Vec<&'a Node>) {
        self.each(&mut |part| parts.push(part));
    }

    /// Visits the direct parts of the node. Functions are not entered.
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
            | Form::Declare(_)
            | Form::Mark => {}
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

/// A step of an assigned path.
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

/// The head of a loop, which decides whether it goes on.
#[derive(Debug, Clone)]
pub enum Head {
    While(Box<Node>),
    /// A range of ints. The flag tells whether the end is included.
    Range(Var, Box<Node>, Box<Node>, bool),
    /// The elements of a list, entries of a record, characters of a string, or bytes.
    Each(Var, Box<Node>),
}

#[derive(Debug, Clone)]
pub struct Try {
    pub body: Node,
    /// The variable of the error, and the handler. If no arm matches, the error is thrown again.
    pub catch: Option<(Var, Node)>,
    pub finally: Option<Node>,
}

/// A `match`: the subject, the decision tree, and the arms that its leaves name.
#[derive(Debug, Clone)]
pub struct Match {
    pub subject: Node,
    pub subject_var: Var,
    pub tree: Decision,
    pub arms: Vec<Node>,
    pub otherwise: Otherwise,
}

/// The behaviour if no arm matches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Otherwise {
    /// For a `match`: an error.
    NoArm,
    /// For a `let`, a parameter or a `for` with a pattern: an error.
    NoMatch,
    /// For a `catch`: the error goes on as if it had not been caught.
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
    /// Binds variables, and takes an arm unless its guard is false.
    Arm {
        binds: Vec<(Var, Var)>,
        guard: Option<(Node, Box<Decision>)>,
        arm: usize,
    },
    /// Tries one tree, and then another.
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
    /// A record's field, or the marker of a missing one.
    Field(Name),
    Index(usize),
    /// An element counted from the end, where 1 is the last.
    IndexBack(usize),
    /// All elements except for a number at the beginning and a number at the end.
    Middle(usize, usize),
    /// A record without these fields.
    Without(Vec<Name>),
    /// The rest of a string after this beginning.
    After(Name),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    Equal(Literal),
    /// The value is equal to one of several literals.
    OneOf(Vec<Literal>),
    /// The value is equal to an int from the first to the second, both included.
    Range(i64, i64),
    /// The value is a string that begins like this.
    Prefix(Name),
    /// The value is of a kind other than lists and records.
    Kind(Kind),
    IsList,
    IsRecord,
    /// The field is there: the part read is not the marker of a missing one.
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
    /// The argument, which must be a bool.
    Bool,
    IsNull,
    /// Whether an argument was omitted.
    IsMissing,
    /// The marker of an omitted argument.
    Missing,
    /// A list of the arguments. The marked ones are spread.
    List(Vec<bool>),
    Record(Vec<Key>),
    Field(Name),
    OptionalField(Name),
    Index,
    /// The texts of all arguments, joined.
    Concat,
    /// A range as a list of ints. The flag tells whether the end is included.
    Range(bool),
}

/// The way in which an argument goes into a record. A computed key is the argument before its
/// value.
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
    /// The number of required arguments.
    pub required: usize,
    pub body: Node,
    pub place: Place,
}

/// A variable's properties.
#[derive(Debug, Clone)]
pub struct VarInfo {
    pub name: Name,
    /// Whether the variable is kept in a cell. It is if functions share it and it changes, or if
    /// functions are made before it has its value.
    pub cell: bool,
    /// Whether the variable may be read before it has its value.
    pub early: bool,
    /// Whether the variable is a parameter whose argument is the cell itself: the state of an
    /// entity.
    pub given: bool,
    /// Whether the program names the variable. The others are made by the lowering.
    pub own: bool,
}

impl VarInfo {
    /// Returns the properties of a variable that the lowering makes.
    fn made(name: &str) -> VarInfo {
        VarInfo { name: name.into(), cell: false, early: false, given: false, own: false }
    }
}

/// A lowered declaration.
#[derive(Debug)]
pub enum Item {
    Function(Function),
    Const(Function),
    /// A stub, which is called, and the body, which does the work.
    Isolated {
        stub: Function,
        body: Function,
        context: Context,
    },
    /// A stub that makes a reference, the initial state, and the operations. The last parameter of
    /// each operation is the cell of the state, the variable `state`. The members are the functions
    /// and operations that others of the entity call. They capture the cell.
    Entity {
        stub: Function,
        initial: Option<Function>,
        /// The functions that make a state of each version of that of the version before.
        migrations: Vec<Function>,
        operations: Vec<(Name, Function)>,
        state: Var,
        members: Vec<(Var, Function)>,
        /// The names of the private functions.
        private: Vec<Name>,
    },
    Test {
        name: String,
        body: Function,
        trials: Trials,
    },
    /// The mocks and properties that a file has for all of its tests.
    Trials(Trials),
}

/// The mocks and properties for a test.
#[derive(Debug, Default)]
pub struct Trials {
    pub mocks: Vec<Mock>,
    pub properties: Vec<Property>,
}

/// A mock: an activity or an effect, with its possible outcomes.
#[derive(Debug)]
pub struct Mock {
    pub target: Mocked,
    /// Whether the outcomes come one after another, the last one again and again. Otherwise, each
    /// answer is any of them.
    pub in_turn: bool,
    pub outcomes: Vec<Outcome>,
    /// The time limit for an answer, in nanoseconds.
    pub within: Option<i64>,
    pub place: Place,
}

/// A possible outcome of a mocked activity or effect.
#[derive(Debug)]
pub enum Outcome {
    /// The value or the error of a function of the arguments.
    Function(Function),
    /// The effect and the result of an operation of an entity, which stands for the world. The
    /// function returns the entity.
    Operation(Function, String),
    /// No answer ever comes.
    Never,
}

/// A property: a function without parameters that returns a bool.
#[derive(Debug)]
pub struct Property {
    pub kind: PropertyKind,
    pub name: String,
    pub body: Function,
    pub place: Place,
}

/// The variables of a module.
#[derive(Debug, Default)]
pub struct Variables {
    pub vars: Vec<VarInfo>,
}

/// A lowered program: everything that the script and all user declarations reach.
#[derive(Debug)]
pub struct Core {
    pub script: Function,
    pub items: Vec<(GlobalId, Item)>,
    /// The variables by module.
    pub variables: Vec<Variables>,
    /// The methods by name: for the module of each kind, the global.
    pub methods: Vec<(Name, Vec<(&'static str, GlobalId)>)>,
}
