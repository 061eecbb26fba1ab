//! `floodwall import`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use config::import::{Fate, Imported, ban2bgp, fastnetmon};
use operator::table;

/// What is imported.
#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// FastNetMon: fastnetmon.conf and its lists, or dumps of `fcli show main`, `fcli show hostgroup`, `fcli show bgp`.
    Fastnetmon(FastnetmonArgs),
    /// ban2bgp's INI file.
    Ban2bgp {
        /// The file.
        #[arg(value_name = "FILE.ini")]
        file: PathBuf,
        #[command(flatten)]
        output: Output,
    },
}

/// Where the sources are.
#[derive(Debug, clap::Args)]
pub(super) struct FastnetmonArgs {
    /// fastnetmon.conf of the Community edition.
    #[arg(long, value_name = "FILE")]
    conf: Option<PathBuf>,
    /// networks_list; else the one that the configuration names, where it can be read.
    #[arg(long, value_name = "FILE")]
    networks: Option<PathBuf>,
    /// networks_whitelist; else the one that the configuration names, where it can be read.
    #[arg(long, value_name = "FILE")]
    whitelist: Option<PathBuf>,
    /// A dump of `fcli show main`, as text or JSON.
    #[arg(long, value_name = "FILE")]
    main: Option<PathBuf>,
    /// A dump of `fcli show hostgroup`; may be given more than once.
    #[arg(long, value_name = "FILE")]
    hostgroup: Vec<PathBuf>,
    /// A dump of `fcli show bgp`; may be given more than once.
    #[arg(long, value_name = "FILE")]
    bgp: Vec<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// Where the result goes.
#[derive(Debug, clap::Args)]
pub(super) struct Output {
    /// Write the configuration here instead of to standard output; an existing file is not overwritten.
    #[arg(long, short, value_name = "FILE.toml")]
    output: Option<PathBuf>,
    /// Write the report here instead of to standard error.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print configuration and report as one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    match args {
        Args::Fastnetmon(args) => run_fastnetmon(args),
        Args::Ban2bgp { file, output } => {
            let (name, text) = read(file)?;
            write(&ban2bgp::import(&name, &text).map_err(anyhow::Error::msg)?, output)
        }
    }
}

fn run_fastnetmon(args: &FastnetmonArgs) -> Result<ExitCode> {
    let conf = args.conf.as_deref().map(read).transpose()?;
    if conf.is_none() && args.main.is_none() && args.hostgroup.is_empty() && args.bgp.is_empty() {
        bail!("nothing to import: --conf FILE, or --main, --hostgroup and --bgp with dumps of fcli show");
    }
    // Lists that the configuration names are taken where they are there; those given must be.
    let list = |given: &Option<PathBuf>, key: &str| match given {
        Some(path) => read(path).map(Some),
        None => Ok(conf.as_ref().and_then(|(_, text)| named(text, key)).and_then(|path| read(&path).ok())),
    };
    let (networks, whitelist) =
        (list(&args.networks, "networks_list_path")?, list(&args.whitelist, "white_list_path")?);
    let mut dumps = Vec::new();
    for (category, paths) in
        [("main", args.main.as_slice()), ("hostgroup", &args.hostgroup[..]), ("bgp", &args.bgp[..])]
    {
        for path in paths {
            let (name, text) = read(path)?;
            dumps.push((category.to_owned(), name, text));
        }
    }
    let sources = fastnetmon::Sources { conf, networks, whitelist, dumps };
    write(&fastnetmon::import(&sources).map_err(anyhow::Error::msg)?, &args.output)
}

/// A path that a configuration names.
fn named(text: &str, key: &str) -> Option<PathBuf> {
    text.lines().filter_map(|l| l.trim().split_once('=')).find(|(k, _)| k.trim() == key).map(|(_, v)| v.trim().into())
}

fn read(path: &Path) -> Result<(String, String)> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok((name, String::from_utf8_lossy(&bytes).into_owned()))
}

fn write(imported: &Imported, output: &Output) -> Result<ExitCode> {
    let report = report(imported);
    if let Some(path) = &output.output {
        use std::io::Write;
        let mut file = std::fs::File::create_new(path).with_context(|| format!("cannot make {}", path.display()))?;
        file.write_all(imported.text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &output.report {
        std::fs::write(path, &report).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if output.json {
        super::print_json(imported)?;
        return Ok(ExitCode::SUCCESS);
    }
    if output.output.is_none() {
        super::print_text(imported.text.trim_end())?;
    }
    if output.report.is_none() {
        eprint!("{report}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The report as text: every key, then how many of each kind.
fn report(imported: &Imported) -> String {
    let rows: Vec<Vec<String>> = imported
        .report
        .iter()
        .map(|l| vec![l.source.clone(), l.key.clone(), l.value.clone(), l.fate.name().to_owned(), l.note.clone()])
        .collect();
    let count = |fate: Fate| imported.report.iter().filter(|l| l.fate == fate).count();
    let counts: Vec<String> = [Fate::Mapped, Fate::Changed, Fate::NotNeeded, Fate::NoEqual]
        .into_iter()
        .map(|fate| format!("{} {}", count(fate), fate.name()))
        .collect();
    format!("{}\n{}\n", table(&["WHERE", "KEY", "VALUE", "FATE", "NOTE"], &rows), counts.join(", "))
}
