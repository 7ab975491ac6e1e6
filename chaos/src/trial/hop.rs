//! An app in the middle of a chain: it calls the next one, and answers what that answered.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};

use super::backend::{plain, serve};
use super::caller::Caller;

/// What an app passes on of what a request brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Forwards {
    /// `outrider-*` fields and trace context.
    All,
    /// `traceparent` alone.
    Trace,
    Nothing,
}

impl Forwards {
    pub const ALL: [Self; 3] = [Self::All, Self::Trace, Self::Nothing];

    pub fn name(self) -> &'static str {
        match self {
            Self::All => "outrider-*",
            Self::Trace => "traceparent",
            Self::Nothing => "nothing",
        }
    }

    fn passes(self, name: &HeaderName) -> bool {
        match self {
            Self::All => {
                name.as_str().starts_with("outrider-")
                    || ["traceparent", "tracestate"].contains(&name.as_str())
            }
            Self::Trace => name == "traceparent",
            Self::Nothing => false,
        }
    }

    fn of(self, fields: &HeaderMap) -> HeaderMap {
        let passed = fields.iter().filter(|(name, _)| self.passes(name));
        passed.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HopPlan {
    pub listen: SocketAddr,
    /// Where the next app is called, and by which name.
    pub next: SocketAddr,
    pub next_host: String,
    pub forwards: Forwards,
    /// How often it tries, one after another, until something succeeds. 1: it leaves that to others.
    pub attempts: u32,
}

/// Serves until it is killed.
pub async fn run(plan: HopPlan) -> anyhow::Result<()> {
    let caller =
        Caller::new(plan.next, &plan.next_host).with_context(|| format!("the host {:?}", plan.next_host))?;
    let hop = Arc::new(Hop { caller, forwards: plan.forwards, attempts: plan.attempts });
    serve(plan.listen, move |request| {
        let hop = Arc::clone(&hop);
        async move { hop.answer(&request).await }
    })
    .await
}

struct Hop {
    caller: Caller,
    forwards: Forwards,
    attempts: u32,
}

impl Hop {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let fields = self.forwards.of(request.headers());
        let mut answer = plain(StatusCode::BAD_GATEWAY, "the next app cannot be reached");
        for _ in 0..self.attempts {
            // No time of its own: whoever waits for it goes away, and this with it.
            if let Ok(status) = self.caller.call(&fields).await {
                *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            }
            if answer.status().is_success() {
                break;
            }
        }
        answer
    }
}

#[cfg(test)]
mod tests;
