//! The HTTP client that AWS's library asks STS, IAM Identity Center and metadata services with: outrigger's own, with its
//! rules for certificates, proxies and sizes.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use reqwest::Url;

use super::{call, endpoint};
use crate::base::proxy::Variables;
use crate::x509::tls::Roots;

/// Largest response read, in bytes.
const LONGEST: usize = 1024 * 1024;
/// Where EC2, ECS and EKS give credentials, without TLS (the libraries of AWS allow the same).
const METADATA: &[&str] =
    &["169.254.169.254", "169.254.170.2", "169.254.170.23", "[fd00:ec2::254]", "[fd00:ec2::23]"];

#[derive(Clone, Debug)]
pub(super) struct Client(Arc<Rules>);

#[derive(Debug)]
struct Rules {
    roots: Roots,
    proxies: Variables,
    metadata: bool,
}

impl Client {
    /// With `metadata`, the addresses of metadata services are allowed, without a proxy.
    pub fn new(roots: Roots, env: &BTreeMap<String, String>, metadata: bool) -> Self {
        Self(Arc::new(Rules { roots, proxies: Variables::of(env), metadata }))
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let refuse = |why: String| ConnectorError::user(why.into());
        let request = request.try_into_http1x().map_err(|error| refuse(error.to_string()))?;
        let (parts, body) = request.into_parts();
        let url = Url::parse(&parts.uri.to_string()).map_err(|error| refuse(error.to_string()))?;
        let host = url.host_str().unwrap_or_default();
        let is_metadata = METADATA.contains(&host);
        if is_metadata && !self.0.metadata {
            return Err(refuse(format!("the metadata service {host} may not be asked")));
        }
        if url.scheme() != "https" && !is_metadata && !endpoint::is_loopback(&url) {
            return Err(refuse(format!("{host} would be asked without TLS")));
        }
        let direct = Variables::default();
        let proxies = if is_metadata { &direct } else { &self.0.proxies };
        let (client, _) =
            call::client(&url, &self.0.roots, proxies).map_err(|failure| refuse(failure.message))?;
        let bytes = body.bytes().unwrap_or_default().to_vec();
        let sent = client.request(parts.method, url).headers(parts.headers).body(bytes).send().await;
        let broken = |error: reqwest::Error| {
            if error.is_timeout() {
                ConnectorError::timeout(error.without_url().into())
            } else {
                ConnectorError::io(error.without_url().into())
            }
        };
        let mut response = sent.map_err(broken)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if bytes.len() + chunk.len() > LONGEST {
                return Err(refuse("the response is larger than 1 MiB".to_owned()));
            }
            bytes.extend_from_slice(&chunk);
        }
        let mut answer = http::Response::new(SdkBody::from(bytes));
        *answer.status_mut() = response.status();
        *answer.headers_mut() = response.headers().clone();
        HttpResponse::try_from(answer).map_err(|error| refuse(error.to_string()))
    }
}

impl HttpConnector for Client {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.clone();
        HttpConnectorFuture::new(async move { client.send(request).await })
    }
}

impl HttpClient for Client {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}
