//! Certificates, and the identity that stands in them.

use howdah_locks::keyring::holder;
use howdah_locks::look::Look;
use howdah_locks::{Identity, Role};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::text;

/// Whoever TLS believes to be the holder, people are shown the same one; an identity is written as it was read, and
/// is of one cluster, role and name. The input: PEM, or DER, or lines that are URIs.
pub fn certificate(bytes: &[u8]) -> bool {
    let mut taken = false;
    for der in CertificateDer::pem_slice_iter(bytes).take(4) {
        taken |= der.is_ok_and(|der| looked_at(&der));
    }
    taken |= looked_at(&CertificateDer::from(bytes));
    let text = text(bytes);
    let mut read = Vec::new();
    for line in text.lines() {
        if let Ok(identity) = Identity::among([line]) {
            whole(&identity);
            assert_eq!(identity.uri(), line);
            read.push(line);
        }
    }
    if read.len() > 1 {
        assert!(Identity::among(read.iter().copied()).is_err(), "two identities are one");
    }
    taken || !read.is_empty()
}

fn looked_at(der: &CertificateDer<'_>) -> bool {
    let believed = holder(der);
    let look = match Look::at(der) {
        Ok(look) => look,
        Err(why) => {
            assert!(!why.to_string().is_empty());
            return false;
        }
    };
    if let Some(believed) = believed {
        whole(&believed);
        assert_eq!(look.identity.as_ref(), Ok(&believed), "another one is shown than is believed");
    }
    if let Ok(shown) = &look.identity {
        whole(shown);
    }
    for host in look.hosts.iter().filter(|host| !host.starts_with("*.") && !host.is_empty()) {
        assert!(look.covers(host), "{host}");
    }
    let (left, lifetime) = (look.left(look.not_before), look.lifetime());
    assert_eq!(left, lifetime);
    assert!(
        look.left(look.not_after).is_zero() && (lifetime.is_zero() || look.is_due(look.not_after))
    );
    true
}

fn whole(identity: &Identity) {
    let Identity { scope, role, name } = identity;
    assert_eq!(Identity::new(scope, *role, name).as_ref(), Ok(identity));
    assert_eq!(Identity::among([&*identity.uri()]).as_ref(), Ok(identity));
    assert!(Role::ALL.contains(role) && Role::of(role.word()) == Some(*role));
    assert!(!scope.contains('/') && !name.contains('/'));
}
