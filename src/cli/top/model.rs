//! What `top` shows and what its keys do: no terminal here.

use anyhow::Result;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::Value;

/// A last column that is cut has at least this width.
const CUT: usize = 24;

/// One fetch.
#[derive(Debug, Clone, Default)]
pub(super) struct Data {
    /// Seconds since the Unix epoch.
    pub(super) at: f64,
    pub(super) status: Value,
    pub(super) hosts: Value,
    pub(super) exporters: Value,
}

/// What the lower part shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tab {
    Hosts,
    Attacks,
    Rules,
    Exporters,
    Sessions,
    Events,
}

impl Tab {
    pub(super) const ALL: [Self; 6] =
        [Self::Hosts, Self::Attacks, Self::Rules, Self::Exporters, Self::Sessions, Self::Events];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Hosts => "Hosts",
            Self::Attacks => "Attacks",
            Self::Rules => "Rules",
            Self::Exporters => "Exporters",
            Self::Sessions => "Sessions",
            Self::Events => "Events",
        }
    }
}

/// A table: columns with the importance of each (0 is dropped last), and rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sheet {
    pub(super) header: Vec<(&'static str, u8)>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Sheet {
    /// Without the least important columns, until it fits a width.
    pub(super) fn fitted(mut self, width: usize) -> Self {
        loop {
            let mut widths = self.widths();
            // The last column may be cut: its beginning says most.
            if let Some(last) = widths.last_mut() {
                *last = (*last).min(CUT);
            }
            let needed = widths.iter().sum::<usize>() + widths.len().saturating_sub(1) * 2;
            let least = self.header.iter().map(|(_, importance)| *importance).max().unwrap_or(0);
            if needed <= width || least == 0 {
                return self;
            }
            let Some(at) = self.header.iter().rposition(|(_, importance)| *importance == least) else { return self };
            self.header.remove(at);
            self.rows.iter_mut().for_each(|row| {
                row.remove(at);
            });
        }
    }

    pub(super) fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.header.iter().map(|(name, _)| name.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }
}

/// Chains, maps and limits of one nftables table, as they should be.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) data: Data,
    before: Option<Data>,
    pub(super) tab: Tab,
    /// Column that sorts, per look at a tab.
    pub(super) sort: usize,
    pub(super) descending: bool,
    pub(super) search: String,
    pub(super) is_typing: bool,
    pub(super) selected: usize,
    pub(super) is_paused: bool,
    pub(super) has_help: bool,
    /// The host that is looked at closely.
    pub(super) host: Option<String>,
    pub(super) trouble: Option<String>,
    pub(super) color: bool,
    pub(super) quit: bool,
}

impl Model {
    pub(super) fn new(data: Data, color: bool) -> Self {
        Self {
            data,
            before: None,
            tab: Tab::Hosts,
            sort: 1,
            descending: true,
            search: String::new(),
            is_typing: false,
            selected: 0,
            is_paused: false,
            has_help: false,
            host: None,
            trouble: None,
            color,
            quit: false,
        }
    }

    pub(super) fn refresh(&mut self, data: Result<Data>) {
        match data {
            _ if self.is_paused => {}
            Ok(data) => {
                self.before = Some(std::mem::replace(&mut self.data, data));
                self.trouble = None;
            }
            Err(error) => self.trouble = Some(format!("{error:#}")),
        }
    }

