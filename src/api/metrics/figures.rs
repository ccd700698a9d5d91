//! The figures: what each is called, what it means, and where it is read. `docs/METRICS.md` has the same list for people, which
//! a test holds against this one.
//!
//! Bounds: the labels are the server's own (paths, statuses, reasons), never a client's words, so the number of series does
//! not grow with what is sent. Event names are not among them: there may be ten thousand, and the snapshot counts them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::super::Shared;
use super::super::refusal::by_reason;
use super::super::route::Route;
use crate::fleet::FleetStatus;
use crate::ingest::latency::{BOUNDS_US, Buckets};
use crate::ingest::vitals::{Disk, Vitals};
use crate::ship::ShipStatus;

type Written = Result<(), fmt::Error>;

/// All figures, read when they are written.
pub struct Figures {
    shared: Arc<Shared>,
}

impl Figures {
    pub fn new(shared: Arc<Shared>) -> Figures {
        Figures { shared }
    }
}

impl fmt::Debug for Figures {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("Figures")
    }
}

impl Collector for Figures {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Written {
        let mut sheet = Sheet { encoder };
        sheet.http(&self.shared)?;
        sheet.events(&self.shared)?;
        sheet.journal(&self.shared)?;
        sheet.log(&self.shared)?;
        sheet.abroad(&self.shared)?;
        sheet.state(&self.shared)?;
        let vitals = self.shared.view.vitals();
        sheet.disks(&vitals)?;
        sheet.process(&self.shared, &vitals)
    }
}

/// Where figures are written.
struct Sheet<'e> {
    encoder: DescriptorEncoder<'e>,
}

