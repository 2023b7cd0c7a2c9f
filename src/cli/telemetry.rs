//! `--otlp`: the export of the host's spans to an OpenTelemetry collector.

use super::arguments::Telemetry;
use super::problem::Problem;

/// The exporter of spans; dropping it sends the remaining ones.
#[cfg(feature = "opentelemetry")]
pub struct Exporter(opentelemetry_sdk::trace::SdkTracerProvider);

#[cfg(feature = "opentelemetry")]
impl Drop for Exporter {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown() {
            super::problem::note(&format!("some spans were not sent: {error}"));
        }
    }
}

/// Starts the export of spans, if the command line asks for it.
#[cfg(feature = "opentelemetry")]
pub fn begin(telemetry: &Telemetry) -> Result<Option<Exporter>, Problem> {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_otlp::{SpanExporter, WithExportConfig};
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::filter::filter_fn;
    use tracing_subscriber::layer::{Layer, SubscriberExt};

    let Some(url) = &telemetry.otlp else { return Ok(None) };
    let wrong = |error: &dyn std::fmt::Display| {
        Problem::new(super::USAGE, format!("spans can't be sent to {url}: {error}"))
            .hint("the URL is that of a collector: --otlp=http://localhost:4318")
    };
    let endpoint = format!("{}/v1/traces", url.trim_end_matches('/'));
    let exporter = SpanExporter::builder().with_http().with_endpoint(endpoint).build();
    let exporter = exporter.map_err(|error| wrong(&error))?;
    let resource = Resource::builder().with_service_name("durable").build();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
    let ours = filter_fn(|of| of.target().starts_with("durable") && *of.level() <= tracing::Level::INFO);
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("durable")).with_filter(ours);
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::set_global_default(subscriber).map_err(|error| wrong(&error))?;
    Ok(Some(Exporter(provider)))
}

/// The exporter of a build without OpenTelemetry, which sends nothing.
#[cfg(not(feature = "opentelemetry"))]
pub struct Exporter;

/// Returns an error if the command line asks for the export of spans.
#[cfg(not(feature = "opentelemetry"))]
pub fn begin(telemetry: &Telemetry) -> Result<Option<Exporter>, Problem> {
    match telemetry.otlp {
        None => Ok(None),
        Some(_) => Err(Problem::new(super::USAGE, "this durable was built without OpenTelemetry")
            .hint("build it with: cargo build --release --features opentelemetry")),
    }
}
