//! [`Control`]: the control thread, the one place where the pipeline is stepped and asked. It never waits for a disk, a peer or a
//! person.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bgp::Route;
use config::Config;
use operator::identity::route_id;
use operator::report::{Entry, Report};
use operator::status::{Effect, Latest, MitigationStatus, Status, Volume};
use operator::{Caller, Outcome, clock};
use policy::Order;
use reporting::case::Case;
use reporting::export::{Exporter, Snapshot};
use reporting::history::Recorder;
use reporting::notify::{self, Facts, Notifier};
use traffic::Time;

use super::{act, show};
use crate::announcers::Announcers;
use crate::describe::{attack, peer, source};
use crate::exporters::Watch;
use crate::learned::Keeper;
use crate::pipeline::{Pipeline, Request};
use crate::plant::Job;
use crate::telling::Telling;

/// The control thread's tick.
const TICK: Duration = Duration::from_millis(50);
/// Between ticks, while a bucket fills.
const COLLECT: Duration = Duration::from_millis(2);
/// The status is refreshed this often: with what workers and ticks add, metrics are at most 0.3 s old.
const REFRESH: Duration = Duration::from_millis(150);
/// Rates of hosts, networks and groups are remembered this often.
const RATES: Duration = Duration::from_secs(reporting::history::writer::LONG_STEP.unsigned_abs());

/// The kill switch, from a signal: it works without the control thread.
pub(crate) struct Halt {
    pub(crate) asked: AtomicBool,
    pub(crate) peers: Arc<bgp::tcp::Shared>,
}

/// What the control thread owns.
pub(crate) struct Control {
    pub(crate) config: Config,
    pub(crate) pipeline: Pipeline,
    pub(crate) jobs: mpsc::Receiver<Job>,
    pub(crate) exporters: Watch,
    pub(crate) statistics: collectors::worker::Reader,
    pub(crate) announcers: Announcers,
    /// Orders carried out, whose callers wait for the store.
    pub(crate) acted: Vec<(Time, tokio::sync::oneshot::Sender<Outcome>, Outcome)>,
    pub(crate) halt: Arc<Halt>,
    pub(crate) cases: mpsc::SyncSender<Arc<Case>>,
    pub(crate) telling: Telling,
    pub(crate) recorder: Option<Arc<Recorder>>,
    pub(crate) learned: Keeper,
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) exporter: Exporter,
    pub(crate) started: Time,
    pub(crate) status: Latest,
}

impl Control {
    pub(crate) fn run(mut self, stop: &AtomicBool) {
        let mut next = clock::now();
        let mut refresh = next;
        let mut rates = next.after(RATES);
        while !stop.load(Ordering::Acquire) {
            let now = clock::now();
            let mut entries: Vec<Entry> =
                clock::look().map(|seconds| Entry::new(now, Report::ClockSet { seconds })).into_iter().collect();
            if let Some(held) = self.announcers.watch_peers(now, &self.config.mitigation.peers, &mut entries) {
                let _ = self.pipeline.request(now, Request::Held(held));
            }
            if self.halt.asked.swap(false, Ordering::AcqRel) {
                let order = Order::new("SIGUSR2", "kill switch", now, None);
                let _ = self.pipeline.request(now, Request::WithdrawAll(order));
            }
            if now >= next {
                next = now.after(TICK);
                let contradictions = self.statistics.exporters().contradictions(now);
                let _ = self.pipeline.request(now, Request::DoubtRates(contradictions));
                entries.extend(self.pipeline.step(now));
            } else {
                entries.extend(self.pipeline.collect(now));
            }
            let changed = self.announcers.offer(now, &self.pipeline, &mut entries);
            self.answer_acted(now);
            entries.iter_mut().for_each(|entry| entry.moved(clock::offset()));
            self.announcers.journal(&entries);
            for mut case in self.pipeline.take_cases() {
                case.moved(clock::offset());
                let case = Arc::new(case);
                // Before the entries: what is told of a rule holds the sample it was mined from.
                self.notifier.keep(&case);
                let _ = self.cases.try_send(case);
            }
            entries.into_iter().for_each(|entry| self.tell(entry));
            if now >= refresh || changed {
                refresh = now.after(REFRESH);
                let news = self.exporters.refresh(now, self.statistics.exporters());
                news.into_iter().for_each(|entry| self.tell(entry));
                self.status.publish(self.describe(now));
            }
            if now >= rates {
                rates = now.after(RATES);
                self.remember_rates(now);
            }
            self.learned.offer(now, self.pipeline.detector());
            let wait = match (self.pipeline.is_collecting(), self.is_quiet()) {
                (true, _) => COLLECT,
                (false, false) => TICK / 5,
                (false, true) => TICK,
            };
            self.serve(wait.min(next.since(clock::now())));
        }
        self.announcers.stop();
        self.learned.stop(self.pipeline.detector());
    }

