//! The Kubernetes example: that its manifests are what Kubernetes takes, and that it puts on a node what it says.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
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
        let _ = fs::remove_file(at("container/tmp/installed"));
        let process = Program::new(example("install.sh"))
            .arg(at("node"))
            .arg(at("container"))
            .into_command()
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let patience = Instant::now() + Duration::from_secs(20);
        while !at("container/tmp/installed").exists() {
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

#[test]
fn a_node_gets_the_files_and_loses_a_key_that_is_withdrawn() {
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
    // As the kubelet mounts a Secret.
    for name in ["one.yaml", "two.yaml"] {
        fs::write(at("container/keys/..data").join(name), name).unwrap();
        symlink(
            Path::new("..data").join(name),
            at("container/keys").join(name),
        )
        .unwrap();
    }
    let node = at("node");
    let directory = Installer::start(directory).stop();
    let keys = node.join("etc/containerd/ocicrypt/keys");
    assert_eq!(
        fs::read(node.join("usr/local/bin/ocihsm")).unwrap(),
        b"program"
    );
    assert_eq!(mode(&node.join("usr/local/bin/ocihsm")), 0o755);
    assert_eq!(
        fs::read(node.join("etc/containerd/conf.d/ocihsm.toml")).unwrap(),
        b"stanza"
    );
    assert_eq!(
        fs::read(node.join("etc/containerd/ocicrypt/ocicrypt.conf")).unwrap(),
        b"policy"
    );
    assert_eq!(mode(&keys), 0o700);
    assert_eq!(mode(&keys.join("kubernetes/one.yaml")), 0o600);

    fs::write(keys.join("by-hand.yaml"), "stays").unwrap();
    fs::remove_file(directory.path().join("container/keys/one.yaml")).unwrap();
    fs::write(
        directory.path().join("container/keys/..data/two.yaml"),
        "new",
    )
    .unwrap();
    let _directory = Installer::start(directory).stop();
    assert!(!keys.join("kubernetes/one.yaml").exists());
    assert_eq!(fs::read(keys.join("kubernetes/two.yaml")).unwrap(), b"new");
    assert!(keys.join("by-hand.yaml").exists());
}
