//! The API over real HTTP: who is let in, what he may do, and that it says what the command line says.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use support::{FLOODWALL, Folder, Process, free_port, wait_for};

struct Daemon {
    folder: Folder,
    process: Process,
    port: u16,
    socket: PathBuf,
}

const NETWORKS: &str = "[main]\nnetworks_list = [\"203.0.113.0/24\", \"2001:db8::/32\"]\n";

fn start(main: &str, api: &str) -> Daemon {
    let folder = Folder::new();
    let port = free_port();
    let config = format!("{main}[api]\nlisten = \"127.0.0.1:{port}\"\n{api}");
    let file = folder.write("config.toml", &config);
    let process = Process::start(&folder, "floodwall", Command::new(FLOODWALL).arg("run").arg("--config").arg(file));
    let socket = folder.join("floodwall.sock");
    process.started();
    Daemon { folder, process, port, socket }
}

/// An answer: status, headers as one text, body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {} {}", self.status, self.body))
    }
}

impl Daemon {
    fn words(&self, args: &[&str]) -> Value {
        let output = Command::new(FLOODWALL)
            .args(args)
            .arg("--json")
            .env("FLOODWALL_SOCKET", &self.socket)
            .output()
            .expect("runs");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    fn token(&self, words: &str) -> String {
        let mut args = vec!["set", "token"];
        args.extend(words.split(' '));
        self.words(&args)["token"].as_str().expect("a secret").to_owned()
    }

    /// One request over a connection of its own.
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Answer {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        talk(stream, method, path, headers, body)
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], None)
    }

    fn with(&self, token: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.ask(method, path, &[("Authorization", &format!("Bearer {token}"))], body)
    }
}

