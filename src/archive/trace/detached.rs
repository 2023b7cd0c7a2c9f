//! The functions whose calls a program may detach, by its text.
//!
//! The options of a call are in no history. So a child whose call is gone may have been detached,
//! unless the text detaches only calls of other functions.

use std::collections::HashSet;

use crate::check::STD;
use crate::code::Code;

/// Returns the functions whose calls may be detached, or `None` if the text does not show that.
pub fn functions(code: &Code) -> Option<HashSet<String>> {
    let mut found = HashSet::new();
    let mut own = code.sources.files.iter().filter(|file| !file.name.starts_with(STD));
    let text = match (own.next(), own.next()) {
        (Some(file), None) => &file.text,
        // The functions of modules have other names in texts.
        _ => return None,
    };
    for (at, with) in text.match_indices("with ") {
        let options = text[at + with.len()..].trim_start();
        let is_literal = options
            .strip_prefix('{')
            .is_some_and(|options| !options.split('}').next().unwrap_or_default().contains("..."));
        if !is_literal && !options.starts_with("fn ") {
            return None;
        }
    }
    for (at, _) in text.match_indices("detached") {
        let name = called(&text[..at])?;
        code.find_isolated(name)?;
        found.insert(name.to_string());
    }
    Some(found)
}

/// Returns the function whose call has the options that a text ends in.
fn called(text: &str) -> Option<&str> {
    let with = text.rfind("with")?;
    let options = text[with + "with".len()..].trim_start().strip_prefix('{')?;
    let call = text[..with].trim_end();
    if options.contains(['{', '}']) {
        return None;
    }
    let mut depth = 0;
    for (at, c) in call.char_indices().rev() {
        match c {
            ')' => depth += 1,
            '(' => depth -= 1,
            // A text may contain anything.
            '"' => return None,
            _ => {}
        }
        if depth == 0 {
            let before = call[..at].trim_end();
            let is_of_name = |c: char| c.is_alphanumeric() || c == '_';
            let name = before.trim_end_matches(is_of_name).len();
            let is_member = before[..name].ends_with(['.', ':']);
            return (c == '(' && !is_member && name < before.len()).then_some(&before[name..]);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::called;

    #[test]
    fn the_function_of_a_call_is_the_one_before_its_arguments() {
        assert_eq!(called("let x = kid(f(1), 2) with {id: \"a\", "), Some("kid"));
        assert_eq!(called("kid(1)\nasync other(2) with {"), Some("other"));
        for text in
            ["kid with {", "kid(\")\") with {", "m.kid(1) with {", "// ", "kid(1) with {a: {", "let d = {"]
        {
            assert_eq!(called(text), None, "{text}");
        }
    }
}
