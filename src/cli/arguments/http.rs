//! The arguments of the HTTP server.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// The HTTP server of `durable serve`.
#[derive(Args)]
pub struct Http {
    /// Serve HTTP and the page at this address, such as 127.0.0.1:7788
    #[arg(long, value_name = "ADDRESS")]
    pub http: Option<SocketAddr>,
    /// The file of the tokens, instead of `token` in the store
    #[arg(long, value_name = "FILE", requires = "http")]
    pub http_token_file: Option<PathBuf>,
    /// A name by which clients reach the server, beside localhost; may be given several times
    #[arg(long, value_name = "NAME", requires = "http")]
    pub http_host: Vec<String>,
    /// Speak TLS, with the certificates and the key in these files
    #[arg(long, value_name = "CERT,KEY", requires = "http", value_delimiter = ',', num_args = 1)]
    pub http_tls: Vec<PathBuf>,
    /// A proxy before the server speaks TLS, so other addresses than those of this machine are allowed
    #[arg(long, requires = "http", conflicts_with = "http_tls")]
    pub http_behind_proxy: bool,
}
