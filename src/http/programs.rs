//! The routes for programs: a list, texts, deployed functions, deployment, and upgrades of
//! instances.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hashbrown::HashMap;
use serde::Deserialize;
use serde_json::{Value as Body, json};

use crate::api::{Command, Judged, Judgement, Queries, Reply, Side, Upgrading};
use crate::check;
use crate::code::ProgramHash;
use crate::engine::{Function, Verdict, query};
use crate::host::Reads;
use crate::machine::format;
use crate::permissions::Permissions;
use crate::render::Shown;
use crate::syntax::Sources;

use super::guard::{Admin, Reader};
use super::input::{Input, Path};
use super::instances::unexpected;
use super::problem::Problem;
use super::service::Service;

pub fn routes() -> Router<Service> {
    Router::new()
        .route("/programs", get(list).post(deploy))
        .route("/programs/{hash}/texts/{module}", get(text))
        .route("/functions", get(functions))
        .route("/instances/{id}/upgrade", post(upgrade))
}

fn hash(text: &str) -> Result<ProgramHash, Problem> {
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash)
        .map(|()| ProgramHash(hash))
        .map_err(|_| Problem::bad("the hash of a program has 64 hexadecimal digits"))
}

async fn list(_: Reader, State(service): State<Service>) -> Result<Json<Body>, Problem> {
    service
        .ask(|reads| {
            let functions = reads.functions()?;
            let unfinished = unfinished(reads)?;
            let items: Vec<Body> = reads
                .programs()?
                .into_iter()
                .map(|program| {
                    let hash = program.hash;
                    let own = || functions.iter().filter(move |(_, function)| function.program == hash);
                    let names: Vec<&String> = own().map(|(name, _)| name).collect();
                    let deployed = own().map(|(_, function)| function.deployed).max();
                    json!({
                        "program": hex::encode(hash.0), "modules": program.modules,
                        "entities": program.entities, "functions": names,
                        "deployed": deployed.map(format::instant),
                        "unfinished": unfinished.get(&hash).copied().unwrap_or(0),
                    })
                })
                .collect();
            Ok(Json(json!({"items": items})))
        })
        .await
}

/// Returns the numbers of instances that have not ended, by program.
fn unfinished(reads: &Reads) -> Result<HashMap<ProgramHash, u64>, Problem> {
    const AT_ONCE: usize = 1_000;
    let (mut counts, mut from) = (HashMap::new(), Some(String::new()));
    while let Some(first) = from {
        from = reads.ask(|store| {
            query::heads(store, &first, AT_ONCE, &mut |_, head| {
                if head.ended.is_none() {
                    *counts.entry(head.program).or_default() += 1;
                }
            })
        })??;
    }
    Ok(counts)
}

/// Returns the JSON form of a deployed function.
fn form(name: &str, function: &Function) -> Body {
    json!({
        "function": name, "program": hex::encode(function.program.0), "file": function.file,
        "least": function.arity.0, "most": function.arity.1,
        "deployed": format::instant(function.deployed),
    })
}

async fn functions(_: Reader, State(service): State<Service>) -> Result<Json<Body>, Problem> {
    service
        .ask(|reads| {
            let items: Vec<Body> =
                reads.functions()?.iter().map(|(name, function)| form(name, function)).collect();
            Ok(Json(json!({"items": items})))
        })
        .await
}

/// Returns the text of a module, by its number in the program or by its name.
async fn text(
    _: Reader,
    State(service): State<Service>,
    Path((program, module)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let hash = hash(&program)?;
    let missing = || Problem::new(StatusCode::NOT_FOUND, "unknown_program", "there is no such text");
    let modules = service.ask(move |reads| Ok(reads.modules(hash).ok())).await?.ok_or_else(missing)?;
    let by_number = module.parse::<usize>().ok().and_then(|number| modules.get(number));
    let (_, text) =
        by_number.or_else(|| modules.iter().find(|(name, _)| *name == module)).ok_or_else(missing)?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text.clone()).into_response())
}

/// The body of a deployment: the name of the first file, and all texts by name. The standard
/// library is that of the server.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deployment {
    file: String,
    modules: BTreeMap<String, String>,
}

