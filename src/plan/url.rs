//! What a question names: a URL, a path, or the asterisk of OPTIONS.

use crate::config::raw;

/// Authority and target of a URL; a path alone is meant on the first host of the file.
pub(super) fn split(url: &str, config: &raw::Config) -> Result<(String, String), String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        if !url.starts_with('/') && url != "*" {
            return Err(format!(
                "`{url}` is neither a path nor a URL; write `/path` or `https://host/path` (or `OPTIONS '*'`)"
            ));
        }
        let host = config
            .route
            .iter()
            .find_map(|r| r.hosts.first())
            .filter(|_| config.route.iter().all(|r| !r.hosts.is_empty()));
        return Ok((
            host.cloned().unwrap_or_else(|| "localhost".into()),
            url.into(),
        ));
    };
    if !matches!(scheme, "https" | "http") {
        return Err(format!("`{url}`: the scheme is https"));
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let target = if rest[end..].starts_with('/') {
        rest[end..].to_owned()
    } else {
        format!("/{}", &rest[end..])
    };
    Ok((rest[..end].to_owned(), target))
}
