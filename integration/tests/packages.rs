//! What `integration/packages` installs, and what it leaves alone: Docker's packages, services, the machine's policy.
//!
//! Each test is a fresh Debian 13, with stub packages whose fields are those of the real ones.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use integration::layer::digest;
use integration::program::{Output, Program};
use integration::root::Root;
use integration::skip::{self, skipped};
use tempfile::TempDir;

/// Docker's packages, and those of Debian that apt takes in their place.
const STUBS: [(&str, &str); 11] = [
    (
        "containerd.io",
        "Version: 1.7.27-1\nProvides: containerd, runc\nConflicts: containerd, runc\nReplaces: containerd, runc",
    ),
    (
        "docker-ce-cli",
        "Version: 5:28.0.0-1\nConflicts: docker (<< 1.5~), docker-engine, docker.io\nBreaks: docker-ce (<< 5:0)",
    ),
    (
        "docker-ce",
        "Version: 5:28.0.0-1\nDepends: containerd.io (>= 1.7.27), docker-ce-cli, iptables, nftables\n\
         Conflicts: docker (<< 1.5~), docker-engine, docker.io\nReplaces: docker-engine, docker-ce-cli (<< 5:28.0.0)",
    ),
    ("iptables", "Version: 1.8.11-2"),
    ("nftables", "Version: 1.1.3-1"),
    ("runc", "Version: 1.1.15-1"),
    ("containerd", "Version: 1.7.24-1\nDepends: runc"),
    ("served", "Version: 1-1"),
    ("build-essential", "Version: 12.12\nDepends: libc6-dev"),
    ("libc6-dev", "Version: 2.41-12"),
    ("broken", "Version: 1-1"),
];

/// As debhelper writes it for a package with a unit and a script of the same name.
const SERVED_POSTINST: &str = "#!/bin/sh\nset -e\ndeb-systemd-helper unmask served.service >/dev/null || true\n\
    deb-systemd-helper --quiet was-enabled served.service && deb-systemd-helper enable served.service >/dev/null\n\
    update-rc.d served defaults >/dev/null\ninvoke-rc.d --skip-systemd-native served start || exit 1\n";
const SERVED_UNIT: &str = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n";
const SERVED_SCRIPT: &str = "#!/bin/sh\n### BEGIN INIT INFO\n# Provides: served\n# Required-Start:\n\
    # Required-Stop:\n# Default-Start: 2 3 4 5\n# Default-Stop: 0 1 6\n### END INIT INFO\n\
    [ \"$1\" != start ] || touch /served-was-started\n";
const STARTED: &str =
    "ls -d /served-was-started /etc/systemd/system/*/served.service /etc/rc2.d/S*served";

const POLICY: &str = "/usr/sbin/policy-rc.d";

/// A Debian 13 that knows of no packages but the stubs.
struct Machine {
    root: Root,
    place: TempDir,
}

impl Machine {
    fn new() -> Option<Self> {
        if !skip::root() || !skip::programs(&["dpkg-deb"]) {
            return None;
        }
        let Some(root) = Root::trixie() else {
            skipped("the trixie peers were not made (integration/peers)");
            return None;
        };
        let place = TempDir::new().unwrap();
        fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
        let machine = Self { root, place };
        let mut index = String::new();
        for (name, fields) in STUBS {
            let file = machine.build(name, fields);
            let bytes = fs::read(&file).unwrap();
            write!(
                index,
                "Package: {name}\nArchitecture: all\n{fields}\nFilename: ./{name}.deb\nSize: {}\nSHA256: {}\n\n",
                bytes.len(),
                digest(&bytes).trim_start_matches("sha256:")
            )
            .unwrap();
        }
        fs::write(machine.place.path().join("Packages"), index).unwrap();
        Some(machine)
    }

    /// Builds a stub; its one program is called as the package, a containerd.io has those of the real one.
    fn build(&self, name: &str, fields: &str) -> PathBuf {
        let tree = self.place.path().join(name);
        let programs: &[&str] = match name {
            "containerd.io" => &["containerd", "ctr", "runc"],
            "containerd" => &["containerd", "ctr", "containerd-stress"],
            "build-essential" => &["cc"],
            name => &[name],
        };
        for program in programs {
            put(&tree.join("usr/bin").join(program), "#!/bin/sh\n", 0o755);
        }
        if name == "libc6-dev" {
            put(&tree.join("usr/lib/linux/crt1.o"), "", 0o644);
        }
        if name == "broken" {
            put(&tree.join("DEBIAN/postinst"), "#!/bin/sh\nexit 1\n", 0o755);
        }
        if name == "served" {
            put(
                &tree.join("usr/lib/systemd/system/served.service"),
                SERVED_UNIT,
                0o644,
            );
            put(&tree.join("etc/init.d/served"), SERVED_SCRIPT, 0o755);
            put(&tree.join("DEBIAN/postinst"), SERVED_POSTINST, 0o755);
        }
        let control = format!(
            "Package: {name}\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\n{fields}\nDescription: a stub\n"
        );
        put(&tree.join("DEBIAN/control"), &control, 0o644);
        let file = self.place.path().join(format!("{name}.deb"));
        Program::new("dpkg-deb")
            .args(["--root-owner-group", "--build"])
            .args([&tree, &file])
            .ok();
        file
    }

