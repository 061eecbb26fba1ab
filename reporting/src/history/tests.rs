//! A simulated week: size, query times, retention, a full disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use operator::report::{Entry, Rate, Report, Threshold};
use traffic::Time;

use super::archive::Archive;
use super::writer::{Writer, attack_id, series_of};
use super::{Retention, Trouble, database};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("floodwall-history-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("made");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const START: i64 = 1_764_000_000;
const DAY: i64 = 86_400;

struct Past {
    folder: Folder,
    writer: Writer,
    archive: Archive,
    trouble: Trouble,
}

fn past(name: &str, retention: Retention) -> Past {
    let folder = Folder::new(name);
    let path = folder.0.join(super::FILE);
    let connection = database::open(&path).expect("opens");
    let trouble = Trouble::default();
    let writer = Writer::new(connection, retention, trouble.clone(), Arc::new(AtomicU64::new(0)));
    Past { writer, archive: Archive::new(path, trouble.clone()), trouble, folder }
}

fn at(second: i64) -> Time {
    Time::from_seconds(u64::try_from(second).expect("positive"), 0)
}

fn target() -> traffic::Target {
    traffic::Target { prefix: "203.0.113.9/32".parse().expect("a prefix"), direction: traffic::Direction::Incoming }
}

fn alarm() -> Report {
    let evidence = detector::Evidence { rate: 9000, lower_bound: 8000, observed: 100, window_ms: 1000 };
    let packets = |per_second| Rate { unit: detector::Unit::Packets, per_second };
    let threshold = Threshold { key: "threshold_pps".to_owned(), rate: packets(5000) };
    let (group, rate) = ("global".to_owned(), packets(9000));
    Report::Alarm {
        target: target(),
        group,
        threshold,
        rate,
        evidence,
        started: 0.0,
        scope: detector::Scope::Host,
        returns: 0,
    }
}

fn over() -> Report {
    Report::Over {
        target: target(),
        duration_ms: 60_000,
        peak_packets_per_second: 10_000,
        peak_bytes_per_second: 9_000_000,
    }
}

#[test]
fn series_are_averaged_into_tiers_and_asked_for_as_fine_as_they_are_kept() {
    let mut past = past("tiers", Retention::default());
    for second in 0..4000 {
        past.writer.second(START + second, "total", [if second % 10 < 5 { 100 } else { 200 }, 8, 0, 0]);
        past.writer.tend(START + second);
    }
    past.writer.tend(START + 5000);
    let fine = past.archive.series("total", START, START + 60, START + 4000).expect("read");
    assert_eq!((fine.step, fine.points.len(), fine.points[0].packets_per_second_in), (1, 61, 100));
    let coarse = past.archive.series("total", START, START + 4000, START + 4000).expect("read");
    assert_eq!(coarse.step, 10);
    assert!(coarse.points.iter().all(|p| p.packets_per_second_in == 150), "{:?}", coarse.points[1]);
    assert!(past.archive.series("frob", START, START + 60, START + 60).expect("read").points.is_empty());
    assert_eq!(past.archive.names("to", 10).expect("read"), ["total"]);
}

#[test]
fn an_attack_is_remembered_with_what_happened_and_forgotten_when_it_is_old() {
    let mut past = past("attacks", Retention { days: 7, ..Retention::default() });
    past.writer.entry(&Entry::new(at(START), alarm()));
    past.writer.entry(&Entry::new(at(START + 1), Report::Residual { target: target() }));
    past.writer.tend(START + 1);
    let id = attack_id(at(START).as_seconds(), target());
    let (attack, events) = past.archive.attack(&id).expect("read").expect("there");
    assert_eq!((attack.ended, events.len(), events[0].kind.as_str()), (None, 2, "alarm"));
    past.writer.entry(&Entry::new(at(START + 60), over()));
    past.writer.tend(START + 100);
    let (attack, events) = past.archive.attack(&id).expect("read").expect("there");
    assert_eq!(
        (attack.ended, attack.peak_packets_per_second, events.len()),
        (Some(at(START + 60).as_seconds()), 10_000, 3)
    );
    assert_eq!(past.archive.attacks(f64::MAX, Some("203.0.113.9/32"), 10).expect("read").len(), 1);
    assert!(past.archive.attacks(f64::MAX, Some("203.0.113.8/32"), 10).expect("read").is_empty());
    past.writer.tend(START + 8 * DAY);
    assert!(past.archive.attack(&id).expect("read").is_none(), "too old");
    assert!(past.archive.events(f64::MAX, 10).expect("read").is_empty());
}

#[test]
fn a_file_that_grows_too_large_loses_the_finest_and_oldest() {
    let mut past = past("large", Retention { bytes: 900 << 10, days: 365 });
    for second in 0..3000 {
        for host in 0..20 {
            past.writer.second(START + second, &format!("host 203.0.113.{host}"), [1, 2, 3, 4]);
        }
        past.writer.tend(START + second);
    }
    past.writer.tend(START + 3200);
    let fine = past.archive.series("host 203.0.113.1", START, START + 1000, START + 1200).expect("read");
    assert!(fine.points.len() < 1000, "the oldest seconds went: {}", fine.points.len());
    let coarse = past.archive.series("host 203.0.113.1", START, START + 3000, START + 3000).expect("read");
    assert!(coarse.points.len() > 290, "what is coarse stays: {}", coarse.points.len());
    assert_eq!(past.trouble.get(), None);
}

#[test]
fn a_full_disk_is_told_and_writing_goes_on_when_there_is_room() {
    let mut past = past("full", Retention::default());
    past.writer.second(START, "total", [1, 1, 1, 1]);
    past.writer.tend(START);
    assert_eq!(past.trouble.get(), None);
    past.writer.limit_pages(Some(1));
    for second in 1..2000 {
        for host in 0..10 {
            past.writer.second(START + second, &format!("host 203.0.113.{host}"), [1, 2, 3, 4]);
        }
    }
    past.writer.tend(START + 100);
    let told = past.trouble.get().expect("an alarm");
    assert!(told.contains("disk is full") && told.contains("detection goes on"), "{told}");
    // What waits is bounded however long it lasts.
    for second in 2000..20_000 {
        past.writer.second(START + second, "total", [1, 2, 3, 4]);
        past.writer.tend(START + second);
    }
    assert!(past.writer.waiting() <= 50_000, "{}", past.writer.waiting());
    past.writer.limit_pages(None);
    past.writer.tend(START + 20_100);
    assert_eq!(past.trouble.get(), None, "there is room again");
    assert!(
        !past.archive.series("host 203.0.113.1", START, START + 1000, START + 20_100).expect("read").points.is_empty()
    );
}

#[test]
fn hosts_and_networks_have_series_of_their_own() {
    assert_eq!(series_of("203.0.113.9/32"), "host 203.0.113.9");
    assert_eq!(series_of("2001:db8::1/128"), "host 2001:db8::1");
    assert_eq!(series_of("2001:db8::/32"), "network 2001:db8::/32");
    assert_eq!(series_of("203.0.113.0/24"), "network 203.0.113.0/24");
}

#[test]
fn what_is_not_kept_by_the_second_is_found_in_the_tier_it_has() {
    let mut past = past("long", Retention::default());
    for step in 0..30 {
        past.writer.long_step(START + step * 10 + 3, &[("group web".to_owned(), [600, 1, 2, 3])]);
    }
    past.writer.tend(START + 400);
    let fine = past.archive.series("group web", START, START + 100, START + 400).expect("read");
    assert_eq!((fine.step, fine.points.len(), fine.points[0].packets_per_second_in), (10, 11, 600));
    let minutes = past.archive.series("group web", START, START + 30_000, START + 400).expect("read");
    assert_eq!(minutes.step, 60);
    assert!(!minutes.points.is_empty() && minutes.points.iter().all(|p| p.packets_per_second_in == 600), "{minutes:?}");
}

/// A view of the dashboard and how many rows it asks for.
type View<'a> = (&'static str, Box<dyn Fn() -> usize + 'a>);

/// A made-up rate of the i-th series in a second.
fn made_up(second: i64, i: usize) -> [u64; 4] {
    let rate = 1000 + (second * 7 + i64::try_from(i).expect("small")).unsigned_abs() % 977;
    [rate, rate * 800, rate / 2, rate * 400]
}

/// Writes a week: series by the second and by ten seconds, and an attack of a minute every 432 seconds.
fn write_a_week(writer: &mut Writer) {
    let by_second = ["total", "filtered", "internal", "exporter 192.0.2.1", "exporter 192.0.2.2", "exporter 192.0.2.3"];
    let by_step: Vec<String> = (0..80)
        .map(|h| format!("host 203.0.113.{h}"))
        .chain((0..20).map(|n| format!("network 203.0.{n}.0/24")))
        .chain((0..10).map(|g| format!("group g{g}")))
        .collect();
    for second in 0..7 * DAY {
        for (i, name) in by_second.iter().enumerate() {
            writer.second(START + second, name, made_up(second, i));
        }
        if second % 10 == 0 {
            let all: Vec<_> = by_step.iter().enumerate().map(|(i, n)| (n.clone(), made_up(second, i))).collect();
            writer.long_step(START + second, &all);
        }
        if second % 432 < 60 {
            writer.second(START + second, "host 203.0.113.9", made_up(second, 9));
        }
        if second % 432 == 0 {
            writer.entry(&Entry::new(at(START + second), alarm()));
            for _ in 0..20 {
                writer.entry(&Entry::new(at(START + second), Report::Residual { target: target() }));
            }
        }
        if second % 432 == 60 {
            writer.entry(&Entry::new(at(START + second), over()));
        }
        writer.tend(START + second);
    }
    writer.tend(START + 7 * DAY + 100);
}

/// Asks for a view again and again, and prints how long it takes.
#[allow(clippy::disallowed_methods, reason = "this one measures")]
fn time_view((view, ask): View<'_>) {
    let mut times: Vec<f64> = (0..21)
        .map(|_| {
            let began = std::time::Instant::now();
            assert!(ask() > 0, "{view}");
            began.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("{view}: {} rows, median {:.1} ms, worst {:.1} ms", ask(), times[10], times[20]);
}

/// A week at an operator with three exporters, 20 networks, 10 host groups, 80 hosts worth a series and 200 attacks a day of a
/// minute each: how large, and how long views take. `cargo test --lib a_simulated_week -- --ignored --nocapture` prints it; times are
/// printed, not asserted.
#[test]
#[ignore = "minutes of writing: run it by name"]
#[allow(clippy::disallowed_methods, reason = "this one measures")]
fn a_simulated_week() {
    let mut past = past("week", Retention::default());
    let began = std::time::Instant::now();
    write_a_week(&mut past.writer);
    let now = START + 7 * DAY;
    let size: u64 = std::fs::read_dir(&past.folder.0)
        .expect("listed")
        .map(|f| f.expect("a file").metadata().expect("known").len())
        .sum();
    println!("written in {:.0} s; {:.1} MB on disk", began.elapsed().as_secs_f64(), size as f64 / 1e6);
    let archive = &past.archive;
    let first = archive.attacks(f64::MAX, None, 1).expect("read")[0].id.clone();
    let views: [View<'_>; 10] = [
        ("overview, one hour", Box::new(|| archive.series("total", now - 3600, now, now).expect("read").points.len())),
        ("overview, one day", Box::new(|| archive.series("total", now - DAY, now, now).expect("read").points.len())),
        ("groups, one week", Box::new(|| archive.series("total", now - 7 * DAY, now, now).expect("read").points.len())),
        (
            "host, one week",
            Box::new(|| archive.series("host 203.0.113.50", now - 7 * DAY, now, now).expect("read").points.len()),
        ),
        (
            "host, one hour",
            Box::new(|| archive.series("host 203.0.113.50", now - 3600, now, now).expect("read").points.len()),
        ),
        (
            "group, one week",
            Box::new(|| archive.series("group g3", now - 7 * DAY, now, now).expect("read").points.len()),
        ),
        ("host, its attacks", Box::new(|| archive.attacks(f64::MAX, Some("203.0.113.9/32"), 100).expect("read").len())),
        ("attacks", Box::new(|| archive.attacks(f64::MAX, None, 200).expect("read").len())),
        ("attack", Box::new(|| archive.attack(&first).expect("read").expect("there").1.len())),
        ("events", Box::new(|| archive.events(f64::MAX, 1000).expect("read").len())),
    ];
    views.into_iter().for_each(time_view);
}
