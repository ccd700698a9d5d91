//! Settings of librdkafka: ours, and those that somebody has put into a file, as `security.protocol=SASL_SSL`.

use std::path::Path;

use rdkafka::ClientConfig;

use super::{INFLIGHT_BYTES, INFLIGHT_MAX, KafkaUrl};

/// What our promises hang on, and what the address says: not to be had from a file.
const OURS: [&str; 10] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "enable.idempotence",
    "acks",
    "request.required.acks",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "transactional.id",
    "queue.buffering.max.messages",
    "queue.buffering.max.kbytes",
];

/// Further settings of librdkafka.
#[derive(Clone, Default)]
pub struct Properties(Vec<(String, String)>);

impl Properties {
    /// Reads a file with a `name=value` in each line; empty lines and those that begin with `#` are skipped.
    ///
    /// # Errors
    /// A sentence with the file, and the line that is wrong, without its value.
    pub fn read(path: &Path) -> Result<Properties, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Properties::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn parse(text: &str) -> Result<Properties, String> {
        let mut properties = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = line
                .split_once('=')
                .ok_or_else(|| format!("line {} is no `name=value`", at + 1))?;
            let (name, value) = (name.trim(), value.trim());
            if OURS.contains(&name) {
                return Err(format!("line {}: {name} is not yours to set", at + 1));
            }
            properties.push((name.to_owned(), value.to_owned()));
        }
        Ok(Properties(properties))
    }

    /// The whole of them, for a producer to `url`.
    pub(super) fn config(&self, url: &KafkaUrl) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("client.id", "floodgate")
            // What everybody else's clients do: a visitor is in the partition in which they would put it.
            .set("partitioner", "murmur2_random")
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            .set("socket.keepalive.enable", "true");
        for (name, value) in &self.0 {
            config.set(name, value);
        }
        config
            .set("bootstrap.servers", url.brokers())
            // Implies acks=all, and order within a partition whatever has to be sent again.
            .set("enable.idempotence", "true")
            // For as long as it takes: what is given up would be a hole.
            .set("message.timeout.ms", "0")
            .set("queue.buffering.max.messages", (INFLIGHT_MAX + 1).to_string())
            .set(
                "queue.buffering.max.kbytes",
                ((2 * INFLIGHT_BYTES) >> 10).to_string(),
            );
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_adds_to_our_settings_and_takes_none_back() {
        let text = "# a comment\n\nlinger.ms = 50\nsasl.password=a=b#c\n";
        let url = KafkaUrl::parse("kafka://a:1/t").unwrap();
        let config = Properties::parse(text).unwrap().config(&url);
        let get = |name| config.get(name);
        assert_eq!(
            (get("linger.ms"), get("sasl.password")),
            (Some("50"), Some("a=b#c"))
        );
        assert_eq!(
            (get("enable.idempotence"), get("bootstrap.servers")),
            (Some("true"), Some("a:1"))
        );
        for name in OURS {
            let error = Properties::parse(&format!("\n{name}=secret")).err().unwrap();
            assert!(
                error.starts_with("line 2: ") && !error.contains("secret"),
                "{error}"
            );
        }
        assert!(
            Properties::parse("sasl.password")
                .err()
                .unwrap()
                .starts_with("line 1")
        );
    }
}
