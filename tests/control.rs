//! The control socket, by words and by raw lines.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};
use support::{FLOODWALL, Folder, Process, free_port, wait_for};

struct Running {
    process: Process,
    socket: PathBuf,
    folder: Folder,
}

fn start() -> Running {
    start_with("")
}

fn start_with(extra: &str) -> Running {
    let folder = Folder::new();
    let config = format!("{extra}[api]\nlisten = \"127.0.0.1:{}\"\n", free_port());
    let file = folder.write("config.toml", &config);
    let process = Process::start(&folder, "floodwall", Command::new(FLOODWALL).arg("run").arg("--config").arg(file));
    let socket = folder.join("floodwall.sock");
    process.started();
    Running { process, socket, folder }
}

impl Running {
    fn command(&self, program: &str, args: &[&str]) -> Output {
        Command::new(program).args(args).env("FLOODWALL_SOCKET", &self.socket).output().expect("runs")
    }

    /// One raw line to the daemon and its reply.
    fn line(&self, line: &[u8]) -> Value {
        let mut stream = UnixStream::connect(&self.socket).expect("the daemon listens");
        // It may answer and close before it has read everything.
        let _ = stream.write_all(line).and_then(|()| stream.write_all(b"\n"));
        let mut reply = String::new();
        BufReader::new(stream).read_line(&mut reply).expect("a reply");
        serde_json::from_str(&reply).expect("JSON")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn words_reach_the_daemon_also_as_fcli_and_in_json() {
    let mut daemon = start();
    let fcli = daemon.folder.join("fcli");
    std::os::unix::fs::symlink(FLOODWALL, &fcli).expect("a symlink");
    let fcli = fcli.to_str().expect("a path");
    let output = daemon.command(fcli, &["show", "attacks"]);
    assert!(output.status.success() && text(&output.stdout).contains("no attacks"), "{output:?}");
    let output = daemon.command(FLOODWALL, &["show", "total_traffic_counters", "--json"]);
    let counters: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(counters["incoming"], json!({"packets": 0, "bytes": 0}));
    let mut json_mode = Command::new(fcli);
    json_mode.args(["show", "flowspec"]).env("FLOODWALL_SOCKET", &daemon.socket).env("JSON_MODE", "on");
    assert_eq!(text(&json_mode.output().expect("runs").stdout).trim(), "[]");
    let output = daemon.command(fcli, &["show"]);
    assert!(text(&output.stdout).contains("total_traffic_counters"), "the list of categories: {output:?}");
    let output = daemon.command(fcli, &["show", "frobs"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("there is no \"frobs\" to show"), "{output:?}");
    assert!(daemon.process.stop());
    assert!(!daemon.socket.exists(), "the socket goes with the daemon");
    let output = daemon.command(fcli, &["show", "attacks"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("is the daemon running"), "{output:?}");
}

#[test]
fn garbage_and_endless_lines_are_answered_and_the_daemon_goes_on() {
    let mut daemon = start();
    assert!(daemon.line(b"frobnicate")["text"].as_str().expect("text").contains("not a request"));
    assert!(daemon.line(b"{\"verb\":\"eat\"}")["text"].as_str().expect("text").contains("not a request"));
    let long = vec![b'x'; (1 << 20) + 10];
    assert!(daemon.line(&long)["text"].as_str().expect("text").contains("at most 1048576 bytes"));
    assert_eq!(daemon.line(b"{\"verb\":\"show\",\"category\":\"events\"}")["ok"], true);
    // More clients than there are places: the last is told, and a place that was left is free again.
    let mut held: Vec<UnixStream> = (0..80).map(|_| UnixStream::connect(&daemon.socket).expect("accepts")).collect();
    let refused = wait_for("a refusal", 10, || {
        let mut line = String::new();
        let last = held.last().expect("one");
        last.set_read_timeout(Some(std::time::Duration::from_secs(1))).expect("a timeout");
        BufReader::new(last).read_line(&mut line).ok().filter(|n| *n > 0).map(|_| line)
    });
    assert!(refused.contains("64 clients are connected already"), "{refused}");
    held.clear();
    wait_for("a free place", 10, || (daemon.line(b"{\"verb\":\"show\"}")["ok"] == true).then_some(()));
    assert!(daemon.process.stop());
}

/// A command as a user without any rights; `None` where that cannot be done.
fn as_nobody(daemon: &Running, args: &[&str]) -> Option<Output> {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", FLOODWALL]).args(args);
    let output = command.env("FLOODWALL_SOCKET", &daemon.socket).output().ok()?;
    (output.status.code() != Some(127) && !text(&output.stderr).contains("setpriv:")).then_some(output)
}

#[test]
fn others_look_only_if_allowed_and_never_change_anything() {
    let mut closed = start();
    let Some(output) = as_nobody(&closed, &["show", "attacks"]) else { return };
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("use sudo, or join group floodwall"), "{output:?}");
    assert!(closed.process.stop());
    let mut open = start_with("[main]\ncontrol_socket_others_may_read = true\n");
    let output = as_nobody(&open, &["show", "attacks"]).expect("as before");
    assert!(output.status.success(), "{output:?}");
    for words in [&["set", "main", "ban_time", "5"][..], &["commit"], &["rollback", "1"], &["reload"]] {
        let output = as_nobody(&open, words).expect("as before");
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("may look but not change anything"), "{output:?}");
    }
    assert!(open.process.stop());
}
