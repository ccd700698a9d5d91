//! The endpoints that write, the snapshot, and those that tell how the server is doing.

use serde_json::json;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{AnyOfBuilder, ArrayBuilder, ObjectBuilder, Type};
use utoipa::openapi::{Content, ContentBuilder, Ref, RefOr, Required, ResponseBuilder, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::super::route::Route;
use super::Facts;
use super::analysis::{event_type, time};
use super::document::{
    Described, OPERATING, WRITING, answer, json_of, keyed, open, params, reading, simple, text_header,
    text_of,
};
use super::schemas::{
    AckHeader, AckQuery, BatchQuery, Event, Health, PartlyStored, Reached, Snapshot, Stored,
};
use crate::web::DOCS;

const POST: HttpMethod = HttpMethod::Post;
const GET: HttpMethod = HttpMethod::Get;
/// What storing events may be refused with.
const WRITE_ERRORS: [u16; 9] = [400, 401, 403, 408, 413, 415, 422, 429, 503];
const BODY: &str =
    "Whatever its `Content-Type`, it is read as JSON. `Content-Encoding` may be `gzip`, `deflate` or `zstd`.";

/// Describes them all.
pub fn describe(described: &mut Described, facts: &Facts) {
    described.describe_type::<Event>();
    described.describe_type::<Stored>();
    described.describe_type::<PartlyStored>();
    described.describe_type::<Snapshot>();
    described.describe_type::<Health>();
    event(described);
    batch(described);
    snapshot(described, facts);
    health(described);
    metrics(described);
    openapi(described);
    docs(described);
}

fn event(described: &mut Described) {
    let (json, content) = json_of::<Event>();
    let body = body("The event.").content(json, content).build();
    let operation = storing("storeEvent", "Store an event").request_body(Some(body));
    let operation = operation.response("202", stored(answer("It is stored.", json_of::<Stored>())));
    described.path(POST, Route::Event.path(), operation, &WRITE_ERRORS);
}

fn batch(described: &mut Described) {
    let events: Schema = ArrayBuilder::new()
        .items(Ref::from_schema_name(Event::name()))
        .into();
    let event = r#"{"visitor_id":"visitor-1","event":"page_view"}"#;
    let (nd_json, lines) = text_of("application/x-ndjson", &format!("{event}\n{event}\n"));
    let array = ContentBuilder::new()
        .schema(Some(RefOr::from(events)))
        .example(Some(json!([
            {"visitor_id": "visitor-1", "event": "page_view", "metadata": {"page": "/"}},
            {"visitor_id": "visitor-1", "event": "leave", "timestamp": "2026-11-22T12:00:00Z"}
        ])))
        .build();
    let body = body("The events: an array, or NDJSON with one a line, blank lines skipped. Which of the two the body itself tells.")
        .content("application/json", array)
        .content(nd_json, lines)
        .build();
    let either: Schema = AnyOfBuilder::new()
        .item(Ref::from_schema_name(Stored::name()))
        .item(Ref::from_schema_name(PartlyStored::name()))
        .into();
    let either = Content::new(Some(RefOr::from(either)));
    let description =
        "They are stored; with `partial=true` those that are valid, and the others are told of.";
    let operation = storing("storeEvents", "Store many events")
        .description(Some(
            "One invalid event and nothing is stored, unless `partial=true`. A long partial batch is stored in parts of 8 MiB while \
             it comes; if it ends early, the error says how many events are `stored`.",
        ))
        .parameters(Some(params::<BatchQuery>()))
        .request_body(Some(body))
        .response("202", stored(answer(description, ("application/json", either))));
    described.path(POST, Route::Batch.path(), operation, &WRITE_ERRORS);
}

fn snapshot(described: &mut Described, facts: &Facts) {
    let limit = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1))
        .maximum(Some(facts.ring_capacity))
        .default(Some(json!(facts.limit_default)));
    let limit = ParameterBuilder::new()
        .name("limit")
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some("How many events to show; at most METRICS_RING_CAPACITY."))
        .schema(Some(RefOr::<Schema>::from(Schema::from(limit.build()))));
    let since = time("since", "Only events from then on.");
    let operation = reading("snapshot", "Totals and the newest events")
        .description(Some("Own writes are seen. With a filter, totals and counts are of what matches, over the whole history."))
        .parameter(limit)
        .parameter(event_type())
        .parameter(since)
        .response("200", answer("The snapshot.", json_of::<Snapshot>()));
    described.path(GET, Route::Behavior.path(), operation, &[401, 403, 422, 429, 503]);
}

fn health(described: &mut Described) {
    let operation = keyed("health", OPERATING, "Whether events can be stored")
        .description(Some("Everybody is told whether events can be stored, and those who may read what is wrong and how much there is."))
        .response("200", answer("Events can be stored.", json_of::<Health>()))
        .response(
            "503",
            answer("Events cannot be stored.", json_of::<Health>())
                .header("Retry-After", text_header("Seconds after which to ask again.")),
        );
    described.path(GET, Route::Health.path(), operation, &[429]);
}

fn metrics(described: &mut Described) {
    let example = "# TYPE floodgate_events_stored_total counter\nfloodgate_events_stored_total 1041\n";
    let (classic, content) = text_of("text/plain; version=0.0.4; charset=utf-8", example);
    let (open, open_content) = text_of(
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        example,
    );
    let response = answer("The figures.", (classic, content)).content(open, open_content);
    let operation = keyed("metrics", OPERATING, "Figures for Prometheus")
        .description(Some(
            "Prometheus' text format 0.0.4, or OpenMetrics 1.0 where `Accept` prefers it.",
        ))
        .response("200", response);
    described.path(GET, Route::Metrics.path(), operation, &[401, 403, 429]);
}

fn openapi(described: &mut Described) {
    let content = Content::new(Some(simple(Type::Object)));
    let operation = open("openapi", OPERATING, "This description")
        .response("200", answer("OpenAPI 3.1.", ("application/json", content)));
    described.path(GET, Route::OpenApi.path(), operation, &[429]);
}

fn docs(described: &mut Described) {
    let operation = open("docs", OPERATING, "A page to read and try it").response(
        "200",
        answer(
            "The page.",
            text_of("text/html; charset=utf-8", "<!doctype html>…"),
        ),
    );
    described.path(GET, DOCS, operation, &[]);
}

/// An endpoint that stores events.
fn storing(id: &str, summary: &str) -> OperationBuilder {
    keyed(id, WRITING, summary)
        .parameters(Some(params::<AckQuery>()))
        .parameters(Some(params::<AckHeader>()))
}

fn body(description: &str) -> RequestBodyBuilder {
    RequestBody::builder()
        .description(Some(format!("{description} {BODY}")))
        .required(Some(Required::True))
}

/// The answer to events that are stored names the level they have reached.
fn stored(response: ResponseBuilder) -> ResponseBuilder {
    let mut level = text_header("The level that is reached.");
    level.schema = Reached::schema();
    let numbers = text_header(
        "The numbers of the events, from `written` up: `1041-1043`; several ranges for a batch in several parts.",
    );
    response.header("X-Ack", level).header("X-Seq", numbers)
}
