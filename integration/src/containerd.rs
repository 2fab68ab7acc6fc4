//! A containerd of the tests' own: its root, state, socket and configuration in a temporary directory, its mounts,
//! shims and containers in namespaces that end with it, whatever the test comes to.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::content_store;
use crate::program::{Output, Program};
use crate::root::Root;

/// What a containerd is to be like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whose containerd.
    pub root: Root,
    /// A configuration file of its own that sets up the stream processors.
    pub processors: String,
    /// Whether it serves CRI, and how.
    pub cri: Option<CriSettings>,
}

/// What CRI needs, or may have, beside its defaults.
#[derive(Clone, Debug)]
pub struct CriSettings {
    /// The image of a pod's first container.
    pub pause: String,
    /// Whether the plugin itself pulls, where the version would by default leave that to the transfer service.
    pub local_pull: bool,
}

/// A running containerd; it ends with this value.
#[derive(Debug)]
pub struct Containerd {
    directory: TempDir,
    process: Child,
    /// The first process of its namespace.
    init: Pid,
    version: String,
    namespace: String,
}

impl Settings {
    /// One that opens layers with `ocihsm decode`, as `ocihsm config` sets it up, and the keys in this directory.
    #[must_use]
    pub fn new(root: Root, keys: &Path) -> Self {
        Self::configured(root, keys, None)
    }

    /// One whose decoder also writes a record of each layer to a file.
    #[must_use]
    pub fn with_log(root: Root, keys: &Path, log: &Path) -> Self {
        Self::configured(root, keys, Some(log))
    }

    /// The same, with a decoder that writes a large layer while it verifies it.
    ///
    /// # Panics
    /// If the processors are not those of `ocihsm config`.
    #[must_use]
    pub fn single_pass(mut self) -> Self {
        let args = "args = [\"decode\", ";
        assert!(self.processors.contains(args), "{}", self.processors);
        let single = format!("{args}\"--single-pass\", ");
        self.processors = self.processors.replace(args, &single);
        self
    }

    fn configured(root: Root, keys: &Path, log: Option<&Path>) -> Self {
        let mut config = Program::new(crate::ocihsm())
            .args(["config", "containerd", "--policy", "internal", "--path"])
            .arg(crate::ocihsm())
            .arg("--keys")
            .arg(keys);
        if let Some(log) = log {
            config = config.arg("--log").arg(log);
        }
        Self {
            root,
            processors: config.ok().text(),
            cri: None,
        }
    }
}

impl Containerd {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// If it does not; with its log.
    #[must_use]
    pub fn start(settings: &Settings) -> Self {
        Self::start_rendered(settings, |configuration| configuration)
    }

    /// The same, with a main configuration that something else makes of the one that it would have.
    ///
    /// # Panics
    /// If it does not answer; with its log.
    #[must_use]
    pub fn start_rendered(settings: &Settings, render: impl Fn(String) -> String) -> Self {
        let program = |root: &Root, scratch: &Path| root.isolated(scratch, "containerd");
        Self::start_program(settings, program, render)
    }

    /// The same, on a node whose `/etc/containerd` and `/usr/local/bin` are below this directory, and outlive containerd.
    ///
    /// # Panics
    /// If it does not answer; with its log.
    #[must_use]
    pub fn start_on_node(settings: &Settings, node: &Path) -> Self {
        let bind = "for place in /etc/containerd /usr/local/bin; do
            mkdir -p \"$place\" \"$0$place\" && mount --bind \"$0$place\" \"$place\" || exit 1
        done
        exec containerd \"$@\"";
        let program =
            |root: &Root, scratch: &Path| root.isolated(scratch, "sh").args(["-c", bind]).arg(node);
        Self::start_program(settings, program, |configuration| configuration)
    }

