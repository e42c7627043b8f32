//! Programs, program lists, links and traces.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use netkit::AttachType;
use netkit_api as api;
use policy::test_run::TestRun;

use super::address::{Path, Query};
use super::problem::Refusal;
use super::routes::{Answer, Body, OBJECT_LIMIT, no_content, refuse};
use crate::daemon::{ControlHandle, DaemonError, ParsedObject};

/// Every program, by id.
#[utoipa::path(get, path = "/v1/programs", operation_id = "list_programs",
    responses((status = 200, description = "Every program", body = [api::Program]), (status = "default", response = Refusal)))]
pub async fn list(State(control): State<ControlHandle>) -> Answer<Json<Vec<api::Program>>> {
    Ok(Json(control.call(|daemon, _| Ok(daemon.programs())).await?))
}

/// One program.
#[utoipa::path(get, path = "/v1/programs/{program}", operation_id = "show_program", params(("program" = String, Path)),
    responses((status = 200, description = "The program", body = api::Program), (status = "default", response = Refusal)))]
pub async fn show(
    State(control): State<ControlHandle>,
    Path(program): Path<String>,
) -> Answer<Json<api::Program>> {
    Ok(Json(
        control
            .call(move |daemon, _| daemon.show_program(&program))
            .await?,
    ))
}

/// Loads the programs of an object file and makes its maps.
#[utoipa::path(post, path = "/v1/programs", operation_id = "load_programs", request_body = api::ProgramLoad,
    responses((status = 201, description = "Loaded", body = api::ProgramsLoaded), (status = "default", response = Refusal)))]
pub async fn load(
    State(control): State<ControlHandle>,
    Body(request): Body<api::ProgramLoad, OBJECT_LIMIT>,
) -> Answer<impl IntoResponse> {
    let octets = decode("object", &request.object)?;
    let parsed = aside(move || Ok(ParsedObject::new(octets)?)).await?;
    let loaded = control
        .call(move |daemon, _| daemon.load_programs(&parsed, &request))
        .await?;
    Ok((StatusCode::CREATED, Json(loaded)))
}

/// Changes a program.
#[utoipa::path(patch, path = "/v1/programs/{program}", operation_id = "set_program", params(("program" = String, Path)), request_body = api::ProgramSet,
    responses((status = 204, description = "Done"), (status = "default", response = Refusal)))]
pub async fn set(
    State(control): State<ControlHandle>,
    Path(program): Path<String>,
    Body(request): Body<api::ProgramSet>,
) -> Answer<StatusCode> {
    let result = control
        .call(move |daemon, _| daemon.set_program(&program, &request))
        .await;
    result.map_or_else(refuse, no_content)
}

/// Forgets a program that is attached nowhere.
#[utoipa::path(delete, path = "/v1/programs/{program}", operation_id = "unload_program", params(("program" = String, Path)),
    responses((status = 204, description = "Done"), (status = "default", response = Refusal)))]
pub async fn unload(State(control): State<ControlHandle>, Path(program): Path<String>) -> Answer<StatusCode> {
    let result = control
        .call(move |daemon, _| daemon.unload_program(&program))
        .await;
    result.map_or_else(refuse, no_content)
}

/// A program's instructions as the kernel prints them.
#[utoipa::path(get, path = "/v1/programs/{program}/xlated", operation_id = "dump_xlated", params(("program" = String, Path)),
    responses((status = 200, description = "The instructions", body = [api::DumpLine]), (status = "default", response = Refusal)))]
pub async fn xlated(
    State(control): State<ControlHandle>,
    Path(program): Path<String>,
) -> Answer<Json<Vec<api::DumpLine>>> {
    let program = control
        .call(move |daemon, _| daemon.find_program(&program).cloned())
        .await?;
    Ok(Json(super::dump::xlated(&program)))
}

/// A program's native code.
#[utoipa::path(get, path = "/v1/programs/{program}/jited", operation_id = "dump_jited", params(("program" = String, Path)),
    responses((status = 200, description = "The native instructions", body = [api::DumpLine]), (status = "default", response = Refusal)))]
pub async fn jited(
    State(control): State<ControlHandle>,
    Path(program): Path<String>,
) -> Answer<Json<Vec<api::DumpLine>>> {
    let program = control
        .call(move |daemon, _| daemon.find_program(&program).cloned())
        .await?;
    Ok(Json(super::dump::jited(&program)))
}