    pub(super) fn key(&mut self, key: KeyEvent) {
        if self.is_typing {
            return self.type_search(key.code);
        }
        #[allow(clippy::wildcard_enum_match_arm, reason = "keys without a meaning do nothing")]
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => self.quit = true,
            KeyCode::Char('q') => self.quit = true,
            KeyCode::Char('?' | 'h') => self.has_help = !self.has_help,
            KeyCode::Char('p') => self.is_paused = !self.is_paused,
            KeyCode::Char('/') => {
                self.is_typing = true;
                self.search.clear();
            }
            KeyCode::Char('s') => self.sort = (self.sort + 1) % self.sheet().header.len().max(1),
            KeyCode::Char('r') => self.descending = !self.descending,
            KeyCode::Char(digit @ '1'..='6') => {
                let index = usize::try_from(digit.to_digit(10).unwrap_or(1)).unwrap_or(1) - 1;
                self.open(Tab::ALL[index]);
            }
            KeyCode::Tab | KeyCode::Right => self.step(1),
            KeyCode::BackTab | KeyCode::Left => self.step(Tab::ALL.len() - 1),
            KeyCode::Down | KeyCode::Char('j') => {
                self.selected = (self.selected + 1).min(self.sheet().rows.len().saturating_sub(1))
            }
            KeyCode::Up | KeyCode::Char('k') => self.selected = self.selected.saturating_sub(1),
            KeyCode::PageDown => self.selected = (self.selected + 20).min(self.sheet().rows.len().saturating_sub(1)),
            KeyCode::PageUp => self.selected = self.selected.saturating_sub(20),
            KeyCode::Home => self.selected = 0,
            KeyCode::Enter => self.drill_down(),
            KeyCode::Esc => {
                if self.has_help {
                    self.has_help = false;
                } else if self.host.take().is_none() {
                    self.search.clear();
                }
            }
            _ => {}
        }
    }

    fn type_search(&mut self, code: KeyCode) {
        self.selected = 0;
        #[allow(clippy::wildcard_enum_match_arm, reason = "keys without a meaning do nothing")]
        match code {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.search.clear();
            }
            KeyCode::Backspace => {
                self.search.pop();
            }
            KeyCode::Char(c) => self.search.push(c),
            _ => {}
        }
    }

    fn step(&mut self, by: usize) {
        let at = Tab::ALL.iter().position(|t| *t == self.tab).unwrap_or(0);
        self.open(Tab::ALL[(at + by) % Tab::ALL.len()]);
    }

    fn open(&mut self, tab: Tab) {
        self.tab = tab;
        self.host = None;
        self.selected = 0;
        (self.sort, self.descending) = match tab {
            Tab::Hosts => (1, true),
            Tab::Attacks => (4, true),
            Tab::Rules | Tab::Exporters | Tab::Sessions => (0, false),
            Tab::Events => (0, false),
        };
    }

    fn drill_down(&mut self) {
        if !matches!(self.tab, Tab::Hosts | Tab::Attacks | Tab::Rules) {
            return;
        }
        if let Some(cell) = self.sheet().rows.get(self.selected).and_then(|row| row.first()) {
            self.host = Some(cell.trim_end_matches("/32").trim_end_matches("/128").to_owned());
        }
    }

    /// Rates of all traffic: name, packets per second, megabits per second.
    pub(super) fn totals(&self) -> Vec<(&'static str, f64, f64)> {
        let seconds = self
            .before
            .as_ref()
            .map_or(0.0, |b| number(&self.data.status["uptime_seconds"]) - number(&b.status["uptime_seconds"]));
        ["incoming", "outgoing", "internal", "other", "filtered"]
            .into_iter()
            .map(|name| {
                let grown = |unit: &str| {
                    let before = self.before.as_ref().map_or(0.0, |b| number(&b.status[name][unit]));
                    if seconds > 0.0 {
                        (number(&self.data.status[name][unit]) - before).max(0.0) / seconds
                    } else {
                        0.0
                    }
                };
                (name, grown("packets"), grown("bytes") * 8.0 / 1e6)
            })
            .collect()
    }

    /// The table of the tab, searched and sorted.
    pub(super) fn sheet(&self) -> Sheet {
        let mut sheet = match self.tab {
            Tab::Hosts => self.hosts(),
            Tab::Attacks => self.attacks(),
            Tab::Rules => self.rules(),
            Tab::Exporters => self.exporters(),
            Tab::Sessions => self.sessions(),
            Tab::Events => self.events(""),
        };
        let wanted = self.search.to_lowercase();
        sheet.rows.retain(|row| wanted.is_empty() || row.iter().any(|c| c.to_lowercase().contains(&wanted)));
        if self.tab != Tab::Events {
            let column = self.sort.min(sheet.header.len().saturating_sub(1));
            sheet.rows.sort_by(|a, b| compare(&a[column], &b[column]));
            if self.descending {
                sheet.rows.reverse();
            }
        }
        sheet
    }

    fn hosts(&self) -> Sheet {
        let row = |h: &Value| {
            let address = text(&h["host"]);
            let state = if self.is_attacked(&address) { "ATTACK" } else { "" };
            vec![
                address,
                rate(&h["packets_per_second"]),
                mbps(&h["bytes_per_second"]),
                rate(&h["outgoing_packets_per_second"]),
                mbps(&h["outgoing_bytes_per_second"]),
                text(&h["group"]),
                state.to_owned(),
            ]
        };
        let header = vec![
            ("HOST", 0),
            ("PPS IN", 0),
            ("MBPS IN", 1),
            ("PPS OUT", 3),
            ("MBPS OUT", 3),
            ("GROUP", 4),
            ("STATE", 2),
        ];
        Sheet { header, rows: list(&self.data.hosts).iter().map(row).collect() }
    }

    fn is_attacked(&self, address: &str) -> bool {
        let address = format!("{}/", address.split('/').next().unwrap_or(address));
        list(&self.data.status["attacks"]).iter().any(|a| text(&a["prefix"]).starts_with(&address))
    }

    fn attacks(&self) -> Sheet {
        let row = |a: &Value| {
            vec![
                text(&a["prefix"]),
                text(&a["direction"]),
                text(&a["threshold"]),
                format!("{:.0} s", (self.data.at - number(&a["detected"])).max(0.0)),
                rate(&a["packets_per_second"]),
                mbps(&a["bytes_per_second"]),
                rate(&a["peak_packets_per_second"]),
                text(&a["group"]),
            ]
        };
        let header = vec![
            ("HOST", 0),
            ("DIRECTION", 4),
            ("OVER", 2),
            ("SINCE", 1),
            ("PPS", 0),
            ("MBPS", 1),
            ("PEAK PPS", 3),
            ("GROUP", 5),
        ];
        Sheet { header, rows: list(&self.data.status["attacks"]).iter().map(row).collect() }
    }

    fn rules(&self) -> Sheet {
        let row = |m: &Value| {
            let sent: Vec<String> = list(&m["sent_to"]).iter().map(text).collect();
            let state = if !m["dry_run"].is_null() {
                "dry run".to_owned()
            } else if sent.is_empty() {
                "not sent yet".to_owned()
            } else {
                format!("sent to {}", sent.join(" "))
            };
            let hits = if !m["hits"].is_null() {
                rate(&m["hits"]["packets"])
            } else if !m["would_have_hit"].is_null() {
                format!("would: {}", rate(&m["would_have_hit"]["packets"]))
            } else {
                "-".to_owned()
            };
            vec![text(&m["prefix"]), text(&m["kind"]), state, hits, text(&m["route"])]
        };
        let header = vec![("HOST", 0), ("KIND", 3), ("STATE", 1), ("HITS", 2), ("ROUTE", 0)];
        Sheet { header, rows: list(&self.data.status["mitigations"]).iter().map(row).collect() }
    }

    fn exporters(&self) -> Sheet {
        let row = |s: &Value| {
            let errors: f64 = s["errors"].as_object().map_or(0.0, |e| e.values().map(number).sum());
            let state = if s["failed"].is_null() { "runs".to_owned() } else { text(&s["failed"]) };
            vec![
                text(&s["name"]),
                rate(&s["datagrams"]),
                rate(&s["flows"]),
                rate(&s["packets"]),
                rate(&s["kernel_drops"]),
                format!("{errors:.0}"),
                state,
            ]
        };
        let header = vec![
            ("SOURCE", 0),
            ("DATAGRAMS", 1),
            ("FLOWS", 1),
            ("PACKETS", 3),
            ("DROPS", 0),
            ("ERRORS", 2),
            ("STATE", 4),
        ];
        let mut sheet = Sheet { header, rows: list(&self.data.status["sources"]).iter().map(row).collect() };
        for exporter in list(&self.data.exporters) {
            let address = text(&exporter["address"]);
            if !address.is_empty() {
                let state = text(&exporter["trouble"]);
                let cells = ["datagrams", "records", "packets", "lost", "errors"].map(|key| rate(&exporter[key]));
                sheet.rows.push([vec![format!("  {address}")], cells.to_vec(), vec![state]].concat());
            }
        }
        sheet
    }

    fn sessions(&self) -> Sheet {
        let row = |p: &Value| {
            let families: Vec<String> = list(&p["families"]).iter().map(text).collect();
            vec![
                text(&p["name"]),
                text(&p["state"]),
                rate(&p["routes_sent"]),
                rate(&p["resets"]),
                families.join(" "),
                text(&p["last_error"]),
            ]
        };
        let header = vec![("PEER", 0), ("STATE", 0), ("SENT", 1), ("RESETS", 2), ("FAMILIES", 4), ("LAST ERROR", 3)];
        Sheet { header, rows: list(&self.data.status["peers"]).iter().map(row).collect() }
    }

    /// Newest first; those that name a host, if one is given.
    pub(super) fn events(&self, about: &str) -> Sheet {
        let row = |e: &Value| {
            let mut fields: Vec<String> = e
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(key, value)| {
                    !matches!(key.as_str(), "time" | "event") && !value.is_object() && !value.is_array()
                })
                .map(|(_, value)| text(value))
                .filter(|v| !v.is_empty())
                .collect();
            let target = &e["target"]["prefix"];
            if !target.is_null() {
                fields.insert(0, text(target));
            }
            vec![format!("{:.0} s", (self.data.at - number(&e["time"])).max(0.0)), text(&e["event"]), fields.join(" ")]
        };
        let events = list(&self.data.status["events"]);
        let rows = events.iter().rev().filter(|e| about.is_empty() || e.to_string().contains(about)).map(row).collect();
        Sheet { header: vec![("AGO", 0), ("EVENT", 0), ("WHAT", 1)], rows }
    }

    /// Lines about the host that is looked at closely.
    pub(super) fn detail(&self, host: &str) -> Vec<String> {
        let prefix = format!("{host}/");
        let about = |list: &[Value]| -> Vec<Value> {
            list.iter().filter(|v| text(&v["prefix"]).starts_with(&prefix)).cloned().collect()
        };
        let mut lines = vec![format!("host {host}")];
        let known = |h: &&Value| text(&h["host"]).split('/').next() == Some(host);
        if let Some(h) = list(&self.data.hosts).iter().find(known) {
            lines.push(format!(
                "  now: {} packets/s, {} Mbit/s in; {} packets/s, {} Mbit/s out; group {}",
                rate(&h["packets_per_second"]),
                mbps(&h["bytes_per_second"]),
                rate(&h["outgoing_packets_per_second"]),
                mbps(&h["outgoing_bytes_per_second"]),
                text(&h["group"])
            ));
        }
        for a in about(list(&self.data.status["attacks"])) {
            lines.push(format!(
                "  attack ({}): over {}, {} packets/s, {} Mbit/s, peak {} packets/s",
                text(&a["direction"]),
                text(&a["threshold"]),
                rate(&a["packets_per_second"]),
                mbps(&a["bytes_per_second"]),
                rate(&a["peak_packets_per_second"])
            ));
        }
        for m in about(list(&self.data.status["mitigations"])) {
            let dry = if m["dry_run"].is_null() { "" } else { " (dry run)" };
            lines.push(format!("  {}: {}{dry}", text(&m["kind"]), text(&m["route"])));
        }
        lines.push(String::new());
        lines.extend(self.events(host).rows.into_iter().take(100).map(|row| row.join("  ")));
        lines
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| if value.is_null() { String::new() } else { value.to_string() }, str::to_owned)
}

