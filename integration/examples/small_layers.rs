//! Measures the import of an image of thirty small layers into containerd 2.x: plain, opened by `ocihsm decode`, and
//! opened by imgcrypt's `ctd-decoder`, in turns. Prints the median seconds of each, one a line.
//!
//! usage: small_layers [RUNS]
//!
//! Every run imports layers of its own, since containerd asks nobody for a layer that it has unpacked before. For
//! `benches/compare.py`; needs root and the peers.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use integration::containerd::{Containerd, Settings};
use integration::layer::{Compression, Layer};
use integration::layout::Layout;
use integration::root::Root;
use integration::token::Token;
use tempfile::TempDir;

const LAYERS: usize = 30;

fn main() {
    let runs = std::env::args()
        .nth(1)
        .map_or(5, |text| text.parse().expect("RUNS is a number"));
    let root = Root::sid().expect("integration/peers makes the peers");
    let token = Token::vectors();
    let keys = token.keys(&["rsa3072"]);
    let ours = Containerd::start(&Settings::new(root.clone(), &keys));
    // The client that sends the peer its key, and the peer, are Debian 13's; this containerd's root has none.
    let programs = TempDir::with_prefix("ocihsm-peer-").expect("a temporary directory can be made");
    let peer = peer(&root, programs.path());

    let mut samples = [Vec::new(), Vec::new(), Vec::new()];
    for run in 0..runs {
        samples[0].push(timed(run, "plain", |image| {
            let archive = image.archive();
            took(|| ours.import(&archive, &format!("plain{run}")))
        }));
        samples[1].push(timed(run, "ocihsm", |image| {
            let archive = token
                .encrypt(image, "rsa3072", &["--oaep-hash", "sha1"])
                .archive();
            took(|| ours.import(&archive, &format!("ocihsm{run}")))
        }));
        if let Some(peer) = &peer {
            samples[2].push(timed(run, "peer", |image| {
                let archive = token
                    .encrypt(image, "rsa3072", &["--oaep-hash", "sha1"])
                    .archive();
                let client = programs.path().join("ctr-enc").display().to_string();
                let key = token.key_file("rsa3072").display().to_string();
                let base = format!("test.example/peer{run}");
                took(|| {
                    peer.client(
                        &client,
                        &["images", "import", "--base-name", &base, "--key", &key],
                    )
                    .arg(&archive)
                    .env("OCICRYPT_CONFIG", "internal")
                    .env("OCICRYPT_OAEP_HASHALG", "sha1")
                    .indiscreet()
                    .run()
                })
            }));
        }
    }
    println!("containerd {}", ours.version());
    for (name, samples) in ["plain", "ocihsm", "ctd-decoder"].iter().zip(&mut samples) {
        samples.sort();
        if let Some(median) = samples.get(samples.len() / 2) {
            println!("{name} {:.3}", median.as_secs_f64());
        }
    }
}

/// What an import of a new image of thirty layers takes.
fn timed(run: usize, name: &str, import: impl Fn(&Layout) -> Duration) -> Duration {
    let layers: Vec<_> = (0..LAYERS)
        .map(|number| {
            let content = format!("{name} {run} {number}\n").repeat(2000);
            Layer::file(
                &format!("etc/{number}"),
                content.as_bytes(),
                Compression::Gzip,
            )
        })
        .collect();
    let place = TempDir::with_prefix("ocihsm-layers-").expect("a temporary directory can be made");
    import(&Layout::create(
        place.path().join("image"),
        &layers,
        &["/bin/true"],
    ))
}

fn took(import: impl FnOnce() -> integration::program::Output) -> Duration {
    let start = Instant::now();
    let output = import();
    let took = start.elapsed();
    assert!(output.status.success(), "{output:?}");
    took
}

/// A containerd whose stream processors are the peer's.
fn peer(root: &Root, programs: &Path) -> Option<Containerd> {
    let trixie = Root::trixie()?;
    for name in ["ctr-enc", "ctd-decoder"] {
        let program = trixie.path(&format!("usr/local/bin/{name}"))?;
        fs::copy(program, programs.join(name)).expect("the directory is ours");
    }
    let processors = Compression::ALL.map(|compression| {
        let returns = compression.media_type();
        let id = returns.trim_start_matches("application/vnd.oci.image.layer.v1.").replace('+', ".");
        format!(
            "[stream_processors.\"io.containerd.ocicrypt.decoder.v1.{id}\"]\naccepts = [\"{returns}+encrypted\"]\n\
             returns = \"{returns}\"\npath = \"{}\"\nenv = [\"OCICRYPT_CONFIG=internal\"]\n",
            programs.join("ctd-decoder").display()
        )
    });
    Some(Containerd::start(&Settings {
        root: root.clone(),
        processors: format!("version = 2\n{}", processors.concat()),
        cri: None,
    }))
}