fn talk(mut stream: TcpStream, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Answer {
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let body = body.map(ToString::to_string).unwrap_or_default();
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| *name == "Host") {
        head.push_str("Host: 127.0.0.1\r\n");
    }
    if !body.is_empty() {
        head.push_str("Content-Type: application/json\r\n");
    }
    headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    // Bodies of ours are not chunked: every one of them is made whole.
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

#[test]
fn looking_is_open_on_this_host_and_acting_takes_a_token_with_the_scope() {
    let daemon = start(NETWORKS, "");
    assert_eq!(daemon.get("/api/v1/status").json()["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(daemon.get("/api/v1/attacks").json(), json!([]));
    assert!(daemon.get("/metrics").body.contains("floodwall_"));
    // A name on the web that points here is not this host's.
    assert_eq!(daemon.ask("GET", "/api/v1/status", &[("Host", "evil.example")], None).status, 403);
    let blackhole = json!({ "address": "203.0.113.9", "expires_seconds": 600, "reason": "test" });
    let answer = daemon.ask("POST", "/api/v1/blackholes", &[], Some(&blackhole));
    assert_eq!(answer.status, 401, "{}", answer.body);
    assert!(answer.head.contains("www-authenticate: bearer"));
    let reader = daemon.token("reader");
    assert_eq!(daemon.with(&reader, "POST", "/api/v1/blackholes", Some(&blackhole)).status, 403);
    assert_eq!(daemon.with("fw_wrong", "GET", "/api/v1/status", None).status, 401);
    let operator = daemon.token("operator scopes operate");
    let answer = daemon.with(&operator, "POST", "/api/v1/blackholes", Some(&blackhole));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let id = answer.json()["value"]["id"].as_str().expect("an id").to_owned();
    let listed = wait_for("the blackhole in the status", 5, || {
        daemon.get("/api/v1/blackholes").json().as_array().filter(|l| !l.is_empty()).cloned()
    });
    assert_eq!((&listed[0]["id"], &listed[0]["order"]["owner"]), (&json!(id), &json!("token operator")));
    assert_eq!(daemon.words(&["show", "blackhole"])[0]["id"], json!(id), "the command line says the same");
    let extend = json!({ "expires_seconds": 6000 });
    assert_eq!(daemon.with(&operator, "POST", &format!("/api/v1/blackholes/{id}/extend"), Some(&extend)).status, 200);
    let ends = |v: &Value| v[0]["ends"].as_f64().expect("it ends");
    let later = daemon.words(&["show", "blackhole"]);
    assert!(ends(&later) > ends(&json!(listed)) + 5000.0, "{later}");
    assert_eq!(
        daemon
            .with(
                &operator,
                "POST",
                "/api/v1/config/edit",
                Some(&json!({"verb": "set", "words": ["main", "ban_time", "60"]}))
            )
            .status,
        403
    );
    assert_eq!(daemon.with(&operator, "DELETE", &format!("/api/v1/blackholes/{id}?reason=over"), None).status, 200);
    assert_eq!(daemon.words(&["show", "blackhole"]), json!([]));
    let outside = daemon.with(&operator, "POST", "/api/v1/blackholes", Some(&json!({ "address": "192.0.2.1" })));
    assert_eq!(outside.status, 422, "decision 1: {}", outside.body);
    let audit = daemon.get("/api/v1/audit").json();
    let last = audit
        .as_array()
        .expect("records")
        .iter()
        .rev()
        .find(|r| r["action"].as_str().is_some_and(|a| a.starts_with("delete blackhole")));
    assert_eq!(last.expect("audited")["reason"], "over");
    assert!(!audit.to_string().contains(&operator), "no secret in the log");
    daemon.words(&["delete", "token", "operator"]);
    assert_eq!(daemon.with(&operator, "GET", "/api/v1/status", None).status, 401, "revoked at once");
}

#[test]
fn a_refusal_says_by_its_status_what_a_program_can_do_about_it() {
    let daemon = start(&format!("{NETWORKS}max_rules = 4\n"), "");
    let operator = daemon.token("operator scopes operate");
    let rule =
        |host: &str| json!({ "rule": { "destination_prefix": host, "protocols": ["udp"], "action_type": "discard" } });
    let post = |path: &str, body: Value| daemon.with(&operator, "POST", path, Some(&body));
    let cases = [
        (400, post("/api/v1/blackholes", json!({ "address": "203.0.113.0/33" }))),
        (400, post("/api/v1/rules", json!({ "rule": { "destination_prefix": "203.0.113.9" } }))),
        (403, post("/api/v1/config/rebase", json!({}))),
        (404, daemon.with(&operator, "DELETE", "/api/v1/blackholes/203.0.113.77", None)),
        (404, daemon.with(&operator, "DELETE", "/api/v1/remote_blackholes/198.51.100.7", None)),
        (422, post("/api/v1/blackholes", json!({ "address": "8.8.8.0/24" }))),
        (200, post("/api/v1/rules", rule("203.0.113.1/32"))),
        (200, post("/api/v1/rules", rule("203.0.113.2/32"))),
        (429, post("/api/v1/rules", rule("203.0.113.3/32"))),
    ];
    for (i, (status, response)) in cases.iter().enumerate() {
        assert_eq!(response.status, *status, "{i}: {}", response.body);
    }
}

#[test]
fn a_token_with_prefixes_sees_and_does_nothing_elsewhere() {
    let daemon = start(NETWORKS, "");
    let admin = daemon.token("admin scopes admin");
    let tenant = daemon.token("tenant scopes operate,approve prefixes 203.0.113.0/28");
    let post = |token: &str, path: &str, body: Value| daemon.with(token, "POST", path, Some(&body));
    assert_eq!(post(&tenant, "/api/v1/blackholes", json!({ "address": "203.0.113.9" })).status, 200);
    let theirs = post(&admin, "/api/v1/blackholes", json!({ "address": "203.0.113.99" }));
    let id = theirs.json()["value"]["id"].as_str().expect("an id").to_owned();
    wait_for("both", 5, || (daemon.get("/api/v1/blackholes").json().as_array()?.len() == 2).then_some(()));
    let seen = daemon.with(&tenant, "GET", "/api/v1/blackholes", None).json();
    assert_eq!(seen.as_array().map(Vec::len), Some(1), "{seen}");
    for (path, body) in [
        ("/api/v1/blackholes", json!({ "address": "203.0.113.99" })),
        ("/api/v1/blackholes", json!({ "address": "203.0.113.0/24" })),
        ("/api/v1/rules", json!({ "rule": { "source_prefix": "203.0.113.9/32", "action_type": "discard" } })),
        ("/api/v1/rules", json!({ "rule": { "destination_prefix": "203.0.113.99/32", "action_type": "discard" } })),
        ("/api/v1/announcing", json!({ "enabled": false })),
        ("/api/v1/remote_blackholes", json!({ "address": "198.51.100.7" })),
        (&format!("/api/v1/blackholes/{id}/extend"), json!({ "expires_seconds": 5 })),
    ] {
        let answer = post(&tenant, path, body);
        assert_eq!(answer.status, 403, "{path}: {}", answer.body);
    }
    for path in ["/api/v1/status", "/metrics", "/api/v1/events", "/api/v1/audit", "/api/v1/history/series?name=total"] {
        assert_eq!(daemon.with(&tenant, "GET", path, None).status, 403, "{path}");
    }
    assert_eq!(daemon.with(&tenant, "DELETE", &format!("/api/v1/blackholes/{id}"), None).status, 403);
    let rule =
        json!({ "rule": { "destination_prefix": "203.0.113.9/32", "protocols": ["udp"], "action_type": "discard" } });
    assert_eq!(post(&tenant, "/api/v1/rules", rule).status, 200);
}

#[test]
fn a_token_with_prefixes_ends_nothing_of_others_by_fastnetmons_paths_or_in_a_reason() {
    let port = free_port();
    let daemon = start(NETWORKS, &format!("fastnetmon_listen = \"127.0.0.1:{port}\"\n"));
    let tenant = daemon.token("tenant scopes operate,approve prefixes 203.0.113.0/28,2001:db8:1::/48");
    let bearer = format!("Bearer {tenant}");
    let ask = |method: &str, path: &str| {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        talk(stream, method, path, &[("Authorization", &bearer)], None).status
    };
    let id = |host: &str| daemon.words(&["set", "blackhole", host])["id"].as_str().expect("an id").to_owned();
    let (theirs, theirs6) = (id("203.0.113.99"), id("2001:db8:2::9"));
    let rule = r#"{"destination_prefix": "203.0.113.98/32", "protocols": ["udp"], "action_type": "discard"}"#;
    let rule = daemon.words(&["set", "flowspec", rule])["id"].as_str().expect("an id").to_owned();
    wait_for("both blackholes", 5, || (daemon.get("/api/v1/blackholes").json().as_array()?.len() == 2).then_some(()));
    for path in [
        format!("/blackhole/{theirs}"),
        format!("/blackhole/{theirs}/reason/203.0.113.1"),
        format!("/blackhole/{}/reason/203.0.113.1", &theirs[..8]),
        "/blackhole/203.0.113.99/reason/203.0.113.1".to_owned(),
        format!("/blackhole/{theirs6}/reason/2001:db8:1::1"),
        "/blackhole/2001:db8:2::9/reason/203.0.113.1".to_owned(),
        format!("/flowspec/{rule}/reason/203.0.113.1"),
        "/flowspec/all/reason/203.0.113.1".to_owned(),
        "/remote_blackhole/all/reason/203.0.113.1".to_owned(),
    ] {
        assert_ne!(ask("DELETE", &path), 200, "{path}");
    }
    for path in [
        format!("/extend/{theirs}/expires/1s/reason/203.0.113.1"),
        format!("/approve/{rule}/reason/203.0.113.1"),
        "/blackhole/203.0.113.0%2f24/reason/203.0.113.1".to_owned(),
        "/announcing/disable/reason/203.0.113.1".to_owned(),
    ] {
        assert_eq!(ask("PUT", &path), 403, "{path}");
    }
    let left = daemon.words(&["show", "blackhole"]);
    assert!(left.as_array().is_some_and(|l| l.len() == 2 && l.iter().all(|b| b["ends"].is_null())), "{left}");
    assert_eq!(daemon.words(&["show", "flowspec"]).as_array().map(Vec::len), Some(1));
    assert_eq!(ask("PUT", "/blackhole/203.0.113.2"), 200);
    assert_eq!(ask("DELETE", "/blackhole/203.0.113.2/reason/203.0.113.99"), 200, "its own, whatever the reason says");
}

#[test]
fn no_secret_is_shown_logged_or_audited_however_it_is_spelt() {
    let main = format!(
        "{NETWORKS}influxdb_password = \"hunter-1\"\nweb_callback_url = \"https://example.net/hunter-2\"\n\
         email_notifications_password = \"\"\"\nhunter-3\"\"\"\n"
    );
    let more = "[notify.noc]\ntype = \"slack\"\nurl = '''\nhttps://hooks.example.net/hunter-4'''\nactive = false\n\
                [bgp]\nr1.\"md5_auth_password\" = '''hunter-5'''\nr1.local_asn = 65001\nr1.remote_asn = 65002\n\
                r1.local_address = \"127.0.0.1\"\nr1.remote_address = \"127.0.0.2\"\nr1.active = false\n";
    let daemon = start(&main, more);
    let admin = daemon.token("admin scopes admin");
    let edit = |words: &[&str]| {
        let body = json!({ "verb": "set", "words": words });
        daemon.with(&admin, "POST", "/api/v1/config/edit", Some(&body)).status
    };
    // Right and wrong edits: a misspelt key, a forgotten name, and values that are refused.
    assert_eq!(edit(&["main", "influxdb_password", "hunter-6"]), 200);
    assert_eq!(edit(&["notify", "noc", "url", "https://hooks.example.net/hunter-7"]), 200);
    assert_eq!(edit(&["main", "influxdb_pasword", "hunter-8"]), 400);
    assert_eq!(edit(&["bgp", "md5_auth_password", "hunter-9"]), 400);
    assert_eq!(edit(&["notify", "noc", "url", "hunter-10 hunter-11"]), 400);
    let with = |path: &str| daemon.with(&admin, "GET", path, None).body;
    let mut seen = vec![with("/api/v1/config/candidate"), with("/api/v1/config/compare")];
    assert!(seen[1].contains("influxdb_password"), "that it changes is shown: {}", seen[1]);
    assert_eq!(daemon.with(&admin, "POST", "/api/v1/config/commit", Some(&json!({}))).status, 200);
    seen.extend(
        ["/api/v1/config/running", "/api/v1/config/history", "/api/v1/audit"].map(|path| daemon.get(path).body),
    );
    assert!(seen[2].contains("203.0.113.0/24") && seen[2].contains("https://hooks.example.net/***"), "{}", seen[2]);
    for words in ["running", "main", "notify noc", "bgp r1", "history 1", "audit"] {
        let words: Vec<&str> = ["show"].into_iter().chain(words.split(' ')).collect();
        seen.push(daemon.words(&words).to_string());
    }
    seen.push(daemon.process.log());
    seen.push(std::fs::read_to_string(daemon.folder.join("state/audit.log")).expect("the audit log"));
    for text in seen {
        assert!(!text.contains("hunter-"), "{text}");
    }
    let file = std::fs::read_to_string(daemon.folder.join("config.toml")).expect("the file");
    assert!(["hunter-3", "hunter-5", "hunter-6", "hunter-7"].iter().all(|s| file.contains(s)), "the file keeps them");
}

#[test]
fn whoever_edits_thresholds_cannot_run_a_program_not_even_out_of_the_history() {
    let daemon = start(NETWORKS, "");
    let (admin, editor) = (daemon.token("admin scopes admin"), daemon.token("editor scopes config,operate"));
    let post = |token: &str, path: &str, body: Value| {
        daemon.with(token, "POST", &format!("/api/v1/config/{path}"), Some(&body)).status
    };
    let set = |words: &[&str]| json!({ "verb": "set", "words": words });
    for words in [
        &["main", "notify_script_path", "/bin/true"][..],
        &["main", "notify_script_enabled", "enable"],
        &["main", "web_callback_url", "http://192.0.2.1/"],
        &["notify", "noc", "type", "syslog"],
        &["api", "plain_beyond_loopback", "true"],
        &["main", "ban2bgp_listen", "127.0.0.1:9"],
    ] {
        assert_eq!(post(&editor, "edit", set(words)), 403, "{words:?}");
    }
    for path in ["/bin/true", "/bin/false"] {
        assert_eq!(post(&admin, "edit", set(&["main", "notify_script_path", path])), 200);
        assert_eq!(post(&admin, "commit", json!({})), 200);
    }
    assert_eq!(post(&editor, "rollback", json!({ "back": 1 })), 200);
    assert_eq!(post(&editor, "commit", json!({})), 403, "what an admin took back stays taken back");
    assert_eq!(post(&editor, "rollback", json!({ "back": 0 })), 200);
    assert_eq!(post(&editor, "edit", set(&["main", "ban_time", "900"])), 200);
    assert_eq!(post(&editor, "commit", json!({})), 200);
    assert!(daemon.words(&["show", "main", "notify_script_path"]).to_string().contains("/bin/false"));
}

#[test]
fn a_browser_logs_in_and_out_and_a_foreign_page_changes_nothing() {
    let daemon = start(NETWORKS, "reads_need_login = true\n");
    let admin = daemon.token("admin scopes admin");
    assert_eq!(daemon.get("/api/v1/status").status, 401, "reads_need_login");
    let login = daemon.ask("POST", "/api/v1/login", &[], Some(&json!({ "token": admin })));
    assert_eq!(login.status, 200, "{}", login.body);
    let line = login.head.lines().find(|l| l.starts_with("set-cookie:")).expect("a cookie");
    assert!(line.contains("httponly") && line.contains("samesite=strict"), "{line}");
    let cookie = line.trim_start_matches("set-cookie:").split(';').next().expect("a pair").trim().to_owned();
    let session = daemon.ask("GET", "/api/v1/session", &[("Cookie", &cookie)], None).json();
    assert_eq!(session["user"], "token admin");
    let body = json!({ "enabled": true });
    let foreign = daemon.ask("POST", "/api/v1/announcing", &[("Cookie", &cookie)], Some(&body));
    assert_eq!(foreign.status, 403, "without our header: {}", foreign.body);
    let own = daemon.ask("POST", "/api/v1/announcing", &[("Cookie", &cookie), ("X-Floodwall", "1")], Some(&body));
    assert_eq!(own.status, 200, "{}", own.body);
    assert_eq!(daemon.ask("POST", "/api/v1/logout", &[("Cookie", &cookie)], None).status, 200);
    assert_eq!(daemon.ask("GET", "/api/v1/session", &[("Cookie", &cookie)], None).status, 401);
    let guess = |n: u32| daemon.ask("POST", "/api/v1/login", &[], Some(&json!({ "token": format!("fw_{n}") }))).status;
    let statuses: Vec<u16> = (0..12).map(guess).collect();
    assert_eq!((statuses[0], statuses[11]), (401, 429), "{statuses:?}");
    assert_eq!(daemon.with(&admin, "GET", "/api/v1/status", None).status, 200, "a right token is not locked out");
}

#[test]
fn a_threshold_is_committed_over_the_api_and_survives_a_restart() {
    let mut daemon = start(NETWORKS, "");
    let token = daemon.token("editor scopes config");
    let post = |path: &str, body: Value| {
        let answer = daemon.with(&token, "POST", path, Some(&body));
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    };
    post("/api/v1/config/edit", json!({ "verb": "set", "words": ["hostgroup", "global", "threshold_pps", "12345"] }));
    let compare = daemon.with(&token, "GET", "/api/v1/config/compare", None).json();
    assert!(compare["text"].as_str().is_some_and(|t| t.contains("threshold_pps = 12345")), "{compare}");
    post("/api/v1/config/commit", json!({ "confirmed_minutes": 5, "comment": "by the API" }));
    post("/api/v1/config/confirm", Value::Null);
    assert_eq!(daemon.get("/api/v1/hostgroups/global").json()["threshold_pps"], 12345);
    let history = daemon.get("/api/v1/config/history").json();
    assert!(history.to_string().contains("by the API"), "{history}");
    assert!(daemon.process.stop());
    let file = std::fs::read_to_string(daemon.folder.join("config.toml")).expect("the file");
    assert!(file.contains("threshold_pps = 12345"), "{file}");
}

#[test]
fn a_stream_begins_with_a_tick_and_tells_what_happens() {
    let daemon = start(NETWORKS, "");
    let operator = daemon.token("operator scopes operate");
    let mut stream = TcpStream::connect(("127.0.0.1", daemon.port)).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    assert!(lines.any(|l| l == "event: tick"));
    assert_eq!(
        daemon.with(&operator, "POST", "/api/v1/blackholes", Some(&json!({ "address": "203.0.113.9" }))).status,
        200
    );
    assert!(lines.any(|l| l == "event: entry"));
    let data = lines.find(|l| l.starts_with("data: ")).expect("data");
    assert!(data.contains("203.0.113.9"), "{data}");
}

#[test]
fn beyond_loopback_it_needs_tls_and_a_token() {
    let folder = Folder::new();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=localhost",
            "-days",
            "2",
        ])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout"])
        .arg(folder.join("key.pem"))
        .arg("-out")
        .arg(folder.join("cert.pem"))
        .output();
    assert!(made.expect("openssl").status.success());
    let port = free_port();
    let plain = format!("[api]\nlisten = \"0.0.0.0:{port}\"\n");
    let file = folder.write("plain.toml", &plain);
    let output = Command::new(FLOODWALL).args(["check", "--config"]).arg(file).output().expect("runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("plain text"), "{output:?}");
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let tls = format!("{plain}tls_certificate = {:?}\ntls_key = {:?}\n", cert.display(), key.display());
    let file = folder.write("config.toml", &tls);
    let mut process =
        Process::start(&folder, "floodwall", Command::new(FLOODWALL).arg("run").arg("--config").arg(&file));
    let socket = folder.join("floodwall.sock");
    process.started();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "closed while nobody could log in");
    assert!(process.log().contains("stays closed"), "{}", process.log());
    let made = Command::new(FLOODWALL)
        .args(["set", "token", "a", "--json"])
        .env("FLOODWALL_SOCKET", &socket)
        .output()
        .expect("runs");
    let token: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    assert!(process.stop());
    let _again = Process::start(&folder, "floodwall", Command::new(FLOODWALL).arg("run").arg("--config").arg(&file));
    wait_for("the listener", 20, || TcpStream::connect(("127.0.0.1", port)).ok());
    let curl = |headers: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"]).arg(&cert);
        headers.iter().for_each(|h| {
            command.args(["-H", h]);
        });
        let output = command.arg(format!("https://localhost:{port}/api/v1/session")).output().expect("curl");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(curl(&["Authorization: Bearer wrong"]), "401");
    assert_eq!(curl(&[&format!("Authorization: Bearer {}", token["token"].as_str().expect("a secret"))]), "200");
}

#[test]
fn a_form_learns_from_the_api_what_a_key_takes() {
    let daemon = start(NETWORKS, "");
    let sections = daemon.get("/api/v1/config/schema").json();
    let find = |list: &Value, key: &str, name: &str| -> Value {
        list.as_array().and_then(|l| l.iter().find(|e| e[key] == name)).cloned().unwrap_or_else(|| panic!("{name}"))
    };
    let ban_time = find(&find(&sections, "section", "main")["keys"], "name", "ban_time");
    let wanted = json!({
        "name": "ban_time", "kind": "number", "low": 1, "high": 31_536_000, "unit": "seconds", "takes": "1 to 31536000 seconds",
        "default": 1900, "meaning": "seconds that a rule or blackhole lasts at least", "list": false, "secret": false,
        "scope": "config",
    });
    assert_eq!(ban_time, wanted);
    let channel = find(&sections, "section", "notify");
    assert_eq!(channel["named"], true);
    let kind = find(&channel["keys"], "name", "type");
    assert_eq!((&kind["choices"][1], &kind["scope"]), (&json!("slack"), &json!("admin")), "{kind}");
    // Whoever may see his own prefixes alone sees none of the configuration.
    let token = daemon.token("customer prefixes 203.0.113.0/28");
    assert_eq!(daemon.with(&token, "GET", "/api/v1/config/schema", None).status, 403);
}

#[test]
fn every_documented_path_is_there_and_bad_requests_get_json() {
    let daemon = start(NETWORKS, "");
    let document = daemon.get("/api/v1/openapi.json").json();
    assert!(document["openapi"].as_str().is_some_and(|v| v.starts_with("3.1")), "{}", document["openapi"]);
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() > 35, "{}", paths.len());
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().expect("methods") {
            let filled =
                path.replace("{id}", "x").replace("{name}", "x").replace("{address}", "x").replace("{host}", "x");
            let method = method.to_ascii_uppercase();
            if filled.ends_with("/events") && !filled.contains("history") {
                continue;
            }
            let answer = daemon.ask(&method, &filled, &[], (method == "POST").then(|| json!({})).as_ref());
            assert!(
                operation["responses"].get(answer.status.to_string()).is_some(),
                "{method} {filled}: {}",
                answer.status
            );
            assert!(answer.status != 404 || path.contains("{id}"), "{method} {filled}: {}", answer.body);
            if operation["security"].as_array().is_some_and(|s| s.len() == 1) {
                assert_eq!(answer.status, 401, "{method} {filled}: {}", answer.body);
            }
        }
    }
    for path in ["/api/v1/audit?limit=0", "/api/v1/audit?limit=x", "/api/v1/hosts?order=frobs", "/api/v1/audit?frob=1"]
    {
        let answer = daemon.get(path);
        assert_eq!(answer.status, 400, "{path}: {}", answer.body);
        assert!(answer.json()["error"].is_string());
    }
    for path in ["/../../etc/passwd", "/api/v1/%2e%2e/%2e%2e/etc/passwd", "/api/v2/status", "//"] {
        assert_eq!(daemon.get(path).status, 404, "{path}");
    }
    let large = json!({ "token": "x".repeat(2 << 20) });
    let answer = daemon.ask("POST", "/api/v1/login", &[], Some(&large));
    assert_eq!(answer.status, 413, "{}", answer.body);
}
