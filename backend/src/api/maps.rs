//! Maps, and the routes and neighbours that programs look up.

use std::ops::ControlFlow;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use netkit_api as api;
use policy::map::{Map, MapKind};

use super::address::{Path, Query};
use super::entries::{Codec, parse_hex};
use super::problem::Refusal;
use super::programs::aside;
use super::routes::{Answer, Body, no_content, refuse};
use crate::daemon::{ControlHandle, DaemonError};

/// The most entries in one answer.
const ENTRIES_MAX: usize = 4096;
/// linux/bpf.h: `BPF_NOEXIST`, `BPF_EXIST`.
const NOEXIST: u64 = 1;
const EXIST: u64 = 2;

/// Every map, by id.
#[utoipa::path(get, path = "/v1/maps", operation_id = "list_maps",
    responses((status = 200, description = "Every map", body = [api::Map]), (status = "default", response = Refusal)))]
pub async fn list(State(control): State<ControlHandle>) -> Answer<Json<Vec<api::Map>>> {
    Ok(Json(control.call(|daemon, _| Ok(daemon.maps())).await?))
}

/// One map.
#[utoipa::path(get, path = "/v1/maps/{map}", operation_id = "show_map", params(("map" = String, Path)),
    responses((status = 200, description = "The map", body = api::Map), (status = "default", response = Refusal)))]
pub async fn show(State(control): State<ControlHandle>, Path(map): Path<String>) -> Answer<Json<api::Map>> {
    Ok(Json(control.call(move |daemon, _| daemon.show_map(&map)).await?))
}

/// Takes the name from a map.
#[utoipa::path(delete, path = "/v1/maps/{map}/pin", operation_id = "unpin_map", params(("map" = String, Path)),
    responses((status = 204, description = "Done"), (status = "default", response = Refusal)))]
pub async fn unpin(State(control): State<ControlHandle>, Path(map): Path<String>) -> Answer<StatusCode> {
    let result = control.call(move |daemon, _| daemon.unpin_map(&map)).await;
    result.map_or_else(refuse, no_content)
}

/// Where to go on.
#[derive(Debug, serde::Deserialize)]
pub struct After {
    after: Option<String>,
}

/// What a map holds, part by part.
#[utoipa::path(get, path = "/v1/maps/{map}/entries", operation_id = "dump_map",
    params(("map" = String, Path), ("after" = Option<String>, Query, description = "The `next` of the last answer")),
    responses((status = 200, description = "The entries", body = api::MapEntries), (status = "default", response = Refusal)))]
pub async fn entries(
    State(control): State<ControlHandle>,
    Path(name): Path<String>,
    Query(After { after }): Query<After>,
) -> Answer<Json<api::MapEntries>> {
    let map = control.call(move |daemon, _| daemon.open_map(&name)).await?;
    aside(move || dump(&map, after.as_deref())).await.map(Json)
}

/// The entries behind the first `after` ones. A hostile program can send those who follow keys round in circles, so
/// entries are counted.
fn dump(map: &Map, after: Option<&str>) -> Answer<api::MapEntries> {
    let codec = Codec::new(map);
    let skip: usize = match after.map(str::parse) {
        None => 0,
        Some(Ok(skip)) => skip,
        Some(Err(_)) => return Err(invalid("after cannot be that; use the `next` of the last answer")),
    };
    let mut answer = api::MapEntries::default();
    let mut seen = 0;
    let result = map.dump(&mut |key, value| {
        seen += 1;
        if seen <= skip {
            return ControlFlow::Continue(());
        }
        if answer.entries.len() == ENTRIES_MAX {
            answer.next = Some((seen - 1).to_string());
            return ControlFlow::Break(());
        }
        answer.entries.push(codec.entry(Some(&key), &value));
        ControlFlow::Continue(())
    });
    match result {
        Ok(()) => Ok(answer),
        Err(errno) => Err(refused(map, "dump", errno)),
    }
}

