//! The endpoints: their paths, methods, and which side of the gate they are on.

use super::gate::Side;
use crate::http::KINDS_MAX;

/// An endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Event,
    Batch,
    Behavior,
    Health,
    Metrics,
    OpenApi,
    Docs,
}

/// The kinds of requests before the endpoints': 0 is what nobody has seen here, 1 a path without an endpoint.
const KIND_OF_OTHERS: u8 = 1;
const _: () = assert!(
    KIND_OF_OTHERS as usize + Route::ALL.len() < KINDS_MAX,
    "every endpoint is counted apart"
);

impl Route {
    /// All of them.
    pub const ALL: [Route; 7] = [
        Route::Event,
        Route::Batch,
        Route::Behavior,
        Route::Health,
        Route::Metrics,
        Route::OpenApi,
        Route::Docs,
    ];

    /// The endpoint at that path.
    pub fn at(path: &str) -> Option<Route> {
        match path {
            "/api/metrics/event" => Some(Route::Event),
            "/api/metrics/events/batch" => Some(Route::Batch),
            "/api/metrics/behavior" => Some(Route::Behavior),
            "/api/metrics/behavior/health" => Some(Route::Health),
            "/metrics" => Some(Route::Metrics),
            "/openapi.json" => Some(Route::OpenApi),
            "/docs" => Some(Route::Docs),
            _ => None,
        }
    }

    /// Its path.
    pub fn path(self) -> &'static str {
        match self {
            Route::Event => "/api/metrics/event",
            Route::Batch => "/api/metrics/events/batch",
            Route::Behavior => "/api/metrics/behavior",
            Route::Health => "/api/metrics/behavior/health",
            Route::Metrics => "/metrics",
            Route::OpenApi => "/openapi.json",
            Route::Docs => "/docs",
        }
    }

    /// What it is for. Health is for everybody, and so is the description of the API, which holds no data.
    pub fn side(self) -> Option<Side> {
        match self {
            Route::Event | Route::Batch => Some(Side::Write),
            Route::Behavior | Route::Metrics => Some(Side::Read),
            Route::Health | Route::OpenApi | Route::Docs => None,
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
        // The endpoint that is asked for most is the first.
        let place = route.and_then(|route| Route::ALL.iter().position(|known| *known == route));
        place.map_or(KIND_OF_OTHERS, |place| KIND_OF_OTHERS + 1 + place as u8)
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
        assert_eq!(Route::of_kind(2 + Route::ALL.len() as u8), None);
    }
}
