//! What `/metrics` says.

use std::collections::HashMap;

use super::http::Client;

pub const METRICS: &str = "/metrics";

/// The samples of one scrape, by name and labels as they are spelled.
#[derive(Debug)]
pub struct Scrape(HashMap<String, f64>);

impl Scrape {
    /// Asks on that connection.
    pub fn of(client: &mut Client) -> Scrape {
        Scrape::parse(&client.get(METRICS).expect(200).text())
    }

    /// Panics where a line is not a sample, or one is there twice.
    pub fn parse(text: &str) -> Scrape {
        let mut samples = HashMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').expect("a sample has a value");
            let value = value.parse().unwrap_or_else(|_| panic!("not a number: {line}"));
            let before = samples.insert(name.to_owned(), value);
            assert!(before.is_none(), "twice: {line}");
        }
        Scrape(samples)
    }

    /// The value of a sample that is there.
    pub fn get(&self, name: &str) -> f64 {
        self.find(name)
            .unwrap_or_else(|| panic!("{name} is not among {self:?}"))
    }

    pub fn find(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// Requests answered at a route with a status.
    pub fn requests(&self, route: &str, status: u16) -> f64 {
        let name = format!("floodgate_http_requests_total{{route=\"{route}\",status=\"{status}\"}}");
        self.find(&name).unwrap_or(0.0)
    }

    /// Requests refused for a reason.
    pub fn refused(&self, reason: &str) -> f64 {
        self.get(&format!(
            "floodgate_http_requests_refused_total{{reason=\"{reason}\"}}"
        ))
    }

    /// The buckets of a histogram, cumulative, by bound.
    pub fn buckets(&self, name: &str) -> Vec<(f64, f64)> {
        let start = format!("{name}_bucket{{le=\"");
        let bound = |name: &str| Some(name.strip_prefix(&start)?.strip_suffix("\"}")?.parse().unwrap());
        let mut buckets: Vec<(f64, f64)> = self
            .0
            .iter()
            .filter_map(|(name, count)| Some((bound(name)?, *count)))
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        buckets
    }
}
