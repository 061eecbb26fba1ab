//! [`Report`]: what happened, as an operator wants to read it: the log, the replay's output and the demo's timeline.

use std::fmt;

use bgp::Route;
use detector::{Attack, Bucket, Composition, Evidence, Unit, rate_text};
use policy::{Decision, DryRun, Mitigation, Order, Refusal};
use serde::{Serialize, Serializer};
use traffic::{Prefix, Target, Time};

use crate::clock;

/// One entry of the timeline.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Seconds since the Unix epoch; recorded time in a replay.
    pub time: f64,
    /// The same by the clock that what happens is timed by: the time that names an attack.
    #[serde(skip)]
    pub at: Time,
    /// What happened.
    #[serde(flatten)]
    pub report: Report,
    /// Who ordered it, where somebody did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Order>,
}

impl Entry {
    /// An entry at a time.
    #[must_use]
    pub fn new(time: Time, report: Report) -> Self {
        Self { time: time.as_seconds(), at: time, report, by: None }
    }

    /// Moves its times, in nanoseconds: to the system's clock, for whoever reads them.
    pub fn moved(&mut self, by: i64) {
        self.time = clock::shifted(self.at, by).as_seconds();
        if let Some(order) = &mut self.by {
            order.moved(by);
        }
        if let Report::Alarm { started, .. } = &mut self.report {
            #[allow(clippy::cast_precision_loss, reason = "for people")]
            let seconds = by as f64 / 1e9;
            *started += seconds;
        }
    }

    /// Names who ordered it.
    pub fn ordered_by(&mut self, order: &Order) {
        self.by = Some(order.clone());
    }
}

/// So much a second, of packets, IP bytes or flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Of what.
    pub unit: Unit,
    /// How much of it.
    pub per_second: u64,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&rate_text(self.unit, self.per_second))
    }
}

/// A threshold that was passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Threshold {
    /// Its key in the configuration: `threshold_pps`.
    pub key: String,
    /// Its value.
    pub rate: Rate,
}

impl Threshold {
    /// That of an attack.
    #[must_use]
    pub fn of(attack: &Attack) -> Self {
        let rate = Rate { unit: attack.measure.unit, per_second: attack.threshold };
        Self { key: attack.threshold_key.clone(), rate }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.key, self.rate)
    }
}

/// In JSON these are texts.
pub(crate) fn as_text<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// A rule that the miner looked at.
#[derive(Debug, Clone, Serialize)]
pub struct CandidateReport {
    /// The rule in words.
    pub rule: String,
    /// Share of the sample's packets it covers.
    pub coverage: f64,
    /// Share of the sample's bytes it covers.
    pub coverage_bytes: f64,
    /// Share of the ordinary traffic it hits, if known.
    pub collateral: Option<f64>,
    /// Why it was taken or left.
    pub reason: String,
}

