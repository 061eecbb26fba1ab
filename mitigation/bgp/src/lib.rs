//! A BGP-4 speaker, as far as FlowSpec and blackholes need one: codec, session, routing information bases, TCP (RFC 4271, 4760,
//! 8955, 8956). It makes each peer's table equal to [`Wanted`] and knows neither attack nor policy: why a route is wanted is not its
//! business, and whether it may be sent is asked of a [`Gate`] that is handed in.
//!
//! | module | what |
//! |---|---|
//! | [`announcement`] | [`Route`], [`Announcement`], [`Wanted`] |
//! | [`gate`], [`budget`] | what may be sent, and how much of it |
//! | [`peer`] | settings of a peer |
//! | [`message`], [`attribute`] | octets |
//! | [`session`] | the state machine, pure: bytes and times in, bytes and actions out |
//! | [`adj_rib_out`], [`adj_rib_in`], [`order`] | tables, and the order of rules (RFC 8955 section 5.1) |
//! | [`tcp`] | sessions over TCP: one driver per peer |
//! | [`canary`] | who gets new routes first |
//! | [`exabgp`] | ExaBGP's command pipe instead of a session |
//! | [`router`] | a small receiving router, for `floodwall demo` and tests |

pub mod adj_rib_in;
pub mod adj_rib_out;
pub mod announcement;
pub mod attribute;
pub mod budget;
pub mod canary;
pub mod exabgp;
pub mod gate;
pub mod message;
pub mod order;
pub mod peer;
pub mod router;
pub mod session;
pub mod tcp;

pub use announcement::{Announcement, Community, ExtendedCommunity, LargeCommunity, Origin, Route, Wanted};
pub use gate::{Class, Classes, Gate};
pub use peer::{ConnectionMode, ExaBgp, Family, OnShutdown, Peer};
