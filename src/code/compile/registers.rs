//! What instructions read and write, and what is executed after them.

use crate::code::{Code, Op, PathStep, Reg, Role};

/// What is to be known of a function to tell what its instructions read.
pub struct Registers<'a> {
    /// The register of its environment.
    pub env: Reg,
    pub code: &'a Code,
}

/// What an instruction reads of registers.
pub enum Read {
    /// All that so many registers from one on hold.
    All(Reg, Reg),
    /// A field of what a register holds.
    Field(Reg, u16),
    /// All of it but the fields of a shape.
    Without(Reg, u16),
    /// What kind of value it is.
    Kind(Reg),
}

impl Registers<'_> {
    /// Tells of all that an instruction reads.
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

    /// Whether an instruction hands on what a register holds, or changes it; none when it does nothing with the register.
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

/// The register that gets a new value from an instruction, whatever it held.
pub fn written(op: Op) -> Option<Reg> {
    let mut written = None;
    op.roles(&mut |role| {
        if let Role::Write(to) = role {
            written = Some(to);
        }
    });
    written
}

/// Where a jump at `at` leads.
pub fn jumped(at: usize, by: i32) -> usize {
    (at + 1).saturating_add_signed(by as isize)
}

/// What may be executed after an instruction, if it doesn't fail.
pub fn followers(op: Op, at: usize) -> [Option<usize>; 2] {
    let next = Some(at + 1);
    // A tail call of a builtin comes back.
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
