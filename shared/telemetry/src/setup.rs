//! Sets up logs and traces for a process, and flushes them at its end.

use std::panic;
use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{Protocol, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing::{Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, filter::FilterExt};
use url::Url;

use crate::export::SafeExporter;
use crate::log::{LogFormat, SafeLines, TextFields};
use crate::redact::redact;

/// The version of the semantic conventions that the spans follow.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.42.0";
/// How long one batch of spans may take to send.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the end of the process waits for the last spans.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// What logs and traces are like.
pub struct TracingSettings {
    /// The name of the service (`service.name` of the resource).
    pub service_name: String,
    /// How log lines look.
    pub format: LogFormat,
    /// Where spans are posted, as OTLP over HTTP in protobuf: the whole URL, such as
    /// `http://collector:4318/v1/traces`. Where there is none, nothing is exported, but contexts still travel.
    pub otlp_endpoint: Option<Url>,
    /// What is logged, in the syntax of `RUST_LOG`; `info` where there is none. Libraries that could log
    /// credentials stay at `info` whatever it says.
    pub filter: Option<String>,
}

/// Why logs and traces cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TracingError {
    /// `RUST_LOG` is not a filter.
    #[error("RUST_LOG is not a filter of log lines, such as info,transship_bus=debug")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    /// The address of the collector is not a URL.
    #[error("{variable} is not the URL of a collector, such as http://collector:4318")]
    Endpoint {
        /// The environment variable.
        variable: &'static str,
    },
    /// Another protocol than the one that is spoken here.
    #[error("{variable} asks for another protocol than http/protobuf, the one that transship speaks")]
    Protocol {
        /// The environment variable.
        variable: &'static str,
    },
    /// The exporter cannot be made.
    #[error("spans cannot be exported")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
    /// This process has its tracing already.
    #[error("tracing is set up already")]
    AlreadySetUp,
}

impl TracingSettings {
    /// Reads the variables that OpenTelemetry and Rust programs share: `RUST_LOG`, `OTEL_SERVICE_NAME`,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, their `_PROTOCOL`, and
    /// `OTEL_SDK_DISABLED`. (The exporter itself reads `OTEL_EXPORTER_OTLP_HEADERS`,
    /// `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER` and `OTEL_BSP_*`.)
    ///
    /// # Errors
    /// [`TracingError::Endpoint`] and [`TracingError::Protocol`].
    pub fn from_env(service_name: &str, format: LogFormat) -> Result<Self, TracingError> {
        Self::from_variables(service_name, format, |name| std::env::var(name).ok())
    }

    /// The same, from variables that `lookup` knows.
    ///
    /// # Errors
    /// As [`TracingSettings::from_env`].
    pub fn from_variables(
        service_name: &str,
        format: LogFormat,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, TracingError> {
        let lookup = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let disabled = lookup("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let endpoint = |variable: &'static str, path: &str| {
            lookup(variable)
                .map(|base| joined(&base, path).ok_or(TracingError::Endpoint { variable }))
                .transpose()
        };
        let otlp_endpoint = match endpoint("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")? {
            _ if disabled => None,
            Some(endpoint) => Some(endpoint),
            None => endpoint("OTEL_EXPORTER_OTLP_ENDPOINT", "/v1/traces")?,
        };
        for variable in ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
            if otlp_endpoint.is_some() && lookup(variable).is_some_and(|value| value != "http/protobuf") {
                return Err(TracingError::Protocol { variable });
            }
        }
        let service_name = lookup("OTEL_SERVICE_NAME").unwrap_or_else(|| service_name.to_owned());
        Ok(Self { service_name, format, otlp_endpoint, filter: lookup("RUST_LOG") })
    }
}

/// `base` with `path` after its own path (OpenTelemetry protocol exporter, "Endpoint URLs for OTLP/HTTP").
fn joined(base: &str, path: &str) -> Option<Url> {
    let mut url: Url = base.parse().ok()?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return None;
    }
    if !path.is_empty() {
        let whole = format!("{}{path}", url.path().trim_end_matches('/'));
        url.set_path(&whole);
    }
    Some(url)
}

/// The logs and traces of this process. Keep it until the end: the last spans are sent when it goes.
#[must_use = "the last spans are lost where this is dropped early"]
pub struct Tracing {
    provider: SdkTracerProvider,
}

