//! Images wherever they are kept: reading one with every digest checked, changing its layers, writing another.
//!
//! Knows descriptors, manifests and indexes, and keeps whatever stands in them beside what it changes. What
//! encryption is, and which annotations belong to it, is not known here.

pub mod archive;
pub mod choice;
pub mod containerd;
mod content;
pub mod descriptor;
pub mod destination;
pub mod document;
mod embedded;
pub mod error;
pub mod finished;
pub mod held;
pub mod layout;
pub mod media_type;
pub mod place;
pub mod platform;
pub mod reference;
pub mod registry;
pub mod selection;
pub mod source;
pub mod staged_file;
mod staging;
pub mod stop;
mod style;
pub mod target;
pub mod tree;

pub use choice::{Choice, Layers, Plan};
pub use descriptor::Descriptor;
pub use destination::Destination;
pub use error::{Error, Result};
pub use finished::Finished;
pub use layout::Layout;
pub use place::Settings;
pub use platform::Platform;
pub use reference::Reference;
pub use selection::Selection;
pub use source::Source;
pub use target::{Staged, Target};
pub use tree::{Image, Manifest};
