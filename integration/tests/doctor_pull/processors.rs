//! Mistakes in containerd's files, and around the restart.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::stand::Stand;
use crate::{Row, Says, When};

pub(crate) const fn before(name: &'static str, make: fn(&Stand), says: Says) -> Row {
    Row {
        name,
        first: |_| {},
        make,
        when: When::Before,
        says,
    }
}

const fn while_it_runs(name: &'static str, make: fn(&Stand), says: Says) -> Row {
    Row {
        name,
        first: |_| {},
        make,
        when: When::While,
        says,
    }
}

/// The row stands sound, and no containerd goes by it.
const fn not_started(name: &'static str, when: When, says: Says) -> Row {
    Row {
        name,
        first: |_| {},
        make: |_| {},
        when,
        says,
    }
}

/// A mistake that was mended after containerd was started, and before it was started anew.
const fn mended_too_late(name: &'static str, first: fn(&Stand), make: fn(&Stand)) -> Row {
    Row {
        name,
        first,
        make,
        when: When::While,
        says: Says::Fails("config-unloaded"),
    }
}

/// What stands in the environment of a row's containerd, as `Environment=` of its unit puts it there.
pub(crate) fn variables(row: &str) -> &'static [(&'static str, &'static str)] {
    match row {
        "a policy that is not there, in containerd's own environment" => {
            &[("OCICRYPT_CONFIG", "/nowhere/policy")]
        }
        "a timeout of nonsense in containerd's own environment" => {
            &[("OCIHSM_HSM_TIMEOUT", "soon")]
        }
        _ => &[],
    }
}

