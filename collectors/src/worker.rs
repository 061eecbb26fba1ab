//! The worker threads: bytes in, batches of samples out to a [`Sink`].
//!
//! Every socket and interface is opened before the first thread starts, so that a problem is told at once and nothing half
//! starts. A worker waits at most 20 ms for traffic, so that its sink can serve the control thread; 50 ms when nothing has come
//! for two seconds: its sink then remembers nothing that a fresh alarm could be in a hurry for.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fmt, io};

use traffic::{Sample, Time};

use crate::config::{Config, Listener};
use crate::decoder::Decoder;
use crate::error::Statistics;
use crate::exporters::Exporters;
use crate::mirror::{self, Capture, Port};
use crate::state;
use crate::template::Templates;

/// Longest wait for traffic.
pub(crate) const WAIT: Duration = Duration::from_millis(20);
/// The same when there was none for [`QUIET`]: being woken is all that an idle worker costs.
const QUIET_WAIT: Duration = Duration::from_millis(50);
const QUIET: Duration = Duration::from_secs(2);
/// Templates are saved this often, when they changed.
const SAVE: Duration = Duration::from_secs(60);
/// Statistics are published this often.
pub(crate) const PUBLISH: Duration = Duration::from_millis(50);
/// Datagrams that a worker which is to end reads still, at most.
const LEFT_OVER: usize = 100_000;

/// Where samples go. One per worker; never shared.
pub trait Sink: Send {
    /// Takes a batch.
    fn samples(&mut self, now: Time, batch: &[Sample]);

    /// Called after each batch and at least every 20 ms while nothing arrives, every 50 ms once that has lasted for 2 s.
    fn idle(&mut self, now: Time);
}

/// Why collectors did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A UDP socket.
    #[error("cannot listen on UDP {address}: {error}{advice}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        error: io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// A mirror port.
    #[error(
        "cannot capture on {interface}: {error}; the program needs CAP_NET_RAW and the interface must exist and be up"
    )]
    Capture {
        /// Where.
        interface: String,
        /// Why.
        error: pcap::Error,
    },
    /// A thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// What a worker has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkerStatistics {
    /// Its socket or interface.
    pub source: String,
    /// What the decoder counted.
    pub decoder: Statistics,
    /// Packets of a mirror port.
    pub packets: u64,
    /// Datagrams or packets that the kernel dropped.
    pub kernel_drops: u64,
    /// Why the worker ended before it was stopped.
    pub failed: Option<String>,
}

pub(crate) type Shared = Arc<Mutex<WorkerStatistics>>;

/// What a worker listens to, so that a new configuration leaves it alone if it still wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    /// The nth worker of a port.
    Listener(std::net::SocketAddr, usize),
    Port(Port),
}

/// A worker's thread.
struct Running {
    key: Key,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    statistics: Shared,
    /// Another handle of its socket, to share the port with workers that come later.
    socket: Option<UdpSocket>,
}

/// Running workers.
pub struct Workers {
    running: Vec<Running>,
    reader: Reader,
    saver: Option<Saver>,
    /// Threads so far, for their names.
    started: usize,
    /// What an operator should know about how they started.
    pub warnings: Vec<String>,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("running", &self.running.len()).finish_non_exhaustive()
    }
}

enum Opened {
    Socket(UdpSocket),
    Port(Capture, Port),
}

/// Sockets and interfaces that a new configuration wants and no worker has yet: open, but nothing reads them.
pub struct Opening {
    config: Config,
    opened: Vec<(Key, Opened)>,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening").field("workers", &self.workers()).finish_non_exhaustive()
    }
}

impl Opening {
    /// Workers that will start; each needs a sink.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.opened.len()
    }
}

impl Key {
    /// Everything that a configuration wants.
    fn all(config: &Config) -> Vec<Self> {
        let listeners =
            config.listeners.iter().flat_map(|l| (0..l.workers.max(1)).map(|i| Self::Listener(l.address, i)));
        let ports = config.interfaces.iter().flat_map(|interface| {
            (0..interface.workers.max(1)).map(|worker| Self::Port(Port { interface: interface.clone(), worker }))
        });
        listeners.chain(ports).collect()
    }

    fn source(&self) -> String {
        match self {
            Self::Listener(address, _) => format!("udp {address}"),
            Self::Port(port) => format!("interface {}", port.interface.name),
        }
    }
}