    /// Whether nothing is under way that a look before the next tick could hasten.
    fn is_quiet(&self) -> bool {
        self.pipeline.detector().attacks().is_empty() && self.acted.is_empty() && !self.announcers.is_waiting()
    }

    /// Does what callers ask for while waiting for the next tick.
    fn serve(&mut self, wait: Duration) {
        let mut job = match self.jobs.recv_timeout(wait) {
            Ok(job) => Some(job),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                // A daemon without a control socket.
                std::thread::sleep(wait);
                None
            }
        };
        while let Some(next) = job {
            // Whoever asked may have gone.
            match next {
                Job::Ask { request, caller, reply } => {
                    let now = clock::now();
                    let outcome = self.answer(now, &request, &caller);
                    if matches!(request, operator::Request::Order(_)) && outcome.is_ok() {
                        self.acted.push((now, reply, outcome));
                    } else {
                        let _ = reply.send(outcome);
                    }
                }
                Job::Reconfigure { config, added, reply } => {
                    let now = clock::now();
                    let (detector, mitigation) = (config.detector.clone(), config.mitigation.clone());
                    let (meters, entries) = self.pipeline.reconfigure(now, detector, mitigation, added);
                    self.notifier.configure(config.notify.clone());
                    self.exporter.configure(config.export.clone());
                    self.config = *config;
                    self.announcers.reconfigured();
                    self.tell(Entry::new(now, Report::Configured));
                    entries.into_iter().for_each(|entry| self.tell(entry));
                    let _ = reply.send(meters);
                }
            }
            job = self.jobs.try_recv().ok();
        }
    }

    /// Tells callers that what they ordered is done: not before it would survive a crash.
    fn answer_acted(&mut self, now: Time) {
        let announcers = &self.announcers;
        for (_, reply, outcome) in self.acted.extract_if(.., |(since, ..)| announcers.is_settled(now, *since)) {
            // Whoever asked may have gone.
            let _ = reply.send(outcome);
        }
    }

    fn answer(&mut self, now: Time, request: &operator::Request, caller: &Caller) -> Outcome {
        match request {
            operator::Request::Order(order) => act::carry_out(&mut self.pipeline, now, caller, order),
            operator::Request::Show { category, arguments } => {
                let status = self.describe(now);
                let enforcer = self.announcers.enforcer();
                let view = show::View {
                    now: clock::wall(now),
                    pipeline: &self.pipeline,
                    status: &status,
                    config: &self.config,
                    announcers: &self.announcers,
                    enforcer: enforcer.as_ref(),
                };
                show::show(&view, category, arguments)
            }
            operator::Request::Set { .. }
            | operator::Request::Delete { .. }
            | operator::Request::Commit { .. }
            | operator::Request::Confirm
            | operator::Request::Rollback { .. }
            | operator::Request::Rebase
            | operator::Request::Reload
            | operator::Request::Complete { .. } => Err("this is not for the control thread".into()),
        }
    }

    /// Tells everybody what happened.
    fn tell(&mut self, mut entry: Entry) {
        entry.time = clock::wall(entry.at).as_seconds();
        let mut telling = std::mem::take(&mut self.telling);
        telling.tell(entry, &|report| self.facts(report));
        self.telling = telling;
    }

    /// Rates of hosts, networks and groups, for the history and for other databases.
    fn remember_rates(&self, now: Time) {
        let rates = reporting::history::rates::rates(self.pipeline.detector());
        if self.exporter.is_used() {
            let status = self.status.get();
            let totals = [
                ("incoming", status.incoming),
                ("outgoing", status.outgoing),
                ("internal", status.internal),
                ("other", status.other),
            ];
            self.exporter.give(Snapshot { time: now, totals, rates: rates.clone() });
        }
        if let Some(recorder) = &self.recorder {
            recorder.rates(rates);
        }
    }

    /// What is known about an event's target now.
    fn facts(&self, report: &Report) -> Facts {
        let (Some(target), route) = notify::message::subject(report) else { return Facts::default() };
        let detector = self.pipeline.detector();
        let networks = detector.config().networks.iter().filter(|n| n.contains(&target.prefix));
        let mitigation = self.pipeline.policy().all().find(|m| m.target == target && Some(&m.route) == route);
        Facts {
            attack: detector.attacks().get(&target).map(attack),
            mitigation: mitigation.map(|m| self.mitigation(m)),
            network: networks.max_by_key(|n| n.length()).map(ToString::to_string).unwrap_or_default(),
        }
    }

    fn describe(&self, now: Time) -> Status {
        let detector = self.pipeline.detector();
        let sum = |f: fn(&detector::counters::Shard) -> &detector::counters::Traffic| {
            detector.shards().map(|s| f(s)).fold(Volume::default(), |volume, traffic| Volume {
                packets: volume.packets.wrapping_add(traffic.packets.load(Ordering::Relaxed)),
                bytes: volume.bytes.wrapping_add(traffic.bytes.load(Ordering::Relaxed)),
            })
        };
        let seen = detector.statistics();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: now.since(self.started).as_secs_f64(),
            dry_run: !self.pipeline.policy().config().enable_ban,
            incoming: sum(|s| &s.incoming),
            outgoing: sum(|s| &s.outgoing),
            internal: sum(|s| &s.internal),
            other: sum(|s| &s.other),
            filtered: sum(|s| &s.filtered),
            dropped: sum(|s| &s.dropped),
            overflow: sum(|s| &s.overflow),
            active_hosts: seen.active_hosts,
            alarms: seen.alarms,
            orphaned_buckets: seen.orphaned,
            capture_drops: detector.shards().map(|s| s.capture_drops.load(Ordering::Relaxed)).sum(),
            sources: self.statistics.read().into_iter().map(source).collect(),
            exporters: self.exporters.read(now, &self.config.mitigation.peers),
            attacks: detector.attacks().values().map(attack).collect(),
            mitigations: self.pipeline.policy().all().map(|m| self.mitigation(m)).collect(),
            peers: self.announcers.peers().iter().map(|(name, status)| peer(now, name, status)).collect(),
            warnings: self
                .recorder
                .iter()
                .filter_map(|recorder| recorder.alarm())
                .chain(self.notifier.alarms())
                .chain(self.exporter.alarms())
                .collect(),
            halted: self.pipeline.policy().halted().is_some(),
            events: self.telling.events().map(by_wall).collect(),
        }
    }

    fn mitigation(&self, m: &policy::Mitigation) -> MitigationStatus {
        let volume = |(packets, bytes)| Volume { packets, bytes };
        let (hits, would_have_hit) = match m.dry_run {
            None => (self.pipeline.hits(m.target, &m.route), None),
            Some(_) => (None, self.pipeline.would_have_hit(m.target, &m.route)),
        };
        MitigationStatus {
            prefix: m.target.prefix,
            route: m.route.clone(),
            kind: match m.route {
                Route::FlowSpec(_) => Effect::FlowSpec,
                Route::Unicast(_) if m.is_blackhole() => Effect::Blackhole,
                Route::Unicast(_) => Effect::Diversion,
            },
            dry_run: m.dry_run,
            awaits_approval: m.dry_run.is_some_and(policy::DryRun::awaits_approval),
            since: clock::wall(m.since).as_seconds(),
            id: route_id(&m.route),
            action: m.announcement.text(),
            origin: m.announcement.origin,
            order: m.order.clone().map(|mut order| {
                order.moved(clock::offset());
                order
            }),
            ends: m.ends(self.pipeline.policy().config().ban_time).map(|ends| clock::wall(ends).as_seconds()),
            coverage: m.coverage,
            not_sent: self.announcers.not_sent(&m.route),
            rule: match &m.route {
                Route::FlowSpec(pattern) => {
                    let (pattern, actions) = (pattern.clone(), m.announcement.actions.clone());
                    Some(flowspec::json::to_value(&flowspec::FlowSpec { pattern, actions }))
                }
                Route::Unicast(_) => None,
            },
            sent_to: self.announcers.sent_to(&m.route),
            hits: hits.map(volume),
            would_have_hit: would_have_hit.map(volume),
            enforced: self.announcers.enforced(&m.route),
        }
    }
}

/// An entry as the system's clock has it at present.
fn by_wall(entry: &Entry) -> Entry {
    Entry { time: clock::wall(entry.at).as_seconds(), ..entry.clone() }
}
