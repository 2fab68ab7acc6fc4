//! Opens encrypted OCI image layers with a key that stays in an HSM.
//!
//! The program `ocihsm` is what is released. Nothing of this library is stable: any release may change or remove it.
//!
//! # The one idea
//!
//! However a layer's key was wrapped, opening it comes down to one [operation] with one private key. A scheme turns
//! wrapped bytes into operations, and the answer into the private options. Whoever holds the key answers. Neither knows
//! the other.
//!
//! ```text
//!  annotations ──► envelope ──► schemes ──► operation { RSA-OAEP | RSA PKCS#1 v1.5 | ECDH | OpenPGP, its input }
//!                                                           │
//!                                                           ▼
//!                                            token (hsm: the module in a process of its own)
//!                                                           │
//!                     private options ◄── schemes ◄── answer ◄┘
//!                            │
//!  stdin ─────────────────► cipher ──► stdout        (verify, then release)
//! ```
//!
//! # The way of a layer
//!
//! One way downhill; no room is visited twice. What one foreign key, description or token does wrong is kept as a reason,
//! and never takes away what another one opened: a layer that some key at hand opens, opens.
//!
//! ```text
//! arguments, environment, files                   what is configured
//!    └► source: arguments, fd 3, content store    which layer it is: descriptions of it
//!         └► unwrapping: keys, tokens             its key, cheapest first
//!              └► the MAC                         which of the opened keys is the layer's
//!                   └► cipher ──► stdout
//! ```
//!
//! The image commands walk the same rooms: `encrypt` goes from [`image`] through [`cipher`] and [`keys`] to an
//! [`envelope`] and back to [`image`], `decrypt` is `decode` with an image at both ends, and `inspect` stops at the envelope.
//!
//! # The rooms
//!
//! Arrows point down, without a circle (`integration/tests/rooms.rs`): [`cli`] names the subcommands, [`commands`] puts the
//! rooms together. [`payload`], [`content_store`], [`image`], [`keys`] and [`cipher`] do not know [`hsm`], which stands on
//! [`keys`]. All of them share [`envelope`], [`options`], [`descriptor`] and [`secret`] below.
//!
//! Beside that way stand [`node`], the machine that containerd runs on as its operator sees it, and [`telemetry`], which
//! tells what happens and keeps a record of each layer. What can go wrong, each room says in an `Error` of its own, with its
//! hint; [`Error`] gathers them, and [`error`] makes a line for containerd of one.

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
pub mod key_wrap;
pub mod keys;
pub mod node;
pub mod openpgp;
pub mod operation;
pub mod options;
pub mod payload;
pub mod schemes;
pub mod secret;
pub mod settings;
pub mod software;
pub mod spoil;
pub mod telemetry;
pub mod words;

pub use commands::{Error, Result};
