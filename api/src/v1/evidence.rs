//! What an attack's decisions rested on: its cases as they were written, its sample as a table with facets, and as a capture file.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use operator::access::Scope;
use reporting::case::Case;
use reporting::evidence;
use reporting::history::archive::PastAttack;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::super::auth::Access;
use super::super::refusal::{Named, Refusal};
use super::super::refused::{BadInput, Busy, Denied, Missing};
use super::super::site::Site;
use super::Reply;
use super::past::read;

/// Samples of one answer at most.
const MAX_ROWS: usize = 2000;

/// An attack that the caller may see, with its cases.
async fn found(site: &Site, access: &Access, id: String) -> Result<(PastAttack, Vec<Case>), Refusal> {
    access.need(Scope::Read)?;
    let text = format!("there is no attack {id:?}: see /api/v1/history/attacks");
    let found = read(site, move |archive| {
        let attack = archive.attack(&id)?.map(|(attack, _)| attack);
        Ok(attack.map(|attack| (evidence::cases(&archive.cases(), &attack), attack)))
    });
    let found = found.await?.filter(|(_, attack)| access.sees_text(&attack.prefix));
    found.map(|(cases, attack)| (attack, cases)).ok_or_else(|| Refusal::not_found(text))
}

/// A sampled packet, or a flow record.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SampleRow {
    /// Seconds since the Unix epoch.
    time: f64,
    /// Source address.
    #[schema(value_type = String)]
    source: std::net::IpAddr,
    /// Destination address.
    #[schema(value_type = String)]
    destination: std::net::IpAddr,
    /// IP protocol number.
    protocol: u8,
    /// Source port.
    source_port: u16,
    /// Destination port.
    destination_port: u16,
    /// IP total length; a mean where a record holds several packets.
    length: u16,
    /// TCP flags.
    tcp_flags: u16,
    /// Fragment bits as FlowSpec numbers them.
    fragment: u8,
    /// Packets it stands for.
    packets: u64,
    /// IP bytes it stands for.
    bytes: u64,
    /// N of 1:N sampling.
    sampling_rate: u32,
}

/// An attack's sample.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SamplePage {
    /// Buckets that were mined.
    buckets: usize,
    /// Samples in all.
    count: usize,
    /// What the last bucket is made of, most first.
    #[schema(value_type = Object)]
    facets: Value,
    /// The first 2,000, in the order of time.
    samples: Vec<SampleRow>,
}

/// The sample of an attack, with what it is made of.
#[utoipa::path(get, path = "/api/v1/history/attacks/{id}/sample", tag = "history", params(("id" = String, Path,)),
    security((), ("token" = [])), responses((status = 200, body = SamplePage), BadInput, Denied, Missing, Busy))]
pub(super) async fn sample(State(site): State<Site>, access: Access, Named(id): Named) -> Reply<SamplePage> {
    let (_, cases) = found(&site, &access, id).await?;
    let samples = evidence::samples(&cases);
    let row = |s: &traffic::Sample| SampleRow {
        time: s.time.as_seconds(),
        source: s.source_address(),
        destination: s.destination_address(),
        protocol: s.protocol,
        source_port: s.source_port,
        destination_port: s.destination_port,
        length: s.length,
        tcp_flags: s.tcp_flags,
        fragment: s.fragment,
        packets: s.packets,
        bytes: s.bytes,
        sampling_rate: s.sampling_rate,
    };
    Ok(Json(SamplePage {
        buckets: cases.len(),
        count: samples.len(),
        facets: cases.last().map_or_else(|| serde_json::json!({}), |case| case.composition.clone()),
        samples: samples.iter().take(MAX_ROWS).map(row).collect(),
    }))
}

/// The sample of an attack as a capture file (libpcap): headers as sampled, no payload.
#[utoipa::path(get, path = "/api/v1/history/attacks/{id}/pcap", tag = "history", params(("id" = String, Path,)),
    security((), ("token" = [])), responses((status = 200, body = [u8], content_type = "application/vnd.tcpdump.pcap"), BadInput, Denied, Missing, Busy))]
pub(super) async fn pcap(State(site): State<Site>, access: Access, Named(id): Named) -> Result<Response, Refusal> {
    let (attack, cases) = found(&site, &access, id).await?;
    let file = evidence::pcap(&evidence::samples(&cases));
    Ok((download(&attack, "pcap", "application/vnd.tcpdump.pcap"), file).into_response())
}

/// The case files of an attack: everything its decisions rested on; `floodwall replay` decides anew from each.
#[utoipa::path(get, path = "/api/v1/history/attacks/{id}/cases", tag = "history", params(("id" = String, Path,)),
    security((), ("token" = [])), responses((status = 200, body = Vec<Object>), BadInput, Denied, Missing, Busy))]
pub(super) async fn cases(State(site): State<Site>, access: Access, Named(id): Named) -> Result<Response, Refusal> {
    let (attack, cases) = found(&site, &access, id).await?;
    Ok((download(&attack, "json", "application/json"), Json(cases)).into_response())
}

/// A browser saves it under a name that says what it is.
fn download(attack: &PastAttack, end: &str, kind: &'static str) -> [(header::HeaderName, String); 2] {
    let name: String = attack.id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"floodwall-{name}.{end}\"")),
    ]
}
