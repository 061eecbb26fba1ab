//! ban2bgp's API and fail2ban with a real router: bans arrive with the right attributes and go by themselves.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::{FLOODWALL, Folder, Lab, Namespace, Process, has_lab, lab_peer, wait_for};

const LISTEN: &str = "127.0.0.1:8080";

struct Site<'a> {
    ns: &'a Namespace,
    process: Process,
    socket: PathBuf,
    token: String,
}

impl<'a> Site<'a> {
    fn start(ns: &'a Namespace, folder: &Folder, extra: &str) -> Self {
        let peer = lab_peer("bird");
        let text = format!(
            "[main]\nnetworks_list = [\"203.0.113.0/24\"]\nban2bgp_listen = \"{LISTEN}\"\n\
             networks_whitelist_remote = [\"198.51.100.53/32\"]\n\n[api]\nfastnetmon_listen = \"127.0.0.1:10009\"\n\n\
             {peer}announce_remote_bans = true\nblackhole_communities = [\"65001:666\"]\n{extra}"
        );
        let file = folder.write("floodwall.toml", &text);
        let process = Process::start(folder, "floodwall", ns.command(FLOODWALL).arg("run").arg("--config").arg(file));
        let socket = folder.join("floodwall.sock");
        process.started();
        let mut site = Self { ns, process, socket, token: String::new() };
        let made = site.words(&["set", "token", "bans", "scopes", "operate,config", "--json"]);
        let json: Value = serde_json::from_str(&made).unwrap_or_else(|e| panic!("{e}: {made}"));
        json["token"].as_str().expect("a secret").clone_into(&mut site.token);
        site
    }