impl Sheet<'_> {
    fn http(&mut self, shared: &Shared) -> Written {
        let traffic = &shared.traffic;
        let answers = traffic.answers();
        let mut family = self.family(
            "floodgate_http_requests",
            "Requests that were answered, by endpoint and status.",
            MetricType::Counter,
        )?;
        for (kind, status, count) in &answers {
            let labels = [
                ("route", Route::label(*kind).to_owned()),
                ("status", status.to_string()),
            ];
            ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
        }
        let mut family = self.family(
            "floodgate_http_requests_refused",
            "Requests that were refused, by reason.",
            MetricType::Counter,
        )?;
        for (reason, count) in by_reason(&answers, |shortage| traffic.refusals(shortage as u8)) {
            ConstCounter::new(count).encode(family.encode_family(&[("reason", reason)])?)?;
        }
        let (received, sent) = traffic.bytes();
        self.counter(
            "floodgate_http_received_bytes",
            "Bytes received, without TLS.",
            received,
        )?;
        self.counter("floodgate_http_sent_bytes", "Bytes sent, without TLS.", sent)?;
        self.gauge(
            "floodgate_http_connections",
            "Connections that are open.",
            traffic.connections(),
        )?;
        self.gauge(
            "floodgate_http_connections_max",
            "Connections that may be open (METRICS_CONNECTIONS_MAX).",
            shared.connections_max as u64,
        )?;
        self.counter(
            "floodgate_http_connections_accepted",
            "Connections that were taken.",
            traffic.accepted(),
        )?;
        self.counter(
            "floodgate_http_connections_refused",
            "Connections for which there was no room.",
            traffic.turned_away(),
        )?;
        self.gauge(
            "floodgate_http_inflight_bytes",
            "Memory held for requests while they come, beyond 64 KiB each.",
            shared.budget.held() as u64,
        )?;
        self.gauge(
            "floodgate_http_inflight_max_bytes",
            "Memory that may be held for requests while they come (METRICS_INFLIGHT_BYTES_MAX).",
            shared.budget.most() as u64,
        )?;
        match shared.gate.access_lines_dropped() {
            Some(dropped) => self.counter(
                "floodgate_access_log_dropped_lines",
                "Lines of the access log that were dropped.",
                dropped,
            ),
            None => Ok(()),
        }
    }

    fn events(&mut self, shared: &Shared) -> Written {
        let (events, bytes) = shared.view.status().appended_since_start();
        self.counter(
            "floodgate_events_stored",
            "Events appended to the log since the start.",
            events,
        )?;
        self.counter(
            "floodgate_stored_bytes",
            "Bytes appended to the log since the start.",
            bytes,
        )?;
        self.counter(
            "floodgate_partial_events_rejected",
            "Invalid events that were left out of batches with ?partial=true.",
            shared.partial_rejected.load(Ordering::Relaxed),
        )?;
        if !shared.view.is_recovering() {
            let counters = shared.view.counters();
            self.gauge(
                "floodgate_log_events",
                "Events that the log ever had.",
                counters.total(),
            )?;
            self.gauge(
                "floodgate_event_names",
                "Event names that are counted apart.",
                counters.names() as u64,
            )?;
        }
        self.gauge(
            "floodgate_event_names_max",
            "Event names that may be counted apart (METRICS_EVENT_NAMES_MAX).",
            shared.event_names_max as u64,
        )
    }

    fn journal(&mut self, shared: &Shared) -> Written {
        let (used, bytes, most) = shared.view.journal_bytes();
        self.gauge(
            "floodgate_ring_frames",
            "Frames that are acknowledged and not yet in the log.",
            shared.view.ring_depth() as u64,
        )?;
        self.gauge(
            "floodgate_journal_used_bytes",
            "Bytes of the journal that are in use.",
            used,
        )?;
        self.gauge(
            "floodgate_journal_bytes",
            "Bytes that the journal has now.",
            bytes,
        )?;
        self.gauge(
            "floodgate_journal_max_bytes",
            "Bytes that the journal may have (METRICS_JOURNAL_BYTES_MAX).",
            most,
        )
    }

    fn log(&mut self, shared: &Shared) -> Written {
        let view = &shared.view;
        let status = view.status();
        self.histogram(
            "floodgate_append_duration_seconds",
            "How long appending a batch to the log took, over all its attempts.",
            &status.append.buckets(),
        )?;
        self.histogram(
            "floodgate_fsync_duration_seconds",
            "How long a sync of the log took that succeeded.",
            &status.fsync.buckets(),
        )?;
        self.counter(
            "floodgate_sync_failures",
            "Syncs of the log that failed, and attempts to write again what they left in doubt.",
            status.sync_failures(),
        )?;
        self.gauge(
            "floodgate_log_live_bytes",
            "Bytes in the live file.",
            view.live_bytes(),
        )?;
        self.gauge(
            "floodgate_log_position_bytes",
            "Bytes that the log ever had, in all its files.",
            view.position(),
        )?;
        self.gauge(
            "floodgate_log_sealed_files",
            "Sealed files that are counted, also those that have gone.",
            view.sealed_files() as u64,
        )?;
        self.gauge(
            "floodgate_log_unsynced_bytes",
            "Bytes of the live file that are not known to be on the disk.",
            view.vitals().unsynced_bytes,
        )?;
        if let Some(archive) = view.archive() {
            let (files, bytes) = archive.waiting();
            self.gauge(
                "floodgate_archive_waiting_files",
                "Sealed files that are not safely archived yet.",
                files,
            )?;
            self.gauge(
                "floodgate_archive_waiting_bytes",
                "What those files take on the disk.",
                bytes,
            )?;
            self.gauge(
                "floodgate_archive_failing",
                "1 after an upload that failed.",
                u64::from(archive.error().is_some()),
            )?;
        }
        Ok(())
    }

    /// What goes on with other machines.
    fn abroad(&mut self, shared: &Shared) -> Written {
        if let Some(ship) = &shared.abroad.ship {
            self.ship(shared, ship)?;
        }
        match &shared.abroad.fleet {
            Some(fleet) => self.fleet(fleet),
            None => Ok(()),
        }
    }

    fn ship(&mut self, shared: &Shared, ship: &ShipStatus) -> Written {
        let shipped = ship.shipped();
        self.counter(
            "floodgate_ship_events",
            "Events that the stream has acknowledged since the start.",
            shipped.events,
        )?;
        self.counter(
            "floodgate_ship_bytes",
            "Bytes of lines that the stream has acknowledged since the start.",
            shipped.bytes,
        )?;
        self.counter(
            "floodgate_ship_failures",
            "Times that shipping had to be begun anew.",
            shipped.failures,
        )?;
        self.gauge(
            "floodgate_ship_connected",
            "1 while the stream takes what is shipped, as far as is known.",
            u64::from(ship.is_connected()),
        )?;
        if let Some(next) = ship.next() {
            self.gauge(
                "floodgate_ship_lag_bytes",
                "Bytes of the log that the stream has not acknowledged.",
                shared.view.bytes_behind(next),
            )?;
        }
        self.gauge(
            "floodgate_ship_lag_seconds",
            "How long ago the stream had all of the log.",
            ship.lag_seconds(),
        )?;
        let (files, bytes) = shared.view.hold().removed_unshipped();
        self.counter(
            "floodgate_ship_lost_files",
            "Files of the log that were gone before they were shipped.",
            files.max(shipped.missing_files),
        )?;
        self.counter(
            "floodgate_ship_lost_bytes",
            "Bytes on the disk of files that retention has removed before they were shipped.",
            bytes,
        )
    }

    fn fleet(&mut self, fleet: &FleetStatus) -> Written {
        let taken = fleet.taken();
        let nodes = fleet.nodes();
        self.gauge(
            "floodgate_fleet_nodes",
            "Nodes whose streams are read.",
            nodes.len() as u64,
        )?;
        self.counter(
            "floodgate_fleet_events",
            "Events taken from the streams of nodes since the start.",
            taken.events,
        )?;
        self.counter(
            "floodgate_fleet_duplicates",
            "Messages that came again, and changed nothing.",
            taken.duplicates,
        )?;
        self.counter(
            "floodgate_fleet_gaps",
            "Times that a stream no longer had what came next.",
            taken.gaps,
        )?;
        self.counter(
            "floodgate_fleet_failures",
            "Times that reading the streams had to be begun anew.",
            taken.failures,
        )?;
        self.gauge(
            "floodgate_fleet_connected",
            "1 while the streams can be read, as far as is known.",
            u64::from(fleet.is_connected()),
        )?;
        self.gauge(
            "floodgate_fleet_waiting_messages",
            "Messages in the streams that have not been taken.",
            nodes.iter().map(|node| node.waiting).sum::<u64>(),
        )
    }

    fn state(&mut self, shared: &Shared) -> Written {
        let status = shared.view.status();
        let mut state = |name, help, is_so| self.gauge(name, help, u64::from(is_so));
        state(
            "floodgate_ready",
            "1 while events can be stored: what health says.",
            shared.can_store(),
        )?;
        state(
            "floodgate_recovering",
            "1 while the log is being read after the start.",
            shared.view.is_recovering(),
        )?;
        state(
            "floodgate_log_failing",
            "1 while the log cannot be written.",
            status.is_log_failing(),
        )?;
        state(
            "floodgate_sync_failing",
            "1 while the log cannot be synced and `synced` is refused.",
            status.is_sync_failing(),
        )?;
        state(
            "floodgate_refusing",
            "1 while events are refused, as the journal is full.",
            status.is_refusing(),
        )?;
        state(
            "floodgate_journal_growth_failing",
            "1 when the journal could not grow.",
            status.growth_error().is_some(),
        )
    }

    fn disks(&mut self, vitals: &Vitals) -> Written {
        let disks = [("log", vitals.log_disk), ("journal", vitals.journal_disk)];
        let known = || disks.iter().filter_map(|(name, disk)| Some((*name, (*disk)?)));
        type Of = fn(Disk) -> u64;
        let figures: [(_, _, Of); 2] = [
            (
                "floodgate_disk_free_bytes",
                "Bytes that may still be written where the log and the journal are.",
                |disk| disk.free_bytes,
            ),
            (
                "floodgate_disk_size_bytes",
                "Bytes that the file systems of log and journal have.",
                |disk| disk.total_bytes,
            ),
        ];
        for (name, help, of) in figures {
            let mut family = self.family(name, help, MetricType::Gauge)?;
            for (holds, disk) in known() {
                ConstGauge::new(of(disk)).encode(family.encode_family(&[("holds", holds)])?)?;
            }
        }
        Ok(())
    }

    fn process(&mut self, shared: &Shared, vitals: &Vitals) -> Written {
        self.counter(
            "process_cpu_seconds",
            "Processor time that the process has taken.",
            vitals.cpu.as_secs_f64(),
        )?;
        if let Some(bytes) = vitals.resident_bytes {
            self.gauge(
                "process_resident_memory_bytes",
                "Memory that the process has.",
                bytes,
            )?;
        }
        if let Some(number) = vitals.open_descriptors {
            self.gauge(
                "process_open_fds",
                "Descriptors that the process has open.",
                number,
            )?;
        }
        if let Some(number) = vitals.descriptors_max {
            self.gauge(
                "process_max_fds",
                "Descriptors that the process may have open.",
                number,
            )?;
        }
        let since = shared.view.started().duration_since(UNIX_EPOCH);
        self.gauge(
            "process_start_time_seconds",
            "When the process began, in seconds since 1970.",
            since.unwrap_or(Duration::ZERO).as_secs_f64(),
        )?;
        let mut family = self.family("floodgate_build_info", "1, with the version.", MetricType::Gauge)?;
        ConstGauge::new(1u64).encode(family.encode_family(&[("version", env!("CARGO_PKG_VERSION"))])?)
    }

    fn family<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.encoder.encode_descriptor(name, help, None, kind)
    }

    /// The encoder adds `_total` to the name.
    fn counter(&mut self, name: &str, help: &str, value: impl EncodeCounterValue) -> Written {
        self.family(name, help, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> Written {
        self.family(name, help, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn histogram(&mut self, name: &str, help: &str, Buckets { counts, sum }: &Buckets) -> Written {
        let bounds = BOUNDS_US.map(|bound| bound as f64 / 1e6);
        let bounds = bounds.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
        self.family(name, help, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(sum.as_secs_f64(), counts.iter().sum(), &buckets, None)
    }
}
