//! Parts of the status, from what the stages say about themselves.

use bgp::tcp::PeerStatus;
use operator::clock;
use operator::status::{AttackStatus, PeerStatus as SessionStatus, Source};
use traffic::Time;

pub(crate) fn source(worker: collectors::WorkerStatistics) -> Source {
    let is_mirror = worker.packets > 0 || worker.source.starts_with("interface");
    Source {
        name: worker.source,
        datagrams: worker.decoder.datagrams,
        flows: if is_mirror { 0 } else { worker.decoder.records },
        option_records: worker.decoder.option_records,
        packets: worker.packets,
        kernel_drops: worker.kernel_drops,
        errors: worker.decoder.errors(),
        failed: worker.failed,
    }
}

pub(crate) fn attack(attack: &detector::Attack) -> AttackStatus {
    AttackStatus {
        prefix: attack.target.prefix,
        direction: attack.target.direction,
        group: attack.group.clone(),
        threshold: attack.threshold_text(),
        detected: clock::wall(attack.detected).as_seconds(),
        packets_per_second: attack.packets_per_second,
        bytes_per_second: attack.bytes_per_second,
        peak_packets_per_second: attack.peak_packets_per_second,
        scope: attack.scope,
        phase: attack.phase,
        packets: attack.packets,
        bytes: attack.bytes,
        peak_bytes_per_second: attack.peak_bytes_per_second,
        evidence: attack.evidence,
        composition: attack.tops.composition(5),
        severity: severity(attack),
        id: reporting::history::writer::attack_id(attack.detected.as_seconds(), attack.target),
    }
}

/// The highest rate as a multiple of the threshold that was passed.
#[allow(clippy::cast_precision_loss, reason = "for people")]
fn severity(attack: &detector::Attack) -> f64 {
    let peak = match attack.measure.unit {
        // Of one protocol the whole rate says little.
        _ if attack.measure.class != detector::Class::Total => attack.evidence.rate,
        detector::Unit::Packets => attack.peak_packets_per_second,
        detector::Unit::Bytes => attack.peak_bytes_per_second,
        detector::Unit::Flows => attack.evidence.rate,
    };
    peak.max(attack.evidence.rate) as f64 / attack.threshold.max(1) as f64
}

pub(crate) fn peer(now: Time, name: &str, status: &PeerStatus) -> SessionStatus {
    SessionStatus {
        name: name.to_owned(),
        state: status.state.name(),
        families: status.families.iter().map(|f| f.name()).collect(),
        routes_sent: status.sent.len(),
        uptime_seconds: status.established_since.map(|since| now.since(since).as_secs_f64()),
        identifier: status.identifier,
        hold_time_seconds: status.hold_time.as_secs(),
        graceful_restart: status.graceful_restart,
        in_sync: status.in_sync,
        flowspec_on_wire: status.on_wire.0,
        refused: status.refused.iter().map(|(route, why)| (route.to_string(), why.clone())).collect(),
        last_error: status.last_error.clone(),
        resets: status.resets,
    }
}
