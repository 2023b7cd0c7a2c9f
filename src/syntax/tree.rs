//! The syntax tree: the text as written, with spans, before any meaning.

use super::source::Span;
use super::token::Name;

/// The largest number of expressions within one another in a tree.
pub const MAX_DEPTH: u32 = 2_000;

/// A name in the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Ident {
    pub name: Name,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    pub items: Vec<Stmt>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Stmt {
    pub kind: StmtKind,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum StmtKind {
    Let(Pattern, Expr),
    Var(Ident, Expr),
    Fn(Callable),
    Expr(Expr),
    /// `target = value`, or `target += value` with an operator.
    Assign(Expr, Option<BinaryOp>, Expr),
    /// A loop, with its label: `outer: for x in xs { … }`.
    For(Option<Ident>, Pattern, Expr, Block),
    While(Option<Ident>, Expr, Block),
    Import {
        path: Ident,
        alias: Ident,
    },
    Const(Ident, Expr, Option<Name>),
    Activity(Callable),
    Orchestration(Callable),
    Entity(Entity),
    Test(Ident, Block),
    Schedule(Box<Schedule>),
    Mock(Mock),
    Property(Property),
    /// A statement that could not be read; the diagnostics say why.
    Error,
}

/// A declaration with a name, parameters and a body: a function, an activity, an orchestration or
/// an operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Callable {
    pub name: Ident,
    pub params: Vec<Param>,
    /// The record after `with`.
    pub options: Option<Expr>,
    pub body: Block,
    pub doc: Option<Name>,
}

/// `schedule "0 2 * * *" in "Europe/Berlin" with {…} start nightly()`
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// The name, with [`SCHEDULES`] before it, and the place of the word `schedule`.
    pub name: Ident,
    pub cron: Ident,
    pub zone: Option<Ident>,
    pub options: Option<Expr>,
    pub call: Expr,
    pub doc: Option<Name>,
}

/// The beginning of the ids of schedules. No other instance has such an id.
pub const SCHEDULES: &str = "schedule/";

impl Schedule {
    /// Makes a schedule. Without a name among its options, it has the name of what it starts.
    pub fn new(
        span: Span,
        cron: Ident,
        zone: Option<Ident>,
        options: Option<Expr>,
        call: Expr,
        doc: Option<Name>,
    ) -> Schedule {
        let callee = match &call.kind {
            ExprKind::Call(callee, _) => match &callee.kind {
                ExprKind::Name(name) => &**name,
                ExprKind::Field(_, name) => &*name.name,
                _ => "",
            },
            _ => "",
        };
        let given = option(options.as_ref(), "name").and_then(|value| match &value.kind {
            ExprKind::Str(name) => Some(&**name),
            _ => None,
        });
        let name = format!("{SCHEDULES}{}", given.unwrap_or(callee)).as_str().into();
        Schedule { name: Ident { name, span }, cron, zone, options, call, doc }
    }

    /// Returns an option that is text.
    pub fn option(&self, name: &str) -> Option<&Name> {
        match &option(self.options.as_ref(), name)?.kind {
            ExprKind::Str(text) => Some(text),
            _ => None,
        }
    }
}

/// Returns the value of an option of a record.
fn option<'a>(options: Option<&'a Expr>, name: &str) -> Option<&'a Expr> {
    let ExprKind::Record(fields) = &options?.kind else { return None };
    fields.iter().find_map(|field| match field {
        Field::Named(known, value) if &*known.name == name => Some(value),
        _ => None,
    })
}

/// `mock charge in turn with fn…, fn…, never within 10s`: the possible outcomes of an activity or
/// an effect in a test.
#[derive(Clone, Debug, PartialEq)]
pub struct Mock {
    /// The mocked name: `charge`, or `fs.read`.
    pub target: Vec<Ident>,
    pub span: Span,
    /// Whether the outcomes come one after the other, and then the last one again and again.
    /// Otherwise any of them may come each time.
    pub in_turn: bool,
    /// The outcomes: functions, operations of entities, or `never`.
    pub outcomes: Vec<Expr>,
    /// The time within which an answer comes, in nanoseconds.
    pub within: Option<i64>,
}

