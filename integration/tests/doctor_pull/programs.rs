//! Programs that are no ocihsm, or none that starts.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use integration::ocihsm;

use crate::processors::before;
use crate::stand::Stand;
use crate::{Row, Says};

pub(crate) const ROWS: &[Row] = &[
    before(
        "the program is not there",
        |stand| {
            stand.program(&stand.path("nowhere"));
        },
        Says::Fails("program-missing"),
    ),
    before(
        "the program is a directory",
        |stand| {
            stand.program(&stand.path("conf.d"));
        },
        Says::Fails("program-missing"),
    ),
    before(
        "the program is not executable",
        |stand| {
            program(stand, &fs::read(ocihsm()).unwrap(), 0o644);
        },
        Says::Fails("program-not-executable"),
    ),
    before(
        "the program is another one",
        |stand| {
            program(stand, &fs::read("/bin/true").unwrap(), 0o755);
        },
        Says::Fails("program-foreign"),
    ),
    before(
        "the program is empty",
        |stand| program(stand, b"", 0o755),
        Says::Fails("program-foreign"),
    ),
    before(
        "the program is for another machine",
        |stand| {
            program(stand, &for_another_machine(), 0o755);
        },
        Says::Fails("program-machine"),
    ),
    before(
        "the program is another build of ocihsm",
        |stand| {
            let bytes = fs::read(ocihsm()).unwrap();
            program(stand, &[&bytes, &b"more"[..]].concat(), 0o755);
        },
        Says::Content,
    ),
    before(
        "the program wants a newer C library",
        |stand| {
            let mut bytes = fs::read(ocihsm()).unwrap();
            let name = b"\0GLIBC_2.14\0";
            let mut places = bytes.windows(name.len());
            let place = places.position(|part| part == name).unwrap();
            bytes[place + 9..place + 11].copy_from_slice(b"99");
            program(stand, &bytes, 0o755);
        },
        Says::Fails("program-broken"),
    ),
    before(
        "the program is a script that sets PATH",
        |stand| {
            let directory = ocihsm().parent().unwrap().display().to_string();
            script(
                stand,
                &format!("#!/bin/sh\nPATH={directory}:$PATH\nexec ocihsm \"$@\"\n"),
            );
        },
        Says::Content,
    ),
    before(
        "the program is cut off",
        |stand| {
            let bytes = fs::read(ocihsm()).unwrap();
            // Behind what it is known by.
            let mark = b"stdin to stdout (ocihsm decode)";
            let mut places = bytes.windows(mark.len());
            let place = places.position(|part| part == mark).unwrap();
            program(stand, &bytes[..place + mark.len()], 0o755);
        },
        Says::Fails("program-broken"),
    ),
    before(
        "the program is for another C library",
        |stand| {
            let mut bytes = fs::read(ocihsm()).unwrap();
            let place = bytes
                .windows(9)
                .position(|part| part == b"/ld-linux")
                .unwrap();
            bytes[place + 1] = b'L';
            program(stand, &bytes, 0o755);
        },
        Says::Fails("program-broken"),
    ),
    before(
        "the program is a script that starts one for another machine",
        |stand| {
            let target = stand.path("ocihsm");
            fs::write(&target, for_another_machine()).unwrap();
            fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).unwrap();
            script(
                stand,
                &format!("#!/bin/sh\nexec {} \"$@\"\n", target.display()),
            );
        },
        Says::Fails("program-machine"),
    ),
    before(
        "the program is a script with the line ends of Windows",
        |stand| script(stand, "#!/bin/sh\r\nexec ocihsm \"$@\"\r\n"),
        Says::Fails("program-script"),
    ),
    before(
        "the program is a script whose interpreter env does not find",
        |stand| script(stand, "#!/usr/bin/env nosuchshell\nexec ocihsm \"$@\"\n"),
        Says::Fails("program-script"),
    ),
    before(
        "the program is a script that starts a name which is not on the path",
        |stand| script(stand, "#!/bin/sh\nexec ocihsm-nope \"$@\"\n"),
        Says::Fails("program-script"),
    ),
    before(
        "the program is a script that its shell cannot read",
        |stand| script(stand, "#!/bin/sh\nif [ -x /bin/sh ]; then\nocihsm \"$@\"\n"),
        Says::Fails("program-script"),
    ),
    before(
        "the program is a script that names ocihsm in a comment",
        |stand| script(stand, "#!/bin/sh\n# starts ocihsm\nexit 1\n"),
        Says::Fails("program-foreign"),
    ),
    before(
        "the program is a script whose interpreter is missing",
        |stand| {
            program(
                stand,
                b"#!/usr/bin/nosuchshell\nexec ocihsm \"$@\"\n",
                0o755,
            );
        },
        Says::Fails("program-script"),
    ),
    before(
        "the program is a script of somebody else",
        |stand| {
            program(stand, b"#!/bin/sh\nexit 1\n", 0o755);
        },
        Says::Fails("program-foreign"),
    ),
    before(
        "the program is a script that starts ocihsm",
        |stand| {
            let script = format!("#!/bin/sh\nexec {} \"$@\"\n", ocihsm().display());
            program(stand, script.as_bytes(), 0o755);
        },
        Says::Content,
    ),
    before(
        "the program is a script that starts an ocihsm which is not there",
        |stand| {
            program(
                stand,
                b"#!/bin/sh\nexec /nowhere/bin/ocihsm \"$@\"\n",
                0o755,
            );
        },
        Says::Fails("program-script"),
    ),
    before(
        "the program is a copy of ocihsm",
        |stand| {
            program(stand, &fs::read(ocihsm()).unwrap(), 0o755);
        },
        Says::Content,
    ),
];

/// Has the sections run a file of this content.
fn program(stand: &Stand, content: &[u8], mode: u32) {
    let path = stand.path("program");
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    stand.program(&path);
}

fn script(stand: &Stand, text: &str) {
    program(stand, text.as_bytes(), 0o755);
}

/// ocihsm with another `e_machine`: AArch64, or x86-64 there.
fn for_another_machine() -> Vec<u8> {
    let mut bytes = fs::read(ocihsm()).unwrap();
    bytes[18] = if bytes[18] == 183 { 62 } else { 183 };
    bytes
}
