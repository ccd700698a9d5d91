//! Floodgate: behaviour events arrive over HTTP and leave as an append-only JSONL log.
#![deny(rustdoc::broken_intra_doc_links)]

pub mod event;
pub mod http;
