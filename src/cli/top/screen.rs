//! Draws [`Model`] on a terminal of any size, in colour only where that is wanted.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Paragraph, Row, Table, TableState, Wrap};

use super::model::{Model, Tab};

const HELP: &str = "\
1-6, Tab    hosts, attacks, rules, exporters, sessions, events
Up, Down    choose a line; Enter looks at its host, Esc goes back
/           search; Enter keeps it, Esc drops it
s, r        sort by the next column, the other way round
p           pause
q           leave";

pub(super) fn draw(frame: &mut Frame<'_>, model: &mut Model) {
    let totals = if frame.area().height >= 16 { 7 } else { 1 };
    let [head, sums, tabs, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(totals),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(header(model)), head);
    frame.render_widget(Paragraph::new(sums_text(model, totals == 1)), sums);
    frame.render_widget(Paragraph::new(tab_line(model, tabs.width)), tabs);
    if model.has_help {
        frame.render_widget(Paragraph::new(HELP), body);
    } else if let Some(host) = model.host.clone() {
        let lines: Vec<Line<'_>> = model.detail(&host).into_iter().map(Line::from).collect();
        frame.render_widget(Paragraph::new(Text::from(lines)).wrap(Wrap { trim: false }), body);
    } else {
        draw_table(frame, model, body);
    }
    frame.render_widget(Paragraph::new(footer(model)), foot);
}

fn style(model: &Model, color: Color) -> Style {
    if model.color { Style::new().fg(color) } else { Style::new() }
}

fn header(model: &Model) -> Line<'static> {
    let status = &model.data.status;
    let mode = if status["dry_run"].as_bool() == Some(true) { "DRY RUN" } else { "announcing" };
    let uptime = status["uptime_seconds"].as_f64().unwrap_or(0.0);
    let up = if uptime >= 7200.0 { format!("{:.1} h", uptime / 3600.0) } else { format!("{uptime:.0} s") };
    let version = status["version"].as_str().unwrap_or("?").to_owned();
    let attacks = status["attacks"].as_array().map_or(0, Vec::len);
    let alarm = if attacks > 0 { style(model, Color::Red).add_modifier(Modifier::BOLD) } else { Style::new() };
    Line::from(vec![
        Span::styled(format!("floodwall {version}"), Style::new().add_modifier(Modifier::BOLD)),
        Span::styled(format!("  {mode}"), style(model, Color::Yellow)),
        Span::raw(format!("  up {up}")),
        Span::styled(format!("  {attacks} attacks"), alarm),
        Span::raw(if model.is_paused { "  PAUSED" } else { "" }),
    ])
}

fn sums_text(model: &Model, short: bool) -> Text<'static> {
    let totals = model.totals();
    if short {
        let (name, packets, mbps) = totals[0];
        return Text::from(format!("{name} {packets:.0} pps {mbps:.1} Mbit/s"));
    }
    let mut lines = vec![Line::styled(
        format!("{:<10}{:>14}{:>14}", "TRAFFIC", "PACKETS/S", "MBIT/S"),
        Style::new().add_modifier(Modifier::BOLD),
    )];
    lines.extend(
        totals.iter().map(|(name, packets, mbps)| Line::from(format!("{name:<10}{packets:>14.0}{mbps:>14.1}"))),
    );
    Text::from(lines)
}

fn tab_line(model: &Model, width: u16) -> Line<'static> {
    let names = Tab::ALL.iter().enumerate();
    let short = width < 70;
    Line::from(
        names
            .map(|(i, tab)| {
                let name = if short { &tab.name()[..3] } else { tab.name() };
                let text = format!(" {} {name} ", i + 1);
                if *tab == model.tab {
                    Span::styled(text, Style::new().add_modifier(Modifier::REVERSED))
                } else {
                    Span::raw(text)
                }
            })
            .collect::<Vec<_>>(),
    )
}

fn draw_table(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let sorted = model.sheet();
    let sort = sorted.header.get(model.sort).map(|(name, _)| *name);
    let sheet = sorted.fitted(usize::from(area.width));
    if sheet.rows.is_empty() {
        let text = if model.search.is_empty() { "nothing here" } else { "nothing matches the search" };
        return frame.render_widget(Paragraph::new(text), area);
    }
    let last = sheet.header.len().saturating_sub(1);
    let widths = sheet.widths().into_iter().enumerate().map(|(i, w)| match i {
        i if i == last => Constraint::Fill(1),
        _ => Constraint::Length(u16::try_from(w).unwrap_or(u16::MAX).saturating_add(1)),
    });
    let names = sheet.header.iter().map(|(name, _)| {
        let mark =
            if model.tab != Tab::Events && Some(*name) == sort { if model.descending { "v" } else { "^" } } else { "" };
        format!("{name}{mark}")
    });
    let header = Row::new(names.collect::<Vec<_>>()).style(Style::new().add_modifier(Modifier::BOLD));
    let alarmed = style(model, Color::Red);
    let rows: Vec<Row<'_>> = sheet
        .rows
        .into_iter()
        .map(|cells| {
            let is_alarmed = cells.iter().any(|c| c == "ATTACK");
            Row::new(cells).style(if is_alarmed { alarmed } else { Style::new() })
        })
        .collect();
    let table = Table::new(rows, widths)
        .header(header)
        .column_spacing(2)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::default().with_selected(Some(model.selected));
    frame.render_stateful_widget(table, area, &mut state);
}

fn footer(model: &Model) -> Line<'static> {
    if let Some(trouble) = &model.trouble {
        return Line::styled(trouble.clone(), style(model, Color::Red));
    }
    if model.is_typing || !model.search.is_empty() {
        let end = if model.is_typing { "_" } else { "  (Esc drops it)" };
        return Line::from(format!("search: {}{end}", model.search));
    }
    Line::from("? help  / search  s sort  Enter host  q quit")
}

#[cfg(test)]
mod tests {
    use super::super::model::Data;
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    fn model(color: bool) -> Model {
        let status = json!({ "version": "0.1.0", "dry_run": true, "uptime_seconds": 5.0,
                             "attacks": [{"prefix": "203.0.113.9/32", "packets_per_second": 1}] });
        let hosts = json!([{"host": "203.0.113.9", "packets_per_second": 70_000, "group": "web"}]);
        Model::new(Data { at: 0.0, status, hosts, exporters: json!(null) }, color)
    }

    fn screen(model: &mut Model, width: u16, height: u16) -> Terminal<TestBackend> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        terminal.draw(|frame| draw(frame, model)).expect("draws");
        terminal
    }

    #[test]
    fn every_size_draws_and_colour_is_a_choice() {
        for (width, height) in [(1, 1), (20, 5), (40, 12), (80, 24), (300, 100)] {
            for tab in Tab::ALL {
                let mut model = model(true);
                model.tab = tab;
                screen(&mut model, width, height);
            }
        }
        let colors = |terminal: &Terminal<TestBackend>| {
            terminal.backend().buffer().content().iter().any(|cell| cell.fg != Color::Reset)
        };
        assert!(colors(&screen(&mut model(true), 80, 24)));
        assert!(!colors(&screen(&mut model(false), 80, 24)), "NO_COLOR");
        let shown = screen(&mut model(false), 80, 24).backend().to_string();
        assert!(shown.contains("203.0.113.9") && shown.contains("DRY RUN") && shown.contains("ATTACK"), "{shown}");
    }
}