/// Opens everything, then starts one thread per listener's worker and per interface. `sink` makes the sink of worker `i`.
///
/// # Errors
/// See [`StartError`].
pub fn start<S: Sink + 'static>(
    config: &Config,
    clock: impl Fn() -> Time + Clone + Send + 'static,
    mut sink: impl FnMut(usize) -> S,
) -> Result<Workers, StartError> {
    let exporters = Arc::new(Exporters::new(config.exporters.clone()));
    let mut warnings = Vec::new();
    if let Some(path) = &config.templates_file
        && let Err(error) = state::load(exporters.templates(), clock(), path)
    {
        warnings.push(format!("{} cannot be read: {error}; templates are learned anew", path.display()));
    }
    let mut workers = Workers {
        running: Vec::new(),
        reader: Reader { workers: Arc::default(), exporters },
        saver: None,
        started: 0,
        warnings: Vec::new(),
    };
    let opening = workers.open(config)?;
    workers.warnings = [warnings, opening.warnings.clone()].concat();
    let mut next = 0;
    workers.apply(opening, clock, || {
        next += 1;
        sink(next - 1)
    })?;
    Ok(workers)
}

impl Workers {
    /// Opens what a configuration wants and no worker has yet; what runs is not touched.
    ///
    /// # Errors
    /// See [`StartError`]; then nothing stays open.
    pub fn open(&self, config: &Config) -> Result<Opening, StartError> {
        let mut opening = Opening { config: config.clone(), opened: Vec::new(), warnings: Vec::new() };
        for key in Key::all(config) {
            if self.running.iter().any(|r| r.key == key && !r.thread.is_finished()) {
                continue;
            }
            let opened = match &key {
                Key::Listener(address, _) => {
                    let workers = config.listeners.iter().find(|l| l.address == *address).map_or(1, |l| l.workers);
                    if workers > 1 {
                        // A port that one worker had alone is shared from now on.
                        for running in
                            self.running.iter().filter(|r| matches!(r.key, Key::Listener(a, _) if a == *address))
                        {
                            if let Some(socket) = &running.socket {
                                let _ = socket2::SockRef::from(socket).set_reuse_port(true);
                            }
                        }
                    }
                    let listener = Listener { address: *address, workers };
                    let (socket, warning) = listen(&listener, config.receive_buffer_bytes)?;
                    opening.warnings.extend(warning);
                    Opened::Socket(socket)
                }
                Key::Port(port) => {
                    let (capture, warning) = port.open()?;
                    opening.warnings.extend(warning);
                    Opened::Port(capture, port.clone())
                }
            };
            opening.opened.push((key, opened));
        }
        opening.warnings.dedup();
        Ok(opening)
    }

    /// Starts a worker for everything that was opened, and ends those that the configuration no longer wants. All others go on
    /// undisturbed. `sink` makes the sink of each new worker, in order.
    ///
    /// # Errors
    /// A thread that cannot be started; workers that started before it go on.
    pub fn apply<S: Sink + 'static>(
        &mut self,
        opening: Opening,
        clock: impl Fn() -> Time + Clone + Send + 'static,
        mut sink: impl FnMut() -> S,
    ) -> Result<(), StartError> {
        let wanted = Key::all(&opening.config);
        self.reader.exporters.reconfigure(&opening.config.exporters);
        for (key, opened) in opening.opened {
            let shared: Shared =
                Arc::new(Mutex::new(WorkerStatistics { source: key.source(), ..WorkerStatistics::default() }));
            let decoder = Decoder::new(Arc::clone(&self.reader.exporters));
            let socket = if let Opened::Socket(socket) = &opened { socket.try_clone().ok() } else { None };
            let stop = Arc::new(AtomicBool::new(false));
            let run = {
                let (sink, clock, stop, shared) = (sink(), clock.clone(), Arc::clone(&stop), Arc::clone(&shared));
                move || match opened {
                    Opened::Socket(socket) => receive(&socket, decoder, sink, &clock, &stop, &shared),
                    Opened::Port(capture, port) => {
                        mirror::capture_packets(capture, &port, sink, &clock, &stop, &shared);
                    }
                }
            };
            let thread = std::thread::Builder::new().name(format!("collect-{}", self.started));
            let thread = thread.spawn(run).map_err(StartError::Thread)?;
            self.started += 1;
            self.reader.add(&shared);
            self.running.push(Running { key, stop, thread, statistics: shared, socket });
        }
        let (kept, ended): (Vec<_>, Vec<_>) = std::mem::take(&mut self.running)
            .into_iter()
            .partition(|r| wanted.contains(&r.key) && !r.thread.is_finished());
        self.running = kept;
        ended.iter().for_each(|r| self.reader.remove(&r.statistics));
        end(ended);
        if self.saver.is_none()
            && let Some(path) = &opening.config.templates_file
        {
            self.saver = Some(Saver::start(Arc::clone(&self.reader.exporters), path.clone())?);
        }
        Ok(())
    }
}

/// Asks workers to end and waits for them.
fn end(workers: Vec<Running>) {
    workers.iter().for_each(|r| r.stop.store(true, Ordering::Release));
    for running in workers {
        let _ = running.thread.join();
    }
}

