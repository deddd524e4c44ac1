//! TLS to the database, as libpq's `sslmode` and `sslrootcert` ask for it.
//!
//! | sslmode | encrypted | the server's certificate |
//! | --- | --- | --- |
//! | `disable` | no | |
//! | `prefer` (default) | if the server can | not checked |
//! | `require` | yes | checked when `sslrootcert` is given, as for `verify-ca` |
//! | `verify-ca` | yes | must come from an authority in `sslrootcert` |
//! | `verify-full` | yes | and be for the host of the URL |
//!
//! `sslrootcert` is a PEM file, or `system` for the authorities the machine trusts. A Unix socket is never encrypted.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres::Socket;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::ConfigError;

const KEY: &str = "database.url";

/// What is checked of the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Nothing,
    Authority,
    Full,
}

/// The TLS parameters of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tls {
    mode: SslMode,
    check: Check,
    roots: Option<String>,
}

impl Tls {
    /// Takes `sslmode` and `sslrootcert` out of a libpq URL or list of settings; the rest is returned beside.
    pub(crate) fn take(url: &str) -> Result<(Self, String), ConfigError> {
        let (rest, settings) = split(url);
        let (mut mode, mut roots) = (None, None);
        for (name, value) in settings {
            match name.as_str() {
                "sslmode" => mode = Some(value),
                _ => roots = Some(value),
            }
        }
        let (mode, check) = match mode.as_deref().unwrap_or("prefer") {
            "disable" => (SslMode::Disable, Check::Nothing),
            "allow" | "prefer" => (SslMode::Prefer, Check::Nothing),
            "require" if roots.is_some() => (SslMode::Require, Check::Authority),
            "require" => (SslMode::Require, Check::Nothing),
            "verify-ca" => (SslMode::Require, Check::Authority),
            "verify-full" => (SslMode::Require, Check::Full),
            _ => {
                let problem = "sslmode: expected disable, prefer, require, verify-ca or verify-full";
                return Err(ConfigError::new(KEY, problem));
            }
        };
        if check != Check::Nothing && roots.is_none() {
            let problem = "this sslmode needs sslrootcert: a PEM file with the authority's certificate, or system";
            return Err(ConfigError::new(KEY, problem));
        }
        Ok((Self { mode, check, roots }, rest))
    }

    /// For tokio-postgres.
    pub(crate) fn mode(&self) -> SslMode {
        self.mode
    }

    /// Makes TLS connections.
    pub(crate) fn connector(&self) -> Result<Connector, ConfigError> {
        crate::install_crypto_provider();
        let provider = CryptoProvider::get_default()
            .cloned()
            .unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()));
        let chain = match (&self.roots, self.check) {
            (Some(roots), Check::Authority | Check::Full) => Some(
                WebPkiServerVerifier::builder_with_provider(Arc::new(authorities(roots)?), Arc::clone(&provider))
                    .build()
                    .map_err(|error| ConfigError::new(KEY, format!("sslrootcert: {error}")))?,
            ),
            _ => None,
        };
        let verifier = Verifier {
            chain,
            names: self.check == Check::Full,
            provider,
        };
        let config = ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Connector(MakeRustlsConnect::new(config)))
    }
}

/// rustls for tokio-postgres, which asks for a connector before it knows whether TLS is wanted at all.
#[derive(Clone)]
pub(crate) struct Connector(MakeRustlsConnect);

impl MakeTlsConnect<Socket> for Connector {
    type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
    type TlsConnect = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;
    type Error = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Error;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Self::TlsConnect, Self::Error> {
        // A Unix socket has no name and speaks no TLS, so this one is never used; rustls refuses an empty one.
        let name = if domain.is_empty() { "localhost" } else { domain };
        MakeTlsConnect::<Socket>::make_tls_connect(&mut self.0, name)
    }
}

/// The URL without its TLS parameters, and these.
fn split(url: &str) -> (String, Vec<(String, String)>) {
    let ours = |name: &str| matches!(name, "sslmode" | "sslrootcert");
    let mut taken = Vec::new();
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        let Some((base, query)) = url.split_once('?') else {
            return (url.to_owned(), taken);
        };
        let mut kept = Vec::new();
        for pair in query.split('&') {
            match pair.split_once('=') {
                Some((name, value)) if ours(name) => taken.push((name.to_owned(), unescape(value))),
                _ => kept.push(pair),
            }
        }
        let rest = if kept.is_empty() {
            base.to_owned()
        } else {
            format!("{base}?{}", kept.join("&"))
        };
        return (rest, taken);
    }
    let mut kept = Vec::new();
    for word in url.split_whitespace() {
        match word.split_once('=') {
            Some((name, value)) if ours(name) => taken.push((name.to_owned(), value.trim_matches('\'').to_owned())),
            _ => kept.push(word),
        }
    }
    if taken.is_empty() {
        // Quoted values may hold blanks: nothing is touched.
        return (url.to_owned(), taken);
    }
    (kept.join(" "), taken)
}

/// Percent escapes of a URL's value.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = text
            .get(at + 1..at + 3)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, code) {
            (b'%', Some(code)) => {
                out.push(code);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn authorities(roots: &str) -> Result<RootCertStore, ConfigError> {
    let mut store = RootCertStore::empty();
    if roots == "system" {
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    } else {
        let fault = |error: &dyn std::fmt::Display| ConfigError::new(KEY, format!("sslrootcert {roots}: {error}"));
        for certificate in CertificateDer::pem_file_iter(Path::new(roots)).map_err(|error| fault(&error))? {
            let certificate = certificate.map_err(|error| fault(&error))?;
            store.add(certificate).map_err(|error| fault(&error))?;
        }
    }
    if store.is_empty() {
        return Err(ConfigError::new(
            KEY,
            format!("sslrootcert {roots}: no certificate in there"),
        ));
    }
    Ok(store)
}

/// Checks a server's certificate as far as the mode asks for it. That the server holds its key is always checked.
#[derive(Debug)]
struct Verifier {
    chain: Option<Arc<WebPkiServerVerifier>>,
    names: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.names => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_taken_out() {
        let (tls, rest) =
            Tls::take("postgres://r@db1,db2/app?sslmode=verify-full&x=1&sslrootcert=%2Fetc%2Fca.pem").unwrap();
        assert_eq!(rest, "postgres://r@db1,db2/app?x=1");
        assert_eq!((tls.mode, tls.check), (SslMode::Require, Check::Full));
        assert_eq!(tls.roots.as_deref(), Some("/etc/ca.pem"));
        let (tls, rest) = Tls::take("host=db sslmode=disable dbname=app").unwrap();
        assert_eq!((tls.mode, rest.as_str()), (SslMode::Disable, "host=db dbname=app"));
        let (tls, rest) = Tls::take("postgres://r@db/app").unwrap();
        assert_eq!((tls.mode, rest.as_str()), (SslMode::Prefer, "postgres://r@db/app"));
        let (tls, _) = Tls::take("postgres://r@db/app?sslmode=require").unwrap();
        assert_eq!((tls.mode, tls.check), (SslMode::Require, Check::Nothing));
    }

    #[test]
    fn a_check_needs_an_authority() {
        let error = Tls::take("postgres://r:pw@db/app?sslmode=verify-full")
            .unwrap_err()
            .to_string();
        assert!(error.contains("sslrootcert") && !error.contains("pw"), "{error}");
        assert!(Tls::take("postgres://r@db/app?sslmode=sometimes").is_err());
        let (tls, _) = Tls::take("postgres://r@db/app?sslmode=verify-ca&sslrootcert=/nowhere.pem").unwrap();
        assert!(tls.connector().is_err());
    }
}
