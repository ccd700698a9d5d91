//! What goes over the wire, as types. They are here to be described: the endpoints read and write these shapes by hand, as
//! fast as they can. A test holds real answers against what is derived from them.
#![expect(dead_code, reason = "these types are described and never made")]

use serde_json::json;
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Type};
use utoipa::openapi::{KnownFormat, RefOr, Schema, SchemaFormat};
use utoipa::{IntoParams, ToSchema};

/// A behaviour event, as it is sent. Members that are not named here are ignored.
#[derive(ToSchema)]
#[schema(example = json!({"visitor_id": "visitor-1", "event": "page_view", "metadata": {"page": "/", "price": 1.10}}))]
pub struct Event {
    #[schema(schema_with = visitor_id)]
    visitor_id: String,
    #[schema(schema_with = event_name)]
    event: String,
    #[schema(schema_with = timestamp, required = false)]
    timestamp: (),
    /// Anything that belongs to it. It is stored as it is spelled here.
    #[schema(value_type = Object, required = false)]
    metadata: (),
    /// In place of the request's header `User-Agent`.
    user_agent: Option<String>,
}

/// What counts as white space, as a part of a class of characters: Unicode's `White_Space`, which is not quite what `\s` is.
const WHITE: &str = r"\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000";

fn visitor_id() -> impl Into<RefOr<Schema>> {
    trimmed(6, "[^W][\\s\\S]{4,62}[^W]")
        .description(Some(
            "Who it is of: 6 to 64 characters, white space around them not counted, which is cut off.",
        ))
        .examples([json!("visitor-1")])
}

fn event_name() -> impl Into<RefOr<Schema>> {
    name()
        .description(Some(
            "What happened: 1 to 64 characters, white space around them not counted, which is cut off.",
        ))
        .examples([json!("page_view")])
}

/// The name of an event.
pub fn name() -> ObjectBuilder {
    trimmed(1, "[^W]([\\s\\S]{0,62}[^W])?")
}

/// A text of which white space at its ends does not count. In `inner` a `W` stands for that.
fn trimmed(least: usize, inner: &str) -> ObjectBuilder {
    let pattern = format!("^[W]*{inner}[W]*$").replace('W', WHITE);
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(least))
        .pattern(Some(pattern))
}

/// The first and the last millisecond of the years 1 to 9999. What is taken for seconds lies within.
const TIMESTAMP_MS: (isize, isize) = (-62_135_596_800_000, 253_402_300_799_999);

fn timestamp() -> impl Into<RefOr<Schema>> {
    instant()
        .description(Some(
            "When it happened; now, if nothing is said. It is stored in UTC.",
        ))
        .examples([json!("2026-11-22T12:00:00Z"), json!(1_795_348_800)])
}

/// A point in time.
pub fn instant() -> AnyOfBuilder {
    let spelled = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .description(Some(
            "ISO 8601, as RFC 3339 has it or with less; without a zone it is UTC. Or a number as text.",
        ));
    let number = ObjectBuilder::new()
        .schema_type(Type::Number)
        .minimum(Some(TIMESTAMP_MS.0))
        .maximum(Some(TIMESTAMP_MS.1))
        .description(Some("Unix seconds; milliseconds where they are more than 2e10."));
    AnyOfBuilder::new().item(spelled).item(number)
}

/// Events that are stored.
#[derive(ToSchema)]
pub struct Stored {
    #[schema(example = true)]
    ok: bool,
    /// How many.
    #[schema(minimum = 0, example = 1)]
    stored: u64,
    /// The log, as the server's settings name it.
    #[schema(example = "./data/metrics.jsonl")]
    file: String,
}

/// The valid events of a batch are stored.
#[derive(ToSchema)]
pub struct PartlyStored {
    /// Whether all were valid.
    ok: bool,
    /// How many are stored.
    #[schema(minimum = 0, example = 2)]
    stored: u64,
    /// How many were left out.
    #[schema(minimum = 0, example = 1)]
    rejected: u64,
    /// What is wrong with those, the first 100 errors.
    #[schema(max_items = 100)]
    detail: Vec<Problem>,
}

/// One thing that is wrong with what was sent, as Pydantic v2 spells it.
#[derive(ToSchema)]
#[schema(example = json!({"type": "string_too_short", "loc": ["body", "visitor_id"],
    "msg": "String should have at least 6 characters", "input": "x", "ctx": {"min_length": 6}}))]