/// What happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Report {
    /// The first traffic since the start: telemetry arrives.
    FirstTraffic,
    /// A threshold was passed.
    Alarm {
        /// Whom it is about.
        target: Target,
        /// Host group whose threshold it was.
        group: String,
        /// The threshold.
        #[serde(serialize_with = "as_text")]
        threshold: Threshold,
        /// Measured rate.
        #[serde(serialize_with = "as_text")]
        rate: Rate,
        /// What the alarm rests on.
        evidence: Evidence,
        /// When the excess began.
        started: f64,
        /// A host, a prefix, a network or a group's sum.
        scope: detector::Scope,
        /// How often the attack has come back soon after its end.
        returns: u32,
    },
    /// The threshold is still passed in spite of the rules in force.
    Residual {
        /// Whom it is about.
        target: Target,
    },
    /// A sample of the attack is complete.
    BucketFull {
        /// Whom it is about.
        target: Target,
        /// Samples of the alarmed direction.
        samples: usize,
        /// Samples of the other direction.
        other_direction: usize,
        /// From opening to full.
        collected_ms: u64,
        /// What the attack is made of: sources, ports, protocols, lengths, exporters, interfaces.
        composition: Box<detector::Composition>,
    },
    /// A sample did not fill in time: taken for a false positive, as in the guide.
    Orphaned {
        /// Whom it is about.
        target: Target,
        /// Samples of the alarmed direction that were captured.
        samples: usize,
        /// Samples in both directions.
        captured: usize,
        /// Samples that would have made it full.
        wanted: usize,
    },
    /// What the miner made of a sample.
    Candidates {
        /// Whom it is about.
        target: Target,
        /// The verdict in words.
        verdict: String,
        /// Best first.
        ranking: Vec<CandidateReport>,
    },
    /// A route is announced, or would be.
    Announce {
        /// Whom it is about.
        target: Target,
        /// The route.
        #[serde(serialize_with = "as_text")]
        route: Route,
        /// Its action or communities in words.
        action: String,
        /// Share of the sample it covers.
        coverage: f64,
        /// Why it is not announced, if so.
        dry_run: Option<DryRun>,
        /// What to do about that.
        advice: Option<&'static str>,
    },
    /// A rule was not taken.
    Refused {
        /// Whom it is about.
        target: Target,
        /// The route.
        #[serde(serialize_with = "as_text")]
        route: Route,
        /// Why.
        reason: Refusal,
        /// Why, in words.
        text: &'static str,
    },
    /// A route is withdrawn.
    Withdraw {
        /// Whom it is about.
        target: Target,
        /// The route.
        #[serde(serialize_with = "as_text")]
        route: Route,
        /// Whether it never was announced.
        dry_run: Option<DryRun>,
    },
    /// A route that was in force is held back from now on.
    HeldBack {
        /// Whom it is about.
        target: Target,
        /// The route.
        #[serde(serialize_with = "as_text")]
        route: Route,
        /// Why.
        dry_run: DryRun,
        /// What to do about that.
        advice: &'static str,
    },
    /// What was in force did not help: the next step of the ladder.
    Escalated {
        /// Whom it is about.
        target: Target,
        /// The step left.
        from: &'static str,
        /// The step taken.
        to: &'static str,
    },
    /// A target's routes are away to see whether the attack goes on behind them.
    Probing {
        /// Whom it is about.
        target: Target,
    },
    /// The attack goes on: the routes are back, for longer.
    ProbeFailed {
        /// Whom it is about.
        target: Target,
        /// For how long at least.
        lasts_seconds: u64,
    },
    /// The attack is over.
    ProbePassed {
        /// Whom it is about.
        target: Target,
    },
    /// Everything was withdrawn by order.
    WithdrawnAll {
        /// Routes that were in force.
        routes: usize,
        /// Who ordered it.
        owner: String,
    },
    /// Announcing is allowed again.
    Resumed {
        /// Who ordered it.
        owner: String,
    },
    /// The state could not be written before it was announced.
    NotDurable {
        /// Why.
        reason: String,
    },
    /// So many routes of an earlier run are in force again.
    Restored {
        /// Routes.
        routes: usize,
    },
    /// A peer no longer has a route.
    TakenBack {
        /// Name of the peer.
        peer: String,
        /// The route.
        #[serde(serialize_with = "as_text")]
        route: Route,
    },
    /// A router holds the route as far as is known: it was sent over an established session (decision 16).
    Sent {
        /// Name of the peer.
        peer: String,
        /// The route.
        #[serde(serialize_with = "as_text")]
        route: Route,
    },
    /// An attack is over.
    Over {
        /// Whom it is about.
        target: Target,
        /// From the beginning of the excess to the last traffic over the threshold and the quiet time after it.
        duration_ms: u64,
        /// Highest rate.
        peak_packets_per_second: u64,
        /// Highest rate.
        peak_bytes_per_second: u64,
    },
    /// Too many targets at once: automatic announcing stopped.
    BreakerOpened {
        /// New targets in ten seconds.
        targets: usize,
    },
    /// Automatic announcing resumed.
    BreakerClosed,
    /// An exporter's sampling rate has jumped: what rests on the higher rate alone waits for approval.
    SuspectExporter {
        /// Number of the exporter in samples.
        exporter: u32,
        /// 1:N before.
        before: u32,
        /// 1:N now.
        now: u32,
    },
    /// No telemetry arrives at all: attacks and rules are frozen as they are.
    Silence,
    /// Telemetry is back.
    SilenceOver,
    /// An exporter's counters contradict the sampling rate that it announces, or no longer do.
    SuspectRate {
        /// Its address.
        exporter: std::net::IpAddr,
        /// N of the announced 1:N.
        announced: u32,
        /// N as its counters show; absent when they agree again.
        measured: Option<u32>,
    },
    /// Another configuration is in force from now on.
    Configured,
    /// The system's clock was set. Nothing that is measured or waited for goes by it.
    ClockSet {
        /// By how many seconds; negative if it was set back.
        seconds: f64,
    },
}