/// A property that must hold in tests of a program.
#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    pub kind: PropertyKind,
    pub name: Ident,
    pub body: Block,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PropertyKind {
    /// A property that holds at every moment.
    Invariant,
    /// A property that holds when everything has come to rest.
    Eventually,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    pub pattern: Pattern,
    pub default: Option<Expr>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entity {
    pub name: Ident,
    pub members: Vec<Member>,
    pub doc: Option<Name>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Member {
    State(Expr, Span),
    /// A function of the state before, which makes the state of the next version.
    Migration(Expr, Span),
    Operation(Callable),
    /// A function that only the operations and functions of the entity can call.
    Function(Callable),
    Error,
}

impl Entity {
    /// Returns the operations and the private functions, in the order of their declarations.
    pub fn callables(&self) -> impl Iterator<Item = &Callable> {
        self.members.iter().filter_map(|member| match member {
            Member::Operation(f) | Member::Function(f) => Some(f),
            Member::State(..) | Member::Migration(..) | Member::Error => None,
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    pub stmts: Vec<Stmt>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    pub kind: ExprKind,
    pub span: Span,
    /// The depth of the tree below.
    pub depth: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    Null,
    Bool(bool),
    Int(i64),
    /// 9223372036854775808, which is an int only after a minus.
    IntMin,
    Float(f64),
    Duration(i64),
    Str(Name),
    /// Texts and expressions in turn, with one more text than expressions.
    Interpolated(Vec<Name>, Vec<Expr>),
    /// A value with a format, within a string: `{price:.2}`.
    Formatted(Box<Expr>, Ident),
    Name(Name),
    State,
    List(Vec<Element>),
    Record(Vec<Field>),
    Lambda(Box<Lambda>),
    Unary(UnaryOp, Box<Expr>),
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Coalesce(Box<Expr>, Box<Expr>),
    /// `value |> f`
    Pipe(Box<Expr>, Box<Expr>),
    /// A range. The flag says whether the end is included.
    Range(Box<Expr>, Box<Expr>, bool),
    Call(Box<Expr>, Vec<Element>),
    Field(Box<Expr>, Ident),
    OptionalField(Box<Expr>, Ident),
    Index(Box<Expr>, Box<Expr>),
    /// `list?[index]`
    OptionalIndex(Box<Expr>, Box<Expr>),
    /// `f?(x)`
    OptionalCall(Box<Expr>, Vec<Element>),
    With(Box<Expr>, Box<Expr>),
    If(Box<Expr>, Block, Option<Box<Expr>>),
    Match(Box<Expr>, Vec<Arm>),
    Do(Block),
    Try(Box<Try>),
    Lock(Box<Lock>),
    Async(Box<Expr>),
    Await(Box<Expr>),
    Start(Box<Start>),
    Signal(Box<Signal>),
    Throw(Box<Expr>),
    Return(Option<Box<Expr>>),
    /// `break`, or with the label of a loop.
    Break(Option<Ident>),
    Continue(Option<Ident>),
    /// The body of an `extern activity`: its name, and the places of the parameters that it passes
    /// on.
    Extern(Name, Vec<Span>),
    Error,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Element {
    Item(Expr),
    /// `..list`
    Spread(Expr),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    /// `{name}`
    Short(Ident),
    Named(Ident, Expr),
    Computed(Expr, Expr),
    Spread(Expr),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Lambda {
    pub params: Vec<Param>,
    pub body: Block,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    pub patterns: Vec<Pattern>,
    pub guard: Option<Expr>,
    pub body: Block,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Try {
    pub body: Block,
    pub catches: Vec<(Pattern, Block)>,
    pub finally: Option<Block>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Lock {
    pub entities: Vec<Expr>,
    pub options: Option<Expr>,
    pub body: Block,
}

/// `start f(x) with {…} after 1h`
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// The call, which may have options.
    pub call: Expr,
    pub begins: Option<Begins>,
}

/// When a started instance begins.
#[derive(Clone, Debug, PartialEq)]
pub enum Begins {
    After(Expr),
    At(Expr),
}

impl Begins {
    /// Returns the duration or the instant.
    pub fn expr(&self) -> &Expr {
        match self {
            Begins::After(expr) | Begins::At(expr) => expr,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    pub call: Expr,
    pub options: Option<Expr>,
    pub after: Option<Expr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryOp {
    Not,
    Negate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl BinaryOp {
    /// Returns whether the result is a bool.
    pub fn compares(self) -> bool {
        use BinaryOp::*;
        matches!(self, Equal | NotEqual | Less | LessEqual | Greater | GreaterEqual)
    }

    /// Returns the operator as it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Subtract => "-",
            BinaryOp::Multiply => "*",
            BinaryOp::Divide => "/",
            BinaryOp::Remainder => "%",
            BinaryOp::Equal => "==",
            BinaryOp::NotEqual => "!=",
            BinaryOp::Less => "<",
            BinaryOp::LessEqual => "<=",
            BinaryOp::Greater => ">",
            BinaryOp::GreaterEqual => ">=",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    pub kind: PatternKind,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum PatternKind {
    /// `_`
    Any,
    Name(Name),
    Literal(Literal),
    /// The ints from the first to the second, both included: `1..=9`.
    Range(i64, i64),
    /// `"GET " + rest`: a string with a beginning, and the pattern of what follows.
    Prefix(Name, Box<Pattern>),
    /// `int n`: a value of a kind, and the pattern of the value.
    Kind(Kind, Box<Pattern>),
    List(Vec<Pattern>, Option<(usize, Rest)>),
    Record(Vec<(Ident, Pattern)>, Option<Rest>),
    /// `a | b`
    Or(Vec<Pattern>),
    /// `pattern as name`
    As(Box<Pattern>, Ident),
    Error,
}

/// A kind of values that a pattern can test: `int n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Bool,
    Int,
    Float,
    /// An int or a float.
    Number,
    String,
    Bytes,
    List,
    Record,
    Duration,
    Instant,
    Function,
    Entity,
    Task,
    Secret,
}

impl Kind {
    /// All kinds, each at the place of its number.
    pub const ALL: [Kind; 14] = [
        Kind::Bool,
        Kind::Int,
        Kind::Float,
        Kind::Number,
        Kind::String,
        Kind::Bytes,
        Kind::List,
        Kind::Record,
        Kind::Duration,
        Kind::Instant,
        Kind::Function,
        Kind::Entity,
        Kind::Task,
        Kind::Secret,
    ];

    /// Returns the kind's name, which `kind_of` gives as well; `number` stands for two.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Bool => "bool",
            Kind::Int => "int",
            Kind::Float => "float",
            Kind::Number => "number",
            Kind::String => "string",
            Kind::Bytes => "bytes",
            Kind::List => "list",
            Kind::Record => "record",
            Kind::Duration => "duration",
            Kind::Instant => "instant",
            Kind::Function => "function",
            Kind::Entity => "entity",
            Kind::Task => "task",
            Kind::Secret => "secret",
        }
    }

    /// Returns the kind of a name, or `None` if there is none.
    pub fn of(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// `..` or `..name`. A list pattern also has the number of patterns before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rest {
    pub name: Option<Ident>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Duration(i64),
    Str(Name),
}

impl Pattern {
    /// Whether the pattern has more tests than `most`. Literals, fields, lists and records are tests;
    /// a list has another test for its length.
    pub fn has_more_tests_than(&self, most: usize) -> bool {
        let (mut tests, mut ahead) = (0, vec![self]);
        while let Some(pattern) = ahead.pop() {
            match &pattern.kind {
                PatternKind::Any | PatternKind::Name(_) | PatternKind::Error => {}
                PatternKind::Literal(_) | PatternKind::Range(..) => tests += 1,
                PatternKind::Prefix(_, inner) | PatternKind::Kind(_, inner) => {
                    tests += 1;
                    ahead.push(inner);
                }
                PatternKind::Or(alternatives) => ahead.extend(alternatives),
                PatternKind::As(inner, _) => ahead.push(inner),
                PatternKind::List(items, _) => {
                    tests += 2;
                    ahead.extend(items);
                }
                PatternKind::Record(fields, _) => {
                    tests += 1 + fields.len();
                    ahead.extend(fields.iter().map(|(_, pattern)| pattern));
                }
            }
            if tests > most {
                return true;
            }
        }
        false
    }

    /// Returns the number of combinations of the alternatives within the pattern. Alternatives that
    /// are all literals count as one.
    pub fn combinations(&self) -> usize {
        let product = |patterns: &mut dyn Iterator<Item = &Pattern>| {
            patterns.map(Pattern::combinations).fold(1, usize::saturating_mul)
        };
        match &self.kind {
            PatternKind::List(items, _) => product(&mut items.iter()),
            PatternKind::Record(fields, _) => product(&mut fields.iter().map(|(_, pattern)| pattern)),
            PatternKind::Or(_) if self.literals().is_some() => 1,
            PatternKind::Or(alternatives) => {
                alternatives.iter().map(Pattern::combinations).fold(0, usize::saturating_add)
            }
            PatternKind::As(inner, _) | PatternKind::Kind(_, inner) | PatternKind::Prefix(_, inner) => {
                inner.combinations()
            }
            _ => 1,
        }
    }

    /// Returns the literals, if the pattern has alternatives that are all literals.
    pub fn literals(&self) -> Option<Vec<&Literal>> {
        let PatternKind::Or(alternatives) = &self.kind else { return None };
        alternatives.iter().map(Pattern::literal).collect()
    }

    fn literal(&self) -> Option<&Literal> {
        match &self.kind {
            PatternKind::Literal(literal) => Some(literal),
            _ => None,
        }
    }

    /// Calls `visit` with every name that the pattern binds. Of alternatives, which bind the same
    /// names, it takes the first.
    pub fn names<'a>(&'a self, visit: &mut dyn FnMut(&'a Name, Span)) {
        self.named(false, visit);
    }

    /// Calls `visit` with every name that another alternative than the first binds.
    pub fn names_again<'a>(&'a self, visit: &mut dyn FnMut(&'a Name, Span)) {
        match &self.kind {
            PatternKind::Or(alternatives) => {
                if let Some((first, others)) = alternatives.split_first() {
                    first.names_again(visit);
                    others.iter().for_each(|other| other.named(true, visit));
                }
            }
            PatternKind::List(items, _) => items.iter().for_each(|item| item.names_again(visit)),
            PatternKind::Record(fields, _) => {
                fields.iter().for_each(|(_, item)| item.names_again(visit));
            }
            PatternKind::As(inner, _) | PatternKind::Kind(_, inner) | PatternKind::Prefix(_, inner) => {
                inner.names_again(visit);
            }
            _ => {}
        }
    }

    /// Calls `visit` with names that the pattern binds: those of the first alternatives, or of all.
    fn named<'a>(&'a self, all: bool, visit: &mut dyn FnMut(&'a Name, Span)) {
        match &self.kind {
            PatternKind::Name(name) => visit(name, self.span),
            PatternKind::Or(alternatives) => {
                let some = if all { alternatives.len() } else { 1 };
                alternatives.iter().take(some).for_each(|one| one.named(all, visit));
            }
            PatternKind::As(inner, name) => {
                inner.named(all, visit);
                if &*name.name != "_" {
                    visit(&name.name, name.span);
                }
            }
            PatternKind::Kind(_, inner) | PatternKind::Prefix(_, inner) => inner.named(all, visit),
            PatternKind::List(items, rest) => {
                items.iter().for_each(|item| item.named(all, visit));
                if let Some((_, Rest { name: Some(name), .. })) = rest {
                    visit(&name.name, name.span);
                }
            }
            PatternKind::Record(fields, rest) => {
                fields.iter().for_each(|(_, item)| item.named(all, visit));
                if let Some(Rest { name: Some(name), .. }) = rest {
                    visit(&name.name, name.span);
                }
            }
            _ => {}
        }
    }
}

fn deepest<'a>(exprs: impl IntoIterator<Item = &'a Expr>) -> u32 {
    exprs.into_iter().map(|expr| expr.depth).max().unwrap_or(0)
}

impl Element {
    pub fn expr(&self) -> &Expr {
        match self {
            Element::Item(expr) | Element::Spread(expr) => expr,
        }
    }
}

impl Block {
    /// Returns the depth of the deepest expression in the block.
    pub fn depth(&self) -> u32 {
        self.stmts.iter().map(Stmt::depth).max().unwrap_or(0)
    }
}

fn params_depth(params: &[Param]) -> u32 {
    deepest(params.iter().filter_map(|param| param.default.as_ref()))
}

impl Stmt {
    fn depth(&self) -> u32 {
        match &self.kind {
            StmtKind::Let(_, e) | StmtKind::Var(_, e) | StmtKind::Expr(e) | StmtKind::Const(_, e, _) => {
                e.depth
            }
            StmtKind::Fn(f) | StmtKind::Activity(f) | StmtKind::Orchestration(f) => {
                f.body.depth().max(params_depth(&f.params)) + 1
            }
            StmtKind::Assign(a, _, b) => a.depth.max(b.depth),
            StmtKind::For(_, _, e, b) | StmtKind::While(_, e, b) => e.depth.max(b.depth()) + 1,
            StmtKind::Test(_, b) => b.depth(),
            StmtKind::Schedule(schedule) => schedule.call.depth,
            StmtKind::Mock(mock) => deepest(&mock.outcomes),
            StmtKind::Property(property) => property.body.depth(),
            StmtKind::Import { .. } | StmtKind::Entity(_) | StmtKind::Error => 0,
        }
    }
}

impl ExprKind {
    /// Returns the depth of the deepest direct child.
    pub fn children_depth(&self) -> u32 {
        use ExprKind::*;
        match self {
            Null | Bool(_) | Int(_) | IntMin | Float(_) | Duration(_) | Str(_) | Name(_) | State
            | Break(_) | Continue(_) | Extern(..) | Error | Return(None) => 0,
            Interpolated(_, items) => deepest(items),
            List(items) => deepest(items.iter().map(Element::expr)),
            Record(fields) => fields
                .iter()
                .map(|field| match field {
                    self::Field::Short(_) => 0,
                    self::Field::Named(_, e) | self::Field::Spread(e) => e.depth,
                    self::Field::Computed(k, v) => k.depth.max(v.depth),
                })
                .max()
                .unwrap_or(0),
            Lambda(lambda) => lambda.body.depth().max(params_depth(&lambda.params)),
            Unary(_, e) | Async(e) | Await(e) | Throw(e) | Return(Some(e)) => e.depth,
            Start(s) => s.call.depth.max(deepest(s.begins.as_ref().map(Begins::expr))),
            Field(e, _) | OptionalField(e, _) | Formatted(e, _) => e.depth,
            Binary(_, a, b) | And(a, b) | Or(a, b) | Coalesce(a, b) | Pipe(a, b) | Range(a, b, _) => {
                a.depth.max(b.depth)
            }
            Index(a, b) | OptionalIndex(a, b) | With(a, b) => a.depth.max(b.depth),
            Call(f, args) | OptionalCall(f, args) => f.depth.max(deepest(args.iter().map(Element::expr))),
            If(c, then, other) => c.depth.max(then.depth()).max(other.as_ref().map_or(0, |e| e.depth)),
            Match(e, arms) => {
                let arms = arms.iter().map(|arm| arm.body.depth().max(deepest(&arm.guard)));
                e.depth.max(arms.max().unwrap_or(0))
            }
            Do(block) => block.depth(),
            Try(t) => {
                let catches = t.catches.iter().map(|(_, b)| b.depth()).max().unwrap_or(0);
                t.body.depth().max(catches).max(t.finally.as_ref().map_or(0, Block::depth))
            }
            Lock(l) => deepest(&l.entities).max(deepest(&l.options)).max(l.body.depth()),
            Signal(s) => s.call.depth.max(deepest(&s.options)).max(deepest(&s.after)),
        }
    }
}
