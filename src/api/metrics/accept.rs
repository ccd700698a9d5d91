//! Which of the two formats a scraper prefers.

/// Whether an `Accept` header prefers OpenMetrics to plain text. Where both are as welcome, as to `*/*`, it is plain text.
pub fn prefers_open_metrics(accept: &[u8]) -> bool {
    let accept = String::from_utf8_lossy(accept);
    let (mut open, mut plain) = (0, 0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut quality, mut is_spoken) = (1000, true);
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => quality = thousandths(value),
                "version" if kind == "application/openmetrics-text" => {
                    is_spoken = value == "1.0.0" || value == "0.0.1";
                }
                _ => {}
            }
        }
        match kind.as_str() {
            "application/openmetrics-text" if is_spoken => open = open.max(quality),
            "text/plain" | "text/*" | "*/*" => plain = plain.max(quality),
            _ => {}
        }
    }
    open > plain
}

/// A quality such as `0.75`; what is none counts as the best.
fn thousandths(text: &str) -> u16 {
    let quality = text.parse::<f32>().unwrap_or(1.0);
    (quality.clamp(0.0, 1.0) * 1000.0) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_spoken_to_those_who_prefer_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let since_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=1.0.0;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for accept in [
            prometheus,
            since_3,
            "application/openmetrics-text",
            "Application/OpenMetrics-Text; Q=0.2, text/plain; q=0.1",
            "text/html, application/openmetrics-text; version=\"1.0.0\"",
        ] {
            assert!(prefers_open_metrics(accept.as_bytes()), "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/plain",
            "text/plain;version=0.0.4",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "application/openmetrics-text;q=0.5,text/plain;q=0.9",
            "application/openmetrics-text,*/*",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;version=2.0.0",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
            ";;,,=",
        ] {
            assert!(!prefers_open_metrics(accept.as_bytes()), "{accept}");
        }
        assert!(!prefers_open_metrics(b"\xff\xfe"));
    }
}
