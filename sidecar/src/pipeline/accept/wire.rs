//! What one sidecar tells another beside a request, in fields that nobody else may set.
//!
//! Each has one spelling: a peer that writes another one is no sidecar that this one knows, and is refused.

use http::{HeaderMap, HeaderName, HeaderValue, Version};
use outrider_shared::ServiceId;
use outrider_shared::names::header;

/// A request that has passed so many pairs of sidecars goes round in circles.
pub const HOPS_MAX: u8 = 16;

pub static TARGET: HeaderName = HeaderName::from_static(header::TARGET);
pub static FORM: HeaderName = HeaderName::from_static(header::FORM);
pub static HOPS: HeaderName = HeaderName::from_static(header::HOPS);
/// Of a tunnel that may turn out not to be wanted.
pub static AHEAD: HeaderName = HeaderName::from_static(header::AHEAD);
pub static REFUSED: HeaderName = HeaderName::from_static(header::REFUSED);
pub static XFCC: HeaderName = HeaderName::from_static(header::XFCC);
/// Asks for the way that a request takes; answered by [`WAY`].
pub static EXPLAIN: HeaderName = HeaderName::from_static(header::EXPLAIN);
pub static WAY: HeaderName = HeaderName::from_static(header::WAY);

/// The one value of [`AHEAD`].
pub const IS_AHEAD: HeaderValue = HeaderValue::from_static("1");

/// The HTTP version in which an app spoke, which comes out again at the far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Http10,
    Http11,
    Http2,
}

impl Form {
    pub fn of(version: Version) -> Self {
        match version {
            Version::HTTP_09 | Version::HTTP_10 => Self::Http10,
            Version::HTTP_2 | Version::HTTP_3 => Self::Http2,
            _ => Self::Http11,
        }
    }

    /// As OpenTelemetry's `network.protocol.version` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }

    pub fn header(self) -> HeaderValue {
        HeaderValue::from_static(self.name())
    }

    fn parse(value: &HeaderValue) -> Option<Self> {
        match value.as_bytes() {
            b"1.0" => Some(Self::Http10),
            b"1.1" => Some(Self::Http11),
            b"2" => Some(Self::Http2),
            _ => None,
        }
    }
}

/// What a peer tells of its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What it asks for, as `namespace/name:port`.
    pub asked: HeaderValue,
    /// How its app spoke; as it speaks itself where it does not say.
    pub form: Option<Form>,
    pub hops: u8,
    pub ahead: bool,
    pub explain: bool,
}

/// Why a request is none of a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsound {
    /// A field is missing, or is spelt otherwise.
    Field,
    /// It goes round in circles.
    Loop { hops: u8 },
}

/// Reads what a peer tells.
pub fn told(fields: &HeaderMap) -> Result<Told, Unsound> {
    let form = match one(fields, &FORM)? {
        Some(form) => Some(Form::parse(form).ok_or(Unsound::Field)?),
        None => None,
    };
    let ahead = match one(fields, &AHEAD)? {
        Some(ahead) if *ahead == IS_AHEAD => true,
        Some(_) => return Err(Unsound::Field),
        None => false,
    };
    Ok(Told {
        hops: hops(fields)?,
        asked: one(fields, &TARGET)?.ok_or(Unsound::Field)?.clone(),
        form,
        ahead,
        explain: fields.contains_key(&EXPLAIN),
    })
}

/// A field that nobody may send twice.
fn one<'f>(fields: &'f HeaderMap, name: &HeaderName) -> Result<Option<&'f HeaderValue>, Unsound> {
    let mut values = fields.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(Unsound::Field) } else { Ok(first) }
}

/// How many pairs of sidecars a request has passed.
pub fn hops(fields: &HeaderMap) -> Result<u8, Unsound> {
    let Some(value) = one(fields, &HOPS)? else { return Ok(0) };
    let text = value.to_str().map_err(|_| Unsound::Field)?;
    match text.parse::<u8>() {
        Ok(hops) if hops.to_string() != text => Err(Unsound::Field),
        Ok(hops) if hops > HOPS_MAX => Err(Unsound::Loop { hops }),
        Ok(hops) => Ok(hops),
        Err(_) => Err(Unsound::Field),
    }
}

/// A target that is no local one, read for the sake of the answer.
pub fn target(value: &HeaderValue) -> Option<(ServiceId, u16)> {
    let (service, given) = value.to_str().ok()?.rsplit_once(':')?;
    Some((service.parse().ok()?, port(given)?))
}

/// A port in decimal, digits only; port 0 is none.
pub fn port(given: &str) -> Option<u16> {
    let digits = given.bytes().all(|byte| byte.is_ascii_digit());
    given.parse().ok().filter(|port| digits && *port != 0)
}

/// Whether the far sidecar says that its app never saw the request.
pub fn never_reached_app(fields: &HeaderMap) -> bool {
    was_shed(fields) || fields.get(&REFUSED).is_some_and(|mark| mark.as_bytes() == b"never-reached-app")
}

/// Whether it refused it to protect its app, which says nothing about the endpoint.
pub fn was_shed(fields: &HeaderMap) -> bool {
    fields.get(&REFUSED).is_some_and(|mark| mark.as_bytes() == b"shed")
}
