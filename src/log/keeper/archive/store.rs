//! The object store behind `METRICS_ARCHIVE_URL`: what the address says, and how to get at it.
//!
//! Credentials and the endpoint come from the environment, under the names that the tools of each store use (`AWS_…`,
//! `GOOGLE_…`, `AZURE_…`): the address itself is shown in logs.

use std::path::PathBuf;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::multipart::MultipartStore;
use object_store::path::Path as Key;
use object_store::{ClientConfigKey, ObjectStore, RetryConfig};

/// Settings of the HTTP client. A part of 8 MiB in five minutes is 28 KB/s: who is slower cannot keep up with any log.
/// Connections are given up before common servers close them, as nobody watches them between two files.
const CLIENT: [(ClientConfigKey, &str); 3] = [
    (ClientConfigKey::ConnectTimeout, "10 seconds"),
    (ClientConfigKey::Timeout, "300 seconds"),
    (ClientConfigKey::PoolIdleTimeout, "10 seconds"),
];
/// What the client tries again by itself: nothing. It would say so in the log each time; we try again, and say so once.
const RETRIES_MAX: usize = 0;

/// Where sealed files are archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveUrl {
    scheme: Scheme,
    /// The bucket; of a folder its path.
    place: String,
    prefix: Key,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    S3,
    Google,
    Azure,
    Folder,
}

impl Scheme {
    /// The environment variables that it mostly takes.
    fn variables(self) -> &'static str {
        match self {
            Scheme::S3 => "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT",
            Scheme::Google => "GOOGLE_SERVICE_ACCOUNT",
            Scheme::Azure => "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
            Scheme::Folder => "no variables",
        }
    }
}

