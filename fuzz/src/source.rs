//! Texts: the lexer, the parser and the formatter.

use durable::format::{Unformatted, format};
use durable::syntax::{Diagnostic, Span, parse};

/// The longest text that is parsed. Longer texts find nothing more.
const MOST: usize = 16 << 10;

/// Parses and formats a text.
///
/// A text has a tree or diagnostics, and their places lie within the text. The formatter keeps the
/// tree, and changes nothing the second time.
pub fn run(bytes: &[u8]) {
    let Some(text) = bytes.get(..bytes.len().min(MOST)).and_then(|bytes| std::str::from_utf8(bytes).ok())
    else {
        return;
    };
    let parsed = parse(text, 0);
    parsed.diagnostics.iter().for_each(|diagnostic| are_in(text, diagnostic));
    let mut last = 0;
    for (start, token, end) in &parsed.tokens {
        assert!(text.get(*start..*end).is_some(), "{token:?} is at {start}..{end}");
        // The parser inserts a missing token where it misses it, perhaps before a line end.
        assert!(*start >= last || !parsed.diagnostics.is_empty(), "{token:?} at {start} comes after {last}");
        last = *start;
    }
    match format(text, 0) {
        Ok(styled) => {
            assert_eq!(meaning(text), meaning(&styled), "it means something else:\n{styled}");
            assert_eq!(
                format(&styled, 0).ok().as_deref(),
                Some(&*styled),
                "it is another when formatted again"
            );
        }
        Err(Unformatted::Mistakes(_)) => {
            assert!(!parsed.diagnostics.is_empty(), "mistakes without a diagnostic")
        }
        Err(Unformatted::Changed) => panic!("the formatter would change it"),
    }
}

/// Checks that the places of a diagnostic lie within the text, at character boundaries.
pub fn are_in(text: &str, diagnostic: &Diagnostic) {
    for label in &diagnostic.labels {
        let Span { start, end } = label.place.span;
        assert!(
            label.place.source != 0 || text.get(start as usize..end as usize).is_some(),
            "{}: {start}..{end} is not in the text",
            diagnostic.title
        );
    }
}

/// Returns the tree of a text without its places.
fn meaning(text: &str) -> String {
    let tree = format!("{:?}", parse(text, 0).module);
    let mut out = String::with_capacity(tree.len());
    let mut rest = &*tree;
    while let Some(at) = rest.find("Span {") {
        out.push_str(&rest[..at]);
        rest = rest[at..].find('}').map_or("", |end| &rest[at + end + 1..]);
    }
    out + rest
}