/// The thread that keeps templates and rates on disk.
struct Saver {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Saver {
    fn start(exporters: Arc<Exporters>, path: PathBuf) -> Result<Self, StartError> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("templates".to_owned());
        let run = move || keep_templates(exporters.templates(), &path, &stopping);
        Ok(Self { stop, thread: thread.spawn(run).map_err(StartError::Thread)? })
    }

    /// Saves what is not saved yet.
    fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        let _ = self.thread.join();
    }
}

/// Saves templates and rates every [`SAVE`] when they changed, and at the end. A state that cannot be written costs only the
/// first seconds after the next start.
fn keep_templates(templates: &Templates, path: &Path, stop: &AtomicBool) {
    let mut saved = templates.changes();
    loop {
        // Woken early, which may be for nothing: then it is saved early.
        std::thread::park_timeout(SAVE);
        let stopping = stop.load(Ordering::Acquire);
        let changes = templates.changes();
        if changes != saved {
            saved = changes;
            let _ = state::save(templates, path);
        }
        if stopping {
            return;
        }
    }
}

/// Reads what workers have seen; outlives them, and follows a new configuration.
#[derive(Debug, Clone)]
pub struct Reader {
    workers: Arc<Mutex<Vec<Shared>>>,
    exporters: Arc<Exporters>,
}

impl Reader {
    /// What each worker has seen, at most 0.1 s old.
    #[must_use]
    pub fn read(&self) -> Vec<WorkerStatistics> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        workers.iter().map(|s| s.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    }

    /// The exporters that were heard.
    #[must_use]
    pub fn exporters(&self) -> &Exporters {
        &self.exporters
    }

    fn add(&self, worker: &Shared) {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(worker));
    }

    fn remove(&self, worker: &Shared) {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).retain(|w| !Arc::ptr_eq(w, worker));
    }
}

impl Workers {
    /// A reader of the workers' statistics.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// The workers themselves, leaving none behind.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let none = Self {
            running: Vec::new(),
            reader: self.reader.clone(),
            saver: None,
            started: self.started,
            warnings: Vec::new(),
        };
        std::mem::replace(self, none)
    }

    /// Asks all workers to end and waits for them; each ends within its wait for traffic.
    pub fn stop(self) {
        end(self.running);
        if let Some(saver) = self.saver {
            saver.stop();
        }
    }
}

/// Binds a socket; the warning says when the kernel gives a smaller buffer than asked for.
fn listen(listener: &Listener, buffer: usize) -> Result<(UdpSocket, Option<String>), StartError> {
    let address = listener.address;
    let fail = |error: io::Error| {
        #[allow(clippy::wildcard_enum_match_arm, reason = "the system's text says enough for the rest")]
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => "; another collector uses this port: stop it or choose another port",
            io::ErrorKind::AddrNotAvailable => "; this address is not one of this machine's",
            io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
            _ => "",
        };
        StartError::Listen { address, error, advice }
    };
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP)).map_err(fail)?;
    if listener.workers > 1 {
        socket.set_reuse_port(true).map_err(fail)?;
    }
    let mut warning = None;
    if buffer > 0 {
        if !sys::raise_receive_buffer(&socket, buffer) {
            let _ = socket.set_recv_buffer_size(buffer);
        }
        // Linux reports twice what is usable.
        let got = socket.recv_buffer_size().unwrap_or(0) / 2;
        if got < buffer {
            warning = Some(format!(
                "UDP {address} has a receive buffer of {got} bytes instead of {buffer}: bursts of exports may be lost; \
                 sysctl -w net.core.rmem_max={buffer}"
            ));
        }
    }
    socket.bind(&address.into()).map_err(fail)?;
    let socket: UdpSocket = socket.into();
    socket.set_read_timeout(Some(WAIT)).map_err(fail)?;
    Ok((socket, warning))
}

/// When something is due next, on the injected clock.
pub(crate) struct Every {
    span: Duration,
    next: Time,
}

impl Every {
    pub(crate) const fn new(span: Duration) -> Self {
        Self { span, next: Time(0) }
    }

    pub(crate) fn is_due(&mut self, now: Time) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now.after(self.span);
        }
        due
    }
}

/// How long a worker may wait for traffic.
pub(crate) struct Rest {
    heard: Time,
}

impl Rest {
    pub(crate) const fn new() -> Self {
        Self { heard: Time(0) }
    }

    /// The longest wait from now on; `heard` is whether anything has just come.
    pub(crate) fn wait(&mut self, now: Time, heard: bool) -> Duration {
        if heard {
            self.heard = now;
        }
        if now.since(self.heard) < QUIET { WAIT } else { QUIET_WAIT }
    }
}

/// When a worker has emptied its socket, it lets datagrams gather: being woken for every single one costs more than reading it.
/// A small part of the detector's tick, and nothing is lost: the more of the receive buffer fills meanwhile, the shorter.
struct Gather {
    span: Duration,
}

