//! The configuration file and its words.