pub struct Problem {
    /// What kind of error.
    r#type: String,
    /// Where: `body`, `query` or `header`, in a batch the event's index, and the member.
    loc: Vec<Place>,
    /// What is wrong, for people.
    msg: String,
    /// What was sent there.
    #[schema(value_type = Value)]
    input: (),
    /// Values that belong to the message.
    #[schema(value_type = Object, required = false)]
    ctx: (),
}

/// A step on the way to a member.
#[derive(serde::Serialize, ToSchema)]
#[serde(untagged)]
enum Place {
    Name(String),
    Index(u64),
}

/// What was sent is not valid, and nothing of it is stored.
#[derive(ToSchema)]
pub struct Invalid {
    /// The first 100 errors.
    #[schema(max_items = 100)]
    detail: Vec<Problem>,
}

/// Why a request is refused.
#[derive(ToSchema)]
pub struct Refused {
    /// A sentence for people.
    #[schema(example = "Too many requests. Try again later.")]
    detail: String,
    /// Only where the beginning of a partial batch is stored: `false`.
    #[schema(required = false)]
    ok: bool,
    /// Only where the beginning of a partial batch is stored: how many events of it are.
    #[schema(required = false, minimum = 1)]
    stored: u64,
}

/// Totals, and the newest events.
#[derive(ToSchema)]
pub struct Snapshot {
    /// Events that the log ever had; with a filter, those that match.
    #[schema(minimum = 0)]
    total: u64,
    /// Of each name, the most frequent first.
    by_event: Vec<NameCount>,
    /// The newest first.
    last_events: Vec<StoredEvent>,
    /// Bytes in the live file.
    #[schema(minimum = 0)]
    file_size_bytes: u64,
}

/// How many events of a name there are.
#[derive(ToSchema)]
pub struct NameCount {
    /// The name; `__other__` are those beyond METRICS_EVENT_NAMES_MAX.
    event: String,
    #[schema(minimum = 0)]
    count: u64,
}

/// An event, as it is stored.
#[derive(ToSchema)]
pub struct StoredEvent {
    /// Its number, with METRICS_LINE_SEQ=on.
    #[schema(required = false, minimum = 1)]
    seq: u64,
    visitor_id: String,
    event: String,
    /// In UTC.
    #[schema(format = DateTime)]
    timestamp: String,
    #[schema(value_type = Object)]
    metadata: (),
    #[schema(required)]
    user_agent: Option<String>,
}

/// Whether events can be stored, and to those who may read how much there is and what is wrong.
#[derive(ToSchema)]
pub struct Health {
    /// Whether events can be stored.
    ok: bool,
    /// Events in the recent window, and the largest `limit` of a snapshot.
    #[schema(minimum = 1)]
    ring_capacity: u64,
    /// Whether there is anything of a log.
    sink_exists: bool,
    state: State,
    /// The log, as the settings name it.
    #[schema(required = false)]
    file: String,
    /// The level at which events are acknowledged by default.
    #[schema(required = false)]
    ack: Reached,
    /// Events that the log ever had; `null` while it is being read after the start.
    #[schema(required = false, minimum = 0)]
    events_stored: Option<u64>,
    /// Connections that are open.
    #[schema(required = false, minimum = 0)]
    connections: u64,
    #[schema(required = false)]
    latency: Latencies,
    /// The file system of the log.
    #[schema(required = false)]
    disk: Option<Disk>,
    #[schema(required = false)]
    log: Log,
    #[schema(required = false)]
    journal: Journal,
    /// Only with METRICS_ARCHIVE_URL.
    #[schema(required = false)]
    archive: Archive,
    /// Only with METRICS_SHIP_URL.
    #[schema(required = false)]
    ship: Shipping,
    /// Only with METRICS_FROM.
    #[schema(required = false)]
    fleet: FleetView,
    /// Only with METRICS_ACCESS_LOG.
    #[schema(required = false)]
    access_log: AccessLog,
}

/// What the server is doing.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum State {
    /// The log is being read after the start; events are taken.
    Recovering,
    Running,
}

/// Microseconds, of the last 30 to 60 s; `null` where nothing happened in that time.
#[derive(ToSchema)]
struct Latencies {
    /// Appending a batch to the log.
    append_us: Quantiles,
    /// A sync of the log.
    fsync_us: Quantiles,
}

/// Quantiles.
#[derive(ToSchema)]
struct Quantiles {
    #[schema(required, minimum = 0)]
    p50: Option<u64>,
    #[schema(required, minimum = 0)]
    p99: Option<u64>,
    #[schema(required, minimum = 0)]
    max: Option<u64>,
}

/// A file system.
#[derive(ToSchema)]
struct Disk {
    /// What the server may still write there.
    #[schema(minimum = 0)]
    free_bytes: u64,
    #[schema(minimum = 0)]
    total_bytes: u64,
}

