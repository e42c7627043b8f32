//! Who calls: the credentials of the socket's other side.

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use tokio::net::UnixListener;

use super::problem::Refusal;

/// The caller's user, as the kernel vouches for it (SO_PEERCRED); `None` if it does not.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    uid: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Peer {
        Peer {
            uid: stream.io().peer_cred().ok().map(|credentials| credentials.uid()),
        }
    }
}

/// Lets only root and the daemon's own user in.
pub async fn authorize(ConnectInfo(peer): ConnectInfo<Peer>, request: Request, next: Next) -> Response {
    // SAFETY: geteuid has no preconditions.
    let own = unsafe { libc::geteuid() };
    match peer.uid {
        Some(uid) if uid == 0 || uid == own => next.run(request).await,
        uid => {
            let who = uid.map_or("an unknown user".to_owned(), |uid| format!("user {uid}"));
            let detail = format!("{who} may not use this API; call it as root or as user {own}");
            Refusal {
                errno: libc::EPERM,
                detail,
            }
            .into_response()
        }
    }
}
