//! [`Telling`]: who hears what happened. A new listener is an `impl` and a line where the daemon starts.

use std::collections::VecDeque;
use std::sync::Arc;

use api::Site;
use operator::report::{Entry, Report};
use reporting::history::Recorder;
use reporting::notify::{Facts, Notifier};

/// Events kept for the status.
const EVENTS: usize = 200;

/// What is known about an event's target when it happens; made only for whoever asks.
pub(crate) type Known<'a> = &'a dyn Fn(&Report) -> Facts;

/// Hears every event, in order, on the control thread: whoever needs longer than a moment has a queue and a thread of his own.
pub(crate) trait Listener: Send {
    /// Something happened.
    fn hear(&mut self, entry: &Entry, known: Known<'_>);
}

/// Everybody who hears what happened, and the last events.
#[derive(Default)]
pub(crate) struct Telling {
    listeners: Vec<Box<dyn Listener>>,
    events: VecDeque<Entry>,
}

impl Telling {
    /// Those who hear, in this order.
    pub(crate) fn new(listeners: Vec<Box<dyn Listener>>) -> Self {
        Self { listeners, events: VecDeque::new() }
    }

    /// Tells everybody.
    pub(crate) fn tell(&mut self, entry: Entry, known: Known<'_>) {
        self.listeners.iter_mut().for_each(|listener| listener.hear(&entry, known));
        if self.events.len() >= EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(entry);
    }

    /// The last events, oldest first.
    pub(crate) fn events(&self) -> impl Iterator<Item = &Entry> {
        self.events.iter()
    }
}

/// The program's own log.
pub(crate) struct Log;

impl Listener for Log {
    fn hear(&mut self, entry: &Entry, _: Known<'_>) {
        let report = &entry.report;
        if matches!(report, Report::Candidates { .. }) {
            tracing::debug!("{report}");
        } else if report.is_warning() {
            tracing::warn!("{report}");
        } else {
            tracing::info!("{report}");
        }
    }
}

/// Streams of the API.
impl Listener for Site {
    fn hear(&mut self, entry: &Entry, _: Known<'_>) {
        api::tell(self, entry);
    }
}

impl Listener for Arc<Recorder> {
    fn hear(&mut self, entry: &Entry, _: Known<'_>) {
        self.as_ref().tell(entry);
    }
}

impl Listener for Arc<Notifier> {
    fn hear(&mut self, entry: &Entry, known: Known<'_>) {
        if self.wants(&entry.report) {
            self.as_ref().tell(entry, known(&entry.report));
        }
    }
}

/// Whoever started the daemon.
pub(crate) struct Called<F>(pub(crate) F);

impl<F: FnMut(&Entry) + Send> Listener for Called<F> {
    fn hear(&mut self, entry: &Entry, _: Known<'_>) {
        (self.0)(entry);
    }
}
