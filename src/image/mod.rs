//! Images in OCI layouts: references, manifests, blobs.
