//! What the description is put together with: the parts that many endpoints share.

use utoipa::openapi::path::{HttpMethod, OperationBuilder, Parameter, ParameterIn, PathItem, Paths};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{
    ComponentsBuilder, Content, ContentBuilder, Header, HeaderBuilder, Ref, RefOr, Response, ResponseBuilder,
    Schema,
};
use utoipa::{IntoParams, ToSchema};

use super::schemas::{Invalid, Refused};

const JSON: &str = "application/json";
/// What endpoints are sorted by.
pub const WRITING: &str = "Writing";
pub const READING: &str = "Reading";
pub const OPERATING: &str = "Operating";

/// The description as far as it has come.
pub struct Described {
    paths: Paths,
    components: ComponentsBuilder,
}

impl Described {
    /// Nothing but the errors, and the places for keys.
    pub fn new() -> Described {
        let mut described = Described {
            paths: Paths::new(),
            components: ComponentsBuilder::new(),
        };
        described.describe_type::<Invalid>();
        described.describe_type::<Refused>();
        for (status, description) in ERRORS {
            described.add(|components| components.response(format!("E{status}"), error(status, description)));
        }
        for (name, scheme) in schemes() {
            described.add(|components| components.security_scheme(name, scheme));
        }
        described
    }

    fn add(&mut self, add: impl FnOnce(ComponentsBuilder) -> ComponentsBuilder) {
        self.components = add(std::mem::take(&mut self.components));
    }

    /// Adds a type and those it is made of.
    pub fn describe_type<T: ToSchema>(&mut self) {
        let mut parts = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut parts);
        self.add(|components| components.schemas_from_iter(parts));
    }

    /// Adds an endpoint, which may answer with those errors.
    pub fn path(&mut self, method: HttpMethod, path: &str, operation: OperationBuilder, errors: &[u16]) {
        let with_errors = errors.iter().fold(operation, |operation, status| {
            operation.response(status.to_string(), Ref::from_response_name(format!("E{status}")))
        });
        let item = PathItem::new(method, with_errors);
        self.paths.paths.insert(path.to_owned(), item);
    }

    /// The paths, and the parts they are made of.
    pub fn into_parts(self) -> (Paths, ComponentsBuilder) {
        (self.paths, self.components)
    }
}

/// The errors, each described once.
const ERRORS: [(u16, &str); 9] = [
    (400, "The body is cut short, does not unpack, or is not UTF-8."),
    (401, "A key is needed, or the one that was shown is not known."),
    (
        403,
        "The key is for something else, or reading is closed where others than this machine can connect.",
    ),
    (408, "The body came too slowly."),
    (413, "The body, or what is to be stored of it, is too large."),
    (
        415,
        "The body comes with a content coding that is not known here.",
    ),
    (422, "What was sent is not valid. Nothing of it is stored."),
    (429, "Too many requests, by METRICS_RATE_LIMIT."),
    (
        503,
        "It cannot be done now: the journal is full, memory is short, the log could not be synced, or is still being read \
         after the start. With `Retry-After` nothing is stored and it may be sent again. Without it the events are stored and \
         have not reached the level that was asked for; `X-Ack` names the one they have.",
    ),
];

const COME_AGAIN: &str = "Seconds after which to come again.";

fn error(status: u16, description: &str) -> Response {
    let content = match status {
        422 => json_of::<Invalid>(),
        _ => json_of::<Refused>(),
    };
    let response = answer(description, content).header("X-Request-Id", text_header("The id of the request."));
    let response = match status {
        401 | 403 => response.header("WWW-Authenticate", text_header("How a key is shown.")),
        429 => response.header("Retry-After", seconds_header(COME_AGAIN)),
        503 => response
            .header("Retry-After", seconds_header(COME_AGAIN))
            .header(
                "X-Ack",
                text_header("The level that is reached by events that are stored all the same."),
            )
            .header("X-Seq", text_header("Their numbers.")),
        _ => response,
    };
    response.build()
}

fn schemes() -> [(&'static str, SecurityScheme); 3] {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A key of METRICS_WRITE_KEYS or METRICS_READ_KEYS."))
        .build();
    let in_header = ApiKeyValue::with_description("X-Api-Key", "The same key.");
    let in_query = ApiKeyValue::with_description("key", "The same key, for those who cannot set headers.");
    [
        ("bearer", SecurityScheme::Http(bearer)),
        ("header", SecurityScheme::ApiKey(ApiKey::Header(in_header))),
        ("query", SecurityScheme::ApiKey(ApiKey::Query(in_query))),
    ]
}

/// An endpoint that takes a key where one is set.
pub fn keyed(id: &str, tag: &str, summary: &str) -> OperationBuilder {
    let none: [&str; 0] = [];
    open(id, tag, summary)
        .security(SecurityRequirement::default())
        .security(SecurityRequirement::new("bearer", none))
        .security(SecurityRequirement::new("header", none))
        .security(SecurityRequirement::new("query", none))
}

/// An endpoint on the read side.
pub fn reading(id: &str, summary: &str) -> OperationBuilder {
    keyed(id, READING, summary)
}

/// An endpoint for everybody.
pub fn open(id: &str, tag: &str, summary: &str) -> OperationBuilder {
    OperationBuilder::new()
        .operation_id(Some(id))
        .tag(tag)
        .summary(Some(summary))
}

/// The parameters that a type has.
pub fn params<T: IntoParams>() -> Vec<Parameter> {
    T::into_params(|| Some(ParameterIn::Query))
}

/// A JSON body of that type.
pub fn json_of<T: ToSchema>() -> (&'static str, Content) {
    (JSON, Content::new(Some(Ref::from_schema_name(T::name()))))
}

/// A body of text.
pub fn text_of(content_type: &'static str, example: &str) -> (&'static str, Content) {
    let content = ContentBuilder::new()
        .schema(Some(simple(Type::String)))
        .example(Some(example.into()));
    (content_type, content.build())
}

/// An answer with a body.
pub fn answer(description: &str, (content_type, content): (&str, Content)) -> ResponseBuilder {
    ResponseBuilder::new()
        .description(description)
        .content(content_type, content)
}

/// A header of an answer.
pub fn text_header(description: &str) -> Header {
    header(Type::String, description)
}

fn seconds_header(description: &str) -> Header {
    header(Type::Integer, description)
}

fn header(kind: Type, description: &str) -> Header {
    HeaderBuilder::new()
        .schema(simple(kind))
        .description(Some(description))
        .build()
}

/// A schema that says no more than the type.
pub fn simple(kind: Type) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(SchemaType::new(kind))
        .build()
        .into()
}
