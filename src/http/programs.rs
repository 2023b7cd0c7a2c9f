//! The routes for programs: a list, texts, deployed functions, and deployment.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hashbrown::HashMap;
use serde::Deserialize;
use serde_json::{Value as Body, json};

use crate::api::{Command, Queries, Reply};
use crate::check;
use crate::code::ProgramHash;
use crate::engine::{Function, query};
use crate::host::Reads;
use crate::machine::format;
use crate::permissions::Permissions;

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
    modules: std::collections::BTreeMap<String, String>,
}

async fn deploy(
    _: Admin,
    State(service): State<Service>,
    Input(deployment): Input<Deployment>,
) -> Result<Json<Body>, Problem> {
    let Deployment { file, modules } = deployment;
    let Some(text) = modules.get(&file).cloned() else {
        return Err(Problem::bad(format!("`modules` has no text of `{file}`")));
    };
    let checked = tokio::task::spawn_blocking(move || {
        let read = |key: &str| modules.get(key).cloned().ok_or_else(|| "it is not in `modules`".to_string());
        let program = check::load(&file, text, &read);
        let shown: Vec<String> = program
            .diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.severity == crate::syntax::Severity::Error)
            .map(|diagnostic| diagnostic.title.clone())
            .collect();
        let texts = program.sources.files.into_iter().map(|file| (file.name, file.text)).collect();
        (file, shown, texts)
    });
    let (file, mistakes, modules): (String, Vec<String>, Vec<(String, String)>) =
        checked.await.map_err(|_| unexpected())?;
    if !mistakes.is_empty() {
        return Err(Problem::bad(format!("{file} has mistakes: {}", mistakes.join("; ")))
            .with("mistakes", json!(mistakes)));
    }
    let permissions = Permissions::default();
    match service.command(Command::Deploy { file, modules, permissions }).await? {
        Reply::Deployed(functions) => Ok(Json(json!({"functions": functions}))),
        Reply::Refused(reason) => Err(Problem::bad(reason)),
        _ => Err(unexpected()),
    }
}
