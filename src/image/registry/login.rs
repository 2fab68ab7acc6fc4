//! Logging in to a registry: who may ask for it, and what is shown. A password goes to the registry and to whom it names for
//! tokens, and never in the clear where the registry has TLS.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use ureq::Body;
use ureq::http::{Method, Request, Response, Uri};
use zeroize::Zeroizing;

use super::Result;
use super::auth::{self, Challenge, MAX_TOKEN, Question};
use super::connection::{Connection, TRIES, is_temporary, may_pass, pause};
use super::credentials::Login;

impl Connection {
    /// Whether it is the registry itself that an address leads to. Who it redirects us to, or has us send a blob to, may ask
    /// for a login, and gets none.
    pub(super) fn is_ours(&self, uri: &Uri) -> bool {
        let port = |uri: &Uri| {
            let default = if uri.scheme_str() == Some("http") {
                80
            } else {
                443
            };
            uri.port_u16().unwrap_or(default)
        };
        let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
        self.base.parse().is_ok_and(|base: Uri| {
            base.scheme() == uri.scheme() && host(&base) == host(uri) && port(&base) == port(uri)
        })
    }

    /// Answers a challenge to a call of this kind; `false` where we cannot.
    pub(super) fn authorize(&self, response: &Response<Body>, method: &Method) -> Result<bool> {
        let headers = response.headers().get_all("www-authenticate").iter();
        let mut challenges: Vec<_> = headers
            .filter_map(|header| Challenge::parse(header.to_str().ok()?))
            .collect();
        // A token says no more of us than it has to.
        challenges.sort_by_key(|challenge| *challenge == Challenge::Basic);
        let authorization = match challenges.first() {
            None => return Ok(false),
            Some(Challenge::Basic) => match self.login.as_ref().and_then(Login::basic) {
                None => return Ok(false),
                Some(basic) => basic,
            },
            Some(Challenge::Bearer { realm, service }) => {
                let mut scopes = self.scopes.clone();
                // Docker's registry has nobody give up an upload who may not delete.
                if method == Method::DELETE {
                    scopes.push(format!("repository:{}:delete", self.name.path));
                }
                let (service, login) = (service.as_deref(), self.login.as_ref());
                self.token(&Question::new(realm, service, &scopes, login))?
            }
        };
        self.lock().push(Arc::new(authorization));
        Ok(true)
    }

    fn token(&self, question: &Question) -> Result<Zeroizing<String>> {
        // Without `tls_verify` as well: a registry that has TLS is not to ask for less.
        let says_who = question.authorization.is_some() || question.form.is_some();
        let https_only = self.tls_verify || (self.has_tls() && says_who);
        if https_only && !question.url.starts_with("https://") {
            return Err(self.nonsense("it wants our password sent in the clear"));
        }
        let mut wait = Duration::from_millis(200);
        for tries in 1.. {
            let mut request = Request::builder().uri(&question.url);
            if let Some(authorization) = &question.authorization {
                request = request.header("authorization", authorization.as_str());
            }
            let answer = match &question.form {
                None => request
                    .body(())
                    .map_err(ureq::Error::from)
                    .and_then(|it| self.run(it, https_only)),
                Some(form) => request
                    .method(Method::POST)
                    .header("content-type", "application/x-www-form-urlencoded")
                    .body(form.as_bytes())
                    .map_err(ureq::Error::from)
                    .and_then(|it| self.run(it, https_only)),
            };
            let response = match answer {
                Err(error) if tries < TRIES && may_pass(&error) => None,
                Err(error) => return Err(self.unreachable(error)),
                Ok(response) if tries < TRIES && is_temporary(response.status().as_u16()) => None,
                Ok(response) => Some(response),
            };
            if let Some(response) = response {
                if response.status() != 200 {
                    return Err(self.refused("get a token", response).unsaid());
                }
                let mut bytes = Zeroizing::new(Vec::new());
                let body = response.into_body().into_with_config().limit(MAX_TOKEN);
                let read = body.reader().read_to_end(&mut bytes);
                read.map_err(|source| self.broken(tries, source))?;
                return auth::token(&bytes).ok_or_else(|| self.nonsense("its token is none"));
            }
            pause(wait)?;
            wait *= 2;
        }
        Err(self.nonsense("it gives no token"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection::tests::connection;
    use super::*;

    #[test]
    fn only_the_registry_itself_may_ask_for_a_login() {
        let registry = connection("r.test/a");
        for (uri, expected) in [
            ("https://r.test/v2/a", true),
            ("https://R.test:443/v2/a", true),
            ("http://r.test/v2/a", false),
            ("https://r.test:444/v2/a", false),
            ("https://r.test.evil/v2/a", false),
            ("https://r.test@evil/v2/a", false),
        ] {
            assert_eq!(registry.is_ours(&uri.parse().unwrap()), expected, "{uri}");
        }
    }

    #[test]
    fn a_login_is_not_sent_in_the_clear_where_the_registry_has_tls() {
        let mut registry = connection("r.test/a");
        registry.tls_verify = false;
        let login = Login::Token(Zeroizing::new("secret".to_owned()));
        let question = Question::new("http://127.0.0.1:1/t", None, &[], Some(&login));
        let error = registry.token(&question).unwrap_err().to_string();
        assert!(error.contains("in the clear"), "{error}");
    }
}
