//! A private PostgreSQL for tests: found on the machine, made in a folder of its own, and gone with
//! the test.
//!
//! Without PostgreSQL, a test says that it is left out and passes, unless the variable
//! `DURABLE_REQUIRE_POSTGRES` is set.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use nix::unistd::{Uid, User};

/// A running server, with a superuser `admin` who needs no password on the socket.
pub struct Server {
    folder: PathBuf,
    programs: PathBuf,
    pub port: u16,
    /// The user that the server runs as, if that is another one.
    user: Option<(u32, u32)>,
    databases: AtomicU32,
    /// The process that ends the server once this process is gone.
    _guard: Child,
}

/// Ends the server and removes its folder, once nobody holds the other end of the standard input.
const GUARD: &str = r#"
trap '' INT TERM HUP
cat > /dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2> /dev/null)
if [ -n "$pid" ]; then
    kill -QUIT "$pid" 2> /dev/null
    while kill -0 "$pid" 2> /dev/null; do sleep 0.1; done
fi
rm -rf "$1"
"#;

/// Returns the folder of PostgreSQL's programs.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    versions.sort();
    folders.extend(versions.into_iter().rev());
    folders.extend(["/usr/local/pgsql/bin", "/opt/homebrew/bin"].map(PathBuf::from));
    folders.into_iter().find(|folder| {
        ["initdb", "postgres", "pg_ctl", "psql"].iter().all(|program| folder.join(program).is_file())
    })
}

/// Returns the server that the tests of this process share, or `None` without PostgreSQL.
pub fn server() -> Option<&'static Server> {
    static SHARED: OnceLock<Option<Server>> = OnceLock::new();
    SHARED.get_or_init(|| Server::start("")).as_ref()
}

impl Server {
    /// Starts a server of its own, with more lines of its configuration.
    pub fn start(settings: &str) -> Option<Server> {
        let Some(programs) = programs() else {
            let is_required = std::env::var_os("DURABLE_REQUIRE_POSTGRES").is_some_and(|value| value != "0");
            assert!(!is_required, "PostgreSQL is required, and is not installed");
            eprintln!("left out: PostgreSQL is not installed");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("durable-pg").tempdir().expect("a folder").keep();
        // The server refuses to run as root.
        let user = Uid::effective().is_root().then(|| {
            let named = |name| User::from_name(name).ok().flatten();
            let user = named("postgres").or_else(|| named("nobody")).expect("a user other than root");
            chown(&folder, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .expect("the folder is given away");
            (user.uid.as_raw(), user.gid.as_raw())
        });
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "sh"]).arg(&folder).stdin(Stdio::piped());
        let guard = guard.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let server = Server {
            port: free.expect("a free port").port(),
            folder,
            programs,
            user,
            databases: AtomicU32::new(0),
            _guard: guard.expect("a shell"),
        };
        let data = server.data();
        let init =
            ["-U", "admin", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-locale", "--no-sync"];
        server.program("initdb").arg("-D").arg(&data).args(init).arg("-EUTF8").must();
        let configuration = format!(
            "\nlisten_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\n\
             shared_buffers = 32MB\nmax_connections = 60\nlog_min_messages = fatal\n{settings}\n",
            server.port,
            server.folder.display()
        );
        let path = data.join("postgresql.conf");
        let known = fs::read_to_string(&path).expect("the configuration");
        fs::write(&path, known + &configuration).expect("the configuration");
        server.begin();
        Some(server)
    }

    /// Returns the folder of the server's socket.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Copies a file into the server's data, as the server's own.
    pub fn give(&self, file: &Path, name: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.data().join(name);
        fs::copy(file, &path).expect("a copy");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
        if let Some((user, group)) = self.user {
            chown(&path, Some(user), Some(group)).expect("the file is given away");
        }
    }

    /// Starts the server, which must not run.
    pub fn begin(&self) {
        let log = self.folder.join("log");
        self.program("pg_ctl").arg("-D").arg(self.data()).arg("-l").arg(log).args(["-w", "start"]).must();
    }

    /// Stops the server: `immediate` is like a crash.
    pub fn stop(&self, mode: &str) {
        self.program("pg_ctl").arg("-D").arg(self.data()).args(["-m", mode, "-w", "stop"]).must();
    }

    /// Returns one of PostgreSQL's programs, to be run as the server's user.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command.current_dir("/").stdin(Stdio::null()).env_remove("PGDATABASE");
        command
    }

