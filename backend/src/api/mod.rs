//! The HTTP API on a unix socket.

mod address;
mod dump;
mod entries;
mod maps;
mod nics;
mod peer;
mod problem;
mod programs;
mod routes;
mod uplinks;

use std::io;
use std::os::unix::net::UnixListener;

use crate::daemon::ControlHandle;

pub use routes::openapi;

/// Serves the API on a listening socket, in a thread of its own.
pub fn serve(listener: UnixListener, control: ControlHandle) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listener = {
        let _context = runtime.enter();
        tokio::net::UnixListener::from_std(listener)?
    };
    let run = move || {
        let service = routes::router(control).into_make_service_with_connect_info::<peer::Peer>();
        if let Err(error) = runtime.block_on(async { axum::serve(listener, service).await }) {
            tracing::error!("the API has ended: {error}");
        }
    };
    std::thread::Builder::new().name("api".to_owned()).spawn(run)?;
    Ok(())
}
