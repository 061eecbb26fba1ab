//! Recorded traffic through the same pipeline, on recorded time: what would have happened, byte for byte the same every time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use collectors::{Content, Decoder, Exporters, Recording, Statistics};
use config::Config;
use detector::Meter;
use operator::report::Entry;
use serde::Serialize;
use traffic::{Sample, Time};

use crate::pipeline::{Pipeline, Request};

/// The tick of recorded time.
const TICK: Duration = Duration::from_millis(50);
/// A longer gap in a recording is skipped: nothing happened in it.
const LONGEST_GAP: Duration = Duration::from_secs(600);
/// Seed of a replay's hash: fixed, so that the same input gives the same output.
const SEED: u64 = 1;

/// What a replay found.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// What was read.
    pub files: Vec<PathBuf>,
    /// What happened, in order.
    pub events: Vec<Entry>,
    /// Routes in force at the end (or that would be, in a dry run).
    pub mitigations: Vec<String>,
    /// Attacks not over at the end.
    pub active_attacks: Vec<String>,
    /// Traffic that was counted.
    pub totals: Totals,
    /// What each mined bucket rested on.
    #[serde(skip)]
    pub cases: Vec<reporting::case::Case>,
    /// Records of exports that are no traffic, by reason.
    pub not_counted: std::collections::BTreeMap<&'static str, collectors::Volume>,
    /// Input that was not understood, by reason.
    pub errors: std::collections::BTreeMap<&'static str, u64>,
}

/// Counted traffic, scaled by sampling.
#[derive(Debug, Default, Serialize)]
pub struct Totals {
    /// To our networks.
    pub incoming: (u64, u64),
    /// From our networks.
    pub outgoing: (u64, u64),
    /// Between our networks.
    pub internal: (u64, u64),
    /// Neither end is ours.
    pub other: (u64, u64),
    /// Taken out by rules in force.
    pub filtered: (u64, u64),
}

/// Drives a pipeline on recorded time.
struct Driver {
    pipeline: Pipeline,
    meter: Meter,
    exporters: Arc<Exporters>,
    events: Vec<Entry>,
    cases: Vec<reporting::case::Case>,
    now: Time,
    next: Option<Time>,
}

impl Driver {
    /// Steps until `time`, tick by tick.
    fn advance(&mut self, time: Time) {
        let next = *self.next.get_or_insert_with(|| {
            self.pipeline.step(time);
            time.after(TICK)
        });
        let mut next = next;
        if time.since(next) > LONGEST_GAP {
            // Let what was going on settle, then jump.
            for _ in 0..1200 {
                self.tick(next);
                next = next.after(TICK);
            }
            next = time;
        }
        while next <= time {
            self.tick(next);
            next = next.after(TICK);
        }
        self.next = Some(next);
        // Timestamps of several interfaces cross: time never goes back.
        self.now = self.now.max(time);
    }

    fn tick(&mut self, now: Time) {
        self.meter.serve(now);
        let contradictions = self.exporters.contradictions(now);
        let _ = self.pipeline.request(now, Request::DoubtRates(contradictions));
        self.events.extend(self.pipeline.step(now));
        self.cases.extend(self.pipeline.take_cases());
        self.meter.serve(now);
        if self.pipeline.is_collecting() {
            self.events.extend(self.pipeline.collect(now));
            self.cases.extend(self.pipeline.take_cases());
            self.meter.serve(now);
        }
    }
}

/// Replays capture files in the order given; exports and plain packets may be mixed.
///
/// # Errors
/// A file that cannot be read.
pub fn replay(files: &[PathBuf], config: &Config, progress: impl FnMut(&Path)) -> Result<Outcome> {
    replay_with(files, config, progress, |_| {})
}

/// As [`replay`]; `on_event` sees events as they happen.
///
/// # Errors
/// A file that cannot be read.
pub fn replay_with(
    files: &[PathBuf],
    config: &Config,
    mut progress: impl FnMut(&Path),
    mut on_event: impl FnMut(&Entry),
) -> Result<Outcome> {
    let (mut pipeline, mut meters) = Pipeline::new(config.detector.clone(), config.mitigation.clone(), 1, SEED);
    let _ = pipeline.request(Time::default(), Request::AssumeHeld);
    let meter = meters.remove(0);
    let exporters = Arc::new(Exporters::new(config.collectors.exporters.clone()));
    let mut decoder = Decoder::new(Arc::clone(&exporters));
    let (events, cases, now) = (Vec::new(), Vec::new(), Time::default());
    let mut driver = Driver { pipeline, meter, exporters, events, cases, now, next: None };
    let mut samples: Vec<Sample> = Vec::new();
    let mut reported = 0;
    for path in files {
        progress(path);
        let content = Content::of(path)?;
        let mut recording = Recording::open(path, content, decoder)?;
        loop {
            samples.clear();
            let Some(time) = recording.next(&mut samples).with_context(|| "the capture breaks off")? else { break };
            let time = time.max(driver.now);
            driver.advance(time);
            samples.iter_mut().for_each(|s| s.time = time);
            driver.meter.count(&samples);
            for entry in &driver.events[reported..] {
                on_event(entry);
            }
            reported = driver.events.len();
        }
        decoder = recording.into_decoder();
    }
    // One more second, so that what is due comes.
    driver.advance(driver.now.after(Duration::from_secs(1)));
    driver.events[reported..].iter().for_each(&mut on_event);
    Ok(outcome(files, driver, decoder.statistics()))
}

fn outcome(files: &[PathBuf], driver: Driver, statistics: &Statistics) -> Outcome {
    use std::sync::atomic::Ordering::Relaxed;
    let shard = driver.meter.shard();
    let pair = |t: &detector::counters::Traffic| (t.packets.load(Relaxed), t.bytes.load(Relaxed));
    let mitigation = |m: &policy::Mitigation| {
        let dry = if m.dry_run.is_some() { " (dry run)" } else { "" };
        format!("{}{dry}", m.route)
    };
    Outcome {
        files: files.to_vec(),
        mitigations: driver.pipeline.policy().all().map(mitigation).collect(),
        active_attacks: driver.pipeline.detector().attacks().keys().map(ToString::to_string).collect(),
        events: driver.events,
        cases: driver.cases,
        totals: Totals {
            incoming: pair(&shard.incoming),
            outgoing: pair(&shard.outgoing),
            internal: pair(&shard.internal),
            other: pair(&shard.other),
            filtered: pair(&shard.filtered),
        },
        not_counted: statistics.not_counted(),
        errors: statistics.errors(),
    }
}
