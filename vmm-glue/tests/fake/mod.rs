//! A netkitd that records what it is asked and answers what it was told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tempfile::TempDir;

/// Listens on a socket of its own; every connection is one request and takes one of the answers.
#[derive(Debug)]
pub struct FakeDaemon {
    directory: TempDir,
    thread: JoinHandle<Vec<Request>>,
}

/// What a client asked.
#[derive(Debug, PartialEq)]
pub struct Request {
    /// Method and path.
    pub line: String,
    /// Null if there was none.
    pub body: Value,
}

impl FakeDaemon {
    /// Answers as many requests as there are answers, each a status and a body.
    pub fn answering<const N: usize>(answers: [(u16, Value); N]) -> FakeDaemon {
        let directory = tempfile::tempdir().expect("there is a place for temporary files");
        let listener = UnixListener::bind(directory.path().join("api.sock")).expect("the path is short");
        let thread = std::thread::spawn(move || {
            answers
                .iter()
                .map(|(status, body)| {
                    let (stream, _) = listener.accept().expect("a client connects");
                    serve(&stream, *status, body)
                })
                .collect()
        });
        FakeDaemon { directory, thread }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }

    /// What was asked, once every answer was given.
    pub fn requests(self) -> Vec<Request> {
        self.thread.join().expect("every request was served")
    }
}

/// A refusal as the API describes it.
pub fn problem(status: u16, errno: (&str, i32), detail: &str) -> (u16, Value) {
    let body = json!({
        "status": status, "title": "Refused", "detail": detail, "errno": errno.0, "errno_number": errno.1,
    });
    (status, body)
}

fn serve(mut stream: &UnixStream, status: u16, answer: &Value) -> Request {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("the head is text");
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let length = lines.iter().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().expect("a length is a number"))
    });
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).expect("the body is complete");
    let text = match answer {
        Value::Null => String::new(),
        answer => answer.to_string(),
    };
    let head = format!(
        "HTTP/1.1 {status} Some Reason\r\ncontent-length: {}\r\n\r\n",
        text.len()
    );
    stream
        .write_all((head + &text).as_bytes())
        .expect("the client reads");
    let request_line = lines[0].trim_end_matches(" HTTP/1.1");
    Request {
        line: request_line.into(),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    }
}

/// An L2 peer with a guest behind it.
pub fn device() -> Value {
    json!({
        "ifindex": 1, "name": "nk0", "peer_ifindex": 2, "peer_name": "nk1",
        "flags": ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"], "operstate": "UP", "mtu": 1500,
        "address": "02:00:00:00:00:01", "domain": "nk0", "num_rx_queues": 1, "num_tx_queues": 1,
        "mode": "l2", "pairing": "pair", "primary": false, "policy": "forward", "peer_policy": "blackhole",
        "scrub": "default", "peer_scrub": "none", "headroom": 0, "tailroom": 0,
        "attachment": {
            "kind": "vhost-user", "path": "/run/a.sock", "mode": "server", "queues": 2, "ifname": null,
            "connected": true, "running": false, "guest_address": "52:54:00:00:00:01", "features": null,
        },
        "statistics": {
            "rx_packets": 1, "rx_bytes": 60, "rx_dropped": 0, "tx_packets": 2, "tx_bytes": 120, "tx_dropped": 3,
        },
    })
}
