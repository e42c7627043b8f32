//! What can be asked, and how it is answered.

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, patch, put};
use axum::{Json, Router, middleware};
use netkit_api as api;
use utoipa::OpenApi;

use super::peer;
use super::problem::Refusal;
use crate::daemon::{ControlHandle, DaemonError};

/// The longest request body, in octets.
const BODY_LIMIT: usize = 64 * 1024;

type Answer<T> = Result<T, Refusal>;

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
        about
    ),
    components(schemas(api::Problem))
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
        .route("/v1/drops", get(drops))
        .route("/v1/daemon", get(about))
        .route("/openapi.json", get(|| async { Json(openapi()) }))
        .fallback(|| async {
            let detail = "there is no such resource; /openapi.json lists them".to_owned();
            Refusal {
                errno: libc::ENOENT,
                detail,
            }
        })
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn(peer::authorize))
        .with_state(control)
}

/// A JSON body whose faults are problems too.
struct Body<T>(T);

impl<T, S> FromRequest<S> for Body<T>
where
    Json<T>: FromRequest<S, Rejection = JsonRejection>,
    S: Send + Sync,
{
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Answer<Self> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(body)) => Ok(Body(body)),
            Err(rejection) => Err(Refusal {
                errno: libc::EINVAL,
                detail: rejection.body_text(),
            }),
        }
    }
}

#[utoipa::path(get, path = "/v1/devices", responses((status = 200, body = [api::Device])))]
async fn list(State(control): State<ControlHandle>) -> Answer<Json<Vec<api::Device>>> {
    Ok(Json(control.call(|daemon, _| daemon.devices()).await?))
}

#[utoipa::path(get, path = "/v1/devices/{name}", params(("name" = String, Path)),
    responses((status = 200, body = api::Device), (status = 404, body = api::Problem)))]
async fn show(State(control): State<ControlHandle>, Path(name): Path<String>) -> Answer<Json<api::Device>> {
    Ok(Json(control.call(move |daemon, _| daemon.device(&name)).await?))
}

#[utoipa::path(post, path = "/v1/devices", request_body = api::DeviceCreate,
    responses((status = 201, body = api::DeviceCreated), (status = "4XX", body = api::Problem)))]
async fn create(
    State(control): State<ControlHandle>,
    Body(request): Body<api::DeviceCreate>,
) -> Answer<impl IntoResponse> {
    let created = control.call(move |daemon, _| daemon.create(&request)).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

#[utoipa::path(patch, path = "/v1/devices/{name}", params(("name" = String, Path)), request_body = api::DeviceSet,
    responses((status = 204), (status = "4XX", body = api::Problem)))]
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

#[utoipa::path(patch, path = "/v1/devices/{name}/netkit", params(("name" = String, Path)),
    request_body = api::NetkitChange, responses((status = 204), (status = "4XX", body = api::Problem)))]
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

#[utoipa::path(delete, path = "/v1/devices/{name}", params(("name" = String, Path)),
    responses((status = 204), (status = 404, body = api::Problem)))]
async fn delete(State(control): State<ControlHandle>, Path(name): Path<String>) -> Answer<StatusCode> {
    control
        .call(move |daemon, reactor| daemon.delete(&name, reactor))
        .await
        .map_or_else(refuse, no_content)
}

#[utoipa::path(put, path = "/v1/devices/{name}/attachment", params(("name" = String, Path)),
    request_body = api::AttachmentSpec, responses((status = 204), (status = "4XX", body = api::Problem)))]
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

#[utoipa::path(delete, path = "/v1/devices/{name}/attachment", params(("name" = String, Path)),
    responses((status = 204), (status = 404, body = api::Problem)))]
async fn detach(State(control): State<ControlHandle>, Path(name): Path<String>) -> Answer<StatusCode> {
    control
        .call(move |daemon, reactor| daemon.detach(&name, reactor))
        .await
        .map_or_else(refuse, no_content)
}

#[utoipa::path(get, path = "/v1/drops", responses((status = 200, body = [api::DeviceDrops])))]
async fn drops(State(control): State<ControlHandle>) -> Answer<Json<Vec<api::DeviceDrops>>> {
    Ok(Json(control.call(|daemon, _| daemon.drops(None)).await?))
}

#[utoipa::path(get, path = "/v1/devices/{name}/drops", params(("name" = String, Path)),
    responses((status = 200, body = [api::DeviceDrops]), (status = 404, body = api::Problem)))]
async fn device_drops(
    State(control): State<ControlHandle>,
    Path(name): Path<String>,
) -> Answer<Json<Vec<api::DeviceDrops>>> {
    Ok(Json(
        control.call(move |daemon, _| daemon.drops(Some(&name))).await?,
    ))
}

#[utoipa::path(get, path = "/v1/daemon", responses((status = 200, body = api::Daemon)))]
async fn about(State(control): State<ControlHandle>) -> Answer<Json<api::Daemon>> {
    Ok(Json(control.call(|daemon, _| Ok(daemon.about())).await?))
}

fn no_content((): ()) -> Answer<StatusCode> {
    Ok(StatusCode::NO_CONTENT)
}

fn refuse(error: DaemonError) -> Answer<StatusCode> {
    Err(error.into())
}
