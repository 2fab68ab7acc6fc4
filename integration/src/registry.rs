//! A registry of the tests' own, Debian's `docker-registry` on a free port of the loopback interface.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::layout::{Layout, TAG};

/// A running registry; it ends with this value.
#[derive(Debug)]
pub struct Registry {
    process: Child,
    host: String,
    _storage: TempDir,
}

/// The user of a registry with passwords.
pub const USER: &str = "me";
/// Their password.
pub const PASSWORD: &str = "open sesame";
/// bcrypt of it.
const HASH: &str = "$2y$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW";

/// How a registry is guarded.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Certificate and key, for TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Whether it wants [`USER`] and [`PASSWORD`].
    pub password: bool,
    /// Whether it wants tokens: where they are given out, and the certificate of who signs them.
    pub token: Option<(String, PathBuf)>,
}

impl Registry {
    /// Starts one with nothing in it.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn start() -> Self {
        Self::guarded(&Guard::default())
    }

    /// Starts one that not everybody may use.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn guarded(guard: &Guard) -> Self {
        let storage =
            TempDir::with_prefix("ocihsm-registry-").expect("a temporary directory can be made");
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|socket| socket.local_addr())
            .expect("the loopback interface has a free port")
            .port();
        let host = format!("127.0.0.1:{port}");
        let configuration = storage.path().join("config.yml");
        let mut text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp:\n  addr: {host}\n",
            storage.path().join("data").display()
        );
        if let Some((certificate, key)) = &guard.tls {
            text += &format!(
                "  tls: {{certificate: {}, key: {}}}\n",
                certificate.display(),
                key.display()
            );
        }
        if guard.password {
            let users = storage.path().join("users");
            fs::write(&users, format!("{USER}:{HASH}\n")).expect("the directory is ours");
            text += &format!(
                "auth: {{htpasswd: {{realm: here, path: {}}}}}\n",
                users.display()
            );
        }
        if let Some((realm, certificate)) = &guard.token {
            text += &format!(
                "auth: {{token: {{realm: \"{realm}\", service: here, issuer: test, rootcertbundle: {}}}}}\n",
                certificate.display()
            );
        }
        fs::write(&configuration, text).expect("the directory is ours");
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "docker-registry", "serve"])
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry and util-linux are installed");
        let registry = Self {
            process,
            host,
            _storage: storage,
        };
        let patience = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&registry.host).is_err() {
            assert!(
                Instant::now() < patience,
                "docker-registry does not answer on {}",
                registry.host
            );
            thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    /// Host and port.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The reference of an image here.
    #[must_use]
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}:{TAG}", self.host)
    }

    /// Uploads what a layout holds under its tag, every platform of it, and returns its reference.
    ///
    /// # Panics
    /// If the registry refuses.
    pub fn push(&self, layout: &Layout, name: &str) -> String {
        let index: Value = serde_json::from_slice(
            &fs::read(layout.path().join("index.json")).expect("a layout has an index"),
        )
        .expect("an index is JSON");
        self.push_manifest(layout, name, &index["manifests"][0], TAG);
        self.reference(name)
    }

    fn push_manifest(&self, layout: &Layout, name: &str, descriptor: &Value, reference: &str) {
        let bytes = layout.read(descriptor);
        let manifest: Value = serde_json::from_slice(&bytes).expect("a manifest is JSON");
        for child in manifest["manifests"].as_array().into_iter().flatten() {
            self.push_manifest(
                layout,
                name,
                child,
                child["digest"].as_str().expect("a descriptor has a digest"),
            );
        }
        for blob in manifest["layers"]
            .as_array()
            .into_iter()
            .flatten()
            .chain(manifest.get("config"))
        {
            self.push_blob(
                name,
                blob["digest"].as_str().expect("a descriptor has a digest"),
                &layout.read(blob),
            );
        }
        ureq::put(format!(
            "http://{}/v2/{name}/manifests/{reference}",
            self.host
        ))
        .content_type(
            descriptor["mediaType"]
                .as_str()
                .expect("a descriptor has a media type"),
        )
        .send(&bytes)
        .unwrap_or_else(|error| panic!("the registry does not take the manifest: {error}"));
    }

    fn push_blob(&self, name: &str, digest: &str, bytes: &[u8]) {
        let upload = ureq::post(format!("http://{}/v2/{name}/blobs/uploads/", self.host))
            .send_empty()
            .unwrap_or_else(|error| panic!("the registry takes no uploads: {error}"));
        let location = upload.headers()["location"]
            .to_str()
            .expect("a location is ASCII")
            .to_owned();
        let separator = if location.contains('?') { '&' } else { '?' };
        ureq::put(format!("{location}{separator}digest={digest}"))
            .content_type("application/octet-stream")
            .send(bytes)
            .unwrap_or_else(|error| panic!("the registry does not take {digest}: {error}"));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
