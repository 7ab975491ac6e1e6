//! `HTTPRoute` and `GRPCRoute`: Gateway API v1, verbatim, with its own limits.

use crate::units::GepDuration;

use super::metadata::{Namespace, SectionName};
use super::targets::ParentRef;
use super::{DurationWithin, Given, Int, List, Located, NotBuilt, Text};

record! {
    /// Routes HTTP requests for a service (`gateway.networking.k8s.io/v1`).
    HttpRouteSpec {
        /// Services that the route belongs to.
        "parentRefs" parent_refs: List<Located<ParentRef>, 1, 32>,
        /// Refused: a route of a service matches by the service alone.
        "hostnames" hostnames: Option<Located<List<Text<1, 253>, 0, 16>>>,
        /// Left out: one rule that matches all and has no backend.
        "rules" rules: Option<Located<List<Located<HttpRule>, 1, 16>>>,
        /// Gateways; refused.
        "useDefaultGateways" use_default_gateways: NotBuilt,
    }
}

record! {
    /// A rule. The most specific match of all routes wins.
    HttpRule {
        /// Makes the rule's id, `HTTPRoute/name#rule`; its index from 0 where it is left out.
        "name" name: Option<Located<SectionName>>,
        /// Any of these. None: all requests.
        "matches" matches: List<Located<HttpMatch>, 0, 64>,
        /// Changes of headers.
        "filters" filters: List<Located<Filter>, 0, 16>,
        /// Chosen by weight. None: 500.
        "backendRefs" backend_refs: List<Located<BackendRef>, 0, 16>,
        /// How long a request may take.
        "timeouts" timeouts: Option<Timeouts>,
        /// When it is sent again. Left out: never.
        "retry" retry: Option<Retry>,
        /// Refused.
        "sessionPersistence" session_persistence: NotBuilt,
    }
}

record! {
    /// All of it must match.
    HttpMatch {
        /// Left out: every path.
        "path" path: Option<HttpPathMatch>,
        /// Left out: every method.
        "method" method: Option<MethodWord>,
        /// All must match.
        "headers" headers: List<Located<HeaderMatch>, 0, 16>,
        /// All must match.
        "queryParams" query_params: List<Located<QueryMatch>, 0, 16>,
    }
}

record! {
    /// What the path must be.
    HttpPathMatch {
        /// `PathPrefix` where it is left out; a prefix matches whole segments.
        "type" kind: Option<PathMatchType>,
        /// `/` where it is left out.
        "value" value: Option<PathText>,
    }
}

record! {
    /// A header that must be there.
    HeaderMatch {
        /// `Exact`.
        "type" kind: Option<ValueMatchType>,
        /// In any case; each once.
        "name" name: Located<HeaderName>,
        /// The whole value.
        "value" value: HeaderValue,
    }
}

record! {
    /// A query parameter that must be there.
    QueryMatch {
        /// `Exact`.
        "type" kind: Option<ValueMatchType>,
        /// Case matters; each once.
        "name" name: Located<HeaderName>,
        /// The whole value.
        "value" value: Text<1, 1024>,
    }
}

record! {
    /// A change of a request or an answer. Each type at most once.
    Filter {
        /// Which of the keys below is given.
        "type" kind: Located<FilterType>,
        /// Headers on the way to the backend.
        "requestHeaderModifier" request_header_modifier: Given<HeaderModifier>,
        /// Headers on the way back.
        "responseHeaderModifier" response_header_modifier: Given<HeaderModifier>,
        /// Refused.
        "requestMirror" request_mirror: NotBuilt,
        /// Refused.
        "requestRedirect" request_redirect: NotBuilt,
        /// Refused.
        "urlRewrite" url_rewrite: NotBuilt,
        /// Refused.
        "cors" cors: NotBuilt,
        /// Refused.
        "externalAuth" external_auth: NotBuilt,
        /// Refused.
        "extensionRef" extension_ref: NotBuilt,
    }
}

record! {
    /// Changes of headers: `set`, then `add`, then `remove`.
    HeaderModifier {
        /// Replaces, or adds.
        "set" set: List<Located<Header>, 0, 16>,
        /// Adds to what is there.
        "add" add: List<Located<Header>, 0, 16>,
        /// Removes.
        "remove" remove: List<Located<HeaderName>, 0, 16>,
    }
}

