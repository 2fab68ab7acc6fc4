//! What a user sees of an image that cannot be opened is an event of the kubelet: one line of at most 1,024 bytes.
//! Each way to fail is tried on every containerd, as its CRI plugin pulls by default and, where that is another way, as it
//! pulls itself. Prints every message.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::thread;

use integration::containerd::{Containerd, CriSettings, Settings};
use integration::cri::Cri;
use integration::layer::{Compression, Layer, noise};
use integration::layout::Layout;
use integration::program::holds_a_pin;
use integration::registry::Registry;
use integration::root::Root;
use integration::skip;
use integration::token::{Token, copy_directory};
use tempfile::TempDir;

/// Longest message of an event.
const EVENT: usize = 1024;

/// Sizes of layers that are changed: one that is verified whole before it is written anyway, and one that is not.
const SIZES: [(&str, usize); 2] = [("100 KB", 100_000), ("3 MiB", 3 << 20)];

/// A way to fail.
struct Case {
    what: String,
    image: String,
    /// The keys that the node has.
    keys: &'static [&'static str],
    reason: &'static str,
}

impl Case {
    fn all(token: &Token, registry: &Registry, place: &Path) -> Vec<Self> {
        let plain = Layer::file("etc/one", b"one", Compression::Gzip);
        let plain = Layout::create(place.join("image"), &[plain], &["/bin/true"]);
        let image = registry.push(&token.encrypt(&plain, "rsa3072", &[]), "image");
        let mut cases = vec![
            Self {
                what: "a wrong key".to_owned(),
                image: image.clone(),
                keys: &["other3072"],
                reason: "are for other keys",
            },
            Self {
                what: "a removed key".to_owned(),
                image,
                keys: &[],
                reason: "there is no usable key in",
            },
        ];
        for compression in Compression::ALL {
            for (size, length) in SIZES {
                let name = format!("changed-{compression:?}-{length}").to_lowercase();
                let layer = Layer::file("etc/one", &noise(length), compression);
                let plain = Layout::create(place.join(&name), &[layer], &["/bin/true"]);
                let changed = token.encrypt(&plain, "rsa3072", &[]);
                let mut bytes = changed.read(&changed.layers()[0]);
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                changed.replace_layer(0, &bytes, None);
                cases.push(Self {
                    what: format!("a changed layer of {size}, {}", kind(compression)),
                    image: registry.push(&changed, &name),
                    keys: &["rsa3072"],
                    reason: "verification failed",
                });
            }
        }
        cases
    }
}

fn kind(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "tar",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    }
}

#[test]
fn what_the_kubelet_would_show_is_one_line_that_says_what_to_do() {
    if !skip::root() || !skip::programs(&["containerd", "runc", "docker-registry"]) {
        return;
    }
    let (token, registry, place) = (Token::vectors(), Registry::start(), TempDir::new().unwrap());
    let cases = Case::all(&token, &registry, place.path());
    let mut table = "| containerd | CRI | what is wrong | bytes | what the kubelet shows |\n| --- | --- | --- | --- | --- |\n".to_owned();
    thread::scope(|scope| {
        let rows: Vec<_> = Root::all()
            .into_iter()
            .map(|root| scope.spawn(|| rows(root, &cases)))
            .collect();
        for rows in rows {
            table += &rows
                .join()
                .expect("a message is not as it should be, see above");
        }
    });
    print!("\n{table}");
}

/// The messages of one containerd.
fn rows(root: Root, cases: &[Case]) -> String {
    // A copy, for SoftHSM's tokens are not to be shared.
    let token = Token::vectors();
    let mut rows = String::new();
    for local_pull in [false, true] {
        let place = TempDir::new().unwrap();
        let (keys, log) = (place.path().join("keys"), place.path().join("log"));
        let mut settings = Settings::with_log(root.clone(), &keys, &log);
        settings.cri = Some(CriSettings {
            // Pulls alone need none.
            pause: "test.example/pause:latest".to_owned(),
            local_pull,
        });
        let containerd = Containerd::start(&settings);
        let cri = Cri::connect(&containerd.socket(), "kubelet", place.path());
        for case in cases {
            let _ = fs::remove_dir_all(&keys);
            copy_directory(&token.keys(case.keys), &keys);
            let message = message(&containerd, &cri, &log, case);
            let _ = writeln!(
                rows,
                "| {} | {} | {} | {} | {} |",
                containerd.version(),
                if local_pull { "local pull" } else { "defaults" },
                case.what,
                message.len(),
                shortened(&message)
            );
        }
        // Before containerd 2 every CRI pull is local.
        if containerd.version().starts_with("1.") {
            break;
        }
    }
    rows
}

fn message(containerd: &Containerd, cri: &Cri, log: &Path, case: &Case) -> String {
    let what = format!("containerd {}, {}", containerd.version(), case.what);
    let Err(status) = cri.pull(&case.image) else {
        panic!("{what}: it was pulled");
    };
    let message = status.message().to_owned();
    assert!(!holds_a_pin(message.as_bytes()), "{what}: a PIN was told");
    assert_eq!(message.lines().count(), 1, "{what}: {message:?}");
    assert!(message.len() <= EVENT, "{what}: {message}");
    for part in ["ocihsm: error: ", case.reason, "; hint: "] {
        assert!(message.contains(part), "{what}: {message}");
    }
    let told = fs::read_to_string(log).unwrap();
    let last = told.lines().last().unwrap_or_default();
    assert!(last.contains(case.reason), "{what}: {last}");
    assert!(!holds_a_pin(told.as_bytes()), "{what}: a PIN was logged");
    message
}

/// The message with less of each digest, for who reads the table.
fn shortened(message: &str) -> String {
    let mut parts = message.split("sha256:");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let hash = part.find(|letter: char| !letter.is_ascii_hexdigit());
        let (hash, rest) = part.split_at(hash.unwrap_or(part.len()));
        text += "sha256:";
        match hash.get(..12) {
            Some(short) if hash.len() == 64 => text.extend([short, "…"]),
            _ => text += hash,
        }
        text += rest;
    }
    text
}
