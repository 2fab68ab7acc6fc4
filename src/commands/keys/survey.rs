//! Which modules there are, and which tokens they show.

use std::path::{Path, PathBuf};

use crate::commands::pin::GivenPin;
use crate::commands::{Error, Result};
use crate::file;
use crate::hsm::{self, HsmSettings, Patience, Token};
use crate::keys::TokenKey;
use crate::keys::key_file::{COMMAND_LINE, KeyFile};
use crate::keys::policy::Policy;
use crate::keys::uri::Pkcs11Uri;
use crate::node::{environment, modules};
use crate::settings::{self, Environment};

/// The modules that were asked, and what each answered.
pub(super) struct Survey {
    pub(super) modules: Vec<Asked>,
}

/// One module.
pub(super) struct Asked {
    pub(super) module: PathBuf,
    pub(super) tokens: hsm::Result<Vec<Token>>,
}

/// The module that a command line names: a path, or a name for the policy's directories.
pub(super) fn module(policy: &Policy, named: &str) -> Result<PathBuf> {
    let mut uri = Pkcs11Uri::default();
    if named.contains('/') {
        let path =
            std::path::absolute(named).map_err(file::Error::failed("find", named.as_ref()))?;
        uri.module_path = Some(path);
    } else {
        uri.module_name = Some(named.to_owned());
    }
    Ok(policy.locate(&uri)?)
}

/// The node's module policy.
pub(super) fn policy() -> Result<Policy> {
    let search = settings::policy(&Environment::current());
    Ok(Policy::discover(&search)?)
}

/// What `--token` says: a label, or a URI of which only what concerns the token counts.
pub(super) fn token_uri(text: &str) -> Result<Pkcs11Uri> {
    let is_uri = text
        .get(..7)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("pkcs11:"));
    if !is_uri {
        return Ok(Pkcs11Uri {
            token: Some(text.to_owned()),
            ..Pkcs11Uri::default()
        });
    }
    Ok(text.parse::<Pkcs11Uri>()?.token_alone())
}

/// A token as `hsm` takes it, with the PIN if it is to be used.
pub(super) fn token_key(uri: &Pkcs11Uri, module: &Path, pin: Option<&GivenPin>) -> TokenKey {
    TokenKey {
        file: KeyFile {
            name: COMMAND_LINE.to_owned(),
            pin_place: pin.map(|given| given.place.clone()),
            uri: Pkcs11Uri {
                pin_value: pin.map(|given| given.pin.clone()),
                ..uri.clone()
            },
            env: environment::of_module(module, settings::variable),
            init: None,
        },
        module: module.to_owned(),
    }
}

/// Adds to a URI how its module is named: short where the policy finds it so, else by its path.
pub(super) fn name_module(policy: &Policy, module: &Path, uri: &mut Pkcs11Uri) {
    let file = module.file_name().unwrap_or_default().to_string_lossy();
    let name = file.split(".so").next().unwrap_or_default();
    let name = name.strip_prefix("lib").unwrap_or(name);
    uri.module_name = Some(name.to_owned()).filter(|name| !name.is_empty());
    let found = policy
        .locate(uri)
        .ok()
        .and_then(|path| path.canonicalize().ok());
    if found.is_none() || found != module.canonicalize().ok() {
        uri.module_name = None;
        uri.module_path = Some(module.to_owned());
    }
}

impl Survey {
    /// Asks one module, or all that the policy leads to, for the tokens that a URI may mean. Nobody logs in.
    ///
    /// # Errors
    /// What keeps the one that is named from being found and from listing its tokens; [`Error::TokenInNoModule`] when
    /// the URI names a token that none of them shows.
    pub(super) fn new(
        settings: &HsmSettings,
        policy: &Policy,
        named: Option<&str>,
        uri: &Pkcs11Uri,
    ) -> Result<Self> {
        let ask = |module: &Path, patience| {
            hsm::tokens(settings, &token_key(uri, module, None), patience)
        };
        if let Some(name) = named {
            let module = module(policy, name)?;
            let tokens = Ok(ask(&module, Patience::Some)?);
            return Ok(Self {
                modules: vec![Asked { module, tokens }],
            });
        }
        if *uri != Pkcs11Uri::default() {
            policy.require_any()?;
        }
        let mut missing = false;
        let modules = modules::allowed(policy).into_iter().map(|module| {
            // One whose device is not there must not cost time.
            let tokens = match ask(&module, Patience::None) {
                Err(hsm::Error::TokenNotFound { .. }) => {
                    missing = true;
                    Ok(Vec::new())
                }
                tokens => tokens,
            };
            Asked { module, tokens }
        });
        let survey = Self {
            modules: modules.collect(),
        };
        if missing && survey.found().next().is_none() {
            return Err(survey.nowhere(uri));
        }
        Ok(survey)
    }

