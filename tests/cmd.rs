//! The command line as text: help, mistakes, exit statuses, and what comes out without a token. Needs neither root nor a module.
//!
//! `TRYCMD=overwrite cargo test --test cmd` writes what is printed now; look at it before it is kept.

#[test]
fn what_is_typed_prints_what_the_cases_say() {
    trycmd::TestCases::new()
        .env("OCICRYPT_CONFIG", "internal")
        .env("HOME", "/nowhere")
        .case("tests/cmd/*.md");
}
