//! `floodwall top`: the live screen. [`model`] holds what is shown and what keys do, [`screen`] draws it.

mod model;
mod screen;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use operator::{Envelope, Request, clock};
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use serde_json::Value;

use crate::control;
use crate::control::client::Client;
use model::{Data, Model};

/// The screen is fetched anew this often.
const REFRESH: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The daemon's control socket [default: /run/floodwall/control.sock].
    #[arg(long, env = "FLOODWALL_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    run_on(&control::socket_path(args.socket.as_ref()))
}

/// On a daemon's socket.
pub(super) fn run_on(socket: &Path) -> Result<ExitCode> {
    if !std::io::stdout().is_terminal() {
        bail!("top needs a terminal; for scripts there is floodwall show status --json");
    }
    // A daemon that is not there is told before the screen changes.
    let mut model = Model::new(fetch(socket)?, super::has_color());
    let mut terminal = ratatui::try_init()?;
    let result = (|| {
        let mut due = clock::now().after(REFRESH);
        while !model.quit {
            terminal.draw(|frame| screen::draw(frame, &mut model))?;
            let wait = due.since(clock::now()).min(Duration::from_millis(250));
            if event::poll(wait)?
                && let Event::Key(key) = event::read()?
                && key.kind != KeyEventKind::Release
            {
                model.key(key);
            }
            if clock::now() >= due {
                due = clock::now().after(REFRESH);
                model.refresh(fetch(socket));
            }
        }
        Ok(ExitCode::SUCCESS)
    })();
    ratatui::restore();
    result
}

/// Everything that is shown, in one conversation.
fn fetch(socket: &Path) -> Result<Data> {
    let mut client = Client::connect(socket)?;
    let mut show = |category: &str, arguments: &[&str]| -> Result<Value> {
        let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        let request = Request::Show { category: category.to_owned(), arguments };
        let outcome = client.ask(&Envelope::new(request, None, None))?;
        outcome.map(|answer| answer.json).map_err(|failure| anyhow::anyhow!(failure.text))
    };
    Ok(Data {
        at: clock::now().as_seconds(),
        status: show("status", &[])?,
        hosts: show("host_counters", &["packets", "incoming", "1000"]).unwrap_or_default(),
        exporters: show("exporters", &[]).unwrap_or_default(),
    })
}
