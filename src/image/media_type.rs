//! Media types: what a descriptor stands for, which layers can be encrypted, and Docker's types as OCI's.
//!
//! Text alone; no blob is looked at.

/// An image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An index of manifests.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An image's config.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// The two bytes `{}` where a manifest has to name something (OCI image spec, manifest.md).
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";

const ENCRYPTED: &str = "+encrypted";

/// Docker's types and OCI's for the same bytes (OCI image spec, media-types.md, compatibility matrix).
const DOCKER: [(&str, &str); 8] = [
    (
        "application/vnd.docker.distribution.manifest.list.v2+json",
        INDEX,
    ),
    (
        "application/vnd.docker.distribution.manifest.v2+json",
        MANIFEST,
    ),
    ("application/vnd.docker.container.image.v1+json", CONFIG),
    (
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.oci.image.layer.v1.tar",
    ),
    (
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.oci.image.layer.v1.tar+gzip",
    ),
    (
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
        "application/vnd.oci.image.layer.v1.tar+zstd",
    ),
    (
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
    ),
    (
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    ),
];

/// What a registry is asked for by its tag.
pub const DOCUMENTS: [&str; 4] = [INDEX, MANIFEST, DOCKER[0].0, DOCKER[1].0];

/// The layers that other tools know in their encrypted form.
const LAYERS: [&str; 7] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.wasm.content.layer.v1+wasm",
];

/// What a descriptor in an index stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An index, or Docker's manifest list.
    Index,
    /// A manifest.
    Manifest,
    /// Anything else.
    Other,
}

/// What a descriptor of this media type stands for.
#[must_use]
pub fn kind(media_type: &str) -> Kind {
    match to_oci(media_type) {
        INDEX => Kind::Index,
        MANIFEST => Kind::Manifest,
        _ => Kind::Other,
    }
}

/// OCI's media type for the same bytes; one that is not Docker's is returned as it is.
#[must_use]
pub fn to_oci(media_type: &str) -> &str {
    DOCKER
        .iter()
        .find(|(docker, _)| *docker == media_type)
        .map_or(media_type, |(_, oci)| oci)
}

/// OCI's media type for the same bytes, encrypted ones among them: no containerd has a processor for an encrypted layer
/// of Docker's type.
#[must_use]
pub fn normal(media_type: &str) -> String {
    match decrypted(media_type) {
        Some(plain) => format!("{}{ENCRYPTED}", to_oci(plain)),
        None => to_oci(media_type).to_owned(),
    }
}

/// Whether it is an encrypted layer whose type is Docker's, which nobody defined.
#[must_use]
pub fn is_encrypted_docker(media_type: &str) -> bool {
    decrypted(media_type).is_some_and(|plain| to_oci(plain) != plain)
}

/// Whether a blob of this type is a statement about an image, which is read by whoever checks it and so never encrypted.
#[must_use]
pub fn is_statement(media_type: &str) -> bool {
    media_type == "application/vnd.in-toto+json"
}

/// Whether it is an image's config.
#[must_use]
pub fn is_image_config(media_type: &str) -> bool {
    to_oci(media_type) == CONFIG
}

/// Whether it is a config that says how an image or a module runs, and holds nothing of what that holds.
#[must_use]
pub fn is_config(media_type: &str) -> bool {
    const OTHERS: [&str; 2] = [
        "application/vnd.wasm.config.v0+json",
        "application/vnd.wasm.config.v1+json",
    ];
    is_image_config(media_type) || OTHERS.contains(&media_type)
}

/// Media type of the layer once it is encrypted; `None` where no tool could read that.
#[must_use]
pub fn encrypted(media_type: &str) -> Option<String> {
    let oci = to_oci(media_type);
    LAYERS.contains(&oci).then(|| format!("{oci}{ENCRYPTED}"))
}

/// Media type of the layer once it is decrypted; `None` where it is not encrypted.
#[must_use]
pub fn decrypted(media_type: &str) -> Option<&str> {
    media_type.strip_suffix(ENCRYPTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_gain_and_lose_the_suffix() {
        for layer in LAYERS {
            let encrypted = encrypted(layer).unwrap();
            assert_eq!(encrypted, format!("{layer}+encrypted"));
            assert_eq!(decrypted(&encrypted), Some(layer));
            assert_eq!(decrypted(layer), None);
        }
    }

    #[test]
    fn docker_layers_become_oci_layers() {
        assert_eq!(
            encrypted("application/vnd.docker.image.rootfs.diff.tar.gzip").as_deref(),
            Some("application/vnd.oci.image.layer.v1.tar+gzip+encrypted")
        );
    }

    #[test]
    fn what_is_no_layer_is_not_encrypted() {
        for other in [
            CONFIG,
            MANIFEST,
            "application/vnd.in-toto+json",
            "application/vnd.oci.empty.v1+json",
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "",
        ] {
            assert_eq!(encrypted(other), None, "{other}");
        }
    }

    #[test]
    fn an_encrypted_layer_of_dockers_becomes_one_of_ocis() {
        let oci = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted";
        let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip+encrypted";
        assert_eq!(normal(docker), oci);
        assert_eq!(normal(oci), oci);
        assert_eq!(normal("a/b"), "a/b");
    }

    #[test]
    fn docker_documents_are_what_oci_ones_are() {
        assert_eq!(kind(DOCKER[0].0), Kind::Index);
        assert_eq!(kind(DOCKER[1].0), Kind::Manifest);
        assert_eq!(kind(CONFIG), Kind::Other);
    }
}
