//! Refusals as RFC 9457 problems.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use netkit_api::Problem;
use utoipa::ToResponse;
use utoipa::openapi::{Content, Ref, RefOr, Response as Documented, ResponseBuilder};

use crate::daemon::DaemonError;

/// A refusal on its way to the caller.
#[derive(Debug)]
pub struct Refusal {
    /// The errno.
    pub errno: i32,
    /// What was tried, on which object, and what to do.
    pub detail: String,
}

impl From<DaemonError> for Refusal {
    fn from(error: DaemonError) -> Refusal {
        Refusal {
            errno: error.errno(),
            detail: error.to_string(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (name, title) = describe(self.errno);
        let status = status(self.errno);
        let problem = Problem {
            status: status.as_u16(),
            title: title.to_owned(),
            detail: self.detail,
            errno: name.to_owned(),
            errno_number: self.errno,
        };
        (
            status,
            [(header::CONTENT_TYPE, "application/problem+json")],
            Json(problem),
        )
            .into_response()
    }
}

impl ToResponse<'_> for Refusal {
    fn response() -> (&'static str, RefOr<Documented>) {
        let problem = Content::new(Some(Ref::from_schema_name("Problem")));
        let response = ResponseBuilder::new()
            .description("Refused, and why")
            .content("application/problem+json", problem);
        ("Problem", response.build().into())
    }
}

fn status(errno: i32) -> StatusCode {
    match errno {
        libc::ENODEV | libc::ENOENT | libc::ENXIO => StatusCode::NOT_FOUND,
        libc::EEXIST | libc::EBUSY | libc::EADDRINUSE | libc::ESTALE => StatusCode::CONFLICT,
        libc::EPERM | libc::EACCES => StatusCode::FORBIDDEN,
        libc::ESHUTDOWN => StatusCode::SERVICE_UNAVAILABLE,
        libc::EIO | libc::ENOMEM | libc::EMFILE | libc::ENFILE => StatusCode::INTERNAL_SERVER_ERROR,
        libc::ENOSPC => StatusCode::INSUFFICIENT_STORAGE,
        libc::EMSGSIZE => StatusCode::PAYLOAD_TOO_LARGE,
        libc::ENOSYS => StatusCode::METHOD_NOT_ALLOWED,
        _ => StatusCode::BAD_REQUEST,
    }
}

/// Name and text of an errno, as errno(3) has them.
fn describe(errno: i32) -> (&'static str, &'static str) {
    match errno {
        libc::EPERM => ("EPERM", "Operation not permitted"),
        libc::ENOENT => ("ENOENT", "No such file or directory"),
        libc::EIO => ("EIO", "Input/output error"),
        libc::ENXIO => ("ENXIO", "No such device or address"),
        libc::EBADF => ("EBADF", "Bad file descriptor"),
        libc::ENOMEM => ("ENOMEM", "Cannot allocate memory"),
        libc::EACCES => ("EACCES", "Permission denied"),
        libc::EBUSY => ("EBUSY", "Device or resource busy"),
        libc::EEXIST => ("EEXIST", "File exists"),
        libc::ENODEV => ("ENODEV", "No such device"),
        libc::ENOTDIR => ("ENOTDIR", "Not a directory"),
        libc::EINVAL => ("EINVAL", "Invalid argument"),
        libc::ENFILE => ("ENFILE", "Too many open files in system"),
        libc::EMFILE => ("EMFILE", "Too many open files"),
        libc::ENOTTY => ("ENOTTY", "Inappropriate ioctl for device"),
        libc::ENOSPC => ("ENOSPC", "No space left on device"),
        libc::EROFS => ("EROFS", "Read-only file system"),
        libc::ERANGE => ("ERANGE", "Numerical result out of range"),
        libc::ENOSYS => ("ENOSYS", "Function not implemented"),
        libc::EMSGSIZE => ("EMSGSIZE", "Message too long"),
        libc::ENAMETOOLONG => ("ENAMETOOLONG", "File name too long"),
        libc::ENOTCONN => ("ENOTCONN", "Transport endpoint is not connected"),
        libc::EADDRINUSE => ("EADDRINUSE", "Address already in use"),
        libc::EADDRNOTAVAIL => ("EADDRNOTAVAIL", "Cannot assign requested address"),
        libc::EOPNOTSUPP => ("EOPNOTSUPP", "Operation not supported"),
        libc::ESHUTDOWN => ("ESHUTDOWN", "Cannot send after transport endpoint shutdown"),
        libc::ESTALE => ("ESTALE", "Stale file handle"),
        libc::ENOLINK => ("ENOLINK", "Link has been severed"),
        _ => ("UNKNOWN", "Unknown error"),
    }
}
