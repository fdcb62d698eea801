//! A client of the stand-in that signs and does nothing else.

use jiff::Timestamp;
use serde_json::Value;

use super::{Credentials, FakeLightsail, sigv4};
use crate::http::{Http, Reply};
use crate::wire::Request;

/// Somebody with an access key, in a region.
pub struct Client {
    http: Http,
    host: String,
    key: Credentials,
    region: String,
}

impl Client {
    /// A client with the key of this name, in the first region.
    #[must_use]
    pub fn of(lightsail: &FakeLightsail, key: &str) -> Self {
        let (http, host) = reach(lightsail);
        Self { http, host, key: lightsail.key(key), region: lightsail.region() }
    }

    /// The same key at another Lightsail, which does not know it.
    #[must_use]
    pub fn at(self, lightsail: &FakeLightsail) -> Self {
        let (http, host) = reach(lightsail);
        Self { http, host, ..self }
    }

    /// The same in another region.
    #[must_use]
    pub fn within(self, region: &str) -> Self {
        Self { region: region.to_owned(), ..self }
    }

    /// Calls an operation of Lightsail; status and JSON.
    ///
    /// # Panics
    /// If there is no answer.
    pub fn call(&self, operation: &str, members: &Value) -> (u16, Value) {
        let reply = self.send(operation, members.to_string().as_bytes()).expect("there is an answer");
        (reply.status, reply.json())
    }

    /// The same with any body.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn send(&self, operation: &str, body: &[u8]) -> std::io::Result<Reply> {
        let target = format!("Lightsail_20161128.{operation}");
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())];
        self.signed("lightsail", &headers, body, Timestamp::now())
    }

    /// A request to a service with these headers and those of the signature, as of a time.
    ///
    /// # Errors
    /// If there is no answer.
    ///
    /// # Panics
    /// If a header is none.
    pub fn signed(
        &self,
        service: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        at: Timestamp,
    ) -> std::io::Result<Reply> {
        let date = at.strftime("%Y%m%dT%H%M%SZ").to_string();
        let mut sent = vec![("x-amz-date", date.as_str())];
        sent.extend_from_slice(headers);
        if !self.key.session_token.is_empty() {
            sent.push(("x-amz-security-token", &self.key.session_token));
        }
        let mut request = Request { method: "POST".to_owned(), body: body.to_vec(), ..Request::default() };
        for (name, value) in sent.iter().chain(&[("host", self.host.as_str())]) {
            let name = http::HeaderName::try_from(*name).expect("a header");
            request.headers.insert(name, http::HeaderValue::try_from(*value).expect("a header"));
        }
        let scope = [&date[..8], &self.region, service];
        let authorization = sigv4::authorization(&request, &self.key.id, &self.key.secret, &scope, &date);
        sent.push(("authorization", &authorization));
        self.http.send("POST", "/", &sent, body)
    }
}

/// What speaks to a Lightsail, and the host that it says.
fn reach(lightsail: &FakeLightsail) -> (Http, String) {
    let url = lightsail.url();
    let host = url.rsplit('/').next().unwrap_or_default().to_owned();
    (Http::new(&url, &lightsail.ca_pem()), host)
}
