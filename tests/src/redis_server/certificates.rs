//! Certificates of an authority that exists for one test only.

use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// An authority, and a certificate of it for `localhost` that servers and clients may show.
pub struct Certificates {
    /// The authority's own certificate, as PEM.
    pub ca: String,
    /// What it certifies.
    pub certificate: String,
    /// The key to `certificate`.
    pub key: String,
}

impl Certificates {
    /// Another authority each time.
    ///
    /// # Panics
    ///
    /// When the machine gives no random numbers.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "no two are alike")]
    pub fn new() -> Self {
        let mut ca = CertificateParams::new(Vec::new()).expect("no names");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A certificate whose subject is its issuer's passes for self-signed.
        ca.distinguished_name.push(DnType::CommonName, "tideover test authority");
        let ca_key = KeyPair::generate().expect("a key");
        let authority = ca.self_signed(&ca_key).expect("a certificate");
        let issuer = Issuer::new(ca, ca_key);
        let key = KeyPair::generate().expect("a key");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names).expect("good names").signed_by(&key, &issuer);
        let certificate = certificate.expect("a certificate").pem();
        Self { ca: authority.pem(), certificate, key: key.serialize_pem() }
    }

    /// Puts them into `folder`, and what tells a server to use them there.
    pub(super) fn arguments(&self, tls_port: u16, folder: &Path) -> Vec<String> {
        self.save(folder);
        let file = |name: &str| folder.join(name).display().to_string();
        let all = [
            ("--tls-port", tls_port.to_string()),
            ("--tls-cert-file", file("server.pem")),
            ("--tls-key-file", file("server.key")),
            ("--tls-ca-cert-file", file("ca.pem")),
        ];
        all.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }

    fn save(&self, folder: &Path) {
        for (name, text) in [("ca.pem", &self.ca), ("server.pem", &self.certificate), ("server.key", &self.key)] {
            fs::write(folder.join(name), text).expect("the temporary folder is writable");
        }
    }
}
