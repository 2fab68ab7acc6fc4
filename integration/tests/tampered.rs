//! Layers that were changed by someone who knows how a decoder works, and what stands in them: sizes, digests and
//! `diff_ids` are right for what a decoder may have written when it finds out, and only the MAC gives them away. No
//! containerd may unpack one, though it may overlook the decoder's exit status.

use std::fmt::Write as _;
use std::fs;

use flate2::GzBuilder;
use integration::containerd::{Containerd, Settings};
use integration::layer::{Archive, Compression, Layer, digest, noise};
use integration::layout::Layout;
use integration::processor::Processor;
use integration::program::Program;
use integration::registry::Registry;
use integration::root::Root;
use integration::skip;
use integration::token::Token;
use serde_json::Value;
use tempfile::TempDir;

/// Pulls of layers that fail late, on each containerd. An overlooked exit status does not show every time.
const PULLS: usize = 126;

/// Pulls of each layer that fails before its first byte.
const EARLY_PULLS: usize = 2;

/// What was done to a layer.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// A bit is another, in a place where the archive stays readable.
    Flipped,
    /// Longer by just what is held back.
    Longer,
    /// Ends so that what is written without what is held back is an archive.
    Shorter,
}

impl Change {
    const ALL: [Self; 3] = [Self::Flipped, Self::Longer, Self::Shorter];
}

/// How a layer is laid out, with the decoder in mind that it is to deceive.
#[derive(Clone, Copy, Debug)]
struct Shape {
    /// Bytes of the archive up to the second file, and of all of it.
    parts: [usize; 2],
    /// What the decoder writes is a multiple of this.
    unit: usize,
    /// How much it holds back until the MAC has agreed.
    held_back: usize,
}

/// Small enough for `ocihsm` to verify it whole before it writes; the layout is for the reference's decoder.
const SMALL: Shape = Shape {
    parts: [50 << 10, 100 << 10],
    unit: 1,
    held_back: 10 << 10,
};

/// Of this one `ocihsm` holds back the last two buffers.
const LARGE: Shape = Shape {
    parts: [1 << 20, 3 << 20],
    unit: 512 << 10,
    held_back: 1 << 20,
};

/// An image whose size, digests and `diff_ids` are right for what `written` holds.
struct Forged {
    name: String,
    /// Where it is to be had.
    reference: String,
    layout: Layout,
    written: Vec<u8>,
    _place: TempDir,
}

impl Forged {
    fn all(token: &Token, registry: &Registry, shape: Shape, changes: &[Change]) -> Vec<Self> {
        let kinds = changes
            .iter()
            .flat_map(|change| Compression::ALL.map(|compression| (*change, compression)));
        kinds
            .map(|(change, compression)| Self::new(token, registry, shape, change, compression))
            .collect()
    }

    fn new(
        token: &Token,
        registry: &Registry,
        shape: Shape,
        change: Change,
        compression: Compression,
    ) -> Self {
        let place = TempDir::new().unwrap();
        // Compression adds a little, and the rest of a unit is filled up.
        let room = match compression {
            Compression::None => 0,
            Compression::Gzip | Compression::Zstd => 16 << 10,
        };
        let [first, whole] = shape.parts.map(|part| part - room);
        let mut archive = Archive::new();
        archive.file("etc/first", 0o644, &noise(first - BLOCK));
        let begin = archive.so_far().to_vec();
        // Two empty blocks end an archive.
        let second = whole - begin.len() - room - 3 * BLOCK;
        archive.file("etc/second", 0o644, &noise(second));
        let archive = archive.finish();
        let end = compress(compression, &archive[begin.len()..], shape.unit);
        let begin = compress(compression, &begin, shape.unit);
        let blob = [&begin[..], &end].concat();
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
        let written = match change {
            Change::Flipped => {
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
            Change::Longer => {
                sealed.extend(noise(shape.held_back));
                blob
            }
            Change::Shorter => {
                sealed.truncate(begin.len() + shape.held_back);
                begin
            }
        };
        let archive = compression.decompress(&written);
        layout.replace_layer(1, &sealed, Some(&digest(&archive)));
        let name = format!("{change:?}-{compression:?}-{whole}").to_lowercase();
        Self {
            reference: registry.push(&layout, &name),
            name,
            layout,
            written,
            _place: place,
        }
    }

    /// The forgery deceives: all of it has left, and more that spoils it, when the decoder fails.
    fn assert_written_before_it_fails(&self, token: &Token) {
        let layer = &self.layout.layers()[1];
        let outcome = Processor::decode(token, &self.layout, layer, &token.keys(&["rsa3072"]))
            .arg("--single-pass")
            .payload(layer, &Value::Null)
            .run()
            .output;
        assert!(!outcome.status.success(), "{}: {outcome:?}", self.name);
        assert!(outcome.stdout.starts_with(&self.written), "{}", self.name);
        assert!(outcome.stdout.len() > self.written.len(), "{}", self.name);
    }
}

/// A containerd whose decoder writes what a forgery would have it write, and is believed.
struct Believer {
    containerd: Containerd,
    place: TempDir,
}

impl Believer {
    fn start(root: &Root) -> Self {
        let place = TempDir::new().unwrap();
        let mut processors = "version = 2\n".to_owned();
        for compression in Compression::ALL {
            let returns = compression.media_type();
            // The names of the built-in ones, which would otherwise be chosen at random.
            let suffix = returns.split_once('+').map_or("", |(_, suffix)| suffix);
            let dot = if suffix.is_empty() { "" } else { "." };
            let _ = write!(
                processors,
                "[stream_processors.\"io.containerd.ocicrypt.decoder.v1.tar{dot}{suffix}\"]\n\
                 accepts = [\"{returns}+encrypted\"]\nreturns = \"{returns}\"\n\
                 path = \"sh\"\nargs = [\"-c\", \"cat > /dev/null; cat {}\"]\n",
                place.path().join("written").display()
            );
        }
        let containerd = Containerd::start(&Settings {
            root: root.clone(),
            processors,
            cri: None,
        });
        Self { containerd, place }
    }

