//! Scripts and servers that are real, well behaved and otherwise.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use bgp::Route;
use config::notify::{Channel, Event, Format, Kind};
use operator::clock;
use operator::report::{Entry, Report};
use traffic::{Direction, Prefix, Target};

use super::{Facts, Message, Notifier, deliver};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("floodwall-notify-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("made");
        Self(path)
    }

    fn script(&self, text: &str) -> PathBuf {
        let path = self.0.join("notify.sh");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn target(last: u8) -> Target {
    Target { prefix: Prefix::host([203, 0, 113, last].into()), direction: Direction::Incoming }
}

fn ban(last: u8) -> Entry {
    let route = Route::Unicast(target(last).prefix);
    let action = "blackhole 65535:666".to_owned();
    Entry::new(
        clock::now(),
        Report::Announce { target: target(last), route, action, coverage: 1.0, dry_run: None, advice: None },
    )
}

fn unban(last: u8) -> Entry {
    let route = Route::Unicast(target(last).prefix);
    Entry::new(clock::now(), Report::Withdraw { target: target(last), route, dry_run: None })
}

fn channel(kind: Kind) -> Channel {
    Channel { name: "x".to_owned(), events: Event::FASTNETMON.into(), kind }
}

fn script(path: &Path, format: Format, seconds: u64) -> Channel {
    let (path, timeout) = (path.to_owned(), Duration::from_secs(seconds));
    channel(Kind::Script { path, format, of_groups: false, timeout })
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..1500 {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what} did not happen in 15 s")
}

/// Answers the statuses in turn, the last one for good; hands on heads and bodies.
fn server(statuses: &'static [u16]) -> (u16, mpsc::Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = listener.local_addr().expect("bound").port();
    (port, serve(listener, statuses))
}

fn serve(listener: TcpListener, statuses: &'static [u16]) -> mpsc::Receiver<(String, String)> {
    let (heard, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for (i, stream) in listener.incoming().enumerate() {
            let request = request(&mut stream.expect("accepted"), statuses[i.min(statuses.len() - 1)]);
            if heard.send(request).is_err() {
                return;
            }
        }
    });
    requests
}

fn request(stream: &mut TcpStream, status: u16) -> (String, String) {
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = |l: &str| l.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned);
            let length: usize = head.lines().find_map(length).map_or(0, |n| n.trim().parse().expect("a number"));
            if body.len() >= length {
                write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                    .expect("answered");
                return (head.to_owned(), body.to_owned());
            }
        }
        let read = stream.read(&mut buffer).expect("read");
        assert!(read > 0, "cut off: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}

fn hook(port: u16, secret: Option<&str>) -> Channel {
    let url = format!("http://127.0.0.1:{port}/hook").parse().expect("an address");
    channel(Kind::WebHook { url, secret: secret.map(str::to_owned) })
}

fn header(head: &str, name: &str) -> String {
    let line = head.lines().find_map(|l| l.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)));
    line.unwrap_or_else(|| panic!("no {name} in {head}")).1.to_owned()
}

#[test]
fn scripts_get_fastnetmons_arguments_and_input() {
    let folder = Folder::new("forms");
    // As in FastNetMon's own example: four arguments, the report on standard input of a ban.
    let path = folder.script("echo \"$1|$2|$3|$4\" > $(dirname $0)/args; cat > $(dirname $0)/input");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runs");
    let facts = Facts::default();
    let read = |name: &str| std::fs::read_to_string(folder.0.join(name)).expect("written");
    let run = |format, message: &Message| {
        let messages = [message.clone().into()];
        runtime.block_on(deliver::deliver(&script(&path, format, 10), &messages, false)).expect("it runs");
    };
    let began = Message::of(&ban(9), Event::Ban, &facts, &[]);
    run(Format::Text, &began);
    assert_eq!(read("args"), "203.0.113.9|incoming|0|ban\n");
    assert!(read("input").starts_with("IP: 203.0.113.9\nAttack type: "), "{}", read("input"));
    let over = began.ended(1.0, Event::Unban, "over");
    run(Format::Text, &over);
    assert_eq!((read("args").as_str(), read("input").as_str()), ("203.0.113.9|incoming|0|unban\n", ""));
    run(Format::Json, &over);
    assert_eq!(read("args"), "unban|203.0.113.9||\n");
    let json: serde_json::Value = serde_json::from_str(&read("input")).expect("JSON");
    assert_eq!((json["ip"].as_str(), json["action"].as_str()), (Some("203.0.113.9"), Some("unban")));
    assert_eq!(json["attack_details"]["attack_direction"], "incoming");
    assert_eq!(json["attack_details"]["incoming_udp_pps"], 0);
}

