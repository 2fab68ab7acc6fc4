//! Arguments that name one key of one token: `keys export`, `keys test`, `keys delete`.

use std::path::Path;

use super::survey;
use crate::commands::Result;
use crate::commands::pin::PinArgs;
use crate::keys::TokenKey;
use crate::keys::key_file::{COMMAND_LINE, KeyFile};
use crate::node::environment;
use crate::settings;

/// One key, its module and its PIN.
#[derive(clap::Args, Debug)]
pub struct OneKey {
    /// The key: its PKCS#11 URI (in quotes), or a key file
    #[arg(value_name = "URI|KEYFILE")]
    pub key: String,
    /// PKCS#11 module, by its path or by the name that a URI's module-name would give, in place of the URI's own
    #[arg(long, value_name = "NAME|PATH")]
    pub module: Option<String>,
    /// Where the PIN is.
    #[command(flatten)]
    pub pin: PinArgs,
}

impl OneKey {
    /// The key with its module, and the PIN that was given unless it names one itself.
    ///
    /// # Errors
    /// What is wrong with the URI, the key file, the PIN or the module policy.
    pub(super) fn find(&self) -> Result<TokenKey> {
        let policy = survey::policy()?;
        let is_uri = self
            .key
            .get(..7)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("pkcs11:"));
        let mut file = if is_uri {
            KeyFile {
                name: COMMAND_LINE.to_owned(),
                uri: self.key.parse()?,
                pin_place: None,
                env: Default::default(),
                init: None,
            }
        } else {
            KeyFile::read(Path::new(&self.key))?
        };
        if file.lacks_pin()
            && let Some(given) = self.pin.given()?
        {
            file.give_pin(&given.pin, &given.place);
        }
        let module = match &self.module {
            Some(named) => survey::module(&policy, named)?,
            None if is_uri => policy.locate(&file.uri)?,
            None => return Ok(policy.resolve(file)?),
        };
        if is_uri {
            file.env = environment::of_module(&module, settings::variable);
        }
        Ok(TokenKey { file, module })
    }
}
