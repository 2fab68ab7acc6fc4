//! The containerds that run on this machine: since when, with which file, and in what environment.
//!
//! Read from `/proc`. Those of containers, which see other files than we do, are passed over.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use nix::unistd::geteuid;

use super::containerd::LOCATIONS;
use super::section::{ADDED_LIBRARIES, ADDED_PROGRAMS};

const NAME: &str = "containerd";

/// Ticks of a second in `/proc/PID/stat`: `USER_HZ`, which Linux has promised to programs.
const TICKS: f64 = 100.0;

/// A containerd that runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// Its process.
    pub process: u32,
    /// When it was started.
    pub since: SystemTime,
    /// The configuration file that it was started with.
    pub config: PathBuf,
    /// Its root directory, if it was named as it was started.
    pub root: Option<PathBuf>,
    /// Its program, as it can be started once more, also if the file was replaced.
    pub program: PathBuf,
    /// What a program that it starts finds in its environment; `None` if we may not see it.
    pub environment: Option<BTreeMap<String, String>>,
}

/// A release of containerd, as far as it matters: 1.7 is `(1, 7)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u32, pub u32);

impl Running {
    /// All of them that see our files, by their processes.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let candidates = candidates().filter(|one| one.sees_our_files);
        let mut all: Vec<Self> = candidates.filter_map(Self::of).collect();
        all.sort_by_key(|running| running.process);
        all
    }

    /// One that may see other files than we do, as in a container: its process.
    #[must_use]
    pub fn any_elsewhere() -> Option<u32> {
        let mut elsewhere = candidates().filter(|one| !one.sees_our_files);
        elsewhere.next().map(|one| one.process)
    }

    fn of(candidate: Candidate) -> Option<Self> {
        let Candidate {
            process, arguments, ..
        } = candidate;
        let directory = fs::read_link(at(process, "cwd")).unwrap_or_else(|_| "/".into());
        Some(Self {
            process,
            since: since(&fs::read_to_string(at(process, "stat")).ok()?)?,
            config: directory.join(arguments.config.unwrap_or_else(|| LOCATIONS[0].0.into())),
            root: arguments.root.map(|root| directory.join(root)),
            program: at(process, "exe"),
            environment: fs::read(at(process, "environ"))
                .ok()
                .map(|bytes| handed_down(&String::from_utf8_lossy(&bytes))),
        })
    }

    /// Whether a file of its configuration became what it is since it was started. Whoever moves an old file to its
    /// place changes it, too.
    #[must_use]
    pub fn is_older_than(&self, file: &Path) -> bool {
        [file.metadata(), file.symlink_metadata()]
            .into_iter()
            .flatten()
            .any(|metadata| changed(&metadata) > self.since)
    }

    /// The release of its program.
    #[must_use]
    pub fn release(&self) -> Option<Release> {
        Release::of(&self.program)
    }
}

impl Release {
    /// What a containerd says of itself.
    #[must_use]
    pub fn of(program: &Path) -> Option<Self> {
        let output = Command::new(program)
            .arg0(NAME)
            .arg("--version")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        Self::parse(&String::from_utf8_lossy(&output.stdout))
    }

    /// `containerd github.com/containerd/containerd v1.7.24 …`; distributions leave the `v` away.
    fn parse(text: &str) -> Option<Self> {
        let version = text.split_whitespace().nth(2)?;
        let mut numbers = version.trim_start_matches('v').split(['.', '~', '-', '+']);
        let mut next = || numbers.next()?.parse().ok();
        Some(Self(next()?, next()?))
    }

    /// The newest version of a configuration file that it reads. Before 1.7 nobody looked.
    #[must_use]
    pub fn newest_config(self) -> i64 {
        match self {
            Self(..1, _) | Self(1, ..7) => i64::MAX,
            Self(1, _) => 2,
            Self(2, ..3) => 3,
            _ => 4,
        }
    }
}

impl std::fmt::Display for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// What a containerd was started with.
#[derive(Debug, Default, PartialEq, Eq)]
struct Arguments {
    config: Option<PathBuf>,
    root: Option<PathBuf>,
}

impl Arguments {
    /// `None` for one that does something else than serve, as `containerd config dump` does.
    fn parse(cmdline: &str) -> Option<Self> {
        let mut arguments = Self::default();
        let mut words = cmdline.trim_end_matches('\0').split('\0').skip(1);
        while let Some(word) = words.next() {
            let flag = word.strip_prefix('-')?;
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (flag, value) = match flag.split_once('=') {
                Some((flag, value)) => (flag, Some(value)),
                None => (flag, None),
            };
            let place = match flag {
                "config" | "c" => Some(&mut arguments.config),
                "root" => Some(&mut arguments.root),
                "log-level" | "l" | "address" | "a" | "state" => None,
                "version" | "v" | "help" | "h" => return None,
                _ => continue,
            };
            let value = value.or_else(|| words.next())?;
            if let Some(place) = place {
                *place = Some(value.into());
            }
        }
        Some(arguments)
    }
}

/// A containerd's process.
struct Candidate {
    process: u32,
    arguments: Arguments,
    sees_our_files: bool,
}

