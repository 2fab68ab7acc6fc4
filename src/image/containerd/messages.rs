//! As much of containerd's API as we speak: messages with the fields that we need. protobuf skips the others.
//!
//! From containerd's `api/services/*/v1/*.proto`, which are the same in 1.6 and in 2.x.

use std::collections::BTreeMap;

use prost::Message;

/// `containerd.services.*`, and the methods that are called.
pub(super) mod method {
    pub(in crate::image::containerd) const NAMESPACE_LIST: &str =
        "/containerd.services.namespaces.v1.Namespaces/List";
    pub(in crate::image::containerd) const LEASE_CREATE: &str =
        "/containerd.services.leases.v1.Leases/Create";
    pub(in crate::image::containerd) const LEASE_DELETE: &str =
        "/containerd.services.leases.v1.Leases/Delete";
    pub(in crate::image::containerd) const LEASE_ADD: &str =
        "/containerd.services.leases.v1.Leases/AddResource";
    pub(in crate::image::containerd) const IMAGE_GET: &str =
        "/containerd.services.images.v1.Images/Get";
    pub(in crate::image::containerd) const IMAGE_CREATE: &str =
        "/containerd.services.images.v1.Images/Create";
    pub(in crate::image::containerd) const IMAGE_UPDATE: &str =
        "/containerd.services.images.v1.Images/Update";
    pub(in crate::image::containerd) const CONTENT_INFO: &str =
        "/containerd.services.content.v1.Content/Info";
    pub(in crate::image::containerd) const CONTENT_UPDATE: &str =
        "/containerd.services.content.v1.Content/Update";
    pub(in crate::image::containerd) const CONTENT_READ: &str =
        "/containerd.services.content.v1.Content/Read";
    pub(in crate::image::containerd) const CONTENT_WRITE: &str =
        "/containerd.services.content.v1.Content/Write";
    pub(in crate::image::containerd) const CONTENT_ABORT: &str =
        "/containerd.services.content.v1.Content/Abort";
}

/// `WriteAction`.
pub(super) mod action {
    pub(in crate::image::containerd) const STAT: i32 = 0;
    pub(in crate::image::containerd) const WRITE: i32 = 1;
    pub(in crate::image::containerd) const COMMIT: i32 = 2;
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Empty {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Namespaces {
    #[prost(message, repeated, tag = "1")]
    pub(super) namespaces: Vec<Named>,
}

/// A namespace, or a request for an image.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Named {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

/// A request for a blob, or to forget an ingest: the digest or the reference stands in the same place.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ByDigest {
    #[prost(string, tag = "1")]
    pub(super) digest: String,
}

/// A lease to be made, or to be ended.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Lease {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AddResource {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(message, optional, tag = "2")]
    pub(super) resource: Option<Resource>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Resource {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(string, tag = "2")]
    pub(super) kind: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Descriptor {
    #[prost(string, tag = "1")]
    pub(super) media_type: String,
    #[prost(string, tag = "2")]
    pub(super) digest: String,
    #[prost(int64, tag = "3")]
    pub(super) size: i64,
    #[prost(btree_map = "string, string", tag = "5")]
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Image {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(super) labels: BTreeMap<String, String>,
    #[prost(message, optional, tag = "3")]
    pub(super) target: Option<Descriptor>,
}

/// The answer about an image, and the request to make or to change one.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AboutImage {
    #[prost(message, optional, tag = "1")]
    pub(super) image: Option<Image>,
    #[prost(message, optional, tag = "2")]
    pub(super) update_mask: Option<FieldMask>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FieldMask {
    #[prost(string, repeated, tag = "1")]
    pub(super) paths: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Info {
    #[prost(string, tag = "1")]
    pub(super) digest: String,
    #[prost(int64, tag = "2")]
    pub(super) size: i64,
    #[prost(btree_map = "string, string", tag = "5")]
    pub(super) labels: BTreeMap<String, String>,
}

/// The answer about a blob, and the request to change its labels.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AboutBlob {
    #[prost(message, optional, tag = "1")]
    pub(super) info: Option<Info>,
    #[prost(message, optional, tag = "2")]
    pub(super) update_mask: Option<FieldMask>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Part {
    #[prost(bytes = "vec", tag = "2")]
    pub(super) data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WriteRequest {
    #[prost(int32, tag = "1")]
    pub(super) action: i32,
    #[prost(string, tag = "2")]
    pub(super) reference: String,
    #[prost(int64, tag = "3")]
    pub(super) total: i64,
    #[prost(string, tag = "4")]
    pub(super) expected: String,
    #[prost(int64, tag = "5")]
    pub(super) offset: i64,
    #[prost(bytes = "vec", tag = "6")]
    pub(super) data: Vec<u8>,
    #[prost(btree_map = "string, string", tag = "7")]
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WriteAnswer {
    #[prost(int32, tag = "1")]
    pub(super) action: i32,
    #[prost(int64, tag = "4")]
    pub(super) offset: i64,
}
