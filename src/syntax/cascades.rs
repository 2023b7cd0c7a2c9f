//! The suppression of mistakes that only follow from another mistake.

use std::collections::HashSet;

use super::Diagnostic;

/// The end of the hint for a reserved word in the place of a name.
pub(super) const CHOOSE_ANOTHER: &str = "is a reserved word; choose another name";

/// The title of the mistake of a block without `do` as a value.
pub(super) const BLOCK_AS_A_VALUE: &str = "a block as a value begins with `do`";

/// Returns the diagnostics that are worth showing, out of all that the lexer, the layout and the
/// parser found in a text, in its order. Also returns the offset from which the text can't be
/// trusted, if blocks no longer end where they began.
pub(super) fn without_cascades(found: Vec<Diagnostic>, text: &str) -> (Vec<Diagnostic>, Option<usize>) {
    let at = |diagnostic: &Diagnostic| {
        let label = diagnostic.labels.first();
        label.map_or(0, |label| label.place.span.start as usize).min(text.len())
    };
    let ends: Vec<usize> = match found.is_empty() {
        true => Vec::new(),
        false => text.match_indices('\n').map(|(at, _)| at).collect(),
    };
    // Lines are told apart by the number of line ends before them.
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
    let heads = unclosed("a `for` has no parentheses");
    let (mut seen, mut blocks) = (0, false);
    let mut reserved: HashSet<String> = HashSet::new();
    let kept = found.into_iter().filter(|diagnostic| {
        seen += 1;
        match diagnostic.title.as_str() {
            // The closing bracket of text that was skipped.
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
            // An unclosed string contains the closing bracket.
            title if title.starts_with("unclosed `") && title.ends_with('`') => {
                !strings.contains(&line_of(diagnostic))
            }
            "unexpected end of the file" if seen > 1 => false,
            "unexpected end of the line" if brackets.contains(&line_of(diagnostic)) => false,
            // The parts of a `for` of another language.
            title if title.starts_with("there is no `") && heads.contains(&line_of(diagnostic)) => false,
            // Everything after a bracket that is never closed seems to be within the bracket.
            title
                if title.starts_with("unexpected ")
                    && brackets.iter().any(|from| *from < line_of(diagnostic)) =>
            {
                broken = first;
                false
            }
            // A reserved word that was meant as a name is reported only once.
            title if reserved.contains(title) => false,
            title if diagnostic.hint.as_ref().is_some_and(|hint| hint.ends_with(CHOOSE_ANOTHER)) => {
                reserved.insert(title.to_string());
                broken = broken.or(Some(at(diagnostic)));
                unexpected.insert(line_of(diagnostic))
            }
            // The first unexpected token of a line is the cause of the others.
            title if title.starts_with("unexpected ") => unexpected.insert(line_of(diagnostic)),
            _ => true,
        }
    });
    let kept = kept.collect();
    (kept, broken)
}
