//! What is counted of every exporter: one table.
//!
//! A line of it is a field of [`Statistics`](crate::Statistics) that decoders add to, a counter of every exporter, a field of
//! [`Health`](crate::Health), a key of `show exporters` and of `/api/v1/exporters` (with its line in the `OpenAPI` document), and a
//! family of metrics, `floodwall_exporter_<name>_total`. To add a counter is to write its line, and to add to the field of
//! `Statistics` where that which is counted is seen.

use std::sync::atomic::{AtomicU64, Ordering};

/// Hands the table to the macro that is named: counters and what an operator reads of them, in the order of the JSON. Those that
/// are `decoded` are counted by decoders ([`Statistics`](crate::Statistics)), an exporter's `own` where its sequence numbers are
/// compared.
#[macro_export]
macro_rules! exporter_counters {
    ($make:ident) => {
        $make! {
            decoded {
                datagrams: "Datagrams received.",
                records: "Flow records and sFlow flow samples received.",
                option_records: "Options data records.",
                counter_samples: "sFlow counter samples.",
                discard_samples: "sFlow samples of discarded packets.",
                duplicates: "Records that another interface's record tells of as well: not counted.",
                packets: "Packets, scaled by sampling.",
                bytes: "IP bytes, scaled by sampling.",
                recovered_sets: "Data sets that had no template (error no_template) until it came in time after all.",
            }
            own {
                lost_records: "Records lost on the way, by gaps in sequence numbers.",
                restarts: "Times its sequence numbers began anew.",
            }
        }
    };
}

macro_rules! counters {
    (decoded { $($name:ident: $help:tt,)* } own { $($own:ident: $own_help:tt,)* }) => {
        /// The counters of an exporter: as numbers, or as what its workers count into.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counters<T = u64> {
            $(#[doc = $help] pub $name: T,)*
            $(#[doc = $own_help] pub $own: T,)*
        }

        impl Counters<AtomicU64> {
            /// Adds what was counted between two readings.
            pub(crate) fn gain(&self, before: &Counters, after: &Counters) {
                $(add(&self.$name, after.$name.wrapping_sub(before.$name));)*
                $(add(&self.$own, after.$own.wrapping_sub(before.$own));)*
            }

            /// The numbers now.
            pub(crate) fn read(&self) -> Counters {
                Counters {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    $($own: self.$own.load(Ordering::Relaxed),)*
                }
            }
        }
    };
}

exporter_counters!(counters);

/// Adds to a counter; nothing costs nothing.
pub(crate) fn add(counter: &AtomicU64, by: u64) {
    if by > 0 {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}
