//! The endpoints: their paths, methods, and which side of the gate they are on.

use super::gate::Side;

/// An endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Event,
    Batch,
    Behavior,
    Health,
    Stream,
}

impl Route {
    /// The endpoint at that path.
    pub fn at(path: &str) -> Option<Route> {
        match path {
            "/api/metrics/event" => Some(Route::Event),
            "/api/metrics/events/batch" => Some(Route::Batch),
            "/api/metrics/behavior" => Some(Route::Behavior),
            "/api/metrics/behavior/health" => Some(Route::Health),
            "/api/metrics/behavior/stream" => Some(Route::Stream),
            _ => None,
        }
    }

    /// What it is for; health is for everybody.
    pub fn side(self) -> Option<Side> {
        match self {
            Route::Event | Route::Batch => Some(Side::Write),
            Route::Behavior | Route::Stream => Some(Side::Read),
            Route::Health => None,
        }
    }

    /// Whether it takes that method.
    pub fn takes(self, method: &str) -> bool {
        match self {
            Route::Event | Route::Batch => method == "POST",
            Route::Behavior | Route::Health | Route::Stream => method == "GET" || method == "HEAD",
        }
    }

    /// Its methods.
    pub fn methods(self) -> &'static str {
        match self {
            Route::Event | Route::Batch => "POST",
            Route::Behavior | Route::Health | Route::Stream => "GET, HEAD",
        }
    }

    /// The methods that are answered at its path.
    pub fn allow(self) -> &'static str {
        match self {
            Route::Event | Route::Batch => "POST, OPTIONS",
            Route::Behavior | Route::Health | Route::Stream => "GET, HEAD, OPTIONS",
        }
    }
}