impl Tracing {
    /// Sets up logs on standard error and traces, for the whole process. Panics are logged too.
    ///
    /// # Errors
    /// [`TracingError`], also where it was called before.
    pub fn init(settings: TracingSettings) -> Result<Self, TracingError> {
        let (subscriber, provider) = subscriber(&settings, std::io::stderr)?;
        tracing::subscriber::set_global_default(subscriber).map_err(|_| TracingError::AlreadySetUp)?;
        panic::set_hook(Box::new(log_panic));
        Ok(Self { provider })
    }

    /// Sends the spans that wait, for at most 5 seconds, and ends tracing. Dropping does the same.
    pub fn shutdown(self) {}
}

impl Drop for Tracing {
    fn drop(&mut self) {
        // A collector that does not answer was told when the first batch failed.
        let _ = self.provider.shutdown_with_timeout(FLUSH_TIMEOUT);
    }
}

fn log_panic(info: &panic::PanicHookInfo<'_>) {
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let message = info.payload_as_str().unwrap_or("no message");
    if tracing::enabled!(Level::ERROR) {
        tracing::error!(location, panic = message, "panicked");
    } else {
        eprintln!("panicked at {location}: {:?}", redact(message));
    }
}

/// Everything that [`Tracing::init`] sets up, writing to `writer`.
pub(crate) fn subscriber<W>(
    settings: &TracingSettings,
    writer: W,
) -> Result<(impl Subscriber + Send + Sync + use<W>, SdkTracerProvider), TracingError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let provider = provider(settings)?;
    let scope = InstrumentationScope::builder("transship")
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(SCHEMA_URL)
        .build();
    let subscriber = tracing_subscriber::registry()
        .with(span_layer(provider.tracer_with_scope(scope)))
        .with(log_layer(settings, writer)?);
    Ok((subscriber, provider))
}

/// Where there is no endpoint there is no processor either: spans get their identity, and nothing is kept.
fn provider(settings: &TracingSettings) -> Result<SdkTracerProvider, TracingError> {
    let resource = Resource::builder().with_service_name(settings.service_name.clone()).build();
    let builder = SdkTracerProvider::builder().with_resource(resource);
    let Some(endpoint) = &settings.otlp_endpoint else { return Ok(builder.build()) };
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint.as_str())
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(TracingError::Exporter)?;
    Ok(builder.with_batch_exporter(SafeExporter::new(exporter)).build())
}

/// Only spans of transship, and whatever `RUST_LOG` says: a log level must not cut traces, and the exporter's
/// own HTTP client must not trace itself.
fn span_layer<S>(tracer: SdkTracer) -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'s> LookupSpan<'s> + Send + Sync,
{
    tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(Targets::new().with_target("transship", LevelFilter::INFO))
}

fn log_layer<S, W>(
    settings: &TracingSettings,
    writer: W,
) -> Result<impl Layer<S> + Send + Sync + use<S, W>, TracingError>
where
    S: Subscriber + for<'s> LookupSpan<'s> + Send + Sync,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let chosen = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(settings.filter.as_deref().unwrap_or_default())
        .map_err(TracingError::Filter)?;
    let filter = chosen.and(floors());
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(SafeLines::new(writer, settings.format));
    Ok(match settings.format {
        LogFormat::Json => lines.json().with_current_span(false).with_filter(filter).boxed(),
        LogFormat::Text => lines.fmt_fields(TextFields).with_filter(filter).boxed(),
    })
}

/// Libraries that put URLs, headers or whole frames into what they log below `info`.
fn floors() -> Targets {
    const QUIET: [&str; 13] = [
        "amq_protocol",
        "azure_core",
        "azure_identity",
        "azure_storage_blob",
        "h2",
        "hyper",
        "hyper_util",
        "oci_client",
        "opentelemetry",
        "reqwest",
        "rustls",
        "tower",
        "typespec",
    ];
    Targets::new()
        .with_default(LevelFilter::TRACE)
        .with_targets(QUIET.map(|target| (target, LevelFilter::INFO)))
        // It logs returned messages whole, and what it reports of connections the bus reports itself.
        .with_target("lapin", LevelFilter::OFF)
}

#[cfg(test)]
mod tests;
