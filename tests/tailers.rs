//! Programs that nobody here wrote follow the log while it rotates and the server is killed. `scripts/tailers` runs them and
//! counts; the long run with all of them is told in `docs/TAILING.md`.

use std::path::Path;
use std::process::Command;

#[test]
fn tail_and_rsyslog_get_every_line_once_while_files_rotate_and_the_server_is_killed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(root.join("scripts/tailers"))
        .args(["--binary", env!("CARGO_BIN_EXE_floodgate")])
        .args(["--tailers", "tail,rsyslog", "--require", "tail"])
        .args(["--seconds", "8", "--rate", "3000", "--rotate-bytes", "256KiB"])
        // Twice the usual rest: the machine may be busy with other tests, and a tailer late.
        .args(["--rest", "500ms", "--compress-after", "1s"])
        .args(["--kills", "24", "--signals", "24"])
        .output()
        .expect("scripts/tailers can be started");
    let report = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}{complaints}");
}
