//! Sentences about the `OTEL_*` variables.

use std::path::PathBuf;
use std::time::Duration;

use crate::telemetry::{ClientFiles, ExportSettings, Protocol, SettingsError, TlsFiles, TracerIdentity};

fn settings(variables: &[(&str, &str)]) -> Result<Option<ExportSettings>, SettingsError> {
    let identity = TracerIdentity {
        service: "orders".to_owned(),
        namespace: "shop".to_owned(),
        instance: "0a1b".to_owned(),
    };
    ExportSettings::from_variables(&identity, |name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })
}

fn on(variables: &[(&str, &str)]) -> ExportSettings {
    settings(variables).expect("legal").expect("an endpoint is named")
}

#[test]
fn nothing_is_exported_unless_an_endpoint_or_the_exporter_is_named() {
    for off in [
        &[][..],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
        &[("OTEL_SERVICE_NAME", "x"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"), ("OTEL_TRACES_EXPORTER", "none")],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"), ("OTEL_SDK_DISABLED", "True")],
    ] {
        assert_eq!(settings(off), Ok(None), "{off:?}");
    }
}

#[test]
fn defaults_are_those_of_the_specification() {
    let http = on(&[("OTEL_TRACES_EXPORTER", "otlp")]);
    assert_eq!(
        (http.protocol, http.endpoint.as_str()),
        (Protocol::HttpProtobuf, "http://localhost:4318/v1/traces")
    );
    assert_eq!((http.queue_spans_max, http.batch_spans_max), (2_048, 512));
    assert_eq!((http.timeout, http.batch_delay), (Duration::from_secs(10), Duration::from_secs(5)));
    let grpc = on(&[("OTEL_TRACES_EXPORTER", "otlp"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
    assert_eq!((grpc.protocol, grpc.endpoint.as_str()), (Protocol::Grpc, "http://localhost:4317"));
}

#[test]
fn the_general_endpoint_gets_the_signals_path_and_the_one_for_traces_does_not() {
    for (variables, endpoint) in [
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")][..], "http://c:4318/v1/traces"),
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/base/")], "http://c:4318/base/v1/traces"),
        (&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:1/in")], "http://t:1/in"),
        (
            &[
                ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:1/in"),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
            ],
            "http://t:1/in",
        ),
        (
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
            "http://c:4317",
        ),
        (
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4317"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
            "http://c:4317",
        ),
    ] {
        assert_eq!(on(variables).endpoint, endpoint, "{variables:?}");
    }
}

#[test]
fn the_variable_for_traces_wins_over_the_general_one() {
    let given = on(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "9000"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "1500"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=1"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "api-key = se%20cret , b=2"),
    ]);
    assert_eq!((given.protocol, given.timeout), (Protocol::HttpProtobuf, Duration::from_millis(1_500)));
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(given.headers, [pair("api-key", "se cret"), pair("b", "2")]);
}

#[test]
fn a_batch_is_never_larger_than_the_queue_and_an_export_no_longer_than_the_batch_may_take() {
    let given = on(&[
        ("OTEL_TRACES_EXPORTER", "otlp"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "2000"),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ]);
    assert_eq!((given.queue_spans_max, given.batch_spans_max), (100, 100));
    assert_eq!((given.timeout, given.batch_delay), (Duration::from_secs(2), Duration::from_millis(50)));
}

#[test]
fn the_resource_is_the_service_unless_variables_say_otherwise() {
    let find = |given: &ExportSettings, key: &str| {
        given.resource.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone())
    };
    let plain = on(&[("OTEL_TRACES_EXPORTER", "otlp")]);
    assert_eq!(find(&plain, "service.name").as_deref(), Some("orders"));
    assert_eq!(find(&plain, "service.namespace").as_deref(), Some("shop"));
    assert_eq!(find(&plain, "service.instance.id").as_deref(), Some("0a1b"));
    let named = on(&[
        ("OTEL_TRACES_EXPORTER", "otlp"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment.name=a%2Cb"),
        ("OTEL_SERVICE_NAME", "renamed"),
    ]);
    assert_eq!(find(&named, "service.name").as_deref(), Some("renamed"));
    assert_eq!(find(&named, "deployment.environment.name").as_deref(), Some("a,b"));
    assert_eq!(named.resource.iter().filter(|(key, _)| key == "service.name").count(), 1);
}

#[test]
fn what_cannot_be_done_is_refused_by_the_variables_name() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "not a url"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://c"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "99999999"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "no-value"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "bad name=1"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=%ff"),
    ] {
        let refused = settings(&[(name, value), endpoint]).expect_err(value);
        assert!(refused.to_string().contains(name), "{refused}");
    }
}

#[test]
fn a_malformed_header_is_not_repeated_since_it_may_be_a_secret() {
    let refused = settings(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api key=hunter2"),
    ]);
    assert!(!refused.expect_err("a name with a blank").to_string().contains("hunter2"));
}

#[test]
fn https_takes_its_files_from_the_variables_and_http_none() {
    let files = [
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/pki/roots.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/pki/all.pem"),
        ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "/pki/traces.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/pki/key.pem"),
    ];
    let with = |endpoint| on(&[&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)], &files[..]].concat()).tls;
    let client = ClientFiles { chain: "/pki/traces.pem".into(), key: "/pki/key.pem".into() };
    let all = TlsFiles { roots: Some(PathBuf::from("/pki/roots.pem")), client: Some(client) };
    assert_eq!(with("https://c:4318"), Some(all));
    assert_eq!(with("http://c:4318"), None);
    assert_eq!(on(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c:4318")]).tls, Some(TlsFiles::default()));
}

#[test]
fn a_client_certificate_without_its_key_is_refused_and_so_is_a_key_alone() {
    let (certificate, key) = ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_KEY");
    for (given, missing) in [(certificate, key), (key, certificate)] {
        let refused = settings(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c:4318"), (given, "/x.pem")]);
        assert_eq!(refused, Err(SettingsError::Alone { given, missing }));
    }
}