/// Looks an entry up, or takes it, or finds the next key; or takes or looks at the first value of a queue or stack.
#[utoipa::path(post, path = "/v1/maps/{map}/{operation}", operation_id = "operate_map",
    params(("map" = String, Path), ("operation" = String, Path, description = "`lookup`, `next`, `take`, `pop` or `peek`; `update`, `delete`, `push` and `freeze` answer with an empty entry")),
    request_body = api::MapRequest,
    responses((status = 200, description = "The entry", body = api::MapEntry), (status = 204, description = "Done"), (status = "default", response = Refusal)))]
pub async fn operate(
    State(control): State<ControlHandle>,
    Path((name, operation)): Path<(String, String)>,
    Body(request): Body<api::MapRequest>,
) -> Answer<Json<api::MapEntry>> {
    let wanted = name.clone();
    let map = control.call(move |daemon, _| daemon.open_map(&wanted)).await?;
    let changes_reference = matches!(
        map.kind(),
        MapKind::ProgArray | MapKind::ArrayOfMaps | MapKind::HashOfMaps
    ) && matches!(operation.as_str(), "update" | "delete");
    if changes_reference {
        let key = parse_hex("key", request.key.as_deref().unwrap_or_default())?;
        let flags = flags(request.flags.as_deref())?;
        let value = request.value.filter(|_| operation == "update");
        control
            .call(move |daemon, _| daemon.set_reference(&name, &key, value.as_deref(), flags))
            .await?;
        return Ok(Json(nothing()));
    }
    aside(move || apply(&map, &operation, &request)).await.map(Json)
}

fn apply(map: &Map, operation: &str, request: &api::MapRequest) -> Answer<api::MapEntry> {
    let codec = Codec::new(map);
    let key = request
        .key
        .as_deref()
        .map(|key| parse_hex("key", key))
        .transpose()?;
    let key = key.as_deref();
    let needed = || key.ok_or_else(|| invalid("a key is missing"));
    let value = || {
        parse_hex(
            "value",
            request
                .value
                .as_deref()
                .ok_or_else(|| invalid("a value is missing"))?,
        )
    };
    let flags = flags(request.flags.as_deref())?;
    let done = |(): ()| nothing();
    let result = match operation {
        "lookup" => map.get(needed()?, 0).map(|value| codec.entry(key, &value)),
        "take" => map.take(needed()?, 0).map(|value| codec.entry(key, &value)),
        "next" => map.next_key(key).map(|key| codec.key_alone(&key)),
        "update" => map.set(needed()?, &codec.padded(value()?), flags).map(done),
        "delete" => map.remove(needed()?).map(done),
        "push" => map.push_value(&value()?, flags).map(done),
        "pop" => map.pop_value().map(|value| codec.entry(None, &value)),
        "peek" => map.peek_value().map(|value| codec.entry(None, &value)),
        "freeze" => map.freeze().map(done),
        _ => {
            return Err(Refusal {
                errno: libc::ENOENT,
                detail: format!("maps know no {operation}; /openapi.json lists what they know"),
            });
        }
    };
    result.map_err(|errno| refused(map, operation, errno))
}

fn refused(map: &Map, operation: &str, errno: policy::Errno) -> Refusal {
    DaemonError::MapOperation {
        operation: operation.to_owned(),
        map: map.definition().name.clone(),
        errno,
    }
    .into()
}

/// Takes what programs put out through a ring buffer or a perf event array.
#[utoipa::path(post, path = "/v1/maps/{map}/events", operation_id = "take_events", params(("map" = String, Path)),
    responses((status = 200, description = "The events, which are gone then", body = [api::MapEvent]), (status = "default", response = Refusal)))]
pub async fn events(
    State(control): State<ControlHandle>,
    Path(name): Path<String>,
) -> Answer<Json<Vec<api::MapEvent>>> {
    let map = control.call(move |daemon, _| daemon.open_map(&name)).await?;
    if !matches!(map.kind(), MapKind::Ringbuf | MapKind::PerfEventArray) {
        return Err(invalid("only ring buffers and perf event arrays have events"));
    }
    let mut events = Vec::new();
    map.events(&mut |event| {
        events.push(api::MapEvent {
            cpu: event.cpu,
            lost: event.lost,
            data: super::entries::hex(&event.data),
        });
    });
    Ok(Json(events))
}

