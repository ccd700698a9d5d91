//! The server as a child process.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::http::Client;
use super::{PATIENCE, await_some};

/// How to start a server: a folder for its files, and its settings.
#[derive(Clone, Debug)]
pub struct Launch {
    folder: PathBuf,
    settings: Vec<(String, OsString)>,
    /// A socket that is passed as a service manager would.
    passed: Option<Arc<OwnedFd>>,
}

/// A server that ended before it listened.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stderr: String,
}

impl Launch {
    /// A server with its files in `folder`, on a port of the system's choice, otherwise with the defaults.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            settings: Vec::new(),
            passed: None,
        }
        .set("METRICS_BIND", "127.0.0.1:0")
        .set("METRICS_JSONL", folder.join("metrics.jsonl"))
        .set("METRICS_LOG_FORMAT", "json")
    }

    /// Adds or replaces an environment variable.
    pub fn set(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Removes an environment variable.
    pub fn unset(mut self, name: &str) -> Self {
        self.settings.retain(|(known, _)| known != name);
        self
    }

    /// Passes a socket as systemd does: descriptor 3, `LISTEN_FDS`, and `LISTEN_PID` with the server's own process id.
    pub fn pass(mut self, socket: impl Into<OwnedFd>) -> Self {
        self.passed = Some(Arc::new(socket.into()));
        self
    }

    /// The live file.
    pub fn log(&self) -> PathBuf {
        let (_, path) = self
            .settings
            .iter()
            .find(|(name, _)| name == "METRICS_JSONL")
            .expect("set in new");
        PathBuf::from(path)
    }

    /// The default journal, beside the live file.
    pub fn journal(&self) -> PathBuf {
        self.log().with_file_name("metrics.journal")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let binary = env!("CARGO_BIN_EXE_floodgate");
        let mut command = Command::new(binary);
        if self.passed.is_some() {
            // The shell becomes the server, so that its process id is the server's.
            command = Command::new("sh");
            let script = r#"LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@" 3<&0 </dev/null"#;
            command.args(["-c", script, binary]);
        }
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("METRICS_") || name_text.starts_with("FLOODGATE_") {
                command.env_remove(&name);
            }
        }
        command
            .args(arguments)
            .envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.folder).stdin(match &self.passed {
            Some(socket) => socket.try_clone().expect("a descriptor can be copied").into(),
            None => Stdio::null(),
        });
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut child = self
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary can be started");
        // What these commands print fits a pipe, so nothing needs to read it before the end.
        let deadline = std::time::Instant::now() + PATIENCE;
        while child.try_wait().expect("the child can be waited for").is_none() {
            if std::time::Instant::now() > deadline {
                let _ = child.kill();
                let output = child.wait_with_output().expect("the child can be waited for");
                panic!(
                    "floodgate {arguments:?} did not end: {}",
                    String::from_utf8_lossy(&output.stderr)
                );
            }
            thread::sleep(super::POLL_PAUSE);
        }
        child.wait_with_output().expect("the child's output can be read")
    }

    /// Starts a command that goes on, with what it says added to a file in the folder.
    pub fn spawn(&self, arguments: &[&str], output: &str) -> Child {
        let output = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join(output));
        let output = output.expect("a file can be made in the folder");
        self.command(arguments)
            .stdout(output.try_clone().expect("a descriptor can be copied"))
            .stderr(output)
            .spawn()
            .expect("the binary can be started")
    }

    /// Starts a server and kills it after `pause`, wherever its start is by then.
    pub fn start_and_kill9(&self, pause: Duration) {
        let mut child = self
            .command(&[])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary can be started");
        thread::sleep(pause);
        child.kill().expect("a child can be killed");
        child.wait().expect("the child can be waited for");
    }

    /// Starts a server and waits until it listens.
    pub fn start(&self) -> Server {
        self.try_start().unwrap_or_else(|ended| {
            panic!("the server did not start: {}\n{}", ended.status, ended.stderr);
        })
    }

    /// Starts a server and waits until it listens or ends.
    pub fn try_start(&self) -> Result<Server, Ended> {
        let mut child = self
            .command(&[])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary can be started");
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let text = Arc::new(Mutex::new(String::new()));
        let (listening, told) = mpsc::channel();
        let reader = thread::spawn({
            let text = Arc::clone(&text);
            move || {
                for line in stderr.lines().map_while(Result::ok) {
                    if let Some(fields) = listening_line(&line) {
                        let _ = listening.send(fields);
                    }
                    let mut text = text.lock().expect("no reader panics");
                    text.push_str(&line);
                    text.push('\n');
                }
            }
        });
        let mut server = Server {
            child,
            fields: Value::Null,
            text,
            reader: Some(reader),
        };
        match told.recv_timeout(PATIENCE) {
            Ok(fields) => {
                server.fields = fields;
                Ok(server)
            }
            // The pipe is closed: the process is gone or about to be.
            Err(RecvTimeoutError::Disconnected) => Err(Ended {
                status: server.wait(),
                stderr: server.stderr(),
            }),
            Err(RecvTimeoutError::Timeout) => {
                panic!("the server neither listened nor ended:\n{}", server.stderr())
            }
        }
    }
}

/// The fields of a log line, when it is the one that tells the address.
fn listening_line(line: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(line).ok()?;
    let fields = if value.get("fields").is_some() {
        value["fields"].clone()
    } else {
        value
    };
    (fields["message"] == "listening").then_some(fields)
}

/// A running server, killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    fields: Value,
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        let address = self.fields["address"]
            .as_str()
            .expect("the start-up line tells the address");
        address.parse().expect("the address is one")
    }

    /// The fields of the start-up line.
    pub fn fields(&self) -> &Value {
        &self.fields
    }

    /// The events that this start took over from the journal.
    pub fn recovered(&self) -> u64 {
        self.fields["recovered"]
            .as_u64()
            .expect("the start-up line tells how much was recovered")
    }

    /// A new connection.
    pub fn connect(&self) -> Client {
        Client::connect(self.address()).expect("the server takes connections")
    }

    /// What it has printed so far.
    pub fn stderr(&self) -> String {
        self.text.lock().expect("no reader panics").clone()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a child's id is not zero");
        // The child is not reaped while we hold it, so the id is still its own.
        kill_process(pid, signal).expect("the child can be signalled");
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Kills it where it stands, and waits until it is gone.
    pub fn kill9(mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("the child can be waited for")
            .is_none()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let status = await_some("the server's end", || {
            child.try_wait().expect("the child can be waited for")
        });
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader of stderr does not panic");
        }
        status
    }

    /// Stops it in the orderly way.
    pub fn stop(mut self) {
        self.terminate();
        let status = self.wait();
        assert_eq!(
            status.code(),
            Some(0),
            "a clean stop exits with 0:\n{}",
            self.stderr()
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the server's stderr:\n{}---", self.stderr());
        }
    }
}
