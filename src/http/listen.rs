//! The listener: connections, TLS and limits.
//!
//! Invariant: no client takes anything from the others or from the engine. The number of
//! connections is limited, a head must arrive in time, and an error of the system makes the
//! listener pause and go on.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::router::router;
use super::service::Service;

/// The largest number of connections at once.
const CONNECTIONS: usize = 1_024;
/// The time limit for the head of a request, also on a connection that is kept alive.
const HEAD_TIME: Duration = Duration::from_secs(60);
/// The time limit for the greeting of TLS.
const GREETING_TIME: Duration = Duration::from_secs(10);
/// The time for which no client is accepted after the system has refused a descriptor.
const PAUSE: Duration = Duration::from_millis(50);
/// The number of threads for requests.
const THREADS: usize = 2;

/// The place where a server listens.
#[derive(Clone, Debug)]
pub struct Address {
    pub socket: SocketAddr,
    /// Whether a proxy before the server speaks TLS.
    pub behind_proxy: bool,
}

impl Address {
    /// Whether clients of other machines may connect without TLS.
    pub fn is_open(&self, tls: Option<&Tls>) -> bool {
        !self.socket.ip().is_loopback() && tls.is_none() && !self.behind_proxy
    }
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
}

impl Tls {
    /// Reads a chain of certificates and a private key from files in the PEM format.
    pub fn read(certificates: &Path, key: &Path) -> io::Result<Tls> {
        let wrong = |path: &Path, reason: String| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {reason}", path.display()))
        };
        let chain: Result<Vec<CertificateDer>, _> = CertificateDer::pem_file_iter(certificates)
            .map_err(|error| wrong(certificates, error.to_string()))?
            .collect();
        let chain = chain.map_err(|error| wrong(certificates, error.to_string()))?;
        if chain.is_empty() {
            return Err(wrong(certificates, "it has no certificate".into()));
        }
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error.to_string()))?;
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
            .map_err(|error| wrong(key, error.to_string()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Tls { config: Arc::new(config) })
    }
}

/// A server that listens, until it is dropped.
pub struct Listening {
    pub address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Listens for clients.
pub fn listen(address: &Address, tls: Option<Tls>, service: Service) -> io::Result<Listening> {
    let listener = StdListener::bind(address.socket)?;
    listener.set_nonblocking(true)?;
    let local = listener.local_addr()?;
    let runtime =
        Builder::new_multi_thread().worker_threads(THREADS).thread_name("http").enable_all().build()?;
    let listener = {
        let _entered = runtime.enter();
        TcpListener::from_std(listener)?
    };
    runtime.spawn(service.clone().prepare());
    runtime.spawn(accept(listener, tls.map(|tls| TlsAcceptor::from(tls.config)), router(service)));
    Ok(Listening { address: local, runtime: Some(runtime) })
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(greet(stream, tls.clone(), router.clone(), place));
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn greet(stream: TcpStream, tls: Option<TlsAcceptor>, router: Router, place: OwnedSemaphorePermit) {
    // Small responses leave at once.
    let _ = stream.set_nodelay(true);
    match tls {
        None => serve(stream, router).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(GREETING_TIME, tls.accept(stream)).await {
                serve(stream, router).await;
            }
        }
    }
    drop(place);
}

/// Serves a connection to its end.
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // After any error, the client sees the end of its connection.
    let _ = connection.await;
}
