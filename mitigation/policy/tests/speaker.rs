//! The speaker and the built-in router over real TCP.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bgp::session::State;
use bgp::tcp::{Clock, Feed, Peers};
use bgp::{Announcement, Community, Peer, Route, Wanted, router};
use flowspec::{Action, Condition, Pattern, Ranges};
use policy::Config;
use policy::rails::Rails;
use tokio::sync::watch;
use traffic::{Prefix, Time};

fn clock() -> Clock {
    let start = tokio::time::Instant::now();
    Arc::new(move || Time::from_seconds(1_700_000_000, 0).after(start.elapsed()))
}

fn config(port: u16) -> Config {
    let peer = Peer {
        name: "r1".to_owned(),
        local_asn: 65001,
        remote_asn: 65002,
        remote_address: "127.0.0.1".parse().expect("address"),
        remote_port: port,
        router_id: "192.0.2.254".parse().expect("address"),
        communities: vec![Community(65001, 7)],
        ..Peer::default()
    };
    Config {
        networks: vec![p("203.0.113.0/24"), p("2001:db8::/32")],
        protected: vec![p("203.0.113.1/32")],
        peers: vec![peer],
        ..Config::default()
    }
}

fn p(text: &str) -> Prefix {
    text.parse().expect("literal prefix")
}

fn rule(destination: &str, port: u32) -> Route {
    Route::FlowSpec(
        Pattern::new(vec![
            Condition::Destination(p(destination), 0),
            Condition::Protocol(Ranges::value(17)),
            Condition::SourcePort(Ranges::value(port)),
        ])
        .expect("valid"),
    )
}

async fn wait_for(routes: &mut watch::Receiver<router::AdjRibIn>, expected: &[Route]) {
    let held = |table: &router::AdjRibIn| table.keys().eq(expected);
    tokio::time::timeout(Duration::from_secs(10), routes.wait_for(held)).await.expect("in time").expect("router lives");
}

#[tokio::test]
async fn the_routers_table_equals_what_is_wanted_through_changes_and_lost_sessions() {
    let clock = clock();
    let listen = "127.0.0.1:0".parse().expect("address");
    let identifier = "192.0.2.253".parse().expect("address");
    let first = router::spawn(listen, 65002, identifier, Arc::clone(&clock)).await.expect("binds");
    let port = first.address.port();
    let (publish, wanted) = watch::channel(Arc::new(Wanted::new()));
    let config = config(port);
    let mut peers = Peers::new(config.sessions(), Feed::same(wanted), Arc::clone(&clock), 1, false);
    peers.apply(config.sessions(), &Rails::gates(&config)).await.expect("starts");
    let mut status = peers.iter().next().expect("one").status.clone();

    let (dns, ntp6, hole) =
        (rule("203.0.113.9/32", 53), rule("2001:db8::9/128", 123), Route::Unicast(p("203.0.113.8/32")));
    let mut set = Wanted::new();
    set.insert(dns.clone(), Announcement::flowspec(Action::Discard));
    set.insert(ntp6.clone(), Announcement::flowspec(Action::RateLimitBytes(1000.0)));
    set.insert(hole.clone(), Announcement::blackhole());
    // Fails closed: foreign space, protected space, everything.
    set.insert(rule("198.51.100.1/32", 53), Announcement::flowspec(Action::Discard));
    set.insert(rule("203.0.113.1/32", 53), Announcement::flowspec(Action::Discard));
    set.insert(Route::Unicast(p("0.0.0.0/0")), Announcement::blackhole());
    publish.send_replace(Arc::new(set.clone()));

    let mut routes = first.routes.clone();
    let all = [hole.clone(), dns.clone(), ntp6.clone()];
    wait_for(&mut routes, &all).await;
    let table: BTreeMap<_, _> = (**routes.borrow()).clone();
    assert_eq!(table[&dns].actions, [Action::Discard]);
    assert_eq!(table[&ntp6].actions, [Action::RateLimitBytes(1000.0)]);
    assert!(table[&hole].communities.contains(&Community::BLACKHOLE));
    assert!(table[&hole].communities.contains(&Community::NO_EXPORT));
    assert!(table[&hole].communities.contains(&Community(65001, 7)), "the peer's own community");
    assert_eq!(table[&hole].next_hop, Some("192.0.2.1".parse().expect("address")));
    tokio::time::timeout(Duration::from_secs(5), status.wait_for(|s| s.sent.len() == 3))
        .await
        .expect("in time")
        .expect("lives");
    let seen = status.borrow().clone();
    assert_eq!((seen.state, seen.sent.len(), seen.refused.len()), (State::Established, 3, 3));

    set.remove(&dns);
    publish.send_replace(Arc::new(set.clone()));
    wait_for(&mut routes, &[hole.clone(), ntp6.clone()]).await;

    // The router restarts: the speaker comes back by itself and sends what is wanted then.
    drop(first);
    set.remove(&hole);
    publish.send_replace(Arc::new(set));
    let second = loop {
        let address = format!("127.0.0.1:{port}").parse().expect("address");
        match router::spawn(address, 65002, identifier, Arc::clone(&clock)).await {
            Ok(router) => break router,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    let mut routes = second.routes.clone();
    wait_for(&mut routes, &[ntp6]).await;
    peers.stop(true).await;
    wait_for(&mut routes, &[]).await;
    assert_eq!(status.borrow_and_update().state, State::Idle);
}

#[tokio::test]
async fn the_end_of_whoever_decides_takes_nothing_from_a_router_before_the_order_to_stop_says_so() {
    let clock = clock();
    let listen = "127.0.0.1:0".parse().expect("address");
    let identifier = "192.0.2.253".parse().expect("address");
    let router = router::spawn(listen, 65002, identifier, Arc::clone(&clock)).await.expect("binds");
    let hole = Route::Unicast(p("203.0.113.8/32"));
    let wanted = Wanted::from([(hole.clone(), Announcement::blackhole())]);
    let (publish, feed) = watch::channel(Arc::new(wanted));
    let config = config(router.address.port());
    let mut peers = Peers::new(config.sessions(), Feed::same(feed), Arc::clone(&clock), 1, false);
    peers.apply(config.sessions(), &Rails::gates(&config)).await.expect("starts");
    let mut routes = router.routes.clone();
    wait_for(&mut routes, std::slice::from_ref(&hole)).await;
    let status = peers.iter().next().expect("one").status.clone();
    drop(publish);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(status.borrow().state, State::Established);
    assert!(routes.borrow().keys().eq([&hole]));
    peers.stop(false).await;
    wait_for(&mut routes, &[]).await;
}
