//! The daemon's announcements on real routers: the guide's rules, restarts, the kill switch, two daemons, faults.
#![allow(clippy::print_stdout, reason = "what was measured belongs into the test's output")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use support::traffic::{self, Recording};
use support::{FLOODWALL, Folder, Lab, Namespace, Process, has_lab, lab_peer, stopwatch, wait_for};

const GUIDE: &str = r#""source_prefix": "4.0.0.0/32", "destination_prefix": "127.0.0.0/32", "destination_ports": [ 80 ],
    "source_ports": [ 53, 5353 ], "packet_lengths": [ 777, 1122 ], "protocols": [ "tcp" ],
    "fragmentation_flags": [ "is-fragment", "dont-fragment" ], "tcp_flags": [ "syn" ]"#;

/// A daemon inside a namespace, and its words.
struct Daemon {
    process: Process,
    socket: PathBuf,
    state: PathBuf,
}

impl Daemon {
    fn start(ns: &Namespace, folder: &Folder, name: &str, config: &Path) -> Self {
        let (socket, state) = (folder.join(&format!("{name}.sock")), folder.join(&format!("{name}-kept")));
        let mut command = ns.command(FLOODWALL);
        command.arg("run").arg("--config").arg(config).arg("--socket").arg(&socket).arg("--state-dir").arg(&state);
        let process = Process::start(folder, name, &mut command);
        let daemon = Self { process, socket, state };
        let pid = daemon.state.join("floodwall.pid");
        // A crash leaves both files behind: the socket has to answer, and the pid to be that of a process.
        wait_for("the control socket", 30, || {
            let runs = std::fs::read_to_string(&pid).ok().filter(|p| Path::new("/proc").join(p.trim()).exists());
            (std::os::unix::net::UnixStream::connect(&daemon.socket).is_ok() && runs.is_some()).then_some(())
        });
        daemon
    }

    fn words(&self, words: &[&str]) -> Output {
        Command::new(FLOODWALL).args(words).env("FLOODWALL_SOCKET", &self.socket).output().expect("runs")
    }

