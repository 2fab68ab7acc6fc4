use super::*;

fn parse(text: &str) -> Pkcs11Uri {
    text.parse().unwrap()
}

fn mistake(text: &str) -> String {
    let error = text.parse::<Pkcs11Uri>().unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("1234"), "{shown}");
    error.to_string()
}

#[test]
fn reads_what_the_specification_shows() {
    let uri = parse(
        "pkcs11:token=mytoken;id=%A9%8B;object=imagekey;type=private?pin-value=my-pin&module-name=softhsm2",
    );
    assert_eq!(uri.token.as_deref(), Some("mytoken"));
    assert_eq!(uri.id.as_deref(), Some(&[0xa9, 0x8b][..]));
    assert_eq!(uri.object.as_deref(), Some("imagekey"));
    assert_eq!(uri.object_type.as_deref(), Some("private"));
    assert_eq!(uri.pin_value, Pin::new("my-pin".to_owned()));
    assert_eq!(uri.module_name.as_deref(), Some("softhsm2"));
}

#[test]
fn path_attributes_round_trip() {
    let text = "pkcs11:library-manufacturer=Snake%20Oil;library-description=l;slot-manufacturer=s;\
                slot-description=d;manufacturer=%C3%9Cbermut;model=m;serial=%3B%3F%26%25;token=The%20token;\
                library-version=3.2;slot-id=18446744073709551615;id=%00%61%FF;object=a%2Fb~c;type=cert";
    let uri = parse(text);
    assert_eq!(uri.manufacturer.as_deref(), Some("Übermut"));
    assert_eq!(uri.serial.as_deref(), Some(";?&%"));
    assert_eq!(uri.library_version, Some((3, 2)));
    assert_eq!(uri.to_string(), text);
    assert_eq!(parse(&uri.to_string()), uri);
}

#[test]
fn display_and_debug_hold_no_pin() {
    let uri = parse("pkcs11:token=t;object=o?module-name=m&pin-value=%31234");
    assert_eq!(uri.to_string(), "pkcs11:token=t;object=o");
    assert_eq!(uri.with_query(), "pkcs11:token=t;object=o?module-name=m");
    assert_eq!(uri.pin_value.as_ref().unwrap().expose(), "1234");
    assert!(!format!("{uri:?}").contains("1234"));
}

#[test]
fn query_for_a_key_file_round_trips() {
    let uri = Pkcs11Uri {
        token: Some("prod 1".to_owned()),
        id: Some(vec![1]),
        pin_source: Some("/run/pin & more".into()),
        module_path: Some("/opt/h?sm/lib.so".into()),
        ..Pkcs11Uri::default()
    };
    let text = "pkcs11:token=prod%201;id=%01?pin-source=/run/pin%20%26%20more&module-path=/opt/h%3Fsm/lib.so";
    assert_eq!(uri.with_query(), text);
    assert_eq!(parse(text), uri);
}

#[test]
fn pin_sources() {
    for (source, path) in [
        ("/etc/pin", "/etc/pin"),
        ("/etc/my%20pin", "/etc/my pin"),
        ("file:/etc/pin", "/etc/pin"),
        ("file:///etc/pin", "/etc/pin"),
        ("file://localhost/etc/pin", "/etc/pin"),
        ("file%3A%2Fetc%2Fmy%2520pin", "/etc/my pin"),
    ] {
        let uri = parse(&format!("pkcs11:token=t;object=o?pin-source={source}"));
        assert_eq!(uri.pin_source, Some(path.into()), "{source}");
    }
    for source in [
        "1234",
        "",
        "etc/1234",
        "file:1234",
        "file://host/1234",
        "|/bin/1234",
        "/1234%00",
    ] {
        let shown = mistake(&format!("pkcs11:token=t;object=o?pin-source={source}"));
        assert!(shown.contains("pin-source is neither"), "{shown}");
    }
}

#[test]
fn nuls_that_fill_a_field_do_not_count() {
    let uri = parse(
        "pkcs11:model=SW%20%20%20TPM%00%00;manufacturer=Intel;token=a%00%20%00;serial=0%00%00;object=o",
    );
    assert_eq!(uri.model.as_deref(), Some("SW   TPM"));
    assert_eq!(uri.token.as_deref(), Some("a"));
    assert_eq!(uri.serial.as_deref(), Some("0"));
    // Within it they do.
    assert_eq!(
        parse("pkcs11:token=a%00b;object=o").token.as_deref(),
        Some("a\0b")
    );
}

