//! Route rules in the order in which they are tried, by Gateway API's precedence.
//!
//! Each match of each rule of each route on a port is an entry of its own, sorted once: the first entry that matches is
//! the one that the precedence names. Exact path, then the longest prefix, then (gRPC) a method of any service, then a
//! named method, then more headers, then more query parameters, then the older route, then its name, then the rule's
//! place in it.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::{HeaderName, HeaderValue};
use outrider_shared::RuleId;
use outrider_shared::route::{self, PathMatch, Route, RouteMatch, RouteRule};
use outrider_shared::snapshot::Snapshot;
use outrider_shared::traffic::Retry;
use outrider_shared::units::GepDuration;

use super::{RequestView, Target, Targets};
use crate::pipeline::headers::Changes;
use crate::pipeline::path::{Mode, Pattern};
use crate::pipeline::rejection::Rejection;

/// What applies to one request.
#[derive(Debug)]
pub struct Rule {
    /// `None` where no route is attached to the service.
    pub id: Option<RuleId>,
    pub request_headers: Changes,
    pub response_headers: Changes,
    /// From the first byte of the request to the last of the answer; `None`: unlimited.
    pub request_timeout: Option<Duration>,
    /// One attempt, from dispatch to the last byte of the answer; `None`: unlimited.
    pub backend_request_timeout: Option<Duration>,
    /// `None`: no attempt is made again.
    pub retry: Option<Retry>,
    shares: Vec<Share>,
    weight_total: u64,
}

/// One of the places that a rule sends requests to.
#[derive(Debug)]
pub struct Backend {
    pub target: Arc<Target>,
    pub request_headers: Changes,
    pub response_headers: Changes,
}

#[derive(Debug)]
struct Share {
    weight: u32,
    /// `None`: the mesh has no such service or port, and the requests of this share are refused, as Gateway API asks.
    backend: Option<Backend>,
}

#[derive(Debug)]
pub(super) struct Rules {
    entries: Vec<Entry>,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Entry {
    path: PathEntry,
    method: Option<Method>,
    headers: Vec<(HeaderName, HeaderValue)>,
    query: Vec<(Box<str>, Box<str>)>,
    rule: usize,
}

#[derive(Debug)]
enum PathEntry {
    Any,
    Exact(Pattern),
    Prefix(Pattern),
    GrpcMethod(Box<str>),
}

impl Rules {
    /// The rules that apply to requests for `asked`; what cannot be compiled goes into `reasons`.
    pub(super) fn compile(
        snapshot: &Snapshot,
        asked: &Arc<Target>,
        targets: &Targets<'_>,
        reasons: &mut Vec<String>,
    ) -> Self {
        let (routes, paths) = (&snapshot.routes, snapshot.mesh.path_normalization);
        let attached = |route: &&Route| {
            route.service == asked.service && route.port.is_none_or(|port| port == asked.port)
        };
        let mut rules = Vec::new();
        let mut sorted = Vec::new();
        for route in routes.iter().filter(attached) {
            for (place, rule) in route.rules.iter().enumerate() {
                for one in &rule.matches {
                    match Entry::compile(one, rules.len(), paths) {
                        Ok(entry) => sorted.push((entry.precedence(route, place), entry)),
                        Err(why) => reasons.push(format!("{}: {why}", rule.id)),
                    }
                }
                match Rule::compile(rule, targets) {
                    Ok(compiled) => rules.push(compiled),
                    Err(why) => reasons.push(format!("{}: {why}", rule.id)),
                }
            }
        }
        if rules.is_empty() && !routes.iter().any(|route| attached(&route)) {
            let any = Entry { path: PathEntry::Any, method: None, headers: vec![], query: vec![], rule: 0 };
            return Self { entries: vec![any], rules: vec![Rule::to_itself(asked)] };
        }
        sorted.sort_by_key(|(precedence, _)| *precedence);
        Self { entries: sorted.into_iter().map(|(_, entry)| entry).collect(), rules }
    }

