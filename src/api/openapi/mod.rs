//! `GET /openapi.json`: the API described in OpenAPI 3.1, made once at the start, of the types in `schemas.rs`.
//!
//! It holds no data: everybody may have it. What it says of the answers a test checks against the running server
//! (`tests/openapi/check.py`).

mod analysis;
mod document;
mod endpoints;
mod schemas;

use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{InfoBuilder, License, OpenApi, OpenApiBuilder, Server};

use document::{Described, OPERATING, READING, WRITING};

use super::Shared;
use crate::http::{JSON, Output};

const ABOUT: &str = "Takes behaviour events over HTTP and leaves them as an append-only JSONL log.\n\n\
    Errors of the data are a 422 with a list in `detail`, as Pydantic v2 spells them; every other error is \
    `{\"detail\": \"<sentence>\"}`. Every answer that is no 2xx has an `X-Request-Id`. `HEAD` works wherever `GET` does.";

/// What of the settings shows in the description.
pub struct Facts {
    /// The largest `limit` of a snapshot.
    pub ring_capacity: usize,
    /// How many events a snapshot has that asks for no number.
    pub limit_default: usize,
}

/// The description as JSON.
pub fn render(facts: &Facts) -> Vec<u8> {
    serde_json::to_vec(&document(facts)).expect("a description is JSON")
}

fn document(facts: &Facts) -> OpenApi {
    let mut described = Described::new();
    endpoints::describe(&mut described, facts);
    analysis::describe(&mut described);
    let (paths, components) = described.into_parts();
    let mut license = License::new("MIT OR Apache-2.0");
    license.identifier = Some("MIT OR Apache-2.0".into());
    let info = InfoBuilder::new()
        .title("Floodgate")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(license));
    let tags = [
        (WRITING, "Events come in."),
        (
            READING,
            "What is stored; on the read side, which takes a read key or is open on loopback.",
        ),
        (OPERATING, "How the server is doing, and what it is."),
    ];
    OpenApiBuilder::new()
        .info(info)
        .servers(Some([Server::new("/")]))
        .tags(Some(tags.map(|(name, about)| {
            TagBuilder::new().name(name).description(Some(about)).build()
        })))
        .paths(paths)
        .components(Some(components.build()))
        .build()
}

/// Answers with the description.
pub fn answer(shared: &Shared, output: &mut Output) {
    output.answer(200, JSON, &[("Cache-Control", "no-cache")], &shared.description);
}

#[cfg(test)]
mod tests {
    use super::super::route::Route;
    use super::*;

    #[test]
    fn every_endpoint_is_described_with_its_method() {
        let facts = Facts {
            ring_capacity: 500,
            limit_default: 50,
        };
        let document: serde_json::Value = serde_json::from_slice(&render(&facts)).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
        for route in Route::ALL {
            let method = if route.takes("POST") { "post" } else { "get" };
            let operation = &document["paths"][route.path()][method];
            assert!(operation["summary"].is_string(), "{route:?}");
            let is_keyed = operation.get("security").is_some();
            assert_eq!(
                is_keyed,
                route.side().is_some() || route == Route::Health,
                "{route:?}"
            );
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let facts = Facts {
            ring_capacity: 500,
            limit_default: 50,
        };
        let text = String::from_utf8(render(&facts)).unwrap();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        let references: Vec<_> = text.split("\"$ref\":\"#").skip(1).collect();
        assert!(references.len() > 50);
        for reference in references {
            let (pointer, _) = reference.split_once('"').unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
