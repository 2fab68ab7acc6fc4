//! What doctor makes of containerd's configuration, beside what containerd itself makes of it.

use std::fs;
use std::os::unix::fs::symlink;

use integration::node::{Node, is_sound, line, set_mode};
use integration::ocihsm;
use integration::program::Program;
use integration::root::Root;
use integration::skip;
use serde_json::{Value, json};

/// Whether each containerd that is here starts with the node's configuration, by the beginning of its version.
fn containerds_that_start(node: &Node) -> Vec<(String, bool)> {
    if !skip::programs(&["containerd"]) {
        return Vec::new();
    }
    let scratch = tempfile::tempdir().unwrap();
    let run = |root: &Root, args: &[&str]| root.program(&scratch, "containerd").args(args).run();
    let config = node.path("config.toml");
    let config = config.to_str().unwrap();
    Root::all()
        .iter()
        .map(|root| {
            let version = run(root, &["--version"]).text();
            let version = version
                .split(' ')
                .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
                .expect("containerd prints its name and its version")
                .to_owned();
            let starts = run(root, &["--config", config, "config", "dump"])
                .status
                .success();
            (version, starts)
        })
        .collect()
}

fn start(node: &Node, series: &str) -> Option<bool> {
    containerds_that_start(node)
        .into_iter()
        .find_map(|(version, starts)| version.starts_with(series).then_some(starts))
}

#[test]
fn short_names_of_plugins_beside_a_newer_file_are_a_failure() {
    let node = Node::new();
    for short in [
        "disabled_plugins = [\"cri\"]\n",
        "required_plugins = [\"cri\"]\n",
        "",
    ] {
        let section = if short.is_empty() {
            "[plugins.cri]\n"
        } else {
            ""
        };
        let imports = format!("imports = [{:?}]\n", node.path("conf.d/*.toml"));
        node.write("config.toml", &format!("{short}{imports}{section}"));
        let text = node.complaint();
        let failure = line(&text, "only version 1 does (cri)");
        assert!(
            failure.starts_with("fail") && failure.contains("containerd 1.x does not start"),
            "{failure}"
        );
        let mend = line(&text, "-> let ");
        assert!(
            mend.contains("`version = 2`") && mend.contains("io.containerd.grpc.v1.cri"),
            "{mend}"
        );
        for (version, starts) in containerds_that_start(&node) {
            assert_eq!(
                starts,
                !version.starts_with("1."),
                "containerd {version}: {short}"
            );
        }
        node.write(
            "config.toml",
            &format!("version = 2\n{imports}{short}{section}")
                .replace("cri", "\"io.containerd.grpc.v1.cri\"")
                .replace("\"\"", "\""),
        );
        let output = node.doctor(&[]);
        assert!(output.status.success(), "{}", output.text());
        assert!(
            containerds_that_start(&node)
                .iter()
                .all(|(_, starts)| *starts)
        );
    }
}

#[test]
fn a_bare_file_without_a_version_is_sound() {
    let node = Node::new();
    node.change("config.toml", "version = 2\n", "");
    let text = node.doctor(&[]).text();
    assert!(is_sound(&text), "{text}");
    assert!(
        containerds_that_start(&node)
            .iter()
            .all(|(_, starts)| *starts)
    );
}

#[test]
fn a_file_of_version_3_is_not_for_older_containerds() {
    let node = Node::new();
    node.change("conf.d/ocihsm.toml", "version = 2\n", "version = 3\n");
    let output = node.doctor(&[]);
    let text = output.text();
    // Of this machine, if it has one.
    match containerds_that_start(&node).first() {
        Some((version, true)) => assert!(!text.contains("has version 3"), "{version}: {text}"),
        Some((version, false)) => {
            let failure = line(&text, "has version 3");
            let series = version.rsplit_once('.').map_or("", |(series, _)| series);
            assert!(
                !output.status.success() && failure.starts_with("fail"),
                "{text}"
            );
            assert!(
                failure.contains(&format!("containerd {series} does not start")),
                "{text}"
            );
        }
        None => assert!(line(&text, "has version 3").starts_with("warn"), "{text}"),
    }
    assert_ne!(start(&node, "1.7"), Some(true));
    assert_ne!(start(&node, "2."), Some(false));
}

