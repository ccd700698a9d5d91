//! A cluster of NATS servers with JetStream, on loopback: Debian's `nats-server`, which `scripts/test` installs.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::{Context, GetStreamError, GetStreamErrorKind};
use async_nats::jetstream::stream::PeerInfo;
use futures_util::StreamExt;
use rustix::process::{Pid, Signal, kill_process};

use super::await_true;
use super::http::Client;

/// A message as a consumer gets it.
#[derive(Clone, Debug)]
pub struct Message {
    pub subject: String,
    pub sequence: u64,
    /// What the shipper says of its place: life, then three places in the log.
    pub span: String,
    pub id: String,
    pub payload: Vec<u8>,
}

impl Message {
    /// The lines in it.
    pub fn lines(&self) -> Vec<String> {
        let text = std::str::from_utf8(&self.payload).expect("a message is text");
        text.lines().map(str::to_owned).collect()
    }
}

/// A running cluster, killed when dropped.
pub struct Cluster {
    folder: PathBuf,
    ports: Vec<Ports>,
    servers: Vec<Option<Child>>,
    /// Further lines of the configuration.
    extra: String,
    runtime: tokio::runtime::Runtime,
}

/// Where a server listens.
struct Ports {
    clients: u16,
    routes: u16,
    /// For whoever asks over HTTP how it is.
    monitor: u16,
}

fn free_ports(count: usize) -> Vec<u16> {
    // All at once, so that they differ.
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap().port())
        .collect()
}

