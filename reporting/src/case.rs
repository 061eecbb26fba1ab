//! [`Case`]: everything one decision rested on, as versioned JSON: what was measured tick by tick, the bucket, the ordinary traffic
//! it was compared with, and what came of it. `floodwall replay CASE` decides anew from the same and must come to the same.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use detector::{Attack, Evidence, Recorded, Unit};
use flowspec::{Capabilities, Match, Pattern, nlri};
use serde::{Deserialize, Serialize};
use traffic::{Direction, Fields, IpVersion, Origin, Prefix, Sample, Target, Time};

/// The version this program writes, and the only one it reads.
pub const VERSION: u32 = 1;
/// Cases kept in a directory at most; the oldest go first.
pub const MAX_CASES: usize = 1000;

/// A mining run with its sample, written as JSON so that it can be mined again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// [`VERSION`].
    pub floodwall_case: u32,
    /// Version of the program that wrote it.
    pub program: String,
    /// Seconds since the Unix epoch.
    pub time: f64,
    /// Own prefix.
    pub prefix: String,
    /// `incoming` or `outgoing`.
    pub direction: String,
    /// Why there was an alarm.
    pub detection: Detection,
    /// What the attack was made of, in words.
    pub composition: serde_json::Value,
    /// What was mined.
    pub mining: Mining,
    /// What came of it.
    pub decision: Decision,
}

/// Why there was an alarm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// `host`, `prefix`, `network` or `group`.
    pub scope: String,
    /// Host group.
    pub group: String,
    /// Key of the threshold that was passed.
    pub threshold_key: String,
    /// `packets`, `bytes` or `flows`.
    pub unit: String,
    /// In units per second.
    pub threshold: u64,
    /// Excess that is tolerated, as milliseconds at the threshold.
    pub burst_tolerance_ms: u64,
    /// What the alarm rested on.
    pub evidence: Evidence,
    /// When the excess began, in seconds since the Unix epoch.
    pub started: f64,
    /// When the alarm was raised.
    pub detected: f64,
    /// What was measured since the excess began.
    pub measured: Recorded,
}

/// What was mined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mining {
    /// Coverage counts bytes, not packets.
    pub by_bytes: bool,
    /// Share that has to be covered.
    pub enough: f64,
    /// Packets per second of the sample.
    pub sample_pps: Option<f64>,
    /// Packets per second of the ordinary traffic.
    pub baseline_pps: Option<f64>,
    /// Packets per second that the target can carry.
    pub capacity_pps: Option<f64>,
    /// Rules at most.
    pub max_rules: usize,
    /// What the routers can match.
    pub capabilities: Capabilities,
    /// Rules in force already, as NLRI in hexadecimal (RFC 8955 section 4).
    pub excluded: Vec<String>,
    /// The bucket.
    pub sample: Vec<Row>,
    /// Ordinary traffic.
    pub baseline: Vec<Row>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The miner's verdict in words.
    pub verdict: String,
    /// Rules in words, best first.
    pub rules: Vec<String>,
    /// What the policy made of them, in words.
    pub actions: Vec<String>,
}

/// A sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Nanoseconds since the Unix epoch.
    pub time: u64,
    /// Source address.
    pub source: std::net::IpAddr,
    /// Destination address.
    pub destination: std::net::IpAddr,
    /// IP protocol.
    pub protocol: u8,
    /// Source and destination port.
    pub ports: (u16, u16),
    /// IP total length.
    pub length: u16,
    /// Packets it stands for.
    pub packets: u64,
    /// Bytes it stands for.
    pub bytes: u64,
    /// Further fields: sampling rate, duration, age, exporter, interface, flags, known fields, ICMP type and code, DSCP, fragment bits,
    /// origin, flow label.
    pub more: [u32; 13],
}

