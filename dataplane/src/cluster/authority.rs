//! Who vouches for etcd and for those who come to it.
//!
//! Certificates have no end that matters: a clock that is wrong must lock nobody out. What ends a certificate is that its
//! user is taken out of etcd, which is why no two have the same one ([`super::users`]).

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SignatureAlgorithm,
};

use super::ClusterError;

/// The name in its own certificate, and in each that it signs.
const NAME: &str = "Skep cluster authority";

/// An authority, with its key.
pub(super) struct Authority {
    key: KeyPair,
}

/// A public key on the curve P-256, as its owner told it: an uncompressed point (SEC 1, section 2.3.3).
pub(super) struct Told<'a>(pub(super) &'a [u8]);

impl PublicKeyData for Told<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// [`ClusterError::Certificate`].
    pub(super) fn make() -> Result<Self, ClusterError> {
        Ok(Self { key: pair()? })
    }

    /// The one with this key (PEM).
    ///
    /// # Errors
    /// [`ClusterError::Certificate`] when it is none.
    pub(super) fn from_pem(key: &str) -> Result<Self, ClusterError> {
        Ok(Self { key: KeyPair::from_pem(key)? })
    }

    /// Its key, for a file that nobody else reads.
    pub(super) fn key(&self) -> String {
        self.key.serialize_pem()
    }

    /// Its own certificate (PEM).
    ///
    /// # Errors
    /// [`ClusterError::Certificate`].
    pub(super) fn certificate(&self) -> Result<String, ClusterError> {
        Ok(own().self_signed(&self.key)?.pem())
    }

    /// A certificate (PEM) with which the owner of a key comes to etcd as `user`.
    ///
    /// # Errors
    /// [`ClusterError::Certificate`].
    pub(super) fn client(&self, user: &str, key: &impl PublicKeyData) -> Result<String, ClusterError> {
        let mut params = signed(user);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params.signed_by(key, &self.issuer())?.pem())
    }

    /// A certificate (PEM) for a member of etcd, which others reach by `addresses`. It has no name: etcd would take it for
    /// a user when it asks itself.
    ///
    /// # Errors
    /// [`ClusterError::Certificate`].
    pub(super) fn member(&self, addresses: &[IpAddr], key: &impl PublicKeyData) -> Result<String, ClusterError> {
        let mut params = signed("");
        params.subject_alt_names = addresses.iter().copied().map(SanType::IpAddress).collect();
        // Members are clients of each other.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params.signed_by(key, &self.issuer())?.pem())
    }

    fn issuer(&self) -> Issuer<'static, &KeyPair> {
        Issuer::new(own(), &self.key)
    }
}

/// A new key.
///
/// # Errors
/// [`ClusterError::Certificate`].
pub(super) fn pair() -> Result<KeyPair, ClusterError> {
    Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
}

fn own() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn signed(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if !common.is_empty() {
        name.push(DnType::CommonName, common);
    }
    name
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// OpenSSL's word for it: another reader than the one that wrote it.
    fn verifies(ca: &str, certificate: &str, purpose: &str) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let (authority, leaf) = (dir.path().join("ca.pem"), dir.path().join("leaf.pem"));
        std::fs::write(&authority, ca).unwrap();
        std::fs::write(&leaf, certificate).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile"]).arg(authority).arg(leaf);
        openssl.output().unwrap().status.success()
    }

    #[test]
    fn certificates_are_good_for_their_purpose_and_for_their_authority_alone() {
        let authority = Authority::make().unwrap();
        let ca = authority.certificate().unwrap();
        let pair = pair().unwrap();
        let client = authority.client("n1", &Told(pair.public_key_raw())).unwrap();
        let member = authority.member(&["10.0.0.1".parse().unwrap()], &pair).unwrap();
        assert!(verifies(&ca, &client, "sslclient") && !verifies(&ca, &client, "sslserver"));
        assert!(verifies(&ca, &member, "sslserver") && verifies(&ca, &member, "sslclient"));
        let other = Authority::make().unwrap();
        assert!(!verifies(&other.certificate().unwrap(), &client, "sslclient"));
        // Read back, it is the same authority.
        let again = Authority::from_pem(&authority.key()).unwrap();
        assert!(verifies(&ca, &again.client("n2", &pair).unwrap(), "sslclient"));
    }
}
