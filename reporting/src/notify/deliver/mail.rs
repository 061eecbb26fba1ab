//! Mail: a subject from the template of its event, FastNetMon's report, the rules and the sample.

use std::sync::Arc;

use config::notify::{Event, Mail, Template};
use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use super::{Failure, PATIENCE};
use crate::notify::Message;

pub(super) async fn send(mail: &Mail, messages: &[Arc<Message>]) -> Result<(), Failure> {
    let Some(first) = messages.first() else { return Ok(()) };
    let mailbox = |text: &str| text.parse::<Mailbox>().map_err(|e| Failure::last(format!("{text}: {e}")));
    let mut builder = lettre::Message::builder()
        .from(mailbox(&mail.from)?)
        .subject(subject(mail, first, messages.len()))
        .message_id(Some(format!("<{}@floodwall>", first.id)))
        .header(ContentType::TEXT_PLAIN);
    for recipient in &mail.recipients {
        builder = builder.to(mailbox(recipient)?);
    }
    let texts: Vec<String> = messages.iter().map(|m| body(mail, m)).collect();
    let letter = builder.body(texts.join("\n----\n\n")).map_err(|e| Failure::last(e.to_string()))?;
    let transport = transport(mail).map_err(|e| Failure::last(format!("mail server {}: {e}", mail.host)))?;
    transport.send(letter).await.map(drop).map_err(|error| {
        let text = format!("mail server {}:{}: {error}", mail.host, mail.port);
        if error.is_permanent() { Failure::last(text) } else { Failure::again(text) }
    })
}

fn transport(mail: &Mail) -> Result<AsyncSmtpTransport<Tokio1Executor>, lettre::transport::smtp::Error> {
    let tls = if mail.tls {
        let parameters =
            TlsParameters::builder(mail.host.clone()).dangerous_accept_invalid_certs(mail.trust_all).build_rustls()?;
        if mail.port == 465 { Tls::Wrapper(parameters) } else { Tls::Required(parameters) }
    } else {
        Tls::None
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&mail.host)
        .port(mail.port)
        .tls(tls)
        .timeout(Some(PATIENCE));
    if let Some((user, password)) = &mail.login {
        builder = builder.credentials(Credentials::new(user.clone(), password.clone()));
    }
    Ok(builder.build())
}

fn subject(mail: &Mail, first: &Message, count: usize) -> String {
    let template = first.event().and_then(|event| mail.subjects.get(&event));
    let plain = || first.variables.get("summary").cloned().unwrap_or_default();
    let subject = template.map_or_else(plain, |template: &Template| first.fill(template));
    if count > 1 { format!("{subject} (and {} more)", count - 1) } else { subject }
}

fn body(mail: &Mail, message: &Message) -> String {
    let variable = |name: &str| message.variables.get(name).map(String::as_str).unwrap_or_default();
    let mut text = format!("{}\n\n", variable("summary"));
    if message.event() != Some(Event::Warning) {
        text.push_str(&message.report);
    }
    if !mail.hide_rules && !variable("rule").is_empty() {
        text.push_str(&format!("\nFlowSpec rule\n\n{}\n{}\n", variable("route"), variable("rule")));
    }
    if mail.with_sample && message.is_beginning() && !message.dump.is_empty() {
        text.push_str(&format!("\nAttack traffic dump\n\n{}\n", message.dump.join("\n")));
    }
    text
}
