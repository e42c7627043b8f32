//! What can be asked, and how it is answered.

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::IntoResponse;
use axum::routing::{get, patch, post, put};
use axum::{Json, Router, middleware};
use netkit_api as api;
use utoipa::OpenApi;

use super::address::Path;
use super::problem::Refusal;
use super::{maps, nics, peer, programs, uplinks};
use crate::daemon::{ControlHandle, DaemonError};

/// The longest request body, in octets.
const BODY_LIMIT: usize = 64 * 1024;
/// The longest request body that holds an object file or a frame.
pub(super) const OBJECT_LIMIT: usize = 32 * 1024 * 1024;

pub(super) type Answer<T> = Result<T, Refusal>;

/// The OpenAPI document, generated from the handlers and types below.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "netkitd",
        description = "netkit devices for virtual machines",
        license(name = "Apache-2.0")
    ),
    paths(
        list,
        show,
        create,
        set,
        change,
        delete,
        attach,
        detach,
        drops,
        device_drops,
        workers,
        move_queue,
        about,
        document,
        programs::list,
        programs::show,
        programs::load,
        programs::set,
        programs::unload,
        programs::xlated,
        programs::jited,
        programs::run,
        programs::tracelog,
        programs::lists,
        programs::device_lists,
        programs::attach,
        programs::detach,
        programs::links,
        programs::link,
        programs::update_link,
        programs::detach_link,
        programs::delete_link,
        programs::trace,
        maps::list,
        maps::show,
        maps::unpin,
        maps::entries,
        maps::operate,
        maps::events,
        maps::routes,
        maps::set_route,
        maps::delete_route,
        maps::neighbours,
        maps::set_neighbour,
        maps::delete_neighbour,
        uplinks::list,
        uplinks::show,
        uplinks::create,
        uplinks::set,
        uplinks::delete,
        uplinks::lease,
        nics::list,
        nics::show,
        nics::pass,
        nics::give_back
    ),
    components(schemas(api::Problem), responses(Refusal))
)]
struct Document;

/// The OpenAPI document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// All routes.
pub fn router(control: ControlHandle) -> Router {
    Router::new()
        .route("/v1/devices", get(list).post(create))
        .route("/v1/devices/{name}", get(show).patch(set).delete(delete))
        .route("/v1/devices/{name}/netkit", patch(change))
        .route("/v1/devices/{name}/attachment", put(attach).delete(detach))
        .route("/v1/devices/{name}/drops", get(device_drops))
        .route("/v1/devices/{name}/lists", get(programs::device_lists))
        .route("/v1/devices/{name}/lists/{list}", post(programs::attach))
        .route("/v1/devices/{name}/lists/{list}/detach", post(programs::detach))
        .route(
            "/v1/devices/{name}/trace",
            post(programs::trace).layer(DefaultBodyLimit::max(OBJECT_LIMIT)),
        )
        .route("/v1/drops", get(drops))
        .route(
            "/v1/programs",
            get(programs::list)
                .post(programs::load)
                .layer(DefaultBodyLimit::max(OBJECT_LIMIT)),
        )
        .route(
            "/v1/programs/{program}",
            get(programs::show).patch(programs::set).delete(programs::unload),
        )
        .route("/v1/programs/{program}/xlated", get(programs::xlated))
        .route("/v1/programs/{program}/jited", get(programs::jited))
        .route(
            "/v1/programs/{program}/run",
            post(programs::run).layer(DefaultBodyLimit::max(OBJECT_LIMIT)),
        )
        .route("/v1/tracelog", get(programs::tracelog))
        .route("/v1/lists", get(programs::lists))
        .route("/v1/links", get(programs::links))
        .route(
            "/v1/links/{id}",
            get(programs::link)
                .patch(programs::update_link)
                .delete(programs::delete_link),
        )
        .route("/v1/links/{id}/detach", post(programs::detach_link))
        .route("/v1/maps", get(maps::list))
        .route("/v1/maps/{map}", get(maps::show))
        .route("/v1/maps/{map}/pin", axum::routing::delete(maps::unpin))
        .route("/v1/maps/{map}/entries", get(maps::entries))
        .route("/v1/maps/{map}/events", post(maps::events))
        .route("/v1/maps/{map}/{operation}", post(maps::operate))
        .route(
            "/v1/domains/{domain}/routes",
            get(maps::routes).post(maps::set_route),
        )
        .route("/v1/domains/{domain}/routes/delete", post(maps::delete_route))
        .route(
            "/v1/domains/{domain}/neighbours",
            get(maps::neighbours).post(maps::set_neighbour),
        )
        .route(
            "/v1/domains/{domain}/neighbours/delete",
            post(maps::delete_neighbour),
        )
        .route("/v1/uplinks", get(uplinks::list).post(uplinks::create))
        .route(
            "/v1/uplinks/{name}",
            get(uplinks::show).patch(uplinks::set).delete(uplinks::delete),
        )
        .route("/v1/devices/{name}/leases", post(uplinks::lease))
        .route("/v1/nics", get(nics::list))
        .route("/v1/nics/{address}", get(nics::show))
        .route("/v1/nics/{address}/pass", put(nics::pass).delete(nics::give_back))
        .route("/v1/workers", get(workers))
        .route("/v1/devices/{name}/queues/{queue}/worker", put(move_queue))
        .route("/v1/daemon", get(about))
        .route("/openapi.json", get(document))
        .fallback(no_resource)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn(peer::authorize))
        .with_state(control)
}

