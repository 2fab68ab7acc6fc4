//! Questions to one repository of a registry: addresses, and another try where that may help.

use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::http::{Method, Request, Response};
use ureq::{Agent, AsSendBody, Body, ResponseExt as _};
use zeroize::Zeroizing;

use super::call::Call;
use super::credentials::{self, Login};
use super::download::Download;
use super::error::{Error, is_about_tls};
use super::name::Name;
use super::{Result, Settings, secrets, tls};
use crate::image::descriptor::Descriptor;
use crate::image::document::MAX_DOCUMENT;
use crate::image::stop;

/// How often something is tried, all in all.
pub(super) const TRIES: u32 = 5;
/// A token that is refused later than this after it was asked for may have been good.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);
/// How long it may take to say that it has TLS.
const PROBE: Duration = Duration::from_secs(10);
/// How long what is on its way into a registry may take once we are to end.
const GRACE: Duration = Duration::from_secs(2);
/// How long it may take then to give up an upload.
const FAREWELL: Duration = Duration::from_secs(1);
/// Longest wait that a registry may ask for.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// Most redirects that are followed, one after the other.
const MAX_REDIRECTS: u32 = 10;

/// A repository.
pub(super) struct Connection {
    pub(super) agent: Agent,
    /// What speaks once we are to end, and the other one does not any more.
    farewell: Agent,
    /// `https://HOST`.
    pub(super) base: String,
    pub(super) name: Name,
    pub(super) login: Option<Login>,
    pub(super) scopes: Vec<String>,
    pub(super) tls_verify: bool,
    /// What we have shown so far; the last of it is what we show now.
    authorizations: Mutex<Vec<Arc<Zeroizing<String>>>>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Finds out how the registry is spoken to. Nothing is asked yet but, without `tls_verify`, whether it has TLS.
    pub(super) fn open(name: &Name, settings: &Settings, push: bool) -> Result<Self> {
        let actions = if push { "pull,push" } else { "pull" };
        let agent = tls::agent(name, settings)?;
        let ending = agent.clone();
        // Docker's registry gives up no upload of which it has half a chunk, so a chunk may still come through.
        let grace = if push { GRACE } else { Duration::ZERO };
        stop::after(grace, move || ending.shutdown());
        let mut this = Self {
            farewell: Agent::new_with_config(agent.config().clone()),
            agent,
            base: format!("https://{}", name.registry()),
            login: credentials::find(name, &settings.auth_files)?,
            scopes: vec![format!("repository:{}:{actions}", name.path)],
            name: name.clone(),
            tls_verify: settings.tls_verify,
            authorizations: Mutex::default(),
        };
        let probe = this.agent.get(format!("{}/v2/", this.base)).config();
        // Whatever it answers: it has TLS.
        let probe = probe.timeout_global(Some(PROBE)).max_redirects(0).build();
        if !settings.tls_verify && probe.call().is_err() {
            this.base = format!("http://{}", name.registry());
        }
        Ok(this)
    }

    /// Wants to read another repository as well, whose blobs are mounted into this one.
    pub(super) fn also_read(&mut self, path: &str) {
        self.scopes.push(format!("repository:{path}:pull"));
    }

    pub(super) fn url(&self, place: &str, reference: &str) -> String {
        format!("{}/v2/{}/{place}/{reference}", self.base, self.name.path)
    }

    /// A `Location` may be a path alone. Where the registry has TLS it is not followed without: layers go there.
    pub(super) fn absolute(&self, location: &str) -> Result<String> {
        let scheme = location.split(':').next().unwrap_or_default();
        if self.has_tls() && scheme.eq_ignore_ascii_case("http") {
            return Err(self.nonsense("it wants a blob sent in the clear"));
        }
        match location.starts_with('/') {
            true => Ok(format!("{}{location}", self.base)),
            false => Ok(location.to_owned()),
        }
    }

