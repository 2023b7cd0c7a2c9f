//! The choice of the library's modules that a program needs. Most programs need a third of the
//! library, and reading a module takes longer than finding out that it is not needed.
//!
//! The choice goes by words, and so errs on the side of too many modules. A program's text needs a
//! module if it has the module's name, or the name of a function that can be called as a method.
//! In the library's own texts only names after a point count, and comments don't.

use std::collections::HashMap;

use crate::syntax::token::is_of_a_name;

/// A module of the library: its name and its text.
type Source<'a> = (&'static str, &'a str);

/// The modules whose functions can be called as methods of values.
pub const METHOD_MODULES: [&str; 7] = ["list", "string", "record", "math", "bytes", "time", "task"];

/// Words of the language that are lowered to calls of a module.
const CONSTRUCTS: [(&str, &str); 1] = [("with", "retry")];

/// The modules that each word needs, as a set of indices.
struct Index<'a> {
    words: HashMap<&'a str, u64>,
    modules: HashMap<&'a str, u64>,
}

/// Returns the modules of `std` that programs of these texts need, in the order of `std`.
pub fn needed<'a>(texts: &[&str], std: &[Source<'a>]) -> Vec<Source<'a>> {
    assert!(std.len() <= 64, "a set of modules has 64 bits");
    let index = index(std);
    let mut chosen = index.modules.get("prelude").copied().unwrap_or(0);
    for text in texts {
        for word in text.split(|c| !is_of_a_name(c)) {
            chosen |= index.words.get(word).copied().unwrap_or(0);
        }
    }
    let mut read = 0;
    while chosen != read {
        let next = (chosen & !read).trailing_zeros();
        read |= 1 << next;
        chosen |= needed_by(std[next as usize].1, &index);
    }
    let is_chosen = |at: usize| chosen & (1 << at) != 0;
    std.iter().enumerate().filter(|(at, _)| is_chosen(*at)).map(|(_, source)| *source).collect()
}

/// Returns the lines of a library module that are not comments.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

fn index<'a>(std: &[Source<'a>]) -> Index<'a> {
    let mut index = Index { words: HashMap::new(), modules: HashMap::new() };
    for (word, module) in CONSTRUCTS {
        let at = std.iter().position(|(name, _)| *name == module);
        index.words.insert(word, at.map_or(0, |at| 1 << at));
    }
    for (at, (name, text)) in std.iter().enumerate() {
        *index.modules.entry(*name).or_insert(0) |= 1 << at;
        *index.words.entry(*name).or_insert(0) |= 1 << at;
        if METHOD_MODULES.contains(name) {
            for line in lines(text) {
                if let Some(rest) = line.strip_prefix("fn ") {
                    let end = rest.find(|c| !is_of_a_name(c)).unwrap_or(rest.len());
                    *index.words.entry(&rest[..end]).or_insert(0) |= 1 << at;
                }
            }
        }
    }
    index
}

/// Returns the modules that a module of the library mentions: `module.name`, and methods after
/// other values.
fn needed_by(text: &str, index: &Index) -> u64 {
    let mut chosen = 0;
    for line in lines(text) {
        let mut before = "";
        for (at, word) in line.split('.').enumerate() {
            let end = word.find(|c| !is_of_a_name(c)).unwrap_or(word.len());
            if at > 0 && before != "native" {
                let of_module = index.modules.get(before).copied();
                chosen |= of_module.or_else(|| index.words.get(&word[..end]).copied()).unwrap_or(0);
            }
            let start = word.rfind(|c| !is_of_a_name(c)).map_or(0, |at| at + 1);
            before = word.get(start..).unwrap_or("");
        }
    }
    chosen
}
