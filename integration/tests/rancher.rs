//! What docs/k3s-and-rke2.md says: the commands there, run as they stand, make a template and a drop-in that containerd 1.7 and
//! 2.1 start on, and then open an encrypted image. The template that k3s and RKE2 have built in is played by the configuration
//! of the other tests, which has the same keys at its top.

use std::fs;
use std::path::Path;

use integration::containerd::{Containerd, Settings};
use integration::layer::{Compression, Layer};
use integration::layout::Layout;
use integration::program::Program;
use integration::root::Root;
use integration::token::Token;
use integration::{ocihsm, repository};
use tempfile::TempDir;

/// The one action that a template of ours has.
const BASE: &str = "{{ template \"base\" . }}";

/// A node of k3s, and a key with an image for it.
struct Node {
    place: TempDir,
    token: Token,
    settings: Settings,
    image: Layout,
}

impl Node {
    fn new(root: &Root) -> Self {
        let (place, token) = (TempDir::new().unwrap(), Token::vectors());
        let layer = Layer::file("etc/one", b"one", Compression::Zstd);
        let plain = Layout::create(place.path().join("image"), &[layer], &["/bin/true"]);
        let mut settings = Settings::new(root.clone(), Path::new("/nowhere"));
        settings.processors = "version = 2\n".to_owned();
        Self {
            image: token.encrypt(&plain, "rsa3072", &[]),
            settings,
            place,
            token,
        }
    }

    /// Runs the commands of the documentation's first block below this heading, for this node.
    fn follow(&self, heading: &str, skip: usize) {
        let text = fs::read_to_string(repository().join("docs/k3s-and-rke2.md")).unwrap();
        let section = text.split_once(heading).expect("the heading is there").1;
        let block = section.split("```console\n").nth(1 + skip).unwrap();
        let block = block.split_once("```").unwrap().0;
        let commands = block.lines().map(|line| line.strip_prefix("# ").unwrap());
        let commands: Vec<_> = commands.collect();
        let agent = self.place.path().join("agent").display().to_string();
        fs::create_dir_all(Path::new(&agent).join("etc/containerd")).unwrap();
        // As installed: the program is on the search path, and keys and policy are this test's.
        let ocihsm = format!(
            "ocihsm() {{ {} \"$@\" --path {0} --policy internal --keys {}; }}\n",
            ocihsm().display(),
            self.token.keys(&["rsa3072"]).display()
        );
        // The page sets it first, in a block of its own, and the commands take it from there.
        assert!(text.contains("\n```console\n# AGENT=/var/lib/rancher/k3s/agent "));
        let script = ocihsm + &commands.join("\n");
        let script = Program::new("sh").args(["-e", "-u", "-c", &script]);
        script.env("AGENT", agent).ok();
    }

    fn file(&self, name: &str) -> String {
        let file = self.place.path().join("agent/etc/containerd").join(name);
        fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"))
    }

    fn assert_opens(&self, containerd: &Containerd) {
        let output = containerd.import(&self.image.archive(), "image");
        let version = containerd.version();
        assert!(output.status.success(), "{version}: {output:?}");
        assert_eq!(containerd.snapshots(), 1, "{version}");
    }
}

#[test]
fn the_template_of_the_documentation_opens_images() {
    Root::on_each_containerd(|root| {
        let node = Node::new(root);
        node.follow("## With a template", 0);
        let template = node.file("config-v3.toml.tmpl");
        assert_eq!(template.matches("{{").count(), 1, "{template}");
        assert!(template.starts_with(BASE), "{template}");
        let containerd =
            Containerd::start_rendered(&node.settings, |base| template.replace(BASE, &base));
        node.assert_opens(&containerd);
    });
}

#[test]
fn the_drop_in_of_the_documentation_opens_images() {
    Root::on_each_containerd(|root| {
        // Its version is 3, which older ones do not read; the text says what then.
        if root.containerd_version().starts_with("1.") {
            return;
        }
        let mut node = Node::new(root);
        node.follow("## With drop-ins", 1);
        node.settings.processors = node.file("config-v3.toml.d/ocihsm.toml");
        node.assert_opens(&Containerd::start(&node.settings));
    });
}

#[test]
fn a_template_without_the_processors_opens_none() {
    Root::on_each_containerd(|root| {
        let node = Node::new(root);
        let containerd = Containerd::start(&node.settings);
        let output = containerd.import(&node.image.archive(), "image");
        assert!(!output.status.success(), "{output:?}");
    });
}
