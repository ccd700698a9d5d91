//! The endpoints: their paths, methods, and which side of the gate they are on.

use super::gate::Side;
use crate::web::{self, File};

/// An endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Event,
    Batch,
    Behavior,
    Health,
    /// A file of the dashboard or the tracker.
    File(&'static File),
}

impl Route {
    /// The endpoint at that path.
    pub fn at(path: &str) -> Option<Route> {
        match path {
            "/api/metrics/event" => Some(Route::Event),
            "/api/metrics/events/batch" => Some(Route::Batch),
            "/api/metrics/behavior" => Some(Route::Behavior),
            "/api/metrics/behavior/health" => Some(Route::Health),
            _ => web::file_at(path).map(Route::File),
        }
    }

    /// What it is for; health is for everybody, and so are files as far as the gate lets them out.
    pub fn side(self) -> Option<Side> {
        match self {
            Route::Event | Route::Batch => Some(Side::Write),
            Route::Behavior => Some(Side::Read),
            Route::Health => None,
            Route::File(_) => None,
        }
    }

    /// Whether it takes that method.
    pub fn takes(self, method: &str) -> bool {
        match self {
            Route::Event | Route::Batch => method == "POST",
            Route::Behavior | Route::Health => method == "GET" || method == "HEAD",
            Route::File(_) => method == "GET" || method == "HEAD",
        }
    }

    /// Its methods.
    pub fn methods(self) -> &'static str {
        match self {
            Route::Event | Route::Batch => "POST",
            Route::Behavior | Route::Health => "GET, HEAD",
            Route::File(_) => "GET, HEAD",
        }
    }

    /// The methods that are answered at its path.
    pub fn allow(self) -> &'static str {
        match self {
            Route::Event | Route::Batch => "POST, OPTIONS",
            Route::Behavior | Route::Health => "GET, HEAD, OPTIONS",
            Route::File(_) => "GET, HEAD, OPTIONS",
        }
    }
}
