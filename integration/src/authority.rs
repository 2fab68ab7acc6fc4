//! A certificate authority of the tests' own, which OpenSSL makes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::program::Program;

/// An authority, its files in a directory.
#[derive(Debug)]
pub struct Authority(PathBuf);

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// If OpenSSL does not make it; the methods too.
    pub fn new(place: impl Into<PathBuf>) -> Self {
        let this = Self(place.into());
        fs::create_dir_all(&this.0).expect("the place is ours");
        let request = ["req", "-newkey", "rsa:2048", "-nodes", "-sha256"];
        let own = ["-x509", "-days", "2", "-subj", "/CN=authority"];
        let files = ["-keyout", "ca.key", "-out", "ca.crt"];
        this.openssl(&[&request[..], &own, &files].concat());
        this
    }

    /// Its own certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.0.join("ca.crt")
    }

    /// Certificate and key of somebody, who may be the server 127.0.0.1.
    #[must_use]
    pub fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        let file = |end: &str| format!("{name}.{end}");
        let (key, asked, given) = (file("key"), file("csr"), file("crt"));
        let subject = format!("/CN={name}");
        let request = ["req", "-newkey", "rsa:2048", "-nodes", "-sha256", "-subj"];
        let files = [&*subject, "-keyout", &key, "-out", &asked];
        self.openssl(&[&request[..], &files].concat());
        fs::write(self.0.join("names"), "subjectAltName=IP:127.0.0.1\n").expect("it is ours");
        let sign = ["x509", "-req", "-CA", "ca.crt", "-CAkey", "ca.key"];
        let how = ["-CAcreateserial", "-days", "2", "-extfile", "names"];
        let files = ["-in", &asked, "-out", &given];
        self.openssl(&[&sign[..], &how, &files].concat());
        (self.0.join(&given), self.0.join(&key))
    }

    /// A directory with its certificate, and perhaps one of somebody's own, as `--cert-dir` takes it.
    pub fn directory(&self, path: &Path, own: Option<&(PathBuf, PathBuf)>) {
        fs::create_dir_all(path).expect("the place is ours");
        let copy = |from: &Path, name: &str| {
            fs::copy(from, path.join(name)).expect("the place is ours");
        };
        copy(&self.certificate(), "ca.crt");
        if let Some((certificate, key)) = own {
            copy(certificate, "client.cert");
            copy(key, "client.key");
        }
    }

    fn openssl(&self, args: &[&str]) {
        Program::new("openssl").current_dir(&self.0).args(args).ok();
    }
}
