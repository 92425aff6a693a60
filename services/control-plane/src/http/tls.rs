//! TLS for clients that speak nothing else, such as the Azure CLI. A certificate that is exchanged is used at once.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use tokio_rustls::TlsAcceptor;

/// How often the files are looked at, at most.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

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

    /// What changes when a file changes; `None` where one of them is not there.
    fn stamps(&self) -> Option<Stamps> {
        let stamp = |path: &PathBuf| {
            let metadata = path.metadata().ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        Some([stamp(&self.certificate_file)?, stamp(&self.key_file)?])
    }
}

type Stamps = [(SystemTime, u64); 2];

/// The certificate as it is in its files.
pub(super) struct Tls {
    config: TlsConfig,
    state: Mutex<State>,
}

struct State {
    acceptor: TlsAcceptor,
    stamps: Option<Stamps>,
    looked: Instant,
}

impl Tls {
    /// Reads both files for the first time: what is wrong then ends the start.
    pub(super) fn open(config: &TlsConfig) -> Result<Self, TlsError> {
        let stamps = config.stamps();
        let state = State { acceptor: config.acceptor()?, stamps, looked: Instant::now() };
        Ok(Self { config: config.clone(), state: Mutex::new(state) })
    }

    /// What the files hold now. Where that cannot be used, such as while they are being exchanged, what they held before
    /// is.
    pub(super) async fn current(&self) -> TlsAcceptor {
        let (acceptor, stamps) = {
            let mut state = self.state();
            if state.looked.elapsed() < LOOK_AGAIN {
                return state.acceptor.clone();
            }
            state.looked = Instant::now();
            (state.acceptor.clone(), state.stamps)
        };
        let config = self.config.clone();
        let read = tokio::task::spawn_blocking(move || {
            let now = config.stamps();
            (now != stamps).then(|| (now, config.acceptor()))
        });
        match read.await {
            Ok(None) | Err(_) => acceptor,
            Ok(Some((stamps, Ok(new)))) => {
                tracing::info!(file = %self.config.certificate_file.display(), "the certificate was read again");
                let mut state = self.state();
                (state.acceptor, state.stamps) = (new.clone(), stamps);
                new
            }
            Ok(Some((_, Err(error)))) => {
                tracing::warn!(%error, "the new certificate cannot be used, and the old one is");
                acceptor
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(config: &TlsConfig, name: &str) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        std::fs::write(&config.certificate_file, made.cert.pem()).unwrap();
        std::fs::write(&config.key_file, made.signing_key.serialize_pem()).unwrap();
    }

    #[tokio::test]
    async fn a_certificate_that_is_exchanged_is_used_once_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let config =
            TlsConfig { certificate_file: folder.path().join("c"), key_file: folder.path().join("k") };
        write(&config, "one.example");
        let tls = Tls::open(&config).unwrap();
        let due = || tls.state().looked = Instant::now().checked_sub(LOOK_AGAIN).unwrap();
        let used = |acceptor: TlsAcceptor| Arc::as_ptr(acceptor.config()) as usize;
        let first = used(tls.current().await);
        due();
        assert_eq!(used(tls.current().await), first, "nothing changed");
        let key = std::fs::read(&config.key_file).unwrap();
        write(&config, "a-longer-name.example");
        let (new_key, _) = (std::fs::read(&config.key_file).unwrap(), std::fs::write(&config.key_file, key));
        due();
        assert_eq!(used(tls.current().await), first, "the certificate and the key do not fit yet");
        std::fs::write(&config.key_file, new_key).unwrap();
        due();
        assert_ne!(used(tls.current().await), first);
    }
}