    pub(super) fn find(&self, request: &RequestView<'_>) -> Option<&Rule> {
        self.entries
            .iter()
            .find(|entry| entry.differs_in(request).is_none())
            .map(|entry| &self.rules[entry.rule])
    }

    /// Why each match does not, in the order in which they are tried.
    pub(super) fn misses(&self, request: &RequestView<'_>) -> impl Iterator<Item = Miss<'_>> {
        self.entries.iter().filter_map(|entry| {
            let differs_in = entry.differs_in(request)?;
            Some(Miss { rule: self.rules[entry.rule].id.as_ref(), differs_in })
        })
    }
}

/// A match that is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Miss<'t> {
    pub rule: Option<&'t RuleId>,
    pub differs_in: Part,
}

/// What of a request a match looks at, in the order in which it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Path,
    Method,
    Header,
    Query,
}

impl Part {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Method => "method",
            Self::Header => "header",
            Self::Query => "query",
        }
    }
}

/// Smaller comes first.
type Precedence<'a> = (
    Reverse<(u8, usize)>,
    Reverse<bool>,
    Reverse<usize>,
    Reverse<usize>,
    (bool, Option<i64>),
    (&'a str, &'a RuleId),
    usize,
);

impl Entry {
    fn compile(one: &RouteMatch, rule: usize, paths: Mode) -> Result<Self, String> {
        let path = match &one.path {
            PathMatch::Any => PathEntry::Any,
            PathMatch::Exact(path) => PathEntry::Exact(Pattern::new(path, paths)),
            PathMatch::Prefix(path) => PathEntry::Prefix(Pattern::prefix(path, paths)),
            PathMatch::GrpcMethod(method) => PathEntry::GrpcMethod(method.as_str().into()),
        };
        let method = one.method.as_ref().map(|method| {
            Method::from_bytes(method.as_bytes()).map_err(|_| format!("{method:?} is no method"))
        });
        let headers = one.headers.iter().map(|(name, value)| {
            let bad = || format!("no request can have a header {name:?} with the value {value:?}");
            let name: HeaderName = name.parse().map_err(|_| bad())?;
            Ok((name, HeaderValue::from_str(value).map_err(|_| bad())?))
        });
        let query = one.query.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into()));
        Ok(Self {
            path,
            method: method.transpose()?,
            headers: headers.collect::<Result<_, String>>()?,
            query: query.collect(),
            rule,
        })
    }

    fn precedence<'a>(&self, route: &'a Route, place: usize) -> Precedence<'a> {
        let path = match &self.path {
            PathEntry::Exact(path) => (3, path.as_str().len()),
            PathEntry::Prefix(path) if !path.as_str().is_empty() => (2, path.as_str().len()),
            PathEntry::GrpcMethod(method) => (1, method.len()),
            // The prefix `/` is what Gateway API puts where no path is given.
            PathEntry::Prefix(_) | PathEntry::Any => (0, 0),
        };
        // The id begins with the kind, and a route's name breaks the tie.
        let name = route.id.as_str().split_once('/').map_or(route.id.as_str(), |(_, name)| name);
        (
            Reverse(path),
            Reverse(self.method.is_some()),
            Reverse(self.headers.len()),
            Reverse(self.query.len()),
            (route.created_unix_s.is_none(), route.created_unix_s),
            (name, &route.id),
            place,
        )
    }

    /// The first part in which a request is not what is asked for; `None`: it matches.
    fn differs_in(&self, request: &RequestView<'_>) -> Option<Part> {
        if !self.path.matches(request.path()) {
            return Some(Part::Path);
        }
        if self.method.as_ref().is_some_and(|method| method != request.method()) {
            return Some(Part::Method);
        }
        if !self.headers.iter().all(|(name, value)| has_header(request, name, value)) {
            return Some(Part::Header);
        }
        let query = request.query();
        let fits = self.query.iter().all(|(name, value)| has_parameter(query, name, value));
        (!fits).then_some(Part::Query)
    }
}