    /// Makes a new database, and returns its name.
    pub fn database(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("create database {name}"));
        name
    }

    /// Returns the URL of a database, over the server's socket.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://admin@/{database}?host={}&port={}", self.folder.display(), self.port)
    }

    /// Executes statements, and returns the rows that they print: a line each, fields between bars.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let mut psql = self.program("psql");
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "admin",
            "-d",
            database,
            "-c",
            sql,
        ]);
        psql.arg("-h").arg(&self.folder).args(["-p", &self.port.to_string()]);
        psql.must().trim_end().to_string()
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join(format!(".s.PGSQL.{}", self.port))
    }
}

trait Must {
    /// Runs a command that must succeed, and returns its output.
    fn must(&mut self) -> String;
}

impl Must for Command {
    fn must(&mut self) -> String {
        let run = self.output().unwrap_or_else(|error| panic!("{self:?}: {error}"));
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{self:?}: {said}");
        String::from_utf8_lossy(&run.stdout).into_owned()
    }
}

/// A proxy before a server, which cuts connections at chosen places.
pub struct Proxy {
    port: u16,
    fault: Arc<AtomicUsize>,
}

/// The next fault of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Never,
    /// What the client sends next does not reach the server.
    BeforeRequest,
    /// What the client sends next reaches the server, and the answer does not reach the client.
    BeforeAnswer,
    /// The client gets the answer, and then loses the connection.
    AfterAnswer,
}

const CUTS: [Cut; 4] = [Cut::Never, Cut::BeforeRequest, Cut::BeforeAnswer, Cut::AfterAnswer];

impl Proxy {
    pub fn start(server: &Server) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let fault = Arc::new(AtomicUsize::new(0));
        let (socket, shared) = (server.socket(), fault.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Without a server, the client's connection ends.
                if let Ok(upstream) = UnixStream::connect(&socket) {
                    relay(client, upstream, &shared);
                }
            }
        });
        Proxy { port, fault }
    }

    /// Returns the URL of a database, through the proxy.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://admin@127.0.0.1:{}/{database}", self.port)
    }

    /// Has one connection be cut: the next one that something is sent on.
    pub fn cut(&self, cut: Cut) {
        self.fault.store(cut as usize, Ordering::SeqCst);
    }

    /// Whether the fault has happened.
    pub fn has_cut(&self) -> bool {
        self.fault.load(Ordering::SeqCst) == 0
    }
}

/// Passes bytes in both directions, by two threads.
fn relay(client: TcpStream, server: UnixStream, fault: &Arc<AtomicUsize>) {
    let mut to_server = server.try_clone().expect("a socket");
    let mut from_client = client.try_clone().expect("a socket");
    // The fault of this connection's next answer.
    let due = Arc::new(AtomicUsize::new(0));
    let (fault, noted) = (fault.clone(), due.clone());
    thread::spawn(move || {
        let mut bytes = [0; 1 << 16];
        while let Ok(count @ 1..) = from_client.read(&mut bytes) {
            match CUTS[fault.swap(0, Ordering::SeqCst)] {
                Cut::Never => {}
                Cut::BeforeRequest => break,
                cut => noted.store(cut as usize, Ordering::SeqCst),
            }
            if to_server.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = from_client.shutdown(Shutdown::Both);
        let _ = to_server.shutdown(Shutdown::Both);
    });
    let (mut from_server, mut to_client) = (server, client);
    thread::spawn(move || {
        let mut bytes = [0; 1 << 16];
        while let Ok(count @ 1..) = from_server.read(&mut bytes) {
            let cut = CUTS[due.swap(0, Ordering::SeqCst)];
            if cut == Cut::BeforeAnswer || to_client.write_all(&bytes[..count]).is_err() {
                break;
            }
            if cut == Cut::AfterAnswer {
                thread::sleep(Duration::from_millis(20));
                break;
            }
        }
        let _ = from_server.shutdown(Shutdown::Both);
        let _ = to_client.shutdown(Shutdown::Both);
    });
}

/// Makes a file that only its owner may read.
pub fn private_file(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
