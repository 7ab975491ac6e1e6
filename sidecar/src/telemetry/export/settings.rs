//! OpenTelemetry's environment variables, as far as they concern the export of spans.

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::{ClientFiles, TlsFiles};

/// How OTLP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Grpc,
    HttpProtobuf,
}

/// Who exports, where the variables do not say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracerIdentity {
    pub service: String,
    pub namespace: String,
    /// The sidecar's id.
    pub instance: String,
}

/// Everything that the exporter needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportSettings {
    pub protocol: Protocol,
    /// For HTTP with its path.
    pub endpoint: String,
    /// Where the endpoint is `https://`.
    pub tls: Option<TlsFiles>,
    pub headers: Vec<(String, String)>,
    /// One export, its retries included.
    pub timeout: Duration,
    /// Spans that wait; more are dropped.
    pub queue_spans_max: usize,
    pub batch_spans_max: usize,
    /// How long a span waits for others to share its batch.
    pub batch_delay: Duration,
    pub resource: Vec<(String, String)>,
}

/// A variable that says something that cannot be done. Loud, since a trace that silently is missing is looked for long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("{variable} is {given:?}; it must be {expected}")]
    Malformed { variable: &'static str, given: String, expected: &'static str },
    #[error("{given} is set and {missing} is not: a certificate and its key belong together")]
    Alone { given: &'static str, missing: &'static str },
}

/// Bounds that OpenTelemetry's specification sets by default.
const QUEUE_SPANS: usize = 2_048;
const BATCH_SPANS: usize = 512;
const BATCH_DELAY_MS: u64 = 5_000;
const TIMEOUT_MS: u64 = 10_000;
const BATCH_TIMEOUT_MS: u64 = 30_000;
/// Largest queue that may be asked for, in spans of about 600 bytes: 40 MiB.
const QUEUE_SPANS_MAX: usize = 65_536;
const ENDPOINT_GRPC: &str = "http://localhost:4317";
const ENDPOINT_HTTP: &str = "http://localhost:4318";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
const TRACES_CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE";
const CLIENT_CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE";
const TRACES_CLIENT_CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE";
const CLIENT_KEY: &str = "OTEL_EXPORTER_OTLP_CLIENT_KEY";
const TRACES_CLIENT_KEY: &str = "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY";

impl ExportSettings {
    /// `None`: nothing is exported.
    pub fn from_variables(
        identity: &TracerIdentity,
        variable: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Option<Self>, SettingsError> {
        // An empty variable counts as one that is not set.
        let variables = Variables(|name| variable(name).filter(|value| !value.is_empty()));
        if variables.get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let wanted = match variables.get("OTEL_TRACES_EXPORTER").as_deref() {
            Some("none") => return Ok(None),
            Some("otlp") => true,
            None => false,
            Some(given) => return Err(malformed("OTEL_TRACES_EXPORTER", given, "otlp or none")),
        };
        if !wanted && variables.either(TRACES_ENDPOINT, ENDPOINT).is_none() {
            return Ok(None);
        }
        let protocol = variables.protocol()?;
        let timeout = variables.milliseconds(
            "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
            "OTEL_EXPORTER_OTLP_TIMEOUT",
            TIMEOUT_MS,
        )?;
        let batch_timeout =
            variables.milliseconds("OTEL_BSP_EXPORT_TIMEOUT", "OTEL_BSP_EXPORT_TIMEOUT", BATCH_TIMEOUT_MS)?;
        let queue = variables.count("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE_SPANS)?;
        let endpoint = variables.endpoint(protocol)?;
        let tls = if endpoint.starts_with("https://") { Some(variables.tls()?) } else { None };
        Ok(Some(Self {
            protocol,
            endpoint,
            tls,
            headers: variables.headers()?,
            timeout: timeout.min(batch_timeout),
            queue_spans_max: queue,
            batch_spans_max: variables.count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", BATCH_SPANS)?.min(queue),
            batch_delay: variables.milliseconds(
                "OTEL_BSP_SCHEDULE_DELAY",
                "OTEL_BSP_SCHEDULE_DELAY",
                BATCH_DELAY_MS,
            )?,
            resource: variables.resource(identity)?,
        }))
    }
}

fn malformed(variable: &'static str, given: &str, expected: &'static str) -> SettingsError {
    SettingsError::Malformed { variable, given: given.chars().take(80).collect(), expected }
}

struct Variables<F>(F);

impl<F: Fn(&'static str) -> Option<String>> Variables<F> {
    fn get(&self, name: &'static str) -> Option<String> {
        self.0(name)
    }

    /// The variable for traces alone wins over the one for every signal.
    fn either(&self, traces: &'static str, all: &'static str) -> Option<(&'static str, String)> {
        let of = |name| Some((name, self.get(name)?));
        of(traces).or_else(|| of(all))
    }

    fn protocol(&self) -> Result<Protocol, SettingsError> {
        match self.either("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL") {
            None => Ok(Protocol::HttpProtobuf),
            Some((name, value)) => match value.as_str() {
                "grpc" => Ok(Protocol::Grpc),
                "http/protobuf" => Ok(Protocol::HttpProtobuf),
                _ => Err(malformed(name, &value, "grpc or http/protobuf")),
            },
        }
    }

    /// The general endpoint gets the signal's path appended over HTTP, the one for traces is taken as it stands.
    fn endpoint(&self, protocol: Protocol) -> Result<String, SettingsError> {
        let default = match protocol {
            Protocol::Grpc => ENDPOINT_GRPC,
            Protocol::HttpProtobuf => ENDPOINT_HTTP,
        };
        let (name, given) =
            self.either(TRACES_ENDPOINT, ENDPOINT).unwrap_or_else(|| (ENDPOINT, default.to_owned()));
        let bad = malformed(name, &given, "a URL, as http://collector:4318");
        let full = match protocol {
            Protocol::HttpProtobuf if name == ENDPOINT => {
                format!("{}/v1/traces", given.trim_end_matches('/'))
            }
            // gRPC's specification allows an endpoint without a scheme.
            Protocol::Grpc if !given.contains("://") => format!("http://{given}"),
            Protocol::HttpProtobuf | Protocol::Grpc => given,
        };
        let legal = full.parse::<http::Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        });
        if legal { Ok(full) } else { Err(bad) }
    }

