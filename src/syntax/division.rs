//! Comments that were meant as integer divisions: `7 // 2`.

use super::diagnostic::Diagnostic;
use super::habit::{Found, ends_value};
use super::lexer::Spanned;
use super::source::{Place, Span};

/// Returns a warning for each comment after a value that is nothing but a number.
pub fn warnings(text: &str, tokens: &[Spanned], comments: &[(usize, usize)], source: u32) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (from, to) in comments {
        let Some(operand) = text[*from..*to].strip_prefix("//").map(str::trim) else { continue };
        let number = operand.trim_end_matches([';', ',', ')']);
        let is_number = number.starts_with(|c: char| c.is_ascii_digit())
            && number.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '_'));
        if is_number && let Some(division) = division(text, tokens, *from, number) {
            let place = Place { source, span: Span::new(*from, *from + 2) };
            let warning = Diagnostic::warning("`//` begins a comment", place, "nothing is divided here");
            found.push(warning.hint(format!("integer division is `{division}`")));
        }
    }
    found
}

/// Explains brackets that are not closed because a comment has their ends.
pub fn explain(
    text: &str,
    tokens: &[Spanned],
    comments: &[(usize, usize)],
    source: u32,
    diagnostics: &mut [Diagnostic],
) {
    for diagnostic in diagnostics.iter_mut() {
        let close = match diagnostic.title.as_str() {
            "unclosed `(`" => ')',
            "unclosed `[`" => ']',
            "unclosed `{`" => '}',
            _ => continue,
        };
        let Some(at) = diagnostic.labels.first().map(|label| label.place.span.start as usize) else {
            continue;
        };
        let line = text[at..].find('\n').map_or(text.len(), |end| at + end);
        let comment = comments.iter().find(|(from, _)| at < *from && *from < line);
        let Some((from, to)) = comment.filter(|(from, _)| text[*from..].starts_with("//")) else { continue };
        let Some(operand) = up_to(&text[from + 2..*to], close) else { continue };
        if let Some(division) = division(text, tokens, *from, operand.trim()) {
            let place = Place { source, span: Span::new(*from, *from + 2) };
            *diagnostic =
                Diagnostic::error("`//` begins a comment", place, "the rest of the line is not read")
                    .hint(format!("integer division is `{division}`"));
        }
    }
}

/// Returns the division that a comment at `from` after a value was probably meant as.
fn division(text: &str, tokens: &[Spanned], from: usize, operand: &str) -> Option<String> {
    const MOST: usize = 40;
    let at = tokens.partition_point(|(start, _, end)| *start < from && *end <= from);
    // A bracket that the layout has closed has no text.
    let at = (0..at).rev().find(|at| tokens[*at].0 < tokens[*at].2)? + 1;
    let (_, before, end) = &tokens[at - 1];
    let between = text.get(*end..from)?;
    if !ends_value(before) || between.contains('\n') || operand.is_empty() || operand.len() > MOST {
        return None;
    }
    let found = Found { text, tokens, at };
    Some(format!("div({}, {operand})", found.quote(found.operand_begin(at), at, "a")))
}

/// Returns the beginning of a text up to a bracket that closes none of its own.
fn up_to(text: &str, close: char) -> Option<&str> {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth > 0 => depth -= 1,
            c if c == close => return Some(&text[..at]),
            _ => {}
        }
    }
    None
}