    /// Runs a script there; each run is a machine of its own, as one that was started without systemd. `$packages` is what is tested, `$docker` installs Docker.
    fn run(&self, script: &str) -> Output {
        let place = self.place.path().display();
        let packages = integration::repository().join("integration/packages");
        let preamble = format!(
            "set -u; packages={} docker='dpkg --install {place}/containerd.io.deb {place}/docker-ce-cli.deb \
             {place}/iptables.deb {place}/nftables.deb {place}/docker-ce.deb'\n\
             dpkg --purge --force-depends containerd runc >/dev/null 2>&1\n\
             ln -sf /bin/true /sbin/init; printf '#!/bin/sh\necho N 2\n' >/sbin/runlevel; chmod 755 /sbin/runlevel\n\
             rm -rf /etc/apt/sources.list.d/* {POLICY} /var/lib/apt/lists/*\n\
             echo 'deb [trusted=yes] file:{place} ./' >/etc/apt/sources.list\n",
            packages.display()
        );
        let scratch = tempfile::tempdir_in(&self.place).unwrap();
        let output = self
            .root
            .isolated(scratch.path(), "bash")
            .args(["-c", &format!("{preamble}{script}")])
            .run();
        println!("{}{}", output.text(), output.stderr);
        output
    }
}

fn put(path: &Path, text: &str, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn docker_stays_where_its_containerd_is_the_containerd() {
    let Some(machine) = Machine::new() else {
        return;
    };
    // What apt does if it is asked for packages.
    let asked = machine
        .run("$docker && apt-get update && apt-get --simulate install --yes containerd runc");
    assert!(asked.text().contains("Remv docker-ce "), "{asked:?}");

    let output = machine.run(
        "$docker >/dev/null && $packages containerd=containerd ctr=containerd runc=runc && dpkg-query -W docker-ce containerd.io",
    );
    assert!(output.status.success(), "{output:?}");
    assert!(output.text().starts_with("containerd.io\t"), "{output:?}");
}

#[test]
fn docker_stays_where_a_program_is_missing_that_only_debians_containerd_has() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let output = machine.run(
        "$docker >/dev/null; $packages containerd-stress=containerd; echo status $?; dpkg-query -W docker-ce containerd.io",
    );
    let text = output.text();
    assert!(text.contains("status 1\n"), "{output:?}");
    assert!(text.contains("docker-ce\t5:28.0.0-1\n"), "{output:?}");
    assert!(
        output
            .stderr
            .contains("Install containerd-stress in another way"),
        "{output:?}"
    );
}

#[test]
fn what_is_missing_is_installed_and_written_down() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let output = machine.run(
        "cd ~; $packages --record list sh=dash /usr/bin/c*nerd=containerd >said && cat list && dpkg-query -W containerd && cat said",
    );
    let text = output.text();
    assert!(
        text.starts_with("containerd\nrunc\ncontainerd\t1.7.24-1\n"),
        "{output:?}"
    );
    assert!(
        text.contains("installing: runc containerd\nThey stay; "),
        "{output:?}"
    );
}

#[test]
fn what_was_installed_is_told_where_something_failed() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let output =
        machine.run("cd ~; $packages --record list broken=broken; echo status $?; cat list");
    assert!(output.text().ends_with("status 1\nbroken\n"), "{output:?}");

    // Also where the script's own directory cannot be removed.
    let repository = integration::repository();
    let script = |name: &str| {
        machine.run(&format!(
            "ln -s /bin/true /usr/local/bin/cargo; \
             printf '#!/bin/sh\n[ \"$1\" != -rf ] && exec /bin/rm \"$@\"\n' >/usr/local/bin/rm; \
             chmod 755 /usr/local/bin/rm; PATH=/usr/local/bin:$PATH; hash -r; \
             TMPDIR={} OCIHSM_BIN=/bin/false {}; echo status $?",
            machine.place.path().display(),
            repository.join(name).display()
        ))
    };
    let output = script("examples/quickstart.sh");
    let text = output.text();
    assert!(
        text.contains("Missing ones are installed with apt-get, and stay"),
        "{output:?}"
    );
    assert!(
        text.ends_with(
            "These packages stay, apt-get purge removes them: build-essential containerd libc6-dev runc\nstatus 1\n"
        ),
        "{output:?}"
    );

    let output = script("integration/run");
    let text = output.text();
    assert!(text.starts_with("missing programs are "), "{output:?}");
    assert!(
        output.stderr.contains(" could not be removed"),
        "{output:?}"
    );
    assert!(
        text.contains("\nwhat stays: target") && text.ends_with("status 1\n"),
        "{output:?}"
    );
}