impl Gather {
    const SHORTEST: Duration = Duration::from_millis(2);
    const LONGEST: Duration = Duration::from_millis(10);
    /// Part of the receive buffer that may fill meanwhile: a burst may be so many times the rate before it.
    const PART: u32 = 16;

    /// Sleeps, and learns how long it may sleep the next time.
    fn sleep(&mut self, socket: &UdpSocket) {
        std::thread::sleep(self.span);
        let part = sys::ReceiveBuffer::of(socket).map_or(1, |buffer| buffer.used / (buffer.size / Self::PART).max(1));
        self.span = match part {
            0 => (self.span * 3 / 2).min(Self::LONGEST),
            1 => self.span,
            _ => Self::SHORTEST,
        };
    }
}

/// Samples of datagrams are handed over when there are as many, and at the end of a system call's datagrams.
const HAND_OVER: usize = 256;

fn receive(
    socket: &UdpSocket,
    mut decoder: Decoder,
    mut sink: impl Sink,
    clock: &impl Fn() -> Time,
    stop: &AtomicBool,
    shared: &Shared,
) {
    let mut batch = sys::Batch::new(socket);
    let mut samples = Vec::with_capacity(2 * HAND_OVER);
    let mut publish = Every::new(PUBLISH);
    let mut gather = Gather { span: Gather::SHORTEST };
    let (mut rest, mut timeout) = (Rest::new(), WAIT);
    let mut left = LEFT_OVER;
    // What waits in the socket when the worker is to end was sent to us: it is counted still.
    while left > 0 {
        let stopping = stop.load(Ordering::Acquire);
        let received = batch.receive(socket);
        if stopping {
            left = if received.is_ok() { left.saturating_sub(batch.datagrams().count()) } else { 0 };
        }
        let now = clock();
        match received {
            Ok(()) => {
                for (exporter, payload) in batch.datagrams() {
                    decoder.datagram(now, exporter, payload, &mut samples);
                    if samples.len() >= HAND_OVER {
                        sink.samples(now, &samples);
                        samples.clear();
                    }
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            // ICMP errors of other sockets and signals pass; the socket itself cannot fail for good.
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
        decoder.release(now, &mut samples);
        if !samples.is_empty() {
            sink.samples(now, &samples);
            samples.clear();
        }
        sink.idle(now);
        let is_empty = batch.messages() > 0 && batch.messages() < sys::socket::MESSAGES;
        if publish.is_due(now) {
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.decoder.clone_from(decoder.statistics());
            shared.kernel_drops = sys::ReceiveBuffer::of(socket).map_or(0, |buffer| buffer.drops.into());
        }
        let wait = rest.wait(now, batch.messages() > 0);
        if wait != timeout && socket.set_read_timeout(Some(wait)).is_ok() {
            timeout = wait;
        }
        if is_empty {
            gather.sleep(socket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::sync::mpsc;

    struct Recorder(mpsc::Sender<usize>);

    impl Sink for Recorder {
        fn samples(&mut self, _: Time, batch: &[Sample]) {
            let _ = self.0.send(batch.len());
        }
        fn idle(&mut self, _: Time) {}
    }

    #[test]
    fn datagrams_reach_the_sink_and_a_port_in_use_is_named() {
        let probe = UdpSocket::bind("127.0.0.1:0").expect("binds");
        let address = probe.local_addr().expect("bound");
        drop(probe);
        let config = Config { listeners: vec![Listener { address, workers: 1 }], ..Config::default() };
        let ticks = Arc::new(AtomicU64::new(1));
        let clock = move || Time(ticks.fetch_add(1_000_000, Ordering::Relaxed));
        let (sender, receiver) = mpsc::channel();
        let workers = start(&config, clock.clone(), |_| Recorder(sender.clone())).expect("starts");
        let second = start(&config, clock, |_| Recorder(sender.clone())).expect_err("the port is taken");
        assert!(second.to_string().contains("another collector uses this port"), "{second}");
        let mut v5 = vec![0, 5, 0, 2];
        v5.resize(24 + 2 * 48, 0);
        v5[24 + 19] = 1;
        v5[24 + 48 + 19] = 1;
        v5[24 + 3] = 1;
        let exporter = UdpSocket::bind("127.0.0.1:0").expect("binds");
        exporter.send_to(&v5, address).expect("loopback");
        exporter.send_to(b"garbage", address).expect("loopback");
        assert_eq!(receiver.recv_timeout(Duration::from_secs(10)), Ok(2));
        let counted = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            let s = &workers.reader().read()[0].decoder;
            s.records == 2 && s.errors().contains_key("unknown_version")
        });
        assert!(counted, "{:?}", workers.reader().read());
        workers.stop();
    }
}
