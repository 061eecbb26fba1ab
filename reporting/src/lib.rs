//! What happened, told to people and kept on disks. None of it reaches the control thread or BGP: each has a queue with an end and
//! a thread of its own, and what hangs or fills up costs the telling, never the protection.
//!
//! | module | what |
//! |---|---|
//! | [`notify`] | channels: mail, scripts, web hooks, chats, syslog |
//! | [`history`] | rates and attacks over weeks, in SQLite |
//! | [`export`] | counters to InfluxDB and Graphite |
//! | [`case`] | a mining run as a file that can be mined again |
//! | [`files`] | files that are replaced as a whole |
//! | [`evidence`] | captures and reports of a past attack |

pub mod case;
pub mod evidence;
pub mod export;
pub mod files;
pub mod history;
pub mod notify;
