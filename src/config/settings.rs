//! The list of settings.

/// One setting: an environment variable and a flag of the same name.
pub struct Setting {
    /// The environment variable.
    pub variable: &'static str,
    /// The flag, without its dashes.
    pub flag: &'static str,
    /// What a value stands for in the help text.
    pub value: &'static str,
    /// The value if none is given.
    pub default: &'static str,
    /// The help text: what it does, and why the default is what it is.
    pub help: &'static str,
}

/// The setting of that variable.
pub fn find(variable: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.variable == variable)
}

/// Whether nobody may be shown the value of that variable.
pub fn is_secret(variable: &str) -> bool {
    matches!(
        variable,
        "METRICS_WRITE_KEYS" | "METRICS_READ_KEYS" | "METRICS_NATS_PASSWORD" | "METRICS_NATS_TOKEN"
    )
}

/// All settings, in the order in which help and README show them.
pub const SETTINGS: &[Setting] = &[
    Setting {
        variable: "METRICS_BIND",
        flag: "bind",
        value: "ADDRESSES",
        default: "127.0.0.1:8001",
        help: "Where to listen, a list with commas: IP addresses with a port (port 0 takes a free one), Unix sockets \
               (`unix:/run/floodgate.sock`), `systemd` for the sockets that the service manager passes; when this is not \
               set and sockets are passed, they are used",
    },
    Setting {
        variable: "METRICS_BACKLOG",
        flag: "backlog",
        value: "COUNT",
        default: "4096",
        help: "Connections that may wait to be accepted; the default is what Linux allows, and more needs a larger \
               `net.core.somaxconn`",
    },
    Setting {
        variable: "METRICS_ACCEPTORS",
        flag: "acceptors",
        value: "COUNT",
        default: "",
        help: "Sockets (`SO_REUSEPORT`), each with its acceptor, for a TCP address [default: one for every three workers]; \
               accepting is a third of what a connection with a single request costs, so one acceptor keeps three \
               workers busy",
    },
    Setting {
        variable: "METRICS_TLS_CERT",
        flag: "tls-cert",
        value: "FILE",
        default: "",
        help: "Certificate chain (PEM, the server's own first) that makes every TCP address speak TLS; Unix sockets stay \
               plain. Read again on SIGHUP",
    },
    Setting {
        variable: "METRICS_TLS_KEY",
        flag: "tls-key",
        value: "FILE",
        default: "",
        help: "Private key (PEM) of the certificate. Read again on SIGHUP",
    },
    Setting {
        variable: "METRICS_JSONL",
        flag: "jsonl",
        value: "FILE",
        default: "./data/metrics.jsonl",
        help: "The log: an append-only file with one event a line",
    },
    Setting {
        variable: "METRICS_JOURNAL",
        flag: "journal",
        value: "FILE",
        default: "",
        help: "The journal that makes a 202 survive kill -9, private to the process [default: beside the log, with the \
               extension .journal]; `memory` where the file system has no shared mappings: nothing survives the \
               process then, and the level `journaled` is called `queued`",
    },
    Setting {
        variable: "METRICS_JOURNAL_BYTES_MAX",
        flag: "journal-bytes-max",
        value: "SIZE",
        default: "256MiB",
        help: "Bound of the journal; when it is full, events are refused with 503. The default holds 64,000 requests \
               with an event each, or a million events in batches, while the log's disk hangs",
    },
    Setting {
        variable: "METRICS_RING_CAPACITY",
        flag: "ring-capacity",
        value: "EVENTS",
        default: "500",
        help: "Events in the recent window, and the largest `limit` of a snapshot",
    },
    Setting {
        variable: "METRICS_WORKERS",
        flag: "workers",
        value: "THREADS",
        default: "",
        help: "Threads that run connections [default: one a core]",
    },
    Setting {
        variable: "METRICS_CONNECTIONS_MAX",
        flag: "connections-max",
        value: "COUNT",
        default: "10000",
        help: "Connections open at once; the surplus is answered 503 and closed",
    },
    Setting {
        variable: "METRICS_HEAD_TIMEOUT",
        flag: "head-timeout",
        value: "DURATION",
        default: "10s",
        help: "How long a request head may take from its first byte, the first of a connection from when it was accepted. \
               Room for two lost packets, and no more than that for those who drip heads to hold connections",
    },
    Setting {
        variable: "METRICS_BODY_RATE_MIN",
        flag: "body-rate-min",
        value: "SIZE",
        default: "1KiB",
        help: "Bytes a second that a request body comes with at the least, on average; `0` for none. A phone at the edge \
               of its cell is faster. What is kept of a body (METRICS_INFLIGHT_BYTES_MAX) must besides be able to come \
               within 10 minutes: 64 MiB at 110 KiB a second",
    },
    Setting {
        variable: "METRICS_BODY_GRACE",
        flag: "body-grace",
        value: "DURATION",
        default: "10s",
        help: "How long a request body may stand still, and how far it may fall behind its rate. A change of network takes \
               a few seconds",
    },
    Setting {
        variable: "METRICS_IDLE_TIMEOUT",
        flag: "idle-timeout",
        value: "DURATION",
        default: "75s",
        help: "How long a connection may wait for its next request. Longer than the 60 s of common proxies, so that it is \
               they who close and no request meets a closed connection",
    },
    Setting {
        variable: "METRICS_WRITE_TIMEOUT",
        flag: "write-timeout",
        value: "DURATION",
        default: "30s",
        help: "How long an answer may make no progress before its connection is closed. A peer that has read nothing for \
               so long is gone or does not want to",
    },
    Setting {
        variable: "METRICS_ACK",
        flag: "ack",
        value: "LEVEL",
        default: "journaled",
        help: "What a 202 promises when the request names nothing else: `journaled` (survives kill -9), `written` (in \
               the log, visible to tailers) or `synced` (on the disk)",
    },
    Setting {
        variable: "METRICS_FSYNC",
        flag: "fsync",
        value: "WHEN",
        default: "1s",
        help: "When the log is synced though nobody waits for it: `never`, `always` (after each write), or an \
               interval (sooner when 16 MiB are new, so that a sync never has much to do)",
    },
    Setting {
        variable: "METRICS_PAGE_CACHE",
        flag: "page-cache",
        value: "SIZE",
        default: "32MiB",
        help: "The newest part of the log that stays in the page cache once it is on the disk, for those who follow it; \
               older parts are dropped from there and leave the memory to others, and are read from the disk. `all` \
               leaves it to the kernel",
    },
    Setting {
        variable: "METRICS_LINE_SEQ",
        flag: "line-seq",
        value: "SWITCH",
        default: "off",
        help: "`on` begins every line with its number, `\"seq\":N`, without a gap over the log's life: who reads it can prove that \
               nothing is missing or twice",
    },
    Setting {
        variable: "METRICS_ROTATE_BYTES",
        flag: "rotate-bytes",
        value: "SIZE",
        default: "256MiB",
        help: "The live file is sealed (renamed) and another begun when it has this many bytes; a file of the default is \
               read in a second. `off`: never for its size",
    },
    Setting {
        variable: "METRICS_ROTATE_EVERY",
        flag: "rotate-every",
        value: "PERIOD",
        default: "off",
        help: "The live file is sealed when a period is over: `hourly`, `daily`, `weekly` (UTC, weeks begin on Monday), or a \
               duration such as `15m`, counted from 1970. `off`: never for the time. SIGUSR1 seals it at any time",
    },
    Setting {
        variable: "METRICS_ROTATE_REST",
        flag: "rotate-rest",
        value: "DURATION",
        default: "250ms",
        help: "How long nothing is written before the live file is renamed, so that those who follow it read it to its end; \
               meanwhile events go into the journal",
    },
    Setting {
        variable: "METRICS_COMPRESS_AFTER",
        flag: "compress-after",
        value: "DURATION",
        default: "off",
        help: "How long after it was sealed a file is compressed (zstd) into `archive/` beside the log; `off`: never. Off, because \
               those who follow the log by `metrics*.jsonl` must have read a file before it goes: `10m` is a good choice",
    },
    Setting {
        variable: "METRICS_COMPRESS_LEVEL",
        flag: "compress-level",
        value: "LEVEL",
        default: "3",
        help: "The level of zstd, 1 to 19: higher ones take more time and memory for smaller files",
    },
    Setting {
        variable: "METRICS_RETAIN_FOR",
        flag: "retain-for",
        value: "DURATION",
        default: "off",
        help: "How long sealed files are kept, counted from their last line, as `720h` or `30d`; `off`: for good. Their summaries \
               stay, so lifetime counts do not change. Off, because deleting is yours to decide",
    },
    Setting {
        variable: "METRICS_RETAIN_BYTES",
        flag: "retain-bytes",
        value: "SIZE",
        default: "off",
        help: "Bytes that sealed files may take on the disk, compressed or not; the oldest are removed when there are more. A file \
               stays for a minute after it was sealed in any case",
    },
    Setting {
        variable: "METRICS_RETAIN_FILES",
        flag: "retain-files",
        value: "COUNT",
        default: "off",
        help: "How many sealed files are kept; the oldest are removed when there are more",
    },
    Setting {
        variable: "METRICS_ARCHIVE_URL",
        flag: "archive-url",
        value: "URL",
        default: "off",
        help: "Where sealed files are uploaded, after their compression if that is on: `s3://bucket/prefix`, `gs://bucket/prefix`, \
               `az://container/prefix` or `file:///folder`; credentials come from the environment (`AWS_…`, `GOOGLE_…`, `AZURE_…`). \
               Each upload is read back and compared, and no file is removed before that. Each log needs a prefix of its own",
    },
    Setting {
        variable: "METRICS_ARCHIVE_LAYOUT",
        flag: "archive-layout",
        value: "LAYOUT",
        default: "flat",
        help: "`flat`: all files beside each other; `partitioned`: in `date=YYYY-MM-DD/node=NAME/`, by the day on which a file was \
               begun (UTC) and by METRICS_NODE, as DuckDB, ClickHouse and Spark read it. Nodes with names of their own may \
               share a prefix then",
    },
    Setting {
        variable: "METRICS_PUBLISH_INTERVAL",
        flag: "publish-interval",
        value: "DURATION",
        default: "1ms",
        help: "How long the writer gathers events before it appends them to the log; one write for all of them is what \
               makes an event cheap",
    },
    Setting {
        variable: "METRICS_ENQUEUE_TIMEOUT",
        flag: "enqueue-timeout",
        value: "DURATION",
        default: "1s",
        help: "How long a request waits for room in a full journal before it is refused",
    },
    Setting {
        variable: "METRICS_ACK_TIMEOUT",
        flag: "ack-timeout",
        value: "DURATION",
        default: "10s",
        help: "How long a request waits for `written` or `synced` before it is answered 503",
    },
    Setting {
        variable: "METRICS_QUERY_TIMEOUT",
        flag: "query-timeout",
        value: "DURATION",
        default: "10s",
        help: "How long a read that has to look into the log's files may take, waiting for its turn included; by then it is \
               answered 503, or with what was found where the answer can say that it is not complete",
    },
    Setting {
        variable: "METRICS_HEAD_BYTES_MAX",
        flag: "head-bytes-max",
        value: "SIZE",
        default: "16KiB",
        help: "Longest request head; a longer one is answered 431. What common servers agree on: cookies fit, abuse does not",
    },
    Setting {
        variable: "METRICS_HEADERS_MAX",
        flag: "headers-max",
        value: "COUNT",
        default: "128",
        help: "Most headers of a request; more are answered 431. Browsers send some 20, proxies add a few",
    },
    Setting {
        variable: "METRICS_TARGET_BYTES_MAX",
        flag: "target-bytes-max",
        value: "SIZE",
        default: "8KiB",
        help: "Longest request target (path and query); a longer one is answered 414. RFC 9112 asks for 8,000 bytes at least",
    },
    Setting {
        variable: "METRICS_EVENT_BYTES_MAX",
        flag: "event-bytes-max",
        value: "SIZE",
        default: "1MiB",
        help: "Longest body of a single event",
    },
    Setting {
        variable: "METRICS_BATCH_BYTES_MAX",
        flag: "batch-bytes-max",
        value: "SIZE",
        default: "64MiB",
        help: "Longest body of a batch, also after unpacking",
    },
    Setting {
        variable: "METRICS_INFLIGHT_BYTES_MAX",
        flag: "inflight-bytes-max",
        value: "SIZE",
        default: "256MiB",
        help: "Bytes that are kept of requests while they come, over all connections: of a batch its lines, of an array its body \
               too; beyond that requests are refused with 503. The default holds four of the longest batches; the first \
               64 KiB of each request, and what a long partial batch has stored, do not count",
    },
    Setting {
        variable: "METRICS_LINE_BYTES_MAX",
        flag: "line-bytes-max",
        value: "SIZE",
        default: "32KiB",
        help: "Longest stored line; a larger event is refused with 422. The default is what Fluent Bit reads",
    },
    Setting {
        variable: "METRICS_EVENT_NAMES_MAX",
        flag: "event-names-max",
        value: "COUNT",
        default: "10000",
        help: "Event names counted apart; further ones are counted as `__other__`",
    },
    Setting {
        variable: "METRICS_STREAM_SUBSCRIBERS_MAX",
        flag: "stream-subscribers-max",
        value: "COUNT",
        default: "2000",
        help: "Subscribers of the live stream at a time; the surplus is answered 503. Each takes some 12 KiB, and one that \
               does not read what it is sent up to 128 KiB more",
    },
    Setting {
        variable: "METRICS_STREAM_LAG_MAX",
        flag: "stream-lag-max",
        value: "SIZE",
        default: "256MiB",
        help: "How much of the log a subscriber of the live stream may fall behind before it is told how many events it misses \
               and goes on at the end; `off`: it may lag however far. It lags on the disk, where what is further behind than \
               METRICS_PAGE_CACHE has to be read again; the default is a file of the log",
    },
    Setting {
        variable: "METRICS_PUBLIC_READS",
        flag: "public-reads",
        value: "SWITCH",
        default: "off",
        help: "`on` opens the read side (snapshot, metrics, health's details) to everybody, without a key; otherwise it \
               takes a read key, and where none is set it answers on loopback only",
    },
    Setting {
        variable: "METRICS_WRITE_KEYS",
        flag: "write-keys",
        value: "KEYS",
        default: "",
        help: "Keys for writing, separated by commas, each `key` or `name:key`, 16 to 128 characters; without \
               any everybody may write. Better kept in a file",
    },
    Setting {
        variable: "METRICS_WRITE_KEYS_FILE",
        flag: "write-keys-file",
        value: "FILE",
        default: "",
        help: "A file with more of them, one a line, lines with `#` skipped; read again on SIGHUP",
    },
    Setting {
        variable: "METRICS_READ_KEYS",
        flag: "read-keys",
        value: "KEYS",
        default: "",
        help: "Keys for reading, spelled alike; once there is one, reading takes one on loopback too",
    },
    Setting {
        variable: "METRICS_READ_KEYS_FILE",
        flag: "read-keys-file",
        value: "FILE",
        default: "",
        help: "A file with more of them, as METRICS_WRITE_KEYS_FILE",
    },
    Setting {
        variable: "METRICS_CORS_ORIGINS",
        flag: "cors-origins",
        value: "ORIGINS",
        default: "",
        help: "Pages that may use this server from a browser: their origins, as `https://example.org`, \
               separated by commas; `*` lets every page write",
    },
    Setting {
        variable: "METRICS_RATE_LIMIT",
        flag: "rate-limit",
        value: "RATE",
        default: "off",
        help: "How many requests one key, or else one address, may make: `off`, or as `100/s`, `6000/m`, \
               `1000/h`; more are answered 429. Off, because only you know what your clients send",
    },
    Setting {
        variable: "METRICS_RATE_BURST",
        flag: "rate-burst",
        value: "REQUESTS",
        default: "",
        help: "How many of them may come at once [default: the number in METRICS_RATE_LIMIT]",
    },
    Setting {
        variable: "METRICS_TRUSTED_PROXIES",
        flag: "trusted-proxies",
        value: "NETWORKS",
        default: "",
        help: "Proxies whose X-Forwarded-For is believed: addresses, networks as `10.0.0.0/8`, `unix` for peers \
               on Unix sockets, separated by commas. Nobody by default, as everybody can send that header",
    },
    Setting {
        variable: "METRICS_ACCESS_LOG",
        flag: "access-log",
        value: "TARGET",
        default: "off",
        help: "A JSON line for each request: `off`, `stderr`, or a file, which is opened again on SIGHUP. Off, \
               because it costs as much as storing the event",
    },
    Setting {
        variable: "METRICS_ACCESS_SAMPLE",
        flag: "access-sample",
        value: "COUNT",
        default: "1",
        help: "Of so many requests that went well one is logged; those that did not always are",
    },
    Setting {
        variable: "METRICS_NODE",
        flag: "node",
        value: "NAME",
        default: "",
        help: "What this node is called among others, in streams, subjects and lines of a fleet: letters, digits, `-` \
               and `_` [default: the machine's name up to its first dot]",
    },
    Setting {
        variable: "METRICS_SHIP_URL",
        flag: "ship-url",
        value: "URLS",
        default: "off",
        help: "Servers of NATS to whose JetStream the log is shipped, `nats://host:4222` or `tls://host:4222`, several \
               of a cluster separated by commas; each event exactly once and in order. While they are down the log is \
               what waits",
    },
    Setting {
        variable: "METRICS_SHIP_PACK",
        flag: "ship-pack",
        value: "SWITCH",
        default: "off",
        help: "`on` ships many lines in a message (up to 256 KiB, subject `metrics.<node>._frame`) instead of one \
               (`metrics.<node>.<event>`): some twenty times as fast, and a consumer splits them at newlines",
    },
    Setting {
        variable: "METRICS_SHIP_STREAM",
        flag: "ship-stream",
        value: "NAME",
        default: "metrics",
        help: "The name of the fleet: a node's stream is `<name>-<node>`, its subjects begin with `<name>.<node>.`",
    },
    Setting {
        variable: "METRICS_SHIP_REPLICAS",
        flag: "ship-replicas",
        value: "COUNT",
        default: "3",
        help: "Servers of NATS that hold the stream; three, so that one may be lost. A server alone takes `1` only",
    },
    Setting {
        variable: "METRICS_SHIP_KEEP_FOR",
        flag: "ship-keep-for",
        value: "DURATION",
        default: "7d",
        help: "How long the stream keeps messages, as `24h` or `30d`; `off`: for good. Long enough for who reads it to \
               be mended",
    },
    Setting {
        variable: "METRICS_SHIP_KEEP_BYTES",
        flag: "ship-keep-bytes",
        value: "SIZE",
        default: "off",
        help: "Bytes that the stream keeps, the newest; `off`: as many as come in METRICS_SHIP_KEEP_FOR",
    },
    Setting {
        variable: "METRICS_SHIP_DUPLICATES",
        flag: "ship-duplicates",
        value: "DURATION",
        default: "2m",
        help: "How long the stream knows messages again by their id. Not what makes shipping exact, which the numbers of \
               messages do; a second guard",
    },
    Setting {
        variable: "METRICS_SHIP_INFLIGHT",
        flag: "ship-inflight",
        value: "COUNT",
        default: "512",
        help: "Messages that may be under way to the stream unacknowledged, beside a bound of 8 MiB",
    },
    Setting {
        variable: "METRICS_SHIP_HOLD",
        flag: "ship-hold",
        value: "SIZE",
        default: "64GiB",
        help: "How much of the log retention leaves in place because it is not shipped yet; beyond that the oldest goes, \
               loudly. A full disk would refuse events",
    },
    Setting {
        variable: "METRICS_FROM",
        flag: "from",
        value: "URLS",
        default: "off",
        help: "Makes this node a view of a whole fleet: it takes no events, but reads what nodes have shipped to these \
               servers of NATS, and answers for all of them, or for some with `?node=`",
    },
    Setting {
        variable: "METRICS_NATS_USER",
        flag: "nats-user",
        value: "NAME",
        default: "",
        help: "User for NATS, with METRICS_NATS_PASSWORD",
    },
    Setting {
        variable: "METRICS_NATS_PASSWORD",
        flag: "nats-password",
        value: "PASSWORD",
        default: "",
        help: "Password for NATS",
    },
    Setting {
        variable: "METRICS_NATS_TOKEN",
        flag: "nats-token",
        value: "TOKEN",
        default: "",
        help: "Token for NATS, in place of user and password",
    },
    Setting {
        variable: "METRICS_NATS_CREDENTIALS",
        flag: "nats-credentials",
        value: "FILE",
        default: "",
        help: "Credentials file for NATS, as `nsc` writes it, in place of user and password",
    },
    Setting {
        variable: "METRICS_NATS_CA",
        flag: "nats-ca",
        value: "FILE",
        default: "",
        help: "Certificate authorities (PEM) by which servers of NATS are known, in place of the system's",
    },
    Setting {
        variable: "METRICS_NATS_CERT",
        flag: "nats-cert",
        value: "FILE",
        default: "",
        help: "Certificate (PEM) that is shown to NATS, with METRICS_NATS_KEY",
    },
    Setting {
        variable: "METRICS_NATS_KEY",
        flag: "nats-key",
        value: "FILE",
        default: "",
        help: "Private key (PEM) of that certificate",
    },
    Setting {
        variable: "METRICS_SHUTDOWN_TIMEOUT",
        flag: "shutdown-timeout",
        value: "DURATION",
        default: "10s",
        help: "How long SIGTERM waits for requests in flight and for the log; what is not written by then stays in the \
               journal for the next start",
    },
    Setting {
        variable: "METRICS_LOG_FORMAT",
        flag: "log-format",
        value: "FORMAT",
        default: "text",
        help: "How the program's own messages are written to stderr: `text` or `json`",
    },
    Setting {
        variable: "METRICS_LOG_LEVEL",
        flag: "log-level",
        value: "LEVEL",
        default: "info",
        help: "The least that is told of the program's own doings: `error`, `warn`, `info` or `debug` (each message that is shipped)",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_in_the_readme_is_the_list_of_settings() {
        let readme = include_str!("../../README.md");
        let (_, table) = readme.split_once("<!-- settings:").unwrap();
        let (table, _) = table.split_once("<!-- /settings -->").unwrap();
        let rows: Vec<&str> = table.lines().skip(3).collect();
        let row = |setting: &Setting| {
            let default = if setting.default.is_empty() {
                String::new()
            } else {
                format!("`{}`", setting.default)
            };
            format!("| `{}` | {default} | {} |", setting.variable, setting.help)
        };
        assert_eq!(rows, SETTINGS.iter().map(row).collect::<Vec<_>>());
    }
}
