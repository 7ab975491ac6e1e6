//! The frontend: a page for people, and an API that passes on to orders.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | the page |
//! | `POST /orders` | the page's button: orders something, and leads back to the page |
//! | `/api/orders`, `/api/orders/{id}` | what orders answers |

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;

use crate::fetch::{Bounds, Fetcher, in_words};

use super::context;
use super::fault::{FaultArgs, Faults, Verdict};
use super::orders::{Listed, Taken};
use super::page::{Page, Placed, Read};
use super::reply;
use super::serve::{App, Body};

/// Orders of the page's button that are shown again.
const PLACED_MAX: usize = 10;
/// A request's or an answer's body; a list of orders takes 3 KiB.
const BODY_BYTES_MAX: usize = 64 << 10;
/// For one call of orders, body included; above the five seconds that the route gives, so that the mesh answers first.
const CALL_TIME_MAX: Duration = Duration::from_secs(8);

pub struct Frontend {
    orders: http::uri::Authority,
    client: Fetcher,
    trace_link: Option<Uri>,
    faults: Faults,
    /// Locked for a push or a copy of a few rows, never across an await.
    placed: Mutex<VecDeque<Placed>>,
}

impl Frontend {
    pub fn new(orders: &Uri, trace_link: Option<Uri>, fault: &FaultArgs) -> anyhow::Result<Self> {
        let authority = orders.authority().cloned().filter(|_| orders.scheme_str() == Some("http"));
        Ok(Self {
            orders: authority
                .with_context(|| format!("--orders {orders} is not of the form http://host:port"))?,
            client: Fetcher::new(Bounds { time_max: CALL_TIME_MAX, body_bytes_max: BODY_BYTES_MAX }),
            trace_link,
            faults: Faults::new(fault),
            placed: Mutex::new(VecDeque::with_capacity(PLACED_MAX)),
        })
    }

    /// One call of orders, on behalf of a request with these headers. The error is in words for the page.
    ///
    /// May be cancelled when the caller goes away: the connection closes with it.
    async fn call(
        &self,
        method: Method,
        path: &str,
        incoming: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Bytes>, String> {
        let uri = Uri::builder().scheme("http").authority(self.orders.clone()).path_and_query(path).build();
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri.map_err(|error| error.to_string())?;
        *request.headers_mut() = context::forwarded(incoming);
        if let Some(kind) = incoming.get(header::CONTENT_TYPE) {
            request.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
        }
        self.client.fetch(request).await.map_err(|error| in_words(&error))
    }

    async fn pass_on(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                return reply::problem(StatusCode::BAD_REQUEST, "the body was not read", error.to_string());
            }
        };
        match self.call(head.method, head.uri.path(), &head.headers, body).await {
            Ok(answer) => {
                let (mut head, body) = answer.into_parts();
                // The body has been read to its end: its length is known, and told anew.
                head.headers.remove(header::TRANSFER_ENCODING);
                head.headers.remove(header::CONTENT_LENGTH);
                head.headers.remove(header::CONNECTION);
                Response::from_parts(head, reply::body(body))
            }
            Err(why) => reply::problem(StatusCode::BAD_GATEWAY, "orders cannot be reached", why),
        }
    }

    async fn place(&self, headers: &HeaderMap) -> Response<Body> {
        let begun = Instant::now();
        let mut plain = headers.clone();
        plain.remove(header::CONTENT_TYPE);
        let answer = self.call(Method::POST, "/api/orders", &plain, Bytes::new()).await;
        let outcome = answer.and_then(|answer| match answer.status() {
            StatusCode::CREATED => {
                serde_json::from_slice::<Taken>(answer.body()).map_err(|error| error.to_string())
            }
            status => Err(format!("{status}: {}", why(answer.body()))),
        });
        let trace = context::trace_id(headers).map(str::to_owned);
        let placed = Placed { outcome, took: begun.elapsed(), trace };
        let mut latest = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.len() == PLACED_MAX {
            latest.pop_front();
        }
        latest.push_back(placed);
        reply::see_other("/")
    }

    async fn page(&self, headers: &HeaderMap) -> Response<Body> {
        let begun = Instant::now();
        let answer = self.call(Method::GET, "/api/orders", headers, Bytes::new()).await;
        let listed = answer.and_then(|answer| match answer.status() {
            StatusCode::OK => {
                serde_json::from_slice::<Listed>(answer.body()).map_err(|error| error.to_string())
            }
            status => Err(format!("{status}: {}", why(answer.body()))),
        });
        let trace = context::trace_id(headers).map(str::to_owned);
        let read = Read { listed, took: begun.elapsed(), trace };
        let placed: Vec<Placed> =
            self.placed.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect();
        reply::page(Page { placed: &placed, read: &read, trace_link: self.trace_link.as_ref() }.to_string())
    }
}

/// The reason in an answer that failed: a problem's detail, or the start of whatever it was.
fn why(body: &[u8]) -> String {
    let problem = serde_json::from_slice::<outrider_shared::join::Problem>(body);
    problem.map_or_else(
        |_| String::from_utf8_lossy(body).chars().take(200).collect(),
        |problem| problem.detail.unwrap_or(problem.title),
    )
}

impl App for Frontend {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        if self.faults.strike().await == Verdict::Fail {
            let detail = "a fault is planted here".to_owned();
            return reply::problem(StatusCode::INTERNAL_SERVER_ERROR, "the window is broken", detail);
        }
        let path = request.uri().path();
        let mut answer = match (request.method(), path) {
            (&Method::GET, "/") => self.page(request.headers()).await,
            (&Method::POST, "/orders") => self.place(request.headers()).await,
            (_, path) if path == "/api/orders" || path.starts_with("/api/orders/") => {
                self.pass_on(request).await
            }
            (_, path) => reply::not_found(path),
        };
        // Everything here changes with each request.
        answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }
}
