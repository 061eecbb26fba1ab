//! [`Desk`]: where requests arrive, by socket or HTTP, and whose they are to answer: the configuration's, the tokens', the audit
//! log's, or the control thread's. What changes anything is written down with its outcome.

use std::sync::{Arc, mpsc};

use api::site::Ask;
use api::tokens::Tokens;
use operator::request::QUEUE;
use operator::status::Latest;
use operator::{Answer, Caller, Failure, Outcome, Request, Why, clock, table};
use tokio::sync::{mpsc as queue, oneshot};
use traffic::Time;

use super::audit::Audit;
use super::configuration::Configuration;
use super::server;
use crate::plant::Job;

/// Answers what comes through the control socket.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) jobs: mpsc::SyncSender<Job>,
    pub(crate) configuration: Arc<tokio::sync::Mutex<Configuration>>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) status: Latest,
}

impl server::Handler for Desk {
    async fn handle(&self, caller: Caller, request: Request) -> Outcome {
        if let Request::Complete { words } = &request {
            let running = self.configuration.lock().await.running().to_owned();
            let words = super::complete::complete(&running, &self.status.get(), words);
            return Ok(Answer::new("", &words));
        }
        if let Request::Show { category, arguments } = &request
            && category == "audit"
        {
            return self.show_audit(arguments);
        }
        let is_write = !request.is_read();
        if let Some(outcome) = self.tend_tokens(&caller, &request) {
            if is_write {
                // The log must not hold the secret.
                let said = outcome.clone().map(|_| Answer::new("done", &true));
                self.audit.record(clock::wall_now(), &caller, &request, &said);
            }
            return outcome;
        }
        let outcome = self.carry_out(&caller, request.clone()).await;
        if is_write {
            self.audit.record(clock::wall_now(), &caller, &request, &outcome);
        }
        outcome
    }
}

impl Desk {
    async fn carry_out(&self, caller: &Caller, request: Request) -> Outcome {
        let at_once = matches!(request, Request::Order(_));
        let of_configuration = if let Request::Show { category, arguments } = &request {
            Configuration::shows(category, arguments)
        } else {
            !at_once
        };
        if !of_configuration {
            return self.ask_control(caller.clone(), request).await;
        }
        let mut configuration = self.configuration.lock().await;
        let outcome = configuration.handle(clock::now(), caller, &request).await;
        if let Some(deadline) = configuration.deadline() {
            self.watch_deadline(deadline, caller.clone());
        }
        outcome
    }

    /// `show token`, `set token`, `delete token`: they are no part of the configuration and need no tick.
    fn tend_tokens(&self, caller: &Caller, request: &Request) -> Option<Outcome> {
        let now = clock::wall_now();
        #[allow(clippy::wildcard_enum_match_arm, reason = "all others are for somebody else")]
        match request {
            Request::Show { category, arguments } if category == "token" => Some(self.tokens.show(now, arguments)),
            Request::Set { category, arguments } if category == "token" => {
                Some(self.tokens.set(now, caller, arguments))
            }
            Request::Delete { category, arguments } if category == "token" => Some(self.tokens.delete(arguments)),
            _ => None,
        }
    }

    /// Answers what comes over HTTP, each in its own task; the queue before it is bounded.
    pub(crate) async fn serve(self, mut asks: queue::Receiver<Ask>) {
        use super::server::Handler;
        while let Some(Ask { caller, request, reply }) = asks.recv().await {
            let desk = self.clone();
            tokio::spawn(async move {
                // Whoever asked may have gone.
                let _ = reply.send(desk.handle(caller, request).await);
            });
        }
    }

    async fn ask_control(&self, caller: Caller, request: Request) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        self.jobs
            .try_send(Job::Ask { request, caller, reply })
            .map_err(|_| Failure::of(Why::Busy, format!("{QUEUE} requests are waiting already: try again")))?;
        outcome.await.unwrap_or_else(|_| Err(Failure::of(Why::Busy, "the daemon is stopping")))
    }

    /// Takes an unconfirmed commit back when its time is over.
    fn watch_deadline(&self, deadline: Time, caller: Caller) {
        let desk = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(deadline.since(clock::now())).await;
            let mut configuration = desk.configuration.lock().await;
            if let Some(outcome) = configuration.expire(clock::now()).await {
                let request = Request::Rollback { back: 1 };
                let caller = Caller { reason: Some("the commit was not confirmed".to_owned()), ..caller };
                desk.audit.record(clock::wall_now(), &caller, &request, &outcome);
            }
        });
    }

    fn show_audit(&self, arguments: &[String]) -> Outcome {
        let count = match arguments {
            [] => 50,
            [count] => count.parse().map_err(|_| format!("show audit N: {count:?} is not a number"))?,
            _ => return Err("show audit N".into()),
        };
        let records = self.audit.last(count);
        let now = clock::wall_now().as_seconds();
        let row = |r: &super::audit::Record| {
            let state = if r.done { "done" } else { "refused" };
            let reason = r.reason.clone().unwrap_or_default();
            vec![format!("{:.0} s ago", now - r.time), r.user.clone(), state.to_owned(), r.action.clone(), reason]
        };
        let rows: Vec<Vec<String>> = records.iter().map(row).collect();
        let text = table(&["WHEN", "WHO", "", "WHAT", "WHY"], &rows);
        Ok(Answer::new(text, &records))
    }

    /// The file was edited and a signal says so.
    pub(crate) async fn reload(&self) {
        let caller = Caller { user: "SIGHUP".to_owned(), uid: 0, may_write: true, is_admin: true, ..Caller::default() };
        let request = Request::Reload;
        let outcome = self.configuration.lock().await.handle(clock::now(), &caller, &request).await;
        match &outcome {
            Ok(answer) => tracing::info!("{}", answer.text),
            Err(failure) => tracing::error!("what runs goes on: {}", failure.text),
        }
        self.audit.record(clock::wall_now(), &caller, &request, &outcome);
    }
}
