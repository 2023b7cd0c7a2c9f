//! `durable serve`, `durable deploy` and `durable open`.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command as Process, Stdio};

use serde_json::json;

use crate::api::{Command, HostSession, Reply};
use crate::host::{Callbacks, Settings};
use crate::http::{Address, Keys, Listening, Options, Scope, Service, Tls, callbacks, listen};
use crate::os::reason;

use super::access::Access;
use super::arguments::{Deploy, Http, Open, Serve};
use super::problem::{Problem, note};
use super::{FAILED, STORE, USAGE, print, program, run};

/// The file of a store with the tokens of its HTTP server.
const TOKENS: &str = "token";
/// The file of a store with the address of its HTTP server, while one runs.
const ADDRESS: &str = "http";

/// Runs everything that can run, until the process is stopped.
pub fn serve(serve: Serve) -> Result<u8, Problem> {
    let _exporter = super::telemetry::begin(&serve.telemetry)?;
    if serve.lease.is_some() || serve.address.is_some() {
        return Err(Problem::new(USAGE, "`--lease` and `--address` are for stores in a database")
            .hint("a store in a folder has one process, which it belongs to until that ends"));
    }
    let tls = checked(&serve.http)?;
    let place = &serve.store;
    let store = super::access::own(&place.store)?;
    let settings = Settings { lean: true, ..settings(&serve)? };
    let mut session = HostSession::new(Box::new(store), settings);
    run::stop_on_signals(&session.host);
    session.watch_slices(None);
    session.host.recover(None)?;
    session
        .listen()
        .map_err(|error| Problem::new(STORE, format!("clients can't reach it: {}", reason(&error))))?;
    // The server ends before the host does.
    let (handle, reads) = (session.host.handle(), session.host.reads());
    let begin = move |options| Service::new(handle, reads, options);
    let host = &mut session.host;
    let http = begin_http(&serve.http, tls, begin, |callbacks| host.make_callbacks(callbacks), &place.store)?;
    match &http {
        Some(http) => note(&format!("listening on {}", http.url)),
        None => note(&format!("serving {}", place.store.display())),
    }
    session.run()?;
    drop(http);
    session.close()?;
    Ok(0)
}

/// Returns the settings of a process that stays.
pub(super) fn settings(serve: &Serve) -> Result<Settings, Problem> {
    Ok(Settings {
        stays: true,
        retention: run::retention(&serve.keep),
        quotas: run::quotas(&serve.keep),
        keep_operations: run::keep_operations(&serve.keep),
        permissions: super::permissions::permissions(&serve.may)?,
        ..Settings::default()
    })
}

/// Checks the arguments of the HTTP server, and reads its certificate.
pub(super) fn checked(http: &Http) -> Result<Option<Tls>, Problem> {
    let tls = match &http.http_tls[..] {
        [] => None,
        [certificates, key] => {
            let read = Tls::read(certificates, key);
            Some(read.map_err(|error| Problem::new(STORE, format!("no TLS: {}", reason(&error))))?)
        }
        _ => {
            return Err(
                Problem::new(USAGE, "`--http-tls` takes two files").hint("write --http-tls cert.pem,key.pem")
            );
        }
    };
    if let Some(socket) = http.http {
        let address = Address { socket, behind_proxy: http.http_behind_proxy };
        if address.is_open(tls.as_ref()) {
            return Err(Problem::new(USAGE, format!("{socket} can be reached from other machines without TLS"))
                .hint("give `--http-tls CERT,KEY`, or `--http-behind-proxy` if a proxy speaks TLS; 127.0.0.1 needs neither"));
        }
    }
    Ok(tls)
}

/// A running HTTP server, and the file that names its address.
pub(super) struct Running {
    pub(super) url: String,
    file: std::path::PathBuf,
    _listening: Listening,
}

impl Drop for Running {
    fn drop(&mut self) {
        // If this fails, `durable open` finds no server there.
        let _ = fs::remove_file(&self.file);
    }
}

