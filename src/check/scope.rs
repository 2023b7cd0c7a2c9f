//! Scopes: the binding that a local name means at a point of a block.

use crate::syntax::token::Name;
use crate::syntax::tree::Param;

use super::BindingId;

/// The names of a block, with the number of the statement that declares each.
#[derive(Default)]
pub struct Scope {
    pub entries: Vec<(Name, BindingId, usize)>,
    /// The number of a local function's declaration while the function's body is walked. Names
    /// declared before it win, nearest first, and then the names declared after it.
    pub viewpoint: Option<usize>,
    /// The number of the statement that is being walked.
    pub current: usize,
    /// The first statement that uses one of the block's functions and is not a function itself.
    pub first_use: Option<usize>,
    /// The variables of the block that its functions capture, with the statements that declare
    /// them.
    pub captures: Vec<(BindingId, usize)>,
}

impl Scope {
    /// Returns the entry that a name means here.
    pub fn find(&self, name: &str) -> Option<(BindingId, usize)> {
        let mut matching = self.entries.iter().filter(|(n, ..)| &**n == name);
        let found = match self.viewpoint {
            None => matching.next_back(),
            Some(at) => {
                let before = self.entries.iter().rfind(|(n, _, index)| &**n == name && *index <= at);
                before.or_else(|| matching.next())
            }
        };
        found.map(|(_, binding, index)| (*binding, *index))
    }
}

/// Returns the least and greatest number of arguments for a list of parameters.
pub fn arity(params: &[Param]) -> (usize, usize) {
    let required = params.iter().rposition(|param| param.default.is_none()).map_or(0, |at| at + 1);
    (required, params.len())
}

/// Returns a number of arguments in words, such as "2 arguments" or "1 to 3 arguments".
pub fn describe_arity(min: usize, max: usize) -> String {
    match (min, max) {
        (1, 1) => "1 argument".to_string(),
        (min, max) if min == max => format!("{min} arguments"),
        (min, max) if max >= 250 => format!("at least {min} argument{}", if min == 1 { "" } else { "s" }),
        (min, max) => format!("{min} to {max} arguments"),
    }
}