/// The routes of a domain.
#[utoipa::path(get, path = "/v1/domains/{domain}/routes", operation_id = "list_routes", params(("domain" = String, Path)),
    responses((status = 200, description = "The routes, longest prefixes first", body = [api::Route]), (status = "default", response = Refusal)))]
pub async fn routes(
    State(control): State<ControlHandle>,
    Path(domain): Path<String>,
) -> Answer<Json<Vec<api::Route>>> {
    Ok(Json(control.call(move |daemon, _| daemon.routes(&domain)).await?))
}

/// Makes or changes a route.
#[utoipa::path(post, path = "/v1/domains/{domain}/routes", params(("domain" = String, Path)), request_body = api::Route,
    responses((status = 204, description = "Done"), (status = "default", response = Refusal)))]
pub async fn set_route(
    State(control): State<ControlHandle>,
    Path(domain): Path<String>,
    Body(route): Body<api::Route>,
) -> Answer<StatusCode> {
    let result = control
        .call(move |daemon, _| daemon.set_route(&domain, &route))
        .await;
    result.map_or_else(refuse, no_content)
}

/// Removes a route.
#[utoipa::path(post, path = "/v1/domains/{domain}/routes/delete", params(("domain" = String, Path)), request_body = api::Route,
    responses((status = 204, description = "Done"), (status = "default", response = Refusal)))]
pub async fn delete_route(
    State(control): State<ControlHandle>,
    Path(domain): Path<String>,
    Body(route): Body<api::Route>,
) -> Answer<StatusCode> {
    let result = control
        .call(move |daemon, _| daemon.delete_route(&domain, &route))
        .await;
    result.map_or_else(refuse, no_content)
}

/// The neighbours of a domain.
#[utoipa::path(get, path = "/v1/domains/{domain}/neighbours", operation_id = "list_neighbours", params(("domain" = String, Path)),
    responses((status = 200, description = "The neighbours", body = [api::Neighbour]), (status = "default", response = Refusal)))]
pub async fn neighbours(
    State(control): State<ControlHandle>,
    Path(domain): Path<String>,
) -> Answer<Json<Vec<api::Neighbour>>> {
    Ok(Json(
        control.call(move |daemon, _| daemon.neighbours(&domain)).await?,
    ))
}

/// Makes or changes a neighbour.
#[utoipa::path(post, path = "/v1/domains/{domain}/neighbours", params(("domain" = String, Path)), request_body = api::Neighbour,
    responses((status = 204, description = "Done"), (status = "default", response = Refusal)))]
pub async fn set_neighbour(
    State(control): State<ControlHandle>,
    Path(domain): Path<String>,
    Body(neighbour): Body<api::Neighbour>,
) -> Answer<StatusCode> {
    let result = control
        .call(move |daemon, _| daemon.set_neighbour(&domain, &neighbour))
        .await;
    result.map_or_else(refuse, no_content)
}

/// Removes a neighbour.
#[utoipa::path(post, path = "/v1/domains/{domain}/neighbours/delete", params(("domain" = String, Path)), request_body = api::Neighbour,
    responses((status = 204, description = "Done"), (status = "default", response = Refusal)))]
pub async fn delete_neighbour(
    State(control): State<ControlHandle>,
    Path(domain): Path<String>,
    Body(neighbour): Body<api::Neighbour>,
) -> Answer<StatusCode> {
    let result = control
        .call(move |daemon, _| daemon.delete_neighbour(&domain, &neighbour))
        .await;
    result.map_or_else(refuse, no_content)
}

fn flags(word: Option<&str>) -> Answer<u64> {
    match word {
        None | Some("any") => Ok(0),
        Some("noexist") => Ok(NOEXIST),
        Some("exist") => Ok(EXIST),
        Some(other) => Err(invalid(&format!(
            "flags cannot be \"{other}\"; use any, noexist or exist"
        ))),
    }
}

fn invalid(detail: &str) -> Refusal {
    Refusal {
        errno: libc::EINVAL,
        detail: detail.to_owned(),
    }
}

fn nothing() -> api::MapEntry {
    api::MapEntry {
        key: None,
        value: None,
        values: None,
        formatted: None,
        text: None,
    }
}
