//! Which kinds of layers containerd hands to a decoder: each needs one section, and a section the right names.

use std::collections::BTreeMap;

use super::findings::Findings;
use super::kind;
use super::processors::file;
use crate::node::containerd::ContainerdConfig;
use crate::node::section::Section;
use crate::node::stanza::{PROCESSORS, Processor};

/// Kinds of layers that images have; the others are rare.
const USUAL: [&str; 3] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
];

/// Whether each kind of layer has one section that is for it. `install` is what to do for want of one.
pub(super) fn check(findings: &mut Findings, config: &ContainerdConfig, install: &str) {
    let mut missing = Vec::new();
    for processor in PROCESSORS {
        let sections: BTreeMap<&String, &Section> = (config.processors.iter())
            .filter(|(_, section)| section.accepts.contains(&processor.accepts()))
            .collect();
        if sections.is_empty() {
            missing.push(processor);
        }
        check_one(findings, processor, &sections);
    }
    check_names(findings, config);
    let (usual, rare): (Vec<_>, Vec<_>) =
        (missing.iter()).partition(|processor| USUAL.contains(&processor.returns));
    let text = |missing: &[&Processor]| {
        let names: Vec<_> = missing.iter().map(|processor| short(processor)).collect();
        format!("there is none for encrypted layers of {}", names.join(", "))
    };
    if !usual.is_empty() {
        findings.fail(kind::PROCESSOR_MISSING, text(&usual), install);
    }
    if !rare.is_empty() {
        findings.warn(kind::PROCESSOR_MISSING, text(&rare), install);
    }
}

fn check_one(
    findings: &mut Findings,
    processor: Processor,
    sections: &BTreeMap<&String, &Section>,
) {
    let media_type = processor.accepts();
    if sections.len() > 1 {
        let ids: Vec<_> = sections
            .iter()
            .map(|(id, section)| format!("{id} ({})", file(section)))
            .collect();
        findings.fail(
            kind::PROCESSOR_REPEATED,
            format!(
                "{} sections accept {media_type}, and containerd takes one of them at random: {}",
                sections.len(),
                ids.join(", ")
            ),
            format!(
                "give the one that you mean the id {}, and take {media_type} out of the others",
                processor.id
            ),
        );
    }
    for (id, section) in sections {
        if section.returns != processor.returns {
            findings.fail(
                kind::PROCESSOR_RETURNS,
                format!(
                    "{id} ({}): it accepts {media_type} and returns {:?}, which is not the type of the plain layer",
                    file(section),
                    section.returns
                ),
                format!("let it say: returns = \"{}\"", processor.returns),
            );
        }
    }
}

/// Sections for layers that no image has, but nearly, or that have the id of one of ours. Those for something quite
/// different are somebody else's.
fn check_names(findings: &mut Findings, config: &ContainerdConfig) {
    // What is built in is no section of an administrator's.
    let written = || {
        config
            .processors
            .values()
            .filter(|section| !section.is_as_built_in())
    };
    let mut missing = PROCESSORS.to_vec();
    missing.retain(|one| !written().any(|section| section.accepts.contains(&one.accepts())));
    for (id, section) in &config.processors {
        if section.accepts.is_empty() {
            findings.fail(
                kind::PROCESSOR_ACCEPTS,
                format!("{id} ({}): it accepts nothing", file(section)),
                "let it say which layers it is for, as `ocihsm config containerd` prints it",
            );
        }
        let is_known = |accepted: &String| PROCESSORS.iter().any(|one| one.accepts() == *accepted);
        let mut serves = section.accepts.iter().any(is_known);
        for accepted in section.accepts.iter().filter(|one| !is_known(one)) {
            let Some(meant) = meant(accepted, &missing, id, serves) else {
                continue;
            };
            let mend = match (missing.contains(&meant), serves) {
                (true, false) => format!("let it say: accepts = [\"{}\"]", meant.accepts()),
                (true, true) => format!(
                    "take it out, and give {} a section of its own, as `ocihsm config containerd` prints it",
                    meant.accepts()
                ),
                (false, true) => "take it out".to_owned(),
                (false, false) => format!(
                    "remove the section: another one accepts {}",
                    meant.accepts()
                ),
            };
            // The next wrong name was meant for another one.
            missing.retain(|one| *one != meant);
            serves = true;
            findings.fail(
                kind::PROCESSOR_ACCEPTS,
                format!(
                    "{id} ({}): it accepts {accepted:?}, and no layer is of that type",
                    file(section)
                ),
                mend,
            );
        }
    }
}

/// Which kind of layer a wrong name was meant for: the one of the section's id, or the nearest, and rather one for which
/// there is no section. `serves` says whether the section is for a kind of layer already.
fn meant(accepted: &str, missing: &[Processor], id: &str, serves: bool) -> Option<Processor> {
    let of_the_id = missing.iter().find(|one| one.id == id && !serves);
    let far = |one: &Processor| distance(accepted, &one.accepts());
    let nearest = |among: &[Processor]| {
        let near = among.iter().filter(|one| far(one) <= accepted.len() / 4);
        near.min_by_key(|one| far(one)).copied()
    };
    // A section for plain layers is somebody else's.
    let is_ours = accepted.contains("crypt") || PROCESSORS.iter().any(|one| one.id == id);
    let near = || nearest(missing).or_else(|| nearest(&PROCESSORS));
    of_the_id.copied().or_else(|| near().filter(|_| is_ours))
}

fn short(processor: &Processor) -> &'static str {
    processor.returns.trim_start_matches("application/vnd.")
}

/// How many characters have to be changed, added or taken away (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_levenshtein() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("tar+gzip", "tar.gzip"), 1);
    }

    #[test]
    fn a_wrong_name_is_meant_for_what_has_no_section() {
        let processor = |returns| {
            let found = PROCESSORS.iter().find(|one| one.returns == returns);
            *found.unwrap()
        };
        let [tar, gzip, zstd] = USUAL.map(processor);
        let targz = "application/vnd.oci.image.layer.v1.targz+encrypted";
        for (accepted, missing, id, serves, expected) in [
            (targz, &[gzip][..], gzip.id, false, Some(gzip)),
            (targz, &[gzip], "mine", false, Some(gzip)),
            (targz, &[], "mine", false, Some(tar)),
            ("tar+gzip", &[gzip, zstd], gzip.id, false, Some(gzip)),
            ("tar+gzip", &[gzip, zstd], "mine", false, None),
            ("tar+gzip", &[gzip, zstd], gzip.id, true, None),
            ("application/x", &[zstd], gzip.id, false, None),
            (
                "application/vnd.oci.image.layer.v1.tar+br",
                &[gzip],
                "mine",
                false,
                None,
            ),
        ] {
            let found = meant(accepted, missing, id, serves);
            assert_eq!(found, expected, "{accepted} in {id}");
        }
    }
}
