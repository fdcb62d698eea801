//! Builds kube's client from kube's own layers, with the certificate verifier of [`tls`].

#![expect(clippy::disallowed_types, reason = "this is the module that the ban protects")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt as _};
use kube::config::AuthInfo;
use percent_encoding::percent_decode_str;
use secrecy::ExposeSecret as _;

use crate::x509::tls::{self, Roots};
use crate::x509::{Bundle, Certificate};

/// Builds the client. (kube's own `Client::try_from` has no hook for another verifier than webpki.)
pub(super) fn build(mut config: kube::Config) -> kube::Result<kube::Client> {
    let authorization = authorization(&config.auth_info)?;
    config.headers.extend(authorization.map(|value| (http::header::AUTHORIZATION, value)));
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    let Some(proxy) = config.proxy_url.clone() else { return over(&config, http, &settings(&config)?) };
    match proxy.scheme_str() {
        Some("socks5") => {
            let socks = SocksV5::new(proxy.clone(), http);
            let socks = match login(&proxy).map(|login| login.split_once(':').unwrap_or((login, ""))) {
                None => socks,
                Some((user, password)) => {
                    let text = |part| percent_decode_str(part).decode_utf8_lossy().into_owned();
                    socks.with_auth(text(user), text(password))
                }
            };
            over(&config, socks, &settings(&config)?)
        }
        Some("http") => {
            over(&config, with_login(&proxy, Tunnel::new(proxy.clone(), http)), &settings(&config)?)
        }
        Some("https") => {
            // As in client-go, the same CA verifies the proxy's own certificate.
            let tls = settings(&config)?;
            let secured = HttpsConnectorBuilder::new()
                .with_tls_config(tls.clone())
                .https_or_http()
                .enable_http1()
                .wrap_connector(http);
            over(&config, with_login(&proxy, Tunnel::new(proxy.clone(), secured)), &tls)
        }
        _ => Err(kube::Error::ProxyProtocolUnsupported { proxy_url: Box::new(proxy) }),
    }
}

/// TLS settings: client certificate and trusted CAs. (Those of kube fail on a CA that its verifier cannot load,
/// but outrigger's verifier may accept it.)
fn settings(config: &kube::Config) -> kube::Result<rustls::ClientConfig> {
    let given = config.root_cert.as_ref().map(|ders| Bundle {
        certificates: ders.iter().filter_map(|der| Certificate::from_der(der).ok()).collect(),
        ..Bundle::default()
    });
    let auth = &config.auth_info;
    let identity = match (&auth.client_certificate_data, &auth.client_key_data) {
        (Some(certificate), Some(key)) => Some((decoded(certificate)?, decoded(key.expose_secret())?)),
        _ => None,
    };
    let identity = identity.as_ref().map(|(certificate, key)| (&certificate[..], &key[..]));
    tls::connector_config(Roots::of_cluster(given), identity).map_err(unusable)
}

/// The PEM text in a `…-data` value.
fn decoded(data: &str) -> kube::Result<Vec<u8>> {
    STANDARD.decode(data).map_err(unusable)
}

/// `target.rs` and `user.rs` refused what is invalid; the library still asks.
fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> kube::Error {
    kube::Error::Service(Box::new(error))
}

/// The header for a token or a password.
///
/// kube's `auth_layer` is not used: it runs plugins, which outrigger does itself (`plugin.rs`), and would bring
/// a regular expression engine for their output into the binary.
fn authorization(auth: &AuthInfo) -> kube::Result<Option<http::HeaderValue>> {
    let text = match (&auth.username, &auth.password, &auth.token) {
        (Some(user), Some(password), _) => basic(format!("{user}:{}", password.expose_secret())),
        (_, _, Some(token)) => format!("Bearer {}", token.expose_secret()),
        _ => return Ok(None),
    };
    let mut value = http::HeaderValue::from_str(&text).map_err(unusable)?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// The value of an `Authorization` header, RFC 7617.
fn basic(login: impl AsRef<[u8]>) -> String {
    format!("Basic {}", STANDARD.encode(login))
}

/// User name and password in the proxy's URL, still percent-encoded.
fn login(proxy: &http::Uri) -> Option<&str> {
    proxy.authority()?.as_str().rsplit_once('@').map(|(login, _)| login)
}

fn with_login<C>(proxy: &http::Uri, tunnel: Tunnel<C>) -> Tunnel<C> {
    let Some(login) = login(proxy) else { return tunnel };
    match http::HeaderValue::from_str(&basic(percent_decode_str(login).collect::<Vec<u8>>())) {
        Ok(mut value) => {
            value.set_sensitive(true);
            tunnel.with_auth(value)
        }
        Err(_) => tunnel,
    }
}

fn over<C>(config: &kube::Config, connector: C, tls: &rustls::ClientConfig) -> kube::Result<kube::Client>
where
    C: tower::Service<http::Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut builder = HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = name.clone().try_into().map_err(unusable)?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let mut connector =
        hyper_timeout::TimeoutConnector::new(builder.enable_http1().wrap_connector(connector));
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let client = hyper_util::client::legacy::Builder::new(TokioExecutor::new()).build::<_, Body>(connector);
    let service = tower::ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(config.extra_headers_layer()?)
        .map_err(tower::BoxError::from)
        .service(client);
    Ok(kube::Client::new(service, config.default_namespace.clone()))
}