/// Runs a program on a frame of the caller's.
#[utoipa::path(post, path = "/v1/programs/{program}/run", operation_id = "run_program", params(("program" = String, Path)), request_body = api::ProgramRun,
    responses((status = 200, description = "What came of it", body = api::ProgramRan), (status = "default", response = Refusal)))]
pub async fn run(
    State(control): State<ControlHandle>,
    Path(program): Path<String>,
    Body(request): Body<api::ProgramRun, OBJECT_LIMIT>,
) -> Answer<Json<api::ProgramRan>> {
    let run = TestRun {
        data: decode("data_in", &request.data_in)?,
        context: request
            .ctx_in
            .as_deref()
            .map(|octets| decode("ctx_in", octets))
            .transpose()?,
        repeat: request.repeat,
        interpreter: request.interpreter,
    };
    let trial = control.call(move |daemon, _| daemon.trial(&program)).await?;
    let result = aside(move || Ok(trial.run(&run))).await?;
    let ran = match result {
        Ok(result) => api::ProgramRan {
            retval: result.retval,
            duration: result.duration.as_nanos() as u64,
            data_out: STANDARD.encode(result.data),
            ctx_out: STANDARD.encode(result.context),
            fault: None,
        },
        Err(policy::test_run::TestError::Fault(fault)) => api::ProgramRan {
            fault: Some(fault.to_string()),
            ..api::ProgramRan::default()
        },
        Err(error) => {
            return Err(Refusal {
                errno: error.errno().0,
                detail: error.to_string(),
            });
        }
    };
    Ok(Json(ran))
}

/// Where to read from.
#[derive(Debug, serde::Deserialize)]
pub struct From {
    from: Option<u64>,
}

/// What programs printed.
#[utoipa::path(get, path = "/v1/tracelog", params(("from" = Option<u64>, Query, description = "The `next` of the last answer")),
    responses((status = 200, description = "The lines", body = api::TraceLines), (status = "default", response = Refusal)))]
pub async fn tracelog(Query(From { from }): Query<From>) -> Answer<Json<api::TraceLines>> {
    let batch = policy::trace_log::trace_log().read_from(from.unwrap_or(0));
    Ok(Json(api::TraceLines {
        lines: batch.lines.iter().map(ToString::to_string).collect(),
        next: batch.next,
        lost: batch.lost,
    }))
}

/// Every program list that is not empty.
#[utoipa::path(get, path = "/v1/lists", operation_id = "list_program_lists",
    responses((status = 200, description = "The lists", body = [api::ProgramList]), (status = "default", response = Refusal)))]
pub async fn lists(State(control): State<ControlHandle>) -> Answer<Json<Vec<api::ProgramList>>> {
    Ok(Json(control.call(|daemon, _| daemon.program_lists(None)).await?))
}

/// Both program lists of a pair.
#[utoipa::path(get, path = "/v1/devices/{name}/lists", params(("name" = String, Path)),
    responses((status = 200, description = "The lists", body = [api::ProgramList]), (status = "default", response = Refusal)))]
pub async fn device_lists(
    State(control): State<ControlHandle>,
    Path(name): Path<String>,
) -> Answer<Json<Vec<api::ProgramList>>> {
    Ok(Json(
        control
            .call(move |daemon, _| daemon.program_lists(Some(&name)))
            .await?,
    ))
}

/// Attaches a program to a list of a pair, by its primary.
#[utoipa::path(post, path = "/v1/devices/{name}/lists/{list}", operation_id = "attach_program",
    params(("name" = String, Path), ("list" = String, Path, description = "`primary` or `peer`; of an uplink `tcx_ingress` or `tcx_egress`")), request_body = api::ProgramAttach,
    responses((status = 200, description = "Attached", body = api::ProgramAttached), (status = "default", response = Refusal)))]
pub async fn attach(
    State(control): State<ControlHandle>,
    Path((name, list)): Path<(String, String)>,
    Body(request): Body<api::ProgramAttach>,
) -> Answer<Json<api::ProgramAttached>> {
    let list = attach_type(&list)?;
    let attached = control
        .call(move |daemon, _| daemon.attach_program(&name, list, &request))
        .await?;
    Ok(Json(attached))
}

/// Detaches a program from a list of a pair.
#[utoipa::path(post, path = "/v1/devices/{name}/lists/{list}/detach", operation_id = "detach_program",
    params(("name" = String, Path), ("list" = String, Path, description = "`primary` or `peer`; of an uplink `tcx_ingress` or `tcx_egress`")), request_body = api::ProgramDetach,
    responses((status = 204, description = "Done"), (status = "default", response = Refusal)))]