#[test]
fn a_relative_pattern_is_read_by_newer_containerds_alone() {
    let node = Node::new();
    let absolute = format!("{:?}", node.path("conf.d/*.toml"));
    node.change("config.toml", &absolute, "\"conf.d/*.toml\"");
    let output = node.doctor(&[]);
    assert!(output.status.success(), "{}", output.text());
    let text = output.text();
    assert!(
        line(&text, "containerd 1.6 looks for").starts_with("warn"),
        "{text}"
    );
    assert!(
        line(&text, "-> write it as").contains(absolute.trim_matches('"')),
        "{text}"
    );
}

#[test]
fn a_missing_import_stops_older_containerds() {
    let node = Node::new();
    let missing = node.path("gone.toml");
    node.change(
        "config.toml",
        "imports = [",
        &format!("imports = [{missing:?}, "),
    );
    let text = node.complaint();
    let failure = line(&text, "gone.toml, which is not there");
    assert!(failure.contains(": containerd does not start"), "{failure}");
    // The others are read all the same.
    assert!(text.contains("opens what is wrapped"), "{text}");
    assert_ne!(start(&node, "1."), Some(true));
}

#[test]
fn a_drop_in_that_nothing_imports_is_named() {
    let node = Node::new();
    let imports = format!("imports = [{:?}]", node.path("conf.d/*.toml"));
    node.change("config.toml", &imports, "imports = []");
    let text = node.complaint();
    let failure = line(&text, "and nothing imports it");
    assert!(
        failure.starts_with("fail") && failure.contains("conf.d/ocihsm.toml"),
        "{failure}"
    );
    let mend = line(&text, "in the place of the line `imports = []`");
    assert!(mend.contains(&imports), "{mend}");
}