pub(crate) const ROWS: &[Row] = &[
    before("nothing wrong", |_| {}, Says::Content),
    while_it_runs(
        "the drop-in written, containerd not restarted",
        |stand| {
            let text = fs::read_to_string(stand.path("conf.d/ocihsm.toml")).unwrap();
            stand.write("conf.d/ocihsm.toml", &text);
        },
        Says::Stricter("config-unloaded", "what it says is what it said before"),
    ),
    mended_too_late(
        "the import written, containerd not restarted",
        |stand| {
            fs::copy(stand.path("config.toml"), stand.path("right.toml")).unwrap();
            fs::copy(stand.path("elsewhere.toml"), stand.path("config.toml")).unwrap();
        },
        |stand| {
            fs::copy(stand.path("right.toml"), stand.path("config.toml")).unwrap();
        },
    ),
    mended_too_late(
        "the drop-in moved to its place, containerd not restarted",
        |stand| {
            fs::rename(stand.path("conf.d/ocihsm.toml"), stand.path("drop-in")).unwrap();
        },
        |stand| {
            fs::rename(stand.path("drop-in"), stand.path("conf.d/ocihsm.toml")).unwrap();
        },
    ),
    not_started(
        "containerd started with another file (-c)",
        When::Elsewhere,
        Says::Fails("processor-missing"),
    ),
    not_started(
        "containerd not started",
        When::Never,
        Says::Fails("not-running"),
    ),
    before(
        "the drop-in missing",
        |stand| {
            fs::remove_file(stand.path("conf.d/ocihsm.toml")).unwrap();
        },
        Says::Fails("processor-missing"),
    ),
    before(
        "nothing imports the drop-in",
        |stand| {
            let imports = format!("imports = [{:?}]", stand.path("conf.d/*.toml"));
            stand.node.change("config.toml", &imports, "imports = []");
        },
        Says::Fails("processor-missing"),
    ),
    before(
        "two lines of imports",
        |stand| {
            stand.node.change(
                "config.toml",
                "version = 2\n",
                "version = 2\nimports = []\n",
            );
        },
        Says::Fails("config-broken"),
    ),
    before(
        "an import that is not there",
        |stand| {
            let imports = format!("imports = [{:?}", stand.path("conf.d/*.toml"));
            let more = format!("{imports}, {:?}", stand.path("gone.toml"));
            stand.node.change("config.toml", &imports, &more);
        },
        Says::Fails("import-missing"),
    ),
    before(
        "a drop-in that is no TOML",
        |stand| {
            stand.write("conf.d/more.toml", "this is = not TOML [");
        },
        Says::Fails("config-broken"),
    ),
    before(
        "a drop-in of version 3",
        |stand| {
            stand.processors("version = 2\n", "version = 3\n");
        },
        Says::FailsOnOneSeven("config-version"),
    ),
    before(
        "a plugin by its short name",
        |stand| {
            stand
                .node
                .change("config.toml", "\"io.containerd.grpc.v1.cri\"", "\"cri\"");
        },
        Says::Fails("plugin-name"),
    ),
    before(
        "accepts mistyped for gzip",
        |stand| {
            stand.processors(
                "v1.tar+gzip+encrypted\"]\n  returns = \"application/vnd.oci.image.layer.v1",
                "v1.tar.gzip+encrypted\"]\n  returns = \"application/vnd.oci.image.layer.v1",
            );
        },
        Says::Fails("processor-accepts"),
    ),
    before(
        "accepts of the short kind for gzip",
        |stand| {
            stand.processors(
                "[\"application/vnd.oci.image.layer.v1.tar+gzip+encrypted\"]",
                "[\"tar+gzip\"]",
            );
        },
        Says::Fails("processor-accepts"),
    ),
    before(
        "accepts without +encrypted for zstd",
        |stand| {
            stand.processors(
                "[\"application/vnd.oci.image.layer.v1.tar+zstd+encrypted\"]",
                "[\"application/vnd.oci.image.layer.v1.tar+zstd\"]",
            );
        },
        Says::Fails("processor-accepts"),
    ),
    before(
        "accepts nothing for gzip",
        |stand| {
            stand.processors(
                "[\"application/vnd.oci.image.layer.v1.tar+gzip+encrypted\"]",
                "[]",
            );
        },
        Says::Fails("processor-accepts"),
    ),
    before(
        "no section for gzip, which is built in for another program",
        |stand| {
            without(stand, "tar.gzip");
        },
        Says::FailsAsBuiltIn(["program-missing", "keys-unreadable"]),
    ),
    before(
        "no section for zstd",
        |stand| without(stand, "tar.zstd"),
        Says::Fails("processor-missing"),
    ),
    before(
        "no section for Wasm",
        |stand| without(stand, "wasm"),
        Says::Content,
    ),
    before(
        "returns mistyped for gzip",
        |stand| {
            stand.processors(
                "returns = \"application/vnd.oci.image.layer.v1.tar+gzip\"",
                "returns = \"application/vnd.oci.image.layer.v1.tgz\"",
            );
        },
        Says::Fails("processor-returns"),
    ),
    before(
        "an option that ocihsm does not have",
        |stand| {
            stand.processors("--decryption-keys-path", "--decryption-key-path");
        },
        Says::Fails("processor-arguments"),
    ),
    before(
        "another subcommand",
        |stand| {
            stand.processors("[\"decode\"", "[\"decrypt\"");
        },
        Says::Fails("processor-arguments"),
    ),
    before(
        "a log that is no place",
        |stand| {
            stand.processors("env = [", "env = [\"OCIHSM_LOG=journal\", ");
        },
        Says::Fails("processor-arguments"),
    ),
    before(
        "a directory of keys that is not there",
        |stand| {
            let keys = stand.node.keys.display().to_string();
            stand.processors(&keys, "/nowhere/keys");
        },
        Says::Fails("keys-unreadable"),
    ),
    before(
        "the policy is not there",
        |stand| {
            let policy = stand.path("policy").display().to_string();
            stand.processors(&policy, "/nowhere/policy");
        },
        Says::Fails("policy-broken"),
    ),
    before(
        "the policy is a directory",
        |stand| {
            let policy = stand.path("policy").display().to_string();
            stand.processors(&policy, &stand.path("conf.d").display().to_string());
        },
        Says::Fails("policy-broken"),
    ),
    before(
        "a policy that is not there, in containerd's own environment",
        |stand| {
            let policy = format!("\"OCICRYPT_CONFIG={}\"", stand.path("policy").display());
            stand.processors(&policy, "\"A=B\"");
        },
        Says::Fails("policy-broken"),
    ),
    before(
        "a timeout of nonsense in containerd's own environment",
        |_| {},
        Says::Fails("processor-arguments"),
    ),
    before(
        "the runtime directory is a file",
        |stand| {
            let runtime = stand.node.token.runtime();
            // It may not be there yet.
            let _ = fs::remove_dir_all(&runtime);
            fs::write(&runtime, "").unwrap();
        },
        Says::Stricter(
            "runtime-directory",
            "a wrong PIN would cost a try for each layer",
        ),
    ),
    before(
        "the runtime directory is open to others, and holds what is not ours",
        |stand| {
            let runtime = stand.node.token.runtime();
            fs::create_dir_all(&runtime).unwrap();
            // Without it the directory would be closed and used.
            fs::write(runtime.join("other"), "").unwrap();
            fs::set_permissions(runtime, fs::Permissions::from_mode(0o777)).unwrap();
        },
        Says::Stricter(
            "runtime-directory",
            "a wrong PIN would cost a try for each layer",
        ),
    ),
    before(
        "two sections for one kind of layer",
        |stand| {
            let text = fs::read_to_string(stand.path("conf.d/ocihsm.toml")).unwrap();
            stand.write(
                "conf.d/more.toml",
                &text.replace("decoder.v1", "decoder.mine"),
            );
        },
        Says::Stricter(
            "processor-repeated",
            "containerd takes one of them at random; here they are alike",
        ),
    ),
];

/// Takes a section out of the drop-in.
fn without(stand: &Stand, id: &str) {
    let text = fs::read_to_string(stand.path("conf.d/ocihsm.toml")).unwrap();
    let head = format!("[stream_processors.\"io.containerd.ocicrypt.decoder.v1.{id}\"]");
    let begin = text.find(&head).unwrap();
    let end = text[begin + 1..]
        .find("\n[")
        .map_or(text.len(), |end| begin + 1 + end);
    stand.write(
        "conf.d/ocihsm.toml",
        &format!("{}{}", &text[..begin], &text[end..]),
    );
}
