//! One HTTP/1 exchange over a unix socket, which blocks until it is done or takes too long.

use std::io;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// What went wrong, if no answer came.
#[derive(Debug)]
pub enum Fault {
    /// This process cannot wait for sockets.
    Runtime(io::Error),
    /// Nothing was sent.
    Connect(io::Error),
    /// Nothing was sent, as it is no HTTP.
    Request(hyper::http::Error),
    /// Something may have been sent.
    Broken(hyper::Error),
    /// Something may have been sent.
    Timeout,
}

/// Sends a request with a JSON body, and returns the answer's status and body.
pub fn exchange(
    socket: &Path,
    method: &Method,
    path: &str,
    body: &[u8],
    limit: Duration,
) -> Result<(StatusCode, Bytes), Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Fault::Runtime)?;
    let answer = async { timeout(limit, send(socket, method, path, body)).await };
    runtime.block_on(answer).map_err(|_| Fault::Timeout)?
}

async fn send(socket: &Path, method: &Method, path: &str, body: &[u8]) -> Result<(StatusCode, Bytes), Fault> {
    let stream = UnixStream::connect(socket).await.map_err(Fault::Connect)?;
    let request: Request<Full<Bytes>> = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::from(body.to_vec()))
        .map_err(Fault::Request)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(Fault::Broken)?;
    // Whatever goes wrong on the connection fails the request too, and is reported there.
    tokio::spawn(async move { connection.await.ok() });
    let answer = sender.send_request(request).await.map_err(Fault::Broken)?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(Fault::Broken)?;
    Ok((status, body.to_bytes()))
}