/// Begins the HTTP server, if there is to be one. `folder` has the tokens, and the address for
/// `durable open`.
pub(super) fn begin_http(
    http: &Http,
    tls: Option<Tls>,
    service: impl FnOnce(Options) -> Service,
    callback: impl FnOnce(Callbacks),
    folder: &Path,
) -> Result<Option<Running>, Problem> {
    let Some(socket) = http.http else { return Ok(None) };
    let file = http.http_token_file.clone().unwrap_or_else(|| folder.join(TOKENS));
    let keys = Keys::open(&file).map_err(|error| {
        Problem::new(STORE, format!("the tokens in {} can't be used: {}", file.display(), reason(&error)))
            .hint("remove the file; new tokens are made then")
    })?;
    let secure = tls.is_some() || http.http_behind_proxy;
    let hosts = http.http_host.iter().map(|host| host.to_ascii_lowercase()).collect();
    let options = Options { keys: keys.clone(), hosts, secure, folder: folder.to_path_buf() };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let service = service(options);
    let address = Address { socket, behind_proxy: http.http_behind_proxy };
    let listening = listen(&address, tls, service).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "another process listens there; port 0 takes any free port",
            _ => "an address is like 127.0.0.1:7788",
        };
        Problem::new(STORE, format!("{socket} can't be used: {}", reason(&error))).hint(hint)
    })?;
    let url = format!("{scheme}://{}", listening.address);
    callback(callbacks(&public(http, &url, listening.address.port()), keys));
    let file = folder.join(ADDRESS);
    fs::write(&file, format!("{url}\n")).map_err(|error| {
        Problem::new(STORE, format!("{} can't be written: {}", file.display(), reason(&error)))
    })?;
    Ok(Some(Running { url, file, _listening: listening }))
}

/// Returns the URL by which the outside reaches the server: by its first further name, if there is
/// one.
fn public(http: &Http, own: &str, port: u16) -> String {
    let scheme = if http.http_tls.is_empty() { "http" } else { "https" };
    match http.http_host.first() {
        Some(name) if http.http_behind_proxy => format!("https://{name}"),
        Some(name) => format!("{scheme}://{name}:{port}"),
        None => own.to_string(),
    }
}

/// Makes the orchestrations and entities of programs known to a store under their names, and prints
/// the names of the orchestrations to standard output.
pub fn deploy(deploy: Deploy) -> Result<u8, Problem> {
    let permissions = super::permissions::permissions(&deploy.may)?;
    // All programs are checked before the first one is deployed.
    let mut commands = Vec::new();
    for file in &deploy.files {
        let checked = program::read_restricted(file, &permissions)?;
        program::report(&checked, file)?;
        let code = program::code(&checked, file)?;
        program::image(code.clone(), file)?;
        let modules = code.sources.texts();
        let file = file.display().to_string();
        commands.push((file.clone(), Command::Deploy { file, modules, permissions: permissions.clone() }));
    }
    let mut store = Access::open_or_make(&deploy.store.store)?;
    for (file, command) in commands {
        match store.ask(command)? {
            Reply::Deployed(functions) => match deploy.json {
                true => print(&format!("{}\n", json!({"file": file, "functions": functions})))?,
                false if functions.is_empty() => note(&format!("{file} declares no orchestration")),
                false => print(&format!("{}\n", functions.join("\n")))?,
            },
            Reply::Refused(reason) => return Err(Problem::new(FAILED, reason)),
            _ => return Err(Problem::new(FAILED, format!("{file} could not be deployed"))),
        }
    }
    store.close()?;
    Ok(0)
}

/// Opens the page of a store's server in a browser, or prints its address where there is none.
pub fn open(open: Open) -> Result<u8, Problem> {
    let folder = &open.store.store;
    super::access::is_there(folder)?;
    let no_server = || {
        Problem::new(STORE, format!("no HTTP server runs for {}", folder.display()))
            .hint("begin one with `durable serve --http 127.0.0.1:7788`")
    };
    let url = fs::read_to_string(folder.join(ADDRESS)).map_err(|_| no_server())?;
    let keys = Keys::open(&folder.join(TOKENS)).map_err(|error| {
        Problem::new(STORE, format!("the tokens of {} can't be read: {}", folder.display(), reason(&error)))
    })?;
    // The part after `#` stays in the browser.
    let place = open.id.map(|id| format!("&instance={}", crate::http::escaped(&id))).unwrap_or_default();
    let url = format!("{}/#token={}{place}", url.trim(), keys.token(Scope::Admin));
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let opened = !open.print
        && (cfg!(target_os = "macos")
            || std::env::var_os("DISPLAY").or(std::env::var_os("WAYLAND_DISPLAY")).is_some())
        && Process::new(opener)
            .arg(&url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
    if !opened {
        print(&format!("{url}\n"))?;
    }
    Ok(0)
}
