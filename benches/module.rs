//! A bare probe of a PKCS#11 module, with the `cryptoki` crate: load, find the token, log in, find the private key and
//! unwrap once. What a small layer costs above this is ours; `compare.py` shows it.
//!
//! Not a measurement by itself: without arguments it does nothing, so that `cargo bench` passes it by.
//!
//! usage: module MODULE PIN WRAPPED-KEY     (RSA-OAEP with SHA-1, on the first slot that holds a token)

use std::error::Error;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().collect();
    let [_, module, pin, wrapped] = arguments.as_slice() else {
        return Ok(());
    };
    let wrapped = std::fs::read(wrapped)?;
    let module = Pkcs11::new(module)?;
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
    let slots = module.get_slots_with_token()?;
    let session = module.open_ro_session(*slots.first().ok_or("there is no token")?)?;
    session.login(UserType::User, Some(&AuthPin::from(pin.as_str())))?;
    let keys = session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)])?;
    let padding = Mechanism::RsaPkcsOaep(PkcsOaepParams::new(
        MechanismType::SHA1,
        PkcsMgfType::MGF1_SHA1,
        PkcsOaepSource::empty(),
    ));
    session.decrypt(
        &padding,
        *keys.first().ok_or("there is no private key")?,
        &wrapped,
    )?;
    Ok(module.finalize()?)
}