impl PathEntry {
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact.equals(path),
            Self::Prefix(prefix) => prefix.is_prefix_of(path),
            Self::GrpcMethod(method) => path
                .strip_prefix('/')
                .and_then(|rest| rest.split_once('/'))
                .is_some_and(|(_, asked)| *asked == **method),
        }
    }
}

/// One of the field's lines has exactly this value.
fn has_header(request: &RequestView<'_>, name: &HeaderName, value: &HeaderValue) -> bool {
    request.headers().get_all(name).iter().any(|given| given == value)
}

/// The first parameter of this name has exactly this value; both are compared decoded.
fn has_parameter(query: Option<&str>, name: &str, value: &str) -> bool {
    let parameters = query.unwrap_or_default().split('&');
    let mut pairs = parameters.map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")));
    pairs.find(|(given, _)| decodes_to(given, name)).is_some_and(|(_, given)| decodes_to(given, value))
}

/// As forms are encoded: `+` is a space. An escape that is none stands for itself.
fn decodes_to(given: &str, wanted: &str) -> bool {
    let mut rest = given.as_bytes();
    for want in wanted.bytes() {
        let escape = match rest {
            [b'%', high, low, ..] => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        let (byte, len) = match (escape, rest.first()) {
            (Some(byte), _) => (byte, 3),
            (None, Some(b'+')) => (b' ', 1),
            (None, Some(byte)) => (*byte, 1),
            (None, None) => return false,
        };
        if byte != want {
            return false;
        }
        rest = &rest[len..];
    }
    rest.is_empty()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

impl Rule {
    fn compile(rule: &RouteRule, targets: &Targets<'_>) -> Result<Self, crate::pipeline::headers::BadChange> {
        let share = |backend: &route::Backend| {
            let target = targets.get(&(&backend.service, backend.port));
            let compiled = target.map(|target| {
                Ok(Backend {
                    target: Arc::clone(target),
                    request_headers: Changes::compile(&backend.request_headers)?,
                    response_headers: Changes::compile(&backend.response_headers)?,
                })
            });
            Ok(Share { weight: backend.weight, backend: compiled.transpose()? })
        };
        Ok(Self {
            id: Some(rule.id.clone()),
            request_headers: Changes::compile(&rule.request_headers)?,
            response_headers: Changes::compile(&rule.response_headers)?,
            request_timeout: limited(rule.request_timeout),
            backend_request_timeout: limited(rule.backend_request_timeout),
            retry: rule.retry.clone().filter(|retry| retry.attempts > 0),
            weight_total: rule.backends.iter().map(|backend| u64::from(backend.weight)).sum(),
            shares: rule.backends.iter().map(share).collect::<Result<_, _>>()?,
        })
    }

    fn to_itself(asked: &Arc<Target>) -> Self {
        let backend = Backend {
            target: Arc::clone(asked),
            request_headers: Changes::default(),
            response_headers: Changes::default(),
        };
        Self {
            id: None,
            request_headers: Changes::default(),
            response_headers: Changes::default(),
            request_timeout: None,
            backend_request_timeout: None,
            retry: None,
            shares: vec![Share { weight: 1, backend: Some(backend) }],
            weight_total: 1,
        }
    }

    /// A backend by weight; `random` is uniform over all values.
    pub fn choose(&self, random: u32) -> Result<&Backend, Rejection> {
        if self.weight_total == 0 {
            let why = if self.shares.is_empty() { "it names none" } else { "all weights are 0" };
            return Err(Rejection::NoBackend { why });
        }
        // The random number as a fraction of one, times the total: below the total, so one share holds it.
        let scaled = (u128::from(random) * u128::from(self.weight_total)) >> u32::BITS;
        let mut below = 0;
        let share = self.shares.iter().find(|share| {
            below += u128::from(share.weight);
            scaled < below
        });
        share
            .and_then(|share| share.backend.as_ref())
            .ok_or(Rejection::NoBackend { why: "the mesh has no such service or port" })
    }
}

fn limited(timeout: Option<GepDuration>) -> Option<Duration> {
    timeout.map(GepDuration::get).filter(|limit| !limit.is_zero())
}
