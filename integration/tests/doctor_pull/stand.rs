//! A node with one mistake: what doctor says of it, and what an import then does.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use integration::node::Node;
use integration::ocihsm;
use integration::program::{Output, Program};
use integration::root::Root;
use integration::token::{PIN, SOFTHSM};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// The image's three kinds of layers need a key that is in the token.
pub(crate) const KEY: &str = "rsa3072";

/// doctor with the file at its usual place; the mount goes with the namespace.
const IN_ITS_PLACE: &str = "set -e; mkdir -p /etc/containerd; mount -t tmpfs tmpfs /etc/containerd
    cp \"$0\" /etc/containerd/config.toml; exec \"$1\" doctor --json";

/// A node, and the containerd of a root that runs on it.
pub(crate) struct Stand {
    pub(crate) node: Node,
    root: Root,
    /// Whether doctor is told containerd's file; else the file stands where containerd looks for it.
    pub(crate) names_file: bool,
    containerd: Option<Running>,
    imports: usize,
}

/// A containerd's process; what runs in its namespaces ends with it.
struct Running {
    process: Child,
    init: Pid,
}

/// What doctor said.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// The ids of what fails.
    pub(crate) failed: Vec<String>,
    /// The ids of what is a warning.
    pub(crate) warned: Vec<String>,
    /// All that it said.
    pub(crate) text: String,
}

impl Stand {
    /// A sound node: its files are those of `Node`, its key file names a PIN file.
    pub(crate) fn new(root: Root) -> Self {
        let stand = Self {
            node: Node::new(),
            root,
            names_file: true,
            containerd: None,
            imports: 0,
        };
        let text = fs::read_to_string(stand.path("config.toml")).unwrap();
        let disabled = "disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.cri.v1.images\", \
                        \"io.containerd.cri.v1.runtime\"]";
        let place = stand.path("");
        let place = place.display();
        stand.write(
            "config.toml",
            &format!(
                "{text}{disabled}\n[grpc]\naddress = \"{place}containerd.sock\"\n\
                 [plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{place}opt\"\n"
            ),
        );
        let sound = fs::read_to_string(stand.path("config.toml")).unwrap();
        let imports = format!("imports = [{:?}]", stand.path("conf.d/*.toml"));
        assert!(sound.contains(&imports), "{sound}");
        stand.write("elsewhere.toml", &sound.replace(&imports, "imports = []"));
        stand.mend_keys();
        stand
    }