    /// Files are looked at when the exporter starts, not here.
    fn tls(&self) -> Result<TlsFiles, SettingsError> {
        let file = |traces, all| self.either(traces, all).map(|(_, path)| PathBuf::from(path));
        let chain = file(TRACES_CLIENT_CERTIFICATE, CLIENT_CERTIFICATE);
        let client = match (chain, file(TRACES_CLIENT_KEY, CLIENT_KEY)) {
            (Some(chain), Some(key)) => Some(ClientFiles { chain, key }),
            (None, None) => None,
            (Some(_), None) => {
                return Err(SettingsError::Alone { given: CLIENT_CERTIFICATE, missing: CLIENT_KEY });
            }
            (None, Some(_)) => {
                return Err(SettingsError::Alone { given: CLIENT_KEY, missing: CLIENT_CERTIFICATE });
            }
        };
        Ok(TlsFiles { roots: file(TRACES_CERTIFICATE, CERTIFICATE), client })
    }

    fn headers(&self) -> Result<Vec<(String, String)>, SettingsError> {
        let Some((name, given)) =
            self.either("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
        else {
            return Ok(Vec::new());
        };
        // A header may carry a credential, so an error does not repeat it.
        let bad =
            || malformed(name, "…", "legal headers, as name=value,name=value with percent-encoded values");
        let pairs = pairs(&given).ok_or_else(bad)?;
        let legal = |(key, value): &(String, String)| {
            http::HeaderName::try_from(key.as_str()).is_ok()
                && http::HeaderValue::try_from(value.as_str()).is_ok()
        };
        if pairs.iter().all(legal) { Ok(pairs) } else { Err(bad()) }
    }

    fn milliseconds(
        &self,
        traces: &'static str,
        all: &'static str,
        default: u64,
    ) -> Result<Duration, SettingsError> {
        let Some((name, given)) = self.either(traces, all) else {
            return Ok(Duration::from_millis(default));
        };
        let within = given.parse().ok().filter(|ms| (1..=600_000).contains(ms));
        within.map(Duration::from_millis).ok_or_else(|| malformed(name, &given, "1 to 600000 milliseconds"))
    }

    fn count(&self, name: &'static str, default: usize) -> Result<usize, SettingsError> {
        let Some(given) = self.get(name) else { return Ok(default) };
        let within = given.parse().ok().filter(|count| (1..=QUEUE_SPANS_MAX).contains(count));
        within.ok_or_else(|| malformed(name, &given, "1 to 65536 spans"))
    }

    /// The variables win over what the sidecar knows of itself.
    fn resource(&self, identity: &TracerIdentity) -> Result<Vec<(String, String)>, SettingsError> {
        let mut resource = vec![
            ("service.name".to_owned(), identity.service.clone()),
            ("service.namespace".to_owned(), identity.namespace.clone()),
            ("service.instance.id".to_owned(), identity.instance.clone()),
        ];
        if let Some(given) = self.get("OTEL_RESOURCE_ATTRIBUTES") {
            let bad =
                || malformed("OTEL_RESOURCE_ATTRIBUTES", &given, "key=value,key=value, percent-encoded");
            resource.extend(pairs(&given).ok_or_else(bad)?);
        }
        if let Some(name) = self.get("OTEL_SERVICE_NAME") {
            resource.push(("service.name".to_owned(), name));
        }
        let mut merged: Vec<(String, String)> = Vec::new();
        for (key, value) in resource {
            match merged.iter_mut().find(|(known, _)| *known == key) {
                Some(known) => known.1 = value,
                None => merged.push((key, value)),
            }
        }
        Ok(merged)
    }
}

/// `key=value,key=value` with percent-encoded values, as W3C Baggage without properties.
fn pairs(given: &str) -> Option<Vec<(String, String)>> {
    given
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=')?;
            let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
            let key = key.trim();
            (!key.is_empty()).then(|| (key.to_owned(), value.into_owned()))
        })
        .collect()
}
