//! What README.md and docs/ say of the main configuration file, which imports the stream processors: every containerd
//! starts with the files as they describe them, and the mistakes that they warn of are mistakes.

use std::fs;

use integration::program::{Output, Program};
use integration::root::{Root, ran_on};
use integration::{ocihsm, repository, skip};
use tempfile::TempDir;

/// A containerd that reads configuration files, and the stream processors for it to import.
struct Reader {
    root: Root,
    place: TempDir,
    version: String,
}

impl Reader {
    fn all() -> Vec<Self> {
        if !skip::root() || !skip::programs(&["containerd"]) {
            return Vec::new();
        }
        let all: Vec<_> = Root::all().into_iter().map(Self::new).collect();
        let versions: Vec<_> = all.iter().map(|reader| &reader.version).collect();
        ran_on(&versions);
        all
    }

    fn new(root: Root) -> Self {
        let place = TempDir::new().unwrap();
        let processors = Program::new(ocihsm()).args(["config", "containerd"]).ok();
        fs::write(place.path().join("processors.toml"), processors.stdout).unwrap();
        Self {
            version: root.containerd_version(),
            root,
            place,
        }
    }

    /// The line that the documentation gives, with the path that holds here.
    fn imports(&self) -> String {
        format!("imports = [\"{}/proc*.toml\"]", self.place.path().display())
    }

    /// What containerd makes of a main file.
    fn dump(&self, main: &str) -> Output {
        let file = self.place.path().join("config.toml");
        fs::write(&file, main).unwrap();
        let containerd = self.root.program(&self.place, "containerd");
        containerd
            .arg("--config")
            .arg(file)
            .args(["config", "dump"])
            .run()
    }

    fn assert_takes(&self, main: &str) {
        let output = self.dump(main);
        let version = &self.version;
        assert!(output.status.success(), "{version}: {output:?}");
        let sections = output.text().matches("/usr/local/bin/ocihsm").count();
        assert_eq!(sections, 7, "{version}: {output:?}");
    }
}

#[test]
fn a_generated_file_takes_the_line_in_the_place_of_its_own() {
    for reader in Reader::all() {
        let containerd = reader.root.program(&reader.place, "containerd");
        let generated = containerd.args(["config", "default"]).ok().text();
        let own = generated
            .lines()
            .find(|line| line.starts_with("imports = "));
        let own = own.expect("a generated configuration has such a line");
        reader.assert_takes(&generated.replace(own, &reader.imports()));
        let twice = reader.dump(&format!("{}\n{generated}", reader.imports()));
        assert!(!twice.status.success(), "{}: {twice:?}", reader.version);
    }
}

#[test]
fn a_file_of_two_lines_is_enough() {
    for reader in Reader::all() {
        reader.assert_takes(&format!("version = 2\n{}\n", reader.imports()));
    }
}

/// What README.md shows: a whole file, and one before and after it has the line.
#[test]
fn a_file_that_imports_already_takes_the_pattern_into_its_list() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let blocks = readme.split("```toml\n").skip(1);
    let blocks = blocks.map(|rest| {
        rest.split_once("```")
            .unwrap()
            .0
            .replace("   imports", "imports")
    });
    let blocks: Vec<_> = blocks.collect();
    let [whole, before, after] = blocks.as_slice() else {
        panic!("{blocks:?}");
    };
    // A list of strings is written in TOML as in JSON.
    let imports = |text: &str| -> Vec<String> {
        let list = text.split_once("imports = ").unwrap().1;
        serde_json::from_str(list).unwrap()
    };
    assert_eq!(imports(after), [imports(before), imports(whole)].concat());
    for reader in Reader::all() {
        let mine = reader.place.path().join("mine.toml");
        fs::write(&mine, "version = 2\noom_score = 1\n").unwrap();
        let place = reader.place.path().display().to_string();
        let here = |text: &str| {
            let text = text.replace(
                "/etc/containerd/conf.d/*.toml",
                &format!("{place}/proc*.toml"),
            );
            text.replace("/etc/containerd/mine.toml", &mine.display().to_string())
        };
        reader.assert_takes(&here(whole));
        reader.assert_takes(&format!("version = 2\n{}", here(after)));
        let twice = format!("version = 2\n{}{}", here(before), here(after));
        let output = reader.dump(&twice);
        assert!(!output.status.success(), "{}: {output:?}", reader.version);
    }
}

#[test]
fn a_file_as_docker_ships_it_needs_a_version_and_the_plugin_by_its_whole_name() {
    for reader in Reader::all() {
        let imports = reader.imports();
        reader.assert_takes(&format!(
            "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n{imports}\n"
        ));
        // containerd 2 knows what is meant.
        let as_shipped = reader.dump(&format!("disabled_plugins = [\"cri\"]\n{imports}\n"));
        let old = reader.version.starts_with("1.");
        assert_ne!(as_shipped.status.success(), old, "{as_shipped:?}");
    }
}