async fn deploy(
    _: Admin,
    State(service): State<Service>,
    Input(deployment): Input<Deployment>,
) -> Result<Json<Body>, Problem> {
    let Deployment { file, modules } = deployment;
    let modules = checked(file.clone(), modules).await?;
    let permissions = Permissions::default();
    match service.command(Command::Deploy { file, modules, permissions }).await? {
        Reply::Deployed(functions) => Ok(Json(json!({"functions": functions}))),
        Reply::Refused(reason) => Err(Problem::bad(reason)),
        _ => Err(unexpected()),
    }
}

/// Checks a program, and returns the texts of all of its modules.
async fn checked(file: String, modules: BTreeMap<String, String>) -> Result<Vec<(String, String)>, Problem> {
    let Some(text) = modules.get(&file).cloned() else {
        return Err(Problem::bad(format!("`modules` has no text of `{file}`")));
    };
    let name = file.clone();
    let checked = tokio::task::spawn_blocking(move || {
        let read = |key: &str| modules.get(key).cloned().ok_or_else(|| "it is not in `modules`".to_string());
        let program = check::load(&name, text, &read);
        let shown: Vec<String> = program
            .diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.severity == crate::syntax::Severity::Error)
            .map(|diagnostic| diagnostic.title.clone())
            .collect();
        let texts = program.sources.files.into_iter().map(|file| (file.name, file.text)).collect();
        (shown, texts)
    });
    let (mistakes, modules): (Vec<String>, Vec<(String, String)>) =
        checked.await.map_err(|_| unexpected())?;
    match mistakes.is_empty() {
        true => Ok(modules),
        false => Err(Problem::bad(format!("{file} has mistakes: {}", mistakes.join("; ")))
            .with("mistakes", json!(mistakes))),
    }
}

/// The body of an upgrade: a program as for a deployment.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Upgraded {
    file: String,
    modules: BTreeMap<String, String>,
    /// The entry of the history to which the instance goes back first.
    from: Option<u64>,
    #[serde(default)]
    accept_state: bool,
    #[serde(default)]
    dry_run: bool,
}

async fn upgrade(
    _: Admin,
    State(service): State<Service>,
    Path(id): Path<String>,
    Input(upgraded): Input<Upgraded>,
) -> Result<Json<Body>, Problem> {
    let Upgraded { file, modules, from, accept_state, dry_run } = upgraded;
    let modules = checked(file.clone(), modules).await?;
    let new = texts(&modules);
    let upgrading = Upgrading { ids: vec![id.clone()], file, modules, from, accept_state, dry_run };
    let outcome = match service.command(Command::Upgrade(Box::new(upgrading))).await? {
        Reply::Judged(outcomes) => outcomes.into_iter().next(),
        _ => None,
    };
    match outcome {
        Some(Judgement::Judged { verdict, forgotten, is_adopted }) => {
            let made_with = match &verdict {
                Verdict::Diverges(of) => {
                    let hash = of.made_with;
                    service.ask(move |reads| Ok(reads.modules(hash).ok())).await?
                }
                _ => None,
            };
            let judged = Judged { id: &id, verdict: &verdict, from, forgotten: &forgotten, is_adopted };
            Ok(Json(judged.json(|| sides(&verdict, &new, made_with.as_deref()))))
        }
        Some(Judgement::Unknown) => Err(Problem::no_instance(&id)),
        Some(Judgement::Ended) => Err(Problem::ended(&id)),
        Some(Judgement::Busy) => {
            Err(Problem::refused(format!("{id} is under way just now; once it waits, try again")))
        }
        Some(Judgement::Refused(reason)) => Err(Problem::refused(reason)),
        None => Err(unexpected()),
    }
}

/// Returns the sources of a program.
fn texts(modules: &[(String, String)]) -> Sources {
    let mut sources = Sources::default();
    for (name, text) in modules {
        sources.add(name.as_str(), text.as_str());
    }
    sources
}

/// Returns both sides of a divergence: the history's and the new program's.
fn sides(verdict: &Verdict, new: &Sources, made_with: Option<&[(String, String)]>) -> (Side, Side) {
    let old = made_with.map(texts);
    let old = old.as_ref().map(|sources| Shown::new(sources, std::path::Path::new("")));
    let new = Shown::new(new, std::path::Path::new(""));
    match verdict {
        Verdict::Diverges(of) => {
            (Side::recorded(old.as_ref(), &of.sides.recorded), Side::found(Some(&new), &of.sides.found))
        }
        _ => (Side::recorded(None, &None), Side::found(None, &None)),
    }
}