fn candidates() -> impl Iterator<Item = Candidate> {
    let ours = fs::read_link("/proc/self/ns/mnt").ok();
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(move |process| {
            let program = fs::read_link(at(process, "exe")).ok()?;
            let arguments = fs::read(at(process, "cmdline")).ok()?;
            let arguments = String::from_utf8_lossy(&arguments);
            // Its program is started to tell its release, so nobody else may choose it.
            if !is_containerd(&program, &arguments)
                || !is_of_root_or_ours(&fs::read_to_string(at(process, "status")).ok()?)
            {
                return None;
            }
            Some(Candidate {
                process,
                arguments: Arguments::parse(&arguments)?,
                sees_our_files: fs::read_link(at(process, "ns/mnt")).ok()? == *ours.as_ref()?,
            })
        })
}

fn at(process: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{process}/{name}"))
}

/// By its file, or by the name that it was started with: k3s is one program with many names.
fn is_containerd(program: &Path, cmdline: &str) -> bool {
    let is_named = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.trim_end_matches(" (deleted)") == NAME
    };
    let started_as = cmdline.split('\0').next().unwrap_or_default();
    is_named(program) || is_named(Path::new(started_as))
}

/// Whether a process runs as root or as this user, with all of its four ids.
fn is_of_root_or_ours(status: &str) -> bool {
    let ours = geteuid().as_raw();
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    ids.is_some_and(|ids| {
        ids.split_whitespace()
            .all(|id| id.parse().is_ok_and(|id: u32| id == 0 || id == ours))
    })
}

/// When a process was started, from its `stat`.
fn since(stat: &str) -> Option<SystemTime> {
    // The name of the program is in parentheses, and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: f64 = fields.split_whitespace().nth(19)?.parse().ok()?;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let age = Duration::try_from_secs_f64(uptime - ticks / TICKS).unwrap_or_default();
    SystemTime::now().checked_sub(age)
}

fn changed(metadata: &fs::Metadata) -> SystemTime {
    let seconds = Duration::from_secs(metadata.ctime().try_into().unwrap_or_default());
    let rest = Duration::from_nanos(metadata.ctime_nsec().try_into().unwrap_or_default());
    SystemTime::UNIX_EPOCH + seconds + rest
}

/// containerd puts its own directories first in two variables, and hands down the others as they are.
fn handed_down(environ: &str) -> BTreeMap<String, String> {
    let pairs = environ.split('\0').filter_map(|pair| pair.split_once('='));
    let mut variables: BTreeMap<_, _> = pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    for (name, added) in [
        ("PATH", ADDED_PROGRAMS),
        ("LD_LIBRARY_PATH", ADDED_LIBRARIES),
    ] {
        let value = variables.entry(name.to_owned()).or_default();
        *value = format!("{added}:{value}");
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_those_of_a_server_or_none() {
        let config = |words: &[&str]| {
            let words: Vec<_> = [&["containerd"], words].concat();
            Arguments::parse(&format!("{}\0", words.join("\0"))).map(|given| given.config)
        };
        assert_eq!(config(&[]), Some(None));
        for words in [
            &["-c", "/x"][..],
            &["--config", "/x", "-l", "debug"],
            &["--log-level=info", "--config=/x"],
            &["-a", "/run/s", "--root", "/r", "-c=/x"],
        ] {
            assert_eq!(config(words), Some(Some("/x".into())), "{words:?}");
        }
        for words in [
            &["config", "dump"][..],
            &["-c", "/x", "config"],
            &["--version"],
        ] {
            assert_eq!(config(words), None, "{words:?}");
        }
    }

    #[test]
    fn k3s_is_containerd_where_it_was_started_as_one() {
        let is = |program: &str, cmdline: &str| is_containerd(Path::new(program), cmdline);
        assert!(is("/usr/bin/containerd", "/usr/bin/containerd\0"));
        assert!(is("/usr/bin/containerd (deleted)", "x\0"));
        assert!(is(
            "/var/lib/rancher/k3s/data/x/bin/k3s",
            "containerd\0-c\0/x\0"
        ));
        assert!(!is("/var/lib/rancher/k3s/data/x/bin/k3s", "k3s\0server\0"));
        assert!(!is("/usr/bin/containerd-shim-runc-v2", "containerd-shim\0"));
    }

    #[test]
    fn a_process_of_another_user_is_none_of_ours() {
        let ours = geteuid().as_raw();
        assert!(is_of_root_or_ours(&format!(
            "Name:\tx\nUid:\t{ours}\t0\t0\t{ours}\n"
        )));
        assert!(!is_of_root_or_ours("Uid:\t4242\t0\t0\t0\n"));
        assert!(!is_of_root_or_ours("Name:\tx\n"));
    }

    #[test]
    fn releases_are_read_as_they_are_printed() {
        for (text, release) in [
            (
                "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1",
                Release(1, 6),
            ),
            (
                "containerd github.com/containerd/containerd/v2 v2.1.0 061792f\n",
                Release(2, 1),
            ),
            ("containerd containerd.io 1.7.27 05044ec\n", Release(1, 7)),
        ] {
            assert_eq!(Release::parse(text), Some(release));
        }
        assert_eq!(Release::parse("something else"), None);
        assert_eq!(
            [Release(1, 7), Release(2, 0), Release(2, 2), Release(2, 3)]
                .map(Release::newest_config),
            [2, 3, 3, 4]
        );
    }

    #[test]
    fn this_process_was_started_a_moment_ago() {
        let since = since(&fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
        let age = SystemTime::now().duration_since(since).unwrap();
        assert!(age < Duration::from_secs(3600), "{age:?}");
        let running = Running {
            process: std::process::id(),
            since,
            config: PathBuf::new(),
            root: None,
            program: PathBuf::new(),
            environment: None,
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(running.is_older_than(file.path()));
        assert!(!running.is_older_than(Path::new("/proc/1/none")));
    }
}
