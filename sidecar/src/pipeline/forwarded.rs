//! Where a request from outside began: trusted proxies are believed about it, everybody else's words are taken out.
//!
//! Apps take `X-Forwarded-For` for the client's address, in logs, limits and sometimes in what they allow. Anybody can
//! write that field, so what policy does not say to believe never reaches the app, and what does reach it begins with the
//! address that was found here. Only the entries that trusted proxies wrote count: each adds one at the right end, so they
//! are read from there, and stop at the first that is no trusted proxy's: the client.

use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use outrider_shared::snapshot::{Forwarded, ForwardedHeader, TrustedProxies};
use smallvec::SmallVec;

mod element;
#[cfg(test)]
mod tests;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// What only a proxy that is believed may say beside the address.
const PREFIX: &str = "x-forwarded-";

/// How a client spoke to the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn parse(value: &str) -> Option<Self> {
        if value.eq_ignore_ascii_case("http") {
            Some(Self::Http)
        } else if value.eq_ignore_ascii_case("https") {
            Some(Self::Https)
        } else {
            None
        }
    }
}

/// The connection that a request came on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    pub address: IpAddr,
    pub scheme: Scheme,
}

/// One entry: whom a proxy says that it forwards for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    address: IpAddr,
    scheme: Option<Scheme>,
}

/// Addresses of a usual chain: client, CDN, load balancer, and one more.
type Entries = SmallVec<[Entry; 4]>;

/// Replaces what the request says of its way by what is believed of it, and returns the client's address.
pub fn settle(fields: &mut HeaderMap, hop: Hop, trust: &Forwarded) -> IpAddr {
    let hop = Hop { address: hop.address.to_canonical(), ..hop };
    let believed = believed(fields, hop.address, trust);
    let from_proxy = believed.is_some();
    let chain = believed.unwrap_or_default();
    let client = chain.first().map_or(hop.address, |entry| entry.address);
    let keeps = from_proxy && trust.header == ForwardedHeader::XForwardedFor;
    let scheme = match trust.header {
        _ if !from_proxy => None,
        ForwardedHeader::XForwardedFor => only(fields, &PROTO).and_then(Scheme::parse),
        ForwardedHeader::Forwarded => chain.first().and_then(|entry| entry.scheme),
    };
    let scheme = scheme.unwrap_or(hop.scheme);
    remove_claims(fields, keeps);
    let writes = from_proxy && trust.header == ForwardedHeader::Forwarded;
    if writes {
        let elements: Vec<String> = chain
            .iter()
            .map(|entry| element::write(entry.address, entry.scheme))
            .chain([element::write(hop.address, Some(hop.scheme))])
            .collect();
        put(fields, FORWARDED, &elements.join(", "));
    }
    let mut addresses = String::new();
    for entry in &chain {
        addresses.push_str(&entry.address.to_string());
        addresses.push_str(", ");
    }
    addresses.push_str(&hop.address.to_string());
    put(fields, FOR, &addresses);
    fields.insert(PROTO, HeaderValue::from_static(scheme.as_str()));
    client
}

/// Entries from the client's on; `None`: whoever speaks to us is no proxy that is trusted.
fn believed(fields: &HeaderMap, peer: IpAddr, trust: &Forwarded) -> Option<Entries> {
    match &trust.trusted {
        TrustedProxies::None => None,
        TrustedProxies::Hops(hops) => {
            // From the right, the last hops entries are our proxies' own; the leftmost of them names the client.
            let mut chain: Entries = last_entries(fields, trust.header)
                .take(usize::from(*hops))
                .map_while(|entry| entry)
                .collect();
            if chain.len() < usize::from(*hops) {
                // Somebody has come around a proxy, so nobody knows who wrote what.
                return None;
            }
            chain.reverse();
            Some(chain)
        }
        TrustedProxies::Networks(networks) => {
            let trusted = |address: IpAddr| networks.iter().any(|network| network.contains(address));
            if !trusted(peer) {
                return None;
            }
            let mut chain = Entries::new();
            for entry in last_entries(fields, trust.header).map_while(|entry| entry) {
                chain.push(entry);
                if !trusted(entry.address) {
                    break;
                }
            }
            chain.reverse();
            Some(chain)
        }
    }
}

/// From the last entry to the first, lines of the field counting as one list; `None` is one that names no address.
fn last_entries(fields: &HeaderMap, header: ForwardedHeader) -> impl Iterator<Item = Option<Entry>> {
    let (name, read): (_, fn(&str) -> Option<Entry>) = match header {
        ForwardedHeader::XForwardedFor => (FOR, plain),
        ForwardedHeader::Forwarded => (FORWARDED, element::read),
    };
    fields.get_all(name).iter().rev().flat_map(move |line| {
        let entries: SmallVec<[Option<Entry>; 4]> = match (line.to_str(), header) {
            (Err(_), _) => SmallVec::from_slice(&[None]),
            (Ok(line), ForwardedHeader::XForwardedFor) => line.rsplit(',').map(read).collect(),
            (Ok(line), ForwardedHeader::Forwarded) => {
                element::split(line, b',').into_iter().rev().map(read).collect()
            }
        };
        entries
    })
}

/// An entry of `X-Forwarded-For`: an address, which some proxies write with its port.
fn plain(text: &str) -> Option<Entry> {
    address(text.trim()).map(|address| Entry { address, scheme: None })
}

fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let parsed = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    parsed.map(|address: IpAddr| address.to_canonical())
}

/// The only value of a field.
fn only<'f>(fields: &'f HeaderMap, name: &HeaderName) -> Option<&'f str> {
    let mut values = fields.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then_some(first)?.to_str().ok()
}

/// Takes out the addresses in any case, and the rest where nobody is believed.
fn remove_claims(fields: &mut HeaderMap, keeps_rest: bool) {
    let claim = |name: &HeaderName| {
        *name == FORWARDED
            || *name == FOR
            || *name == PROTO
            || (!keeps_rest && (*name == REAL_IP || name.as_str().starts_with(PREFIX)))
    };
    let claims: SmallVec<[HeaderName; 4]> = fields.keys().filter(|name| claim(name)).cloned().collect();
    for name in claims {
        fields.remove(name);
    }
}

fn put(fields: &mut HeaderMap, name: HeaderName, text: &str) {
    fields.insert(name, HeaderValue::from_str(text).expect("addresses and punctuation are ASCII"));
}
