//! The registers that instructions read and write, and the instructions that may follow.

use crate::code::{Code, Op, PathStep, Reg, Role};

/// The facts about a function that determine what its instructions read.
pub struct Registers<'a> {
    /// The register of the function's environment.
    pub env: Reg,
    pub code: &'a Code,
}

/// A read of registers by an instruction.
pub enum Read {
    /// The whole values of a number of registers, from the first one on.
    All(Reg, Reg),
    /// A field of a register's value.
    Field(Reg, u16),
    /// A register's value except for the fields of a shape.
    Without(Reg, u16),
    /// Only the kind of a register's value.
    Kind(Reg),
}

impl Registers<'_> {
    /// Calls `tell` with each read of an instruction.
    pub fn reads(&self, op: Op, tell: &mut impl FnMut(Read)) {
        op.roles(&mut |role| match role {
            Role::Read(from) => tell(Read::All(from, 1)),
            Role::Stretch(base, count) => tell(Read::All(base, count)),
            Role::Shape(base, shape) => {
                tell(Read::All(base, self.code.shapes[shape as usize].len() as Reg));
            }
            Role::Steps(base, path, more) => {
                let steps = PathStep::indexes(&self.code.paths[path as usize]) as Reg;
                tell(Read::All(base, steps + more));
            }
            Role::Env => tell(Read::All(self.env, 1)),
            Role::Field(a, name) => tell(Read::Field(a, name)),
            Role::Without(a, shape) => tell(Read::Without(a, shape)),
            Role::Kind(a) => tell(Read::Kind(a)),
            _ => {}
        });
    }

    /// Whether an instruction passes on or changes the value of a register; `None` if it doesn't
    /// use the register.
    pub(super) fn hands_on(&self, op: Op, reg: Reg) -> Option<bool> {
        let (mut gives, mut gives_all, mut writes) = (false, false, false);
        op.roles(&mut |role| match role {
            Role::Gives(given) => gives |= given == reg,
            Role::GivesAll => gives_all = true,
            Role::Write(to) => writes |= to == reg,
            _ => {}
        });
        let is_read = self.is_read(op, reg);
        match gives || (gives_all && is_read) {
            true => Some(true),
            false => (is_read || writes).then_some(false),
        }
    }

    fn is_read(&self, op: Op, reg: Reg) -> bool {
        let mut found = false;
        self.reads(op, &mut |read| {
            found |= match read {
                Read::All(from, count) => (from..from.saturating_add(count)).contains(&reg),
                Read::Field(from, _) | Read::Without(from, _) | Read::Kind(from) => from == reg,
            };
        });
        found
    }
}

/// Returns the register that an instruction overwrites, if any.
pub fn written(op: Op) -> Option<Reg> {
    let mut written = None;
    op.roles(&mut |role| {
        if let Role::Write(to) = role {
            written = Some(to);
        }
    });
    written
}

/// Returns the target of a jump at `at`.
pub fn jumped(at: usize, by: i32) -> usize {
    (at + 1).saturating_add_signed(by as isize)
}

/// Returns the instructions that may follow an instruction that doesn't fail.
pub fn followers(op: Op, at: usize) -> [Option<usize>; 2] {
    let next = Some(at + 1);
    // A tail call of a builtin returns, so the next instruction may follow.
    let mut followers = [next, None];
    op.roles(&mut |role| match role {
        Role::Goto(by) => followers = [Some(jumped(at, by)), None],
        Role::Loops(by) => followers = [next, Some(jumped(at, by))],
        Role::Skips => followers = [next, Some(at + 2)],
        Role::Ends => followers = [None, None],
        _ => {}
    });
    followers
}