    /// Puts keys, PIN and policy back as they were.
    pub(crate) fn mend_keys(&self) {
        let keys = &self.node.keys;
        let _ = fs::set_permissions(keys, fs::Permissions::from_mode(0o700));
        for entry in fs::read_dir(keys).unwrap() {
            let path = entry.unwrap().path();
            let removed = match path.is_dir() {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
            removed.unwrap();
        }
        // What was rejected before is forgotten.
        let _ = fs::remove_dir_all(self.node.token.runtime());
        self.private("pin", PIN);
        self.key(&self.uri(), &self.environment());
        self.write(
            "policy",
            &format!(
                "pkcs11:\n  module-directories:\n    - /usr/lib/softhsm/\n  allowed-module-paths:\n    - {SOFTHSM}\n"
            ),
        );
    }

    /// The URI of the key, as it should be.
    pub(crate) fn uri(&self) -> String {
        format!(
            "pkcs11:token=ocicrypt-vectors;object={KEY};type=private?pin-source={}&module-name=softhsm2",
            self.path("pin").display()
        )
    }

    /// `module.env` of the key file, as it should be.
    pub(crate) fn environment(&self) -> String {
        format!(
            "module:\n  env:\n    SOFTHSM2_CONF: {}\n",
            self.node.token.configuration().display()
        )
    }

    /// Writes the key file.
    pub(crate) fn key(&self, uri: &str, rest: &str) {
        let path = self.node.keys.join("key.yaml");
        fs::write(&path, format!("pkcs11:\n  uri: {uri}\n{rest}")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Whether the root has the program of containerd's built-in sections.
    pub(crate) fn has_reference(&self) -> bool {
        self.root.path("usr/local/bin/ctd-decoder").is_some()
    }

    /// A file that only root reads.
    pub(crate) fn private(&self, name: &str, text: &str) {
        self.write(name, text);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        self.node.write(name, text);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.node.path(name)
    }

    /// Replaces something in the drop-in.
    pub(crate) fn processors(&self, from: &str, to: &str) {
        self.node.change("conf.d/ocihsm.toml", from, to);
    }

    /// The path of the program, as it stands in the drop-in.
    pub(crate) fn program(&self, path: &Path) {
        self.processors(&format!("{:?}", ocihsm()), &format!("{path:?}"));
    }

    /// Starts containerd; false if it does not start with its files.
    pub(crate) fn start_with(&mut self, file: &str, variables: &[(&str, &str)]) -> bool {
        let scratch = tempfile::tempdir_in(self.path("")).unwrap().keep();
        let log = fs::File::create(self.path("log")).unwrap();
        let mut command = self
            .root
            .isolated(&scratch, "containerd")
            .arg("--config")
            .arg(self.path(file))
            .into_command();
        for name in [
            "OCICRYPT_CONFIG",
            "OCIHSM_KEYS_PATH",
            "SOFTHSM2_CONF",
            "LD_LIBRARY_PATH",
        ] {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied());
        let mut process = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let patience = Instant::now() + Duration::from_secs(120);
        while UnixStream::connect(self.path("containerd.sock")).is_err() {
            if process.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(
                Instant::now() < patience,
                "containerd does not start: {}",
                self.log()
            );
            thread::sleep(Duration::from_millis(20));
        }
        let children = format!("/proc/{0}/task/{0}/children", process.id());
        let children = fs::read_to_string(children).unwrap();
        let init = children.split_whitespace().next().unwrap().parse().unwrap();
        self.containerd = Some(Running {
            process,
            init: Pid::from_raw(init),
        });
        while !self.ctr(&["version"]).run().status.success() {
            assert!(
                Instant::now() < patience,
                "containerd does not answer: {}",
                self.log()
            );
            thread::sleep(Duration::from_millis(50));
        }
        true
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// A program that sees what containerd sees; or would see, if it does not run.
    fn inside(&self, program: &Path) -> Program {
        match &self.containerd {
            Some(containerd) => Program::new("nsenter")
                .args([
                    "--mount",
                    "--pid",
                    "--target",
                    &containerd.init.to_string(),
                    "--",
                ])
                .arg(program),
            None => {
                let scratch = tempfile::tempdir_in(self.path("")).unwrap().keep();
                let program = program.to_str().unwrap();
                self.root.isolated(&scratch, program)
            }
        }
    }

    fn ctr(&self, arguments: &[&str]) -> Program {
        self.inside(Path::new("ctr"))
            .arg("--address")
            .arg(self.path("containerd.sock"))
            .args(["--namespace", &format!("row{}", self.imports)])
            .args(arguments)
    }

    /// What doctor says, as somebody at a shell of the node would have it.
    pub(crate) fn doctor(&self) -> Verdict {
        let doctor = match self.names_file {
            true => self
                .inside(&ocihsm())
                .args(["doctor", "--json", "--containerd-config"])
                .arg(self.path("config.toml")),
            false => self
                .inside(Path::new("sh"))
                .args(["-c", IN_ITS_PLACE])
                .arg(self.path("config.toml"))
                .arg(ocihsm()),
        };
        let output = doctor.env("LD_LIBRARY_PATH", "").run();
        let text = output.text();
        let json: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{output:?}"));
        let of = |level: &str| {
            let findings = json["findings"].as_array().unwrap().iter();
            let ids = findings.filter(|finding| finding["level"] == level);
            ids.map(|finding| finding["id"].as_str().unwrap().to_owned())
                .collect()
        };
        let verdict = Verdict {
            failed: of("fail"),
            warned: of("warn"),
            text,
        };
        assert_eq!(
            output.status.success(),
            verdict.failed.is_empty(),
            "{output:?}"
        );
        verdict
    }

    /// Imports the image in a containerd namespace of its own, so that every layer is unpacked anew.
    pub(crate) fn import(&mut self, archive: &Path) -> Output {
        self.imports += 1;
        let archive = archive.to_str().unwrap();
        self.ctr(&[
            "images",
            "import",
            "--base-name",
            "test.example/row",
            archive,
        ])
        .run()
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        if let Some(containerd) = &mut self.containerd {
            let _ = kill(containerd.init, Signal::SIGKILL);
            let _ = containerd.process.kill();
            let _ = containerd.process.wait();
        }
    }
}