    fn done(&self, words: &[&str]) -> String {
        let output = self.words(words);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{words:?}: {text}{}\n{}",
            String::from_utf8_lossy(&output.stderr),
            self.process.log()
        );
        text
    }

    fn refused(&self, words: &[&str]) -> String {
        let output = self.words(words);
        assert!(!output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Ends it as a crash would.
    fn kill(mut self) {
        let pid = std::fs::read_to_string(self.state.join("floodwall.pid")).expect("a pid file");
        assert!(Command::new("kill").args(["-9", pid.trim()]).status().expect("runs").success());
        wait_for("the end", 10, || (!self.process.is_running()).then_some(()));
        // A crash leaves both behind.
        let _ = std::fs::remove_file(self.state.join("floodwall.pid"));
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn config(folder: &Folder, peers: &[&str], extra: &str) -> PathBuf {
    let mut text = format!(
        "[main]\nnetworks_list = [\"203.0.113.0/24\", \"127.0.0.0/32\", \"2001:db8::/32\"]\n{extra}\n\
         [hostgroup.global]\nthreshold_pps = 3000\n\n"
    );
    peers.iter().for_each(|p| text.push_str(&lab_peer(p)));
    folder.write("floodwall.toml", &text)
}

fn held(lab: &Lab<'_>, peer: &str) -> Option<Vec<String>> {
    let mut all: Vec<String> = Vec::new();
    for family in ["ipv4-flowspec", "ipv4"] {
        all.extend(lab.routes(peer, family)?.iter().filter_map(|r| r["text"].as_str().map(str::to_owned)));
    }
    all.sort();
    Some(all)
}

fn becomes(lab: &Lab<'_>, peer: &str, seconds: u64, what: &str, right: impl Fn(&[String]) -> bool) -> Vec<String> {
    // Asking a router takes its time as well.
    let began = stopwatch();
    let mut last = None;
    while began.elapsed() < Duration::from_secs(seconds) {
        last = held(lab, peer);
        if let Some(held) = last.take_if(|held| right(held)) {
            return held;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what} at {peer} did not happen within {seconds} s; it holds {last:?}");
}

#[test]
fn the_rules_of_the_guide_are_announced_shown_kept_over_crashes_and_withdrawn() {
    if !has_lab(&["gobgpd", "gobgp", "bird", "birdc", "ip"]) {
        return;
    }
    let (ns, folder) = (Namespace::new(), Folder::new());
    let lab = Lab::up(&ns, &["gobgp", "bird"]);
    let file = config(&folder, &["gobgp", "bird"], "");
    let daemon = Daemon::start(&ns, &folder, "one", &file);

    // Refused with the reason, and nothing announced.
    let wide = GUIDE.replace("127.0.0.0/32", "203.0.113.0/24");
    let text = daemon.refused(&["set", "flowspec", &format!("{{ {wide}, \"action_type\": \"discard\" }}")]);
    assert!(text.contains("/32") && text.contains("flow_spec_execute_validation"), "{text}");
    let foreign = GUIDE.replace("127.0.0.0/32", "198.51.100.1/32");
    let text = daemon.refused(&["set", "flowspec", &format!("{{ {foreign}, \"action_type\": \"discard\" }}")]);
    assert!(text.contains("networks_list"), "{text}");
    let text = daemon.refused(&["set", "blackhole", "1.2.3.4"]);
    assert!(text.contains("announce_remote_bans"), "{text}");
    let text = daemon.refused(&["set", "flowspec", "{ \"action_type\": \"discard\", \"vlans\": [5] }"]);
    assert!(text.contains("vlans"), "{text}");

    let first = format!("{{ {GUIDE}, \"action_type\": \"rate-limit\", \"action\": {{ \"rate\": 1024 }} }}");
    daemon.done(&["set", "flowspec", &first, "expires", "1h", "reason", "the guide says so"]);
    for peer in ["gobgp", "bird"] {
        let routes = becomes(&lab, peer, 60, "the rule", |h| h.len() == 1);
        for part in ["127.0.0.0/32", "4.0.0.0/32", "=53 =5353", "=777 =1122", "syn"] {
            assert!(routes[0].contains(part), "{peer}: {routes:?}");
        }
    }
    let shown = ns.run("gobgp", &["-u", "127.0.0.1", "-p", "50151", "global", "rib", "-a", "ipv4-flowspec"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("[destination: 127.0.0.0/32][source: 4.0.0.0/32][protocol: ==tcp]"), "{shown}");
    let view = daemon.done(&["show", "flowspec"]);
    assert!(view.contains("the guide says so") && view.contains("1024") && view.contains("gobgp"), "{view}");

    // The second form replaces the first: the same rule with another action.
    let second =
        format!("{{ {GUIDE}, \"action_type\": \"accept\", \"ipv4_nexthops\": [\"11.22.33.44\", \"11.22.33.45\"] }}");
    daemon.done(&["set", "flowspec", &second]);
    wait_for("the next hops at GoBGP", 10, || {
        let routes = lab.routes("gobgp", "ipv4-flowspec")?;
        let actions = routes.first()?["actions"].to_string();
        (routes.len() == 1 && actions.contains("11.22.33.44") && actions.contains("11.22.33.45")).then_some(())
    });
    daemon.done(&["set", "blackhole", "203.0.113.7", "expires", "1h"]);
    becomes(&lab, "gobgp", 10, "the blackhole", |h| h.len() == 2);

    // After a crash the same set is there again.
    daemon.kill();
    let daemon = Daemon::start(&ns, &folder, "one", &file);
    for peer in ["gobgp", "bird"] {
        becomes(&lab, peer, 60, "the same routes", |h| h.len() == 2);
    }
    let json = daemon.done(&["show", "--json", "flowspec"]);
    let rules: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(rules[0]["rule"]["source_ports"].to_string(), "[53,5353]", "{json}");
    assert!(daemon.done(&["show", "flowspec", "history"]).contains("announce"));

    let id = rules[0]["id"].as_str().expect("an id").to_owned();
    daemon.done(&["delete", "flowspec", &id]);
    becomes(&lab, "gobgp", 10, "the blackhole alone", |h| h.len() == 1 && h[0].contains("203.0.113.7"));

    // The kill switch, with the socket and without; it survives a restart.
    let switch = |daemon: &Daemon, socket: &Path| {
        let mut command = Command::new(FLOODWALL);
        command.arg("withdraw-all").arg("--socket").arg(socket).arg("--state-dir").arg(&daemon.state);
        let output = command.output().expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    switch(&daemon, &daemon.socket);
    becomes(&lab, "gobgp", 10, "nothing", <[String]>::is_empty);
    daemon.done(&["set", "announcing", "enable"]);
    becomes(&lab, "gobgp", 10, "the blackhole again", |h| h.len() == 1);
    switch(&daemon, Path::new("/nonexistent/socket"));
    becomes(&lab, "gobgp", 10, "nothing", <[String]>::is_empty);
    daemon.kill();
    let mut daemon = Daemon::start(&ns, &folder, "one", &file);
    assert!(daemon.done(&["show", "blackhole"]).contains("withdraw-all"));
    assert_eq!(held(&lab, "gobgp"), Some(Vec::new()));
    assert!(daemon.process.stop(), "ends when asked to");
}

#[test]
fn of_two_daemons_one_may_die_without_a_gap() {
    if !has_lab(&["bird", "birdc", "ip"]) {
        return;
    }
    let (ns, folder) = (Namespace::new(), Folder::new());
    let lab = Lab::up(&ns, &["bird", "bird-active"]);
    // The second daemon is another neighbour of the same routers; here it has one of its own beside the first's.
    let file = config(&folder, &["bird"], "[api]\nlisten = \"127.0.0.1:10007\"");
    let text = std::fs::read_to_string(&file).expect("read").replace("127.0.0.1:10007", "127.0.0.1:10008");
    let text = text.replace("[bgp.bird]", "[bgp.twin]").replace("127.0.0.11", "127.0.0.23").replace("65011", "65023");
    let text = text
        .replace("local_address = \"127.0.0.1\"", "local_address = \"127.0.0.2\"\npassive = true\nlocal_port = 1799");
    let other = folder.write("other.toml", &text);
    let one = Daemon::start(&ns, &folder, "one", &file);
    let two = Daemon::start(&ns, &folder, "two", &other);
    for daemon in [&one, &two] {
        daemon.done(&["set", "blackhole", "203.0.113.9"]);
    }
    becomes(&lab, "bird", 60, "the blackhole", |h| h.len() == 1);
    becomes(&lab, "bird-active", 60, "the blackhole", |h| h.len() == 1);
    one.kill();
    let began = stopwatch();
    while began.elapsed() < Duration::from_secs(3) {
        assert_eq!(held(&lab, "bird-active").map(|h| h.len()), Some(1), "a gap after {:?}", began.elapsed());
    }
    // BIRD helps a restart: the dead daemon's route stays as well, until it is back.
    assert_eq!(held(&lab, "bird").map(|h| h.len()), Some(1));
    drop(two);
}

/// A small seeded generator.
fn random(state: &mut u64, n: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) % n
}

#[test]
fn after_random_faults_every_router_holds_exactly_what_it_should() {
    if !has_lab(&["gobgpd", "gobgp", "bird", "birdc", "ip", "tcpreplay"]) {
        return;
    }
    let (ns, folder) = (Namespace::new(), Folder::new());
    let lab = Lab::up(&ns, &["gobgp", "bird"]);
    let attacked = "enable_ban = true\nmirror = true\ninterfaces = [\"vx0\"]\nban_time = 3\nattack_end_delay = 2\nprobe_time = 1\n\
                    blackhole_after = 600";
    let file = config(&folder, &["gobgp", "bird"], attacked);
    let mut daemon = Some(Daemon::start(&ns, &folder, "one", &file));
    let mut attacks = Attacks::new(&ns, &folder);
    let mut expected: std::collections::BTreeSet<u64> = std::collections::BTreeSet::new();
    let mut state = 2026;
    for step in 0..200 {
        let what = random(&mut state, 24);
        let host = 10 + random(&mut state, 20);
        let address = format!("203.0.113.{host}");
        match (&daemon, what) {
            (Some(running), 0..=9) => {
                running.done(&["set", "blackhole", &address]);
                expected.insert(host);
            }
            (Some(running), 10..=15) if expected.contains(&host) => {
                running.done(&["delete", "blackhole", &address]);
                expected.remove(&host);
            }
            (Some(running), 16) => {
                running.done(&["set", "main", "max_rules", &(100 + step).to_string()]);
                running.done(&["commit"]);
            }
            (Some(_), 17) => daemon.take().expect("runs").kill(),
            (_, 18) => lab.restart("bird"),
            (_, 19) if random(&mut state, 3) == 0 => lab.restart("gobgp"),
            (_, 20 | 21) => attacks.start(random(&mut state, 3)),
            (_, 22) => attacks.stop(random(&mut state, 3)),
            (None, _) => daemon = Some(Daemon::start(&ns, &folder, "one", &file)),
            _ => {}
        }
        // Attacks need their time.
        std::thread::sleep(Duration::from_millis(50));
    }
    let daemon = daemon.unwrap_or_else(|| Daemon::start(&ns, &folder, "one", &file));
    println!("attacks began {} times; the daemon announced {} rules", attacks.started, announced(&daemon));
    assert!(attacks.started >= 5 && announced(&daemon) >= 3, "{}", daemon.process.log());
    // One attack goes on: its rule is there, beside what was ordered, and no other.
    (0..3).for_each(|host| attacks.stop(host));
    attacks.start(0);
    let ordered: Vec<String> = expected.iter().map(|h| format!("203.0.113.{h}/32")).collect();
    let rest = |held: &[String]| held.iter().filter(|r| !r.contains("203.0.113.100/32")).cloned().collect::<Vec<_>>();
    for peer in ["bird", "gobgp"] {
        let what = format!("exactly {ordered:?} and the rule of the attack");
        becomes(&lab, peer, 120, &what, |h| h.len() == ordered.len() + 1 && rest(h) == ordered);
    }
    attacks.stop(0);
    for peer in ["bird", "gobgp"] {
        becomes(&lab, peer, 60, &format!("exactly {ordered:?}"), |h| h == ordered);
    }
    drop(daemon);
}

/// How often the rules of attacks were announced since the first start. Each by itself: the journal shows the newest lines alone.
fn announced(daemon: &Daemon) -> usize {
    let of_host = |host: u8| {
        let route = format!("flow destination 203.0.113.{host}/32 protocol udp source-port 53");
        let text = daemon.done(&["show", "flowspec", "history", &route, "--json"]);
        let lines: Value = serde_json::from_str(&text).expect("JSON");
        lines.as_array().expect("lines").iter().filter(|l| l["event"] == "announce").count()
    };
    (100..103).map(of_host).sum()
}

/// DNS amplification of the hosts 203.0.113.100, 101, 102, each by itself.
struct Attacks<'a> {
    ns: &'a Namespace,
    folder: &'a Folder,
    captures: Vec<PathBuf>,
    running: [Option<Process>; 3],
    started: usize,
    /// A mirror port that shows nothing at all is taken for a broken one, and attacks do not end by that.
    _ordinary: Process,
}

impl<'a> Attacks<'a> {
    fn new(ns: &'a Namespace, folder: &'a Folder) -> Self {
        let capture = |last: u8| {
            let mut recording = Recording::new(last.into());
            recording.dns_amplification(traffic::host(last), 0.0, 1.0, 5000.0);
            folder.capture(&format!("attack-{last}.pcap"), &mut recording)
        };
        let mut recording = Recording::new(1);
        recording.ordinary(traffic::host(50), 0.0, 10.0, 20.0);
        let ordinary = folder.capture("ordinary.pcap", &mut recording);
        let mut command = ns.command("tcpreplay");
        command.args(["-q", "-K", "-i", "vx1", "-p", "20", "--loop", "0"]).arg(ordinary);
        let ordinary = Process::start(folder, "ordinary", &mut command);
        let captures = (100..103).map(capture).collect();
        Self { ns, folder, captures, running: [None, None, None], started: 0, _ordinary: ordinary }
    }

    fn start(&mut self, which: u64) {
        let which = usize::try_from(which).expect("small");
        if self.running[which].is_none() {
            let mut command = self.ns.command("tcpreplay");
            command.args(["-q", "-K", "-i", "vx1", "-p", "5000", "--loop", "0"]).arg(&self.captures[which]);
            self.running[which] = Some(Process::start(self.folder, &format!("attack-{which}"), &mut command));
            self.started += 1;
        }
    }

    fn stop(&mut self, which: u64) {
        self.running[usize::try_from(which).expect("small")] = None;
    }
}
