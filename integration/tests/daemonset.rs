//! The DaemonSet of `examples/kubernetes` as a whole: its pod runs on each containerd that a node may have, from the image
//! that `packaging/image` writes, and after a restart that node opens encrypted images. The kubelet's part is `pod.rs`.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;

use integration::containerd::{Containerd, CriSettings, Settings};
use integration::cri::Cri;
use integration::layer::{Compression, Layer};
use integration::layout::Layout;
use integration::pod::{Pod, Projected};
use integration::program::Program;
use integration::registry::Registry;
use integration::root::{Root, ran_on};
use integration::token::Token;
use integration::{ocihsm, repository, skip};
use serde_json::Value;
use tempfile::TempDir;

/// Where the node finds its containerd's drop-ins, for the main configuration to import.
const IMPORTS: &str = "version = 2\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n";

/// What the nodes share: the images in a registry.
struct Stage {
    _registry: Registry,
    daemon: String,
    encrypted: String,
    pause: String,
    program: Vec<u8>,
    token: Token,
    place: TempDir,
}

impl Stage {
    fn new() -> Self {
        let (place, token, registry) =
            (TempDir::new().unwrap(), Token::vectors(), Registry::start());
        let layers = [
            Layer::busybox(Compression::Gzip),
            Layer::file("etc/one", b"opened\n", Compression::Zstd),
        ];
        let plain = Layout::create(
            place.path().join("image"),
            &layers,
            &["/bin/cat", "/etc/one"],
        );
        let pause = Layout::create(
            place.path().join("pause"),
            &layers[..1],
            &["/bin/sleep", "1000000"],
        );
        let (image, program) = image(place.path());
        Self {
            daemon: registry.push(&image, "ocihsm"),
            encrypted: registry.push(&token.encrypt(&plain, "rsa3072", &[]), "image"),
            pause: registry.push(&pause, "pause"),
            program,
            token,
            _registry: registry,
            place,
        }
    }

    /// A containerd on a node, and what a kubelet says to it.
    fn node(&self, root: &Root, place: &Path) -> (Containerd, Cri) {
        let mut settings = Settings::new(root.clone(), Path::new("/nowhere"));
        settings.processors = IMPORTS.to_owned();
        settings.cri = Some(CriSettings {
            pause: self.pause.clone(),
            local_pull: false,
        });
        let containerd = Containerd::start_on_node(&settings, &place.join("node"));
        let logs = place.join("logs");
        fs::create_dir_all(&logs).unwrap();
        let name = place.file_name().unwrap().to_string_lossy().to_lowercase();
        let cri = Cri::connect(&containerd.socket(), &name, &logs);
        cri.pull(&self.pause).unwrap();
        (containerd, cri)
    }

    /// A key file of this token's key.
    fn key(&self, name: &str) -> String {
        let directory = self.token.keys(&[name]);
        fs::read_to_string(directory.join("key0.yaml")).unwrap()
    }
}

/// The image as it is released, if that was built, else one of the built program; and the program in it.
fn image(place: &Path) -> (Layout, Vec<u8>) {
    let archive = match env::var_os("OCIHSM_IMAGE") {
        Some(archive) => PathBuf::from(archive),
        None => {
            let archive = place.join("image.oci.tar");
            let path = env::var_os("PATH").unwrap_or_default();
            let busybox = env::split_paths(&path)
                .map(|directory| directory.join("busybox"))
                .find(|file| file.is_file())
                .expect("busybox-static is on the search path");
            Program::new(repository().join("packaging/image"))
                .arg(&archive)
                .args(["0", "0"])
                .arg(format!(
                    "amd64:{}:{}:{}",
                    ocihsm().display(),
                    busybox.display(),
                    repository().join("LICENSE").display()
                ))
                .ok();
            archive
        }
    };
    let unpacked = place.join("daemon");
    fs::create_dir(&unpacked).unwrap();
    Program::new("tar")
        .arg("-xf")
        .arg(archive)
        .arg("-C")
        .arg(&unpacked)
        .ok();
    let layout = Layout::open(unpacked);
    let manifest = layout.manifest("amd64");
    let archive = Compression::Gzip.decompress(&layout.read(&manifest["layers"][0]));
    let program = Program::new("tar")
        .args(["-xO", "usr/local/bin/ocihsm"])
        .stdin(archive)
        .ok()
        .stdout;
    (layout, program)
}

/// The documents of `install.yaml`, by kind.
fn manifests() -> BTreeMap<String, Value> {
    let file = repository().join("examples/kubernetes/install.yaml");
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&fs::read_to_string(file).unwrap()).unwrap();
    documents
        .into_iter()
        .map(|document| (document["kind"].as_str().unwrap().to_owned(), document))
        .collect()
}

