//! The crate `cryptoki`, asked one thing of a module, in a process that may be killed for it: docs/decisions.md says why
//! ocihsm does not use it.
//!
//! usage: `through_cryptoki slots|token|decrypt MODULE`, with the user PIN in `PIN`. Prints one line; an error counts as
//! an answer.

use std::env;
use std::error::Error;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;

/// Length of an RSA-2048 ciphertext in bytes.
const LENGTH: usize = 256;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    let [_, question, module] = &arguments[..] else {
        return Err("a question and a module are needed".into());
    };
    let module = Pkcs11::new(module)?;
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
    let slots = module.get_slots_with_token()?;
    match question.as_str() {
        "slots" => println!("{} slots", slots.len()),
        "token" => match module.get_token_info(slots[0]) {
            Ok(token) => println!("token {}", token.label()),
            Err(error) => println!("error {error:?}"),
        },
        "decrypt" => {
            let session = module.open_ro_session(slots[0])?;
            session.login(UserType::User, Some(&AuthPin::new(env::var("PIN")?.into())))?;
            let wanted = [
                Attribute::Class(ObjectClass::PRIVATE_KEY),
                Attribute::Label(b"rsa2048".to_vec()),
            ];
            let key = session.find_objects(&wanted)?[0];
            // Any number below the modulus is a ciphertext of raw RSA.
            let mut ciphertext = [0; LENGTH];
            ciphertext[LENGTH - 1] = 2;
            match session.decrypt(&Mechanism::RsaX509, key, &ciphertext) {
                Ok(plain) => println!("{} bytes", plain.len()),
                Err(error) => println!("error {error:?}"),
            }
        }
        _ => return Err("no such question".into()),
    }
    Ok(())
}
