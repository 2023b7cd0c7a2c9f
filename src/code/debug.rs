//! The tables of code for the debugger: the statements, and the variables that registers hold.

use crate::syntax::Place;

use super::{FunctionId, Reg};

/// The tables of a program's code for the debugger.
#[derive(Debug, Default)]
pub struct Tables {
    /// The statements, by the number in their marks.
    pub statements: Vec<Statement>,
    /// The variables of each function, by the function's number.
    pub variables: Vec<Variables>,
}

/// A statement: where its mark is, and where it stands in the source.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statement {
    pub function: FunctionId,
    pub pc: u32,
    pub place: Place,
}

/// The variables of a function.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    /// The variables in registers. Where two of a name can be seen, the later one hides the other.
    pub scopes: Vec<Scope>,
    /// The variables in the environment, by their index in it.
    pub captured: Vec<Captured>,
}

/// A variable in a register, and the instructions during which it is there.
#[derive(Clone, Debug)]
pub struct Scope {
    pub name: String,
    pub register: Reg,
    /// Whether the register has a cell with the value.
    pub is_cell: bool,
    /// Whether the variable is a local function.
    pub is_function: bool,
    /// Whether the program names the variable. The lowering makes others.
    pub is_own: bool,
    /// For the variable of a loop: the first of the two registers with the list and the index of the
    /// next element, or with the next number and the last one.
    pub looped: Option<Reg>,
    pub from: u32,
    pub to: u32,
}

/// A variable of an enclosing function.
#[derive(Clone, Debug)]
pub struct Captured {
    pub name: String,
    pub is_cell: bool,
    /// Whether the program names the variable. The lowering makes others.
    pub is_own: bool,
}

impl Tables {
    /// Returns the variables in registers that can be seen at an instruction of a function.
    pub fn scopes_at(&self, function: FunctionId, pc: u32) -> impl Iterator<Item = &Scope> {
        let of = self.variables.get(function as usize);
        let scopes = of.map_or(&[][..], |variables| &variables.scopes[..]);
        scopes.iter().filter(move |scope| (scope.from..scope.to).contains(&pc))
    }

    /// Returns the first statement of a function.
    pub fn first_of(&self, function: FunctionId) -> Option<u32> {
        let of = self.statements.iter().enumerate().filter(|(_, statement)| statement.function == function);
        of.min_by_key(|(_, statement)| statement.pc).map(|(number, _)| number as u32)
    }
}