#[test]
fn a_script_that_hangs_is_killed_with_its_children_and_one_that_floods_is_not_listened_to() {
    let folder = Folder::new("bad");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runs");
    let message = [Message::of(&ban(9), Event::Ban, &Facts::default(), &[]).into()];
    let run = |text: &str, seconds| {
        let path = folder.script(text);
        runtime.block_on(deliver::deliver(&script(&path, Format::Text, seconds), &message, false))
    };
    let failure = run("sleep 600 & echo $! > $(dirname $0)/child; sleep 600", 1).expect_err("killed");
    assert!(failure.text.contains("longer than 1 s"), "{failure:?}");
    let child = std::fs::read_to_string(folder.0.join("child")).expect("written");
    // It is dead, or a zombie that nobody has collected yet.
    wait_for("the end of the child", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    });
    run("head -c 100000000 /dev/zero; head -c 100000000 /dev/zero >&2", 30).expect("its output goes nowhere");
    let failure = run("exit 3", 10).expect_err("it failed");
    assert!(failure.text.contains('3'), "{failure:?}");
    let missing = script(Path::new("/nonexistent"), Format::Text, 1);
    assert!(runtime.block_on(deliver::deliver(&missing, &message, false)).is_err());
}

#[test]
fn every_ban_is_told_once_and_its_end_after_it() {
    let folder = Folder::new("once");
    let (port, requests) = server(&[503, 429, 200]);
    let notifier = Notifier::start(vec![hook(port, Some("key"))], Some(&folder.0), clock::now).expect("starts");
    for entry in [ban(9), ban(9), unban(8), unban(9), unban(9)] {
        assert!(notifier.wants(&entry.report));
        notifier.tell(&entry, Facts::default());
    }
    let next = || requests.recv_timeout(Duration::from_secs(15)).expect("a request");
    let tries = [next(), next(), next()];
    let id = header(&tries[0].0, "x-floodwall-delivery");
    for (head, body) in &tries {
        assert_eq!(header(head, "x-floodwall-delivery"), id, "the same message again");
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"key");
        let tag: String = ring::hmac::sign(&key, body.as_bytes()).as_ref().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(header(head, "x-floodwall-signature-256"), format!("sha256={tag}"));
        assert_eq!(header(head, "content-type"), "application/json");
    }
    let (head, body) = next();
    assert_eq!(header(&head, "x-floodwall-event"), "unban");
    assert!(body.contains("\"action\":\"unban\"") && header(&head, "x-floodwall-delivery") != id);
    assert!(requests.recv_timeout(Duration::from_millis(1500)).is_err(), "nothing is told twice");
    assert_eq!(notifier.alarms(), Vec::<String>::new());
}

#[test]
fn what_could_not_be_sent_is_sent_after_a_restart() {
    let folder = Folder::new("restart");
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    let notifier = Notifier::start(vec![hook(port, None)], Some(&folder.0), clock::now).expect("starts");
    notifier.tell(&ban(7), Facts::default());
    notifier.tell(&ban(6), Facts::default());
    wait_for("the alarm", || notifier.alarms().first().filter(|a| a.contains("cannot connect")).cloned());
    drop(notifier);
    let requests = serve(TcpListener::bind(("127.0.0.1", port)).expect("binds"), &[200]);
    let notifier = Notifier::start(vec![hook(port, None)], Some(&folder.0), clock::now).expect("starts");
    // One of the two is in force still; the other ended while nobody looked.
    notifier.in_force(vec![super::message::key(&target(7), "203.0.113.7/32")]);
    notifier.tell(&ban(7), Facts::default());
    let told: Vec<String> = (0..3)
        .map(|_| {
            let (_, body) = requests.recv_timeout(Duration::from_secs(15)).expect("a request");
            let json: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            format!("{} {}", json["action"].as_str().expect("text"), json["ip"].as_str().expect("text"))
        })
        .collect();
    assert_eq!(told, ["ban 203.0.113.7", "ban 203.0.113.6", "unban 203.0.113.6"]);
    assert!(requests.recv_timeout(Duration::from_millis(500)).is_err(), "nothing is told twice");
}

#[test]
fn a_dry_run_bans_nobody_and_a_channel_gets_what_it_asked_for() {
    let dry = Report::Announce {
        target: target(9),
        route: Route::Unicast(target(9).prefix),
        action: String::new(),
        coverage: 1.0,
        dry_run: Some(policy::DryRun::BanDisabled),
        advice: None,
    };
    let notifier = Notifier::start(vec![hook(9, None)], None, clock::now).expect("starts");
    assert!(!notifier.wants(&dry));
    assert!(notifier.wants(&Report::Silence) && !notifier.wants(&Report::SilenceOver));
    let (port, requests) = server(&[200]);
    let mut channel = hook(port, None);
    channel.events = [Event::Warning].into();
    notifier.configure(vec![channel]);
    notifier.tell(&ban(9), Facts::default());
    notifier.tell(&Entry::new(clock::now(), Report::Silence), Facts::default());
    let (head, body) = requests.recv_timeout(Duration::from_secs(15)).expect("a request");
    assert_eq!(header(&head, "x-floodwall-event"), "warning");
    assert!(body.contains("no telemetry"), "{body}");
}
