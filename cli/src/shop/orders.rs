//! Orders: an HTTP API that has each order paid before it is taken.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/orders` | the latest orders that this replica took |
//! | `GET /api/orders/{id}` | one order, at any replica |
//! | `POST /api/orders` | takes an order, `{"item":"tea","quantity":2}` or no body; 502, 503 or 504 if it is not paid |

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use rand::Rng;
use serde::{Deserialize, Serialize};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::context;
use super::fault::{FaultArgs, Faults, Verdict};
use super::payments::{CHARGE, ChargeReply, ChargeRequest};
use super::reply;
use super::serve::{App, Body};

/// What the shop sells, and for how many cents.
const CATALOGUE: [(&str, u32); 5] =
    [("tea", 450), ("coffee", 790), ("cocoa", 620), ("honey", 1_150), ("bread", 380)];
/// Of one item in one order.
const QUANTITY_MAX: u32 = 20;
/// Orders that a replica lists.
const LISTED_MAX: usize = 20;
/// An order's body is two short fields.
const BODY_BYTES_MAX: usize = 4 << 10;
/// For one charge; below the five seconds that the shop's route allows for an order.
const CHARGE_TIME_MAX: Duration = Duration::from_secs(3);

/// An order. Its id is `item-quantity-number`, so that every replica can answer for every order without a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub id: String,
    pub item: String,
    pub quantity: u32,
    pub amount_cents: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    item: String,
    quantity: u32,
}

/// An order that was just taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Taken {
    #[serde(flatten)]
    pub order: Order,
    /// The payment's id.
    pub charge: String,
    /// Which replicas did it.
    pub replica: String,
    pub paid_by: String,
}

/// `GET /api/orders`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listed {
    pub replica: String,
    pub orders: Vec<Order>,
}

impl Order {
    /// `None` for an item that is not sold, or a quantity that is not allowed.
    pub fn new(item: &str, quantity: u32, number: u32) -> Option<Self> {
        let (_, price_cents) = CATALOGUE.into_iter().find(|(sold, _)| *sold == item)?;
        (1..=QUANTITY_MAX).contains(&quantity).then(|| Self {
            id: format!("{item}-{quantity}-{number:08x}"),
            item: item.to_owned(),
            quantity,
            amount_cents: price_cents * quantity,
        })
    }

    pub fn from_id(id: &str) -> Option<Self> {
        let (rest, number) = id.rsplit_once('-')?;
        let (item, quantity) = rest.rsplit_once('-')?;
        let order = Self::new(item, quantity.parse().ok()?, u32::from_str_radix(number, 16).ok()?)?;
        (order.id == id).then_some(order)
    }

    fn any() -> Self {
        let mut random = rand::rng();
        let (item, _) = CATALOGUE[random.random_range(0..CATALOGUE.len())];
        Self::new(item, random.random_range(1..=3), random.random()).expect("the item is of the catalogue")
    }
}

pub struct Orders {
    replica: String,
    faults: Faults,
    payments: Channel,
    /// Locked for a push or a copy of a few orders, never across an await.
    latest: Mutex<VecDeque<Order>>,
}

impl Orders {
    pub fn new(payments: Uri, replica: String, fault: &FaultArgs) -> anyhow::Result<Self> {
        let endpoint = Endpoint::new(payments).context("--payments is not a URL that can be called")?;
        Ok(Self {
            replica,
            faults: Faults::new(fault),
            payments: endpoint.connect_lazy(),
            latest: Mutex::new(VecDeque::with_capacity(LISTED_MAX)),
        })
    }

    fn list(&self) -> Response<Body> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let orders = latest.iter().rev().cloned().collect();
        reply::json(StatusCode::OK, &Listed { replica: self.replica.clone(), orders })
    }

    async fn take(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let order = match Limited::new(body, BODY_BYTES_MAX).collect().await {
            Ok(body) => wished(&body.to_bytes()),
            Err(error) => Err(error.to_string()),
        };
        let order = match order {
            Ok(order) => order,
            Err(why) => {
                return reply::problem(StatusCode::UNPROCESSABLE_ENTITY, "this cannot be ordered", why);
            }
        };
        match self.charge(&order, &head.headers).await {
            Ok(paid) => {
                self.keep(order.clone());
                let replica = self.replica.clone();
                reply::json(
                    StatusCode::CREATED,
                    &Taken { order, charge: paid.charge, replica, paid_by: paid.replica },
                )
            }
            Err(status) => unpaid(&order, &status),
        }
    }

    fn keep(&self, order: Order) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.len() == LISTED_MAX {
            latest.pop_front();
        }
        latest.push_back(order);
    }

    /// May be cancelled when the caller goes away: the call is reset, and payments sees that.
    async fn charge(&self, order: &Order, incoming: &HeaderMap) -> Result<ChargeReply, Status> {
        let mut client = tonic::client::Grpc::new(self.payments.clone());
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut request =
            tonic::Request::new(ChargeRequest { order: order.id.clone(), amount_cents: order.amount_cents });
        *request.metadata_mut() = MetadataMap::from_headers(context::forwarded(incoming));
        request.set_timeout(CHARGE_TIME_MAX);
        let path = http::uri::PathAndQuery::from_static(CHARGE);
        let codec = ProstCodec::<ChargeRequest, ChargeReply>::default();
        let charged = tokio::time::timeout(CHARGE_TIME_MAX, client.unary(request, path, codec)).await;
        match charged {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("payments took too long")),
        }
    }
}

fn wished(body: &[u8]) -> Result<Order, String> {
    if body.is_empty() {
        return Ok(Order::any());
    }
    let wish: Wish = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    Order::new(&wish.item, wish.quantity, rand::rng().random()).ok_or_else(|| {
        let sold: Vec<&str> = CATALOGUE.iter().map(|(item, _)| *item).collect();
        format!("the shop sells 1 to {QUANTITY_MAX} of {}", sold.join(", "))
    })
}

/// A payment that failed, in words of HTTP.
fn unpaid(order: &Order, status: &Status) -> Response<Body> {
    let code = match status.code() {
        Code::Unavailable | Code::ResourceExhausted => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    };
    let detail = format!("order {}: payments answered {:?}: {}", order.id, status.code(), status.message());
    reply::problem(code, "the order was not paid, and not taken", detail)
}

impl App for Orders {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        if self.faults.strike().await == Verdict::Fail {
            let detail = format!("{} dropped it", self.replica);
            return reply::problem(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the order book fell off the table",
                detail,
            );
        }
        let path = request.uri().path();
        match (request.method(), path.strip_prefix("/api/orders")) {
            (&Method::GET, Some("")) => self.list(),
            (&Method::POST, Some("")) => self.take(request).await,
            (&Method::GET, Some(rest)) => match rest.strip_prefix('/').and_then(Order::from_id) {
                Some(order) => reply::json(StatusCode::OK, &order),
                None => reply::not_found(path),
            },
            _ => reply::not_found(path),
        }
    }
}
