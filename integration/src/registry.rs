//! A registry of the tests' own, Debian's `docker-registry` on a free port of the loopback interface.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::layout::{Layout, TAG};

/// A running registry; it ends with this value.
#[derive(Debug)]
pub struct Registry {
    process: Child,
    host: String,
    storage: TempDir,
}

/// The user of a registry with passwords.
pub const USER: &str = "me";
/// Their password.
pub const PASSWORD: &str = "open sesame";
/// bcrypt of it.
const HASH: &str = "$2y$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW";

/// What manifests are asked for as.
const ACCEPT: &str =
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json";

/// How a registry is guarded.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Certificate and key, for TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The certificate of who signs those that clients have to show.
    pub clients: Option<PathBuf>,
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

    /// Starts one that wants a login.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn with_password() -> Self {
        Self::guarded(&Guard {
            password: true,
            ..Guard::default()
        })
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
            let clients = guard.clients.iter().map(|it| it.display().to_string());
            text += &format!(
                "  tls: {{certificate: {}, key: {}, clientcas: [{}]}}\n",
                certificate.display(),
                key.display(),
                clients.collect::<String>()
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
            storage,
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

    /// Downloads an image, every platform of it, into a layout. Blobs that are not here are passed over.
    ///
    /// # Panics
    /// If the registry does not give it.
    #[must_use]
    pub fn pull(&self, name: &str, tag: &str, path: &Path) -> Layout {
        let layout = Layout::open(path);
        fs::create_dir_all(path.join("blobs/sha256")).expect("the place for a layout is writable");
        let mut entry = self.pull_manifest(&layout, name, tag);
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": TAG});
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        fs::write(path.join("index.json"), index.to_string()).expect("the directory is ours");
        fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
            .expect("the directory is ours");
        layout
    }

    fn pull_manifest(&self, layout: &Layout, name: &str, reference: &str) -> Value {
        let get = |place: &str, reference: &str| {
            let url = format!("http://{}/v2/{name}/{place}/{reference}", self.host);
            ureq::get(url).header("accept", ACCEPT).call()
        };
        let mut answer = get("manifests", reference)
            .unwrap_or_else(|error| panic!("the registry does not give {reference}: {error}"));
        let media_type = answer.headers()["content-type"].clone();
        let bytes = answer.body_mut().read_to_vec().expect("it comes whole");
        let document: Value = serde_json::from_slice(&bytes).expect("a manifest is JSON");
        let digest = |it: &Value| it["digest"].as_str().expect("it has a digest").to_owned();
        for child in document["manifests"].as_array().into_iter().flatten() {
            let _ = self.pull_manifest(layout, name, &digest(child));
        }
        let layers = document["layers"].as_array().into_iter().flatten();
        for blob in layers.chain(document.get("config")) {
            if let Ok(mut answer) = get("blobs", &digest(blob)) {
                let bytes = answer.body_mut().read_to_vec().expect("it comes whole");
                let _ = layout.put("", &bytes);
            }
        }
        layout.put(media_type.to_str().expect("it is ASCII"), &bytes)
    }

    /// Whether a tag names something.
    ///
    /// # Panics
    /// If the registry does not say.
    #[must_use]
    pub fn has_tag(&self, name: &str, tag: &str) -> bool {
        let url = format!("http://{}/v2/{name}/manifests/{tag}", self.host);
        // It has an OCI manifest for those alone who name the type.
        let types =
            "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";
        match ureq::head(url).header("accept", types).call() {
            Ok(_) => true,
            Err(ureq::Error::StatusCode(404)) => false,
            Err(error) => panic!("the registry does not answer: {error}"),
        }
    }

    /// How many uploads have bytes, and neither ended nor were given up.
    #[must_use]
    pub fn uploads(&self, name: &str) -> usize {
        let uploads = format!("data/docker/registry/v2/repositories/{name}/_uploads");
        let uploads = fs::read_dir(self.storage.path().join(uploads));
        let uploads = uploads.into_iter().flatten().flatten();
        // The registry keeps the state of its hashes, whatever became of the bytes.
        let with_bytes = uploads.filter(|upload| upload.path().join("data").exists());
        with_bytes.count()
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
