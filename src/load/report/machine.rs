//! The machine that makes the load, as far as Linux tells; elsewhere less is known.

use std::fs;
use std::thread;

use super::Machine;

impl Machine {
    /// This machine, now. Its load average is that of the minute before: to be called before load is made.
    pub fn here() -> Machine {
        let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.into());
        let kibibytes =
            field("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").ok();
        let load = load.and_then(|text| text.split(' ').next()?.parse().ok());
        let system = match std::env::consts::OS {
            "linux" => "Linux",
            other => other,
        };
        Machine {
            cpu,
            cores: thread::available_parallelism().map_or(1, |cores| cores.get() as u64),
            memory_bytes: kibibytes.unwrap_or(0).saturating_mul(1024),
            kernel: format!("{system} {}", release.trim()).trim_end().to_owned(),
            load_average: load,
        }
    }
}

/// The value behind `name:` in a file of such lines.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(key, _)| key.trim() == name)?;
    Some(value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_a_processor_memory_and_a_kernel() {
        let machine = Machine::here();
        assert!(!machine.cpu.is_empty() && machine.cores >= 1, "{machine:?}");
        assert!(machine.memory_bytes > 16 << 20, "{machine:?}");
        assert!(
            machine.kernel.starts_with("Linux ") && machine.load_average.is_some(),
            "{machine:?}"
        );
    }
}
