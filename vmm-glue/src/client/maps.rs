//! Maps and their entries.

use hyper::Method;
use netkit_api::{Map, MapEntries, MapEntry, MapEvent, MapRequest};

use super::{Call, Client, ClientError, path_segment};

/// A map is named by its id, or its name where only one map has it.
impl Client {
    /// Every map.
    pub fn maps(&self) -> Result<Vec<Map>, ClientError> {
        self.get("/v1/maps")
    }

    /// One map.
    pub fn map(&self, map: &str) -> Result<Map, ClientError> {
        self.get(map_path(map))
    }

    /// Takes away the name that a map is pinned under.
    pub fn unpin_map(&self, map: &str) -> Result<(), ClientError> {
        self.send(&Call::new(Method::DELETE, format!("{}/pin", map_path(map))))
    }

    /// The entries behind this key, or from the beginning.
    pub fn entries(&self, map: &str, after: Option<&str>) -> Result<MapEntries, ClientError> {
        let path = format!("{}/entries", map_path(map));
        match after {
            Some(key) => self.get(format!("{path}?after={}", path_segment(key))),
            None => self.get(path),
        }
    }

    /// The entry of a key.
    pub fn lookup(&self, map: &str, request: &MapRequest) -> Result<MapEntry, ClientError> {
        self.ask_map(map, "lookup", request)
    }

    /// The key behind a key.
    pub fn next_key(&self, map: &str, request: &MapRequest) -> Result<MapEntry, ClientError> {
        self.ask_map(map, "next", request)
    }

    /// The first value of a queue or stack, which is gone then.
    pub fn pop(&self, map: &str) -> Result<MapEntry, ClientError> {
        self.ask_map(map, "pop", &MapRequest::default())
    }

    /// The first value of a queue or stack.
    pub fn peek(&self, map: &str) -> Result<MapEntry, ClientError> {
        self.ask_map(map, "peek", &MapRequest::default())
    }

    /// Writes an entry.
    pub fn update(&self, map: &str, request: &MapRequest) -> Result<(), ClientError> {
        self.tell_map(map, "update", request)
    }

    /// Deletes an entry.
    pub fn delete_entry(&self, map: &str, request: &MapRequest) -> Result<(), ClientError> {
        self.tell_map(map, "delete", request)
    }

    /// Puts a value into a queue, a stack or a Bloom filter.
    pub fn push(&self, map: &str, request: &MapRequest) -> Result<(), ClientError> {
        self.tell_map(map, "push", request)
    }

    /// Keeps the API from writing a map.
    pub fn freeze(&self, map: &str) -> Result<(), ClientError> {
        self.tell_map(map, "freeze", &MapRequest::default())
    }

    /// What programs put out since the last call.
    pub fn events(&self, map: &str) -> Result<Vec<MapEvent>, ClientError> {
        let call = Call::new(Method::POST, format!("{}/events", map_path(map)));
        call.decode(&self.perform(&call)?)
    }

    fn ask_map(&self, map: &str, what: &str, request: &MapRequest) -> Result<MapEntry, ClientError> {
        let call = Call::new(Method::POST, format!("{}/{what}", map_path(map))).with_body(request)?;
        call.decode(&self.perform(&call)?)
    }

    fn tell_map(&self, map: &str, what: &str, request: &MapRequest) -> Result<(), ClientError> {
        self.send(&Call::new(Method::POST, format!("{}/{what}", map_path(map))).with_body(request)?)
    }
}

fn map_path(map: &str) -> String {
    format!("/v1/maps/{}", path_segment(map))
}