impl Row {
    fn of(sample: &Sample) -> Self {
        let origin = match sample.origin {
            Origin::Packet => 0,
            Origin::SampledPacket => 1,
            Origin::FlowRecord => 2,
        };
        Self {
            time: sample.time.0,
            source: sample.source_address(),
            destination: sample.destination_address(),
            protocol: sample.protocol,
            ports: (sample.source_port, sample.destination_port),
            length: sample.length,
            packets: sample.packets,
            bytes: sample.bytes,
            more: [
                sample.sampling_rate,
                sample.duration_ms,
                sample.age_ms,
                sample.exporter.into(),
                sample.input_interface.into(),
                sample.tcp_flags.into(),
                sample.known.0.into(),
                sample.icmp_type.into(),
                sample.icmp_code.into(),
                sample.dscp.into(),
                sample.fragment.into(),
                origin,
                sample.flow_label,
            ],
        }
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "what was narrow when it was written; a forged file says what it likes"
    )]
    /// The sample; `None` where its addresses are not of one version.
    pub fn sample(&self) -> Option<Sample> {
        let (version, source) = traffic::sample::address_bits(self.source);
        let (other, destination) = traffic::sample::address_bits(self.destination);
        if version != other {
            return None;
        }
        let [
            rate,
            duration,
            age,
            exporter,
            interface,
            flags,
            known,
            icmp_type,
            icmp_code,
            dscp,
            fragment,
            origin,
            label,
        ] = self.more;
        let origin = match origin {
            0 => Origin::Packet,
            1 => Origin::SampledPacket,
            _ => Origin::FlowRecord,
        };
        let mut sample = Sample::empty(Time(self.time), version, origin);
        (sample.source, sample.destination) = (source, destination);
        (sample.source_port, sample.destination_port) = self.ports;
        (sample.protocol, sample.length) = (self.protocol, self.length);
        (sample.packets, sample.bytes) = (self.packets, self.bytes);
        (sample.sampling_rate, sample.duration_ms, sample.age_ms) = (rate, duration, age);
        (sample.exporter, sample.input_interface) = (exporter as u16, interface as u16);
        (sample.tcp_flags, sample.known) = (flags as u16, Fields(known as u16));
        (sample.icmp_type, sample.icmp_code) = (icmp_type as u8, icmp_code as u8);
        (sample.dscp, sample.fragment, sample.flow_label) = (dscp as u8, fragment as u8, label);
        Some(sample)
    }
}

const fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Packets => "packets",
        Unit::Bytes => "bytes",
        Unit::Flows => "flows",
    }
}

impl Case {
    /// Of a bucket that was mined.
    #[must_use]
    pub fn new(
        now: Time,
        attack: &Attack,
        tolerance_ms: u64,
        request: &miner::Request<'_>,
        outcome: &miner::Outcome,
    ) -> Self {
        let rows = |samples: &[Sample]| samples.iter().map(Row::of).collect();
        let hex = |pattern: &Pattern| {
            let octets = nlri::encode(pattern).unwrap_or_default();
            octets.iter().map(|b| format!("{b:02x}")).collect::<String>()
        };
        let scope = serde_json::to_value(attack.scope).unwrap_or_default();
        Self {
            floodwall_case: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            time: now.as_seconds(),
            prefix: attack.target.prefix.to_string(),
            direction: attack.target.direction.name().to_owned(),
            detection: Detection {
                scope: scope.as_str().unwrap_or_default().to_owned(),
                group: attack.group.clone(),
                threshold_key: attack.threshold_key.clone(),
                unit: unit_name(attack.measure.unit).to_owned(),
                threshold: attack.crossing.threshold,
                burst_tolerance_ms: tolerance_ms,
                evidence: attack.crossing.evidence,
                started: attack.started.as_seconds(),
                detected: attack.detected.as_seconds(),
                measured: attack.measured.clone(),
            },
            composition: serde_json::to_value(attack.tops.composition(10)).unwrap_or_default(),
            mining: Mining {
                by_bytes: request.by_bytes,
                enough: request.enough,
                sample_pps: request.sample_pps,
                baseline_pps: request.baseline_pps,
                capacity_pps: request.capacity_pps,
                max_rules: request.max_rules,
                capabilities: request.capabilities,
                excluded: request.excluded.iter().map(hex).collect(),
                sample: rows(request.sample),
                baseline: rows(request.baseline.map(miner::Baseline::samples).unwrap_or_default()),
            },
            decision: Decision {
                verdict: outcome.verdict.to_string(),
                rules: outcome.rules.iter().map(|r| r.pattern.to_string()).collect(),
                actions: Vec::new(),
            },
        }
    }

    /// Whether a file looks like a case.
    #[must_use]
    pub fn is_one(path: &Path) -> bool {
        use std::io::Read;
        let mut start = [0; 64];
        let read = std::fs::File::open(path).and_then(|mut file| file.read(&mut start)).unwrap_or(0);
        String::from_utf8_lossy(&start[..read]).trim_start().starts_with('{')
    }