impl std::fmt::Display for ArchiveUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl ArchiveUrl {
    /// Reads an address.
    ///
    /// # Errors
    /// What is allowed instead, as a clause.
    pub fn parse(text: &str) -> Result<ArchiveUrl, String> {
        const ALLOWED: &str =
            "it is `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` or `file:///folder`";
        let (scheme, rest) = text.split_once("://").ok_or(ALLOWED)?;
        let scheme = match scheme {
            "s3" => Scheme::S3,
            "gs" => Scheme::Google,
            "az" => Scheme::Azure,
            "file" => Scheme::Folder,
            _ => return Err(ALLOWED.into()),
        };
        if scheme == Scheme::Folder {
            let is_folder = rest.len() > 1 && rest.starts_with('/') && !rest.contains('\0');
            return is_folder
                .then(|| ArchiveUrl {
                    scheme,
                    place: rest.to_owned(),
                    prefix: Key::default(),
                    text: text.to_owned(),
                })
                .ok_or_else(|| "a folder is written with its whole path, as `file:///srv/archive`".into());
        }
        let (place, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if place.contains(['@', ':']) {
            return Err("it holds no credentials or endpoint: those come from the environment".into());
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if place.is_empty() || !place.bytes().all(is_name) || prefix.contains(['?', '#']) {
            return Err(ALLOWED.into());
        }
        let prefix = Key::parse(prefix).map_err(|error| format!("its prefix cannot be used: {error}"))?;
        Ok(ArchiveUrl {
            scheme,
            place: place.to_owned(),
            prefix,
            text: text.to_owned(),
        })
    }
}

/// An object store that can be asked.
#[derive(Clone)]
pub(super) struct Store {
    pub objects: Arc<dyn ObjectStore>,
    /// The same, where parts of an upload can outlive the process that began it.
    pub parts: Option<Arc<dyn MultipartStore>>,
    /// The folder, if it is one.
    folder: Option<PathBuf>,
    prefix: Key,
}

impl Store {
    /// Opens it, which asks nobody yet.
    ///
    /// # Errors
    /// What is missing, as a sentence.
    pub fn open(url: &ArchiveUrl) -> Result<Store, String> {
        let retry = RetryConfig {
            max_retries: RETRIES_MAX,
            ..RetryConfig::default()
        };
        // TLS is asked for its cryptography by name; a provider that somebody has chosen already is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
        macro_rules! remote {
            ($builder:expr, $key:path) => {{
                let builder = CLIENT.into_iter().fold($builder, |builder, (key, value)| {
                    builder.with_config($key(key), value)
                });
                let store = builder.with_retry(retry).build();
                let variables = url.scheme.variables();
                let failed = |error| format!("{error} (what this store needs comes from {variables})");
                Store::remote(store.map_err(failed)?, url)
            }};
        }
        Ok(match url.scheme {
            Scheme::S3 => remote!(
                AmazonS3Builder::from_env().with_bucket_name(&url.place),
                AmazonS3ConfigKey::Client
            ),
            Scheme::Google => remote!(
                GoogleCloudStorageBuilder::from_env().with_bucket_name(&url.place),
                GoogleConfigKey::Client
            ),
            Scheme::Azure => remote!(
                MicrosoftAzureBuilder::from_env().with_container_name(&url.place),
                AzureConfigKey::Client
            ),
            Scheme::Folder => {
                // Not made if it is missing: an archive that is not mounted must not end up on the disk below.
                let local = LocalFileSystem::new_with_prefix(&url.place)
                    .map_err(|error| format!("the folder cannot be used: {error}"))?;
                Store {
                    objects: Arc::new(local.with_fsync(true)),
                    parts: None,
                    folder: Some(url.place.clone().into()),
                    prefix: url.prefix.clone(),
                }
            }
        })
    }

    fn remote<S: ObjectStore + MultipartStore>(store: S, url: &ArchiveUrl) -> Store {
        let store = Arc::new(store);
        Store {
            objects: Arc::clone(&store) as _,
            parts: Some(store),
            folder: None,
            prefix: url.prefix.clone(),
        }
    }

    /// The key of the file with that name.
    pub fn key(&self, name: &str) -> Key {
        self.prefix.clone().join(name)
    }

    /// Removes what an upload that was cut off has left in a folder: `key#1` and so on.
    pub fn tidy(&self, key: &Key) {
        let Some(folder) = &self.folder else {
            return;
        };
        for number in 1.. {
            if std::fs::remove_file(folder.join(format!("{key}#{number}"))).is_err() {
                break;
            }
        }
    }
}

#[cfg(test)]
impl Store {
    /// A store in memory.
    pub fn in_memory() -> Store {
        let url = ArchiveUrl::parse("s3://bucket/logs").expect("it is one");
        Store::remote(object_store::memory::InMemory::new(), &url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let url = ArchiveUrl::parse("s3://my-bucket/logs/web").unwrap();
        assert_eq!(
            (url.scheme, &*url.place, url.prefix.as_ref()),
            (Scheme::S3, "my-bucket", "logs/web")
        );
        assert_eq!(url.to_string(), "s3://my-bucket/logs/web");
        for (text, scheme, prefix) in [
            ("s3://b", Scheme::S3, ""),
            ("s3://b/", Scheme::S3, ""),
            ("gs://b/x/", Scheme::Google, "x"),
            ("az://b/x", Scheme::Azure, "x"),
            ("file:///srv/archive", Scheme::Folder, ""),
        ] {
            let url = ArchiveUrl::parse(text).unwrap();
            assert_eq!((url.scheme, url.prefix.as_ref()), (scheme, prefix), "{text}");
        }
    }

    #[test]
    fn other_addresses_are_refused_with_what_is_allowed() {
        for (text, allowed) in [
            ("", "`s3://bucket/prefix`"),
            ("bucket", "`s3://bucket/prefix`"),
            ("ftp://host/folder", "`s3://bucket/prefix`"),
            ("S3://bucket", "`s3://bucket/prefix`"),
            ("s3://", "`s3://bucket/prefix`"),
            ("s3:///prefix", "`s3://bucket/prefix`"),
            ("s3://bucket/a?b", "`s3://bucket/prefix`"),
            ("s3://bucket/a//b", "prefix cannot be used"),
            ("s3://bucket/../b", "prefix cannot be used"),
            ("s3://key:secret@bucket", "no credentials"),
            ("file://relative", "`file:///srv/archive`"),
            ("file:///", "`file:///srv/archive`"),
        ] {
            let error = ArchiveUrl::parse(text).unwrap_err();
            assert!(error.contains(allowed), "{text}: {error}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_not_made() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("archive");
        let url = ArchiveUrl::parse(&format!("file://{}", missing.display())).unwrap();
        let error = Store::open(&url).err().unwrap();
        assert!(error.contains("the folder cannot be used"), "{error}");
        assert!(!missing.exists());
    }
}
