//! Uplinks, and the leases of their queues.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use netkit_api as api;

use super::address::Path;
use super::problem::Refusal;
use super::routes::{Answer, Body, no_content, refuse};
use crate::daemon::ControlHandle;

/// Every uplink, by ifindex.
#[utoipa::path(get, path = "/v1/uplinks", operation_id = "list_uplinks",
    responses((status = 200, description = "Every uplink", body = [api::Uplink]), (status = "default", response = Refusal)))]
pub async fn list(State(control): State<ControlHandle>) -> Answer<Json<Vec<api::Uplink>>> {
    Ok(Json(control.call(|daemon, _| daemon.uplinks()).await?))
}

/// One uplink.
#[utoipa::path(get, path = "/v1/uplinks/{name}", operation_id = "show_uplink", params(("name" = String, Path)),
    responses((status = 200, description = "The uplink", body = api::Uplink), (status = "default", response = Refusal)))]
pub async fn show(
    State(control): State<ControlHandle>,
    Path(name): Path<String>,
) -> Answer<Json<api::Uplink>> {
    Ok(Json(control.call(move |daemon, _| daemon.uplink(&name)).await?))
}

/// Opens a NIC, so that devices can be attached to it.
#[utoipa::path(post, path = "/v1/uplinks", operation_id = "create_uplink", request_body = api::UplinkCreate,
    responses((status = 201, description = "Made"), (status = "default", response = Refusal)))]
pub async fn create(
    State(control): State<ControlHandle>,
    Body(request): Body<api::UplinkCreate>,
) -> Answer<StatusCode> {
    control
        .call(move |daemon, reactor| daemon.create_uplink(&request, reactor))
        .await?;
    Ok(StatusCode::CREATED)
}

/// Takes an uplink up or down, or changes how many receive queues its NIC has.
#[utoipa::path(patch, path = "/v1/uplinks/{name}", operation_id = "set_uplink",
    params(("name" = String, Path)), request_body = api::UplinkSet,
    responses((status = 204, description = "Done"), (status = "default", response = Refusal)))]
pub async fn set(
    State(control): State<ControlHandle>,
    Path(name): Path<String>,
    Body(request): Body<api::UplinkSet>,
) -> Answer<StatusCode> {
    control
        .call(move |daemon, reactor| daemon.set_uplink(&name, &request, reactor))
        .await
        .map_or_else(refuse, no_content)
}

/// Closes the NIC. The devices that lease its queues go with it.
#[utoipa::path(delete, path = "/v1/uplinks/{name}", operation_id = "delete_uplink", params(("name" = String, Path)),
    responses((status = 204, description = "Done"), (status = "default", response = Refusal)))]
pub async fn delete(State(control): State<ControlHandle>, Path(name): Path<String>) -> Answer<StatusCode> {
    control
        .call(move |daemon, reactor| daemon.delete_uplink(&name, reactor))
        .await
        .map_or_else(refuse, no_content)
}

/// Gives a receive queue of an uplink to a device, as `queue-create` of the netdev netlink family does.
#[utoipa::path(post, path = "/v1/devices/{name}/leases", operation_id = "lease_queue",
    params(("name" = String, Path)), request_body = api::LeaseCreate,
    responses((status = 201, description = "Leased", body = api::LeaseCreated), (status = "default", response = Refusal)))]
pub async fn lease(
    State(control): State<ControlHandle>,
    Path(name): Path<String>,
    Body(request): Body<api::LeaseCreate>,
) -> Answer<impl IntoResponse> {
    let leased = control
        .call(move |daemon, reactor| daemon.lease(&name, &request, reactor))
        .await?;
    Ok((StatusCode::CREATED, Json(leased)))
}
