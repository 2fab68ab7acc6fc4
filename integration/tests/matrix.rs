//! Every containerd, every way to get an image: an encrypted image of three media types is fetched, unpacked and run.
//! Prints a table of what ran against what, and how the decoder learned which layer it was fed. What CRI says of an
//! image that cannot be opened is in `kubelet.rs`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use integration::containerd::{Containerd, CriSettings, Settings};
use integration::cri::Cri;
use integration::layer::{Compression, Layer};
use integration::layout::Layout;
use integration::program::Output;
use integration::registry::Registry;
use integration::root::Root;
use integration::skip;
use integration::token::Token;
use serde_json::Value;
use tempfile::TempDir;

const GREETING: &str = "opened\n";

/// A way to get an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Import,
    Pull,
    PullLocal,
    PullWithPayload,
    CriDefault,
    CriLocal,
}

impl Flow {
    const ALL: [Self; 6] = [
        Self::Import,
        Self::Pull,
        Self::PullLocal,
        Self::PullWithPayload,
        Self::CriDefault,
        Self::CriLocal,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Import => "ctr import",
            Self::Pull => "ctr pull",
            Self::PullLocal => "ctr pull --local",
            Self::PullWithPayload => "ctr-enc pull --key",
            Self::CriDefault => "CRI, default settings",
            Self::CriLocal => "CRI, local pull",
        }
    }

    /// From containerd 2 on there is a choice between its transfer service and pulling as before.
    fn exists(self, two: bool) -> bool {
        two || !matches!(self, Self::PullLocal | Self::CriLocal)
    }

    /// Whether the client sends a payload for tar and gzip layers.
    fn sends_payload(self, version: &str) -> bool {
        match self {
            Self::PullWithPayload => true,
            Self::CriDefault => version.starts_with("1."),
            // Lost in 2.0.0, back in 2.1.7 and 2.2.2.
            Self::CriLocal => {
                let number = |place| {
                    version
                        .split('.')
                        .nth(place)
                        .and_then(|part| part.parse().ok())
                        .unwrap_or(0_u32)
                };
                match (number(0), number(1), number(2)) {
                    (2, 1, patch) => patch >= 7,
                    (2, 2, patch) => patch >= 2,
                    (2, minor, _) => minor >= 3,
                    _ => true,
                }
            }
            _ => false,
        }
    }
}

/// What the flows share: an encrypted image in a registry, and the programs.
struct Stage {
    _registry: Registry,
    image: String,
    pause: String,
    encrypted: Layout,
    client: Option<PathBuf>,
    place: TempDir,
}

impl Stage {
    fn new() -> Self {
        let place = TempDir::new().unwrap();
        let token = Token::vectors();
        let registry = Registry::start();
        let layers = [
            Layer::busybox(Compression::Gzip),
            Layer::file("etc/one", b"o", Compression::None),
            Layer::file("etc/two", b"pened\n", Compression::Zstd),
        ];
        let plain = Layout::create(
            place.path().join("image"),
            &layers,
            &["/bin/cat", "/etc/one", "/etc/two"],
        );
        let pause = Layout::create(
            place.path().join("pause"),
            &layers[..1],
            &["/bin/sleep", "1000000"],
        );
        let encrypted = token.encrypt(&plain, "rsa3072", &[]);
        Self {
            image: registry.push(&encrypted, "image"),
            pause: registry.push(&pause, "pause"),
            client: client(place.path()),
            _registry: registry,
            encrypted,
            place,
        }
    }

    fn start(&self, root: &Root, flow: Flow, keys: &Path, log: &Path) -> Containerd {
        let mut settings = Settings::with_log(root.clone(), keys, log);
        if matches!(flow, Flow::CriDefault | Flow::CriLocal) {
            settings.cri = Some(CriSettings {
                pause: self.pause.clone(),
                local_pull: flow == Flow::CriLocal,
            });
        }
        Containerd::start(&settings)
    }

