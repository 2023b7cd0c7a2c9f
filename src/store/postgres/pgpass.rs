//! The file of passwords, `~/.pgpass`: a line for each, `host:port:database:user:password`.

/// Returns the password of the first line whose fields fit. `*` fits everything, and a backslash
/// takes its meaning from a `:` or a backslash.
pub(super) fn password(text: &str, wanted: [&str; 4]) -> Option<String> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let [head @ .., password] = &fields[..] else { return None };
        let fits = head.len() == wanted.len()
            && head.iter().zip(wanted).all(|(field, wanted)| field == "*" || field == wanted);
        fits.then(|| password.clone())
    })
}

/// Returns the fields of a line. The last one may have a `:` in it.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let is_end = c == ':' && fields.len() < 5;
        let c = if c == '\\' { chars.next().unwrap_or(c) } else { c };
        match fields.last_mut() {
            Some(field) if !is_end => field.push(c),
            _ => fields.push(String::new()),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first line that fits has the password, with its escapes.
    #[test]
    fn the_first_line_that_fits_counts() {
        let text = "# a comment\nelsewhere:*:*:*:no\n*:5432:db:ann:a\\:b\\\\c:d\n*:*:*:*:last\nshort:line\n";
        let find = |wanted| password(text, wanted);
        assert_eq!(find(["localhost", "5432", "db", "ann"]).as_deref(), Some("a:b\\c:d"));
        assert_eq!(find(["localhost", "5433", "db", "ann"]).as_deref(), Some("last"));
        assert_eq!(find(["elsewhere", "1", "x", "y"]).as_deref(), Some("no"));
        assert_eq!(password("host:1:db:user\n", ["host", "1", "db", "user"]), None);
    }
}
