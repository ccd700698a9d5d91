//! `floodgate serve`: wires the rooms together, waits for a signal, and shuts down in order.
//!
//! Owner: the main thread. Shutdown: stop accepting, let connections answer what they have read, publish the journal,
//! sync the log, empty the journal, end. A second such signal ends the process at once; what is in the journal is recovered by
//! the next start. A service manager is told of each step ([`notify`](super::notify)). SIGHUP reads files again that settings name (certificate and key, write and read keys) and opens the
//! access log anew.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use listenfd::ListenFd;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use super::listen::{self, Bound};
use super::notify::Manager;
use super::{USAGE, messages};
use crate::api::{Abroad, Api, Gate};
use crate::config::settings::SETTINGS;
use crate::config::{Config, TlsFiles};
use crate::fleet::Fleet;
use crate::http::{Address, Limits, TlsConfig, TlsError, serve as serve_http};
use crate::ingest::{Engine, Outcome};
use crate::log::fs::OsFs;
use crate::ship::{Shipper, Shipping};

/// Stack of a coroutine in words of 8 bytes: 128 KiB, of which a request uses some 12 KiB, and a TLS handshake 27 KiB.
/// Pages that are not touched cost address space only.
pub const COROUTINE_STACK_WORDS: usize = 0x4000;
/// Stacks of coroutines that are made in advance and kept for the next connection. Each has 8 KiB that are touched as it is
/// made; beyond them a stack is mapped with its connection and unmapped with it.
const SPARE_STACKS: usize = 64;
/// File descriptors beside connections and listeners: log, journal, lock, the runtime's own for each worker.
const DESCRIPTORS_OF_OURS: usize = 64;