    fn words(&self, words: &[&str]) -> String {
        let output = Command::new(FLOODWALL).args(words).env("FLOODWALL_SOCKET", &self.socket).output().expect("runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// curl: status and body.
    fn curl(&self, args: &[&str], url: &str) -> (u16, String) {
        let mut command = self.ns.command("curl");
        command.args(["-sS", "--max-time", "10", "-w", "\n%{http_code}"]).args(args).arg(url);
        let output = command.output().expect("curl");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap_or_else(|| panic!("{output:?}"));
        (status.parse().expect("a status"), body.to_owned())
    }

    fn with_token(&self, path: &str) -> (u16, String) {
        let header = format!("Authorization: Bearer {}", self.token);
        self.curl(&["-H", &header], &format!("http://{LISTEN}{path}"))
    }
}

fn route(lab: &Lab<'_>, family: &str, part: &str) -> Option<Value> {
    lab.routes("bird", family)?.iter().find(|r| r.to_string().contains(part)).cloned()
}

#[test]
fn a_ban_is_announced_as_blackhole_and_discard_ends_by_itself_and_spares_what_must_be() {
    if !has_lab(&["bird", "birdc", "ip", "curl"]) {
        return;
    }
    let (folder, ns) = (Folder::new(), Namespace::new());
    let lab = Lab::up(&ns, &["bird"]);
    let site = Site::start(&ns, &folder, "");
    wait_for("the session", 60, || site.words(&["show", "bgp"]).contains("established").then_some(()));
    assert_eq!(site.curl(&[], &format!("http://{LISTEN}/api/ping")), (200, "pong".to_owned()));
    let (status, body) = site.curl(&[], &format!("http://{LISTEN}/api/add?net=198.51.100.7&dur=5"));
    assert_eq!(status, 401, "{body}");
    let (status, body) = site.with_token("/api/add?net=198.51.100.7&dur=5");
    assert_eq!(status, 200, "{body}");
    let blackhole = wait_for("the blackhole", 5, || route(&lab, "ipv4", "198.51.100.7/32"));
    let rule = wait_for("the rule", 5, || route(&lab, "ipv4-flowspec", "198.51.100.7/32"));
    let text = blackhole.to_string();
    for community in ["65001:666", "65535:666", "65535:65281"] {
        assert!(text.contains(community), "{community}: blackhole, no-export and the configured one: {text}");
    }
    // RFC 8955 section 7.1: traffic-rate-bytes of 0.
    assert_eq!(rule["ext_communities"], serde_json::json!(["8006000000000000"]), "{rule}");
    assert_eq!(rule["text"], "source 198.51.100.7/32");
    let dump: Value = serde_json::from_str(&site.with_token("/api/dumpribjson").1).expect("JSON");
    assert_eq!(dump.as_array().map(Vec::len), Some(2), "{dump}");
    assert!(site.with_token("/api/dumprib").1.contains("src 198.51.100.7/32\t"));
    let status: Value = serde_json::from_str(&site.with_token("/api/status").1).expect("JSON");
    assert_eq!((&status["bans"], &status["peers"][0]["state"]), (&2.into(), &"established".into()));
    for net in [
        "0.0.0.0/0",
        "198.51.100.53",
        "198.51.100.0/24",
        "203.0.113.9",
        "203.0.112.0/23",
        "127.0.0.11",
        "src%200.0.0.0/0",
        "dst%20198.51.100.53",
        "::/0",
        "nonsense",
        "",
    ] {
        let (status, body) = site.with_token(&format!("/api/add?net={net}&dur=60"));
        assert!(status == 409 || status == 400, "{net}: {status} {body}");
    }
    let (status, body) = site.with_token("/api/add?net=198.51.100.8&dur=0");
    assert_eq!(status, 400, "{body}");
    wait_for("the end by itself", 20, || {
        let gone = |family| lab.routes("bird", family).map(|r| r.is_empty());
        (gone("ipv4")? && gone("ipv4-flowspec")?).then_some(())
    });
    batches(&site);
    fastnetmon_paths(&site);
    drop(site.process);
}

fn batches(site: &Site<'_>) {
    let header = format!("Authorization: Bearer {}", site.token);
    let json =
        r#"{"add": {"duration": 600, "nets": ["dst 198.51.100.9", "src 198.51.100.10", "0.0.0.0/0"]}, "remove": []}"#;
    let post = ["-H", header.as_str(), "-H", "Content-Type: application/json", "-d", json];
    let (status, body) = site.curl(&post, &format!("http://{LISTEN}/api/json"));
    assert_eq!(status, 409, "one was refused, and said so: {body}");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        (answer["done"].as_array().map(Vec::len), answer["refused"].as_array().map(Vec::len)),
        (Some(2), Some(1))
    );
    let form = r#"json={"remove": ["198.51.100.0/24"]}"#;
    let (status, body) =
        site.curl(&["-H", &header, "--data-urlencode", form], &format!("http://{LISTEN}/api/form_json"));
    assert_eq!(status, 200, "a wider network ends what it holds: {body}");
    assert_eq!(site.words(&["show", "remote_blackhole", "--json"]).trim(), "[]");
}

fn fastnetmon_paths(site: &Site<'_>) {
    let user = format!("admin:{}", site.token);
    let ask = |method: &str, path: &str| {
        let (status, body) = site.curl(&["-u", &user, "-X", method], &format!("http://127.0.0.1:10009{path}"));
        (status, serde_json::from_str::<Value>(&body).unwrap_or_else(|e| panic!("{e}: {body}")))
    };
    assert_eq!(ask("PUT", "/main/networks_list/192.0.2.0%2f24").1["success"], true);
    assert_eq!(ask("PUT", "/hostgroup/global/threshold_mbps/777").1["success"], true);
    assert_eq!(ask("PUT", "/commit").1["success"], true);
    assert_eq!(ask("GET", "/hostgroup/global/threshold_mbps").1["value"], 777);
    assert_eq!(ask("GET", "/main/networks_list").1["values"].as_array().map(Vec::len), Some(2));
    let (status, answer) = ask("PUT", "/blackhole/203.0.113.9");
    assert_eq!(status, 200, "{answer}");
    let listed = ask("GET", "/blackhole").1;
    assert_eq!(listed["values"][0]["ip"], "203.0.113.9/32");
    let uuid = listed["values"][0]["uuid"].as_str().expect("a uuid");
    assert_eq!(ask("DELETE", &format!("/blackhole/{uuid}")).1["success"], true);
    let (status, wrong) = ask("PUT", "/main/frobs/1");
    assert_eq!((status, &wrong["success"]), (409, &Value::Bool(false)), "{wrong}");
    assert!(wrong["error_text"].as_str().is_some_and(|t| t.contains("frobs")));
    let (status, _) = site.curl(&["-X", "PUT"], "http://127.0.0.1:10009/commit");
    assert_eq!(status, 401);
    assert_eq!(site.curl(&[], "http://127.0.0.1:10009/total_traffic_counters").0, 200);
}

#[test]
fn fail2ban_bans_through_our_action_file() {
    if !has_lab(&["bird", "birdc", "ip", "curl", "fail2ban-server"]) {
        return;
    }
    let (folder, ns) = (Folder::new(), Namespace::new());
    let lab = Lab::up(&ns, &["bird"]);
    let site = Site::start(&ns, &folder, "");
    wait_for("the session", 60, || site.words(&["show", "bgp"]).contains("established").then_some(()));
    let etc = folder.join("fail2ban");
    for part in ["action.d", "filter.d", "jail.d", "fail2ban.d"] {
        std::fs::create_dir_all(etc.join(part)).expect("made");
    }
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/fail2ban/action.d/floodwall.conf");
    std::fs::copy(ours, etc.join("action.d/floodwall.conf")).expect("copied");
    let header = folder.write("header", &format!("Authorization: Bearer {}\n", site.token));
    let log = folder.write("guarded.log", "");
    let write = |name: &str, text: String| std::fs::write(etc.join(name), text).expect("written");
    write(
        "fail2ban.conf",
        format!(
            "[Definition]\nloglevel = INFO\nlogtarget = {0}/fail2ban.log\nsyslogsocket = auto\nsocket = {0}/fail2ban.sock\n\
         pidfile = {0}/fail2ban.pid\ndbfile = :memory:\ndbpurgeage = 1d\nallowipv6 = auto\n[Thread]\n",
            folder.path().display()
        ),
    );
    write("filter.d/guarded.conf", "[Definition]\nfailregex = ^ login failed from <HOST>$\nignoreregex =\n".to_owned());
    write(
        "jail.conf",
        format!(
            "[DEFAULT]\nbackend = polling\nusedns = no\nbantime = 60\nfindtime = 600\nmaxretry = 2\n[guarded]\nenabled = true\n\
         filter = guarded\nlogpath = {}\naction = floodwall[header={}]\n",
            log.display(),
            header.display()
        ),
    );
    let mut command = ns.command("fail2ban-server");
    command.arg("-c").arg(&etc).args(["-f", "-x", "start"]);
    let mut fail2ban = Process::start(&folder, "fail2ban", &mut command);
    let fail2ban_log = folder.join("fail2ban.log");
    wait_for("fail2ban", 30, || {
        std::fs::read_to_string(&fail2ban_log).ok().filter(|l| l.contains("Jail 'guarded' started"))
    });
    let stamp = Command::new("date").arg("+%Y-%m-%d %H:%M:%S").output().expect("date");
    let stamp = String::from_utf8_lossy(&stamp.stdout).trim().to_owned();
    let lines: String = (0..4).map(|_| format!("{stamp} login failed from 198.51.100.77\n")).collect();
    std::fs::write(&log, lines).expect("written");
    let said = || std::fs::read_to_string(&fail2ban_log).unwrap_or_default();
    wait_for("the ban at the router", 30, || route(&lab, "ipv4-flowspec", "198.51.100.77/32"));
    wait_for("its blackhole", 10, || route(&lab, "ipv4", "198.51.100.77/32"));
    let client = |args: &[&str]| {
        let socket = folder.join("fail2ban.sock");
        ns.command("fail2ban-client").arg("-s").arg(socket).args(args).output().expect("runs")
    };
    let output = client(&["set", "guarded", "unbanip", "198.51.100.77"]);
    assert!(output.status.success(), "{output:?}: {}", said());
    wait_for("the unban at the router", 15, || lab.routes("bird", "ipv4-flowspec").filter(Vec::is_empty));
    assert!(!said().contains("ERROR"), "{}", said());
    let _ = client(&["stop"]);
    wait_for("fail2ban's end", 15, || (!fail2ban.is_running()).then_some(()));
}
