//! The OpenAPI document is the one in docs/, and it is the truth.

use std::collections::BTreeSet;
use std::path::Path;

use netkit_tests::http;
use netkit_tests::netkitd::Netkitd;
use serde_json::Value;

const ROUTES: &str = include_str!("../../../backend/src/api/routes.rs");

fn document(daemon: &Netkitd) -> Value {
    let answer = http::call(&daemon.api(), "GET", "/openapi.json", None);
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "application/json")
    );
    answer.json()
}

fn paths(document: &Value) -> impl Iterator<Item = (&String, &Value)> {
    document["paths"].as_object().unwrap().iter()
}

#[test]
fn the_document_in_docs_is_the_one_that_is_served() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let served = serde_json::to_string_pretty(&document(&Netkitd::start())).unwrap() + "\n";
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &served).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == served,
        "docs/openapi.json is not what netkitd serves; make it anew with \
         `UPDATE=1 cargo test -p netkit-tests --test api document`, and look at the difference"
    );
}

#[test]
fn what_is_documented_is_served_and_the_reverse() {
    let daemon = Netkitd::start();
    let document = document(&daemon);
    for (path, operations) in paths(&document) {
        let documented: BTreeSet<String> = operations
            .as_object()
            .unwrap()
            .keys()
            .map(|it| it.to_uppercase())
            .collect();
        // A method that no resource has is answered with those that this one has.
        let answer = http::call(&daemon.api(), "BREW", &path.replace("{name}", "nk0"), None);
        crate::assert_problem(&answer, 405, "ENOSYS", &["does not take BREW", "/openapi.json"]);
        let allowed = answer
            .header("allow")
            .split(',')
            .filter(|method| *method != "HEAD");
        assert_eq!(
            allowed.map(String::from).collect::<BTreeSet<_>>(),
            documented,
            "{path}"
        );
    }
    let routes = ROUTES
        .split(".route(")
        .skip(1)
        .map(|it| it.split('"').nth(1).unwrap());
    let documented: BTreeSet<&str> = paths(&document).map(|(path, _)| path.as_str()).collect();
    assert_eq!(routes.collect::<BTreeSet<_>>(), documented);
    assert!(documented.len() >= 8);
}

#[test]
fn the_document_is_complete() {
    let document = document(&Netkitd::start());
    assert_eq!(document["openapi"], "3.1.0");
    let mut operation_ids = BTreeSet::new();
    for (path, operations) in paths(&document) {
        for (method, operation) in operations.as_object().unwrap() {
            let which = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{which} has no summary");
            assert!(
                operation_ids.insert(operation["operationId"].as_str().unwrap()),
                "{which}"
            );
            let responses = &operation["responses"];
            assert_eq!(
                responses["default"]["$ref"], "#/components/responses/Problem",
                "{which}"
            );
            for (status, response) in responses.as_object().unwrap() {
                let described = response["description"].is_string() || response["$ref"].is_string();
                assert!(described, "{which}: {status}");
            }
        }
    }
    let problem = &document["components"]["responses"]["Problem"]["content"];
    assert!(problem["application/problem+json"].is_object(), "{problem}");
    assert_references(&document, &document);
}

/// Asserts that every reference leads somewhere.
fn assert_references(document: &Value, part: &Value) {
    match part {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
            }
            members.values().for_each(|it| assert_references(document, it));
        }
        Value::Array(items) => items.iter().for_each(|it| assert_references(document, it)),
        _ => {}
    }
}

#[test]
fn what_is_answered_is_what_the_document_says() {
    let daemon = Netkitd::start();
    let document = document(&daemon);
    daemon.ok("link add a type netkit mode l2 peer name b");
    daemon.ok("link add s type netkit single");
    daemon.ok(&format!(
        "attach b vhost-user path {}",
        daemon.path("b.sock").display()
    ));
    for (path, schema) in [
        ("/v1/devices/a", "Device"),
        ("/v1/devices/b", "Device"),
        ("/v1/devices/s", "Device"),
        ("/v1/daemon", "Daemon"),
        ("/v1/devices/nosuch", "Problem"),
        ("/v1/nosuch", "Problem"),
    ] {
        let answer = http::call(&daemon.api(), "GET", path, None).json();
        assert_fits(
            &document,
            &document["components"]["schemas"][schema],
            &answer,
            path,
        );
    }
}

/// Asserts that a value has the members and types of a schema: as much of JSON Schema as the document uses.
fn assert_fits(document: &Value, schema: &Value, value: &Value, path: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        return assert_fits(document, document.pointer(&reference[1..]).unwrap(), value, path);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let null = choices.iter().any(|it| it["type"] == "null");
        let other = choices.iter().find(|it| it["type"] != "null").unwrap();
        match value {
            Value::Null => assert!(null, "{path} is null"),
            value => assert_fits(document, other, value, path),
        }
        return;
    }
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{path}: {value} is none of {words:?}");
    }
    let name = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kind = &schema["type"];
    let allowed = kind == name || kind.as_array().is_some_and(|kinds| kinds.contains(&name.into()));
    assert!(allowed, "{path}: {value} is not of {kind}");
    if let Value::Object(members) = value {
        let properties = schema["properties"].as_object().unwrap();
        for (member, value) in members {
            let property = properties
                .get(member)
                .unwrap_or_else(|| panic!("{path}: no {member}"));
            assert_fits(document, property, value, &format!("{path} {member}"));
        }
        for required in schema["required"].as_array().into_iter().flatten() {
            assert!(
                members.contains_key(required.as_str().unwrap()),
                "{path}: {required} is missing"
            );
        }
    }
}
