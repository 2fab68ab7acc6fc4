use super::*;
use crate::keys::key_file::KeyFile;

fn fault(function: Function, code: Ckr) -> Fault {
    Fault { function, code }
}

#[test]
fn a_login_that_may_have_been_counted_is_never_retried() {
    for code in [
        Ckr::CKR_PIN_INCORRECT,
        Ckr::CKR_PIN_LOCKED,
        Ckr::CKR_GENERAL_ERROR,
        Ckr::CKR_FUNCTION_FAILED,
        Ckr::CKR_DEVICE_ERROR,
    ] {
        assert!(!fault(Function::C_Login, code).is_transient(), "{code}");
    }
}

#[test]
fn what_runs_out_before_the_operation_may_be_there_again() {
    for function in [
        Function::C_Initialize,
        Function::C_GetSlotList,
        Function::C_OpenSession,
        Function::C_FindObjects,
        Function::C_GetAttributeValue,
        Function::C_DecryptInit,
    ] {
        for code in [
            Ckr::CKR_DEVICE_MEMORY,
            Ckr::CKR_HOST_MEMORY,
            Ckr::CKR_FUNCTION_FAILED,
            Ckr::CKR_SESSION_COUNT,
            Ckr::CKR_DEVICE_ERROR,
        ] {
            assert!(fault(function, code).is_transient(), "{function:?} {code}");
        }
    }
    assert!(fault(Function::C_OpenSession, Ckr::CKR_ARGUMENTS_BAD).is_transient());
    assert!(!fault(Function::C_Initialize, Ckr::CKR_ARGUMENTS_BAD).is_transient());
}

fn error(failure: Failure) -> Error {
    failure.into_error(&key(None), None)
}

fn key(pin_place: Option<&str>) -> TokenKey {
    let text = "pkcs11:\n  uri: pkcs11:token=prod;object=o\n";
    let mut file = KeyFile::parse("/keys/a.yaml", text.as_bytes()).unwrap();
    file.pin_place = pin_place.map(str::to_owned);
    let module = "/m.so".into();
    TokenKey { file, module }
}

fn refused(remembered: Option<bool>) -> Failure {
    Failure::Login {
        token: "prod".to_owned(),
        fault: Fault {
            function: Function::C_Login,
            code: Ckr::CKR_PIN_INCORRECT,
        },
        remembered,
    }
}

fn login(remembered: Option<bool>) -> Error {
    error(refused(remembered))
}

#[test]
fn the_hint_says_where_the_pin_is_from() {
    for remembered in [Some(true), Some(false)] {
        assert!(login(remembered).hint().unwrap().contains("key file"));
        let given = refused(remembered).into_error(&key(Some("OCIHSM_PIN")), None);
        let hint = given.hint().unwrap();
        assert!(hint.starts_with("give the right PIN") && !hint.contains("key file"));
    }
    let before = || Failure::PinRejectedBefore {
        token: "prod".to_owned(),
    };
    assert!(error(before()).hint().unwrap().contains("key file"));
    let given = before().into_error(&key(Some("OCIHSM_PIN")), None);
    assert!(given.to_string().contains("the PIN in OCIHSM_PIN was"));
    assert!(!given.hint().unwrap().contains("key file"));
}

#[test]
fn a_pin_file_is_named_with_its_key_file() {
    let mut key = key(None);
    key.file.uri.pin_source = Some("/keys/pin".into());
    for failure in [
        Failure::PinRejectedBefore {
            token: "prod".to_owned(),
        },
        Failure::PinUnanswered {
            token: "prod".to_owned(),
        },
    ] {
        let error = failure.into_error(&key, None).to_string();
        assert!(
            error.contains("the PIN in /keys/pin (of /keys/a.yaml) was"),
            "{error}"
        );
    }
}

#[test]
fn the_message_shows_function_and_code() {
    let error = login(Some(true));
    assert_eq!(
        error.to_string(),
        "token \"prod\": login failed: the PIN is wrong (C_Login: CKR_PIN_INCORRECT)"
    );
    assert!(error.is_about_pin() && !error.may_pass());
}

#[test]
fn that_a_pin_is_not_tried_again_is_said_only_where_it_is_on_record() {
    let hint = |remembered| login(remembered).hint().unwrap();
    assert!(hint(Some(true)).contains("is not tried again"));
    assert!(!hint(Some(false)).contains("is not tried again"));
    assert!(!hint(None).contains("is not tried again"));
}

#[test]
fn what_may_pass_says_so() {
    let fault = Fault {
        function: Function::C_OpenSession,
        code: Ckr::CKR_SESSION_COUNT,
    };
    assert!(error(fault.on("prod")).may_pass());
    let gone = Failure::NoKey {
        uri: "pkcs11:".to_owned(),
        token: "prod".to_owned(),
    };
    assert!(!error(gone).may_pass());
}
