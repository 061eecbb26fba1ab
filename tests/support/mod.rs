//! What whole-program tests share: temporary folders, child processes, network namespaces, real BGP peers.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of this")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

pub mod outside;
pub mod traffic;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

/// The program under test.
pub const FLOODWALL: &str = env!("CARGO_BIN_EXE_floodwall");

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A folder that goes with the test.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("floodwall-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.join(name);
        std::fs::write(&path, text).expect("writable");
        path
    }

    /// A generated capture.
    pub fn capture(&self, name: &str, recording: &mut traffic::Recording) -> PathBuf {
        let path = self.join(name);
        recording.write(File::create(&path).expect("writable")).expect("written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A child process that ends with the test: asked first, then killed, by its own pid.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command; its output goes to a file in the folder.
    pub fn start(folder: &Folder, name: &str, command: &mut Command) -> Self {
        let log = folder.join(&format!("{name}.log"));
        let out = File::create(&log).expect("a log");
        let copy = out.try_clone().expect("a handle");
        // Each daemon keeps its own state.
        command.env("FLOODWALL_STATE_DIR", folder.join(&format!("{name}-state")));
        // Each daemon of a test has its own socket and state.
        command.env("FLOODWALL_SOCKET", folder.join(&format!("{name}.sock")));
        command.env("FLOODWALL_STATE_DIR", folder.join("state"));
        let child = command.stdin(Stdio::null()).stdout(out).stderr(copy).spawn();
        Self { child: child.unwrap_or_else(|e| panic!("cannot start {command:?}: {e}")), log }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the daemon says that it has started: every listener is open by then.
    pub fn started(&self) {
        wait_for("the daemon's start", 30, || self.log().contains(" started, ").then_some(()));
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let _ = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
    }

    /// kill -9
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to end and waits; true if it ended by itself within ten seconds.
    pub fn stop(&mut self) -> bool {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        for _ in 0..100 {
            if !self.is_running() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        false
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            self.stop();
        }
        // The folder goes with the test: what a failure needs is printed now.
        if std::thread::panicking() {
            println!("--- {}\n{}", self.log.display(), self.log());
        }
    }
}

/// Waits for something observable, up to a deadline.
pub fn wait_for<T>(what: &str, seconds: u64, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..seconds * 20 {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what} did not happen within {seconds} s");
}

/// Now, to measure real routers by.
#[allow(clippy::disallowed_methods, reason = "real routers keep real time")]
pub fn stopwatch() -> std::time::Instant {
    std::time::Instant::now()
}

/// Whether tests that need root and real routers can run; `make test` insists that they do where it can make namespaces.
pub fn has_lab(programs: &[&str]) -> bool {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout == b"0\n");
    let found = |p: &&str| {
        ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/lib/frr"].iter().any(|d| Path::new(d).join(p).exists())
    };
    let missing: Vec<&str> = programs.iter().copied().filter(|p| !found(p)).collect();
    if is_root && missing.is_empty() {
        return true;
    }
    let mut why: Vec<String> = missing.iter().map(|program| format!("{program} is not installed")).collect();
    why.extend((!is_root).then(|| "it needs root".to_owned()));
    let why = why.join(", ");
    assert!(std::env::var_os("FLOODWALL_REQUIRE_LAB").is_none(), "this test must run here, but: {why}");
    outside::skipped(&why);
    false
}

/// The program that starts, stops and asks the routers of the lab; see `tests/lab/README.md`.
pub fn lab_program() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/lab.py")
}

/// A network namespace with loopback and a veth pair: `vx0` is the mirror port, `vx1` its other end.
#[derive(Debug)]
pub struct Namespace(String);

impl Namespace {
    pub fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let ns = Self(format!("fwtest-{}-{number}", std::process::id()));
        let ip = |args: &[&str]| {
            let output = Command::new("ip").args(args).output().expect("ip runs");
            assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        ip(&["netns", "add", &ns.0]);
        ip(&["-n", &ns.0, "link", "set", "lo", "up"]);
        ip(&["-n", &ns.0, "link", "add", "vx0", "type", "veth", "peer", "name", "vx1"]);
        ip(&["-n", &ns.0, "link", "set", "vx0", "up"]);
        ip(&["-n", &ns.0, "link", "set", "vx1", "up"]);
        ns
    }