/// A JSON object as the body, whose faults are problems too. `LIMIT` is what the route takes.
pub(super) struct Body<T, const LIMIT: usize = BODY_LIMIT>(pub T);

impl<T, S, const LIMIT: usize> FromRequest<S> for Body<T, LIMIT>
where
    Json<api::Object<T>>: FromRequest<S, Rejection = JsonRejection>,
    S: Send + Sync,
{
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Answer<Self> {
        match Json::<api::Object<T>>::from_request(request, state).await {
            Ok(Json(api::Object(body))) => Ok(Body(body)),
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(Refusal {
                errno: libc::EMSGSIZE,
                detail: format!("the request body is longer than {LIMIT} octets; no request needs more"),
            }),
            Err(rejection) => Err(Refusal {
                errno: libc::EINVAL,
                detail: rejection.body_text(),
            }),
        }
    }
}

async fn no_resource(uri: Uri) -> Refusal {
    Refusal {
        errno: libc::ENOENT,
        detail: format!("there is no {}; /openapi.json lists what there is", uri.path()),
    }
}

async fn no_method(method: Method, uri: Uri) -> Refusal {
    Refusal {
        errno: libc::ENOSYS,
        detail: format!(
            "{} does not take {method}; /openapi.json lists what it takes",
            uri.path()
        ),
    }
}

/// Every device, by ifindex.
#[utoipa::path(get, path = "/v1/devices",
    responses((status = 200, description = "Every device", body = [api::Device]), (status = "default", response = Refusal)))]
async fn list(State(control): State<ControlHandle>) -> Answer<Json<Vec<api::Device>>> {
    Ok(Json(control.call(|daemon, _| daemon.devices()).await?))
}

/// One device.
#[utoipa::path(get, path = "/v1/devices/{name}",
    params(("name" = String, Path)),
    responses((status = 200, description = "The device", body = api::Device), (status = "default", response = Refusal)))]
async fn show(State(control): State<ControlHandle>, Path(name): Path<String>) -> Answer<Json<api::Device>> {
    Ok(Json(control.call(move |daemon, _| daemon.device(&name)).await?))
}

/// Makes a pair or a single, as `ip link add ... type netkit` does.
#[utoipa::path(post, path = "/v1/devices",
    request_body = api::DeviceCreate,
    responses((status = 201, description = "Made", body = api::DeviceCreated), (status = "default", response = Refusal)))]
async fn create(
    State(control): State<ControlHandle>,
    Body(request): Body<api::DeviceCreate>,
) -> Answer<impl IntoResponse> {
    let created = control.call(move |daemon, _| daemon.create(&request)).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

/// What `ip link set` does.
#[utoipa::path(patch, path = "/v1/devices/{name}",
    params(("name" = String, Path)), request_body = api::DeviceSet,
    responses((status = 204, description = "Done"), (status = "default", response = Refusal)))]
async fn set(
    State(control): State<ControlHandle>,
    Path(name): Path<String>,
    Body(request): Body<api::DeviceSet>,
) -> Answer<StatusCode> {
    control
        .call(move |daemon, _| daemon.set(&name, &request))
        .await
        .map_or_else(refuse, no_content)
}

/// What `ip link change ... type netkit` does.
#[utoipa::path(patch, path = "/v1/devices/{name}/netkit",
    params(("name" = String, Path)), request_body = api::NetkitChange,
    responses((status = 204, description = "Done"), (status = "default", response = Refusal)))]
async fn change(
    State(control): State<ControlHandle>,
    Path(name): Path<String>,
    Body(request): Body<api::NetkitChange>,
) -> Answer<StatusCode> {
    control
        .call(move |daemon, _| daemon.change(&name, &request))
        .await
        .map_or_else(refuse, no_content)
}

