//! The results of tests in JUnit's format, which CI services read.

use std::fmt::Write;

/// One test.
pub struct Case {
    pub file: String,
    pub name: String,
    pub seconds: f64,
    /// The reason of the failure: a line, and the whole text.
    pub failure: Option<(String, String)>,
    pub printed: Vec<String>,
}

/// Returns the document of all tests, with one suite for each file.
pub fn document(cases: &[Case]) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(out, "<testsuites {}>", totals(cases));
    for suite in cases.chunk_by(|a, b| a.file == b.file) {
        let _ = writeln!(out, "  <testsuite name=\"{}\" {}>", escaped(&suite[0].file), totals(suite));
        for case in suite {
            let (file, name) = (escaped(&case.file), escaped(&case.name));
            let _ = write!(
                out,
                "    <testcase classname=\"{file}\" name=\"{name}\" time=\"{:.6}\">",
                case.seconds
            );
            if let Some((title, text)) = &case.failure {
                let _ = write!(out, "<failure message=\"{}\">{}</failure>", escaped(title), escaped(text));
            }
            if !case.printed.is_empty() {
                let _ = write!(out, "<system-out>{}</system-out>", escaped(&case.printed.join("\n")));
            }
            out.push_str("</testcase>\n");
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn totals(cases: &[Case]) -> String {
    let failures = cases.iter().filter(|case| case.failure.is_some()).count();
    let seconds: f64 = cases.iter().map(|case| case.seconds).sum();
    format!("tests=\"{}\" failures=\"{failures}\" time=\"{seconds:.6}\"", cases.len())
}

/// Escapes a text for XML; characters that XML does not allow are replaced.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_has_marks_for_is_escaped() {
        let case = Case {
            file: "a.df".into(),
            name: "a < b & \"c\"".into(),
            seconds: 0.25,
            failure: Some(("no".into(), "x > \u{1b}[31my".into())),
            printed: vec!["1".into(), "2".into()],
        };
        assert_eq!(
            document(&[case]),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <testsuites tests=\"1\" failures=\"1\" time=\"0.250000\">\n\
             \x20 <testsuite name=\"a.df\" tests=\"1\" failures=\"1\" time=\"0.250000\">\n\
             \x20   <testcase classname=\"a.df\" name=\"a &lt; b &amp; &quot;c&quot;\" time=\"0.250000\">\
             <failure message=\"no\">x &gt; \u{fffd}[31my</failure><system-out>1\n2</system-out></testcase>\n\
             \x20 </testsuite>\n</testsuites>\n"
        );
    }
}