    /// The file that names it.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.0)
    }

    /// A command inside.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).arg(program);
        command
    }

    pub fn run(&self, program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Output {
        self.command(program).args(args).output().expect("runs")
    }

    /// Packet sockets open inside: programs that watch an interface.
    pub fn packet_sockets(&self) -> usize {
        let table = self.run("cat", &["/proc/net/packet"]);
        String::from_utf8_lossy(&table.stdout).lines().skip(1).count()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// Real BGP peers inside a namespace.
#[derive(Debug)]
pub struct Lab<'a> {
    namespace: &'a Namespace,
    folder: Folder,
}

impl<'a> Lab<'a> {
    pub fn up(namespace: &'a Namespace, peers: &[&str]) -> Self {
        let lab = Self { namespace, folder: Folder::new() };
        // FRR's daemon drops its rights and must be able to reach its socket.
        let _ = Command::new("chmod").arg("755").arg(lab.folder.path()).status();
        let output = lab.program("up").args(peers).output().expect("runs");
        assert!(output.status.success(), "the peer lab: {}", String::from_utf8_lossy(&output.stderr));
        lab
    }

    fn program(&self, word: &str) -> Command {
        let mut command = self.namespace.command(lab_program());
        command.env("LAB_DIR", self.folder.path()).arg(word);
        command
    }

    /// A router crashes and comes back.
    pub fn restart(&self, peer: &str) {
        for word in ["down", "up"] {
            let _ = self.program(word).arg(peer).output();
        }
    }

    /// Routes that a peer holds from us; `None` while it cannot be asked.
    pub fn routes(&self, peer: &str, family: &str) -> Option<Vec<Value>> {
        let output = self.program("show").args([peer, "--family", family, "--json"]).output().expect("runs");
        serde_json::from_slice(&output.stdout).ok()
    }

    /// `established`, `idle`, ...
    pub fn session(&self, peer: &str) -> String {
        let output = self.program("show").args([peer, "--session"]).output().expect("runs");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Lab<'_> {
    fn drop(&mut self) {
        let _ = self.program("down").output();
    }
}

/// A `[bgp.NAME]` table for a lab peer.
pub fn lab_peer(name: &str) -> String {
    let (address, port, asn) = match name {
        "gobgp" => ("127.0.0.10", 1790, 65010),
        "bird" => ("127.0.0.11", 1791, 65011),
        "exabgp" => ("127.0.0.12", 1792, 65012),
        "frr" => ("127.0.0.13", 1793, 65013),
        "openbgpd" => ("127.0.0.14", 1794, 65014),
        _ => panic!("no such peer: {name}"),
    };
    format!(
        "[bgp.{name}]\nlocal_asn = 65001\nlocal_address = \"127.0.0.1\"\nrouter_id = \"192.0.2.254\"\n\
         remote_asn = {asn}\nremote_address = \"{address}\"\nremote_port = {port}\n\n"
    )
}

/// GET over plain HTTP; `None` while nobody answers.
pub fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return Some(body.to_owned());
    }
    let mut whole = String::new();
    let mut rest = body;
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).ok().filter(|s| *s > 0)?;
        whole.push_str(after.get(..size)?);
        rest = after.get(size + 2..)?;
    }
    Some(whole)
}

/// The value of a metric, summed over its labels.
pub fn metric(text: &str, name: &str) -> u64 {
    text.lines()
        .filter(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ') || rest.starts_with('{')))
        .filter_map(|l| l.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// A port on loopback that is free for TCP and UDP alike.
pub fn free_port() -> u16 {
    let both = || {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").ok()?;
        let address = udp.local_addr().ok()?;
        std::net::TcpListener::bind(address).ok().map(|_| address.port())
    };
    (0..100).find_map(|_| both()).expect("a free port")
}