impl Report {
    /// A threshold was passed by this attack.
    pub fn alarm(attack: &Attack) -> Self {
        Self::Alarm {
            target: attack.target,
            group: attack.group.clone(),
            threshold: Threshold::of(attack),
            rate: Rate { unit: attack.measure.unit, per_second: attack.evidence.rate },
            evidence: attack.evidence,
            started: attack.started.as_seconds(),
            scope: attack.scope,
            returns: attack.returns,
        }
    }

    /// Its sample is complete.
    pub fn bucket_full(now: Time, target: Target, bucket: &Bucket, composition: Composition) -> Self {
        Self::BucketFull {
            target,
            samples: bucket.counted,
            other_direction: bucket.samples.len() - bucket.counted.min(bucket.samples.len()),
            collected_ms: millis(now, bucket.opened),
            composition: Box::new(composition),
        }
    }

    /// Its sample did not fill in time.
    pub fn orphaned(target: Target, bucket: &Bucket) -> Self {
        Self::Orphaned { target, samples: bucket.counted, captured: bucket.samples.len(), wanted: bucket.wanted }
    }

    /// It has ended.
    pub fn over(now: Time, attack: &Attack) -> Self {
        Self::Over {
            target: attack.target,
            duration_ms: millis(now, attack.started),
            peak_packets_per_second: attack.peak_packets_per_second,
            peak_bytes_per_second: attack.peak_bytes_per_second,
        }
    }

    /// A report may come out of a decision.
    pub fn decision(decision: &Decision) -> Self {
        match decision {
            Decision::Added(m) => Self::Announce {
                target: m.target,
                route: m.route.clone(),
                action: action_text(m),
                coverage: m.coverage,
                dry_run: m.dry_run,
                advice: m.dry_run.map(DryRun::advice),
            },
            Decision::Refused { target, route, reason } => {
                Self::Refused { target: *target, route: route.clone(), reason: *reason, text: reason.text() }
            }
            Decision::Changed(m) => match m.dry_run {
                None => Self::Announce {
                    target: m.target,
                    route: m.route.clone(),
                    action: action_text(m),
                    coverage: m.coverage,
                    dry_run: None,
                    advice: None,
                },
                Some(dry_run) => {
                    Self::HeldBack { target: m.target, route: m.route.clone(), dry_run, advice: dry_run.advice() }
                }
            },
            Decision::Escalated { target, from, to } => Self::Escalated { target: *target, from, to },
            Decision::Probing(target) => Self::Probing { target: *target },
            Decision::ProbeFailed { target, lasts } => {
                Self::ProbeFailed { target: *target, lasts_seconds: lasts.as_secs() }
            }
            Decision::ProbePassed(target) => Self::ProbePassed { target: *target },
            Decision::WithdrawnAll { routes, owner } => Self::WithdrawnAll { routes: *routes, owner: owner.clone() },
            Decision::Resumed { owner } => Self::Resumed { owner: owner.clone() },
            Decision::Removed(m) => Self::Withdraw { target: m.target, route: m.route.clone(), dry_run: m.dry_run },
            Decision::BreakerOpened { targets } => Self::BreakerOpened { targets: *targets },
            Decision::BreakerClosed => Self::BreakerClosed,
        }
    }

    /// Whom it is about.
    #[must_use]
    pub const fn target(&self) -> Option<Target> {
        match self {
            Self::Alarm { target, .. }
            | Self::Residual { target }
            | Self::BucketFull { target, .. }
            | Self::Orphaned { target, .. }
            | Self::Candidates { target, .. }
            | Self::Announce { target, .. }
            | Self::Refused { target, .. }
            | Self::Withdraw { target, .. }
            | Self::HeldBack { target, .. }
            | Self::Escalated { target, .. }
            | Self::Probing { target }
            | Self::ProbeFailed { target, .. }
            | Self::ProbePassed { target }
            | Self::Over { target, .. } => Some(*target),
            Self::FirstTraffic
            | Self::WithdrawnAll { .. }
            | Self::Resumed { .. }
            | Self::NotDurable { .. }
            | Self::Restored { .. }
            | Self::TakenBack { .. }
            | Self::Sent { .. }
            | Self::BreakerOpened { .. }
            | Self::BreakerClosed
            | Self::SuspectExporter { .. }
            | Self::Silence
            | Self::SilenceOver
            | Self::SuspectRate { .. }
            | Self::Configured
            | Self::ClockSet { .. } => None,
        }
    }

