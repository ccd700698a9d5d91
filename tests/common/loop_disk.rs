//! An ext4 of its own on a loop device, which can hang, turn read-only, and have files that nobody may change.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The file system, unmounted when dropped.
#[derive(Debug)]
pub struct LoopDisk {
    folder: tempfile::TempDir,
}

/// Nothing that is written to a disk comes back until this is dropped. To be dropped before a server that writes there:
/// such a process cannot end.
#[derive(Debug)]
pub struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        must("fsfreeze", &[&"-u", &self.0]);
    }
}

fn run(program: &str, arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> std::io::Result<Output> {
    let mut command = Command::new(program);
    command.env(
        "PATH",
        "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin",
    );
    arguments.iter().for_each(|argument| {
        command.arg(argument);
    });
    command.output()
}

/// Runs a program that must succeed.
fn must(program: &str, arguments: &[&dyn AsRef<std::ffi::OsStr>]) {
    let output = run(program, arguments).expect("the program can be started");
    assert!(output.status.success(), "{program}: {output:?}");
}

impl LoopDisk {
    /// A disk of 64 MiB, or nothing, after a word about it, where it cannot be had: it takes root, loop devices and
    /// e2fsprogs.
    pub fn mount() -> Option<Self> {
        let disk = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::File::create(disk.image()).unwrap().set_len(64 << 20).unwrap();
        fs::create_dir(disk.path()).unwrap();
        let made = run("mkfs.ext4", &[&"-q", &"-F", &disk.image()]);
        match made.and_then(|_| disk.try_mount()) {
            Ok(output) if output.status.success() => Some(disk),
            other => {
                eprintln!("SKIPPED: an ext4 cannot be mounted on a loop device: {other:?}");
                None
            }
        }
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn try_mount(&self) -> std::io::Result<Output> {
        let options = "loop,errors=remount-ro";
        run("mount", &[&"-o", &options, &self.image(), &self.path()])
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Has everything that is written to it hang.
    pub fn freeze(&self) -> Frozen {
        must("fsfreeze", &[&"-f", &self.path()]);
        Frozen(self.path())
    }

    /// Has the kernel find an error, on which it makes the file system read-only for good. Answers whether that can be had.
    pub fn break_down(&self) -> bool {
        let devices = run("losetup", &[&"-n", &"-O", &"NAME", &"-j", &self.image()]).unwrap();
        let device = String::from_utf8(devices.stdout).unwrap();
        let name = Path::new(device.trim())
            .file_name()
            .expect("it is mounted on a device");
        let trigger = Path::new("/sys/fs/ext4").join(name).join("trigger_fs_error");
        let written = fs::write(&trigger, "a test");
        if written.is_err() {
            eprintln!("SKIPPED: the kernel has no {}: {written:?}", trigger.display());
        }
        written.is_ok()
    }

    /// Repairs it, as somebody would after such an error. Nobody may have a file open there.
    pub fn repair(&self) {
        must("umount", &[&self.path()]);
        // 1: errors were corrected.
        let checked = run("e2fsck", &[&"-p", &self.image()]).unwrap();
        assert!(matches!(checked.status.code(), Some(0 | 1)), "{checked:?}");
        assert!(self.try_mount().unwrap().status.success());
    }

    /// Has nobody change a file, or a folder's entries, or allows it again. Answers whether that can be had.
    pub fn set_immutable(path: &Path, is_immutable: bool) -> bool {
        let flag = if is_immutable { "+i" } else { "-i" };
        let output = run("chattr", &[&flag, &path]);
        let is_done = matches!(&output, Ok(output) if output.status.success());
        if !is_done {
            eprintln!("SKIPPED: chattr {flag} is not possible: {output:?}");
        }
        is_done
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let unmounted = run("umount", &[&self.path()]);
        if !unmounted.is_ok_and(|output| output.status.success()) {
            // Something still has a file open there: let go of the name now and of the rest later.
            run("umount", &[&"-l", &self.path()]).ok();
        }
    }
}
