//! How a refusal looks (RFC 9457).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// Short and the same for every refusal of its kind.
    pub title: String,
    /// What was tried, on which object, and what to do.
    pub detail: String,
    /// The errno that netkit's netlink interface would return, by name, such as `EEXIST`.
    pub errno: String,
    /// The same as a number.
    pub errno_number: i32,
}