pub async fn detach(
    State(control): State<ControlHandle>,
    Path((name, list)): Path<(String, String)>,
    Body(request): Body<api::ProgramDetach>,
) -> Answer<StatusCode> {
    let list = attach_type(&list)?;
    let result = control
        .call(move |daemon, _| daemon.detach_program(&name, list, &request))
        .await;
    result.map_or_else(refuse, no_content)
}

/// Every link, by id.
#[utoipa::path(get, path = "/v1/links", operation_id = "list_links",
    responses((status = 200, description = "The links", body = [api::Link]), (status = "default", response = Refusal)))]
pub async fn links(State(control): State<ControlHandle>) -> Answer<Json<Vec<api::Link>>> {
    Ok(Json(control.call(|daemon, _| Ok(daemon.links())).await?))
}

/// One link.
#[utoipa::path(get, path = "/v1/links/{id}", operation_id = "show_link", params(("id" = u32, Path)),
    responses((status = 200, description = "The link", body = api::Link), (status = "default", response = Refusal)))]
pub async fn link(State(control): State<ControlHandle>, Path(id): Path<u32>) -> Answer<Json<api::Link>> {
    Ok(Json(control.call(move |daemon, _| daemon.link(id)).await?))
}

/// Swaps the program of a link.
#[utoipa::path(patch, path = "/v1/links/{id}", params(("id" = u32, Path)), request_body = api::LinkUpdate,
    responses((status = 204, description = "Done"), (status = "default", response = Refusal)))]
pub async fn update_link(
    State(control): State<ControlHandle>,
    Path(id): Path<u32>,
    Body(request): Body<api::LinkUpdate>,
) -> Answer<StatusCode> {
    let result = control
        .call(move |daemon, _| daemon.update_link(id, &request))
        .await;
    result.map_or_else(refuse, no_content)
}

/// Takes a link's program out of its list, and leaves the link defunct.
#[utoipa::path(post, path = "/v1/links/{id}/detach", params(("id" = u32, Path)),
    responses((status = 204, description = "Done"), (status = "default", response = Refusal)))]
pub async fn detach_link(State(control): State<ControlHandle>, Path(id): Path<u32>) -> Answer<StatusCode> {
    let result = control.call(move |daemon, _| daemon.detach_link(id, false)).await;
    result.map_or_else(refuse, no_content)
}

/// Detaches a link and forgets it.
#[utoipa::path(delete, path = "/v1/links/{id}", params(("id" = u32, Path)),
    responses((status = 204, description = "Done"), (status = "default", response = Refusal)))]
pub async fn delete_link(State(control): State<ControlHandle>, Path(id): Path<u32>) -> Answer<StatusCode> {
    let result = control.call(move |daemon, _| daemon.detach_link(id, true)).await;
    result.map_or_else(refuse, no_content)
}

/// Follows a crafted frame through the devices, without counting or delivering it.
#[utoipa::path(post, path = "/v1/devices/{name}/trace", params(("name" = String, Path)), request_body = api::TraceRequest,
    responses((status = 200, description = "What happened", body = api::Traced), (status = "default", response = Refusal)))]
pub async fn trace(
    State(control): State<ControlHandle>,
    Path(name): Path<String>,
    Body(request): Body<api::TraceRequest, OBJECT_LIMIT>,
) -> Answer<Json<api::Traced>> {
    let frame = decode("frame", &request.frame)?;
    let prepared = request.clone();
    let trace = control
        .call(move |daemon, _| daemon.trace(&name, &prepared))
        .await?;
    Ok(Json(aside(move || Ok(trace.run(&frame, &request)?)).await?))
}

/// Does what takes a while on a thread of its own.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> Answer<T> + Send + 'static) -> Answer<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(DaemonError::ShuttingDown.into()),
    }
}

fn decode(what: &str, text: &str) -> Answer<Vec<u8>> {
    STANDARD.decode(text).map_err(|error| Refusal {
        errno: libc::EINVAL,
        detail: format!("{what} is not in base64: {error}"),
    })
}

fn attach_type(word: &str) -> Answer<AttachType> {
    word.parse().map_err(|error: netkit::UnknownWord| Refusal {
        errno: libc::EINVAL,
        detail: error.to_string(),
    })
}
