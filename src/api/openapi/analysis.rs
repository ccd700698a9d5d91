//! The part of the description that is about evaluating the log: filters, time series, funnel, live stream.
#![expect(dead_code, reason = "these types are described and never made")]

use utoipa::openapi::path::{HttpMethod, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Type};
use utoipa::openapi::{ContentBuilder, RefOr, Required, Response, Schema};
use utoipa::{IntoParams, ToSchema};

use super::document::{Described, answer, json_of, params, reading};
use super::schemas::{self, instant};

/// Most names that may be asked for at once, and most steps.
const NAMES_MAX: usize = 50;
const STEPS_MAX: usize = 10;

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct IntervalQuery {
    /// How long a bucket is.
    #[param(inline, default = "1m", required = false)]
    interval: Interval,
}

/// How long a bucket is.
#[derive(ToSchema)]
enum Interval {
    #[schema(rename = "1m")]
    Minute,
    #[schema(rename = "5m")]
    FiveMinutes,
    #[schema(rename = "1h")]
    Hour,
    #[schema(rename = "1d")]
    Day,
}

/// Events by time, in buckets without a gap.
#[derive(ToSchema)]
struct TimeSeries {
    #[schema(inline)]
    interval: Interval,
    /// Where the first bucket begins.
    #[schema(format = DateTime)]
    since: String,
    /// Where the last one ends.
    #[schema(format = DateTime)]
    until: String,
    /// How many there are.
    #[schema(minimum = 0, maximum = 10_080)]
    buckets: u64,
    /// Events in all of them.
    #[schema(minimum = 0)]
    total: u64,
    series: Vec<Series>,
    /// The other names together; `null` where names were asked for.
    #[schema(required)]
    rest: Option<RestOfSeries>,
}

/// The events of a name.
#[derive(ToSchema)]
struct Series {
    event: String,
    #[schema(minimum = 0)]
    total: u64,
    /// One for each bucket.
    counts: Vec<u64>,
}

/// The events of further names.
#[derive(ToSchema)]
struct RestOfSeries {
    /// How many names.
    #[schema(minimum = 0)]
    names: u64,
    #[schema(minimum = 0)]
    total: u64,
    /// One for each bucket.
    counts: Vec<u64>,
}

/// How many visitors did one step after the other.
#[derive(ToSchema)]
struct Funnel {
    #[schema(format = DateTime)]
    since: String,
    #[schema(format = DateTime)]
    until: String,
    #[schema(min_items = 2, max_items = 10)]
    steps: Vec<FunnelStep>,
    #[schema(required)]
    split: Option<FunnelSplit>,
    /// Whether all that belongs to the range could be read.
    complete: bool,
}

/// A step.
#[derive(ToSchema)]
struct FunnelStep {
    event: String,
    /// Those who did it, behind the steps before it.
    #[schema(minimum = 0)]
    visitors: u64,
}

/// The same, apart for each value of a key of `metadata`.
#[derive(ToSchema)]
struct FunnelSplit {
    /// The key.
    field: String,
    groups: Vec<FunnelGroup>,
}