    /// Reads one.
    ///
    /// # Errors
    /// A file that is no case, or of another version.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let value: serde_json::Value =
            serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
        match value.get("floodwall_case").and_then(serde_json::Value::as_u64) {
            None => bail!("{} is no case file: it has no floodwall_case", path.display()),
            Some(version) if version != u64::from(VERSION) => {
                bail!("{} is a case of version {version}; this program reads version {VERSION}", path.display())
            }
            Some(_) => {}
        }
        serde_json::from_value(value).with_context(|| format!("{} is damaged", path.display()))
    }

    /// Decides anew from what was recorded.
    ///
    /// # Errors
    /// A case that contradicts itself.
    pub fn decide(&self) -> Result<Replayed> {
        let prefix: Prefix = self.prefix.parse()?;
        let direction = match self.direction.as_str() {
            "incoming" => Direction::Incoming,
            "outgoing" => Direction::Outgoing,
            other => bail!("direction {other:?} is neither incoming nor outgoing"),
        };
        let tolerance = std::time::Duration::from_millis(self.detection.burst_tolerance_ms);
        let evidence = self.detection.measured.decide(self.detection.threshold, tolerance);
        let samples = |rows: &[Row]| -> Result<Vec<Sample>> {
            rows.iter().map(|r| r.sample().context("a sample whose addresses are of different versions")).collect()
        };
        let (sample, baseline) = (samples(&self.mining.sample)?, samples(&self.mining.baseline)?);
        let excluded = self.mining.excluded.iter().map(|hex| pattern(prefix.version(), hex)).collect::<Result<_>>()?;
        let target = Target { prefix, direction };
        let ordinary = miner::Baseline::new(target, baseline.clone());
        let request = miner::Request {
            target,
            sample: &sample,
            by_bytes: self.mining.by_bytes,
            enough: self.mining.enough,
            baseline: (!baseline.is_empty()).then_some(&ordinary),
            sample_pps: self.mining.sample_pps,
            baseline_pps: self.mining.baseline_pps,
            capacity_pps: self.mining.capacity_pps,
            max_rules: self.mining.max_rules,
            capabilities: self.mining.capabilities,
            excluded,
        };
        let outcome = miner::mine(&request);
        let rules: Vec<String> = outcome.rules.iter().map(|r| r.pattern.to_string()).collect();
        let verdict = outcome.verdict.to_string();
        let covered = outcome.rules.iter().map(|r| (r.pattern.to_string(), r.coverage(self.mining.by_bytes))).collect();
        let hits = |s: &&Sample| outcome.rules.iter().any(|r| r.pattern.matches(s) == Match::Yes);
        Ok(Replayed {
            same: evidence == Some(self.detection.evidence)
                && rules == self.decision.rules
                && verdict == self.decision.verdict,
            evidence,
            verdict,
            rules: covered,
            ordinary_hit: baseline.iter().filter(hits).count(),
        })
    }

    /// Moves its times, in nanoseconds: to the system's clock, for whoever reads it.
    pub fn moved(&mut self, by: i64) {
        #[allow(clippy::cast_precision_loss, reason = "for people")]
        let seconds = by as f64 / 1e9;
        self.time += seconds;
        self.detection.started += seconds;
        self.detection.detected += seconds;
    }

    /// A name for its file: sorts by time.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds since the epoch")]
    pub fn file_name(&self) -> String {
        let prefix: String =
            self.prefix.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
        format!("{:013}-{prefix}-{}.json", (self.time * 1000.0) as u64, self.direction)
    }

    /// Writes it into a directory, whose oldest cases go when there are too many.
    ///
    /// # Errors
    /// A directory that cannot be written.
    pub fn write(&self, directory: &Path) -> Result<PathBuf> {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let path = directory.join(self.file_name());
        let partial = path.with_extension("partial");
        std::fs::write(&partial, serde_json::to_vec(self)?)
            .and_then(|()| std::fs::rename(&partial, &path))
            .with_context(|| format!("cannot write {}", path.display()))?;
        let entries = std::fs::read_dir(directory)?.flatten().map(|e| e.path());
        let mut cases: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == "json")).collect();
        cases.sort();
        let surplus = cases.len().saturating_sub(MAX_CASES);
        cases.iter().take(surplus).for_each(|old| drop(std::fs::remove_file(old)));
        Ok(path)
    }
}

/// What a case comes to when it is decided anew.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replayed {
    /// Whether alarm, verdict and rules are those of the case.
    pub same: bool,
    /// What the alarm rests on; `None` if what was measured raises none.
    pub evidence: Option<Evidence>,
    /// The miner's verdict.
    pub verdict: String,
    /// Rules with the share of the sample they cover.
    pub rules: Vec<(String, f64)>,
    /// Samples of ordinary traffic that the rules hit.
    pub ordinary_hit: usize,
}

fn pattern(version: IpVersion, hex: &str) -> Result<Pattern> {
    let octet = |i: usize| hex.get(i..i + 2).and_then(|t| u8::from_str_radix(t, 16).ok());
    let octets: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(octet).collect();
    let octets = octets.with_context(|| format!("{hex:?} is not hexadecimal"))?;
    nlri::decode(version, &octets).with_context(|| format!("{hex} is no FlowSpec NLRI"))
}
