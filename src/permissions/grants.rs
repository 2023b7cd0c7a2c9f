//! Lists of grants, as people write them after `--allow` and `--deny`.

use super::capability::{Capability, Grant, Item, Side, variable};
use super::net::Pattern;
use super::{paths, programs};

/// Reads lists of grants. An error says what is wrong.
pub(super) fn grants(lists: &[String], side: Side) -> Result<Vec<Grant>, String> {
    let mut grants: Vec<Grant> = Vec::new();
    for list in lists {
        // A part after a comma is of the same kind as the part before, unless it names a kind.
        let mut listed: &[Capability] = &[];
        for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (word, first) =
                part.split_once('=').map_or((part, None), |(word, first)| (word, Some(first)));
            let named = Capability::named(word);
            match (named.first(), first) {
                (Some(capability), Some("")) => {
                    return Err(format!("`{word}=` lists no {}", capability.lists()));
                }
                (Some(_), Some(first)) => {
                    listed = named;
                    add(&mut grants, listed, first.trim(), side)?;
                }
                (Some(_), None) => {
                    listed = &[];
                    grants.extend(named.iter().map(|&capability| Grant { capability, item: Item::All }));
                }
                (None, _) if !listed.is_empty() => add(&mut grants, listed, part, side)?,
                (None, _) => {
                    return Err(format!(
                        "`{word}` is not a permission; a permission is read, write, fs, net, exec or env"
                    ));
                }
            }
        }
    }
    Ok(grants)
}

fn add(grants: &mut Vec<Grant>, listed: &[Capability], text: &str, side: Side) -> Result<(), String> {
    for &capability in listed {
        let written = || format!("{}={text}", capability.name());
        let bad = |reason: String| format!("`{}` {reason}", written());
        let items = match capability {
            Capability::Read | Capability::Write => paths::items(text, side).map_err(bad)?,
            Capability::Net => vec![Item::Host(Pattern::parse(text).map_err(bad)?)],
            Capability::Exec => programs::items(text, side).map_err(bad)?,
            Capability::Env => vec![variable(text).map_err(bad)?],
        };
        grants.extend(items.into_iter().map(|item| Grant { capability, item }));
    }
    Ok(())
}
