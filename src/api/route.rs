//! The endpoints: their paths, methods, and which side of the gate they are on.

use super::gate::Side;
use crate::http::KINDS_MAX;
use crate::web::{self, File};

/// An endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Event,
    Batch,
    Behavior,
    Timeseries,
    Funnel,
    Health,
    Stream,
    Metrics,
    OpenApi,
    /// A file: of the dashboard, of the description of the API, or the tracker.
    File(&'static File),
}

/// The kinds of requests before the endpoints': 0 is what nobody has seen here, 1 a path without an endpoint.
const KIND_OF_OTHERS: u8 = 1;
/// All files are counted together, behind the endpoints.
const KIND_OF_FILES: u8 = KIND_OF_OTHERS + 1 + Route::ALL.len() as u8;
const _: () = assert!(
    (KIND_OF_FILES as usize) < KINDS_MAX,
    "every endpoint is counted apart"
);

impl Route {
    /// All but the files.
    pub const ALL: [Route; 9] = [
        Route::Event,
        Route::Batch,
        Route::Behavior,
        Route::Timeseries,
        Route::Funnel,
        Route::Health,
        Route::Stream,
        Route::Metrics,
        Route::OpenApi,
    ];

    /// The endpoint at that path.
    pub fn at(path: &str) -> Option<Route> {
        match path {
            "/api/metrics/event" => Some(Route::Event),
            "/api/metrics/events/batch" => Some(Route::Batch),
            "/api/metrics/behavior" => Some(Route::Behavior),
            "/api/metrics/behavior/timeseries" => Some(Route::Timeseries),
            "/api/metrics/behavior/funnel" => Some(Route::Funnel),
            "/api/metrics/behavior/health" => Some(Route::Health),
            "/api/metrics/behavior/stream" => Some(Route::Stream),
            "/metrics" => Some(Route::Metrics),
            "/openapi.json" => Some(Route::OpenApi),
            _ => web::file_at(path).map(Route::File),
        }
    }

    /// Its path.
    pub fn path(self) -> &'static str {
        match self {
            Route::Event => "/api/metrics/event",
            Route::Batch => "/api/metrics/events/batch",
            Route::Behavior => "/api/metrics/behavior",
            Route::Timeseries => "/api/metrics/behavior/timeseries",
            Route::Funnel => "/api/metrics/behavior/funnel",
            Route::Health => "/api/metrics/behavior/health",
            Route::Stream => "/api/metrics/behavior/stream",
            Route::Metrics => "/metrics",
            Route::OpenApi => "/openapi.json",
            Route::File(file) => file.path,
        }
    }

    /// What it is for. Health is for everybody, and so is the description of the API, which holds no data, and so are files as
    /// far as the gate lets them out.
    pub fn side(self) -> Option<Side> {
        match self {
            Route::Event | Route::Batch => Some(Side::Write),
            Route::Behavior | Route::Timeseries | Route::Funnel | Route::Stream | Route::Metrics => {
                Some(Side::Read)
            }
            Route::Health | Route::OpenApi | Route::File(_) => None,
        }
    }

    /// Whether it is posted to.
    fn is_post(self) -> bool {
        matches!(self, Route::Event | Route::Batch)
    }

    /// Whether it takes that method.
    pub fn takes(self, method: &str) -> bool {
        match self.is_post() {
            true => method == "POST",
            false => method == "GET" || method == "HEAD",
        }
    }

    /// Its methods.
    pub fn methods(self) -> &'static str {
        if self.is_post() { "POST" } else { "GET, HEAD" }
    }

    /// The methods that are answered at its path.
    pub fn allow(self) -> &'static str {
        match self.is_post() {
            true => "POST, OPTIONS",
            false => "GET, HEAD, OPTIONS",
        }
    }

    /// As what requests at a path with that endpoint, or with none, are counted.
    pub fn kind(route: Option<Route>) -> u8 {
        let Some(route) = route else {
            return KIND_OF_OTHERS;
        };
        // The endpoint that is asked for most is the first.
        let place = Route::ALL.iter().position(|known| *known == route);
        place.map_or(KIND_OF_FILES, |place| KIND_OF_OTHERS + 1 + place as u8)
    }

    /// The endpoint that is counted as `kind`; `None` where it is none's.
    pub fn of_kind(kind: u8) -> Option<Route> {
        let place = usize::from(kind).checked_sub(usize::from(KIND_OF_OTHERS) + 1)?;
        Route::ALL.get(place).copied()
    }

    /// What metrics call requests of a kind: by its path, or by what nobody has as a path.
    pub fn label(kind: u8) -> &'static str {
        match Route::of_kind(kind) {
            Some(route) => route.path(),
            None if kind == KIND_OF_FILES => "files",
            None if kind == KIND_OF_OTHERS => "other",
            None => "none",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_has_a_path_and_a_kind_of_its_own() {
        for (place, route) in Route::ALL.into_iter().enumerate() {
            assert_eq!(Route::at(route.path()), Some(route));
            assert_eq!(Route::kind(Some(route)), 2 + place as u8);
            assert_eq!(Route::of_kind(2 + place as u8), Some(route));
            assert_eq!(Route::label(2 + place as u8), route.path());
        }
        assert_eq!((Route::label(0), Route::label(1)), ("none", "other"));
        let file = Route::at("/tracker.js").expect("it is a file");
        assert_eq!(Route::label(Route::kind(Some(file))), "files");
        assert_eq!(Route::of_kind(Route::kind(Some(file))), None);
    }
}
