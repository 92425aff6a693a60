//! Looks for tokens in everything that is shown.

use std::error::Error;
use std::fmt::Debug;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// What must not appear, and where it was looked for.
pub(crate) struct Canary {
    needles: Vec<String>,
    shown: Vec<String>,
    log: Log,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Canary {
    /// Records all logs of this thread, down to the lowest level of every crate, and watches for the signatures
    /// of these tokens: as they are sent, and as they read before they are escaped.
    pub(crate) fn watch<const N: usize>(tokens: [&str; N]) -> Self {
        let mut needles = Vec::new();
        for token in tokens {
            let escaped =
                token.split("sig=").nth(1).and_then(|rest| rest.split('&').next()).expect("a signature");
            needles.push(escaped.to_owned());
            needles.push(escaped.replace("%2B", "+").replace("%2F", "/").replace("%3D", "="));
        }
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::level_filters::LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(log.clone())
            .finish();
        let guard = tracing::subscriber::set_default(subscriber);
        Self { needles, shown: Vec::new(), log, _guard: guard }
    }

    /// Looks at what `Debug` shows of a value.
    pub(crate) fn look_at(&mut self, value: &impl Debug) {
        self.shown.push(format!("{value:?} {value:#?}"));
    }

    /// Looks at an error and its causes in every form. A success is not interesting.
    pub(crate) fn check<T, E: Error + Clone + Into<transship_model::Failure>>(
        &mut self,
        result: Result<T, E>,
    ) {
        let Err(error) = result else { return };
        let mut text = format!("{error} {error:#} {error:?} {error:#?} {:?}", Into::into(error.clone()));
        let mut cause = error.source();
        while let Some(inner) = cause {
            text = format!("{text} {inner} {inner:#} {inner:?} {inner:#?}");
            cause = inner.source();
        }
        self.shown.push(text);
    }

    /// How much was looked at.
    pub(crate) fn seen(&self) -> usize {
        self.shown.len()
    }

    /// Fails where a signature was shown, or nothing was recorded.
    pub(crate) fn end(self) -> Result<()> {
        let log = self.log.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let log = String::from_utf8_lossy(&log);
        ensure!(log.contains("comp=block"), "the SDK's own log was not recorded");
        for needle in &self.needles {
            for text in &self.shown {
                ensure!(!text.contains(needle), "shown: {text}");
            }
            let line = log.lines().find(|line| line.contains(needle));
            ensure!(line.is_none(), "logged: {line:?}");
        }
        Ok(())
    }
}
