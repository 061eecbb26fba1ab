//! The daemon's end of the control socket.

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use nix::unistd::{Gid, Group, Uid, User, chown, getgrouplist};
use operator::{Caller, Envelope, Failure, Outcome, Reply};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::{GROUP, MAX_CLIENTS, MAX_REQUEST};

/// Does what callers ask for.
pub trait Handler: Send + Sync + 'static {
    /// One request; whether the caller may write was checked.
    fn handle(&self, caller: Caller, request: operator::Request) -> impl Future<Output = Outcome> + Send;
}

/// A bound socket; its file goes with it.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Binds the socket, in place of one that a dead daemon left. Group [`GROUP`] may connect; everybody, if `others` is set.
///
/// # Errors
/// Another daemon answers there, or the folder cannot be written.
pub fn bind(path: &Path, others: bool) -> Result<Listener> {
    let shown = path.display();
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder of the control socket {shown}"))?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        bail!("another floodwall answers on the control socket {shown}: stop it, or choose another with --socket");
    }
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).with_context(|| format!("cannot make the control socket {shown}"))?;
    let listener = Listener { listener, path: path.to_owned() };
    let mode = if others { 0o666 } else { 0o660 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the rights of {shown}"))?;
    if let Some(group) = Group::from_name(GROUP).ok().flatten() {
        // Without the right to give it away, the socket stays the daemon's own.
        let _ = chown(path, None, Some(group.gid));
    }
    Ok(listener)
}

/// Serves until the task is aborted.
pub async fn serve(listener: Listener, handler: impl Handler) {
    let handler = Arc::new(handler);
    let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let Ok((stream, _)) = listener.listener.accept().await else {
            // Out of descriptors: let some be closed.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&clients).try_acquire_owned() else {
            let text = format!("{MAX_CLIENTS} clients are connected already: close one");
            let _ = send(&mut { stream }, Err(text.into())).await;
            continue;
        };
        let handler = Arc::clone(&handler);
        tokio::spawn(async move {
            let _ = converse(stream, &*handler).await;
            drop(permit);
        });
    }
}

/// One client: a request, a reply, until it goes.
async fn converse(mut stream: UnixStream, handler: &impl Handler) -> std::io::Result<()> {
    let caller = caller(&stream.peer_cred()?);
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = MAX_REQUEST as u64 + 1;
        if (&mut read).take(limit).read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        if line.len() > MAX_REQUEST {
            send(&mut write, Err(format!("a request has at most {MAX_REQUEST} bytes").into())).await?;
            return Ok(());
        }
        let outcome = match serde_json::from_slice::<Envelope>(&line) {
            Ok(Envelope { line, reason, seen }) => match line.request() {
                Ok(request) if request.is_read() || caller.may_write => {
                    handler.handle(Caller { reason, seen, ..caller.clone() }, request).await
                }
                // Also what cannot be read: it would have changed something.
                Ok(_) => Err(forbidden(&caller)),
                Err(_) if !caller.may_write => Err(forbidden(&caller)),
                Err(failure) => Err(failure),
            },
            Err(error) => Err(format!("not a request: {error}").into()),
        };
        send(&mut write, outcome).await?;
    }
}

fn forbidden(caller: &Caller) -> Failure {
    format!(
        "user {} may look but not change anything: use sudo, or join the group (usermod -a -G {GROUP} {})",
        caller.user, caller.user
    )
    .into()
}

async fn send(stream: &mut (impl AsyncWriteExt + Unpin), outcome: Outcome) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(&Reply::from(outcome)).unwrap_or_default();
    line.push(b'\n');
    stream.write_all(&line).await
}

/// Who is at the other end.
fn caller(credentials: &UCred) -> Caller {
    let uid = Uid::from_raw(credentials.uid());
    let account = User::from_uid(uid).ok().flatten();
    let may_write = uid.is_root() || uid == Uid::effective() || is_member(credentials, account.as_ref());
    let name = |uid: Uid, user: Option<User>| user.map_or_else(|| format!("uid {uid}"), |u| u.name);
    // The kernel's audit id outlives sudo: root's work is told by who logged in.
    let login = credentials.pid().and_then(login_uid);
    let user = match login {
        Some(login) => name(login, User::from_uid(login).ok().flatten()),
        None => name(uid, account),
    };
    Caller { user, uid: uid.as_raw(), may_write, is_admin: may_write, ..Caller::default() }
}

/// Whether a user is in [`GROUP`].
fn is_member(credentials: &UCred, account: Option<&User>) -> bool {
    let Some(group) = Group::from_name(GROUP).ok().flatten() else { return false };
    if Gid::from_raw(credentials.gid()) == group.gid {
        return true;
    }
    let Some(name) = account.and_then(|a| std::ffi::CString::new(a.name.as_str()).ok()) else { return false };
    getgrouplist(&name, Gid::from_raw(credentials.gid())).is_ok_and(|groups| groups.contains(&group.gid))
}

/// Who logged in, where the system keeps that.
fn login_uid(pid: i32) -> Option<Uid> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/loginuid")).ok()?;
    let uid: u32 = text.trim().parse().ok()?;
    (uid != u32::MAX).then(|| Uid::from_raw(uid))
}
