//! [`DomainKey`]: whose templates and sequence numbers a datagram means.

use std::net::IpAddr;

/// Which domain a datagram belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DomainKey {
    pub(crate) exporter: IpAddr,
    pub(crate) version: u16,
    pub(crate) domain: u32,
}
