//! Notifications of a real daemon, to a real script, HTTP server, mail server and syslog socket.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use collectors::capture::{Datagrams, Reader};
use serde_json::Value;
use support::{FLOODWALL, Folder, Process, free_port, get, has_lab, wait_for};

/// What was posted: path, head, body.
type Posted = Arc<Mutex<Vec<(String, String, Value)>>>;

/// An HTTP server that takes everything.
fn web() -> (u16, Posted) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = listener.local_addr().expect("bound").port();
    let posted = Posted::default();
    let all = Arc::clone(&posted);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.expect("accepted"));
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).expect("read") <= 2 {
                    break;
                }
                if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                    length = n.trim().parse().expect("a number");
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("whole");
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            all.lock().expect("whole").push((path, head, serde_json::from_slice(&body).expect("JSON")));
            reader.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("answered");
        }
    });
    (port, posted)
}

fn script(folder: &Folder, name: &str, text: &str) -> PathBuf {
    let path = folder.write(name, &format!("#!/bin/sh\n{text}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
    path
}

/// Debian's aiosmtpd, with TLS; what it gets is in its log.
fn mail_server(folder: &Folder) -> (Process, u16) {
    let (certificate, key) = (folder.join("mail.pem"), folder.join("mail.key"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let port = free_port();
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-u", "-m", "aiosmtpd", "-n", "-l", &format!("localhost:{port}"), "--tlscert"]).arg(&certificate);
    command.arg("--tlskey").arg(&key).args(["-c", "aiosmtpd.handlers.Debugging", "stdout"]);
    let process = Process::start(folder, "aiosmtpd", &mut command);
    wait_for("the mail server", 20, || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    (process, port)
}

fn daemon(folder: &Folder, main: &str, rest: &str) -> (Process, SocketAddr, SocketAddr) {
    let loopback = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let (sflow, api) = (loopback(free_port()), loopback(free_port()));
    let config = format!(
        "[main]\nnetworks_list = [\"203.0.113.0/24\"]\nenable_ban = true\nban_time = 1\nattack_end_delay = 1\nprobe_time = 1\n\
         longest_attack_end_delay = 1\nsflow = true\nsflow_host = \"127.0.0.1\"\nsflow_ports = [{}]\n{main}\n\
         [hostgroup.global]\nthreshold_pps = 5000\nenable_ban = true\n\n\
         [bgp.router]\nlocal_asn = 65001\nlocal_address = \"127.0.0.1\"\nremote_asn = 65002\nremote_address = \"127.0.0.1\"\n\
         remote_port = {}\nrouter_id = \"192.0.2.2\"\n\n[api]\nlisten = \"{api}\"\n{rest}\n",
        sflow.port(),
        free_port()
    );
    let file = folder.write("config.toml", &config);
    let process = Process::start(folder, "floodwall", Command::new(FLOODWALL).arg("run").arg("--config").arg(file));
    wait_for("the API", 20, || get(api, "/metrics"));
    (process, sflow, api)
}

fn words(folder: &Folder, args: &[&str]) {
    let socket = folder.join("floodwall.sock");
    let output = Command::new(FLOODWALL).args(args).env("FLOODWALL_SOCKET", socket).output().expect("runs");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The project's own capture of a DNS amplification.
fn attack(to: SocketAddr) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps/dns-sflow.pcap");
    let mut extract = Datagrams::default();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
    for frame in Reader::open(&path).expect("readable") {
        let frame = frame.expect("whole");
        if let Some(datagram) = frame.link.and_then(|link| extract.extract(link, &frame)) {
            socket.send_to(&datagram.payload, to).expect("loopback");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A script as FastNetMon's documentation has it: four arguments, the report on standard input.
const SCRIPT: &str = "cd \"$(dirname \"$0\")\"\necho \"$1 $2 $4\" >> calls\nif [ \"$4\" = ban ] || [ \"$4\" = partial_block ]; then\n  \
    cat > \"report.$4\"\nfi";

#[test]
fn everybody_is_told_of_an_attack_a_rule_and_a_blackhole() {
    if !has_lab(&["openssl"]) {
        return;
    }
    let folder = Folder::new();
    let path = script(&folder, "notify.sh", SCRIPT);
    let (port, posted) = web();
    let (mail, mail_port) = mail_server(&folder);
    let log = UnixDatagram::bind(folder.join("log")).expect("binds");
    log.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let main = format!(
        "notify_script_enabled = true\nnotify_script_path = {path:?}\nweb_callback_enabled = true\n\
         web_callback_url = \"http://127.0.0.1:{port}/callback\"\nweb_callback_secret = \"k\"\nemail_notifications_enabled = true\n\
         email_notifications_host = \"localhost\"\nemail_notifications_port = {mail_port}\nemail_notifications_auth = false\n\
         email_notifications_disable_certificate_checks = true\nemail_notifications_from = \"floodwall@example.net\"\n\
         email_notifications_recipients = [\"noc@example.net\"]\n"
    );
    let rest = format!(
        "[notify.chat]\ntype = \"mattermost\"\nurl = \"http://127.0.0.1:{port}/chat\"\nevents = [\"attack_detected\", \"partial_block\"]\n\
         template = \"{{{{ ip }}}}: {{{{ action }}}}\"\n\n[notify.log]\ntype = \"syslog\"\nserver = {:?}\nevents = [\"ban\"]\n",
        folder.join("log")
    );
    let (_process, sflow, _) = daemon(&folder, &main, &rest);
    attack(sflow);
    words(&folder, &["set", "blackhole", "203.0.113.77", "expires", "1h"]);
    words(&folder, &["delete", "blackhole", "203.0.113.77"]);
    let calls = || std::fs::read_to_string(folder.join("calls")).unwrap_or_default();
    let count = |what: &str| calls().lines().filter(|l| l.ends_with(&format!(" {what}"))).count();
    wait_for("the end of all of it", 60, || {
        (count("unban") == 1 && count("partial_block") > 0 && count("partial_unblock") == count("partial_block"))
            .then_some(())
    });
    assert_eq!(count("ban"), 1, "{}", calls());
    assert!(calls().contains("203.0.113.77 incoming unban\n"), "{}", calls());
    let report = std::fs::read_to_string(folder.join("report.partial_block")).expect("written");
    for line in [
        "IP: 203.0.113.",
        "Attack type: udp_flood\n",
        "Attack protocol: udp\n",
        "Attack traffic dump\n",
        ":53 > 203.0.113.",
    ] {
        assert!(report.contains(line), "{line} in {report}");
    }
    let of = |path: &str| -> Vec<(String, Value)> {
        let posted = posted.lock().expect("whole");
        posted.iter().filter(|(p, ..)| p == path).map(|(_, head, body)| (head.clone(), body.clone())).collect()
    };
    wait_for("the web callback", 20, || (of("/callback").len() == calls().lines().count()).then_some(()));
    let (head, block) = of("/callback").into_iter().find(|(_, b)| b["action"] == "partial_block").expect("told");
    assert!(head.to_ascii_lowercase().contains("x-floodwall-signature-256: sha256="), "{head}");
    assert!(head.contains("FastNetMon (Floodwall)"), "{head}");
    let details = &block["attack_details"];
    let udp = details["incoming_udp_pps"].as_u64().expect("a number");
    assert!(udp > 0 && udp <= details["total_incoming_pps"].as_u64().expect("a number"), "{details}");
    assert_eq!(
        (details["attack_detection_source"].as_str(), details["host_network"].as_str()),
        (Some("automatic"), Some("203.0.113.0/24"))
    );
    assert_eq!(block["flow_spec_rules"][0]["source_ports"], serde_json::json!([53]), "{block}");
    assert_eq!(block["packet_dump_detailed"][0]["protocol"], "udp");
    assert_eq!(block["packet_dump"].as_array().map(Vec::is_empty), Some(false));
    let lines: Vec<String> = of("/chat").iter().map(|(_, b)| b["text"].as_str().expect("text").to_owned()).collect();
    assert!(lines.iter().any(|l| l.contains("attack_detected")), "{lines:?}");
    let mut buffer = [0; 2048];
    let length = log.recv(&mut buffer).expect("a line");
    let line = String::from_utf8_lossy(&buffer[..length]).into_owned();
    assert!(line.starts_with("<28>floodwall[") && line.contains("203.0.113.77 is blackholed"), "{line}");
    wait_for("the mail", 30, || mail.log().contains("Subject: Floodwall unblocked host 203.0.113.77").then_some(()));
    let letters = mail.log();
    assert!(letters.contains("To: noc@example.net") && letters.contains("Attack type: udp_flood"), "{letters}");
}

#[test]
fn a_script_that_hangs_and_floods_hurts_nothing_and_test_says_what_is_wrong() {
    let folder = Folder::new();
    let path = script(&folder, "notify.sh", "cat > /dev/null &\nyes flood\n");
    let main = format!("notify_script_enabled = true\nnotify_script_path = {path:?}\nnotify_script_timeout = 3600\n");
    let (mut process, sflow, api) = daemon(&folder, &main, "");
    for last in 100..130 {
        words(&folder, &["set", "blackhole", &format!("203.0.113.{last}"), "expires", "1h"]);
    }
    attack(sflow);
    wait_for("a rule in spite of 8 scripts that never end", 20, || {
        let status: Value = serde_json::from_str(&get(api, "/api/v1/status")?).ok()?;
        status["mitigations"].as_array()?.iter().any(|m| m["kind"] == "flowspec").then_some(())
    });
    assert!(process.stop(), "it ends in time all the same: {}", process.log());
    let running = || {
        let output = Command::new("ps").args(["-eo", "args"]).output().expect("ps runs");
        String::from_utf8_lossy(&output.stdout).contains(path.to_str().expect("text"))
    };
    wait_for("the end of its scripts", 10, || (!running()).then_some(()));
    let path = script(&folder, "fails.sh", "exit 7");
    let file =
        folder.write("test.toml", &format!("[main]\nnotify_script_enabled = true\nnotify_script_path = {path:?}\n"));
    let test = |file: &Path| {
        Command::new(FLOODWALL).args(["notify", "test", "--json", "--config"]).arg(file).output().expect("runs")
    };
    let output = test(&file);
    let outcomes: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((output.status.code(), outcomes[0]["delivered"].as_bool()), (Some(1), Some(false)));
    assert!(outcomes[0]["error"].as_str().is_some_and(|e| e.contains('7')), "{outcomes}");
    script(&folder, "fails.sh", "cat > /dev/null");
    let output = test(&file);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let nobody = folder.write("nobody.toml", "");
    assert_eq!(test(&nobody).status.code(), Some(1));
}