record! {
    /// A header.
    Header {
        /// Not one that belongs to the connection or to the mesh; each once.
        "name" name: Located<HeaderName>,
        /// Its value.
        "value" value: HeaderValue,
    }
}

record! {
    /// Where requests go.
    BackendRef {
        /// `""`, or left out.
        "group" group: Option<Located<Text<0, 253>>>,
        /// `Service`, or left out.
        "kind" kind: Option<Located<Text<0, 253>>>,
        /// A declared service.
        "name" name: Located<super::metadata::DnsName>,
        /// The route's own namespace, or left out.
        "namespace" namespace: Option<Located<Namespace>>,
        /// One of the service's ports.
        "port" port: Option<Located<Int<1, 65535>>>,
        /// Its share among the rule's backends; `1` where it is left out.
        "weight" weight: Option<Int<0, 1_000_000>>,
        /// Changes of headers for this backend alone.
        "filters" filters: List<Located<Filter>, 0, 16>,
    }
}

record! {
    /// Timeouts; zero and left out mean unlimited.
    Timeouts {
        /// From the first byte of the request to the last of the answer.
        "request" request: Option<GepDuration>,
        /// One attempt at a backend; at most `request`.
        "backendRequest" backend_request: Option<Located<GepDuration>>,
    }
}

record! {
    /// Retries, of methods that are idempotent, or with an `Idempotency-Key`. After a connection failure or a reset too,
    /// whatever `codes` says.
    Retry {
        /// Answers after which is retried.
        "codes" codes: List<Int<400, 599>, 0, 64>,
        /// Retries beside the first attempt.
        "attempts" attempts: Option<Int<0, 100>>,
        /// The least wait before a retry.
        "backoff" backoff: Option<DurationWithin<0, 3_600_000>>,
    }
}

record! {
    /// Routes gRPC calls for a service (`gateway.networking.k8s.io/v1`). Retries are annotations of ours,
    /// since it has no field for them: `retry.outrider.mesh/grpc`, `/attempts`, `/backoff`, `/require-idempotency-key`.
    GrpcRouteSpec {
        /// Services that the route belongs to.
        "parentRefs" parent_refs: List<Located<ParentRef>, 1, 32>,
        /// Refused: a route of a service matches by the service alone.
        "hostnames" hostnames: Option<Located<List<Text<1, 253>, 0, 16>>>,
        /// Left out: one rule that matches all and has no backend.
        "rules" rules: Option<Located<List<Located<GrpcRule>, 0, 16>>>,
        /// Gateways; refused.
        "useDefaultGateways" use_default_gateways: NotBuilt,
    }
}

record! {
    /// A rule. The most specific match of all routes wins.
    GrpcRule {
        /// Makes the rule's id, `GRPCRoute/name#rule`; its index from 0 where it is left out.
        "name" name: Option<Located<SectionName>>,
        /// Any of these. None: all calls.
        "matches" matches: List<Located<GrpcMatch>, 0, 64>,
        /// Changes of headers.
        "filters" filters: List<Located<Filter>, 0, 16>,
        /// Chosen by weight. None: UNAVAILABLE.
        "backendRefs" backend_refs: List<Located<BackendRef>, 0, 16>,
        /// Refused.
        "sessionPersistence" session_persistence: NotBuilt,
    }
}

record! {
    /// All of it must match.
    GrpcMatch {
        /// Left out: every method of every service.
        "method" method: Option<Located<GrpcMethodMatch>>,
        /// All must match.
        "headers" headers: List<Located<HeaderMatch>, 0, 16>,
    }
}

record! {
    /// A gRPC service, a method, or both.
    GrpcMethodMatch {
        /// `Exact`.
        "type" kind: Option<ValueMatchType>,
        /// Its full name, with its package.
        "service" service: Given<GrpcServiceName>,
        /// Its name.
        "method" method: Given<GrpcMethodName>,
    }
}

choice! {
    /// How a path is compared.
    PathMatchType {
        "Exact" => Exact,
        "PathPrefix" => PathPrefix,
    } not built {
        "RegularExpression" => "accepted: Exact, PathPrefix",
    }
}

choice! {
    /// How a value is compared.
    ValueMatchType {
        "Exact" => Exact,
    } not built {
        "RegularExpression" => "accepted: Exact",
    }
}

