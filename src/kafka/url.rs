//! Where to ship: `kafka://host:port[,host:port…]/topic`.

use std::fmt;

/// Longest name of a topic, as Kafka has it.
const TOPIC_BYTES_MAX: usize = 249;

/// Brokers to begin with, and a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaUrl {
    brokers: String,
    topic: String,
}

impl KafkaUrl {
    /// Reads one.
    ///
    /// # Errors
    /// What is allowed instead, as a clause.
    pub fn parse(text: &str) -> Result<KafkaUrl, String> {
        let allowed = || "it is `kafka://host:port/topic`, several brokers separated by commas".to_owned();
        let rest = text.strip_prefix("kafka://").ok_or_else(allowed)?;
        let (brokers, topic) = rest.split_once('/').ok_or_else(allowed)?;
        if brokers.contains('@') {
            return Err("it holds no credentials: those come from the file of --kafka-config".into());
        }
        let is_broker = |broker: &str| {
            let (host, port) = broker.rsplit_once(':')?;
            let is_host = !host.is_empty()
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte));
            (is_host && port.parse::<u16>().is_ok_and(|port| port > 0)).then_some(())
        };
        let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_topic = (1..=TOPIC_BYTES_MAX).contains(&topic.len())
            && topic.bytes().all(is_safe)
            && ![".", ".."].contains(&topic);
        if !is_topic || brokers.split(',').any(|broker| is_broker(broker).is_none()) {
            return Err(allowed());
        }
        Ok(KafkaUrl {
            brokers: brokers.to_owned(),
            topic: topic.to_owned(),
        })
    }

    /// The brokers, separated by commas.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// What the bookmark calls it: which broker is asked first does not matter.
    pub fn stream(&self) -> String {
        format!("kafka:{}", self.topic)
    }
}

impl fmt::Display for KafkaUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kafka://{}/{}", self.brokers, self.topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_others_refused_with_what_is_allowed() {
        for (text, brokers, topic) in [
            ("kafka://localhost:9092/metrics", "localhost:9092", "metrics"),
            (
                "kafka://a:1,b.example.org:2/a.b_c-D",
                "a:1,b.example.org:2",
                "a.b_c-D",
            ),
            ("kafka://[::1]:9092/m", "[::1]:9092", "m"),
        ] {
            let url = KafkaUrl::parse(text).unwrap();
            assert_eq!((url.brokers(), url.topic()), (brokers, topic));
            assert_eq!(url.to_string(), text);
            assert_eq!(url.stream(), format!("kafka:{topic}"));
        }
        let long = format!("kafka://a:1/{}", "x".repeat(250));
        for text in [
            "kafka://",
            "kafka://a:1",
            "kafka://a:1/",
            "kafka://a/t",
            "kafka://a:0/t",
            "kafka://a:1,/t",
            "kafka://:1/t",
            "kafka://a:1/a/b",
            "kafka://a:1/a b",
            "kafka://a:1/..",
            "nats://a:1/t",
            &long,
        ] {
            let allowed = KafkaUrl::parse(text).unwrap_err();
            assert!(allowed.contains("`kafka://host:port/topic`"), "{text}: {allowed}");
        }
        assert!(
            KafkaUrl::parse("kafka://me:secret@a:1/t")
                .unwrap_err()
                .contains("no credentials")
        );
    }
}
