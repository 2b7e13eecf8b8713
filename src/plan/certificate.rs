//! What a client certificate does, for `explain` and `[[test]]`: one that is good, of the user whom the question names.

use super::Plan;
use super::explain::Explained;
use crate::access::{self, CertificateUse, Stage};
use crate::base::refusal::{Reason, Refusal};

/// Judges the certificate of a visitor from whom the listener believes one, with a step for what was found.
pub(super) fn judge<'q>(
    plan: &Plan,
    stage: &Stage,
    given: Option<&'q str>,
    told: &mut Explained,
) -> Result<Option<&'q str>, Refusal> {
    if stage.certificate_use() == CertificateUse::Off {
        return Ok(None);
    }
    let key = Some(format!("route[{}].access.certificate", stage.route()));
    let (found, refusal) = match given {
        Some(name) if plan.users.find(name).is_none() => {
            let refusal = Refusal::new(Reason::CertificateRefused, "there is no such user");
            let found = format!("there is no user `{name}`, whom the certificate is for");
            (found, Some(refusal))
        }
        Some(name) => (format!("the client certificate is {name}'s"), None),
        None => (
            "there is no client certificate that counts".to_owned(),
            access::proven(stage.certificate_use(), None, None).err(),
        ),
    };
    told.step("certificate", found, key);
    match refusal {
        Some(refusal) => Err(refusal),
        None => Ok(given),
    }
}
