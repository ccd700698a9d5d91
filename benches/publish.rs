//! How a batch gets into a file that someone tails: `writev`, or a store through a mapping of the log.
//!
//! 64 MiB a run, in batches of 64 KiB, 256 KiB and 1 MiB, while a second thread reads to the end of file every 200 µs, as
//! a tailer does. Beside the times, standard error says how many of its reads saw a NUL byte: a mapping needs the size to
//! be there before the data, and the size is what tells a tailer that there is data.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use memmap2::MmapOptions;

const RUN_BYTES: usize = 64 << 20;
const LINE_BYTES: usize = 256;

fn open(path: &Path) -> File {
    File::options()
        .read(true)
        .append(true)
        .create(true)
        .open(path)
        .unwrap()
}

/// Appends with `writev`, a slice for each line.
fn write_vectored(path: &Path, batch: &[u8]) {
    let mut file = open(path);
    let lines: Vec<IoSlice<'_>> = batch.chunks(LINE_BYTES).map(IoSlice::new).collect();
    for _ in 0..RUN_BYTES / batch.len() {
        for slices in lines.chunks(1024) {
            let length: usize = slices.iter().map(|slice| slice.len()).sum();
            assert_eq!(file.write_vectored(slices).unwrap(), length);
        }
    }
}

/// Makes the file longer, batch by batch or all at once, and stores through a mapping.
fn store_mapped(path: &Path, batch: &[u8], at_once: bool) {
    let file = open(path);
    if at_once {
        file.set_len(RUN_BYTES as u64).unwrap();
    }
    let map = MmapOptions::new().len(RUN_BYTES).map_raw(&file).unwrap();
    for offset in (0..RUN_BYTES).step_by(batch.len()) {
        if !at_once {
            file.set_len((offset + batch.len()) as u64).unwrap();
        }
        // SAFETY: the mapping has RUN_BYTES bytes, the file is at least offset + batch long, and nothing else in this
        // process looks at the mapping.
        unsafe { std::ptr::copy_nonoverlapping(batch.as_ptr(), map.as_mut_ptr().add(offset), batch.len()) };
    }
}

/// Reads to the end of file every 200 µs until told to stop; answers reads with data, and those with a NUL byte in it.
fn tail(path: &Path, stop: &AtomicBool) -> (u64, u64) {
    let (mut reads, mut with_nul) = (0, 0);
    let mut file = None;
    let mut buffer = vec![0; 1 << 20];
    while !stop.load(Ordering::Relaxed) {
        if file.is_none() {
            file = File::open(path).ok();
        }
        while let Some(count) = file
            .as_mut()
            .map(|file: &mut File| file.read(&mut buffer).unwrap())
        {
            if count == 0 {
                break;
            }
            reads += 1;
            with_nul += u64::from(memchr::memchr(0, &buffer[..count]).is_some());
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    (reads, with_nul)
}

fn run(append: impl Fn(&Path)) -> (Duration, u64, u64) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let tailer = scope.spawn(|| tail(&path, &stop));
        let start = Instant::now();
        append(&path);
        let took = start.elapsed();
        stop.store(true, Ordering::Relaxed);
        let (reads, with_nul) = tailer.join().unwrap();
        (took, reads, with_nul)
    })
}

fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish");
    group
        .throughput(Throughput::Bytes(RUN_BYTES as u64))
        .sample_size(10);
    for batch_bytes in [64 << 10, 256 << 10, 1 << 20] {
        let mut line = vec![b'x'; LINE_BYTES];
        line[LINE_BYTES - 1] = b'\n';
        let batch = line.repeat(batch_bytes / LINE_BYTES);
        type Append<'a> = &'a dyn Fn(&Path);
        let ways: [(&str, Append<'_>); 3] = [
            ("writev", &|path| write_vectored(path, &batch)),
            ("grow and store", &|path| store_mapped(path, &batch, false)),
            ("preallocate and store", &|path| store_mapped(path, &batch, true)),
        ];
        for (name, append) in ways {
            let (mut reads, mut with_nul) = (0, 0);
            group.bench_function(format!("{name}, {} KiB", batch_bytes >> 10), |bencher| {
                bencher.iter_custom(|times| {
                    (0..times)
                        .map(|_| {
                            let (took, run_reads, run_with_nul) = run(append);
                            (reads, with_nul) = (reads + run_reads, with_nul + run_with_nul);
                            took
                        })
                        .sum()
                });
            });
            eprintln!(
                "publish/{name}, {} KiB: {with_nul} of {reads} reads saw NUL bytes",
                batch_bytes >> 10
            );
        }
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    publish(&mut criterion);
    criterion.final_summary();
}
