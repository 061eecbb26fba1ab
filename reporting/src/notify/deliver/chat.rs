//! Chats with incoming web hooks: the same line in each one's form.

use config::notify::{Service, Url};
use hyper::header::USER_AGENT;
use serde_json::{Value, json};

use super::{Failure, http};

pub(super) async fn say(service: Service, url: &Url, chat: &str, text: &str) -> Result<(), Failure> {
    let agent = (USER_AGENT, concat!("Floodwall ", env!("CARGO_PKG_VERSION")).to_owned());
    http::post(url, &[agent], form(service, chat, text).to_string().into_bytes()).await
}

/// Each service's object, cut to what it takes.
fn form(service: Service, chat: &str, text: &str) -> Value {
    let cut = |most: usize| text.chars().take(most).collect::<String>();
    match service {
        // Slack reads three characters as markup.
        Service::Slack => {
            json!({ "text": cut(30_000).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;") })
        }
        Service::Mattermost => json!({ "text": cut(16_000) }),
        Service::Discord => json!({ "content": cut(2000), "allowed_mentions": { "parse": [] } }),
        Service::Telegram => json!({ "chat_id": chat, "text": cut(4096), "disable_web_page_preview": true }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_gets_its_own_form() {
        assert_eq!(form(Service::Slack, "", "a <b> & c"), json!({ "text": "a &lt;b&gt; &amp; c" }));
        assert_eq!(form(Service::Mattermost, "", "a"), json!({ "text": "a" }));
        let long = "x".repeat(5000);
        assert_eq!(form(Service::Discord, "", &long)["content"].as_str().map(str::len), Some(2000));
        let telegram = form(Service::Telegram, "-100", &long);
        assert_eq!((telegram["chat_id"].as_str(), telegram["text"].as_str().map(str::len)), (Some("-100"), Some(4096)));
    }
}