    fn start_program(
        settings: &Settings,
        program: impl Fn(&Root, &Path) -> Program,
        render: impl Fn(String) -> String,
    ) -> Self {
        let directory =
            TempDir::with_prefix("ocihsm-ctd-").expect("a temporary directory can be made");
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("scratch")).expect("the directory is ours");
        let version = settings.root.containerd_version();
        let configuration = render(configuration(settings, &version, directory.path()));
        fs::write(at("config.toml"), configuration).expect("the directory is ours");
        fs::write(at("processors.toml"), &settings.processors).expect("the directory is ours");
        let log = fs::File::create(at("log")).expect("the directory is ours");
        let mut command = program(&settings.root, &at("scratch"))
            .arg("--config")
            .arg(at("config.toml"))
            .into_command();
        // containerd hands its whole environment to a processor; what the tests run with is not part of theirs.
        for name in ["OCICRYPT_CONFIG", "OCIHSM_KEYS_PATH", "SOFTHSM2_CONF"] {
            command.env_remove(name);
        }
        let process = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("few files are open"))
            .stderr(log)
            .spawn()
            .expect("util-linux is installed");
        let namespace = directory
            .path()
            .file_name()
            .expect("it has a name")
            .to_string_lossy()
            .to_lowercase();
        let mut this = Self {
            init: Pid::from_raw(0),
            directory,
            process,
            version,
            namespace,
        };
        let patience = Instant::now() + Duration::from_secs(60);
        while UnixStream::connect(this.socket()).is_err() {
            let ended = this
                .process
                .try_wait()
                .expect("a child that was started can be waited for");
            assert!(
                ended.is_none() && Instant::now() < patience,
                "containerd does not start:\n{}",
                this.log()
            );
            thread::sleep(Duration::from_millis(20));
        }
        this.init = first_child(this.process.id());
        while !this.ctr(&["version"]).run().status.success() {
            assert!(
                Instant::now() < patience,
                "containerd does not answer:\n{}",
                this.log()
            );
            thread::sleep(Duration::from_millis(50));
        }
        this
    }

    /// Its version, as in `1.7.24`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("containerd.sock")
    }

    /// The containerd namespace that is this one's alone.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The file of a blob in its content store.
    #[must_use]
    pub fn blob(&self, digest: &str) -> PathBuf {
        content_store::file(&self.directory.path().join("root"), digest)
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Holds it where it is, so that it answers nothing, or lets it go on.
    ///
    /// # Panics
    /// If it is gone.
    pub fn hold(&self, held: bool) {
        let signal = match held {
            true => Signal::SIGSTOP,
            false => Signal::SIGCONT,
        };
        let process = first_child(self.init.as_raw().cast_unsigned());
        kill(process, signal).expect("containerd runs");
        let status = format!("/proc/{process}/status");
        let is_held = || {
            let status = fs::read_to_string(&status).expect("containerd runs");
            assert!(status.starts_with("Name:\tcontainerd"), "{status}");
            status.contains("State:\tT")
        };
        while is_held() != held {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// A program that runs where containerd does and sees what it sees.
    #[must_use]
    pub fn inside(&self, program: &str) -> Program {
        let target = self.init.to_string();
        Program::new("nsenter").args(["--mount", "--pid", "--target", &target, "--", program])
    }

    /// Its own `ctr`, in a containerd namespace that is this one's alone.
    #[must_use]
    pub fn ctr(&self, args: &[&str]) -> Program {
        self.client("ctr", args)
    }

    /// A client with `ctr`'s options.
    #[must_use]
    pub fn client(&self, program: &str, args: &[&str]) -> Program {
        self.inside(program)
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", &self.namespace])
            .args(args)
    }

    /// Removes a control group that pods were put in.
    pub fn forget_cgroup(&self, name: &str) {
        remove_cgroups(name);
    }

    /// Imports an archive of a layout as `test.example/NAME:latest`, which unpacks it.
    #[must_use]
    pub fn import(&self, archive: &Path, name: &str) -> Output {
        let archive = archive.to_str().expect("test directories have plain names");
        self.ctr(&[
            "images",
            "import",
            "--base-name",
            &format!("test.example/{name}"),
            archive,
        ])
        .run()
    }

    /// Exports an image into a file, with these options of `ctr images export`.
    ///
    /// # Panics
    /// If that fails.
    pub fn export(&self, options: &[&str], file: &Path, name: &str) {
        let path = file.to_str().expect("test directories have plain names");
        // The `ctr` of containerd 2.1 now and then ends before all of the file is written.
        for _ in 0..5 {
            self.ctr(&[&["images", "export"], options, &[path, name]].concat())
                .ok();
            let listed = Program::new("tar").args(["--list", "--file", path]).run();
            if listed.status.success() {
                return;
            }
        }
        panic!("{name} is not exported whole");
    }

    /// Pulls an image from a registry without TLS.
    #[must_use]
    pub fn pull(&self, reference: &str) -> Output {
        self.ctr(&["images", "pull", "--plain-http", reference])
            .run()
    }

    /// How many layers are unpacked.
    #[must_use]
    pub fn snapshots(&self) -> usize {
        let list = self.ctr(&["snapshots", "list"]).ok().text();
        list.lines()
            .filter(|line| line.contains("Committed"))
            .count()
    }

    /// Runs a container of an image that is there, and returns what it printed.
    #[must_use]
    pub fn run(&self, reference: &str) -> Output {
        let name = format!(
            "c{}",
            reference.bytes().fold(0_u32, |sum, byte| sum
                .wrapping_mul(31)
                .wrapping_add(byte.into()))
        );
        self.ctr(&["run", "--rm", reference, &name]).run()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // The kernel ends every other process of a process namespace with its first one.
        if self.init.as_raw() > 0 {
            let _ = kill(self.init, Signal::SIGKILL);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        remove_cgroups(&self.namespace);
        if thread::panicking() {
            eprintln!(
                "containerd {} logged:\n{}",
                self.version,
                last_lines(&self.log(), 20)
            );
        }
    }
}

fn configuration(settings: &Settings, version: &str, directory: &Path) -> String {
    let two = !version.starts_with("1.");
    let directory = directory.display();
    let mut text = format!(
        "version = {}\nroot = \"{directory}/root\"\nstate = \"{directory}/state\"\nimports = [\"{directory}/processors.toml\"]\n",
        if two { 3 } else { 2 }
    );
    if settings.cri.is_none() {
        text.push_str(
            "disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.cri.v1.images\", \
             \"io.containerd.cri.v1.runtime\"]\n",
        );
    }
    let _ = write!(
        text,
        "[grpc]\naddress = \"{directory}/containerd.sock\"\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{directory}/opt\"\n"
    );
    if let Some(CriSettings { pause, local_pull }) = &settings.cri {
        // Root in a container of its own may not be allowed to make itself dearer to the kernel.
        let _ = if two {
            write!(
                text,
                "[plugins.\"io.containerd.cri.v1.images\"]\nuse_local_image_pull = {local_pull}\n\
                 [plugins.\"io.containerd.cri.v1.images\".pinned_images]\nsandbox = \"{pause}\"\n\
                 [plugins.\"io.containerd.cri.v1.runtime\"]\nrestrict_oom_score_adj = true\n"
            )
        } else {
            assert!(!local_pull, "before containerd 2 every CRI pull is local");
            write!(
                text,
                "[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{pause}\"\n\
                 restrict_oom_score_adj = true\n"
            )
        };
    }
    text
}

fn first_child(parent: u32) -> Pid {
    let children =
        fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    let child = children
        .split_whitespace()
        .next()
        .and_then(|child| child.parse().ok());
    Pid::from_raw(child.expect("unshare has the namespace's first process as its child"))
}

/// Control groups are named after containerd's namespace and outlive killed containers.
fn remove_cgroups(name: &str) {
    let Ok(hierarchies) = fs::read_dir("/sys/fs/cgroup") else {
        return;
    };
    let roots = hierarchies
        .flatten()
        .map(|entry| entry.path())
        .chain([PathBuf::from("/sys/fs/cgroup")]);
    for group in roots
        .map(|root| root.join(name))
        .filter(|group| group.is_dir())
    {
        // A killed process may take a moment to leave its group.
        for _ in 0..50 {
            remove_group(&group);
            if !group.exists() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn remove_group(group: &Path) {
    for child in fs::read_dir(group)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().is_dir())
    {
        remove_group(&child.path());
    }
    let _ = fs::remove_dir(group);
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