/// The log.
#[derive(ToSchema)]
struct Log {
    /// In the live file.
    #[schema(minimum = 0)]
    bytes: u64,
    #[schema(minimum = 0)]
    sealed_files: u64,
    /// How much of the live file is on the disk.
    #[schema(minimum = 0)]
    synced_bytes: u64,
    /// Why it cannot be written.
    #[schema(required)]
    error: Option<String>,
    /// Why it could not be synced.
    #[schema(required)]
    sync_error: Option<String>,
}

/// The journal.
#[derive(ToSchema)]
struct Journal {
    /// Whether it survives the process.
    durable: bool,
    /// Why it cannot grow.
    #[schema(required)]
    error: Option<String>,
    /// What is acknowledged and not yet in the log.
    #[schema(minimum = 0)]
    frames: u64,
    #[schema(minimum = 0)]
    used_bytes: u64,
    #[schema(minimum = 0)]
    bytes: u64,
    #[schema(minimum = 0)]
    bytes_max: u64,
}

/// The archive.
#[derive(ToSchema)]
struct Archive {
    #[schema(minimum = 0)]
    waiting_files: u64,
    #[schema(minimum = 0)]
    waiting_bytes: u64,
    #[schema(required)]
    error: Option<String>,
}

/// How the log is shipped.
#[derive(ToSchema)]
struct Shipping {
    /// Whether the stream takes what is shipped, as far as is known.
    connected: bool,
    /// Everything before that place of the log is in the stream; `null` as long as it has not been asked.
    #[schema(required)]
    position: Option<String>,
    /// What the stream has not acknowledged yet.
    #[schema(required, minimum = 0)]
    lag_bytes: Option<u64>,
    /// How long ago the stream had all of the log.
    #[schema(minimum = 0)]
    lag_seconds: u64,
    /// Since the start.
    #[schema(minimum = 0)]
    events: u64,
    /// Times that it had to be begun anew.
    #[schema(minimum = 0)]
    failures: u64,
    /// Files that were gone before they were shipped.
    #[schema(minimum = 0)]
    lost_files: u64,
    /// What retention has removed of those, on the disk.
    #[schema(minimum = 0)]
    lost_bytes: u64,
    /// Why nothing is shipped.
    #[schema(required)]
    error: Option<String>,
}

/// The view of a fleet.
#[derive(ToSchema)]
struct FleetView {
    /// Whether the streams can be read, as far as is known.
    connected: bool,
    nodes: Vec<FleetNode>,
    /// Events that were taken since the start.
    #[schema(minimum = 0)]
    events: u64,
    /// Messages that came again, and changed nothing.
    #[schema(minimum = 0)]
    duplicates: u64,
    /// Times that what came next was not in a stream any more.
    #[schema(minimum = 0)]
    gaps: u64,
    /// Times that reading had to be begun anew.
    #[schema(minimum = 0)]
    failures: u64,
    /// Why nothing is read.
    #[schema(required)]
    error: Option<String>,
}

/// A node whose stream is read.
#[derive(ToSchema)]
struct FleetNode {
    node: String,
    /// Behind the last line that was taken, in that node's log.
    #[schema(required)]
    position: Option<String>,
    /// In its stream, and not given out yet.
    #[schema(minimum = 0)]
    waiting_messages: u64,
    /// Events of it that were taken since the start.
    #[schema(minimum = 0)]
    events: u64,
}

/// The access log.
#[derive(ToSchema)]
struct AccessLog {
    /// Lines that were dropped.
    #[schema(minimum = 0)]
    dropped: u64,
}

/// What a 202 is to promise.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Ack {
    /// In the mapped journal: survives `kill -9`.
    Journaled,
    /// The same, as it is called where the journal is in memory and survives nothing.
    Queued,
    /// In the log: every tailer and reader can see it.
    Written,
    /// On the disk: survives power loss.
    Synced,
}

/// What is promised.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Reached {
    Journaled,
    Queued,
    Written,
    Synced,
}

/// What may stand in the query of a request that stores events.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AckQuery {
    /// What the 202 is to promise; METRICS_ACK, if nothing is said.
    #[param(inline, required = false)]
    ack: Ack,
}

/// What may stand in its head.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct AckHeader {
    /// As `ack` in the query, which goes before it.
    #[param(rename = "X-Ack", inline, required = false, nullable = false)]
    ack: Ack,
}

/// What may stand in the query of a batch.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct BatchQuery {
    /// `true` stores the valid events and leaves out the others.
    #[param(default = false, required = false)]
    partial: bool,
}
