//! TLS to the server of a database.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// Whether a connection is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tls {
    Never,
    /// Encrypted if the server offers that. Anyone may pose as the server.
    IfOffered,
    Always(Trust),
}

/// The servers that are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    Anyone,
    /// Those with a certificate of a trusted authority. `roots` is a file of authorities; without
    /// it, those of the system count.
    Chain {
        roots: Option<PathBuf>,
    },
    /// Those with such a certificate for their own name.
    Name {
        roots: Option<PathBuf>,
    },
}

/// Returns what makes the encrypted connections. Fails if the authorities can't be read.
pub(super) fn connector(tls: &Tls) -> Result<MakeRustlsConnect, String> {
    match tls {
        Tls::Never | Tls::IfOffered | Tls::Always(Trust::Anyone) => verifying(Verify::Nothing),
        Tls::Always(Trust::Chain { roots }) => verifying(Verify::Authority(read_roots(roots)?)),
        Tls::Always(Trust::Name { roots }) => verifying(Verify::Name(read_roots(roots)?)),
    }
}

/// What the certificate of a server must show.
pub(crate) enum Verify {
    Nothing,
    /// That one of these authorities has signed it.
    Authority(Arc<RootCertStore>),
    /// The authority, and the server's name.
    Name(Arc<RootCertStore>),
}

/// Returns what makes encrypted connections with such a check.
pub(crate) fn verifying(verify: Verify) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier = match &verify {
        Verify::Nothing => Lenient { known: None, provider: provider.clone() },
        Verify::Authority(roots) | Verify::Name(roots) => {
            let known = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone());
            let known = known.build().map_err(|error| format!("the certificates can't be used: {error}"))?;
            if matches!(verify, Verify::Name(_)) {
                let builder = builder(provider)?;
                let config = builder.with_webpki_verifier(known).with_no_client_auth();
                return Ok(MakeRustlsConnect::new(config));
            }
            Lenient { known: Some(known), provider: provider.clone() }
        }
    };
    let builder = builder(provider)?.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok(MakeRustlsConnect::new(builder.with_no_client_auth()))
}

type Builder = tokio_rustls::rustls::ConfigBuilder<ClientConfig, tokio_rustls::rustls::WantsVerifier>;

fn builder(provider: Arc<CryptoProvider>) -> Result<Builder, String> {
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS can't be used: {error}"))
}

/// Reads the trusted authorities.
fn read_roots(path: &Option<PathBuf>) -> Result<Arc<RootCertStore>, String> {
    let Some(path) = path else { return roots(None) };
    let shown = path.display().to_string();
    let unreadable = |error| format!("the certificates in {shown} can't be read: {error}");
    let pem = std::fs::read(path).map_err(unreadable)?;
    roots(Some((&shown, &pem)))
}

/// Returns the trusted authorities: those of a file, given its path and content, or those of the
/// system.
pub(crate) fn roots(file: Option<(&str, &[u8])>) -> Result<Arc<RootCertStore>, String> {
    let mut store = RootCertStore::empty();
    let (found, place) = match file {
        Some((shown, pem)) => {
            let unreadable = |error| format!("the certificates in {shown} can't be read: {error}");
            let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
            (found.map_err(unreadable)?, shown.to_string())
        }
        None => (rustls_native_certs::load_native_certs().certs, "the system's folder".into()),
    };
    store.add_parsable_certificates(found);
    match store.is_empty() {
        true => Err(format!("there are no certificates of authorities in {place}")),
        false => Ok(Arc::new(store)),
    }
}

/// Trusts certificates without their names, and without `known` any certificate.
#[derive(Debug)]
struct Lenient {
    known: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(known) = &self.known else { return Ok(ServerCertVerified::assertion()) };
        match known.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is checked last.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