fn rate(value: &Value) -> String {
    if value.is_null() { "-".to_owned() } else { format!("{:.0}", number(value)) }
}

fn mbps(value: &Value) -> String {
    if value.is_null() { "-".to_owned() } else { format!("{:.1}", number(value) * 8.0 / 1e6) }
}

/// Numbers by value, other cells by text.
fn compare(a: &str, b: &str) -> std::cmp::Ordering {
    let number = |cell: &str| cell.trim_end_matches(" s").parse::<f64>().ok();
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        (Some(_), None) => std::cmp::Ordering::Greater,
        (None, Some(_)) => std::cmp::Ordering::Less,
        (None, None) => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn model() -> Model {
        let status = json!({
            "uptime_seconds": 10.0, "incoming": {"packets": 1000, "bytes": 500_000},
            "attacks": [{"prefix": "203.0.113.9/32", "direction": "incoming", "threshold": "threshold_pps 20000",
                         "detected": 1.0, "packets_per_second": 90_000, "bytes_per_second": 1_000_000}],
            "mitigations": [{"prefix": "203.0.113.9/32", "kind": "flowspec", "route": "flow x", "dry_run": "ban_disabled", "sent_to": []}],
            "events": [{"time": 1.0, "event": "alarm", "target": {"prefix": "203.0.113.9/32"}}, {"time": 2.0, "event": "configured"}]
        });
        let hosts = json!([{"host": "203.0.113.8", "packets_per_second": 9}, {"host": "203.0.113.9", "packets_per_second": 90_000},
                           {"host": "203.0.113.10", "packets_per_second": 100}]);
        Model::new(Data { at: 5.0, status, hosts, exporters: Value::Null }, false)
    }

    fn press(model: &mut Model, keys: &str) {
        keys.chars().for_each(|c| {
            let code = if c == '\n' { KeyCode::Enter } else { KeyCode::Char(c) };
            model.key(KeyEvent::from(code));
        });
    }

    fn first_column(model: &Model) -> Vec<String> {
        model.sheet().rows.iter().map(|r| r[0].clone()).collect()
    }

    #[test]
    fn hosts_are_sorted_by_rate_as_numbers_searched_and_drilled_into() {
        let mut model = model();
        assert_eq!(first_column(&model), ["203.0.113.9", "203.0.113.10", "203.0.113.8"]);
        assert_eq!(model.sheet().rows[0].last().map(String::as_str), Some("ATTACK"));
        press(&mut model, "r");
        assert_eq!(first_column(&model)[0], "203.0.113.8");
        press(&mut model, "/113.9\n");
        assert_eq!(first_column(&model), ["203.0.113.9"]);
        press(&mut model, "\n");
        let detail = model.detail(model.host.as_deref().expect("a host")).join("\n");
        assert!(
            detail.contains("attack (incoming)") && detail.contains("flow x (dry run)") && detail.contains("alarm"),
            "{detail}"
        );
        assert!(!detail.contains("configured"));
        model.key(KeyEvent::from(KeyCode::Esc));
        assert_eq!(model.host, None);
        press(&mut model, "q");
        assert!(model.quit);
    }

    #[test]
    fn rates_come_from_two_looks_and_a_lost_daemon_is_told() {
        let mut model = model();
        let mut next = model.data.clone();
        next.status["uptime_seconds"] = json!(12.0);
        next.status["incoming"] = json!({"packets": 3000, "bytes": 1_500_000});
        model.refresh(Ok(next));
        assert_eq!(model.totals()[0], ("incoming", 1000.0, 4.0));
        model.refresh(Err(anyhow::anyhow!("gone")));
        assert_eq!(model.trouble.as_deref(), Some("gone"));
    }

    #[test]
    fn narrow_screens_lose_the_least_important_columns_first() {
        let model = model();
        let wide = model.sheet().fitted(200);
        assert_eq!(wide.header.len(), 7);
        let narrow = model.sheet().fitted(24);
        let names: Vec<&str> = narrow.header.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["HOST", "PPS IN"]);
        assert!(narrow.rows.iter().all(|r| r.len() == 2));
    }
}
