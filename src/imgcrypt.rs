//! What somebody who knows imgcrypt's `ctr-enc` would write, and what we call it.

use std::ffi::OsString;

/// Its words, and ours.
const COUNTERPARTS: [(&str, &str); 8] = [
    (
        "layerinfo",
        "`ocihsm inspect oci:IMAGE` shows the layers of an image, and for whom they are encrypted",
    ),
    (
        "images",
        "`ocihsm encrypt SRC DST`, `ocihsm decrypt SRC DST` and `ocihsm inspect SRC` work on images in OCI layouts",
    ),
    (
        "image",
        "`ocihsm encrypt SRC DST`, `ocihsm decrypt SRC DST` and `ocihsm inspect SRC` work on images in OCI layouts",
    ),
    (
        "--layer",
        "one layer is chosen with --encrypt-layer N, 0 the lowest and -1 the topmost",
    ),
    (
        "--all-platforms",
        "every platform is worked on, unless --platform names one",
    ),
    (
        "--platform",
        "--platform names one platform; without it every platform is worked on",
    ),
    (
        "--dec-recipient",
        "a certificate is not needed to decrypt: --key PRIVATE-KEY is enough",
    ),
    (
        "--gpg-homedir",
        "no keyring of GnuPG is read here: gpg --export NAME > FILE, then --recipient pgp:FILE",
    ),
];

/// What to say beside the complaint about these arguments, of which the parser did not know `unknown`.
#[must_use]
pub fn hint(argv: &[OsString], unknown: &str) -> Option<&'static str> {
    let asked = |word: &str| {
        argv.iter().skip(1).any(|given| {
            let rest = given.to_str().and_then(|given| given.strip_prefix(word));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        })
    };
    let named = |word: &&(&str, &str)| {
        unknown
            .split(['\'', '=', ' ', '<'])
            .any(|part| part == word.0)
    };
    let (_, hint) = COUNTERPARTS
        .iter()
        .filter(named)
        .find(|(word, _)| asked(word))?;
    Some(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hinted(words: &str) -> Option<&'static str> {
        let argv: Vec<_> = words.split(' ').map(OsString::from).collect();
        let error = crate::cli::Cli::parse_from(&argv).unwrap_err().to_string();
        hint(&argv, error.lines().next().unwrap_or_default())
    }

    #[test]
    fn words_of_imgcrypt_lead_to_ours() {
        for (words, part) in [
            ("ocihsm layerinfo x", "ocihsm inspect"),
            ("ocihsm images encrypt a b", "ocihsm encrypt"),
            (
                "ocihsm encrypt a b --recipient jwe:k --layer 1",
                "--encrypt-layer",
            ),
            (
                "ocihsm encrypt a b --recipient jwe:k --all-platforms",
                "every platform",
            ),
            (
                "ocihsm decrypt a b --key k --platform linux/amd64 --platform linux/arm64",
                "one platform",
            ),
            ("ocihsm decrypt a b --key k --dec-recipient c", "not needed"),
        ] {
            assert!(
                hinted(words).is_some_and(|hint| hint.contains(part)),
                "{words}"
            );
        }
        assert_eq!(hinted("ocihsm encrypt a b --recipient jwe:k --other"), None);
        assert_eq!(hinted("ocihsm"), None);
    }
}