/// Deletes a device and its other end.
#[utoipa::path(delete, path = "/v1/devices/{name}",
    params(("name" = String, Path)),
    responses((status = 204, description = "Done"), (status = "default", response = Refusal)))]
async fn delete(State(control): State<ControlHandle>, Path(name): Path<String>) -> Answer<StatusCode> {
    control
        .call(move |daemon, reactor| daemon.delete(&name, reactor))
        .await
        .map_or_else(refuse, no_content)
}

/// Puts a guest or a host netdev behind a device.
#[utoipa::path(put, path = "/v1/devices/{name}/attachment",
    params(("name" = String, Path)), request_body = api::AttachmentSpec,
    responses((status = 204, description = "Done"), (status = "default", response = Refusal)))]
async fn attach(
    State(control): State<ControlHandle>,
    Path(name): Path<String>,
    Body(spec): Body<api::AttachmentSpec>,
) -> Answer<StatusCode> {
    control
        .call(move |daemon, reactor| daemon.attach(&name, spec, reactor))
        .await
        .map_or_else(refuse, no_content)
}

/// Takes away what stands behind a device.
#[utoipa::path(delete, path = "/v1/devices/{name}/attachment",
    params(("name" = String, Path)),
    responses((status = 204, description = "Done"), (status = "default", response = Refusal)))]
async fn detach(State(control): State<ControlHandle>, Path(name): Path<String>) -> Answer<StatusCode> {
    control
        .call(move |daemon, reactor| daemon.detach(&name, reactor))
        .await
        .map_or_else(refuse, no_content)
}

/// Why frames were not delivered, of every device.
#[utoipa::path(get, path = "/v1/drops",
    responses((status = 200, description = "The reasons that occurred, by device", body = [api::DeviceDrops]), (status = "default", response = Refusal)))]
async fn drops(State(control): State<ControlHandle>) -> Answer<Json<Vec<api::DeviceDrops>>> {
    Ok(Json(control.call(|daemon, _| daemon.drops(None)).await?))
}

/// Why frames of one device were not delivered.
#[utoipa::path(get, path = "/v1/devices/{name}/drops",
    params(("name" = String, Path)),
    responses((status = 200, description = "The reasons that occurred", body = [api::DeviceDrops]), (status = "default", response = Refusal)))]
async fn device_drops(
    State(control): State<ControlHandle>,
    Path(name): Path<String>,
) -> Answer<Json<Vec<api::DeviceDrops>>> {
    Ok(Json(
        control.call(move |daemon, _| daemon.drops(Some(&name))).await?,
    ))
}

/// The workers and what each serves.
#[utoipa::path(get, path = "/v1/workers",
    responses((status = 200, description = "Every worker", body = [api::Worker]), (status = "default", response = Refusal)))]
async fn workers(State(control): State<ControlHandle>) -> Answer<Json<Vec<api::Worker>>> {
    Ok(Json(control.call(|daemon, _| Ok(daemon.workers())).await?))
}

/// Has another worker serve a queue.
#[utoipa::path(put, path = "/v1/devices/{name}/queues/{queue}/worker",
    params(("name" = String, Path), ("queue" = u32, Path)), request_body = api::WorkerChoice,
    responses((status = 204, description = "Done"), (status = "default", response = Refusal)))]
async fn move_queue(
    State(control): State<ControlHandle>,
    Path((name, queue)): Path<(String, u32)>,
    Body(choice): Body<api::WorkerChoice>,
) -> Answer<StatusCode> {
    control
        .call(move |daemon, _| daemon.move_queue(&name, queue, choice.worker))
        .await
        .map_or_else(refuse, no_content)
}

/// The daemon itself.
#[utoipa::path(get, path = "/v1/daemon",
    responses((status = 200, description = "The daemon", body = api::Daemon), (status = "default", response = Refusal)))]
async fn about(State(control): State<ControlHandle>) -> Answer<Json<api::Daemon>> {
    Ok(Json(control.call(|daemon, _| Ok(daemon.about())).await?))
}

/// This document.
#[utoipa::path(get, path = "/openapi.json",
    responses((status = 200, description = "The document", body = Object), (status = "default", response = Refusal)))]
async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(openapi())
}

pub(super) fn no_content((): ()) -> Answer<StatusCode> {
    Ok(StatusCode::NO_CONTENT)
}

pub(super) fn refuse(error: DaemonError) -> Answer<StatusCode> {
    Err(error.into())
}