    /// A manifest, and its media type.
    pub(super) fn manifest(&self, reference: &str) -> Result<(String, Vec<u8>)> {
        let call = Call::get(self.url("manifests", reference)).accept();
        let response = self.send(&call)?;
        match response.status().as_u16() {
            200 => {}
            404 => {
                let separator = if reference.contains(':') { '@' } else { ':' };
                return Err(Error::NotFound {
                    host: self.name.host.clone(),
                    what: format!("image {}{separator}{reference}", self.name.path),
                });
            }
            _ => return Err(self.refused("read a manifest", response)),
        }
        let header = response.headers().get("content-type");
        let media_type = header
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        let media_type = match media_type {
            "application/json" | "text/plain" => "",
            media_type => media_type,
        };
        let media_type = media_type.to_owned();
        let mut bytes = Vec::new();
        let body = response.into_body().into_with_config().limit(u64::MAX);
        let read = body.reader().take(MAX_DOCUMENT + 1).read_to_end(&mut bytes);
        read.map_err(|source| self.broken(1, source))?;
        match bytes.len() as u64 > MAX_DOCUMENT {
            true => Err(self.nonsense("a manifest is over the limit of 4 MiB")),
            false => Ok((media_type, bytes)),
        }
    }

    /// Looks at how long a registry says a blob is. One that it has damaged it keeps, though it be sent again.
    pub(super) fn check_length(&self, response: &Response<Body>, size: u64) -> Result<()> {
        let length = response.headers().get("content-length");
        let length = length.and_then(|it| it.to_str().ok()?.parse::<u64>().ok());
        match length.is_none_or(|length| length == size) {
            true => Ok(()),
            false => Err(self.nonsense("a blob that it has is not as long as it should be")),
        }
    }

    pub(super) fn download(self: &Arc<Self>, descriptor: &Descriptor) -> Result<Download> {
        Download::begin(Arc::clone(self), descriptor)
    }

    /// Asks, with a login if one is wanted, and again where that may help. Any answer but that one is the caller's.
    pub(super) fn send(&self, call: &Call<'_>) -> Result<Response<Body>> {
        let mut wait = Duration::from_millis(200);
        let mut authorized: Option<Instant> = None;
        let mut tries = 1;
        loop {
            // That an upload is given up is all that is said then.
            if stop::is_set() && call.method != Method::DELETE {
                return Err(Error::Stopped);
            }
            let answer = self.once(call);
            let last = tries == TRIES;
            match answer {
                // A token may be over by the time that the registry looks at it. A login that is refused comes back sooner.
                Ok(response)
                    if response.status() == 401
                        && !last
                        && self.is_ours(response.get_uri())
                        && authorized.is_none_or(|at| at.elapsed() > SHORTEST_LIFE) =>
                {
                    authorized = Some(Instant::now());
                    tries += 1;
                    if !self.authorize(&response, &call.method)? {
                        return Ok(response);
                    }
                    continue;
                }
                // A part of a blob that may have come through is not sent again unasked.
                Ok(response)
                    if !last
                        && is_temporary(response.status().as_u16())
                        && (call.again || response.status() == 429) =>
                {
                    let asked = response.headers().get("retry-after");
                    let asked = asked.and_then(|it| it.to_str().ok()?.parse().ok());
                    let asked = asked.map(Duration::from_secs).unwrap_or_default();
                    pause(asked.max(wait).min(MAX_WAIT))?;
                }
                Ok(response) => return Ok(response),
                Err(error) if last || !call.again || !may_pass(&error) => {
                    return Err(self.unreachable(error));
                }
                Err(_) => pause(wait)?,
            }
            wait *= 2;
            tries += 1;
        }
    }

    fn once(&self, call: &Call<'_>) -> Result<Response<Body>, ureq::Error> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(&call.url);
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        let authorization = self.lock().last().cloned();
        // A blob may be kept elsewhere, where our login is nobody's business.
        let ours = call.url.parse().is_ok_and(|uri| self.is_ours(&uri));
        if let Some(authorization) = authorization.filter(|_| ours) {
            request = request.header("authorization", authorization.as_str());
        }
        let https_only = self.has_tls();
        match call.body {
            None => self.run(request.body(())?, https_only),
            Some(body) => self.run(request.body(body)?, https_only),
        }
    }

    /// Asks by the agent that still speaks.
    pub(super) fn run<B: AsSendBody>(
        &self,
        request: Request<B>,
        https_only: bool,
    ) -> Result<Response<Body>, ureq::Error> {
        if !stop::is_set() {
            return self.agent.run(bounded(&self.agent, request, https_only));
        }
        let request = bounded(&self.farewell, request, https_only);
        let request = self.farewell.configure_request(request);
        self.farewell
            .run(request.timeout_global(Some(FAREWELL)).build())
    }

