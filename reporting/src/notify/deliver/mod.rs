//! How a channel is told: one file per way.

mod chat;
pub(crate) mod http;
mod mail;
mod script;
mod syslog;

use std::sync::Arc;
use std::time::Duration;

use config::notify::{Channel, Kind};

use super::Message;

/// Everything but a script takes at most this long.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Why a message did not arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In words.
    pub text: String,
    /// Another try would fare no better.
    pub is_final: bool,
    /// When the other side would like another try.
    pub retry_after: Option<Duration>,
}

impl Failure {
    fn again(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_final: false, retry_after: None }
    }

    fn last(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_final: true, retry_after: None }
    }
}

/// Tells a channel of messages: of one, or of several at once where a line or a mail can join them. `is_test` lets a script's output
/// through to the terminal.
///
/// # Errors
/// It did not arrive, or nobody knows whether it did.
pub async fn deliver(channel: &Channel, messages: &[Arc<Message>], is_test: bool) -> Result<(), Failure> {
    let told = async {
        match &channel.kind {
            Kind::Script { .. } => Ok(()),
            Kind::WebHook { url, secret } => {
                for message in messages {
                    http::web_hook(&channel.name, url, secret.as_deref(), message).await?;
                }
                Ok(())
            }
            Kind::Chat { service, url, text, chat } => {
                let lines: Vec<String> = messages.iter().map(|m| m.fill(text)).collect();
                chat::say(*service, url, chat, &lines.join("\n")).await
            }
            Kind::Mail(mail) => mail::send(mail, messages).await,
            Kind::Syslog { server, text } => syslog::log(server, text, messages).await,
        }
    };
    if let Kind::Script { path, format, of_groups, timeout } = &channel.kind {
        for message in messages {
            script::run(path, *format, *of_groups, *timeout, message, is_test).await?;
        }
        return Ok(());
    }
    tokio::time::timeout(PATIENCE, told)
        .await
        .unwrap_or_else(|_| Err(Failure::again(format!("no answer within {} s", PATIENCE.as_secs()))))
}
