//! Writes the seeds of the fuzz targets: `fuzz_seeds DIRECTORY`, a subdirectory for each target. `scripts/fuzz` runs it.
//!
//! They are made from the tables that the tests play, so there is no second list of cases to keep, and nothing binary in the
//! repository. Each begins with the bytes its target takes its choices from (see `fuzz/fuzz_targets/`).

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use serde_json::Value;

#[allow(dead_code)]
#[path = "../tests/framing/cases.rs"]
mod cases;

/// What is longer teaches a fuzzer nothing that it can find out again in a minute.
const SEED_BYTES_MAX: usize = 20_000;

/// A target's directory.
struct Seeds(PathBuf);

impl Seeds {
    fn new(directory: &Path, target: &str) -> io::Result<Self> {
        let directory = directory.join(target);
        fs::create_dir_all(&directory)?;
        Ok(Self(directory))
    }

    fn write(&self, name: &str, choices: &[u8], bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > SEED_BYTES_MAX {
            return Ok(());
        }
        fs::write(self.0.join(name), [choices, bytes].concat())
    }
}

fn main() -> io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1) else {
        return Err(io::Error::other("usage: fuzz_seeds DIRECTORY"));
    };
    let directory = Path::new(&directory);
    let bodies = bodies();
    connections(&Seeds::new(directory, "connection")?)?;
    decoders(&Seeds::new(directory, "decoders")?, &bodies)?;
    batches(&Seeds::new(directory, "batch")?, &bodies)
}

/// The bodies of events, good and bad, that the vectors have.
fn bodies() -> Vec<(String, Vec<u8>)> {
    let text = include_str!("../tests/vectors/events.jsonl");
    let vectors = text.lines().map(|line| {
        let vector: Value = serde_json::from_str(line).expect("a vector is JSON");
        let body = vector["request"]["body"].as_str().unwrap_or_default();
        let name = vector["name"].as_str().expect("a vector has a name");
        (name.to_owned(), body.as_bytes().to_vec())
    });
    vectors.filter(|(_, body)| !body.is_empty()).collect()
}

/// Each framing case, and each in front of another request.
fn connections(seeds: &Seeds) -> io::Result<()> {
    for case in cases::all() {
        let name = case.name;
        seeds.write(name, &[0, 0], &case.bytes)?;
        let other = b"POST /other HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\"b\"\r\nx\r\n0\r\nT: u\r\n\r\n";
        seeds.write(
            &format!("{name}-and-another"),
            &[20, 1],
            &[&case.bytes[..], other].concat(),
        )?;
    }
    Ok(())
}

/// Some bodies in every coding, whole, cut short, damaged and one behind the other, and the texts that the target packs itself.
fn decoders(seeds: &Seeds, bodies: &[(String, Vec<u8>)]) -> io::Result<()> {
    let all = bodies.iter().flat_map(|(_, body)| body).copied().take(6000);
    let texts = [
        ("empty", Vec::new()),
        ("event", bodies[0].1.clone()),
        ("events", all.collect()),
        ("zeros", vec![0; 300_000]),
        (
            "numbers",
            (0..2000_u32)
                .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
                .collect(),
        ),
    ];
    for (name, text) in &texts {
        let packed = [
            ("gzip", 0, gzip(text)?),
            ("zlib", 1, zlib(text)?),
            ("deflate", 1, deflate(text)?),
            ("zstd", 2, zstd::encode_all(&text[..], 3)?),
            ("identity", 3, text.clone()),
        ];
        for (coding, kind, packed) in packed {
            let short = &packed[..packed.len() / 2];
            let mut damaged = packed.clone();
            if let Some(byte) = damaged.last_mut() {
                *byte ^= 1;
            }
            for (how, kind, limit, bytes) in [
                ("whole", kind, 20, &packed[..]),
                ("chunked", kind | 4, 19, &packed),
                ("limited", kind, 9, &packed),
                ("short", kind, 20, short),
                ("damaged", kind | 4, 20, &damaged),
                ("twice", kind, 20, &[&packed[..], &packed].concat()),
            ] {
                seeds.write(&format!("{coding}-{name}-{how}"), &[kind, limit, 15, 1], bytes)?;
            }
        }
        for kind in [8, 9, 10, 11, 9 | 16] {
            seeds.write(&format!("text-{kind}-{name}"), &[kind, 20, 255, 1], text)?;
            seeds.write(
                &format!("text-{kind}-{name}-chunked"),
                &[kind | 4, 12, 30, 1],
                text,
            )?;
        }
    }
    Ok(())
}

/// Each body alone and as an array, and all as lines and as an array.
fn batches(seeds: &Seeds, bodies: &[(String, Vec<u8>)]) -> io::Result<()> {
    for (name, body) in bodies {
        let array = [b"[", &body[..], b"]"].concat();
        seeds.write(name, &[0, 30, 1], body)?;
        seeds.write(&format!("{name}-in-an-array"), &[0, 30, 1], &array)?;
    }
    // Of those that are not valid, a hundred fill the list of errors.
    let short = || {
        bodies
            .iter()
            .map(|(_, body)| &body[..])
            .filter(|body| body.len() < 150)
    };
    for (name, choices) in [("few", 5), ("parts", 8), ("all", 0)] {
        let some: Vec<_> = short().take(if choices == 0 { usize::MAX } else { 12 }).collect();
        let one_line = some.iter().filter(|body| !body.contains(&b'\n')).copied();
        let lines = one_line.collect::<Vec<_>>().join(&b'\n');
        seeds.write(&format!("{name}-lines"), &[choices, 60, 2], &lines)?;
        let array = [&b"["[..], &some.join(&b','), b"]"].concat();
        seeds.write(&format!("{name}-array"), &[choices, 60, 2], &array)?;
        seeds.write(
            &format!("{name}-marked"),
            &[choices, 0, 2],
            &[b"\xef\xbb\xbf", &lines[..]].concat(),
        )?;
    }
    Ok(())
}

fn gzip(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text)?;
    encoder.finish()
}

fn zlib(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text)?;
    encoder.finish()
}

fn deflate(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text)?;
    encoder.finish()
}
