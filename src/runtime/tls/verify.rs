//! Whether a certificate may speak for somebody: chain, dates and purpose by webpki, names by RFC 5922.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage};

use super::name::{Name, of_uri};

/// id-kp-sipDomain (RFC 5924 §3): 1.3.6.1.5.5.7.3.20.
const SIP_DOMAIN: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 20];

/// The CAs that are trusted.
pub(super) type Roots = Arc<[TrustAnchor<'static>]>;

/// Judges the certificates of the other side, in either role.
#[derive(Debug)]
pub(super) struct Verifier {
    pub roots: Roots,
    pub algorithms: WebPkiSupportedAlgorithms,
    /// One of these must be proved; none: of a client any will do, of a server none.
    pub names: Vec<Name>,
    /// Whether a client must show one.
    pub mandatory: bool,
}

impl Verifier {
    fn chain(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
        usual: KeyUsage,
    ) -> Result<(), Error> {
        let certificate = EndEntityCert::try_from(certificate).map_err(judged)?;
        let verify = |usage| {
            certificate.verify_for_usage(self.algorithms.all, &self.roots, chain, now, usage, None, None).map(|_| ())
        };
        // RFC 5924 §4.1 wants id-kp-sipDomain where there are purposes; what public CAs write there serves as well.
        match verify(usual) {
            Err(webpki::Error::RequiredEkuNotFoundContext(_)) => verify(KeyUsage::required(SIP_DOMAIN)),
            verdict => verdict,
        }
        .map_err(judged)
    }

    fn name(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        if self.names.iter().any(|name| proves(certificate, name)) {
            return Ok(());
        }
        Err(CertificateError::NotValidForName.into())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.chain(end_entity, intermediates, now, KeyUsage::server_auth())?;
        self.name(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Whom we trust is nobody's business before he has shown who he is.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.chain(end_entity, intermediates, now, KeyUsage::client_auth())?;
        if !self.names.is_empty() {
            self.name(end_entity)?;
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whether `certificate` proves `name` (RFC 5922 §7.1, §7.2): by a SIP URI without a user part; where there is none, by a
/// `dNSName` or, beyond the RFC, an `iPAddress`. The Common Name says nothing.
pub(super) fn proves(certificate: &CertificateDer<'_>, name: &Name) -> bool {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else { return false };
    let mut domains = certificate.valid_uri_names().filter_map(of_uri).peekable();
    if domains.peek().is_some() {
        return domains.any(|domain| domain == *name);
    }
    match name {
        Name::Domain(_) => certificate.valid_dns_names().any(|dns| Name::parse(dns).as_ref() == Some(name)),
        Name::Address(ip) => certificate.verify_is_valid_for_subject_name(&ServerName::IpAddress((*ip).into())).is_ok(),
    }
}

/// As rustls tells it to the other side and to us.
fn judged(error: webpki::Error) -> Error {
    use webpki::Error as E;
    let certificate = match error {
        E::BadDer | E::BadDerTime | E::TrailingData(_) => CertificateError::BadEncoding,
        E::CertExpired { .. } | E::InvalidCertValidity => CertificateError::Expired,
        E::CertNotValidYet { .. } => CertificateError::NotValidYet,
        E::UnknownIssuer => CertificateError::UnknownIssuer,
        E::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        E::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    certificate.into()
}
