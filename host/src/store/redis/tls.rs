//! What a TLS connection needs, made once of the PEM texts that a configuration holds.

use std::fmt;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

use super::config::RedisConfigError;

/// How the two sides of a `rediss://` connection trust each other. By default the server must show a certificate for
/// its host name that the machine's own authorities have signed, and the client shows none.
///
/// There is no way to trust just anybody.
#[derive(Clone, Default)]
pub struct RedisTls {
    /// The authorities that may have signed the server's certificate, as PEM; none: those of the machine.
    pub ca_pem: Option<Vec<u8>>,
    /// The certificate that this client shows, with its chain, as PEM. It goes with `client_key_pem`.
    pub client_cert_pem: Option<Vec<u8>>,
    /// The key to `client_cert_pem`, as PEM (PKCS #8, PKCS #1 or SEC 1).
    pub client_key_pem: Option<Vec<u8>>,
    /// The name that the server's certificate must be for; none: the host that was connected to. For Cluster and
    /// Sentinel, whose nodes are announced by address, if their certificates name no addresses.
    pub server_name: Option<String>,
}

/// Says what is set, and shows none of it.
impl fmt::Debug for RedisTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTls")
            .field("ca_pem", &self.ca_pem.is_some())
            .field("client_cert_pem", &self.client_cert_pem.is_some())
            .field("client_key_pem", &self.client_key_pem.is_some())
            .field("server_name", &self.server_name)
            .finish()
    }
}

impl RedisTls {
    pub(super) fn is_set(&self) -> bool {
        self.ca_pem.is_some()
            || self.client_cert_pem.is_some()
            || self.client_key_pem.is_some()
            || self.server_name.is_some()
    }
}

/// TLS, ready to be used.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) connector: TlsConnector,
    server_name: Option<ServerName<'static>>,
}

impl Tls {
    pub(super) fn new(options: &RedisTls) -> Result<Self, RedisConfigError> {
        let server_name = options.server_name.clone().map(ServerName::try_from).transpose();
        let server_name = server_name.map_err(|_| RedisConfigError::Tls("server_name is no host name"))?;
        let trusting = trusting()?.with_root_certificates(authorities(options.ca_pem.as_deref())?);
        let config = match (&options.client_cert_pem, &options.client_key_pem) {
            (None, None) => trusting.with_no_client_auth(),
            (Some(certificate), Some(key)) => {
                let chain = certificates(certificate, "client_cert_pem holds no certificate")?;
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|_| RedisConfigError::Tls("client_key_pem holds no private key"))?;
                trusting
                    .with_client_auth_cert(chain, key)
                    .map_err(|_| RedisConfigError::Tls("client_key_pem does not go with client_cert_pem"))?
            }
            _ => return Err(RedisConfigError::Tls("client_cert_pem and client_key_pem go together")),
        };
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), server_name })
    }

    /// The name that the certificate of `host` must be for.
    pub(super) fn name_of(&self, host: &str) -> Option<ServerName<'static>> {
        self.server_name.clone().or_else(|| ServerName::try_from(host.to_owned()).ok())
    }
}

/// The provider is named here, so that no other crate of the process can make the choice ambiguous.
fn trusting() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, RedisConfigError> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| RedisConfigError::Tls("this build has no protocol version in common with itself"))
}

fn authorities(pem: Option<&[u8]>) -> Result<RootCertStore, RedisConfigError> {
    let mut roots = RootCertStore::empty();
    match pem {
        Some(pem) => {
            for certificate in certificates(pem, "ca_pem holds no certificate")? {
                roots.add(certificate).map_err(|_| RedisConfigError::Tls("ca_pem holds a certificate of no use"))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(RedisConfigError::Tls("the machine has no certificates of authorities; set ca_pem"));
            }
        }
    }
    Ok(roots)
}

fn certificates(pem: &[u8], none: &'static str) -> Result<Vec<CertificateDer<'static>>, RedisConfigError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    all.ok().filter(|all| !all.is_empty()).ok_or(RedisConfigError::Tls(none))
}
