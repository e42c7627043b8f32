//! The parts of a request's address, whose faults are problems too.

use axum::extract::{self, FromRequestParts};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::problem::Refusal;

/// What the path names.
pub struct Path<T>(pub T);

impl<T, S> FromRequestParts<S> for Path<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match extract::Path::from_request_parts(parts, state).await {
            Ok(extract::Path(value)) => Ok(Path(value)),
            Err(rejection) => Err(Refusal {
                errno: libc::EINVAL,
                detail: format!(
                    "{} cannot be: {}; names are UTF-8 in percent-encoding, links are numbers",
                    parts.uri.path(),
                    rejection.body_text()
                ),
            }),
        }
    }
}

/// What follows the question mark.
pub struct Query<T>(pub T);

impl<T, S> FromRequestParts<S> for Query<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match extract::Query::from_request_parts(parts, state).await {
            Ok(extract::Query(value)) => Ok(Query(value)),
            Err(rejection) => Err(Refusal {
                errno: libc::EINVAL,
                detail: rejection.body_text(),
            }),
        }
    }
}
