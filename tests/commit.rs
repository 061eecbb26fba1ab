//! Candidates, commits and what survives them, on a running daemon.

mod support;

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use support::{FLOODWALL, Folder, Process, free_port, wait_for};

/// A daemon on an empty configuration but for its HTTP port.
struct Edge {
    folder: Folder,
    process: Process,
    file: PathBuf,
    socket: PathBuf,
}

impl Edge {
    fn start() -> Self {
        let folder = Folder::new();
        let file = folder
            .write("edge.toml", &format!("# our edge\n[api]\nlisten = \"127.0.0.1:{}\" # loopback\n", free_port()));
        let process = Self::run(&folder, &file);
        let socket = folder.join("edge.sock");
        process.started();
        Self { folder, process, file, socket }
    }

    fn run(folder: &Folder, file: &PathBuf) -> Process {
        Process::start(folder, "edge", Command::new(FLOODWALL).arg("run").arg("--config").arg(file))
    }

    fn output(&self, line: &str) -> Output {
        let words = line.split(' ');
        Command::new(FLOODWALL).args(words).env("FLOODWALL_SOCKET", &self.socket).output().expect("runs")
    }

    fn done(&self, line: &str) -> String {
        let output = self.output(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn refused(&self, line: &str) -> String {
        let output = self.output(line);
        assert_eq!(output.status.code(), Some(1), "{line}: {output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.done(&format!("{line} --json"))).expect("JSON")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.file).expect("readable")
    }

    /// One request on the socket as another window of the same operator would send it.
    fn window(&self, line: &str) -> Value {
        use std::io::{BufRead, BufReader, Write};
        let mut stream = UnixStream::connect(&self.socket).expect("listens");
        writeln!(stream, "{line}").expect("written");
        let mut reply = String::new();
        BufReader::new(stream).read_line(&mut reply).expect("a reply");
        serde_json::from_str(&reply).expect("JSON")
    }
}

#[test]
fn an_empty_daemon_is_configured_by_words_and_goes_back() {
    let mut edge = Edge::start();
    let before = edge.text();
    let port = free_port();
    for line in [
        "set main networks_list 203.0.113.0/24",
        "set main networks_list 2001:db8::/32",
        "set main netflow enable",
        "set main netflow_host 127.0.0.1",
        &format!("set main netflow_ports {port}"),
        "set hostgroup web networks 203.0.113.0/28",
        "set bgp router1 remote_address 127.0.0.9",
    ] {
        edge.done(line);
    }
    let diff = edge.done("show | compare");
    assert!(diff.contains("+networks_list = [\"203.0.113.0/24\", \"2001:db8::/32\"]"), "{diff}");
    assert_eq!(edge.text(), before, "the candidate is not the file");
    assert_eq!(edge.json("show main netflow")["netflow"], false, "show prints what runs");
    let problems = edge.refused("commit check");
    assert!(problems.contains("bgp.router1.local_asn") && problems.contains("nothing was changed"), "{problems}");
    assert!(edge.refused("commit").contains("bgp.router1.remote_asn"), "a wrong candidate is not committed");
    edge.done("delete bgp router1");
    let done = edge.done("commit comment first light");
    assert!(done.contains("revision 2 is in force"), "{done}");
    let after = edge.text();
    assert!(after.starts_with("# our edge\n[api]\n") && after.contains("# loopback"), "comments stay:\n{after}");
    assert_eq!(edge.json("show main netflow")["netflow"], true);
    let busy = std::net::UdpSocket::bind(("127.0.0.1", port));
    assert!(busy.is_err(), "the new port is open");
    let history = edge.json("show history");
    assert_eq!(history["commits"][0]["comment"], "first light");
    // Back, as in Junos: the candidate becomes what ran before, and is committed.
    edge.done("rollback 1");
    edge.done("commit");
    assert_eq!(edge.text(), before);
    wait_for("the port to close", 10, || std::net::UdpSocket::bind(("127.0.0.1", port)).ok());
    assert!(edge.refused("rollback 9").contains("there is no rollback 9"));
    let audit = edge.json("show audit");
    let actions: Vec<&str> = audit.as_array().expect("a list").iter().filter_map(|r| r["action"].as_str()).collect();
    assert!(actions.contains(&"commit comment \"first light\"") && actions.contains(&"rollback 1"), "{actions:?}");
    assert!(edge.process.stop());
}

#[test]
fn nobody_overwrites_what_he_has_not_seen() {
    let mut edge = Edge::start();
    edge.done("set main ban_time 600");
    // Another window of the same operator has not seen that edit.
    let refused = edge.window(r#"{"verb":"set","category":"main","arguments":["ban_time","700"],"seen":0}"#);
    assert_eq!(refused["ok"], false);
    assert!(refused["text"].as_str().expect("text").contains("set main ban_time 600"), "{refused}");
    let refused = edge.window(r#"{"verb":"commit","seen":0}"#);
    assert_eq!(refused["ok"], false, "and does not commit it unseen");
    let seen = refused["json"]["candidate_edits"].as_u64().expect("a number");
    let done = edge.window(&format!(r#"{{"verb":"commit","seen":{seen}}}"#));
    assert_eq!(done["ok"], true, "{done}");
    // Whoever edits the file by other means is not overwritten either.
    edge.done("set main max_rules 7");
    std::fs::write(&edge.file, edge.text().replace("600", "650")).expect("writable");
    assert!(edge.refused("commit").contains("was edited since it was read"));
    edge.done("reload");
    assert_eq!(edge.json("show main ban_time")["ban_time"], 650);
    let refused = edge.refused("commit");
    assert!(refused.contains("began from revision 2") && refused.contains("rebase"), "{refused}");
    edge.done("rebase");
    edge.done("commit");
    assert_eq!(
        (edge.json("show main ban_time"), edge.json("show main max_rules")["max_rules"].as_u64()),
        (serde_json::json!({"ban_time": 650}), Some(7))
    );
    assert!(edge.process.stop());
}

#[test]
fn an_unconfirmed_commit_is_gone_after_a_crash_and_after_its_time() {
    let mut edge = Edge::start();
    edge.done("set main ban_time 600");
    edge.done("commit");
    let before = edge.text();
    edge.done("set main ban_time 77");
    let done = edge.done("commit confirmed 1");
    assert!(done.contains("taken back in 60 s unless it is confirmed"), "{done}");
    assert_eq!(edge.json("show main ban_time")["ban_time"], 77, "it is in force");
    assert_eq!(edge.text(), before, "but not in the file");
    edge.process.kill();
    edge.process = Edge::run(&edge.folder, &edge.file);
    wait_for("the control socket", 20, || edge.output("show main ban_time").status.success().then_some(()));
    assert_eq!(edge.json("show main ban_time")["ban_time"], 600, "the old configuration is back after kill -9");
    // Without a crash it goes by itself; confirmed in time it stays.
    edge.done("set main ban_time 88");
    edge.done("commit confirmed 1");
    edge.done("confirm");
    edge.done("set main ban_time 99");
    edge.done("commit confirmed 1");
    assert_eq!(edge.json("show main ban_time")["ban_time"], 99);
    wait_for("the commit to be taken back", 80, || (edge.json("show main ban_time")["ban_time"] == 88).then_some(()));
    assert!(edge.text().contains("ban_time = 88"));
    assert!(edge.process.stop());
}

#[test]
fn a_signal_takes_the_file_over_and_a_wrong_file_changes_nothing() {
    let mut edge = Edge::start();
    std::fs::write(&edge.file, format!("{}[main]\nban_time = 5\n", edge.text())).expect("writable");
    edge.process.signal("HUP");
    wait_for("the new file", 10, || (edge.json("show main ban_time")["ban_time"] == 5).then_some(()));
    std::fs::write(&edge.file, format!("{}frob = 5\n", edge.text())).expect("writable");
    edge.process.signal("HUP");
    wait_for("the refusal", 10, || edge.process.log().contains("line 6: main.frob: unknown key").then_some(()));
    assert_eq!(edge.json("show main ban_time")["ban_time"], 5);
    assert!(edge.process.stop());
}

#[test]
fn a_file_is_edited_without_a_daemon() {
    let folder = Folder::new();
    let file = folder.join("new.toml");
    let path = file.to_str().expect("a path");
    let run = |line: &str| {
        let output = Command::new(FLOODWALL).args(line.split(' ')).args(["--file", path]).output().expect("runs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert!(run("set main networks_list 203.0.113.0/24").0);
    let (ok, text) = run("set hostgroup web enable_ban false");
    assert!(ok && text.contains("still to mend") && text.contains("hostgroup.web.networks"), "{text}");
    assert!(run("set hostgroup web networks 203.0.113.0/28").0);
    assert!(!run("show main").0);
    let checked = Command::new(FLOODWALL).args(["check", "--config", path]).output().expect("runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn a_candidate_is_replayed_beside_what_runs() {
    let mut edge = Edge::start();
    let mut recording = support::traffic::Recording::new(1);
    recording.dns_amplification(support::traffic::host(9), 0.0, 3.0, 3_000.0);
    let capture = edge.folder.capture("dns.pcap", &mut recording);
    edge.done("set main networks_list 203.0.113.0/24");
    edge.done("commit");
    edge.done("set hostgroup global threshold_pps 1000");
    let check = format!("commit check --replay {}", capture.to_str().expect("a path"));
    let compared = edge.json(&check);
    assert_eq!(compared["running"]["attacks"].as_array().map(Vec::len), Some(0), "{compared}");
    assert_eq!(compared["candidate"]["attacks"].as_array().map(Vec::len), Some(1));
    let route = compared["candidate"]["routes"][0].as_str().expect("a route");
    assert!(route.contains("203.0.113.9/32") && route.contains("source-port 53"), "{route}");
    assert!(edge.done(&check).contains("RUNNING"));
    assert!(edge.process.stop());
}
