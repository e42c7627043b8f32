//! PCI NICs of the host, and how a guest gets one whole.

use axum::Json;
use axum::extract::State;
use netkit_api as api;

use super::address::Path;
use super::problem::Refusal;
use super::routes::{Answer, Body};
use crate::daemon::ControlHandle;

/// Every PCI NIC, by address.
#[utoipa::path(get, path = "/v1/nics", operation_id = "list_nics",
    responses((status = 200, description = "Every PCI NIC", body = [api::PciNic]), (status = "default", response = Refusal)))]
pub async fn list(State(control): State<ControlHandle>) -> Answer<Json<Vec<api::PciNic>>> {
    Ok(Json(control.call(|daemon, _| daemon.nics()).await?))
}

/// One PCI NIC.
#[utoipa::path(get, path = "/v1/nics/{address}", operation_id = "show_nic", params(("address" = String, Path)),
    responses((status = 200, description = "The NIC", body = api::PciNic), (status = "default", response = Refusal)))]
pub async fn show(
    State(control): State<ControlHandle>,
    Path(address): Path<String>,
) -> Answer<Json<api::PciNic>> {
    Ok(Json(control.call(move |daemon, _| daemon.nic(&address)).await?))
}

/// Binds a NIC to vfio-pci, for a VMM to pass to its guest.
#[utoipa::path(put, path = "/v1/nics/{address}/pass", operation_id = "pass_nic",
    params(("address" = String, Path)), request_body = api::NicPass,
    responses((status = 200, description = "The NIC as it is now", body = api::PciNic), (status = "default", response = Refusal)))]
pub async fn pass(
    State(control): State<ControlHandle>,
    Path(address): Path<String>,
    Body(request): Body<api::NicPass>,
) -> Answer<Json<api::PciNic>> {
    let nic = control
        .call(move |daemon, _| daemon.pass_nic(&address, &request))
        .await?;
    Ok(Json(nic))
}

/// Gives a NIC that was passed back to its driver.
#[utoipa::path(delete, path = "/v1/nics/{address}/pass", operation_id = "give_back_nic", params(("address" = String, Path)),
    responses((status = 200, description = "The NIC as it is now", body = api::PciNic), (status = "default", response = Refusal)))]
pub async fn give_back(
    State(control): State<ControlHandle>,
    Path(address): Path<String>,
) -> Answer<Json<api::PciNic>> {
    Ok(Json(
        control
            .call(move |daemon, _| daemon.give_back_nic(&address))
            .await?,
    ))
}