    /// Whether an operator must not miss it.
    #[must_use]
    pub const fn is_warning(&self) -> bool {
        matches!(
            self,
            Self::Alarm { .. }
                | Self::Orphaned { .. }
                | Self::Refused { .. }
                | Self::BreakerOpened { .. }
                | Self::Escalated { .. }
                | Self::WithdrawnAll { .. }
                | Self::NotDurable { .. }
                | Self::SuspectExporter { .. }
                | Self::Silence
                | Self::ClockSet { .. }
                | Self::SuspectRate { measured: Some(_), .. }
        )
    }
}

fn millis(now: Time, then: Time) -> u64 {
    u64::try_from(now.since(then).as_millis()).unwrap_or(u64::MAX)
}

/// `discard`, or the communities of a blackhole.
fn action_text(mitigation: &Mitigation) -> String {
    match mitigation.route {
        Route::FlowSpec(_) => flowspec::actions_text(&mitigation.announcement.actions),
        Route::Unicast(_) if !mitigation.is_blackhole() => mitigation.announcement.text(),
        Route::Unicast(_) => {
            let communities: Vec<String> =
                mitigation.announcement.communities.iter().map(ToString::to_string).collect();
            format!("blackhole {}", communities.join(" "))
        }
    }
}

fn host(prefix: Prefix) -> String {
    if prefix.is_host() { prefix.address().to_string() } else { prefix.to_string() }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alarm { .. }
            | Self::Residual { .. }
            | Self::BucketFull { .. }
            | Self::Orphaned { .. }
            | Self::Candidates { .. }
            | Self::Over { .. }
            | Self::FirstTraffic => self.of_attack(f),
            Self::Announce { .. }
            | Self::Refused { .. }
            | Self::Withdraw { .. }
            | Self::HeldBack { .. }
            | Self::Escalated { .. }
            | Self::Probing { .. }
            | Self::ProbeFailed { .. }
            | Self::ProbePassed { .. }
            | Self::TakenBack { .. }
            | Self::Sent { .. }
            | Self::WithdrawnAll { .. }
            | Self::Resumed { .. }
            | Self::Restored { .. }
            | Self::BreakerOpened { .. }
            | Self::BreakerClosed => self.of_route(f),
            Self::NotDurable { .. }
            | Self::SuspectExporter { .. }
            | Self::Silence
            | Self::Configured
            | Self::ClockSet { .. }
            | Self::SilenceOver
            | Self::SuspectRate { .. } => self.of_program(f),
        }
    }
}

