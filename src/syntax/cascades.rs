//! What only follows from another mistake, and is not said.

use std::collections::HashSet;

use super::Diagnostic;

/// How the hint ends for a reserved word where a name belongs.
pub(super) const CHOOSE_ANOTHER: &str = "is a reserved word; choose another name";

/// The title of such a mistake.
pub(super) const BLOCK_AS_A_VALUE: &str = "a block as a value begins with `do`";

/// Of what the lexer, the layout and the parser found in a text, in its order: what is worth saying; and where the first
/// mistake is, when blocks no longer end where they began, so that nothing after it can be trusted.
pub(super) fn without_cascades(found: Vec<Diagnostic>, text: &str) -> (Vec<Diagnostic>, Option<usize>) {
    let at = |diagnostic: &Diagnostic| {
        let label = diagnostic.labels.first();
        label.map_or(0, |label| label.place.span.start as usize).min(text.len())
    };
    let ends: Vec<usize> = match found.is_empty() {
        true => Vec::new(),
        false => text.match_indices('\n').map(|(at, _)| at).collect(),
    };
    // Lines are told apart by how many end before them.
    let line = |at: usize| ends.partition_point(|end| *end < at);
    let first = found.first().map(at);
    let mut broken = None;
    let mut unexpected: HashSet<usize> = HashSet::new();
    let line_of = |diagnostic: &Diagnostic| line(at(diagnostic));
    let unclosed = |what: &str| -> HashSet<usize> {
        let with = |diagnostic: &&Diagnostic| diagnostic.title.starts_with(what);
        found.iter().filter(with).map(line_of).collect()
    };
    let (strings, brackets) = (unclosed("unclosed string"), unclosed("unclosed "));
    let (mut seen, mut blocks) = (0, false);
    let mut reserved: HashSet<String> = HashSet::new();
    let kept = found.into_iter().filter(|diagnostic| {
        seen += 1;
        match diagnostic.title.as_str() {
            // The brackets of what was skipped.
            "unexpected `}`" | "unexpected `)`" | "unexpected `]`" if seen > 1 => {
                broken = first;
                false
            }
            // The arms after a block that was taken for a record.
            "unexpected `=>`" if blocks => false,
            BLOCK_AS_A_VALUE => {
                blocks = true;
                broken = broken.or(Some(at(diagnostic)));
                true
            }
            // A string without an end takes the bracket's end in.
            title if title.starts_with("unclosed `") && title.ends_with('`') => {
                !strings.contains(&line_of(diagnostic))
            }
            "unexpected end of the file" if seen > 1 => false,
            // What comes after a bracket that is never closed is taken to be within it.
            title
                if title.starts_with("unexpected ")
                    && brackets.iter().any(|from| *from < line_of(diagnostic)) =>
            {
                broken = first;
                false
            }
            // A reserved word that was meant as a name is one wherever that is used.
            title if reserved.contains(title) => false,
            title if diagnostic.hint.as_ref().is_some_and(|hint| hint.ends_with(CHOOSE_ANOTHER)) => {
                reserved.insert(title.to_string());
                broken = broken.or(Some(at(diagnostic)));
                unexpected.insert(line_of(diagnostic))
            }
            // Of what is unexpected on a line, the first is the cause.
            title if title.starts_with("unexpected ") => unexpected.insert(line_of(diagnostic)),
            _ => true,
        }
    });
    let kept = kept.collect();
    (kept, broken)
}
