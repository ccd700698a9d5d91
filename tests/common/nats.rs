//! A cluster of NATS servers with JetStream, on loopback: Debian's `nats-server`, which `scripts/test` installs.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::Context;
use futures_util::StreamExt;
use rustix::process::{Pid, Signal, kill_process};

use super::await_true;

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
    ports: Vec<(u16, u16)>,
    servers: Vec<Option<Child>>,
    /// Further lines of the configuration.
    extra: String,
    runtime: tokio::runtime::Runtime,
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

impl Cluster {
    /// Starts so many servers with their files in `folder`, and waits until they can make a stream.
    pub fn start(folder: &Path, count: usize) -> Cluster {
        Cluster::with(folder, count, "")
    }

    /// The same with more in the configuration.
    pub fn with(folder: &Path, count: usize, extra: &str) -> Cluster {
        let ports = free_ports(2 * count);
        let mut cluster = Cluster {
            folder: folder.to_owned(),
            ports: ports.chunks(2).map(|pair| (pair[0], pair[1])).collect(),
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
        let (port, route) = self.ports[number];
        let folder = self.folder.join(format!("nats-{number}"));
        fs::create_dir_all(&folder).unwrap();
        let routes: Vec<_> = self
            .ports
            .iter()
            .map(|(_, route)| format!("\"nats://127.0.0.1:{route}\""))
            .collect();
        let cluster = match self.ports.len() {
            1 => String::new(),
            _ => format!(
                "cluster {{ name: test, listen: \"127.0.0.1:{route}\", routes: [{}] }}\n",
                routes.join(", ")
            ),
        };
        let config = format!(
            "server_name: nats-{number}\nlisten: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{}\" }}\n{cluster}{}\n",
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

    /// The address of one server.
    pub fn url_of(&self, number: usize) -> String {
        format!("nats://127.0.0.1:{}", self.ports[number].0)
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
