//! A question to a registry: what is asked, and with which headers.

use ureq::http::Method;

use crate::image::media_type;

/// A question.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Option<&'a [u8]>,
    /// Whether it may be asked again when nobody knows what became of it.
    pub(super) again: bool,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, url: String, body: Option<&'a [u8]>) -> Self {
        Self {
            again: matches!(method, Method::GET | Method::HEAD | Method::PUT),
            method,
            url,
            headers: Vec::new(),
            body,
        }
    }

    pub(super) fn head(url: String) -> Self {
        Self::new(Method::HEAD, url, None).accept()
    }

    pub(super) fn get(url: String) -> Self {
        Self::new(Method::GET, url, None)
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Asks for a manifest as it is: without this, some registries translate it.
    pub(super) fn accept(self) -> Self {
        self.header("accept", media_type::DOCUMENTS.join(", "))
    }
}
