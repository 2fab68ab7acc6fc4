//! Opens encrypted OCI image layers with a key that stays in an HSM.
//!
//! ```text
//!             stdin ───────────────────────────────────────────────┐
//! fd 3 / content store / args ─► LayerDescriptor ─► Envelope ─► hsm::unwrap ─► cipher ─► stdout
//!         (who tells us)          (annotations)   (wrapped keys,   (token,      (verify, then
//!                                                  public options)  OAEP)        release)
//! ```
//!
//! The image commands walk the same rooms: `encrypt` is `image -> cipher -> keys -> envelope -> image`,
//! `decrypt` is `decode` with an image at both ends, and `inspect` stops at the envelope.
//!
//! Arrows point down: [`commands`] puts the rooms together; [`payload`], [`content_store`], [`image`],
//! [`keys`] and [`cipher`] do not know one another; [`hsm`] stands on [`keys`]; all of them share
//! [`envelope`], [`options`], [`descriptor`], [`secret`] and [`error`] below.
//!
//! Beside that way stand [`node`], the machine that containerd runs on as its operator sees it, and [`log`], which
//! keeps a record of each layer.

pub mod cipher;
pub mod cli;
pub mod commands;
pub mod content_store;
mod ctd_decoder;
pub mod der;
pub mod descriptor;
pub mod elliptic;
pub mod envelope;
pub mod error;
pub mod escape;
pub mod file;
pub mod hsm;
pub mod image;
pub mod imgcrypt;
mod json;
pub mod keys;
pub mod log;
pub mod node;
pub mod operation;
pub mod options;
pub mod payload;
pub mod schemes;
pub mod secret;
pub mod settings;
pub mod software;
pub mod spoil;
pub mod words;

pub use error::{Error, Result};
