//! TLS for clients that speak nothing else, such as the Azure CLI.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use tokio_rustls::TlsAcceptor;

/// The certificate of the listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate and what signed it, in PEM, the certificate first.
    pub certificate_file: PathBuf,
    /// Its private key, in PEM.
    pub key_file: PathBuf,
}

/// Why the certificate cannot be used. Keys are never repeated.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds nothing of its kind.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The certificate and the key do not fit.
    #[error("the certificate and the key cannot be used together: {0}")]
    Pair(#[source] rustls::Error),
}

impl TlsConfig {
    /// Reads both files.
    pub(super) fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let failed = |path: &PathBuf, problem: &dyn std::fmt::Display| TlsError::File {
            path: path.clone(),
            problem: problem.to_string(),
        };
        let certificates: Vec<CertificateDer<'static>> =
            CertificateDer::pem_file_iter(&self.certificate_file)
                .and_then(Iterator::collect)
                .map_err(|error| failed(&self.certificate_file, &error))?;
        if certificates.is_empty() {
            return Err(failed(&self.certificate_file, &"it holds no certificate in PEM"));
        }
        let key =
            PrivateKeyDer::from_pem_file(&self.key_file).map_err(|error| failed(&self.key_file, &error))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Pair)?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .map_err(TlsError::Pair)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