#[test]
fn what_was_there_before_is_not_written_down() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let place = machine.place.path().display();
    let output = machine.run(&format!(
        "cd ~; dpkg --install {place}/nftables.deb >/dev/null; rm /usr/bin/nftables; \
         $packages --record list nftables=nftables; echo status $?; cat list"
    ));
    let text = output.text();
    assert!(text.ends_with("status 1\n"), "{output:?}");
    assert!(!text.contains("purge"), "{output:?}");
    let what = "nftables is not there, though its package is installed";
    assert!(output.stderr.contains(what), "{output:?}");

    // An upgrade alone adds no package either.
    let output = machine.run(&format!(
        "cd ~; cp -a {place}/nftables old; sed -i 's/^Version: .*/Version: 1.0-1/' old/DEBIAN/control; \
         rm old/usr/bin/nftables; dpkg-deb --build old old.deb >/dev/null; dpkg --install old.deb >/dev/null; \
         $packages --record list nftables=nftables; echo status $?; cat list"
    ));
    let text = output.text();
    let upgraded = "\nupgrading, since they depend on it: nftables\nstatus 0\n";
    assert!(text.ends_with(upgraded), "{output:?}");
    assert!(!text.contains("purge"), "{output:?}");
}

#[test]
fn no_service_is_started_or_enabled() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let plain = machine.run(&format!(
        "dpkg --install {}/served.deb; {STARTED}",
        machine.place.path().display()
    ));
    for trace in ["/served-was-started", "wants/served.service", "rc2.d/S"] {
        assert!(plain.text().contains(trace), "{trace}: {plain:?}");
    }
    let output = machine.run(&format!(
        "$packages served=served && ! ls {POLICY} && ! {STARTED}"
    ));
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_policy_of_the_machine_is_asked_and_not_replaced() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let policy = |status: u8| {
        format!(
            "printf '#!/bin/sh\\nexit {status}\\n' >{POLICY}; chmod 755 {POLICY}; $packages served=served; echo status $?; cat {POLICY}; {STARTED}"
        )
    };
    let denies = machine.run(&policy(101));
    assert!(
        denies.text().ends_with("status 0\n#!/bin/sh\nexit 101\n"),
        "{denies:?}"
    );
    let lets = machine.run(&policy(0));
    assert!(
        lets.text().ends_with("status 1\n#!/bin/sh\nexit 0\n"),
        "{lets:?}"
    );
    assert!(
        lets.stderr.contains("lets packages start services"),
        "{lets:?}"
    );
}

/// A second place that installs packages would need all of this again.
#[test]
fn the_scripts_install_in_no_other_way() {
    for script in ["integration/run", "examples/quickstart.sh"] {
        let text = fs::read_to_string(integration::repository().join(script)).unwrap();
        assert!(text.contains("integration/packages"), "{script}");
        assert!(
            !text.contains("apt-get install") && !text.contains("apt install"),
            "{script}"
        );
    }
}

/// A mirror that does not answer is not waited for all day.
#[test]
fn what_a_script_fetches_has_a_bound() {
    let scripts = Program::new("git")
        .args(["ls-files", "integration", "packaging", "examples"])
        .current_dir(integration::repository())
        .ok();
    let mut fetches = 0;
    for name in scripts.text().lines() {
        let Ok(text) = fs::read_to_string(integration::repository().join(name)) else {
            continue;
        };
        let is_shell = |line: &str| line.starts_with('#') && line.contains("sh");
        if !text.lines().next().is_some_and(is_shell) {
            continue;
        }
        for line in text.lines().filter(|line| !line.trim().starts_with('#')) {
            let words = [
                "apt-get update",
                "apt-get download",
                "apt-get source",
                "pip\" install",
                "npm install",
                "cargo vendor",
                "cargo fetch",
            ];
            let is_fetch = words.iter().any(|words| line.contains(words));
            // mmdebstrap, whose hooks they are, has a bound.
            if is_fetch && !line.contains("-hook=") {
                fetches += 1;
                let is_bounded = line.contains("timeout ") || line.starts_with("apt 300 ");
                assert!(is_bounded, "{name}: {line}");
            }
        }
    }
    assert!(fetches >= 10, "{fetches}");
}
