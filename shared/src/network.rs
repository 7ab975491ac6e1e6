//! An IP network, as policy names it: `10.0.0.0/8`, or one address.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// An address with the number of its leading bits that count; the others are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IpNetwork {
    address: IpAddr,
    bits: u8,
}

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadNetwork {
    #[error("{given:?} is no network: expected one as 10.0.0.0/8 or 2001:db8::/32, or an address")]
    Form { given: String },
    #[error("{given} has bits behind its first {bits}: a network's are 0")]
    HostBits { given: String, bits: u8 },
}

impl IpNetwork {
    /// An IPv4 address in its IPv6 form counts as what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        masked(address.to_canonical(), self.bits) == Some(self.address)
    }
}

/// `address` without what lies behind its first `bits`; `None` where it has fewer.
fn masked(address: IpAddr, bits: u8) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => {
            let behind = 32_u32.checked_sub(bits.into())?;
            Some(IpAddr::V4((address.to_bits() & u32::MAX.checked_shl(behind).unwrap_or(0)).into()))
        }
        IpAddr::V6(address) => {
            let behind = 128_u32.checked_sub(bits.into())?;
            Some(IpAddr::V6((address.to_bits() & u128::MAX.checked_shl(behind).unwrap_or(0)).into()))
        }
    }
}

impl FromStr for IpNetwork {
    type Err = BadNetwork;
    fn from_str(given: &str) -> Result<Self, BadNetwork> {
        let bad = || BadNetwork::Form { given: given.chars().take(80).collect() };
        let (address, bits) = match given.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (given, None),
        };
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let address = address.to_canonical();
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => whole,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().map_err(|_| bad())?
            }
            Some(_) => return Err(bad()),
        };
        match masked(address, bits) {
            None => Err(bad()),
            Some(network) if network != address => {
                Err(BadNetwork::HostBits { given: given.to_owned(), bits })
            }
            Some(_) => Ok(Self { address, bits }),
        }
    }
}

impl fmt::Display for IpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl TryFrom<String> for IpNetwork {
    type Error = BadNetwork;
    fn try_from(given: String) -> Result<Self, BadNetwork> {
        given.parse()
    }
}

impl From<IpNetwork> for String {
    fn from(network: IpNetwork) -> Self {
        network.to_string()
    }
}