fn is_not_found(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

impl Cluster {
    /// Starts so many servers with their files in `folder`, and waits until they can make a stream.
    pub fn start(folder: &Path, count: usize) -> Cluster {
        Cluster::with(folder, count, "")
    }

    /// The same with more in the configuration.
    pub fn with(folder: &Path, count: usize, extra: &str) -> Cluster {
        let ports = free_ports(3 * count);
        let ports = ports.chunks(3).map(|ports| Ports {
            clients: ports[0],
            routes: ports[1],
            monitor: ports[2],
        });
        let mut cluster = Cluster {
            folder: folder.to_owned(),
            ports: ports.collect(),
            servers: (0..count).map(|_| None).collect(),
            extra: extra.to_owned(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
        };
        (0..count).for_each(|number| cluster.run(number));
        if extra.is_empty() {
            cluster.await_ready();
        }
        cluster
    }

    /// Starts a server that does not run.
    pub fn run(&mut self, number: usize) {
        let Ports {
            clients,
            routes: route,
            monitor,
        } = self.ports[number];
        let folder = self.folder.join(format!("nats-{number}"));
        fs::create_dir_all(&folder).unwrap();
        let routes: Vec<_> = self
            .ports
            .iter()
            .map(|ports| format!("\"nats://127.0.0.1:{}\"", ports.routes))
            .collect();
        let cluster = match self.ports.len() {
            1 => String::new(),
            _ => format!(
                "cluster {{ name: test, listen: \"127.0.0.1:{route}\", routes: [{}] }}\n",
                routes.join(", ")
            ),
        };
        let config = format!(
            "server_name: nats-{number}\nlisten: \"127.0.0.1:{clients}\"\nhttp: \"127.0.0.1:{monitor}\"\njetstream {{ store_dir: \"{}\" }}\n{cluster}{}\n",
            folder.display(),
            self.extra
        );
        fs::write(folder.join("nats.conf"), config).unwrap();
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.join("log"))
            .unwrap();
        let child = Command::new("nats-server")
            .arg("-c")
            .arg(folder.join("nats.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("nats-server can be started: scripts/test installs it");
        self.servers[number] = Some(child);
    }

    /// Waits until a stream can be made that all servers hold.
    pub fn await_ready(&self) {
        let replicas = self.servers.len();
        await_true("the cluster is ready", || {
            self.block_on(async {
                let Ok(jetstream) = self.connect().await else {
                    return false;
                };
                let config = async_nats::jetstream::stream::Config {
                    name: "ready".into(),
                    subjects: vec!["ready".into()],
                    num_replicas: replicas,
                    ..Default::default()
                };
                let is_made = jetstream.create_stream(config).await.is_ok();
                is_made && jetstream.delete_stream("ready").await.is_ok()
            })
        });
    }

    pub fn count(&self) -> usize {
        self.servers.len()
    }

    /// Where clients reach one server.
    pub fn address(&self, number: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[number].clients))
    }

    /// The same as clients are told it.
    pub fn url_of(&self, number: usize) -> String {
        format!("nats://{}", self.address(number))
    }

    /// The folder of what one server stores.
    pub fn store(&self, number: usize) -> PathBuf {
        self.folder.join(format!("nats-{number}/jetstream"))
    }

    /// The addresses of all.
    pub fn url(&self) -> String {
        let urls: Vec<_> = (0..self.count()).map(|number| self.url_of(number)).collect();
        urls.join(",")
    }

    /// Kills a server where it stands.
    pub fn kill9(&mut self, number: usize) {
        let mut child = self.servers[number].take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops a server as a cut cable would: it neither answers nor ends.
    pub fn freeze(&self, number: usize) {
        self.signal(number, Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self, number: usize) {
        self.signal(number, Signal::CONT);
    }

    fn signal(&self, number: usize, signal: Signal) {
        let child = self.servers[number].as_ref().expect("it runs");
        kill_process(Pid::from_raw(child.id() as i32).unwrap(), signal).unwrap();
    }

    pub fn block_on<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    /// A connection to any server.
    pub async fn connect(&self) -> Result<Context, async_nats::ConnectError> {
        let servers: Vec<async_nats::ServerAddr> = (0..self.count())
            .map(|number| self.url_of(number).parse().unwrap())
            .collect();
        let options = async_nats::ConnectOptions::new().connection_timeout(Duration::from_secs(2));
        let client = options.connect(servers).await?;
        Ok(async_nats::jetstream::new(client))
    }

    /// Waits until each server that holds one of these streams has all of it, so that any of them may be lost. Those that are not
    /// there yet are passed over.
    pub fn await_current(&self, streams: &[String]) {
        let is_current = |info: &async_nats::jetstream::stream::Info| {
            let cluster = info.cluster.as_ref().expect("it is a cluster's");
            let is_current = |peer: &PeerInfo| peer.current && !peer.offline && peer.lag.unwrap_or(0) == 0;
            cluster.leader.is_some()
                && cluster.replicas.len() + 1 == self.count()
                && cluster.replicas.iter().all(is_current)
        };
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let told = self.block_on(async {
                let jetstream = self.connect().await.ok()?;
                let mut told = Vec::new();
                for stream in streams {
                    match jetstream.get_stream(stream).await {
                        Ok(stream) => told.push(stream.cached_info().clone()),
                        Err(error) if is_not_found(&error) => {}
                        Err(_) => return None,
                    }
                }
                Some(told)
            });
            if told.as_ref().is_some_and(|told| told.iter().all(is_current)) {
                return;
            }
            assert!(Instant::now() < deadline, "a server never caught up: {told:#?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What each server says of itself and of its part of a stream.
    pub fn tell(&self, stream: &str) {
        for (number, ports) in self.ports.iter().enumerate() {
            let address = SocketAddr::from(([127, 0, 0, 1], ports.monitor));
            let told = Client::connect(address).map(|mut client| client.get("/jsz?streams=true").json());
            let told = told.map(|told| {
                let streams = told["account_details"][0]["stream_detail"].clone();
                let streams = streams.as_array().cloned().unwrap_or_default();
                streams.into_iter().find(|detail| detail["name"] == stream)
            });
            eprintln!("nats-{number}: {told:?}");
        }
    }

    /// How many messages a stream has; `None` if it cannot be said.
    pub fn messages_in(&self, stream: &str) -> Option<u64> {
        self.block_on(async {
            let jetstream = self.connect().await.ok()?;
            let info = jetstream.get_stream(stream).await.ok()?;
            Some(info.cached_info().state.messages)
        })
    }

    /// Everything that a stream has, in its order.
    pub fn messages(&self, stream: &str) -> Vec<Message> {
        self.block_on(async {
            let jetstream = self.connect().await.expect("a server takes connections");
            let stream = jetstream.get_stream(stream).await.expect("the stream is there");
            let count = stream.cached_info().state.messages as usize;
            let config = pull::Config {
                ack_policy: AckPolicy::None,
                deliver_policy: DeliverPolicy::All,
                num_replicas: 1,
                memory_storage: true,
                ..Default::default()
            };
            let consumer = stream
                .create_consumer(config)
                .await
                .expect("a consumer can be made");
            let mut found = Vec::with_capacity(count);
            let mut messages = consumer
                .stream()
                .max_messages_per_batch(1000)
                .messages()
                .await
                .unwrap();
            while found.len() < count {
                let message = messages
                    .next()
                    .await
                    .expect("there are more")
                    .expect("they can be read");
                let header = |name: &str| {
                    let headers = message.headers.as_ref().expect("a message has headers");
                    headers
                        .get(name)
                        .map(|value| value.as_str().to_owned())
                        .unwrap_or_default()
                };
                found.push(Message {
                    subject: message.subject.to_string(),
                    sequence: message.info().unwrap().stream_sequence,
                    span: header("Floodgate-Span"),
                    id: header("Nats-Msg-Id"),
                    payload: message.payload.to_vec(),
                });
            }
            found
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.servers.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for number in 0..self.count() {
                let log =
                    fs::read_to_string(self.folder.join(format!("nats-{number}/log"))).unwrap_or_default();
                let tail: Vec<_> = log.lines().rev().take(15).collect();
                eprintln!("--- nats-{number}:");
                tail.iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
    }
}
