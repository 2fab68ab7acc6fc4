use super::*;

fn environment(variables: &[(&str, &str)]) -> Environment {
    let variables = variables.iter();
    Environment::of_other(
        variables.map(|(name, value)| (name.into(), value.into())),
        "/".into(),
    )
}

fn resolved(arguments: Arguments, variables: &[(&str, &str)]) -> Settings {
    resolve(arguments, &environment(variables)).unwrap()
}

#[test]
fn an_argument_counts_before_a_variable() {
    let variables = [
        ("OCIHSM_KEYS_PATH", "/a::b"),
        ("OCIHSM_CONTENT_STORE", "/s"),
        ("STREAM_PROCESSOR_MEDIATYPE", "m"),
        ("OCIHSM_LAYER_ANNOTATIONS", r#"{"a":"b"}"#),
        ("OCIHSM_RUNTIME_DIR", "/run/x"),
        ("OCICRYPT_CONFIG", "policy"),
    ];
    let settings = resolved(Arguments::default(), &variables);
    assert_eq!(settings.keys.paths, [Path::new("/a"), Path::new("/b")]);
    assert_eq!(settings.layer.stores(), [Path::new("/s")]);
    assert_eq!(settings.layer.media_type.as_deref(), Some("m"));
    assert_eq!(
        settings.layer.told,
        Told::Annotations([("a".to_owned(), "b".to_owned())].into())
    );
    assert_eq!(settings.hsm.runtime_dir, Some("/run/x".into()));
    assert_eq!(settings.keys.policy.ocicrypt_config, Some("/policy".into()));

    let arguments = Arguments {
        keys: vec!["k".into()],
        descriptor: Some("d".into()),
        media_type: Some("n".to_owned()),
        content_stores: vec!["/t".into()],
        ..Arguments::default()
    };
    let settings = resolved(arguments, &variables);
    assert_eq!(settings.keys.paths, [Path::new("/k")]);
    assert_eq!(settings.layer.stores(), [Path::new("/t")]);
    assert_eq!(settings.layer.media_type.as_deref(), Some("n"));
    assert_eq!(settings.layer.told, Told::Descriptor("/d".into()));
}

#[test]
fn an_empty_variable_is_none() {
    let all = |variables: &[(&str, &str)]| {
        let environment = environment(variables);
        let settings = resolve(Arguments::default(), &environment).unwrap();
        let (containerd, temporary) = (containerd(&environment), temporary(&environment));
        format!("{settings:?} {containerd:?} {temporary:?}")
    };
    let none = all(&[]);
    for name in [
        KEYS_PATH,
        CONTENT_STORE,
        ANNOTATIONS,
        MEDIA_TYPE,
        PROVIDERS,
        POLICY,
        CONTAINERD.0,
        NAMESPACE.0,
        "HOME",
        "OCIHSM_RUNTIME_DIR",
        "SOFTHSM2_CONF",
        "TMPDIR",
        "XDG_CONFIG_HOME",
    ] {
        assert_eq!(all(&[(name, "")]), none, "{name}");
        let some = match name {
            ANNOTATIONS => "{\"a\":\"b\"}",
            _ => "/x",
        };
        assert_ne!(all(&[(name, some)]), none, "{name}");
    }
}

#[test]
fn containerd_is_where_ctr_finds_it() {
    let found = |variables| {
        let containerd::Settings { address, namespace } = containerd(&environment(variables));
        format!("{} {namespace}", address.display())
    };
    assert_eq!(found(&[]), "/run/containerd/containerd.sock default");
    let variables = [
        ("CONTAINERD_ADDRESS", "unix:///run/x.sock"),
        ("CONTAINERD_NAMESPACE", "k8s.io"),
    ];
    assert_eq!(found(&variables), "/run/x.sock k8s.io");
}

#[test]
fn mistakes_are_told_without_their_values() {
    let uri = "pkcs11:token=t?pin-value=1234";
    for variables in [
        [("OCIHSM_KEYS_PATH", uri)],
        [("OCIHSM_LAYER_ANNOTATIONS", "1234")],
    ] {
        let error = resolve(Arguments::default(), &environment(&variables)).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("1234"), "{error}");
    }
    let shown = format!("{:?}", environment(&[("OCIHSM_PIN", "1234")]));
    assert!(shown.contains("OCIHSM_PIN") && !shown.contains("1234"));
}