    /// Gets the image and runs it; what its container printed.
    fn fetch_and_run(
        &self,
        containerd: &Containerd,
        token: &Token,
        flow: Flow,
    ) -> Result<String, String> {
        let image = &self.image;
        let succeeded = |output: Output| {
            if output.status.success() {
                Ok(())
            } else {
                Err(output.stderr)
            }
        };
        let mut reference = image.clone();
        match flow {
            Flow::Import => {
                succeeded(containerd.import(&self.encrypted.archive(), "image"))?;
                "test.example/image:latest".clone_into(&mut reference);
            }
            Flow::Pull => succeeded(containerd.pull(image))?,
            Flow::PullLocal => succeeded(
                containerd
                    .ctr(&["images", "pull", "--local", "--plain-http", image])
                    .run(),
            )?,
            Flow::PullWithPayload => {
                let client = self
                    .client
                    .as_ref()
                    .expect("the flow is left out without it");
                // The check of authorization before the pull would need the token on the client's side, and the
                // client cannot do SHA-256 on this one.
                let args = [
                    "images",
                    "pull",
                    "--plain-http",
                    "--skip-decrypt-auth",
                    "--key",
                ];
                let pull = containerd
                    .client(client.to_str().unwrap(), &args)
                    .arg(token.key_file("rsa3072"))
                    .arg(image)
                    .env("OCICRYPT_CONFIG", "internal");
                succeeded(pull.run())?;
            }
            Flow::CriDefault | Flow::CriLocal => {
                let logs = tempfile::tempdir_in(&self.place).unwrap();
                let name = logs
                    .path()
                    .file_name()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .replace('.', "ocihsm-")
                    .to_lowercase();
                let cri = Cri::connect(&containerd.socket(), &name, logs.path());
                let pulled = cri.pull(image).and_then(|()| cri.run(image));
                containerd.forget_cgroup(&name);
                return pulled.map_err(|status| status.message().to_owned());
            }
        }
        let output = containerd.run(&reference);
        assert!(output.status.success(), "{output:?}");
        Ok(output.text())
    }
}

/// imgcrypt's client, copied to where each root can see it.
fn client(place: &Path) -> Option<PathBuf> {
    let source = Root::trixie()?.path("usr/local/bin/ctr-enc")?;
    let client = place.join("ctr-enc");
    fs::copy(source, &client).unwrap();
    Some(client)
}

/// How each layer was learned, from the records of the decoder.
fn learned(log: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(log).unwrap();
    text.lines()
        .map(|line| {
            let record: Value = serde_json::from_str(line).unwrap();
            record["learned_from"].as_str().unwrap().to_owned()
        })
        .collect()
}

#[test]
fn every_flow_runs_on_every_containerd() {
    if !skip::root() || !skip::programs(&["containerd", "runc", "docker-registry"]) {
        return;
    }
    let stage = Stage::new();
    let roots = Root::all();
    let columns: Vec<(String, Vec<String>)> = thread::scope(|scope| {
        let columns: Vec<_> = roots
            .iter()
            .map(|root| scope.spawn(|| column(&stage, root)))
            .collect();
        columns
            .into_iter()
            .map(|column| column.join().expect("a flow failed, see above"))
            .collect()
    });
    print!("\n{}", table(&columns));
}

fn table(columns: &[(String, Vec<String>)]) -> String {
    let versions: Vec<_> = columns.iter().map(|column| column.0.as_str()).collect();
    let mut table = format!("| image by | {} |\n", versions.join(" | "));
    let _ = writeln!(table, "| --- |{}", " --- |".repeat(columns.len()));
    for (row, flow) in Flow::ALL.iter().enumerate() {
        let cells: Vec<_> = columns
            .iter()
            .map(|column| column.1[row].as_str())
            .collect();
        let _ = writeln!(table, "| {} | {} |", flow.name(), cells.join(" | "));
    }
    table
}

/// One containerd's cells.
fn column(stage: &Stage, root: &Root) -> (String, Vec<String>) {
    // A copy, for SoftHSM's tokens are not to be shared.
    let token = Token::vectors();
    let mut version = String::new();
    let mut cells = Vec::new();
    for flow in Flow::ALL {
        let log = stage
            .place
            .path()
            .join(format!("{}-{flow:?}.log", root.name()));
        let missing = flow == Flow::PullWithPayload && stage.client.is_none();
        if missing || (!version.is_empty() && !flow.exists(version.starts_with("2."))) {
            cells.push("-".to_owned());
            continue;
        }
        let containerd = stage.start(root, flow, &token.keys(&["rsa3072"]), &log);
        containerd.version().clone_into(&mut version);
        let printed = stage.fetch_and_run(&containerd, &token, flow);
        assert_eq!(
            printed.as_deref(),
            Ok(GREETING),
            "{} on containerd {version}\n{}",
            flow.name(),
            containerd.log()
        );
        let learned = learned(&log);
        assert_eq!(
            learned.contains("payload"),
            flow.sends_payload(&version),
            "{} on containerd {version} learned from {learned:?}",
            flow.name()
        );
        cells.push(format!(
            "runs ({})",
            learned.into_iter().collect::<Vec<_>>().join(", ")
        ));
    }
    (format!("containerd {version}"), cells)
}
