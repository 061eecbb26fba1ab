//! Floodwall.
