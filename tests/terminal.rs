//! The shell and `top` in a real terminal: tmux types and captures the screen.
#![allow(clippy::print_stdout, reason = "a test that is skipped, or has measured, says so")]

mod support;

use std::path::PathBuf;
use std::process::Command;

use support::{FLOODWALL, Folder, Process, free_port};

/// A tmux server of its own, with one window.
struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    /// Starts a command in a window of that size; `None` where tmux is not installed.
    fn start(folder: &Folder, width: u16, height: u16, environment: &[(&str, &str)], command: &str) -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            assert!(std::env::var_os("FLOODWALL_REQUIRE_LAB").is_none(), "install tmux");
            support::outside::skipped("tmux is not installed");
            return None;
        }
        let terminal = Self { socket: folder.join("tmux.sock") };
        let mut start = terminal.tmux();
        start.env("TERM", "xterm-256color").env_remove("NO_COLOR").env_remove("TMUX");
        environment.iter().for_each(|(name, value)| {
            start.env(name, value);
        });
        let (width, height) = (width.to_string(), height.to_string());
        // The window stays when its program has ended, so that its last screen can be read.
        let keep = format!("{command}; echo ended $?; sleep 600");
        start.args(["-f", "/dev/null", "new-session", "-d", "-x", &width, "-y", &height, &keep]);
        // tmux servers that start at the same moment may exit at once ("server exited unexpectedly").
        let mut output = start.output().expect("tmux runs");
        for _ in 0..5 {
            if output.status.success() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
            output = start.output().expect("tmux runs");
        }
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(terminal)
    }

    fn tmux(&self) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket);
        command
    }

    fn keys(&self, keys: &[&str]) {
        assert!(self.tmux().arg("send-keys").args(keys).status().expect("tmux runs").success());
    }

    /// A line as typed, and Enter, once the shell waits for one: what is typed while it still works may be lost.
    fn line(&self, text: &str) {
        for _ in 0..400 {
            let screen = self.capture(&[]);
            let last = screen.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim_end();
            // `?` gives back what was typed so far.
            if last == "floodwall>" || last == "floodwall> commit" {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert!(self.tmux().args(["send-keys", "-l", text]).status().expect("tmux runs").success());
        self.keys(&["Enter"]);
    }

    fn capture(&self, extra: &[&str]) -> String {
        let output = self.tmux().args(["capture-pane", "-p"]).args(extra).output().expect("tmux runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The screen once it shows a text.
    fn screen(&self, wanted: &str) -> String {
        let mut last = String::new();
        for _ in 0..400 {
            last = self.capture(&[]);
            if last.contains(wanted) {
                return last;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("{wanted:?} is not on the screen:\n{last}");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux().arg("kill-server").output();
    }
}

struct Edge {
    folder: Folder,
    process: Process,
    netflow: u16,
}

fn start() -> Edge {
    let folder = Folder::new();
    let netflow = free_port();
    let config = format!(
        "[main]\nnetworks_list = [\"203.0.113.0/24\"]\nnetflow = true\nnetflow_host = \"127.0.0.1\"\nnetflow_ports = [{netflow}]\n\n\
         [hostgroup.global]\nthreshold_pps = 2000\n\n[hostgroup.web]\nnetworks = [\"203.0.113.0/28\"]\n\n[bgp.router1]\nlocal_asn = 65001\n\
         remote_asn = 65002\nremote_address = \"127.0.0.9\"\nremote_port = {}\nrouter_id = \"192.0.2.1\"\n\n[api]\nlisten = \"127.0.0.1:{}\"\n",
        free_port(),
        free_port()
    );
    let file = folder.write("edge.toml", &config);
    let process = Process::start(&folder, "edge", Command::new(FLOODWALL).arg("run").arg("--config").arg(file));
    process.started();
    Edge { folder, process, netflow }
}

/// A flood of one host in NetFlow v5: 20 datagrams of 30 records of 100 packets, three times.
fn flood(port: u16) {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds");
    let mut datagram = vec![0, 5, 0, 30];
    datagram.resize(24, 0);
    for i in 0..30u8 {
        let mut record = [0u8; 48];
        record[..4].copy_from_slice(&[198, 51, 100, i]);
        record[4..8].copy_from_slice(&[203, 0, 113, 9]);
        record[16..20].copy_from_slice(&100u32.to_be_bytes());
        record[20..24].copy_from_slice(&100_000u32.to_be_bytes());
        record[32..34].copy_from_slice(&53u16.to_be_bytes());
        record[38] = 17;
        datagram.extend(record);
    }
    for _ in 0..20 {
        socket.send_to(&datagram, ("127.0.0.1", port)).expect("loopback");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn the_shell_completes_helps_remembers_and_commits() {
    let mut edge = start();
    let socket = edge.folder.join("edge.sock");
    let history = edge.folder.join("history");
    let environment = [
        ("FLOODWALL_SOCKET", socket.to_str().expect("a path")),
        ("FLOODWALL_HISTORY", history.to_str().expect("a path")),
    ];
    let Some(terminal) = Terminal::start(&edge.folder, 110, 40, &environment, FLOODWALL) else { return };
    terminal.screen("floodwall>");
    assert!(terminal.capture(&["-e"]).contains("\u{1b}[1m"), "the prompt is bold");
    // TAB: a word, then a name of the running configuration, then a key of its section.
    terminal.keys(&["-l", "set hostg"]);
    terminal.keys(&["Tab"]);
    terminal.screen("set hostgroup");
    terminal.keys(&["-l", "we"]);
    terminal.keys(&["Tab"]);
    terminal.screen("set hostgroup web");
    terminal.keys(&["-l", "threshold_udp_p"]);
    terminal.keys(&["Tab"]);
    terminal.screen("threshold_udp_pps");
    terminal.keys(&["-l", " 900"]);
    terminal.keys(&["Enter"]);
    terminal.screen("set hostgroup web threshold_udp_pps 900; commit puts it into force");
    // ? shows what may follow, with its meaning, and gives the line back.
    terminal.keys(&["-l", "commit ?"]);
    let help = terminal.screen("MINUTES: take it back unless it is confirmed");
    assert!(help.contains("only say whether it would do"), "{help}");
    terminal.line("check");
    terminal.screen("this threshold can never fire: set ban_for_udp_pps = true as well");
    terminal.line("set hostgroup web ban_for_udp_pps enable");
    terminal.line("show | compare");
    terminal.screen("+ban_for_udp_pps = true");
    terminal.line("commit comment \"from the shell\"");
    terminal.screen("is in force: 2 keys changed");
    terminal.line("show history");
    terminal.screen("from the shell");
    terminal.line("show bgp");
    terminal.screen("router1");
    terminal.line("frob");
    terminal.screen("is not a command; there are: show");
    terminal.keys(&["Up"]);
    terminal.keys(&["Up"]);
    terminal.screen("floodwall> show bgp");
    terminal.keys(&["C-u"]);
    terminal.line("exit");
    terminal.screen("ended 0");
    assert!(std::fs::read_to_string(&history).expect("written").contains("show history"));
    drop(terminal);
    // Without colour, on a narrow screen, as NO_COLOR asks.
    let narrow = [environment[0], environment[1], ("NO_COLOR", "1")];
    let Some(terminal) = Terminal::start(&edge.folder, 40, 20, &narrow, FLOODWALL) else { return };
    terminal.screen("floodwall>");
    assert!(!terminal.capture(&["-e"]).contains('\u{1b}'), "{:?}", terminal.capture(&["-e"]));
    terminal.line("show main ban_time");
    terminal.screen("1900");
    drop(terminal);
    assert!(edge.process.stop());
}

#[test]
fn lines_from_a_pipe_stop_at_the_first_that_fails() {
    use std::io::Write;
    let mut edge = start();
    let run = |lines: &str| {
        let mut shell = Command::new(FLOODWALL)
            .arg("shell")
            .env("FLOODWALL_SOCKET", edge.folder.join("edge.sock"))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("runs");
        shell.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("written");
        let output = shell.wait_with_output().expect("ends");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, text) = run("# a change window\nset main ban_time 60\ncommit\nshow main ban_time\n");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.ends_with("60\n"), "{text}");
    let (code, text) = run("set main ban_tim 60\nset main ban_time 70\n");
    assert_eq!(code, Some(1));
    assert!(text.contains("did you mean ban_time?") && text.contains("stopped at: set main ban_tim 60"), "{text}");
    assert!(edge.process.stop());
}

#[test]
fn top_shows_an_attack_sorts_searches_and_drills_down() {
    let mut edge = start();
    let socket = edge.folder.join("edge.sock");
    let environment = [("FLOODWALL_SOCKET", socket.to_str().expect("a path"))];
    let command = format!("{FLOODWALL} top");
    let Some(terminal) = Terminal::start(&edge.folder, 120, 40, &environment, &command) else { return };
    let screen = terminal.screen("DRY RUN");
    assert!(screen.contains("PACKETS/S") && screen.contains("1 Hosts") && screen.contains("q quit"), "{screen}");
    flood(edge.netflow);
    terminal.keys(&["2"]);
    let screen = terminal.screen("203.0.113.9/32");
    assert!(screen.contains("threshold_pps of 2000"), "{screen}");
    assert!(terminal.capture(&["-e"]).contains("\u{1b}["), "in colour");
    terminal.keys(&["3"]);
    terminal.screen("flow destination 203.0.113.9");
    terminal.keys(&["4"]);
    terminal.screen("udp 127.0.0.1");
    terminal.keys(&["5"]);
    terminal.screen("refuses connections");
    terminal.keys(&["6"]);
    terminal.screen("bucket_full");
    terminal.keys(&["2", "/"]);
    terminal.line("no such host");
    terminal.screen("nothing matches the search");
    terminal.keys(&["Escape"]);
    terminal.screen("203.0.113.9/32");
    terminal.keys(&["Enter"]);
    let screen = terminal.screen("host 203.0.113.9");
    assert!(screen.contains("attack (incoming)") && screen.contains("(dry run)"), "{screen}");
    terminal.keys(&["?"]);
    terminal.screen("search; Enter keeps it");
    terminal.keys(&["?", "q"]);
    terminal.screen("ended 0");
    drop(terminal);
    let narrow = [environment[0], ("NO_COLOR", "1")];
    let Some(terminal) = Terminal::start(&edge.folder, 36, 14, &narrow, &command) else { return };
    terminal.keys(&["2"]);
    let screen = terminal.screen("203.0.113.9/32");
    assert!(screen.lines().all(|l| l.chars().count() <= 36), "{screen}");
    let colours = ["\u{1b}[31m", "\u{1b}[33m", "\u{1b}[38;"];
    let raw = terminal.capture(&["-e"]);
    assert!(colours.iter().all(|c| !raw.contains(c)), "no colours: {raw:?}");
    terminal.keys(&["q"]);
    drop(terminal);
    assert!(edge.process.stop());
}

#[test]
fn doctor_names_what_is_wrong_and_what_mends_it() {
    let mut edge = start();
    let output = Command::new(FLOODWALL)
        .args(["doctor", "--json"])
        .env("FLOODWALL_SOCKET", edge.folder.join("edge.sock"))
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(1), "a session is down");
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let about = |name: &str| {
        let found = findings.as_array().expect("a list").iter().find(|f| f["about"] == name);
        found.unwrap_or_else(|| panic!("{name} in {findings}")).clone()
    };
    assert_eq!(about("daemon")["level"], "well");
    let peer = about("peer router1");
    assert!(peer["text"].as_str().expect("text").contains("refuses connections"), "{peer}");
    assert_eq!(peer["mend"], "floodwall router-config router1");
    assert_eq!(about(&format!("udp 127.0.0.1:{}", edge.netflow))["level"], "trouble", "nothing has arrived");
    for name in ["disk", "clock", "rp_filter", "socket buffers", "capabilities", "mode"] {
        about(name);
    }
    let router = Command::new(FLOODWALL)
        .args(["router-config", "router1", "--vendor", "junos", "--collector", "192.0.2.7"])
        .env("FLOODWALL_SOCKET", edge.folder.join("edge.sock"))
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&router.stdout).into_owned();
    assert!(
        text.contains("flow-server 192.0.2.7") && text.contains("no-validate") && text.contains("an alarm after"),
        "{text}"
    );
    assert!(edge.process.stop());
}