#[test]
fn a_node_without_sections_is_told_once_which_file_to_write_and_that_mends_it() {
    let node = Node::new();
    let stanza = node.stanza(&[]);
    fs::remove_file(node.path("conf.d/ocihsm.toml")).unwrap();
    fs::remove_dir(node.path("conf.d")).unwrap();
    node.write("config.toml", "version = 2\n");
    let text = node.complaint();
    let (drop_in, pattern) = (node.path("conf.d/ocihsm.toml"), node.path("conf.d/*.toml"));
    let make = format!("ocihsm config containerd > {}`", drop_in.display());
    let mend = line(&text, &make);
    let imports = format!("`imports = [{pattern:?}]`");
    assert!(
        mend.contains("-> run `mkdir -p ") && mend.contains(&imports),
        "{mend}"
    );
    assert_eq!(text.matches(&make).count(), 1, "{text}");
    let report: Value = serde_json::from_slice(&node.doctor(&["--json"]).stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let mends = findings.iter().filter_map(|one| one["mend"].as_str());
    assert_eq!(mends.filter(|mend| mend.contains(&make)).count(), 3);

    fs::create_dir(node.path("conf.d")).unwrap();
    node.write("conf.d/ocihsm.toml", &stanza);
    let imports = imports.trim_matches('`');
    node.write("config.toml", &format!("version = 2\n{imports}\n"));
    let output = node.doctor(&[]);
    assert!(output.status.success(), "{}", output.text());
}

#[test]
fn a_second_line_of_imports_is_named() {
    let node = Node::new();
    node.change(
        "config.toml",
        "version = 2\n",
        "version = 2\nimports = []\n",
    );
    let text = node.complaint();
    let failure = line(&text, "fail  containerd");
    assert!(
        failure.contains("line 5 defines `imports` a second time"),
        "{failure}"
    );
    assert!(
        line(&text, "keep one line `imports`").contains("does not start"),
        "{text}"
    );
    assert!(
        containerds_that_start(&node)
            .iter()
            .all(|(_, starts)| !starts)
    );
}

#[test]
fn sections_in_several_files_are_counted_once_and_placed() {
    let node = Node::new();
    let stanza = node.stanza(&[]);
    let second = stanza.match_indices("\n[stream").nth(2).unwrap().0;
    let (first, rest) = stanza.split_at(second);
    node.write("conf.d/ocihsm.toml", first);
    node.write("conf.d/other.toml", &format!("version = 2\n{rest}"));
    let text = node.doctor(&[]).text();
    let found = line(&text, "for 7 media types");
    assert!(
        found.contains("conf.d/ocihsm.toml and ") && found.contains("conf.d/other.toml"),
        "{found}"
    );

    node.write(
        "conf.d/other.toml",
        &stanza.replace("decoder.v1", "decoder.mine"),
    );
    let text = node.complaint();
    assert!(
        line(&text, "for 7 media types").starts_with("ok "),
        "{text}"
    );
    let failure = line(&text, "at random");
    for file in ["ocihsm.toml)", "other.toml)"] {
        assert!(failure.contains(file), "{failure}");
    }
}

#[test]
fn a_copy_under_the_references_name_is_ours_and_a_namesake_is_not() {
    let node = Node::new();
    let copy = node.path("ctd-decoder");
    fs::copy(ocihsm(), &copy).unwrap();
    let ours = format!("{:?}", ocihsm());
    node.change("conf.d/ocihsm.toml", &ours, &format!("{copy:?}"));
    node.change("conf.d/ocihsm.toml", "[\"decode\", ", "[");
    let output = node.doctor(&[]);
    let text = output.text();
    assert!(output.status.success() && is_sound(&text), "{text}");

    // A build of another day.
    let mut bytes = fs::read(&copy).unwrap();
    bytes.push(0);
    fs::write(&copy, bytes).unwrap();
    let text = node.doctor(&[]).text();
    assert!(
        line(&text, "another build of ocihsm").starts_with("ok "),
        "{text}"
    );

    let namesake = node.path("ocihsm");
    node.write("ocihsm", "#!/bin/sh\n");
    set_mode(&namesake, 0o755);
    fs::remove_file(&copy).unwrap();
    symlink(&namesake, &copy).unwrap();
    let text = node.doctor(&[]).text();
    assert!(
        line(&text, "a script that starts no ocihsm").starts_with("fail"),
        "{text}"
    );
}

#[test]
fn a_directory_that_others_may_change_is_named_itself() {
    let node = Node::new();
    fs::create_dir(node.path("open")).unwrap();
    set_mode(&node.path("open"), 0o777);
    fs::copy(node.path("policy"), node.path("open/policy")).unwrap();
    set_mode(&node.path("open/policy"), 0o644);
    let policy = node.path("policy");
    let moved = node.path("open/policy");
    node.change(
        "conf.d/ocihsm.toml",
        policy.to_str().unwrap(),
        moved.to_str().unwrap(),
    );
    let text = node.complaint();
    let failure = line(&text, "others than root may change");
    assert!(
        failure.ends_with(&format!(
            "since they may change {}",
            node.path("open").display()
        )),
        "{failure}"
    );
    assert!(line(&text, "chmod go-w").ends_with("/open"), "{text}");
}

/// Several containerds are looked for at their usual places, so this is done in a root of its own.
#[test]
fn of_several_containerds_each_finding_names_its_own() {
    if !skip::programs(&["containerd"]) {
        return;
    }
    // The second one is what a distribution installs, with all that is built in written down.
    for unused in [
        "echo 'disabled_plugins = [\"cri\"]'",
        "containerd config default",
    ] {
        three_containerds(unused);
    }
}

/// What doctor finds where k3s is set up as the node is, and this script was run.
fn beside_k3s(node: &Node, script: &str) -> (bool, Value) {
    let scratch = tempfile::tempdir().unwrap();
    let script = format!(
        "set -e; mount -t tmpfs tmpfs /etc/containerd; mount -t tmpfs tmpfs /var/lib
         d=/var/lib/rancher/k3s/agent/etc/containerd; mkdir -p $d
         cp {} $d/config.toml
         {script}
         exec {} doctor --json",
        node.path("config.toml").display(),
        ocihsm().display()
    );
    let output = Root::host()
        .isolated(scratch.path(), "sh")
        .args(["-c", &script])
        .run();
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", output.text(), output.stderr));
    (output.status.success(), report)
}

/// The ids of what fails.
fn failed(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings
        .filter(|finding| finding["level"] == "fail")
        .map(|finding| finding["id"].as_str().unwrap())
        .collect()
}

/// k3s is one program, which is containerd where it is started by that name.
#[test]
fn a_containerd_that_runs_under_the_file_name_of_k3s_is_found() {
    if !skip::root() || !skip::programs(&["containerd"]) {
        return;
    }
    let node = Node::new();
    let config = fs::read_to_string(node.path("config.toml")).unwrap();
    let disabled = "disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.cri.v1.images\", \
                    \"io.containerd.cri.v1.runtime\"]\n";
    node.write("config.toml", &format!("{config}{disabled}"));
    let script = "cp $(command -v containerd) $d/k3s; sleep 0.1
         bash -c \"exec -a containerd $d/k3s -c $d/config.toml\" >$d/log 2>&1 &
         for try in $(seq 600); do [ ! -S /run/containerd/containerd.sock ] || break; sleep 0.1; done";
    let (is_sound, report) = beside_k3s(&node, script);
    assert!(is_sound, "{report:#}");
    assert!(!report.to_string().contains("not-running"), "{report:#}");
}

/// doctor starts the program of a containerd that runs, to learn its release, and doctor is root.
#[test]
fn a_program_of_another_user_is_no_containerd() {
    if !skip::root() || !skip::programs(&["containerd"]) {
        return;
    }
    let script = "mkdir /var/lib/other; chmod 755 /var/lib/rancher /var/lib/other
         cp $(command -v cat) /var/lib/other/containerd
         sleep 600 | setpriv --reuid 65534 --regid 65534 --clear-groups /var/lib/other/containerd -u >/dev/null 2>&1 &
         sleep 1";
    let (_, report) = beside_k3s(&Node::new(), script);
    assert_eq!(failed(&report), ["not-running"], "{report:#}");
    assert!(!report.to_string().contains("config-absent"), "{report:#}");
}

#[test]
fn what_is_built_in_counts_beside_another_containerd_if_its_program_is_there() {
    if !skip::programs(&["containerd"]) {
        return;
    }
    let script = format!(
        "mount -t tmpfs tmpfs /opt; mkdir -p /opt/containerd/bin
         cp {} /opt/containerd/bin/ctd-decoder
         echo 'version = 2' > /etc/containerd/config.toml",
        ocihsm().display()
    );
    let (_, report) = beside_k3s(&Node::new(), &script);
    let text = report.to_string();
    assert!(!text.contains("sets up no decoder"), "{report:#}");
    assert!(text.contains("ctd-decoder for 2 media types"), "{report:#}");
    // Nobody has put keys there, which matters now.
    assert!(
        text.contains("mkdir -m 700 -p /etc/containerd/ocicrypt/keys"),
        "{report:#}"
    );
}

fn three_containerds(unused: &str) {
    let script = format!(
        "{unused} > /etc/containerd/config.toml
         mkdir /var/lib/rancher/rke2; cp -r /var/lib/rancher/k3s/agent /var/lib/rancher/rke2"
    );
    let (_, report) = beside_k3s(&Node::new(), &script);
    assert_eq!(failed(&report), ["not-running"], "{report:#}");
    let findings = report["findings"].as_array().unwrap();
    let unused = findings
        .iter()
        .find(|finding| finding["containerds"] == json!(["/etc/containerd/config.toml"]))
        .unwrap();
    assert_eq!(unused["level"], "warn");
    assert!(
        unused["text"]
            .as_str()
            .unwrap()
            .contains("sets up no decoder")
    );
    let [k3s, rke2] = ["k3s", "rke2"]
        .map(|name| format!("/var/lib/rancher/{name}/agent/etc/containerd/config.toml"));
    for (subject, containerds) in [
        ("stream processor", json!([k3s])),
        ("key", json!([k3s, rke2])),
    ] {
        assert!(
            (findings.iter())
                .any(|finding| finding["subject"] == subject
                    && finding["containerds"] == containerds),
            "{report:#}"
        );
    }
}

#[test]
fn what_cannot_be_read_is_for_root_to_look_at() {
    if !skip::root() {
        return;
    }
    let node = Node::new();
    set_mode(&node.path("conf.d"), 0o700);
    set_mode(&node.path(""), 0o755);
    // Another user must reach the binary, wherever the repository is.
    fs::copy(ocihsm(), node.path("ocihsm")).unwrap();
    let output = Program::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(node.path("ocihsm"))
        .args(["doctor", "--containerd-config"])
        .arg(node.path("config.toml"))
        .run();
    let text = output.text();
    assert!(line(&text, "user: ").starts_with("warn"), "{text}");
    let denied = line(&text, "cannot list");
    assert!(denied.contains("conf.d: permission denied"), "{denied}");
    assert!(
        text.contains("-> run doctor as root, as containerd runs its decoder"),
        "{text}"
    );
    assert!(!text.contains("it imports nothing"), "{text}");
}