/// The visitors with one value.
#[derive(ToSchema)]
struct FunnelGroup {
    /// `null` for all further values together.
    #[schema(required)]
    value: Option<String>,
    /// One for each step.
    visitors: Vec<u64>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct SplitQuery {
    /// A key of `metadata`, by whose value at the first step visitors are told apart.
    #[param(max_length = 256, required = false)]
    split: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
struct LastEventId {
    /// Where reading goes on: the last `id` that was received.
    #[param(rename = "Last-Event-ID", required = false)]
    last_event_id: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct LastEventIdQuery {
    /// The same, for those who cannot set headers.
    #[param(required = false)]
    last_event_id: String,
}

/// A parameter that may be repeated.
fn repeated(name: &str, description: &str, items: (usize, usize)) -> ParameterBuilder {
    let (least, most) = items;
    let names = ArrayBuilder::new()
        .items(schemas::name())
        .min_items((least > 0).then_some(least))
        .max_items(Some(most));
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(if least > 0 {
            Required::True
        } else {
            Required::False
        })
        .description(Some(description))
        .explode(Some(true))
        .schema(Some(RefOr::<Schema>::from(Schema::from(names.build()))))
}

/// A point in time.
pub fn time(name: &str, description: &str) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(RefOr::<Schema>::from(Schema::from(instant().build()))))
}

fn until() -> ParameterBuilder {
    time("until", "Only events before that. Now, if nothing is said.")
}

/// The filter of names.
pub fn event_type() -> ParameterBuilder {
    repeated(
        "event_type",
        "Only events of this name. May be repeated.",
        (0, NAMES_MAX),
    )
}

/// What is evaluated from the log.
pub fn describe(described: &mut Described) {
    described.describe_type::<TimeSeries>();
    described.describe_type::<Funnel>();
    timeseries(described);
    funnel(described);
    stream(described);
}

fn timeseries(described: &mut Described) {
    let operation = reading("timeseries", "Events by time")
        .description(Some(
            "Counts by the events' own time, in buckets without a gap. Without `event` the ten most frequent names, and the \
             others together in `rest`. At most 10,080 buckets; 60 up to now, if nothing is said.",
        ))
        .parameter(repeated("event", "A name that gets a series of its own. May be repeated.", (0, NAMES_MAX)));
    let operation = operation
        .parameters(Some(params::<IntervalQuery>()))
        .parameter(time("since", "Only events from then on, down to the begin of an interval. 60 intervals before the end, if nothing is said."))
        .parameter(until())
        .response("200", answer("The buckets.", json_of::<TimeSeries>()));
    described.path(
        HttpMethod::Get,
        "/api/metrics/behavior/timeseries",
        operation,
        &[401, 403, 422, 429, 503],
    );
}

fn funnel(described: &mut Described) {
    let operation = reading("funnel", "Visitors step by step")
        .description(Some(
            "How many visitors did these steps in this order of time, all within the range.",
        ))
        .parameter(repeated(
            "step",
            "The name of an event. Two to ten of them, in their order.",
            (2, STEPS_MAX),
        ));
    let operation = operation
        .parameters(Some(params::<SplitQuery>()))
        .parameter(time(
            "since",
            "Only events from then on. A day before the end, if nothing is said.",
        ))
        .parameter(until())
        .response("200", answer("The steps.", json_of::<Funnel>()));
    described.path(
        HttpMethod::Get,
        "/api/metrics/behavior/funnel",
        operation,
        &[401, 403, 422, 429, 503],
    );
}

fn stream(described: &mut Described) {
    let operation = reading("stream", "Events as they are stored")
        .description(Some(
            "Server-Sent Events, one for each stored event: `data` is the stored line, `id` where reading goes on. With \
             `Last-Event-ID` nothing is lost and nothing comes twice, over restarts of either side too. `event: gap` tells of \
             events that are left out, among them those behind a place that is not in the log; a comment comes every 15 s.",
        ))
        .parameter(event_type());
    let operation = operation
        .parameters(Some(params::<LastEventId>()))
        .parameters(Some(params::<LastEventIdQuery>()));
    let text = ObjectBuilder::new().schema_type(Type::String);
    let example = "id: 1:140\ndata: {\"visitor_id\":\"visitor-1\",\"event\":\"page_view\",…}\n\n";
    let content = ContentBuilder::new()
        .schema(Some(RefOr::<Schema>::from(Schema::from(text.build()))))
        .example(Some(example.into()));
    let mut stream = Response::new("The stream, which has no end.");
    stream.content.insert("text/event-stream".into(), content.build());
    let operation = operation.response("200", stream);
    described.path(
        HttpMethod::Get,
        "/api/metrics/behavior/stream",
        operation,
        &[401, 403, 422, 429, 503],
    );
}
