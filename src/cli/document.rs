//! `durable doc`: pages from doc comments.

use std::path::{Path, PathBuf};

use crate::check::reference::{self, Entry, head, standard};
use crate::check::{closest, std_sources};
use crate::os::read_text;
use crate::syntax::token::is_of_a_name;

use super::arguments::{Doc, Form};
use super::problem::Problem;
use super::{FAILED, STORE, print, sources};

/// A module's page.
struct Page {
    name: String,
    head: String,
    entries: Vec<Entry>,
}

/// Writes the pages of programs, or of the standard library.
pub fn doc(asked: Doc) -> Result<u8, Problem> {
    if let Some(names) = names(&asked.files) {
        let described: Result<Vec<String>, Problem> = names.iter().map(|name| described(name, &[])).collect();
        return output(&asked, &described?.join("\n"));
    }
    let mut pages = Vec::new();
    if asked.files.is_empty() {
        for (name, text) in std_sources() {
            pages.push(Page { name: name.to_string(), head: head(text), entries: reference::of(name, text) });
        }
    } else {
        let found = sources::find(&asked.files)?;
        if let Some(problem) = found.problems.into_iter().next() {
            return Err(problem);
        }
        for file in found.files {
            let name = file.display().to_string();
            let text = read_text(&file)
                .map_err(|reason| Problem::new(STORE, format!("{name} can't be read: {reason}")))?;
            pages.push(Page { name, head: head(&text), entries: reference::of("", &text) });
        }
    }
    let text = match asked.form {
        Form::Markdown => pages.iter().map(markdown).collect::<Vec<_>>().join("\n"),
        Form::Html => html(&pages),
    };
    output(&asked, &text)
}

fn output(asked: &Doc, text: &str) -> Result<u8, Problem> {
    match &asked.out {
        None => print(text)?,
        Some(path) => write(path, text)?,
    }
    Ok(0)
}

/// Returns the arguments as names of the library, if they are no files.
fn names(files: &[PathBuf]) -> Option<Vec<String>> {
    let name = |path: &PathBuf| {
        let text = path.to_str()?;
        let is_name = text.chars().all(|c| is_of_a_name(c) || c == '.' || c == '(' || c == ')');
        (is_name && !text.ends_with(".df") && !text.starts_with('.') && !path.exists())
            .then(|| text.to_string())
    };
    files.iter().map(name).collect::<Option<Vec<_>>>().filter(|names| !names.is_empty())
}

/// Describes a module or a name of the library, or a name among `more`, for people.
pub fn described(name: &str, more: &[Entry]) -> Result<String, Problem> {
    let all = standard();
    let name = name.trim().trim_end_matches("()");
    if let Some((_, text)) = std_sources().iter().find(|(module, _)| *module == name) {
        let mut out = format!("{}\n\n", head(text));
        for entry in all.iter().filter(|entry| entry.module == name) {
            let first = entry.text().lines().next().unwrap_or("").to_string();
            out.push_str(&format!("  {:<34} {first}\n", entry.signature.replacen("fn ", "", 1)));
        }
        return Ok(out);
    }
    let fits = |entry: &&Entry| entry.path() == name || entry.name == name;
    let found: Vec<&Entry> = all.iter().chain(more).filter(fits).collect();
    if found.is_empty() {
        let names = all.iter().chain(more);
        let near = match name.contains('.') {
            true => closest(name, names.map(Entry::path).collect::<Vec<_>>().iter().map(String::as_str))
                .map(str::to_string),
            false => closest(name, names.map(|entry| entry.name.as_str())).map(str::to_string),
        };
        let problem = Problem::new(FAILED, format!("nothing is known of `{name}`"));
        return Err(match near {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => {
                let modules: Vec<&str> = std_sources().iter().map(|(name, _)| *name).collect();
                problem.hint(format!("the modules of the library are {}", modules.join(", ")))
            }
        });
    }
    let mut out = String::new();
    for entry in found {
        out.push_str(&match entry.module.as_str() {
            "" | "prelude" => format!("{}\n", entry.signature),
            module => format!("{} · module {module}\n", entry.signature),
        });
        for line in entry.text().lines() {
            out.push_str(&format!("{}\n", format!("  {line}").trim_end()));
        }
        for line in entry.code().iter().flat_map(|code| code.lines()) {
            out.push_str(&format!("{}\n", format!("      {line}").trim_end()));
        }
    }
    Ok(out)
}

fn write(path: &Path, text: &str) -> Result<(), Problem> {
    std::fs::write(path, text).map_err(|error| {
        Problem::new(STORE, format!("{} can't be written: {}", path.display(), crate::os::reason(&error)))
    })
}

fn markdown(page: &Page) -> String {
    let mut out = format!("# {}\n\n{}\n", page.name, page.head);
    for entry in &page.entries {
        out.push_str(&format!("\n### {}\n\n`{}`\n", entry.path(), entry.signature));
        if !entry.text().is_empty() {
            out.push_str(&format!("\n{}\n", entry.text()));
        }
        if !entry.code().is_empty() {
            out.push_str(&format!("\n```df\n{}\n```\n", entry.code().join("\n")));
        }
    }
    out
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}\
code,pre{font-family:ui-monospace,monospace;font-size:.9em}pre{background:#8881;padding:.6rem;border-radius:.3rem}\
h3{margin:1.6rem 0 .2rem}nav a{margin-right:.8rem}";

fn html(pages: &[Page]) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Documentation</title>\n<style>{STYLE}</style>\n<nav>"
    );
    for page in pages {
        out.push_str(&format!("<a href=\"#{0}\">{0}</a> ", escaped(&page.name)));
    }
    out.push_str("</nav>\n");
    for page in pages {
        out.push_str(&format!(
            "<h1 id=\"{0}\">{0}</h1>\n<p>{1}</p>\n",
            escaped(&page.name),
            prose(&page.head)
        ));
        for entry in &page.entries {
            let path = escaped(&entry.path());
            out.push_str(&format!("<h3 id=\"{path}\"><code>{}</code></h3>\n", escaped(&entry.signature)));
            out.push_str(&format!("<p>{}</p>\n", prose(&entry.text())));
            if !entry.code().is_empty() {
                out.push_str(&format!("<pre>{}</pre>\n", escaped(&entry.code().join("\n"))));
            }
        }
    }
    out.push_str("</html>\n");
    out
}

/// Returns a text as HTML, with the parts in backticks as code.
fn prose(text: &str) -> String {
    let part = |(at, part): (usize, &str)| match at % 2 {
        1 => format!("<code>{}</code>", escaped(part)),
        _ => escaped(part),
    };
    text.split('`').enumerate().map(part).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
