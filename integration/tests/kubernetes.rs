//! The Kubernetes example: that its manifests are what Kubernetes takes, and that it puts on a node what it says.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use integration::program::Program;
use integration::{ocihsm, repository, skip};
use tempfile::TempDir;

fn example(name: &str) -> PathBuf {
    repository().join("examples/kubernetes").join(name)
}

/// A node's file system, a container's, and the installer between them; it ends with this value.
struct Installer {
    directory: TempDir,
    process: Child,
}

impl Installer {
    fn start(directory: TempDir) -> Self {
        let at = |name: &str| directory.path().join(name);
        let installed = at("container/tmp/installed");
        // Left by the container before it: the volume outlives a restart.
        fs::write(&installed, "stale").unwrap();
        let process = Program::new(example("install.sh"))
            .arg(at("node"))
            .arg(at("container"))
            .into_command()
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let patience = Instant::now() + Duration::from_secs(20);
        while fs::read_to_string(&installed).ok().as_deref() != Some("") {
            assert!(Instant::now() < patience, "install.sh does not finish");
            thread::sleep(Duration::from_millis(20));
        }
        Self { directory, process }
    }

    /// Ends it, as the kubelet does.
    fn stop(mut self) -> TempDir {
        let id = self.process.id().to_string();
        Program::new("kill").args(["-TERM", &id]).ok();
        assert!(self.process.wait().unwrap().success());
        self.directory
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The schema check; none where it cannot be set up.
fn checker() -> Option<Program> {
    let python = Program::new("python3").args(["-c", "import ensurepip, venv"]);
    if !skip::programs(&["python3"]) {
        return None;
    }
    if !python.run().status.success() {
        skip::skipped("not installed: python3-venv");
        return None;
    }
    Some(Program::new(repository().join("integration/manifests")))
}

#[test]
fn manifests_pass_the_schema() {
    if let Some(checker) = checker() {
        checker.ok();
    }
}

#[test]
fn a_misspelt_field_would_not_pass() {
    let Some(checker) = checker() else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bad.yaml");
    let text = fs::read_to_string(example("install.yaml")).unwrap();
    fs::write(&file, text.replace("hostPath:", "hostpath:")).unwrap();
    let output = checker.arg(&file).run();
    assert!(!output.status.success());
    let printed = output.text() + &output.stderr;
    assert!(printed.contains("hostpath"), "{printed}");
}

#[test]
fn the_drop_in_is_what_is_printed() {
    let stanza = Program::new(ocihsm())
        .args([
            "config",
            "containerd",
            "--policy",
            "/etc/containerd/ocicrypt/ocicrypt.conf",
        ])
        .ok()
        .text();
    let policy = fs::read_to_string(repository().join("config/ocicrypt.conf")).unwrap();
    let manifest = fs::read_to_string(example("install.yaml")).unwrap();
    for text in [stanza, policy] {
        let indented: String = text
            .lines()
            .map(|line| {
                if line.is_empty() {
                    "\n".to_owned()
                } else {
                    format!("    {line}\n")
                }
            })
            .collect();
        assert!(
            manifest.contains(&indented),
            "install.yaml does not hold\n{indented}"
        );
    }
}

/// Directories of a node and of the DaemonSet's container, with what the kubelet and the image put into the latter.
fn directories() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in [
        "node/usr/local/bin",
        "container/usr/local/bin",
        "container/config",
        "container/keys/..data",
        "container/tmp",
    ] {
        fs::create_dir_all(at(name)).unwrap();
    }
    fs::write(at("container/usr/local/bin/ocihsm"), "program").unwrap();
    fs::write(at("container/config/ocicrypt.conf"), "policy").unwrap();
    fs::write(at("container/config/ocihsm.toml"), "stanza").unwrap();
    // As the kubelet mounts a Secret. A name may begin with one dot.
    for name in ["one.yaml", "two.yaml", ".three.yaml"] {
        fs::write(at("container/keys/..data").join(name), name).unwrap();
        symlink(
            Path::new("..data").join(name),
            at("container/keys").join(name),
        )
        .unwrap();
    }
    directory
}

/// Each file that a node gets: its content and mode.
const FILES: [(&str, &str, u32); 6] = [
    ("usr/local/bin/ocihsm", "program", 0o755),
    ("etc/containerd/conf.d/ocihsm.toml", "stanza", 0o644),
    ("etc/containerd/ocicrypt/ocicrypt.conf", "policy", 0o644),
    (
        "etc/containerd/ocicrypt/keys/kubernetes/one.yaml",
        "one.yaml",
        0o600,
    ),
    (
        "etc/containerd/ocicrypt/keys/kubernetes/two.yaml",
        "two.yaml",
        0o600,
    ),
    (
        "etc/containerd/ocicrypt/keys/kubernetes/.three.yaml",
        ".three.yaml",
        0o600,
    ),
];

fn assert_installed(node: &Path) {
    for (name, content, expected) in FILES {
        let file = node.join(name);
        assert_eq!(fs::read_to_string(&file).unwrap(), content, "{name}");
        assert_eq!(mode(&file), expected, "{name}");
        assert!(fs::symlink_metadata(&file).unwrap().is_file(), "{name}");
    }
    assert_eq!(mode(&node.join("etc/containerd/ocicrypt/keys")), 0o700);
}

#[test]
fn a_node_gets_the_files_and_loses_a_key_that_is_withdrawn() {
    let directory = directories();
    let node = directory.path().join("node");
    let directory = Installer::start(directory).stop();
    assert_installed(&node);

    let keys = node.join("etc/containerd/ocicrypt/keys");
    fs::write(keys.join("by-hand.yaml"), "stays").unwrap();
    let mounted = directory.path().join("container/keys");
    for withdrawn in ["one.yaml", ".three.yaml"] {
        fs::remove_file(mounted.join(withdrawn)).unwrap();
    }
    fs::write(mounted.join("..data/two.yaml"), "new").unwrap();
    let _directory = Installer::start(directory).stop();
    for withdrawn in ["one.yaml", ".three.yaml"] {
        assert!(!keys.join("kubernetes").join(withdrawn).exists());
    }
    assert_eq!(fs::read(keys.join("kubernetes/two.yaml")).unwrap(), b"new");
    assert!(keys.join("by-hand.yaml").exists());
}

#[test]
fn what_was_changed_on_a_node_is_put_right() {
    let directory = directories();
    let node = directory.path().join("node");
    let directory = Installer::start(directory).stop();
    let keys = node.join("etc/containerd/ocicrypt/keys");
    for (path, mode) in [
        (node.join("usr/local/bin/ocihsm"), 0o777),
        (keys.join("kubernetes/one.yaml"), 0o644),
        (keys.join("kubernetes"), 0o755),
        (keys.clone(), 0o722),
    ] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let policy = node.join("etc/containerd/ocicrypt/ocicrypt.conf");
    fs::rename(&policy, node.join("elsewhere")).unwrap();
    symlink(node.join("elsewhere"), &policy).unwrap();
    let two = keys.join("kubernetes/two.yaml");
    if nix::unistd::geteuid().is_root() {
        chown(&two, Some(65_534), None).unwrap();
    }
    let _directory = Installer::start(directory).stop();
    assert_installed(&node);
    assert_eq!(mode(&keys.join("kubernetes")), 0o700);
    let owner = fs::metadata(&two).unwrap().uid();
    assert_eq!(owner, nix::unistd::geteuid().as_raw());
}

#[test]
fn a_node_that_lacks_a_file_is_not_called_ready() {
    let directory = directories();
    let container = directory.path().join("container");
    fs::remove_file(container.join("usr/local/bin/ocihsm")).unwrap();
    let installed = container.join("tmp/installed");
    fs::write(&installed, "stale").unwrap();
    let output = Program::new(example("install.sh"))
        .arg(directory.path().join("node"))
        .arg(&container)
        .run();
    assert!(!output.status.success(), "{output:?}");
    assert!(!installed.exists());
}
