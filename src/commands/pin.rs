//! The PIN for a token: from a file, from the environment, or typed.

use std::path::PathBuf;

use zeroize::Zeroize as _;

use super::prompt;
use crate::commands::{Error, Result};
use crate::file;
use crate::keys::pin_file;
use crate::secret::Pin;
use crate::settings;

/// The variable that may hold the PIN.
const VARIABLE: &str = "OCIHSM_PIN";

/// Where the PIN is.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct PinArgs {
    /// File that holds the token's user PIN; one that a key file names goes before it [env: OCIHSM_PIN= for the PIN itself]
    #[arg(long, value_name = "FILE", help_heading = "HSM")]
    pub pin_file: Option<PathBuf>,
}

/// A PIN, and where it is from.
#[derive(Debug)]
pub(super) struct GivenPin {
    pub(super) pin: Pin,
    /// What messages call its place: `the PIN in …`.
    pub(super) place: String,
    /// The file that holds it, absolute.
    pub(super) file: Option<PathBuf>,
}

impl PinArgs {
    /// The PIN from the file, else from the environment.
    pub(super) fn given(&self) -> Result<Option<GivenPin>> {
        if let Some(path) = &self.pin_file {
            // As it is named: a mounted Secret is a link that changes where it leads.
            let path = std::path::absolute(path).map_err(file::Error::failed("find", path))?;
            return Ok(Some(GivenPin {
                pin: pin_file::read_given(&path)?,
                place: path.display().to_string(),
                file: Some(path),
            }));
        }
        let Some(value) = settings::variable(VARIABLE).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let mut text = value
            .into_string()
            .map_err(|_| settings::Error::InvalidVariable {
                name: VARIABLE,
                expected: "UTF-8",
            })?;
        if pin_file::slip(&text).is_some() {
            text.zeroize();
            return Err(settings::Error::InvalidVariable {
                name: VARIABLE,
                expected: "a PIN alone: no quotes, no line break, no blank around it",
            }
            .into());
        }
        Ok(Pin::new(text).map(|pin| GivenPin {
            pin,
            place: VARIABLE.to_owned(),
            file: None,
        }))
    }

    /// The PIN from the file, else from the environment, else from whoever sits at the terminal.
    pub(super) fn given_or_typed(&self, token: &str) -> Result<GivenPin> {
        if let Some(given) = self.given()? {
            return Ok(given);
        }
        match prompt::ask(&format!("PIN of token {token:?}: "))? {
            Some(pin) => Ok(GivenPin {
                pin,
                place: "your answer".to_owned(),
                file: None,
            }),
            None => Err(Error::NoPin {
                token: token.to_owned(),
            }),
        }
    }
}
