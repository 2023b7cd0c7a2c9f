//! `durable explain`: the pages of `docs/errors.md`.

use crate::check::closest;

use super::arguments::Explain;
use super::problem::Problem;
use super::{UNKNOWN, print};

const PAGES: &str = include_str!("../../docs/errors.md");

/// Returns the kinds of errors with their pages.
fn pages() -> impl Iterator<Item = (&'static str, &'static str)> {
    PAGES.split("\n## ").skip(1).filter_map(|page| page.split_once('\n'))
}

/// Shows the page of a kind of error, or lists the kinds.
pub fn explain(asked: Explain) -> Result<u8, Problem> {
    let Some(kind) = asked.kind else {
        for (kind, page) in pages() {
            let first = page.trim().split(['.', ':', ';']).next().unwrap_or("").replace('\n', " ");
            print(&format!("{kind:<20} {first}\n"))?;
        }
        return Ok(0);
    };
    let Some((_, page)) = pages().find(|(known, _)| *known == kind) else {
        let near = closest(&kind, pages().map(|(known, _)| known));
        let problem = Problem::new(UNKNOWN, format!("there is no error of the kind `{kind}`"));
        return Err(match near {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem
                .hint("`durable explain` lists the kinds; a program's own errors are of kinds of its own"),
        });
    };
    let mut out = format!("{kind}\n");
    let mut code = false;
    for line in page.trim_end().lines() {
        match line.starts_with("```") {
            true => code = !code,
            false if code => out.push_str(&format!("    {line}\n")),
            false => out.push_str(&format!("{line}\n")),
        }
    }
    print(&out)?;
    Ok(0)
}
