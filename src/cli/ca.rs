//! `loopgate ca show|export`.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::json;

use super::Failure;
use super::args::Ca;
use super::output::Output;
use super::serve::ground;
use crate::tls::LocalCa;

pub(super) fn ca(output: &Output, act: Ca) -> Result<(), Failure> {
    let ground = ground()?;
    if matches!(act, Ca::Renew) {
        let made = ground
            .kept
            .renew_authority(&ground.machine)
            .map_err(Failure::failed)?;
        output.say("a new authority is made; the old one is gone. Restart running gates, and let every device trust the new one.");
        return output.print(&made.fingerprint()).map_err(Failure::failed);
    }
    let present = ground.kept.present_authority().map_err(Failure::failed)?;
    let authority = match (present, &act) {
        (Some(authority), _) => Arc::new(authority),
        // It is handed out before the first start, too.
        (None, Ca::Export { .. }) => ground
            .kept
            .authority(&ground.machine)
            .map_err(Failure::failed)?,
        (None, Ca::Show { .. } | Ca::Renew) => {
            return Err(Failure::failed(format!(
                "there is no local authority in {} yet; the first gate that needs one makes it, or `loopgate ca export`",
                ground.state.join("ca").display()
            )));
        }
    };
    match act {
        Ca::Renew => Ok(()),
        Ca::Show { json } => output
            .print(&show(&authority, json))
            .map_err(Failure::failed),
        Ca::Export { output: None } => output
            .print(authority.root_pem().trim_end())
            .map_err(Failure::failed),
        Ca::Export { output: Some(path) } => {
            std::fs::write(&path, authority.root_pem())
                .map_err(|e| Failure::failed(format!("cannot write {}: {e}", path.display())))?;
            output.say(&format!(
                "wrote {}; devices that trust it show the fingerprint {}",
                path.display(),
                authority.fingerprint()
            ));
            Ok(())
        }
    }
}

fn show(authority: &LocalCa, as_json: bool) -> String {
    let until = jiff::Timestamp::try_from(authority.validity().until)
        .map(|t| t.strftime("%Y-%m-%d").to_string())
        .unwrap_or_default();
    let left = authority
        .validity()
        .until
        .duration_since(SystemTime::now())
        .map_or(0, |d| d.as_secs() / 86_400);
    let constraints = authority.constraints();
    if as_json {
        let value = json!({ "fingerprint_sha256": authority.fingerprint(), "not_after": until, "days_left": left, "names": constraints.names, "networks": constraints.networks });
        return value.to_string();
    }
    let networks: Vec<String> = constraints
        .networks
        .iter()
        .map(ToString::to_string)
        .collect();
    format!(
        "fingerprint  {}\nvalid until  {until} ({left} days)\nsigns for    {}, and everything below\n             {}",
        authority.fingerprint(),
        constraints.names.join(", "),
        networks.join(", ")
    )
}