choice! {
    /// What a filter does.
    FilterType {
        "RequestHeaderModifier" => RequestHeaderModifier,
        "ResponseHeaderModifier" => ResponseHeaderModifier,
    } not built {
        "RequestMirror" => "accepted: RequestHeaderModifier, ResponseHeaderModifier",
        "RequestRedirect" => "accepted: RequestHeaderModifier, ResponseHeaderModifier",
        "URLRewrite" => "accepted: RequestHeaderModifier, ResponseHeaderModifier",
        "CORS" => "accepted: RequestHeaderModifier, ResponseHeaderModifier",
        "ExternalAuth" => "accepted: RequestHeaderModifier, ResponseHeaderModifier",
        "ExtensionRef" => "accepted: RequestHeaderModifier, ResponseHeaderModifier",
    }
}

choice! {
    /// A method of HTTP, in the list of Gateway API.
    MethodWord {
        "GET" => Get,
        "HEAD" => Head,
        "POST" => Post,
        "PUT" => Put,
        "DELETE" => Delete,
        "CONNECT" => Connect,
        "OPTIONS" => Options,
        "TRACE" => Trace,
        "PATCH" => Patch,
    }
}

choice! {
    /// A status of gRPC.
    GrpcCodeWord {
        "CANCELLED" => Cancelled,
        "UNKNOWN" => Unknown,
        "INVALID_ARGUMENT" => InvalidArgument,
        "DEADLINE_EXCEEDED" => DeadlineExceeded,
        "NOT_FOUND" => NotFound,
        "ALREADY_EXISTS" => AlreadyExists,
        "PERMISSION_DENIED" => PermissionDenied,
        "RESOURCE_EXHAUSTED" => ResourceExhausted,
        "FAILED_PRECONDITION" => FailedPrecondition,
        "ABORTED" => Aborted,
        "OUT_OF_RANGE" => OutOfRange,
        "UNIMPLEMENTED" => Unimplemented,
        "INTERNAL" => Internal,
        "UNAVAILABLE" => Unavailable,
        "DATA_LOSS" => DataLoss,
        "UNAUTHENTICATED" => Unauthenticated,
    }
}

text! {
    /// A path.
    PathText, "a path: begins with '/', has no '//', '/./', '/../', '%2f', '%2e' or '#', and at most 1,024 characters \
that a URL's path may have",
    is_path
}

text! {
    /// A header's name, or a query parameter's.
    HeaderName, "a token (RFC 9110, section 5.6.2) of at most 256 characters",
    |given| (1..=256).contains(&given.len()) && given.bytes().all(is_token)
}

text! {
    /// A header's value.
    HeaderValue, "1 to 4,096 printable ASCII characters",
    |given| (1..=4096).contains(&given.len()) && given.bytes().all(|b| matches!(b, b' '..=b'~' | b'\t'))
}

text! {
    /// A gRPC service's full name.
    GrpcServiceName, "a gRPC service: names of letters, digits and '_' with dots between, as shop.Payments",
    |given| given.len() <= 1024 && given.strip_prefix('.').unwrap_or(given).split('.').all(is_proto_name)
}

text! {
    /// A gRPC method's name.
    GrpcMethodName, "a gRPC method: letters, digits and '_', not a digit first",
    |given| given.len() <= 1024 && is_proto_name(given)
}

impl GrpcServiceName {
    /// Without the dot that may stand in front of a full name.
    pub fn full_name(&self) -> &str {
        self.0.strip_prefix('.').unwrap_or(&self.0)
    }
}

/// Gateway API's rules for a path, and `%2e`: an encoded dot is a dot once the path is normalised.
fn is_path(given: &str) -> bool {
    let lower = given.to_ascii_lowercase();
    let pchar = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&b);
    let escapes = lower.split('%').skip(1);
    let hex = |escape: &str| escape.len() >= 2 && escape.bytes().take(2).all(|b| b.is_ascii_hexdigit());
    (1..=1024).contains(&given.len())
        && given.starts_with('/')
        && given.bytes().all(pchar)
        && escapes.into_iter().all(hex)
        && !["//", "/./", "/../", "%2f", "%2e", "#"].iter().any(|bad| lower.contains(bad))
        && !lower.ends_with("/.")
        && !lower.ends_with("/..")
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_proto_name(given: &str) -> bool {
    given.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && given.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}
