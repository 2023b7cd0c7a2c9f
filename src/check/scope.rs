//! Scopes: which binding a local name means at a point of a block.

use crate::syntax::token::Name;
use crate::syntax::tree::Param;

use super::BindingId;

/// A block's names, with the number of the statement that declares each.
#[derive(Default)]
pub struct Scope {
    pub entries: Vec<(Name, BindingId, usize)>,
    /// While the body of a local function is read: the number of its declaration. Names declared before it
    /// win, nearest first; then those declared after it.
    pub viewpoint: Option<usize>,
    /// The statement that is being read.
    pub current: usize,
    /// The first statement, not itself a function, that uses one of the block's functions.
    pub first_use: Option<usize>,
    /// What the block's functions capture of the block itself.
    pub captures: Vec<(BindingId, usize)>,
}

impl Scope {
    /// The entry that a name means here.
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

/// The least and greatest number of arguments for a list of parameters.
pub fn arity(params: &[Param]) -> (usize, usize) {
    let required = params.iter().rposition(|param| param.default.is_none()).map_or(0, |at| at + 1);
    (required, params.len())
}

/// "2 arguments", "1 to 3 arguments".
pub fn describe_arity(min: usize, max: usize) -> String {
    match (min, max) {
        (1, 1) => "1 argument".to_string(),
        (min, max) if min == max => format!("{min} arguments"),
        (min, max) if max >= 250 => format!("at least {min} argument{}", if min == 1 { "" } else { "s" }),
        (min, max) => format!("{min} to {max} arguments"),
    }
}
