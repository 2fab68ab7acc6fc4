//! Plain containerds, of this machine and of the peers, with plain `ctr`: images that must run, and images that must
//! not unpack. How a client with a payload fares is in `matrix.rs`.

use std::fs;
use std::thread;

use integration::containerd::{Containerd, Settings};
use integration::layer::{Archive, Compression, Layer, digest, noise};
use integration::layout::Layout;
use integration::registry::Registry;
use integration::root::Root;
use integration::skip;
use integration::token::Token;
use tempfile::TempDir;

/// How much of a layer a decoder holds back until the MAC has agreed: known to an attacker too.
const HELD_BACK: usize = 10 << 10;

/// Pulls of each kind of tampered layer, on each containerd. An overlooked exit status does not show every time.
const PULLS: usize = 60;

/// Runs a test on every containerd there is, beside one another.
fn on_every_containerd(test: impl Fn(&Root) + Sync) {
    if !skip::root() || !skip::programs(&["containerd", "runc", "docker-registry"]) {
        return;
    }
    thread::scope(|scope| {
        let handles: Vec<_> = Root::all()
            .into_iter()
            .map(|root| scope.spawn(|| test(&{ root })))
            .collect();
        assert!(
            handles
                .into_iter()
                .map(|handle| handle.join())
                .all(|result| result.is_ok()),
            "one of them failed"
        );
    });
}

#[test]
fn an_image_of_three_media_types_is_imported_pulled_and_run() {
    on_every_containerd(|root| {
        let token = Token::vectors();
        let place = TempDir::new().unwrap();
        let layers = [
            Layer::busybox(Compression::Gzip),
            Layer::file("etc/one", b"one of three\n", Compression::None),
            Layer::file("etc/two", b"two of three\n", Compression::Zstd),
        ];
        let plain = Layout::create(
            place.path().join("image"),
            &layers,
            &["/bin/cat", "/etc/one", "/etc/two"],
        );
        let encrypted = token.encrypt(&plain, "rsa3072", &[]);
        let registry = Registry::start();
        let reference = registry.push(&encrypted, "three");
        let containerd = Containerd::start(&Settings::new(root.clone(), &token.keys(&["rsa3072"])));

        let output = containerd.import(&encrypted.archive(), "three");
        assert!(output.status.success(), "{output:?}");
        assert_eq!(
            containerd.run("test.example/three:latest").text(),
            "one of three\ntwo of three\n"
        );

        let containerd = Containerd::start(&Settings::new(root.clone(), &token.keys(&["rsa3072"])));
        let output = containerd.pull(&reference);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(
            containerd.run(&reference).text(),
            "one of three\ntwo of three\n"
        );
    });
}

#[test]
fn a_layer_of_300_mib_is_whole() {
    let token = Token::vectors();
    let place = TempDir::new().unwrap();
    let content = noise(300 << 20);
    let hash = digest(&content).replace("sha256:", "");
    let layers = [
        Layer::busybox(Compression::Gzip),
        Layer::file("big", &content, Compression::None),
    ];
    drop(content);
    let command = ["/bin/busybox", "sha256sum", "/big"];
    let plain = Layout::create(place.path().join("image"), &layers, &command);
    drop(layers);
    let archive = token
        .encrypt(&plain, "rsa3072", &["--encrypt-layer", "1"])
        .archive();
    on_every_containerd(|root| {
        let containerd = Containerd::start(&Settings::new(root.clone(), &token.keys(&["rsa3072"])));
        let output = containerd.import(&archive, "big");
        assert!(output.status.success(), "{output:?}");
        assert_eq!(
            containerd.run("test.example/big:latest").text(),
            format!("{hash}  /big\n")
        );
    });
}

#[test]
fn without_its_key_an_image_is_not_unpacked_and_ctr_says_why() {
    on_every_containerd(|root| {
        let token = Token::vectors();
        let place = TempDir::new().unwrap();
        let plain = Layout::create(
            place.path().join("image"),
            &[Layer::busybox(Compression::Gzip)],
            &["/bin/echo"],
        );
        let archive = token.encrypt(&plain, "rsa3072", &[]).archive();
        for keys in [token.keys(&["other3072"]), token.keys(&[])] {
            let containerd = Containerd::start(&Settings::new(root.clone(), &keys));
            let output = containerd.import(&archive, "closed");
            assert!(!output.status.success(), "{output:?}");
            assert!(output.stderr.contains("ocihsm: error: "), "{output:?}");
            assert_eq!(snapshots(&containerd), 0);
        }
    });
}