    pub(super) fn has_tls(&self) -> bool {
        self.base.starts_with("https://")
    }

    /// What an answer means that is not the one that was wanted.
    pub(super) fn refused(&self, action: &'static str, response: Response<Body>) -> Error {
        let host = self.name.host.clone();
        let status = response.status().as_u16();
        if matches!(status, 401 | 403) {
            let who = self
                .login
                .as_ref()
                .map_or("somebody without a login".to_owned(), Login::who);
            return Error::Denied { host, who, action };
        }
        let body = response.into_body().into_with_config().limit(u64::MAX);
        let said = secrets::said(&mut body.reader(), &self.secrets());
        Error::Status {
            host,
            action,
            status,
            said,
        }
    }

    /// Why no answer came, without what an answer may have had of ours: some reasons name an address from it.
    pub(super) fn unreachable(&self, error: ureq::Error) -> Error {
        if let ureq::Error::RequireHttpsOnly(_) = error {
            return self.nonsense("it sends us to where there is no TLS");
        }
        match secrets::has_any(&error.to_string(), &self.secrets()) {
            true => self.nonsense("it has our login in it"),
            false => Error::Unreachable {
                host: self.name.host.clone(),
                source: Box::new(error),
            },
        }
    }

    /// What we have shown, and what that is made of.
    fn secrets(&self) -> Vec<Arc<Zeroizing<String>>> {
        let mut secrets = self.lock().clone();
        for secret in self.login.iter().flat_map(Login::secrets) {
            secrets.push(Arc::new(secret));
        }
        secrets
    }

    pub(super) fn nonsense(&self, what: &'static str) -> Error {
        Error::Nonsense {
            host: self.name.host.clone(),
            what,
        }
    }

    pub(super) fn broken(&self, tries: u32, source: std::io::Error) -> Error {
        Error::Broken {
            host: self.name.host.clone(),
            tries,
            source,
        }
    }

    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Zeroizing<String>>>> {
        self.authorizations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is redirected only where it asks for something: of one that brings something the library would make one
/// that asks, and the answer to that says nothing of what was brought. With `https_only` it goes nowhere without TLS.
/// `agent` is the one that sends it: what it knows of itself goes with the request.
fn bounded<B: AsSendBody>(agent: &Agent, request: Request<B>, https_only: bool) -> Request<B> {
    let redirects = match *request.method() {
        Method::GET | Method::HEAD => MAX_REDIRECTS,
        _ => 0,
    };
    let request = agent.configure_request(request);
    let request = request.max_redirects(redirects).https_only(https_only);
    request.build()
}

/// Waits before something is tried again.
pub(super) fn pause(time: Duration) -> Result<()> {
    match stop::pause(time) {
        true => Ok(()),
        false => Err(Error::Stopped),
    }
}

/// Whether the registry says that it has no time now.
pub(super) fn is_temporary(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// Whether what went wrong may be right the next time.
pub(super) fn may_pass(error: &ureq::Error) -> bool {
    use ureq::Error::{ConnectionFailed, Io, Protocol, Timeout};
    matches!(error, Io(_) | Timeout(_) | ConnectionFailed | Protocol(_)) && !is_about_tls(error)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn connection(name: &str) -> Connection {
        let settings = Settings {
            tls_verify: true,
            cert_dir: None,
            machine_cert_dirs: Vec::new(),
            auth_files: Vec::new(),
        };
        Connection::open(&Name::parse(name).unwrap(), &settings, true).unwrap()
    }

    #[test]
    fn a_blob_is_not_sent_in_the_clear_where_the_registry_has_tls() {
        let mut registry = connection("r.test/a");
        for (location, expected) in [
            ("/v2/a", Some("https://r.test/v2/a")),
            ("https://other.test/a", Some("https://other.test/a")),
            ("http://r.test/v2/a", None),
            ("HTTP://other.test/a", None),
        ] {
            let absolute = registry.absolute(location).ok();
            assert_eq!(absolute.as_deref(), expected, "{location}");
        }
        registry.base = "http://r.test".to_owned();
        assert!(registry.absolute("http://r.test/v2/a").is_ok());
    }
}
