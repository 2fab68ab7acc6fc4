//! doctor and the pull agree: each mistake that an operator makes, on every containerd there is. Where doctor is content,
//! the import works; where it is not, the import fails, or the row says why doctor is stricter.
//!
//! Rows of a containerd's files start a containerd each. The decoder reads keys and policy anew for each layer, so the
//! other rows share one.

mod keys;
mod processors;
mod programs;
mod stand;

use std::path::Path;
use std::sync::Mutex;
use std::thread;

use integration::root::Root;
use integration::vectors::Vector;

use crate::stand::{Stand, Verdict};

/// A mistake.
pub(crate) struct Row {
    /// What somebody did.
    pub(crate) name: &'static str,
    /// What stood there as containerd was started, if it is made later.
    pub(crate) first: fn(&Stand),
    /// Does it.
    pub(crate) make: fn(&Stand),
    /// When containerd is started, if it is one of its files.
    pub(crate) when: When,
    /// What doctor says.
    pub(crate) says: Says,
}

/// When a mistake is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Before containerd is started.
    Before,
    /// While it runs.
    While,
    /// It was started with another file than the one that was written, and doctor is asked without naming one.
    Elsewhere,
    /// It is not started, and doctor is asked without naming a file.
    Never,
}

/// What doctor says of it.
#[derive(Clone, Copy)]
pub(crate) enum Says {
    /// Nothing fails, and the import works.
    Content,
    /// This finding fails, and so does the import.
    Fails(&'static str),
    /// The first of these fails where the program of containerd's built-in sections is not there, else the other; so does
    /// the import.
    FailsAsBuiltIn([&'static str; 2]),
    /// This finding fails on containerd 1.7, and so does the import; with others both are content.
    FailsOnOneSeven(&'static str),
    /// This finding fails, and the import works all the same, for this reason.
    Stricter(&'static str, &'static str),
}

impl Says {
    /// The finding that fails, whether the import works, on this release.
    fn on(self, version: &str, stand: &Stand) -> (Option<&'static str>, bool) {
        match self {
            Self::FailsAsBuiltIn(ids) => (Some(ids[usize::from(stand.has_reference())]), false),
            Self::Content => (None, true),
            Self::Fails(id) => (Some(id), false),
            Self::FailsOnOneSeven(id) if version.starts_with("1.7.") => (Some(id), false),
            Self::FailsOnOneSeven(_) => (None, true),
            Self::Stricter(id, _) => (Some(id), true),
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Stricter(_, reason) => reason,
            _ => "",
        }
    }
}

/// What came of a row on one containerd.
struct Outcome {
    row: &'static str,
    doctor: String,
    import: &'static str,
    reason: &'static str,
}

#[test]
fn of_containerds_files() {
    each_started_anew(processors::ROWS);
}

#[test]
fn of_programs() {
    each_started_anew(programs::ROWS);
}

fn each_started_anew(rows: &[Row]) {
    Root::on_each_containerd(|root| {
        on(root, rows, |row, version, archive| {
            let mut stand = Stand::new(root.clone());
            (row.first)(&stand);
            if row.when == When::Before {
                (row.make)(&stand);
            }
            let variables = processors::variables(row.name);
            let starts = match row.when {
                When::Never => false,
                When::Elsewhere => stand.start_with("elsewhere.toml", variables),
                When::Before | When::While => stand.start_with("config.toml", variables),
            };
            stand.names_file = !matches!(row.when, When::Elsewhere | When::Never);
            if row.when == When::While {
                (row.make)(&stand);
            }
            judge(&mut stand, row, version, starts, archive)
        });
    });
}

#[test]
fn of_keys_and_policy() {
    Root::on_each_containerd(|root| {
        let stand = Mutex::new(None);
        on(root, keys::ROWS, |row, version, archive| {
            let mut stand = stand.lock().unwrap();
            let stand = stand.get_or_insert_with(|| {
                let mut stand = Stand::new(root.clone());
                assert!(
                    stand.start_with("config.toml", &[]),
                    "a sound containerd starts"
                );
                stand
            });
            stand.mend_keys();
            (row.make)(stand);
            judge(stand, row, version, true, archive)
        });
    });
}

/// Runs the rows, and prints what came of them.
fn on(root: &Root, rows: &[Row], run: impl Fn(&Row, &str, &Path) -> Result<Outcome, String>) {
    let version = root.containerd_version();
    let archive = Vector::first("sha256-pubkey").layout.archive();
    let mut wrong = Vec::new();
    for row in rows {
        match run(row, &version, &archive) {
            Ok(outcome) => println!(
                "| {version} | {} | {} | {} | {} |",
                outcome.row, outcome.doctor, outcome.import, outcome.reason
            ),
            Err(why) => wrong.push(format!("containerd {version}: {}: {why}", row.name)),
        }
        assert!(!thread::panicking());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn judge(
    stand: &mut Stand,
    row: &Row,
    version: &str,
    starts: bool,
    archive: &Path,
) -> Result<Outcome, String> {
    let verdict = stand.doctor();
    let import = match starts {
        true => Some(stand.import(archive)),
        false => None,
    };
    let works = import
        .as_ref()
        .is_some_and(|import| import.status.success());
    let (expected, should_work) = row.says.on(version, stand);
    let agrees = match expected {
        Some(id) => verdict.failed.iter().any(|failed| failed == id),
        None => verdict.failed.is_empty(),
    };
    if !agrees || works != should_work {
        return Err(format!("doctor: {}\nimport: {import:?}", verdict.text));
    }
    Ok(Outcome {
        row: row.name,
        doctor: told(&verdict),
        import: match (starts, works) {
            (false, _) => "containerd does not start",
            (true, true) => "works",
            (true, false) => "fails",
        },
        reason: row.says.reason(),
    })
}

fn told(verdict: &Verdict) -> String {
    match (verdict.failed.as_slice(), verdict.warned.as_slice()) {
        ([], []) => "content".to_owned(),
        ([], warned) => format!("warns: {}", warned.join(", ")),
        (failed, _) => format!("fails: {}", failed.join(", ")),
    }
}
