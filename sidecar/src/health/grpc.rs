//! The messages of `grpc.health.v1.Health/Check` (grpc/doc/health-checking.md), each in gRPC's frame.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;

pub const PATH: &str = "/grpc.health.v1.Health/Check";
pub const CONTENT: &str = "application/grpc";

/// A byte that says that it is not compressed, and four of length (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX_BYTES: usize = 5;

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(enumeration = "ServingStatus", tag = "1")]
    status: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum ServingStatus {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}

/// Asks for a service; the empty one is the server as a whole.
pub fn request(service: &str) -> Bytes {
    let message = HealthCheckRequest { service: service.to_owned() };
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).expect("policy bounds the name of a service"));
    message.encode(&mut frame).expect("a BytesMut has room for everything");
    frame.freeze()
}

/// Whether the answer to a call that went well says SERVING; if not, what it says.
pub fn serving(content: &[u8]) -> Result<(), String> {
    let unreadable = || "its health cannot be read".to_owned();
    let (prefix, message) = content.split_at_checked(PREFIX_BYTES).ok_or_else(unreadable)?;
    let (compressed, length) = prefix.split_at(1);
    let whole = u32::try_from(message.len()).is_ok_and(|length_got| length == length_got.to_be_bytes());
    if compressed != [0] || !whole {
        return Err(unreadable());
    }
    let answer = HealthCheckResponse::decode(message).map_err(|_| unreadable())?;
    match answer.status() {
        ServingStatus::Serving => Ok(()),
        ServingStatus::NotServing => Err("it says NOT_SERVING".to_owned()),
        ServingStatus::ServiceUnknown => Err("it says SERVICE_UNKNOWN".to_owned()),
        ServingStatus::Unknown => Err("it says UNKNOWN".to_owned()),
    }
}