    /// The forgery is good: only its decoder keeps it from being unpacked.
    fn assert_unpacks(&self, forged: &Forged) {
        fs::write(self.place.path().join("written"), &forged.written).unwrap();
        let output = self
            .containerd
            .import(&forged.layout.archive(), &forged.name);
        assert!(output.status.success(), "{}: {output:?}", forged.name);
    }
}

/// A containerd that decodes with `ocihsm`, and has unpacked the layer below the forged ones.
fn start(settings: &Settings) -> Containerd {
    let place = TempDir::new().unwrap();
    let busybox = [Layer::busybox(Compression::Gzip)];
    let below = Layout::create(place.path().join("below"), &busybox, &["/bin/echo"]);
    let containerd = Containerd::start(settings);
    let output = containerd.import(&below.archive(), "below");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(containerd.snapshots(), 1);
    containerd
}

#[test]
fn a_changed_layer_that_is_verified_first_is_not_unpacked_and_ctr_says_why() {
    if !skip::root() || !skip::programs(&["containerd", "runc", "docker-registry"]) {
        return;
    }
    let (token, registry) = (Token::vectors(), Registry::start());
    let all = [SMALL, LARGE].map(|shape| Forged::all(&token, &registry, shape, &Change::ALL));
    Root::on_each_containerd(|root| {
        // A copy, for SoftHSM's tokens are not to be shared.
        let token = Token::vectors();
        let containerd = start(&Settings::new(root.clone(), &token.keys(&["rsa3072"])));
        let believer = Believer::start(root);
        for forged in all.iter().flatten() {
            believer.assert_unpacks(forged);
            for output in (0..EARLY_PULLS).map(|_| containerd.pull(&forged.reference)) {
                assert!(!output.status.success(), "{}: {output:?}", forged.name);
                let says = output.stderr.contains("verification failed");
                assert!(says, "{}: {output:?}", forged.name);
            }
            assert_eq!(containerd.snapshots(), 1, "{} was unpacked", forged.name);
        }
    });
}

#[test]
fn a_changed_layer_that_fails_when_it_was_written_is_never_unpacked() {
    if !skip::root() || !skip::programs(&["containerd", "runc", "docker-registry"]) {
        return;
    }
    let (token, registry) = (Token::vectors(), Registry::start());
    let changes = [Change::Longer, Change::Shorter];
    let all = Forged::all(&token, &registry, LARGE, &changes);
    for forged in &all {
        forged.assert_written_before_it_fails(&token);
    }
    Root::on_each_containerd(|root| {
        let token = Token::vectors();
        let log = token.path().join("log");
        let settings = Settings::with_log(root.clone(), &token.keys(&["rsa3072"]), &log);
        let containerd = start(&settings.single_pass());
        for forged in &all {
            for pull in 0..PULLS / all.len() {
                let output = containerd.pull(&forged.reference);
                let name = &forged.name;
                assert!(!output.status.success(), "{name}, pull {pull}: {output:?}");
            }
            assert_eq!(containerd.snapshots(), 1, "{} was unpacked", forged.name);
        }
        let records = fs::read_to_string(&log).unwrap();
        let failures = records.matches("verification failed").count();
        assert_eq!(failures, PULLS, "a pull did not come as far as the decoder");
    });
}

/// tar's.
const BLOCK: usize = 512;

/// Compresses, and fills up with what a reader passes over.
fn compress(compression: Compression, bytes: &[u8], unit: usize) -> Vec<u8> {
    let mut compressed = match compression {
        // Without the checksum that the program adds by default and the format does not ask for.
        Compression::Zstd => {
            let zstd = Program::new("zstd").args(["-q", "-c", "--no-check", "-"]);
            zstd.stdin(bytes).ok().stdout
        }
        Compression::None | Compression::Gzip => compression.compress(bytes),
    };
    let missing = compressed.len().next_multiple_of(unit) - compressed.len();
    if missing > 0 {
        compressed.extend(filling(compression, missing));
    }
    compressed
}

/// So many bytes that stand for nothing.
fn filling(compression: Compression, length: usize) -> Vec<u8> {
    match compression {
        Compression::None => panic!("a tar archive has no filling but at its end"),
        // An empty member with a long extra field (RFC 1952, section 2.3.1.1).
        Compression::Gzip => {
            let member = |extra: usize| {
                let fast = flate2::Compression::fast();
                let member = GzBuilder::new().extra(vec![0; extra]);
                member.write(Vec::new(), fast).finish().unwrap()
            };
            member(length - member(0).len())
        }
        // A skippable frame (RFC 8878, section 3.1.2).
        Compression::Zstd => {
            let mut frame = 0x184d_2a50_u32.to_le_bytes().to_vec();
            frame.extend(u32::try_from(length - 8).unwrap().to_le_bytes());
            frame.resize(length, 0);
            frame
        }
    }
}
