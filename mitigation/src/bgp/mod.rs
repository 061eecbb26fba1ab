//! BGP-4 as far as a speaker of FlowSpec and blackholes needs it: codec, session, routing information bases. Knows no attack.
//!
//! Four families (IPv4 and IPv6 unicast and FlowSpec). Everything here is pure: bytes and times in, bytes and actions out; the TCP
//! driver is `crate::announce::bgp`.

pub mod adj_rib_in;
pub mod adj_rib_out;
pub mod attribute;
pub mod message;
pub mod order;
pub mod session;