/// Serves until a signal says stop.
pub fn serve(mut config: Config) -> ExitCode {
    // First of all: it takes variables out of the environment, while there is no other thread that might read it.
    let passed = ListenFd::from_env();
    messages::start(config.log_format, config.log_level);
    warn_of_unknown_variables();
    raise_descriptor_limit(config.connections_max + config.acceptors * config.bind.len());
    may::config()
        .set_workers(config.workers)
        .set_stack_size(COROUTINE_STACK_WORDS)
        .set_pool_capacity(SPARE_STACKS);
    // Pinned workers would share their core with whatever else runs there while others are idle.
    may::config().set_worker_pin(false);

    let opened = load_tls(&config).and_then(|tls| Ok((tls, Gate::open(&config)?)));
    let (tls, gate) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            eprintln!("floodgate: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let mut reloads: Vec<Reload> = vec![Box::new({
        let gate = Arc::clone(&gate);
        move || gate.reload()
    })];
    if let Some(tls) = tls.clone() {
        reloads.push(Box::new(move || tls.reload().map_err(tls_error)));
    }
    // From here on these end nothing: they wait until they can be followed.
    let mut signals = match Signals::new([SIGHUP, SIGUSR1]) {
        Ok(signals) => signals,
        Err(error) => return failed(&format!("cannot listen for signals: {error}")),
    };

    let started = Instant::now();
    let engine = match Engine::open(config.engine.clone(), Arc::new(OsFs)) {
        Ok(engine) => engine,
        Err(error) => return failed(&error.to_string()),
    };
    // Only now: a signal during recovery ends the process at once, which recovery is made for.
    if let Err(error) = signals
        .add_signal(SIGTERM)
        .and_then(|()| signals.add_signal(SIGINT))
    {
        return failed(&format!("cannot listen for signals: {error}"));
    }
    let shipping = config.ship.clone().map(|policy| {
        let (shipper, stop) = Shipper::new(&config.engine.log, &config.node, policy);
        (shipper.status(), Shipping::start(shipper, stop))
    });
    let fleet = config.from.clone().map(|policy| {
        let ends = (engine.entrance(), engine.view());
        let (fleet, stop) = Fleet::new(&config.engine.log, &config.node, policy, ends, config.ack);
        (fleet.status(), fleet.start(stop))
    });
    let abroad = Abroad {
        ship: shipping.as_ref().map(|(status, _)| Arc::clone(status)),
        fleet: fleet.as_ref().map(|(status, _)| Arc::clone(status)),
    };
    let limits = Limits {
        head: config.head,
        connections_max: config.connections_max,
        head_timeout: config.head_timeout,
        body_rate_min: config.body_rate_min,
        body_grace: config.body_grace,
        idle_timeout: config.idle_timeout,
        write_timeout: config.write_timeout,
    };
    let served = listen::bind(&config, tls.as_ref(), passed).and_then(|Bound { listeners, files }| {
        // Whether the read side is open depends on what is listened on in truth.
        config.bind = listen::places(&listeners);
        let api = Api::new(&config, &engine, Arc::clone(&gate), abroad);
        let http = serve_http(listeners, api, limits);
        http.map(|http| (http, files)).map_err(|error| error.to_string())
    });
    let (http, socket_files) = match served {
        Ok(served) => served,
        Err(error) => {
            close(engine, Instant::now() + config.shutdown_timeout, true);
            eprintln!("floodgate: METRICS_BIND: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let addresses: Vec<_> = http.addresses().iter().map(Address::to_string).collect();
    tracing::info!(
        address = addresses.first(),
        tls = tls.is_some(),
        more_addresses = (addresses.len() > 1).then(|| addresses[1..].join(", ")),
        file = config.log_name,
        recovered = engine.recovered().events,
        damaged_frames = engine.recovered().damaged_frames,
        missing_blocks = engine.recovered().missing_blocks,
        torn_line_closed = engine.recovered().torn_line_closed,
        journal_gone = engine.recovered().is_journal_gone,
        ack = crate::api::level_name(config.ack, &engine.view()),
        workers = config.workers,
        started_in_ms = started.elapsed().as_millis() as u64,
        "listening"
    );
    let manager = Manager::ready(&format!("listening on {}", addresses.join(", ")), &engine.view());

    let signal = stop_signal(&mut signals, &reloads, &engine, &manager);
    manager.stopping();
    tracing::info!(
        signal = if signal == Some(SIGINT) {
            "SIGINT"
        } else {
            "SIGTERM"
        },
        "stopping"
    );
    std::thread::spawn(move || {
        // At once: not even a message, which a blocked stderr could hold up. The next start recovers the journal.
        if signals.forever().any(is_stop) {
            std::process::exit(1);
        }
    });
    let deadline = Instant::now() + config.shutdown_timeout;
    http.stop_accepting();
    let quiet = http.join(config.shutdown_timeout);
    drop(socket_files);
    if !quiet {
        tracing::warn!(
            connections = http.connections(),
            "connections did not end in time"
        );
    }
    gate.close();
    if let Some((_, fleet)) = fleet {
        fleet.stop();
    }
    let outcome = close(engine, deadline, quiet);
    if let Some((_, shipping)) = shipping {
        shipping.stop();
    }
    outcome
}

/// What SIGHUP has done: something is read again, or stays as it is and the error names the setting.
type Reload = Box<dyn Fn() -> Result<(), String>>;

fn is_stop(signal: i32) -> bool {
    signal != SIGHUP && signal != SIGUSR1
}

/// Waits for the signal that ends the server, and follows SIGHUP and SIGUSR1 meanwhile.
fn stop_signal(signals: &mut Signals, reloads: &[Reload], engine: &Engine, manager: &Manager) -> Option<i32> {
    signals.forever().find(|signal| {
        if *signal == SIGUSR1 {
            engine.rotate();
        }
        if *signal == SIGHUP {
            // What rotates logs renames the file and sends this.
            engine.check_file();
            manager.reloading(|| read_again(reloads));
        }
        is_stop(*signal)
    })
}

fn read_again(reloads: &[Reload]) {
    let errors: Vec<_> = reloads.iter().filter_map(|reload| reload().err()).collect();
    for error in &errors {
        tracing::error!("SIGHUP: {error}; what was read before stays in use");
    }
    if errors.is_empty() {
        tracing::info!("SIGHUP: files are read again");
    }
}

fn load_tls(config: &Config) -> Result<Option<Arc<TlsConfig>>, String> {
    let load = |files: &TlsFiles| TlsConfig::load(&files.cert, &files.key);
    let tls = config.tls.as_ref().map(load).transpose().map_err(tls_error)?;
    Ok(tls.map(Arc::new))
}

fn tls_error(error: TlsError) -> String {
    let setting = match error {
        TlsError::Certificate(_) => "METRICS_TLS_CERT",
        TlsError::Key(_) => "METRICS_TLS_KEY",
    };
    format!("{setting}: {error}")
}

fn close(engine: Engine, deadline: Instant, quiet: bool) -> ExitCode {
    match engine.close(deadline, quiet) {
        Outcome::Clean => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Outcome::NotSynced => failed("everything is in the log, but it could not be synced to the disk"),
        Outcome::FileLost => failed(
            "a file of the log that another program had deleted could not be copied back in time; its events are lost",
        ),
        Outcome::LeftInJournal => failed(
            "the log could not be written; the events are in the journal and the next start brings them in",
        ),
    }
}

/// Lets the process have as many file descriptors as it may: the usual soft limit is a tenth of our connections.
fn raise_descriptor_limit(sockets: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if setrlimit(Resource::Nofile, raised).is_err() {
        // Not allowed to: what there is will have to do, and the acceptor waits when it is used up.
        tracing::debug!("the limit of file descriptors cannot be raised");
    }
    let needed = (sockets + DESCRIPTORS_OF_OURS) as u64;
    if let Some(allowed) = getrlimit(Resource::Nofile)
        .current
        .filter(|allowed| *allowed < needed)
    {
        tracing::warn!(
            allowed,
            needed,
            "fewer file descriptors than METRICS_CONNECTIONS_MAX asks for (ulimit -n)"
        );
    }
}

fn warn_of_unknown_variables() {
    for (name, _) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with("METRICS_")) else {
            continue;
        };
        if !SETTINGS.iter().any(|setting| setting.variable == name) {
            tracing::warn!(
                variable = name,
                "there is no such setting; `floodgate config` lists them"
            );
        }
    }
}

fn failed(message: &str) -> ExitCode {
    tracing::error!("{message}");
    ExitCode::FAILURE
}