#[test]
fn an_id_that_is_not_escaped_byte_by_byte_is_noticed() {
    let hint = |id: &str| parse(&format!("pkcs11:token=t;id={id}")).id_hint();
    for id in ["%a98b", "a98b", "A98B", "%A9%38%62"] {
        assert!(hint(id).unwrap().ends_with("write id=%A9%8B"), "{id}");
    }
    for id in ["%a9%8b", "%a9", "%a98", "layers", "%01%02", "%a9%8b01"] {
        assert_eq!(hint(id), None, "{id}");
    }
    assert_eq!(parse("pkcs11:token=t;object=o").id_hint(), None);
}

#[test]
fn slips_beside_a_pin_are_refused_and_what_is_encoded_is_meant() {
    for pin in ["\"1234\"", "'1234'", " 1234", "1234 "] {
        let text = format!("pkcs11:token=t;object=o?pin-value={pin}&module-name=m");
        assert!(mistake(&text).contains("quotes or blanks around"), "{text}");
    }
    assert!(mistake("pkcs11:token=t?pin-value=1234%0A").contains("line break"));
    for (pin, expected) in [("%22%22", "\"\""), ("%2012%20", " 12 "), ("1 2", "1 2")] {
        let uri = parse(&format!("pkcs11:token=t?pin-value={pin}&module-name=m"));
        assert_eq!(uri.pin_value.unwrap().expose(), expected);
    }
}

#[test]
fn unknown_attributes_are_ignored_in_the_query_alone() {
    assert_eq!(
        parse("pkcs11:token=t?x-vendor=1&module-name=m")
            .module_name
            .as_deref(),
        Some("m")
    );
    assert!(mistake("pkcs11:token=t;lable=l").contains("lable is not an attribute"));
}

#[test]
fn unencoded_characters_are_taken_as_they_are() {
    let uri = parse(" pkcs11:token=my token;object=a=b/c&d?pin-value=p?/;=| \n");
    assert_eq!(uri.token.as_deref(), Some("my token"));
    assert_eq!(uri.object.as_deref(), Some("a=b/c&d"));
    assert_eq!(uri.pin_value.unwrap().expose(), "p?/;=|");
}

#[test]
fn mistakes_are_named_and_no_value_is_quoted() {
    for (text, part) in [
        ("", "does not begin with `pkcs11:`"),
        ("token=1234", "does not begin with `pkcs11:`"),
        ("ü1234567", "does not begin with `pkcs11:`"),
        ("pkcs11:token=a\nb1234", "line break"),
        ("pkcs11:token=t;token=1234", "token stands there twice"),
        (
            "pkcs11:token=t?pin-value=1234&pin-value=1234",
            "pin-value stands there twice",
        ),
        (
            "pkcs11:token=t?pin-value=1234&pin-source=/1234",
            "both `pin-value` and `pin-source`",
        ),
        ("pkcs11:token", "the path has a part without `=`"),
        (
            "pkcs11:token=t?pin-value=1&1234",
            "the query has a part without `=`",
        ),
        ("pkcs11:token=%1;object=1234", "token has a `%`"),
        ("pkcs11:token=%ff1234", "token is not UTF-8"),
        ("pkcs11:token=t?pin-value=%ff1234", "pin-value is not UTF-8"),
        ("pkcs11:slot-id=1234x", "slot-id is not a number"),
        ("pkcs11:slot-id=-1234", "slot-id is not a number"),
        (
            "pkcs11:library-version=1234",
            "library-version is not a version",
        ),
        ("pkcs11:type=1234", "type is none of"),
        ("pkcs11:token=t?pin-value=", "pin-value is empty"),
        (
            "pkcs11:token=t?module-name=/lib/1234.so",
            "belongs in `module-path`",
        ),
        (
            "pkcs11:token=t?module-path=1234.so",
            "module-path is not an absolute path",
        ),
        (
            "pkcs11:token=t;pin-value=1234",
            "pin-value belongs after a `?`",
        ),
        (
            "pkcs11:token=t?pin-value=a&object=1234",
            "object belongs before the `?`",
        ),
        (
            "pkcs11:token=t;object=o&pin-value=1234",
            "object runs into the PIN",
        ),
        (
            "pkcs11:token=t?module-name=m;pin-value=1234",
            "module-name runs into the PIN",
        ),
    ] {
        let shown = mistake(text);
        assert!(shown.contains(part), "{text}: {shown}");
    }
}