#[test]
fn layers_that_only_their_mac_gives_away_are_never_unpacked() {
    on_every_containerd(|root| {
        let token = Token::vectors();
        let registry = Registry::start();
        let containerd = Containerd::start(&Settings::new(root.clone(), &token.keys(&["rsa3072"])));
        let images: Vec<_> = Tampering::ALL
            .into_iter()
            .flat_map(|kind| Compression::ALL.map(|compression| (kind, compression)))
            .collect();
        for (kind, compression) in images {
            let place = TempDir::new().unwrap();
            let forged = forge(&token, &place, kind, compression);
            assert_unpacks_if_written(root, &forged);
            let name = format!("{kind:?}-{compression:?}").to_lowercase();
            let reference = registry.push(&forged.layout, &name);
            for pull in 0..PULLS / Compression::ALL.len() {
                let output = containerd.pull(&reference);
                assert!(!output.status.success(), "{name}, pull {pull}: {output:?}");
            }
            // The layer below it may have been unpacked, and collected again.
            assert!(snapshots(&containerd) < 2, "{name} was unpacked");
        }
    });
}

/// What was done to a layer.
#[derive(Clone, Copy, Debug)]
enum Tampering {
    /// A bit is another, in a place where the archive stays readable.
    Flipped,
    /// Longer by just what is held back.
    Longer,
    /// Ends so that what is written without what is held back is an archive.
    Shorter,
}

impl Tampering {
    const ALL: [Self; 3] = [Self::Flipped, Self::Longer, Self::Shorter];
}

/// An image whose size, digests and `diff_ids` are right for what `written` holds.
struct Forged {
    layout: Layout,
    media_type: &'static str,
    written: Vec<u8>,
}

/// Makes an encrypted image and tampers with its upper layer as someone can who knows what is in it.
fn forge(token: &Token, place: &TempDir, kind: Tampering, compression: Compression) -> Forged {
    let mut archive = Archive::new();
    archive.file("etc/first", 0o644, &noise(50_000));
    let first = archive.so_far().to_vec();
    archive.file("etc/second", 0o644, &noise(50_000));
    let archive = archive.finish();
    let begin = compress(compression, &first);
    let blob = [&begin[..], &compress(compression, &archive[first.len()..])].concat();
    let layer = Layer {
        compression,
        blob: blob.clone(),
        diff_id: digest(&archive),
    };
    let layers = [Layer::busybox(Compression::Gzip), layer];
    let plain = Layout::create(place.path().join("image"), &layers, &["/bin/echo"]);
    let layout = token.encrypt(&plain, "rsa3072", &["--encrypt-layer", "1"]);
    let mut sealed = layout.read(&layout.layers()[1]);
    assert_eq!(sealed.len(), blob.len(), "the cipher adds nothing");
    let written = match kind {
        Tampering::Flipped => {
            // gzip has a checksum, but not over its header's time; the other two have none.
            let place = if compression == Compression::Gzip {
                5
            } else {
                25_000
            };
            sealed[place] ^= 1;
            let mut written = blob;
            written[place] ^= 1;
            written
        }
        Tampering::Longer => {
            sealed.extend(noise(HELD_BACK));
            blob
        }
        Tampering::Shorter => {
            sealed.truncate(begin.len() + HELD_BACK);
            begin
        }
    };
    layout.replace_layer(1, &sealed, Some(&digest(&compression.decompress(&written))));
    Forged {
        layout,
        media_type: compression.media_type(),
        written,
    }
}

/// The forgery is good: a decoder that writes those bytes, and is believed, makes containerd unpack the image.
fn assert_unpacks_if_written(root: &Root, forged: &Forged) {
    let place = TempDir::new().unwrap();
    let file = place.path().join("written");
    fs::write(&file, &forged.written).unwrap();
    let media_type = forged.media_type;
    let processors = format!(
        "version = 2\n[stream_processors.\"io.containerd.ocicrypt.decoder.v1.tar{}\"]\n\
         accepts = [\"{media_type}+encrypted\"]\nreturns = \"{media_type}\"\n\
         path = \"sh\"\nargs = [\"-c\", \"cat > /dev/null; cat {}\"]\n",
        media_type
            .rsplit_once('+')
            .map_or(String::new(), |(_, suffix)| format!(".{suffix}")),
        file.display()
    );
    let containerd = Containerd::start(&Settings {
        root: root.clone(),
        processors,
        cri: None,
    });
    let output = containerd.import(&forged.layout.archive(), "forged");
    assert!(output.status.success(), "{media_type}: {output:?}");
    assert_eq!(snapshots(&containerd), 2);
}

/// How many layers are unpacked.
fn snapshots(containerd: &Containerd) -> usize {
    containerd
        .ctr(&["snapshots", "list"])
        .ok()
        .text()
        .lines()
        .filter(|line| line.contains("Committed"))
        .count()
}

fn compress(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    match compression {
        // Without the checksum that the program adds by default and the format does not ask for.
        Compression::Zstd => {
            integration::program::Program::new("zstd")
                .args(["-q", "-c", "--no-check", "-"])
                .stdin(bytes)
                .ok()
                .stdout
        }
        _ => compression.compress(bytes),
    }
}
