//! Images as OCI layouts on disk: reading one with every digest checked, changing its layers, writing another.
//!
//! Knows descriptors, manifests and indexes, and keeps whatever stands in them beside what it changes. What
//! encryption is, and which annotations belong to it, is not known here.

pub mod descriptor;
pub mod destination;
pub mod layout;
pub mod manifest;
pub mod media_type;
pub mod platform;
pub mod reference;
mod style;

pub use descriptor::Descriptor;
pub use destination::{Destination, Staged};
pub use layout::Layout;
pub use manifest::{Image, Manifest};
pub use platform::Platform;
pub use reference::Reference;