impl Report {
    /// What is seen of an attack.
    #[allow(clippy::wildcard_enum_match_arm, reason = "Display sends each where it is written")]
    fn of_attack(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alarm { target, group, threshold, rate, evidence, .. } => write!(
                f,
                "{} {} is over {threshold} (host group {group}): {rate} from {} observations in {} ms, at least {} for sure",
                host(target.prefix),
                target.direction,
                evidence.observed,
                evidence.window_ms,
                Rate { per_second: evidence.lower_bound, ..*rate },
            ),
            Self::FirstTraffic => f.write_str("the first traffic arrives"),
            Self::Residual { target } => write!(f, "{target} is still over its threshold: looking for the next vector"),
            Self::BucketFull { target, samples, other_direction, collected_ms, composition } => write!(
                f,
                "bucket of {target} is full: {samples} samples ({other_direction} of the other direction) in {collected_ms} ms; \
                 mostly from {}, ports {} to {}, protocol {}, length {}, told by exporter {}",
                first(&composition.remote),
                first(&composition.source_ports),
                first(&composition.destination_ports),
                first(&composition.protocols),
                first(&composition.lengths),
                first(&composition.exporters),
            ),
            Self::Orphaned { target, samples, captured, wanted } => write!(
                f,
                "orphaned bucket for {}: it has {samples} of {wanted} samples in the alarmed direction and {captured} in all; \
                 it is removed, and mined as it is if the attack goes on",
                host(target.prefix)
            ),
            Self::Candidates { target, verdict, ranking } => {
                write!(f, "{target}: {verdict}")?;
                for candidate in ranking.iter().take(5) {
                    write!(f, "\n    {:5.1} %  {}  {}", candidate.coverage * 100.0, candidate.rule, candidate.reason)?;
                }
                Ok(())
            }
            Self::Over { target, duration_ms, peak_packets_per_second, peak_bytes_per_second } => write!(
                f,
                "attack on {target} is over after {:.1} s; peak {peak_packets_per_second} packets/s, {}",
                *duration_ms as f64 / 1000.0,
                rate_text(Unit::Bytes, *peak_bytes_per_second)
            ),
            _ => {
                debug_assert!(false, "written elsewhere: {self:?}");
                Ok(())
            }
        }
    }

    /// What becomes of routes.
    #[allow(clippy::wildcard_enum_match_arm, reason = "Display sends each where it is written")]
    fn of_route(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Announce { route, action, dry_run: None, coverage, .. } => {
                write!(f, "announce {route}: {action} (covers {:.1} % of the sample)", coverage * 100.0)
            }
            Self::Announce { route, action, advice, coverage, .. } => write!(
                f,
                "would announce {route}: {action} (covers {:.1} % of the sample); {}",
                coverage * 100.0,
                advice.unwrap_or("dry run")
            ),
            Self::Refused { route, text, .. } => write!(f, "refused {route}: {text}"),
            Self::Withdraw { route, dry_run: None, .. } => write!(f, "withdraw {route}"),
            Self::Withdraw { route, .. } => write!(f, "would withdraw {route} (dry run)"),
            Self::HeldBack { route, advice, .. } => write!(f, "hold back {route}: {advice}"),
            Self::Escalated { target, from, to } => {
                write!(f, "{from} does not help {target}: the next step is {to}")
            }
            Self::Probing { target } => write!(f, "probing {target}: is the attack still there behind the filter?"),
            Self::ProbeFailed { target, lasts_seconds } => {
                write!(f, "the attack on {target} is still there: its routes are back for {lasts_seconds} s at least")
            }
            Self::ProbePassed { target } => write!(f, "the attack on {target} did not come back"),
            Self::WithdrawnAll { routes, owner } => write!(
                f,
                "WITHDRAW ALL by {owner}: {routes} routes are withdrawn, and nothing is announced until announcing is enabled again"
            ),
            Self::Resumed { owner } => write!(f, "announcing is enabled again by {owner}"),
            Self::Restored { routes } => write!(f, "{routes} routes of the run before are in force again"),
            Self::TakenBack { peer, route } => write!(f, "withdrawn from {peer}: {route}"),
            Self::Sent { peer, route } => write!(f, "sent to {peer}: {route}"),
            Self::BreakerOpened { targets } => write!(
                f,
                "MASS ALARM: {targets} new targets within 10 s; blackholes, diversions and wide rules wait. Check exporters and sampling rates"
            ),
            Self::BreakerClosed => f.write_str("mass alarm is over: automatic announcing resumes"),
            _ => {
                debug_assert!(false, "written elsewhere: {self:?}");
                Ok(())
            }
        }
    }

    /// How the program and its telemetry fare.
    #[allow(clippy::wildcard_enum_match_arm, reason = "Display sends each where it is written")]
    fn of_program(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDurable { reason } => {
                write!(f, "the state is NOT DURABLE, what is announced now may be lost in a restart: {reason}")
            }
            Self::SuspectExporter { exporter, before, now } => write!(
                f,
                "SUSPECT EXPORTER: the sampling rate of exporter {exporter} jumped from 1:{before} to 1:{now}; for a minute what rests \
                 on the higher rate alone waits for approval. If that is right, nothing has to be done"
            ),
            Self::Silence => f.write_str("no telemetry arrives: attacks and rules are frozen. Check the exporters"),
            Self::Configured => f.write_str("another configuration is in force"),
            Self::ClockSet { seconds } => {
                let way = if *seconds < 0.0 { "back" } else { "forward" };
                write!(
                    f,
                    "the system's clock was set {way} by {:.1} s: nothing that is measured or waited for changes",
                    seconds.abs()
                )
            }
            Self::SilenceOver => f.write_str("telemetry is back"),
            Self::SuspectRate { exporter, announced, measured: Some(measured) } => write!(
                f,
                "SUSPECT EXPORTER: {exporter} announces sampling 1:{announced}, but its counters show 1:{measured}: its rates are wrong \
                 by that factor, and what rests on the higher one alone waits for approval. Mend its configuration, or set sampling_rates = [\"{exporter} {measured}\"]"
            ),
            Self::SuspectRate { exporter, announced, measured: None } => {
                write!(f, "exporter {exporter}: counters agree with the announced sampling 1:{announced} again")
            }
            _ => {
                debug_assert!(false, "written elsewhere: {self:?}");
                Ok(())
            }
        }
    }
}

/// The first of the most frequent values, with its share.
fn first(shares: &[detector::Share]) -> String {
    shares.first().map_or_else(|| "?".to_owned(), |s| format!("{} ({:.0} %)", s.value, s.share * 100.0))
}
