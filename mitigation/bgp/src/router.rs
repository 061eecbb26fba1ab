//! A minimal BGP router: the receiving half of the codec over real TCP, for `floodwall demo` and tests.
//!
//! It waits for one peer at a time, accepts any AS, and keeps an Adj-RIB-In that can be watched. A session that ends clears it.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::announcement::Route;
use crate::attribute::{Attributes, Update};
use crate::peer::ConnectionMode;
use crate::session::{Event, Output, Session, SessionConfig, Side};
use crate::tcp::Clock;

/// Routes that are kept; more are counted and dropped.
pub const MAX_ROUTES: usize = 10_000;

/// What the router holds.
pub type AdjRibIn = Arc<BTreeMap<Route, Attributes>>;

/// A running router.
#[derive(Debug)]
pub struct Router {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it holds; changes wake the receiver.
    pub routes: watch::Receiver<AdjRibIn>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Router {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a router of AS `asn` on the current tokio runtime.
///
/// # Errors
/// Those of binding the address.
pub async fn spawn(listen: SocketAddr, asn: u32, identifier: Ipv4Addr, clock: Clock) -> io::Result<Router> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let (publish, routes) = watch::channel(AdjRibIn::default());
    let config = SessionConfig {
        local_asn: asn,
        identifier,
        mode: ConnectionMode::Passive,
        max_received: MAX_ROUTES,
        ..SessionConfig::default()
    };
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let session = Session::new(clock(), config.clone());
            // A broken session is the peer's to make again.
            let _ = serve(stream, session, &clock, &publish).await;
            publish.send_replace(AdjRibIn::default());
        }
    });
    Ok(Router { address, routes, task })
}

async fn serve(
    mut stream: TcpStream,
    mut session: Session,
    clock: &Clock,
    publish: &watch::Sender<AdjRibIn>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    let mut outputs = session.handle(clock(), Event::Connected(Side::Incoming));
    let mut table = BTreeMap::new();
    loop {
        for output in outputs {
            match output {
                Output::Send(_, data) => stream.write_all(&data).await?,
                Output::Close(_) => return Ok(()),
                Output::Update(update) => {
                    apply(&mut table, *update);
                    publish.send_replace(Arc::new(table.clone()));
                }
                Output::Connect
                | Output::Up
                | Output::Down { .. }
                | Output::Refresh(_)
                | Output::RefreshBegin(_)
                | Output::RefreshEnd(_) => {}
            }
        }
        let wait = session.poll_timeout().map_or(Duration::from_secs(1), |at| at.since(clock()));
        outputs = match tokio::time::timeout(wait, stream.read(&mut buffer)).await {
            Err(_) => session.handle(clock(), Event::Timeout),
            Ok(Ok(0)) => return Ok(()),
            Ok(Ok(length)) => session.handle(clock(), Event::Received(Side::Incoming, &buffer[..length])),
            Ok(Err(error)) => return Err(error),
        };
    }
}

fn apply(table: &mut BTreeMap<Route, Attributes>, update: Update) {
    for route in update.withdrawn {
        table.remove(&route);
    }
    for route in update.announced {
        table.insert(route, update.attributes.clone());
    }
}
