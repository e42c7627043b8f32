//! The HTTP API as strangers find it: its document, its refusals, and who may call.

mod callers;
mod document;
mod names;
mod refusals;

use netkit_tests::http::Answer;

/// Asserts that an answer is a problem document with this status and errno, whose detail has all these parts.
fn assert_problem(answer: &Answer, status: u16, errno: &str, parts: &[&str]) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(
        answer.header("content-type"),
        "application/problem+json",
        "{answer:?}"
    );
    let problem = answer.json();
    assert_eq!(
        (&problem["status"], &problem["errno"]),
        (&status.into(), &errno.into()),
        "{problem}"
    );
    let number = problem["errno_number"].as_i64().unwrap();
    let text = std::io::Error::from_raw_os_error(number as i32).to_string();
    assert_eq!(
        text,
        format!("{} (os error {number})", problem["title"].as_str().unwrap())
    );
    let detail = problem["detail"].as_str().unwrap();
    for part in parts {
        assert!(detail.contains(part), "no {part:?} in {detail:?}");
    }
}
