//! The words of the desk: what operators ask for and order, what they are answered, what the program says of itself and of what
//! happened. Types travel; text is made from them at the edge. No file, no socket, no thread.
//!
//! | module | what |
//! |---|---|
//! | [`caller`], [`access`] | [`Caller`]: who asks, and what he may |
//! | [`request`], [`order`] | [`Request`], [`Order`]: what he asks for |
//! | [`words`] | the same as typed |
//! | [`answer`] | [`Answer`], [`Failure`]: what comes of it |
//! | [`report`] | [`report::Entry`]: what happened |
//! | [`status`] | [`status::Status`]: how things stand |
//! | [`identity`] | ids of routes |
//! | [`clock`] | the one place that reads the clock |

pub mod access;
pub mod answer;
pub mod caller;
pub mod clock;
pub mod identity;
pub mod order;
pub mod report;
pub mod request;
pub mod status;
pub mod words;

pub use answer::{Answer, Failure, Outcome, Reply, Why, table};
pub use caller::Caller;
pub use order::Order;
pub use request::{Envelope, Line, Request};
