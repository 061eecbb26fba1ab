//! The language of FlowSpec (RFC 8955, RFC 8956): what a rule matches, what a router does with it, how it is written and sent.
//!
//! | module | what |
//! |---|---|
//! | [`pattern`] | [`Pattern`]: a conjunction of [`Condition`]s; matching is three-valued (decision 9) |
//! | [`action`] | [`Action`], [`FlowSpec`] |
//! | [`json`] | FastNetMon's form of a rule in JSON |
//! | [`nlri`] | the octets of RFC 8955 section 4 |
//! | [`capabilities`] | [`Capabilities`]: which conditions routers can match, for whoever makes rules |
//! | [`profile`] | what one kind of router takes, and how a rule is cut to it |
//!
//! Pure, and knows no session, no attack and no policy.

pub mod action;
pub mod capabilities;
pub mod json;
pub mod nlri;
pub mod pattern;
pub mod profile;

pub use action::{Action, FlowSpec, actions_text};
pub use capabilities::Capabilities;
pub use pattern::{BitTest, Bits, Condition, Match, Pattern, PatternError, Ranges};
