//! Payments: a gRPC service, its messages written by hand so that no `protoc` is needed.
//!
//! ```proto
//! package shop;
//! service Payments {
//!   rpc Charge(ChargeRequest) returns (ChargeReply);
//!   rpc Refund(RefundRequest) returns (RefundReply);
//! }
//! ```

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use tonic::Status;
use tonic::server::{Grpc, UnaryService};
use tonic_prost::ProstCodec;

use super::fault::{FaultArgs, Faults, Verdict};
use super::serve::{App, Body};

pub const CHARGE: &str = "/shop.Payments/Charge";
const REFUND: &str = "/shop.Payments/Refund";
/// What may be charged at once, in cents: a typing error of more than that is not for a demo to book.
const AMOUNT_CENTS_MAX: u32 = 1_000_000;

#[derive(Clone, PartialEq, prost::Message)]
pub struct ChargeRequest {
    #[prost(string, tag = "1")]
    pub order: String,
    #[prost(uint32, tag = "2")]
    pub amount_cents: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ChargeReply {
    #[prost(string, tag = "1")]
    pub charge: String,
    /// Which replica took it.
    #[prost(string, tag = "2")]
    pub replica: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RefundRequest {
    #[prost(string, tag = "1")]
    pub charge: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RefundReply {
    #[prost(string, tag = "1")]
    pub refund: String,
    #[prost(string, tag = "2")]
    pub replica: String,
}

#[derive(Debug)]
pub struct Payments {
    replica: String,
    faults: Faults,
}

impl Payments {
    pub fn new(replica: String, fault: &FaultArgs) -> Self {
        Self { replica, faults: Faults::new(fault) }
    }

    async fn charge(&self, request: ChargeRequest) -> Result<ChargeReply, Status> {
        self.work().await?;
        if request.order.is_empty() || !(1..=AMOUNT_CENTS_MAX).contains(&request.amount_cents) {
            return Err(Status::invalid_argument(format!(
                "a charge names an order and 1 to {AMOUNT_CENTS_MAX} cents"
            )));
        }
        Ok(ChargeReply { charge: format!("charge-{}", request.order), replica: self.replica.clone() })
    }

    async fn refund(&self, request: RefundRequest) -> Result<RefundReply, Status> {
        self.work().await?;
        match request.charge.strip_prefix("charge-") {
            Some(order) => {
                Ok(RefundReply { refund: format!("refund-{order}"), replica: self.replica.clone() })
            }
            None => Err(Status::not_found(format!("no charge {:?} was made here", request.charge))),
        }
    }

    async fn work(&self) -> Result<(), Status> {
        match self.faults.strike().await {
            Verdict::Succeed => Ok(()),
            Verdict::Fail => Err(Status::unavailable(format!("{} lost the card network", self.replica))),
        }
    }
}

impl App for Payments {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        match request.uri().path() {
            CHARGE => Grpc::new(ProstCodec::default()).unary(Charge(self), request).await,
            REFUND => Grpc::new(ProstCodec::default()).unary(Refund(self), request).await,
            other => Status::unimplemented(format!("{other} is no method of this service")).into_http(),
        }
    }
}

type Reply<M> = Pin<Box<dyn Future<Output = Result<tonic::Response<M>, Status>> + Send>>;

struct Charge(Arc<Payments>);

impl UnaryService<ChargeRequest> for Charge {
    type Response = ChargeReply;
    type Future = Reply<ChargeReply>;

    fn call(&mut self, request: tonic::Request<ChargeRequest>) -> Self::Future {
        let payments = Arc::clone(&self.0);
        Box::pin(async move { payments.charge(request.into_inner()).await.map(tonic::Response::new) })
    }
}

struct Refund(Arc<Payments>);

impl UnaryService<RefundRequest> for Refund {
    type Response = RefundReply;
    type Future = Reply<RefundReply>;

    fn call(&mut self, request: tonic::Request<RefundRequest>) -> Self::Future {
        let payments = Arc::clone(&self.0);
        Box::pin(async move { payments.refund(request.into_inner()).await.map(tonic::Response::new) })
    }
}