    /// Modules that show tokens.
    fn found(&self) -> impl Iterator<Item = (&Path, &[Token])> {
        self.modules.iter().filter_map(|asked| match &asked.tokens {
            Ok(tokens) if !tokens.is_empty() => Some((asked.module.as_path(), tokens.as_slice())),
            _ => None,
        })
    }

    /// That no module shows the token; or, if one does not start for want of a file, that: it is a mistake, and likely
    /// that module's token.
    fn nowhere(&self, uri: &Pkcs11Uri) -> Error {
        let mut errors = self.modules.iter().map(|asked| asked.tokens.as_ref().err());
        match errors.find_map(|error| error.filter(|error| error.is_about_surroundings())) {
            Some(error) => Error::Hsm(error.clone()),
            None => Error::TokenInNoModule {
                uri: uri.to_string(),
                modules: self.modules.len(),
            },
        }
    }

    /// The one token that the URI means, and its module.
    ///
    /// # Errors
    /// [`hsm::Error::SeveralTokens`], [`Error::SeveralModules`], [`Error::TokenInNoModule`].
    pub(super) fn only(&self, uri: &Pkcs11Uri) -> Result<(&Path, &Token)> {
        let found: Vec<_> = self.found().collect();
        match found.as_slice() {
            [(module, [token])] => Ok((module, token)),
            [] => Err(self.nowhere(uri)),
            [(_, tokens)] => Err(Error::Hsm(hsm::Error::SeveralTokens {
                uri: uri.to_string(),
                tokens: tokens.iter().map(described).collect(),
            })),
            several => Err(Error::SeveralModules {
                uri: uri.to_string(),
                modules: several
                    .iter()
                    .map(|(module, _)| module.to_path_buf())
                    .collect(),
            }),
        }
    }
}

fn described(token: &Token) -> String {
    let Token {
        label,
        serial,
        slot,
        ..
    } = token;
    format!("{label:?} (serial {serial:?}, slot {slot})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_label_or_a_uri_without_key_and_pin() {
        let by_label = token_uri("pkcs 11").unwrap();
        assert_eq!(by_label.to_string(), "pkcs11:token=pkcs%2011");
        let by_uri =
            token_uri("pkcs11:token=t;serial=1;object=o?pin-value=1234&module-name=m").unwrap();
        assert_eq!(by_uri.with_query(), "pkcs11:serial=1;token=t");
        assert_eq!(by_uri.pin_value, None);
    }

    #[test]
    fn a_module_is_named_as_the_policy_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let module = root.join("libtoken.so.1");
        let other = root.join("deep/other.so");
        std::fs::create_dir(root.join("deep")).unwrap();
        for path in [&module, &other] {
            std::fs::write(path, "").unwrap();
        }
        let conf = root.join("ocicrypt.conf");
        let text = format!(
            "pkcs11:\n  module-directories: [{0}]\n  allowed-module-paths: [{0}/, {0}/deep/]\n",
            root.display()
        );
        std::fs::write(&conf, text).unwrap();
        let policy = Policy::read(&conf).unwrap();
        let named = |module: &Path| {
            let mut uri = Pkcs11Uri::default();
            name_module(&policy, module, &mut uri);
            (uri.module_name, uri.module_path)
        };
        assert_eq!(named(&module), (Some("token".to_owned()), None));
        assert_eq!(named(&other), (None, Some(other.clone())));
    }
}