/// The directory of each volume of the pod, which the kubelet makes unless it is the node's.
fn volumes(pod: &Value, projected: [&Projected; 2], place: &Path) -> BTreeMap<String, PathBuf> {
    let volumes = pod["volumes"].as_array().unwrap().iter();
    volumes
        .map(|volume| {
            let path = if let Some(path) = volume["hostPath"]["path"].as_str() {
                PathBuf::from(path)
            } else if volume["configMap"]["name"] == "ocihsm" {
                projected[0].path().to_owned()
            } else if volume["secret"]["secretName"] == "ocihsm-keys" {
                // 0400, which is octal for Kubernetes, and not for YAML 1.2.
                assert_eq!(volume["secret"]["defaultMode"].as_f64(), Some(400.0));
                projected[1].path().to_owned()
            } else {
                assert_eq!(volume["emptyDir"]["medium"], "Memory", "{volume}");
                let path = place.join("empty");
                fs::create_dir(&path).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
                path
            };
            (volume["name"].as_str().unwrap().to_owned(), path)
        })
        .collect()
}

#[test]
fn the_daemonset_sets_up_a_node_that_opens_images_after_a_restart() {
    if !skip::root() || !skip::programs(&["docker-registry", "python3", "busybox"]) {
        return;
    }
    // Not this machine's own containerd: the pod writes to /usr/local/bin and /etc.
    let roots: Vec<_> = Root::all()
        .into_iter()
        .filter(|root| *root != Root::host())
        .collect();
    let stage = Stage::new();
    thread::scope(|scope| {
        let tests: Vec<_> = roots
            .iter()
            .map(|root| scope.spawn(|| set_up(&stage, root)))
            .collect();
        for test in tests {
            test.join().expect("a node was not set up, see above");
        }
    });
    let versions: Vec<_> = roots.iter().map(Root::containerd_version).collect();
    ran_on(&versions);
}

fn set_up(stage: &Stage, root: &Root) {
    let place = tempfile::Builder::new()
        .prefix("ocihsm-ds-")
        .tempdir_in(stage.place.path())
        .unwrap();
    let node = place.path().join("node");
    let manifests = manifests();
    let data = |name: &str| {
        let text = manifests["ConfigMap"]["data"][name].as_str();
        text.unwrap().to_owned()
    };
    let (stanza, policy) = (data("ocihsm.toml"), data("ocicrypt.conf"));
    let mut config = Projected::new(place.path().join("config"), 0o644);
    config.set(&[("ocihsm.toml", &stanza), ("ocicrypt.conf", &policy)]);
    let (wrong, right) = (stage.key("other3072"), stage.key("rsa3072"));
    let mut keys = Projected::new(place.path().join("keys"), 0o400);
    keys.set(&[("layers.yaml", &wrong), ("withdrawn.yaml", &wrong)]);
    let template = &manifests["DaemonSet"]["spec"]["template"];
    let volumes = volumes(&template["spec"], [&config, &keys], place.path());

    let (containerd, cri) = stage.node(root, place.path());
    cri.pull(&stage.daemon).unwrap();
    let pod = Pod::start(&cri, template, &stage.daemon, &volumes).unwrap();
    pod.wait_until_ready();
    let etc = node.join("etc/containerd");
    let node_keys = etc.join("ocicrypt/keys/kubernetes");
    let is = |path: PathBuf, content: &[u8], mode: u32| {
        let found = fs::metadata(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        assert!(fs::read(&path).unwrap() == content, "{path:?}");
        assert_eq!((found.mode() & 0o777, found.uid()), (mode, 0), "{path:?}");
    };
    is(node.join("usr/local/bin/ocihsm"), &stage.program, 0o755);
    is(etc.join("conf.d/ocihsm.toml"), stanza.as_bytes(), 0o644);
    is(etc.join("ocicrypt/ocicrypt.conf"), policy.as_bytes(), 0o644);
    is(node_keys.join("layers.yaml"), wrong.as_bytes(), 0o600);
    is(node_keys.join("withdrawn.yaml"), wrong.as_bytes(), 0o600);

    keys.set(&[("layers.yaml", &right)]);
    pod.wait_for(
        "the new key is on the node and the withdrawn one is not",
        || {
            fs::read_to_string(node_keys.join("layers.yaml")).is_ok_and(|text| text == right)
                && !node_keys.join("withdrawn.yaml").exists()
        },
    );
    is(node_keys.join("layers.yaml"), right.as_bytes(), 0o600);
    // Until containerd starts anew, nothing has changed for it.
    assert!(cri.pull(&stage.encrypted).is_err());
    let log = pod.log();
    assert!(log.contains("installed /usr/local/bin/ocihsm"), "{log}");
    pod.delete().unwrap();
    drop((cri, containerd));

    let (containerd, cri) = stage.node(root, place.path());
    if let Err(status) = cri.pull(&stage.encrypted) {
        panic!("containerd {}: {status}", containerd.version());
    }
    assert_eq!(cri.run(&stage.encrypted).unwrap(), "opened\n");
    // Deleting the DaemonSet leaves the node as it is.
    is(node_keys.join("layers.yaml"), right.as_bytes(), 0o600);
}
